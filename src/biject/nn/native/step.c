/* One token for each text of a batch through all layers of a decoder, in one parallel region.
 *
 * Numbers between products are float32. Every thread computes the norms for itself, which is cheaper than
 * waiting for another; it owns some rows of each matrix, and some key heads.
 * The structures are mirrored in structures.py.
 */
#include "products.h"
#include <sched.h>

typedef struct {
    const float *weight, *bias;
    float eps;
    int32_t kind; /* 0: none, 1: layer, 2: root mean square */
} Norm;

typedef struct {
    Norm attn_norm, mlp_norm, q_norm, k_norm;
    Matrix q, k, v, o, gate, up, down; /* gate without rows: the MLP has none */
    void *keys, *values;               /* (B, G, room, E) */
    int32_t heads, groups, width, window, act, rope; /* window and rope: -1 for none */
    float scale;
} Layer;

typedef struct {
    const Layer *layers;
    Norm final_norm;
    Matrix head;
    const float *cos, *sin;   /* (kinds of rope, B, E) */
    const int32_t *first;     /* (B,): the first column that is no padding */
    float *x;                 /* (B, D) */
    float *q, *k, *v, *inner; /* (B, their widths); q also takes the context */
    float *logits;            /* (B, V) */
    int32_t num_layers, batch, hidden, widest, room, past, threads, narrow_cache;
    int32_t arrived, phase, failed; /* of the threads, at a barrier */
} Step;

typedef struct {
    Vector *vectors;
    float *h, *scores;
} Scratch;

static void barrier(Step *s, int threads) {
    if (threads == 1) return;
    int32_t phase = __atomic_load_n(&s->phase, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&s->arrived, 1, __ATOMIC_ACQ_REL) == threads) {
        __atomic_store_n(&s->arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&s->phase, phase + 1, __ATOMIC_RELEASE);
        return;
    }
    for (int spins = 0; __atomic_load_n(&s->phase, __ATOMIC_ACQUIRE) == phase; spins++)
        if (spins > 2000) sched_yield(); /* somebody else may need this core to get here */
}

static void normalise(const Norm *norm, const float *x, float *out, int64_t size) {
    float mean = 0, square = 0;
    if (norm->kind == 1) {
        for (int64_t i = 0; i < size; i++) mean += x[i];
        mean /= (float)size;
    }
    for (int64_t i = 0; i < size; i++) square += (x[i] - mean) * (x[i] - mean);
    float inverse = 1 / sqrtf(square / (float)size + norm->eps);
    for (int64_t i = 0; i < size; i++) out[i] = norm->kind ? (x[i] - mean) * inverse * norm->weight[i] : x[i];
    if (norm->bias)
        for (int64_t i = 0; i < size; i++) out[i] += norm->bias[i];
}

static void activate(int32_t act, float *x, int64_t count) {
    if (act == 0)
        for (int64_t i = 0; i < count; i++) x[i] = 0.5f * x[i] * (1 + erff(x[i] * 0.70710678f));
    else if (act == 1) /* 0.5 (1 + tanh(y)) is 1 / (1 + exp(-2 y)) */
        for (int64_t i = 0; i < count; i++)
            x[i] = x[i] / (1 + expf(-1.5957691216f * (x[i] + 0.044715f * x[i] * x[i] * x[i])));
    else if (act == 2)
        for (int64_t i = 0; i < count; i++) x[i] = x[i] / (1 + expf(-x[i]));
    else
        for (int64_t i = 0; i < count; i++) x[i] = fmaxf(x[i], 0);
}

/* The rows that a thread owns: whole lines of memory. */
static void share(int64_t rows, int thread, int threads, int64_t *begin, int64_t *end) {
    int64_t each = ((rows + threads - 1) / threads + LANES - 1) / LANES * LANES;
    *begin = each * thread < rows ? each * thread : rows;
    *end = *begin + each < rows ? *begin + each : rows;
}

/* Vectors (B, cols) as products with a matrix take them. */
static void take(const Step *s, Scratch *own, const Matrix *m, const float *x) {
    for (int b = 0; b < s->batch; b++) {
        own->vectors[b].x = x + (int64_t)b * m->cols;
        prepare(&own->vectors[b], m->kind, m->cols);
    }
}

enum { SET, ADD, TIMES };
enum { STRETCH = 64 };

/* This thread's rows of the product with the vectors taken: put into, added to or multiplied with out (B, rows).
 * All vectors of a batch read a stretch of the matrix while it is in the cache. */
static void multiply(const Step *s, const Scratch *own, const Matrix *m, float *out, int how, int t, int threads) {
    int64_t begin, end;
    float found[STRETCH];
    share(m->rows, t, threads, &begin, &end);
    for (int64_t row = begin; row < end; row += STRETCH) {
        int64_t count = end - row < STRETCH ? end - row : STRETCH;
        for (int b = 0; b < s->batch; b++) {
            float *place = out + (int64_t)b * m->rows + row;
            rows_of(m, row, row + count, &own->vectors[b], how == SET ? place : found);
            for (int64_t i = 0; how == ADD && i < count; i++) place[i] += found[i];
            for (int64_t i = 0; how == TIMES && i < count; i++) place[i] *= found[i];
        }
    }
}

static void place_head(const Norm *norm, const float *cos, const float *sin, float *x, int width) {
    if (norm->kind) normalise(norm, x, x, width);
    if (!cos) return;
    for (int i = 0, half = width / 2; i < half; i++) {
        float low = x[i], high = x[i + half];
        x[i] = low * cos[i] - high * sin[i];
        x[i + half] = high * cos[i + half] + low * sin[i + half];
    }
}

#define ATTEND(NAME, TYPE, WIDE, NARROW)                                                                      \
    static void NAME(TYPE *keys, TYPE *values, const float *k, const float *v, float *q, int shared, int from, \
                     int past, int width, float scale, float *p) {                                            \
        for (int e = 0; e < width; e++) {                                                                     \
            keys[(int64_t)past * width + e] = NARROW(k[e]);                                                   \
            values[(int64_t)past * width + e] = NARROW(v[e]);                                                 \
        }                                                                                                     \
        for (int head = 0; head < shared; head++, q += width) {                                               \
            float most = 0, total = 0;                                                                        \
            for (int t = from; t <= past; t++) {                                                              \
                const TYPE *at = keys + (int64_t)t * width;                                                   \
                float sum = 0;                                                                                \
                for (int e = 0; e < width; e++) sum += WIDE(at[e]) * q[e];                                    \
                p[t] = sum * scale;                                                                           \
                most = t == from || p[t] > most ? p[t] : most;                                                \
            }                                                                                                 \
            for (int t = from; t <= past; t++) total += p[t] = expf(p[t] - most);                             \
            for (int e = 0; e < width; e++) q[e] = 0;                                                         \
            for (int t = from; t <= past; t++) {                                                              \
                const TYPE *at = values + (int64_t)t * width;                                                 \
                float weight = p[t] / total;                                                                  \
                for (int e = 0; e < width; e++) q[e] += weight * WIDE(at[e]);                                 \
            }                                                                                                 \
        }                                                                                                     \
    }
#define SAME(x) (x)
ATTEND(attend_float32, float, SAME, SAME)
ATTEND(attend_bfloat16, uint16_t, widened, narrowed)

/* Queries become the context, by key heads: a thread owns some, with the queries that share them. */
static void attend(const Step *s, const Layer *l, Scratch *own, int thread, int threads) {
    int shared = l->heads / l->groups, width = l->width;
    for (int unit = thread; unit < s->batch * l->groups; unit += threads) {
        int b = unit / l->groups, from = s->first[b];
        const float *cos = NULL, *sin = NULL;
        if (l->rope >= 0) {
            cos = s->cos + ((int64_t)l->rope * s->batch + b) * width;
            sin = s->sin + ((int64_t)l->rope * s->batch + b) * width;
        }
        float *k = s->k + (int64_t)unit * width, *v = s->v + (int64_t)unit * width;
        float *q = s->q + (int64_t)unit * shared * width;
        place_head(&l->k_norm, cos, sin, k, width);
        for (int head = 0; head < shared; head++) place_head(&l->q_norm, cos, sin, q + head * width, width);
        if (l->window >= 0 && s->past - l->window + 1 > from) from = s->past - l->window + 1;
        int64_t at = (int64_t)unit * s->room * width;
        if (s->narrow_cache)
            attend_bfloat16((uint16_t *)l->keys + at, (uint16_t *)l->values + at, k, v, q, shared, from, s->past,
                            width, l->scale, own->scores);
        else
            attend_float32((float *)l->keys + at, (float *)l->values + at, k, v, q, shared, from, s->past, width,
                           l->scale, own->scores);
    }
}

static void all_layers(Step *s, Scratch *own, int t, int threads) {
    int64_t size = s->hidden;
    for (int index = 0; index < s->num_layers; index++) {
        const Layer *l = s->layers + index;
        for (int b = 0; b < s->batch; b++) normalise(&l->attn_norm, s->x + b * size, own->h + b * size, size);
        take(s, own, &l->q, own->h);
        multiply(s, own, &l->q, s->q, SET, t, threads);
        multiply(s, own, &l->k, s->k, SET, t, threads);
        multiply(s, own, &l->v, s->v, SET, t, threads);
        barrier(s, threads);
        attend(s, l, own, t, threads);
        barrier(s, threads);
        take(s, own, &l->o, s->q);
        multiply(s, own, &l->o, s->x, ADD, t, threads);
        barrier(s, threads);
        for (int b = 0; b < s->batch; b++) normalise(&l->mlp_norm, s->x + b * size, own->h + b * size, size);
        take(s, own, &l->up, own->h);
        int64_t rows = l->up.rows, begin, end;
        share(rows, t, threads, &begin, &end);
        multiply(s, own, l->gate.rows ? &l->gate : &l->up, s->inner, SET, t, threads);
        for (int b = 0; b < s->batch; b++) activate(l->act, s->inner + b * rows + begin, end - begin);
        if (l->gate.rows) multiply(s, own, &l->up, s->inner, TIMES, t, threads);
        barrier(s, threads);
        take(s, own, &l->down, s->inner);
        multiply(s, own, &l->down, s->x, ADD, t, threads);
        barrier(s, threads);
    }
    for (int b = 0; b < s->batch; b++) normalise(&s->final_norm, s->x + b * size, own->h + b * size, size);
    take(s, own, &s->head, own->h);
    multiply(s, own, &s->head, s->logits, SET, t, threads);
}

/* Memory of one thread: for each text of the batch a vector in all forms, a row, and scores. */
static void *scratch(const Step *s, Scratch *own) {
    size_t batch = (size_t)s->batch, blocks = (size_t)s->widest / BLOCK + 1, each = blocks * BLOCK;
    size_t vector = each * 3 + blocks * LANES * 8, heads = batch * sizeof(Vector);
    size_t floats = (batch * (size_t)s->hidden + (size_t)s->room) * 4;
    char *memory = malloc(heads + batch * vector + floats + 64 * (batch * 4 + 4));
    if (!memory) return NULL;
    char *at = memory;
#define CUT(TYPE, BYTES) (TYPE *)(at = (char *)(((uintptr_t)at + 63) & ~(uintptr_t)63), at += (BYTES), at - (BYTES))
    own->vectors = CUT(Vector, heads);
    own->h = CUT(float, batch * (size_t)s->hidden * 4);
    own->scores = CUT(float, (size_t)s->room * 4);
    for (size_t b = 0; b < batch; b++) {
        Vector *v = own->vectors + b;
        v->half = CUT(uint16_t, each * 2);
        v->codes = CUT(int8_t, each);
        v->scale = CUT(float, blocks * LANES * 4);
        v->start = CUT(int32_t, blocks * LANES * 4);
    }
    return memory;
}

/* x (B, D) in, logits (B, V) out; 0, or 1 where memory is short. */
int32_t biject_step(Step *s) {
    s->arrived = s->failed = 0;
#pragma omp parallel num_threads(s->threads)
    {
        int thread = 0, threads = 1;
#ifdef _OPENMP
        thread = omp_get_thread_num(), threads = omp_get_num_threads();
#endif
        Scratch own;
        void *memory = scratch(s, &own);
        if (!memory) __atomic_store_n(&s->failed, 1, __ATOMIC_RELEASE);
        barrier(s, threads);
        if (!__atomic_load_n(&s->failed, __ATOMIC_ACQUIRE)) all_layers(s, &own, thread, threads);
        free(memory);
    }
    return s->failed;
}

/* y = the matrix times x, by one thread; 0, or 1 where memory is short. */
int32_t biject_product(const Matrix *m, const float *x, float *y) {
    Step s = {.batch = 1, .hidden = 1, .widest = m->cols, .room = 1};
    Scratch own;
    void *memory = scratch(&s, &own);
    if (!memory) return 1;
    take(&s, &own, m, x);
    multiply(&s, &own, m, y, SET, 0, 1);
    free(memory);
    return 0;
}

int32_t biject_sizes(int32_t which) { /* so that the other side can check what it mirrors */
    return which == 0 ? sizeof(Matrix) : which == 1 ? sizeof(Norm) : which == 2 ? sizeof(Layer) : sizeof(Step);
}
