/* Products of one matrix with a few vectors, reading each weight once: what a decode step spends its time on.
 *
 * A matrix is (rows, cols), row by row, in one of four forms:
 *   FLOAT32   the numbers themselves.
 *   BFLOAT16  the numbers themselves; vectors are rounded to bfloat16.
 *   INT8      a byte a weight, code 0 to 255 for (code - 128) * scale, a float32 scale a row.
 *   INT4      64 weights are 32 bytes: byte i holds weight i in its low half and weight 32 + i in its high one,
 *             as code 0 to 15 for (code - 8) * scale; groups of 32 weights of a row share a bfloat16 scale.
 * For INT8 and INT4 vectors are rounded to int8, groups of 32 sharing a scale, and sums of a group are exact.
 */
#include "numbers.h"
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

enum { FLOAT32, BFLOAT16, INT8, INT4 };
enum { GROUP = 32, BLOCK = 64, LANES = 16, AHEAD = 2048 };

typedef uint16_t Halves __attribute__((vector_size(32)));

typedef struct {
    const void *weight, *scale;
    const float *bias;
    int32_t kind, rows, cols;
} Matrix;

/* A vector of a product, and what the matrix's form wants of it; per block of 64, 16 lanes each. */
typedef struct {
    const float *x;
    uint16_t *half;
    int8_t *codes;
    float *scale;   /* lanes 0 to 7: of the first group, 8 to 15: of the second */
    int32_t *start; /* lanes 0 and 8: minus the sum of the group's codes times the code of zero; else 0 */
} Vector;

static inline float sum_of(Floats x) {
    float sum = 0;
    for (int i = 0; i < LANES; i++) sum += x[i];
    return sum;
}

static float dot_float32(const float *w, int64_t cols, const float *x) {
    Floats sums[4] = {{0}}, a, b;
    int64_t k = 0;
    for (; k + 4 * LANES <= cols; k += 4 * LANES)
        for (int i = 0; i < 4; i++) {
            __builtin_prefetch((const char *)(w + k + i * LANES) + AHEAD);
            memcpy(&a, w + k + i * LANES, sizeof a);
            memcpy(&b, x + k + i * LANES, sizeof b);
            sums[i] += a * b;
        }
    float sum = sum_of((sums[0] + sums[1]) + (sums[2] + sums[3]));
    for (; k < cols; k++) sum += w[k] * x[k];
    return sum;
}

static float dot_bfloat16(const uint16_t *w, int64_t cols, const Vector *v) {
    int64_t k = 0;
    Floats sums[4] = {{0}};
#ifdef __AVX512BF16__
    for (; k + 128 <= cols; k += 128)
        for (int i = 0; i < 4; i++) {
            __builtin_prefetch((const char *)(w + k + 32 * i) + AHEAD);
            __m512i a = _mm512_loadu_si512(w + k + 32 * i), b = _mm512_loadu_si512(v->half + k + 32 * i);
            sums[i] = (Floats)_mm512_dpbf16_ps((__m512)sums[i], (__m512bh)a, (__m512bh)b);
        }
#endif
    for (; k + LANES <= cols; k += LANES) {
        Halves a, b;
        memcpy(&a, w + k, sizeof a);
        memcpy(&b, v->half + k, sizeof b);
        Floats wide_a = (Floats)(__builtin_convertvector(a, Ints) << 16);
        sums[0] += wide_a * (Floats)(__builtin_convertvector(b, Ints) << 16);
    }
    float sum = sum_of((sums[0] + sums[1]) + (sums[2] + sums[3]));
    for (; k < cols; k++) sum += widened(w[k]) * widened(v->half[k]);
    return sum;
}

#ifdef VNNI
/* ROWS rows at once, side by side in memory: what is read of the vector serves all of them. */
enum { ROWS = 4 };

/* How far ahead to fetch, line by line as they lie: a group of rows that comes 4 KB later or more. */
static inline int64_t ahead_of(int64_t row_bytes) {
    return (2 * AHEAD / (ROWS * row_bytes) + 1) * ROWS * row_bytes;
}

static inline void sums_of(const __m512 *sums, float *out) {
    for (int r = 0; r < ROWS; r++) out[r] = _mm512_reduce_add_ps(sums[r]);
}

static inline void dot_int8_rows(const uint8_t *w, int64_t cols, const Vector *v, float *out) {
    __m512 sums[ROWS] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    int64_t ahead = ahead_of(cols);
    for (int64_t block = 0; block < cols / BLOCK; block++) {
        __m512i start = _mm512_loadu_si512(v->start + block * LANES);
        __m512i x = _mm512_loadu_si512(v->codes + block * BLOCK);
        __m512 scale = _mm512_loadu_ps(v->scale + block * LANES);
        for (int r = 0; r < ROWS; r++) {
            const uint8_t *at = w + r * cols + block * BLOCK;
            _mm_prefetch((const char *)w + ahead + (block * ROWS + r) * BLOCK, _MM_HINT_T0);
            __m512 found = _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(start, _mm512_loadu_si512(at), x));
            sums[r] = _mm512_fmadd_ps(found, scale, sums[r]);
        }
    }
    sums_of(sums, out);
}

/* The scales of 8 blocks of a row at a time, each in both of its lanes' halves by a permutation. */
static inline void dot_int4_rows(const uint8_t *codes, const uint16_t *scale, int64_t cols, const Vector *v,
                                 float *out) {
    const __m256i half = _mm256_set1_epi8(15);
    const __m512i pair = _mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0);
    __m512 sums[ROWS] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    int64_t blocks = cols / BLOCK, bytes = cols / 2, groups = cols / GROUP, ahead = ahead_of(bytes);
    for (int64_t from = 0; from < blocks; from += LANES / 2) {
        int64_t some = blocks - from < LANES / 2 ? blocks - from : LANES / 2;
        __mmask16 there = (__mmask16)((1u << (2 * some)) - 1);
        __m512 scales[ROWS];
        for (int r = 0; r < ROWS; r++) {
            __m256i narrow = _mm256_maskz_loadu_epi16(there, scale + r * groups + 2 * from);
            scales[r] = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(narrow), 16));
        }
        __m512i which = pair;
        for (int64_t block = from; block < from + some; block++) {
            __m512i start = _mm512_loadu_si512(v->start + block * LANES);
            __m512i x = _mm512_loadu_si512(v->codes + block * BLOCK);
            __m512 at = _mm512_loadu_ps(v->scale + block * LANES);
            for (int r = 0; r < ROWS; r++) {
                const uint8_t *here = codes + r * bytes + block * (BLOCK / 2);
                if (r & 1) _mm_prefetch((const char *)codes + ahead + (block * ROWS + r) * (BLOCK / 2), _MM_HINT_T0);
                __m256i both = _mm256_loadu_si256((const __m256i *)here);
                __m256i high = _mm256_and_si256(_mm256_srli_epi16(both, 4), half);
                __m512i w = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_and_si256(both, half)), high, 1);
                __m512 found = _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(start, w, x));
                __m512 both_scales = _mm512_mul_ps(_mm512_permutexvar_ps(which, scales[r]), at);
                sums[r] = _mm512_fmadd_ps(found, both_scales, sums[r]);
            }
            which = _mm512_add_epi32(which, _mm512_set1_epi32(2));
        }
    }
    sums_of(sums, out);
}

static float dot_int8(const uint8_t *w, int64_t cols, const Vector *v) {
    __m512 sum = _mm512_setzero_ps();
    for (int64_t block = 0; block < cols / BLOCK; block++) {
        __m512i start = _mm512_loadu_si512(v->start + block * LANES);
        __m512i a = _mm512_loadu_si512(w + block * BLOCK), b = _mm512_loadu_si512(v->codes + block * BLOCK);
        __m512 found = _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(start, a, b));
        sum = _mm512_fmadd_ps(found, _mm512_loadu_ps(v->scale + block * LANES), sum);
    }
    return _mm512_reduce_add_ps(sum);
}

static float dot_int4(const uint8_t *codes, const uint16_t *scale, int64_t cols, const Vector *v) {
    const __m256i half = _mm256_set1_epi8(15);
    const __m512i shift = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 16, 16, 16, 16, 16, 16, 16, 16);
    const __m512i top = _mm512_set1_epi32((int)0xffff0000);
    __m512 sum = _mm512_setzero_ps();
    for (int64_t block = 0; block < cols / BLOCK; block++) {
        __m256i both = _mm256_loadu_si256((const __m256i *)(codes + block * (BLOCK / 2)));
        __m256i high = _mm256_and_si256(_mm256_srli_epi16(both, 4), half);
        __m512i w = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_and_si256(both, half)), high, 1);
        __m512i start = _mm512_loadu_si512(v->start + block * LANES);
        __m512i x = _mm512_loadu_si512(v->codes + block * BLOCK);
        __m512 found = _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(start, w, x));
        int32_t pair;
        memcpy(&pair, scale + 2 * block, 4);
        __m512i scales = _mm512_and_si512(_mm512_sllv_epi32(_mm512_set1_epi32(pair), shift), top);
        __m512 at = _mm512_loadu_ps(v->scale + block * LANES);
        sum = _mm512_fmadd_ps(found, _mm512_mul_ps(_mm512_castsi512_ps(scales), at), sum);
    }
    return _mm512_reduce_add_ps(sum);
}
#else
static float dot_int8(const uint8_t *w, int64_t cols, const Vector *v) {
    float sum = 0;
    for (int64_t group = 0; group < cols / GROUP; group++) {
        const int8_t *x = v->codes + group * GROUP;
        int32_t found = v->start[group * LANES / 2];
        for (int k = 0; k < GROUP; k++) found += w[group * GROUP + k] * x[k];
        sum += (float)found * v->scale[group * LANES / 2];
    }
    return sum;
}

static float dot_int4(const uint8_t *codes, const uint16_t *scale, int64_t cols, const Vector *v) {
    float sum = 0;
    for (int64_t group = 0; group < cols / GROUP; group++) {
        const uint8_t *w = codes + group / 2 * (BLOCK / 2);
        const int8_t *x = v->codes + group * GROUP;
        int32_t found = v->start[group * LANES / 2], low = group % 2 == 0;
        for (int k = 0; k < GROUP; k++) found += (low ? w[k] & 15 : w[k] >> 4) * x[k];
        sum += (float)found * widened(scale[group]) * v->scale[group * LANES / 2];
    }
    return sum;
}
#endif

static void round_group(Vector *v, int64_t group, int32_t zero) {
    const float *x = v->x + group * GROUP;
    int8_t *codes = v->codes + group * GROUP;
    float most = 0;
    for (int k = 0; k < GROUP; k++) most = fmaxf(most, fabsf(x[k]));
    float inverse = most > 0 ? 127 / most : 0;
    int32_t sum = 0;
    for (int k = 0; k < GROUP; k++) {
        int32_t code = (int32_t)rintf(x[k] * inverse);
        codes[k] = (int8_t)code;
        sum += code;
    }
    for (int i = 0; i < LANES / 2; i++) {
        v->scale[group * LANES / 2 + i] = most / 127;
        v->start[group * LANES / 2 + i] = i == 0 ? -sum * zero : 0;
    }
}

/* Round a vector as a matrix of this form wants it. */
static void prepare(Vector *v, int32_t kind, int64_t cols) {
    if (kind == BFLOAT16)
        for (int64_t k = 0; k < cols; k++) v->half[k] = narrowed(v->x[k]);
    if (kind == INT8 || kind == INT4)
        for (int64_t group = 0; group < cols / GROUP; group++) round_group(v, group, kind == INT8 ? 128 : 8);
}

/* One row of the product. */
static inline float row_of(const Matrix *m, int64_t row, const Vector *v) {
    int64_t cols = m->cols, at = row * cols;
    float found;
    if (m->kind == FLOAT32) found = dot_float32((const float *)m->weight + at, cols, v->x);
    else if (m->kind == BFLOAT16) found = dot_bfloat16((const uint16_t *)m->weight + at, cols, v);
    else if (m->kind == INT8)
        found = dot_int8((const uint8_t *)m->weight + at, cols, v) * ((const float *)m->scale)[row];
    else found = dot_int4((const uint8_t *)m->weight + at / 2, (const uint16_t *)m->scale + at / GROUP, cols, v);
    return m->bias ? found + m->bias[row] : found;
}

/* Some rows of the product, one after another. */
static inline void rows_of(const Matrix *m, int64_t row, int64_t end, const Vector *v, float *out) {
#ifdef VNNI
    int64_t cols = m->cols;
    if (m->kind == INT8 || m->kind == INT4)
        for (; row + ROWS <= end; row += ROWS, out += ROWS) {
            int64_t at = row * cols;
            if (m->kind == INT8) {
                dot_int8_rows((const uint8_t *)m->weight + at, cols, v, out);
                for (int r = 0; r < ROWS; r++) out[r] *= ((const float *)m->scale)[row + r];
            } else
                dot_int4_rows((const uint8_t *)m->weight + at / 2, (const uint16_t *)m->scale + at / GROUP, cols, v,
                              out);
            if (m->bias)
                for (int r = 0; r < ROWS; r++) out[r] += m->bias[row + r];
        }
#endif
    for (; row < end; row++) *out++ = row_of(m, row, v);
}
