/* What a model spends its time on beside torch's products: attention over rows, text by text, activations,
 * and products of rows with a matrix of 8-bit codes.
 *
 * Numbers in between are float32. Rows come as float32 or bfloat16. The structures are mirrored in structures.py.
 */
#include "numbers.h"

enum { LANES = 16, TILE = 6, PANEL = 4, CHUNK = 96 };
#define HIDDEN -1e30f /* a score that nobody looks at */

#define UNROLLED _Pragma("GCC unroll 8") /* sums stay in registers */

static INLINE Floats load(const float *at) {
    Floats x;
    memcpy(&x, at, sizeof x);
    return x;
}
static INLINE void store(float *at, Floats x) { memcpy(at, &x, sizeof x); }
static INLINE Floats all(float x) { return x - (Floats){0}; }
static INLINE Floats larger(Floats a, Floats b) {
    Ints which = a > b;
    return (Floats)((which & (Ints)a) | (~which & (Ints)b));
}

/* e to the power of x, x <= 0; 0 below -87. Relative error below 3e-7 (Cephes' expf without its last steps). */
static INLINE Floats power(Floats x) {
    x = larger(x, all(-87.0f));
    Ints n = __builtin_convertvector(x * 1.44269504f - 0.5f, Ints); /* to zero, so to the nearest here */
    Floats k = __builtin_convertvector(n, Floats);
    Floats r = x - k * 0.693359375f + k * 2.12194440e-4f;
    Floats y = all(1.9875691500e-4f) * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    return y * (Floats)((n + 127) << 23);
}

/* x/2 (1 + erf(x / sqrt 2)); the error function by Abramowitz and Stegun 7.1.26, absolute error 1.5e-7. */
static INLINE Floats gelu(Floats x) {
    Floats z = x * 0.70710678f, size = larger(z, -z);
    Floats t = 1.0f / (size * 0.3275911f + 1.0f);
    Floats y = all(1.061405429f) * t - 1.453152027f;
    y = y * t + 1.421413741f;
    y = y * t - 0.284496736f;
    y = (y * t + 0.254829592f) * t;
    Floats erf = 1.0f - y * power(-(size * size));
    Ints negative = z < 0.0f;
    erf = (Floats)((Ints)erf ^ (negative & (Ints)all(-0.0f)));
    return x * 0.5f * (1.0f + erf);
}

/* 1 / (1 + e^-x) */
static INLINE Floats logistic(Floats x) {
    Ints negative = x < 0.0f;
    Floats small = power(-larger(x, -x)), part = 1.0f / (1.0f + small);
    return (Floats)((negative & (Ints)(small * part)) | (~negative & (Ints)part));
}

/* x/2 (1 + tanh u), u = sqrt(2/pi) (x + 0.044715 x^3): x times the logistic function of 2 u. */
static INLINE Floats gelu_tanh(Floats x) { return x * logistic(1.5957691216f * (x + 0.044715f * x * x * x)); }

static INLINE void read_row(const void *rows, int64_t at, int64_t count, int half, float *out) {
    if (half)
        for (int64_t i = 0; i < count; i++) out[i] = widened(((const uint16_t *)rows)[at + i]);
    else
        memcpy(out, (const float *)rows + at, (size_t)count * 4);
}

static INLINE void write_row(void *rows, int64_t at, int64_t count, int half, const float *x) {
    if (half)
        for (int64_t i = 0; i < count; i++) ((uint16_t *)rows)[at + i] = narrowed(x[i]);
    else
        memcpy((float *)rows + at, x, (size_t)count * 4);
}

/* ---- activations ---- */

typedef struct {
    const void *x, *times; /* times: NULL, or what the activation of x is multiplied by */
    void *y;
    int64_t rows, width, x_stride, times_stride; /* strides: numbers from row to row; rows of y are side by side */
    int32_t kind, half, threads;                 /* kind: 0 GELU, 1 GELU by its tanh, 2 SiLU */
} Numbers;

static INLINE Floats activated(Floats x, int kind) {
    return kind == 0 ? gelu(x) : kind == 1 ? gelu_tanh(x) : x * logistic(x);
}

static INLINE void activate_row(const Numbers *n, int64_t row, int kind, int half) {
    for (int64_t at = 0; at < n->width; at += LANES) {
        int64_t count = n->width - at < LANES ? n->width - at : LANES;
        float here[LANES] = {0}, times[LANES] = {0};
        if (count == LANES) read_row(n->x, row * n->x_stride + at, LANES, half, here);
        else read_row(n->x, row * n->x_stride + at, count, half, here);
        Floats y = activated(load(here), kind);
        if (n->times) {
            if (count == LANES) read_row(n->times, row * n->times_stride + at, LANES, half, times);
            else read_row(n->times, row * n->times_stride + at, count, half, times);
            y *= load(times);
        }
        store(here, y);
        if (count == LANES) write_row(n->y, row * n->width + at, LANES, half, here);
        else write_row(n->y, row * n->width + at, count, half, here);
    }
}

void biject_activate(const Numbers *n) {
#pragma omp parallel for num_threads(n->threads) schedule(static)
    for (int64_t row = 0; row < n->rows; row++) {
        if (n->kind == 0 && n->half) activate_row(n, row, 0, 1);
        else if (n->kind == 0) activate_row(n, row, 0, 0);
        else if (n->kind == 1 && n->half) activate_row(n, row, 1, 1);
        else if (n->kind == 1) activate_row(n, row, 1, 0);
        else if (n->half) activate_row(n, row, 2, 1);
        else activate_row(n, row, 2, 0);
    }
}

/* ---- attention ---- */

typedef struct {
    const void *q, *k, *v;
    void *out;
    const int32_t *ends; /* (texts + 1,): where each text begins and ends among the rows */
    int64_t q_stride, k_stride, v_stride, out_stride; /* numbers from row to row */
    int32_t texts, heads, groups, width;
    int32_t before, after; /* how many rows before and after its own a query sees; -1 for all */
    int32_t half, longest, threads;
    float scale;
} Attend;

typedef struct {
    float *keys, *values, *queries, *scores; /* (E, S), (S, E), (TILE, E), (TILE, S); S filled up to lanes */
} Room;

/* Scores of TILE queries and parts * LANES keys from `at` on. */
static INLINE void scores_of(const Room *m, int64_t width, int64_t columns, int64_t at, int parts) {
    Floats sums[TILE][PANEL] = {{{0}}};
    for (int64_t e = 0; e < width; e++) {
        Floats key[PANEL];
        UNROLLED
        for (int j = 0; j < parts; j++) key[j] = load(m->keys + e * columns + at + j * LANES);
        UNROLLED
        for (int i = 0; i < TILE; i++) {
            float query = m->queries[i * width + e];
            UNROLLED
            for (int j = 0; j < parts; j++) sums[i][j] += query * key[j];
        }
    }
    UNROLLED
    for (int i = 0; i < TILE; i++)
        UNROLLED
        for (int j = 0; j < parts; j++) store(m->scores + i * columns + at + j * LANES, sums[i][j]);
}

static void all_scores(const Room *m, int64_t width, int64_t columns, int64_t low, int64_t end) {
    int64_t at = low;
    for (; at + PANEL * LANES <= end; at += PANEL * LANES) scores_of(m, width, columns, at, PANEL);
    if (end - at == 3 * LANES) scores_of(m, width, columns, at, 3);
    if (end - at == 2 * LANES) scores_of(m, width, columns, at, 2);
    if (end - at == LANES) scores_of(m, width, columns, at, 1);
}

/* Softmax over scores[from:to] in place, without the division; returns the sum. */
static INLINE float softmax(float *scores, int64_t columns, int64_t from, int64_t to) {
    for (int64_t j = 0; j < from; j++) scores[j] = HIDDEN;
    for (int64_t j = to; j < columns; j++) scores[j] = HIDDEN;
    Floats most = all(HIDDEN), sum = {0}, check = {0};
    for (int64_t j = 0; j < columns; j += LANES) {
        most = larger(load(scores + j), most);
        check += load(scores + j);
    }
    float top = most[0];
    for (int i = 1; i < LANES; i++) top = most[i] > top ? most[i] : top;
    for (int64_t j = 0; j < columns; j += LANES) {
        Floats x = load(scores + j) - top;
        Floats y = power(x);
        y = (Floats)((x > -87.0f) & (Ints)y);
        store(scores + j, y);
        sum += y;
    }
    float total = 0;
    for (int i = 0; i < LANES; i++) total += sum[i] + 0 * check[i]; /* NaN stays NaN */
    return total;
}

/* Weighted sums of values [from, to) for TILE queries, 2 * LANES numbers of a head from `e` on (or LANES). */
static INLINE void values_of(const Room *m, int64_t width, int64_t columns, int64_t from, int64_t to, int64_t e,
                             int parts, float *out) {
    Floats sums[TILE][2] = {{{0}}};
    for (int64_t s = from; s < to; s++) {
        Floats value[2];
        UNROLLED
        for (int j = 0; j < parts; j++) value[j] = load(m->values + s * width + e + j * LANES);
        UNROLLED
        for (int i = 0; i < TILE; i++) {
            float weight = m->scores[i * columns + s];
            UNROLLED
            for (int j = 0; j < parts; j++) sums[i][j] += weight * value[j];
        }
    }
    UNROLLED
    for (int i = 0; i < TILE; i++)
        UNROLLED
        for (int j = 0; j < parts; j++) store(out + i * width + e + j * LANES, sums[i][j]);
}

static void attend_head(const Attend *a, const Room *m, int64_t first, int64_t length, int64_t head) {
    int64_t width = a->width, columns = (length + LANES - 1) / LANES * LANES;
    int64_t group = head / (a->heads / a->groups);
    int64_t before = a->before < 0 ? length : a->before, after = a->after < 0 ? length : a->after;
    float row[width], out[TILE * width];
    for (int64_t s = 0; s < length; s++) {
        read_row(a->k, (first + s) * a->k_stride + group * width, width, a->half, row);
        for (int64_t e = 0; e < width; e++) m->keys[e * columns + s] = row[e];
        read_row(a->v, (first + s) * a->v_stride + group * width, width, a->half, m->values + s * width);
    }
    for (int64_t e = 0; e < width; e++)
        for (int64_t s = length; s < columns; s++) m->keys[e * columns + s] = 0;
    for (int64_t at = 0; at < length; at += TILE) {
        int64_t count = length - at < TILE ? length - at : TILE;
        for (int64_t i = 0; i < TILE; i++) {
            int64_t row_of = first + at + (i < count ? i : 0);
            float *query = m->queries + i * width;
            read_row(a->q, row_of * a->q_stride + head * width, width, a->half, query);
            for (int64_t e = 0; e < width; e++) query[e] *= a->scale;
        }
        int64_t low = at - before < 0 ? 0 : (at - before) / LANES * LANES;
        int64_t high = at + TILE + after < length ? at + TILE + after : length;
        int64_t end = (high + LANES - 1) / LANES * LANES;
        all_scores(m, width, columns, low, end);
        float sums[TILE];
        for (int64_t i = 0; i < TILE; i++) {
            int64_t here = at + (i < count ? i : 0);
            int64_t from = here - before < low ? low : here - before, to = here + after + 1;
            to = to < length ? to : length;
            sums[i] = softmax(m->scores + i * columns + low, end - low, from - low, to - low);
        }
        for (int64_t e = 0; e < width; e += 2 * LANES)
            if (width - e >= 2 * LANES) values_of(m, width, columns, low, high, e, 2, out);
            else values_of(m, width, columns, low, high, e, 1, out);
        for (int64_t i = 0; i < count; i++) {
            for (int64_t e = 0; e < width; e++) out[i * width + e] /= sums[i];
            write_row(a->out, (first + at + i) * a->out_stride + head * width, width, a->half, out + i * width);
        }
    }
}

/* Each text's queries look at its keys, (T, H, E) → (T, H, E). Width is a multiple of 16. */
int32_t biject_attend(const Attend *a) {
    int64_t columns = (a->longest + LANES - 1) / LANES * LANES;
    int64_t numbers = columns * a->width * 2 + TILE * (a->width + columns) + LANES;
    int32_t failed = 0;
#pragma omp parallel num_threads(a->threads)
    {
        float *memory = aligned_alloc(64, (size_t)(numbers * 4 + 63) / 64 * 64);
        if (!memory) __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
        Room m = {memory, memory + columns * a->width, memory + 2 * columns * a->width, 0};
        m.scores = m.queries + TILE * a->width;
#pragma omp for schedule(dynamic, 4)
        for (int64_t one = 0; one < (int64_t)a->texts * a->heads; one++) {
            int64_t text = one / a->heads, first = a->ends[text];
            if (memory) attend_head(a, &m, first, a->ends[text + 1] - first, one % a->heads);
        }
        free(memory);
    }
    return failed;
}

/* ---- products with 8-bit codes ---- */

typedef struct {
    const float *x;       /* (T, K) */
    float *y;             /* (T, N) */
    const int8_t *codes;  /* (N / 16, K / 4, 16, 4): weights; N and K filled up with zeros */
    const float *scale, *bias; /* (N,) filled up to lanes */
    const int32_t *total; /* (N,): 128 times the sum of a weight row's codes */
    int64_t rows;
    int32_t inputs, outputs, gelu, threads;
} Rows;

static INLINE int64_t filled_up(int64_t inputs) { return (inputs + 3) / 4 * 4; }

/* A row as codes 1 to 255 for (code - 128) * scale. */
static float round_row(const float *x, int64_t count, int64_t filled, uint8_t *codes) {
    Floats most = {0}, check = {0};
    int64_t k = 0;
    for (; k + LANES <= count; k += LANES) {
        Floats v = load(x + k);
        most = larger(larger(v, -v), most);
        check += 0 * v; /* NaN stays NaN */
    }
    float top = 0, lost = 0;
    for (int i = 0; i < LANES; i++) top = most[i] > top ? most[i] : top, lost += check[i];
    for (; k < count; k++) top = fabsf(x[k]) > top ? fabsf(x[k]) : top, lost += 0 * x[k];
    float inverse = top > 0 ? 127 / top : 0;
    for (k = 0; k < count; k++) codes[k] = (uint8_t)(int32_t)(x[k] * inverse + 128.5f);
    for (; k < filled; k++) codes[k] = 128;
    return top / 127 + lost;
}

static INLINE Ints fourfold(Ints sum, int32_t four, const int8_t *weights) {
#ifdef VNNI
    return (Ints)_mm512_dpbusd_epi32((__m512i)sum, _mm512_set1_epi32(four), _mm512_loadu_si512(weights));
#else
    const uint8_t *x = (const uint8_t *)&four;
    for (int i = 0; i < LANES; i++)
        for (int k = 0; k < 4; k++) sum[i] += x[k] * weights[4 * i + k];
    return sum;
#endif
}

/* TILE rows, `blocks` of 16 outputs from `block` on. */
static INLINE void tile(const Rows *r, const uint8_t *codes, const float *scales, int64_t filled, int64_t count,
                        float *rows, int64_t block, int blocks) {
    Ints sums[TILE][PANEL] = {{{0}}};
    const int8_t *weights = r->codes + block * filled * LANES;
    for (int64_t k = 0; k < filled; k += 4)
        UNROLLED
        for (int i = 0; i < TILE; i++) {
            int32_t four;
            memcpy(&four, codes + i * filled + k, 4);
            UNROLLED
            for (int j = 0; j < blocks; j++)
                sums[i][j] = fourfold(sums[i][j], four, weights + (j * filled + k) * LANES);
        }
    UNROLLED
    for (int i = 0; i < TILE; i++)
        UNROLLED
        for (int j = 0; j < blocks; j++) {
            if (i >= count) continue;
            int64_t n = (block + j) * LANES, left = r->outputs - n;
            Ints total;
            memcpy(&total, r->total + n, sizeof total);
            Floats y = __builtin_convertvector(sums[i][j] - total, Floats) * (load(r->scale + n) * scales[i]);
            y += load(r->bias + n);
            if (r->gelu) y = gelu(y);
            float *out = rows + i * r->outputs + n;
            memcpy(out, &y, left < LANES ? (size_t)left * 4 : sizeof y);
        }
}

/* Some rows, x to y. */
static void chunk(const Rows *r, const float *x, float *y, int64_t count, uint8_t *codes) {
    float scales[CHUNK];
    int64_t filled = filled_up(r->inputs);
    int64_t blocks = (r->outputs + LANES - 1) / LANES;
    for (int64_t i = 0; i < count; i++)
        scales[i] = round_row(x + i * r->inputs, r->inputs, filled, codes + i * filled);
    for (int64_t block = 0; block < blocks; block += PANEL)
        for (int64_t at = 0; at < count; at += TILE) {
            int64_t some = count - at < TILE ? count - at : TILE;
            const uint8_t *from = codes + at * filled;
            float *to = y + at * r->outputs;
            switch (blocks - block) {
            case 1: tile(r, from, scales + at, filled, some, to, block, 1); break;
            case 2: tile(r, from, scales + at, filled, some, to, block, 2); break;
            case 3: tile(r, from, scales + at, filled, some, to, block, 3); break;
            default: tile(r, from, scales + at, filled, some, to, block, 4);
            }
        }
}

/* (T, K) rows times a matrix, plus a bias, through GELU where asked: (T, N). With `then`, what comes out goes
 * through that as well, a few rows at a time, and never stands in memory as a whole. */
int32_t biject_rows(const Rows *r, const Rows *then) {
    int64_t filled = filled_up(r->inputs), inner = then ? r->outputs : 0;
    if (then && filled_up(then->inputs) > filled) filled = filled_up(then->inputs);
    const Rows *last = then ? then : r;
    int32_t failed = 0;
#pragma omp parallel num_threads(r->threads)
    {
        uint8_t *codes = calloc((size_t)(CHUNK + TILE), (size_t)filled);
        float *between = then ? malloc((size_t)(CHUNK * inner) * 4) : NULL;
        int usable = codes && (between || !then);
        if (!usable) __atomic_store_n(&failed, 1, __ATOMIC_RELAXED);
#pragma omp for schedule(dynamic, 1)
        for (int64_t row = 0; row < r->rows; row += CHUNK) {
            int64_t count = r->rows - row < CHUNK ? r->rows - row : CHUNK;
            float *out = last->y + row * last->outputs;
            if (usable) chunk(r, r->x + row * r->inputs, then ? between : out, count, codes);
            if (usable && then) chunk(then, between, out, count, codes);
        }
        free(codes);
        free(between);
    }
    return failed;
}

int32_t biject_rows_sizes(int32_t which) {
    return which == 0 ? sizeof(Attend) : which == 1 ? sizeof(Rows) : sizeof(Numbers);
}
