/* The compiled part of a training step: the first layer, the last layer, the loss and Adam.

   Four fifths of the pixels of a digit are 0 and add nothing to the sums of the first layer. Its
   products skip them. The hidden units are divided into shares, so narrow that the sums of a share
   stay in registers, and the rows that are added up stay in a core's own cache. A thread computes,
   updates and keeps the weights of the same shares in every step, and the weights of a share are
   contiguous: where two cores have no cache in common, it is slow to read a line that the other
   core wrote, or merely prefetched. In the last layer a thread has the same pixels in every step.
   It does all the work on a few of them, from logits to update, before it goes on to the next. The
   gradients of W1 and W4 are never stored: Adam uses each of them as soon as it is summed.

   REAL is float or double, and VECTOR is the number of bytes of a vector; native.py defines both.
*/
#include <stdint.h>
#include <string.h>
#include <tgmath.h>

typedef REAL real;
typedef int64_t size;
typedef real vec __attribute__((vector_size(VECTOR), aligned(sizeof(real)), may_alias));
typedef __typeof__(_Generic((real)0, float: (uint32_t)0, double: (uint64_t)0)) bits;

#define INLINE static inline __attribute__((always_inline))

enum {
    LANES = sizeof(vec) / sizeof(real),
    MAX_VECS = 5, /* vectors in a share, at most; native.py has the same number */
    AHEAD = 4,    /* how many images ahead the next pixels are prefetched */
    ROWS = 6, VECS = VECTOR == 64 ? 4 : 2, /* the size of a tile of sums, all kept in registers */
    TILE = VECS * LANES, /* columns of a tile */
    CHUNK = 8 * ROWS,    /* pixels whose weights stay in the cache from logits to update */
    MAX_ETA = sizeof(real) == 4 ? 86 : 706 /* exp(-MAX_ETA) is still a normal number */
};

/* A pixel that is not 0. */
typedef struct {
    int32_t index; /* in the list of an example: the pixel; in the list of a pixel: the example */
    real value;
} Entry;

/* The arguments of all kernels. The steps of one batch size share them.

   `Arguments` in native.py has the same fields in the same order, which a test checks. Arrays are
   contiguous, the last axis of a shape runs fastest, and d_x is the derivative of the loss by x.
   `conclude` is given only what Adam and the other parameters need. */
typedef struct {
    size batch;    /* examples of the step */
    size room;     /* the batch, rounded up to whole vectors */
    size pixels;   /* pixels of an image */
    size hidden;   /* units of a hidden layer */
    size shares;   /* shares of the first layer's units */
    size threads;  /* threads of OpenMP */
    size n_others; /* parameters other than W1 and W4 */

    double *lr;    /* scalar: Adam's learning rate */
    double *beta1; /* scalar: the decay of its first moments */
    double *beta2; /* scalar: the decay of its second moments */
    double *eps;   /* scalar: what it adds to the root of a second moment */
    float *steps;  /* scalar: the number of steps that it has taken */

    Entry *by_example; /* batch x pixels: the pixels of each example that are not 0 */
    size *in_example;  /* batch: how many entries of each row of by_example are used */
    Entry *by_pixel;   /* pixels x batch: the examples in which each pixel is not 0 */
    size *in_pixel;    /* pixels: how many entries of each row of by_pixel are used */

    real *W1;   /* shares x pixels x units of a share: the weights of the first layer */
    real *m1;   /* like W1: its first moments */
    real *v1;   /* like W1: its second moments */
    real *b1;   /* hidden: the bias of the first layer */
    real *d_b1; /* hidden */
    real *h1;   /* batch x hidden: max(W1 x + b1, 0) */
    real *d_h1; /* batch x hidden: the derivative by h1; `leave` turns it into that by W1 x + b1 */

    real *W4;   /* pixels x hidden: the weights of the last layer */
    real *m4;   /* like W4: its first moments */
    real *v4;   /* like W4: its second moments */
    real *b4;   /* pixels: the bias of the last layer */
    real *d_b4; /* pixels */
    real *h2;   /* hidden x room: the input of the last layer, rectified */
    real *d_h2; /* hidden x room: the derivative by what was rectified to h2 */
    real *rows_of_h2;    /* batch x (hidden, rounded up to whole vectors): h2 transposed */
    real *parts_of_d_h2; /* threads x hidden x room: the sum over the pixels of each thread */

    real *p;              /* pixels x room: eta = W4 h2 + b4, then p = sigmoid(eta), then p - x */
    real *factors;        /* pixels x room: a product of max(p, 1 - p) over steps */
    real *reconstruction; /* pixels x room: a sum of max(eta, 0) - x eta over steps */

    real *others;   /* n_others: the parameters other than W1 and W4 */
    real *d_others; /* n_others: their gradients */
    real *m_others; /* n_others: their first moments */
    real *v_others; /* n_others: their second moments */
} Arguments;

/* out += the sum of value * row over the list. A row has `vecs` vectors, and the last of them may
   overlap the one before it. */
INLINE void add_vecs(
    real *out, const real *rows, size stride, size width, const Entry *list, size count,
    const int vecs)
{
    size at[MAX_VECS];
    vec even[MAX_VECS], odd[MAX_VECS]; /* two sums, so that additions overlap */
    for (int k = 0; k < vecs; k++) {
        at[k] = k < vecs - 1 ? k * LANES : width - LANES;
        even[k] = *(const vec *)(out + at[k]);
        odd[k] = (vec){0};
    }
    for (; count > 1; count -= 2, list += 2) {
        const real *r = rows + list[0].index * stride, *q = rows + list[1].index * stride;
        for (int k = 0; k < vecs; k++) {
            even[k] += list[0].value * *(const vec *)(r + at[k]);
            odd[k] += list[1].value * *(const vec *)(q + at[k]);
        }
    }
    if (count)
        for (int k = 0; k < vecs; k++)
            even[k] += list->value * *(const vec *)(rows + list->index * stride + at[k]);
    for (int k = 0; k < vecs; k++)
        *(vec *)(out + at[k]) = even[k] + odd[k];
}

/* The same for rows of any width from LANES to MAX_VECS * LANES. */
INLINE void add_rows(
    real *out, const real *rows, size stride, size width, const Entry *list, size count)
{
    switch ((width + LANES - 1) / LANES) {
    case 1: add_vecs(out, rows, stride, width, list, count, 1); break;
    case 2: add_vecs(out, rows, stride, width, list, count, 2); break;
    case 3: add_vecs(out, rows, stride, width, list, count, 3); break;
    case 4: add_vecs(out, rows, stride, width, list, count, 4); break;
    case 5: add_vecs(out, rows, stride, width, list, count, 5); break;
    }
}

static inline size least(size a, size b) { return a < b ? a : b; }

/* List the bytes that are not 0, as intensities, and return how many; skip zeros by eights. */
INLINE size list_bytes(
    const uint8_t *image, size pixels, const real intensity[256], Entry *list)
{
    size count = 0;
    for (size first = 0; first < pixels; first += 8) {
        const size end = least(first + 8, pixels);
        uint64_t eight = 1;
        if (end == first + 8)
            memcpy(&eight, image + first, 8);
        if (eight)
            for (size i = first; i < end; i++) {
                list[count] = (Entry){(int32_t)i, intensity[image[i]]};
                count += image[i] != 0; /* no branch, so no misprediction */
            }
    }
    return count;
}

/* The first layer: list the pixels x = images[index] / 255 both ways, and compute h1. */
void enter(const Arguments *args, const uint8_t *images, const size *index)
{
    const size batch = args->batch, pixels = args->pixels, threads = args->threads;
    const size hidden = args->hidden, shares = args->shares, units = hidden / shares;
    const real *W = args->W1, *b = args->b1;
    real *h = args->h1;
    Entry *by_example = args->by_example, *by_pixel = args->by_pixel;
    size *in_example = args->in_example, *in_pixel = args->in_pixel;
    real intensity[256];
    for (int byte = 0; byte < 256; byte++)
        intensity[byte] = byte / (real)255;
    #pragma omp parallel num_threads(threads)
    {
        #pragma omp for schedule(static)
        for (size n = 0; n < batch; n++) {
            for (size i = 0; n + AHEAD < batch && i < pixels; i += 64)
                __builtin_prefetch(images + index[n + AHEAD] * pixels + i);
            in_example[n] = list_bytes(
                images + index[n] * pixels, pixels, intensity, by_example + n * pixels);
        }
        #pragma omp for schedule(static) nowait
        for (size s = 0; s < shares; s++)
            for (size n = 0; n < batch; n++) {
                real *restrict out = h + n * hidden + s * units;
                for (size j = 0; j < units; j++)
                    out[j] = b[s * units + j];
                add_rows(
                    out, W + s * pixels * units, units, units, by_example + n * pixels,
                    in_example[n]);
                for (size j = 0; j < units; j++)
                    out[j] = out[j] < 0 ? 0 : out[j];
            }
        #pragma omp for schedule(static)
        for (size t = 0; t < threads; t++) {
            const size first = pixels * t / threads, end = pixels * (t + 1) / threads;
            for (size i = first; i < end; i++)
                in_pixel[i] = 0;
            for (size n = 0; n < batch; n++)
                for (size k = n * pixels; k < n * pixels + in_example[n]; k++) {
                    const size i = by_example[k].index;
                    if (first <= i && i < end)
                        by_pixel[i * batch + in_pixel[i]++] = (Entry){n, by_example[k].value};
                }
        }
    }
}

/* The constants of one step of Adam. */
typedef struct {
    real one_minus_beta1, beta2, one_minus_beta2, step_size, per_root, eps;
} Adam;

static inline Adam adam_of(const Arguments *args)
{
    const double rate = *args->lr, beta1 = *args->beta1, beta2 = *args->beta2;
    const double step = *args->steps + 1; /* the number of this step; `conclude` counts it */
    return (Adam){1 - beta1, beta2, 1 - beta2, rate / (1 - pow(beta1, step)),
                  1 / sqrt(1 - pow(beta2, step)), *args->eps};
}

/* Update `count` weights w, with moments m and v, by their gradients g. */
INLINE void descend(
    real *restrict w, real *restrict m, real *restrict v, const real *restrict g, size count,
    Adam by)
{
    for (size j = 0; j < count; j++) {
        m[j] += by.one_minus_beta1 * (g[j] - m[j]);
        v[j] = by.beta2 * v[j] + by.one_minus_beta2 * g[j] * g[j];
        w[j] -= by.step_size * m[j] / (sqrt(v[j]) * by.per_root + by.eps);
    }
}

/* The way back through the first layer: from d_h1 compute d_b1, and update W1. */
void leave(const Arguments *args)
{
    const size batch = args->batch, pixels = args->pixels, threads = args->threads;
    const size hidden = args->hidden, shares = args->shares, units = hidden / shares;
    const Entry *by_pixel = args->by_pixel;
    const size *in_pixel = args->in_pixel;
    const real *h = args->h1;
    real *d = args->d_h1, *d_b = args->d_b1, *W = args->W1, *m = args->m1, *v = args->v1;
    const Adam by = adam_of(args);
    #pragma omp parallel for schedule(static) num_threads(threads)
    for (size s = 0; s < shares; s++) {
        real g[units];
        for (size j = 0; j < units; j++)
            g[j] = 0;
        for (size n = 0; n < batch; n++)
            for (size j = 0, k = n * hidden + s * units; j < units; j++, k++) {
                d[k] = h[k] <= 0 ? 0 : d[k];
                g[j] += d[k];
            }
        for (size j = 0; j < units; j++)
            d_b[s * units + j] = g[j];
        for (size i = 0; i < pixels; i++) {
            for (size j = 0; j < units; j++)
                g[j] = 0;
            add_rows(g, d + s * units, hidden, units, by_pixel + i * batch, in_pixel[i]);
            const size row = (s * pixels + i) * units;
            descend(W + row, m + row, v + row, g, units, by);
        }
    }
}

/* out += a b, where out is a tile of `rows` x `vecs` vectors; its sums stay in registers. */
INLINE void multiply_tile(
    real *out, size out_row, const real *a, size row, size step, const real *b, size stride,
    size count, const int rows, const int vecs)
{
    vec sum[ROWS][VECS];
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < vecs; c++)
            sum[r][c] = *(const vec *)(out + r * out_row + c * LANES);
    for (size k = 0; k < count; k++) {
        vec columns[VECS];
        for (int c = 0; c < vecs; c++)
            columns[c] = *(const vec *)(b + k * stride + c * LANES);
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < vecs; c++)
                sum[r][c] += a[r * row + k * step] * columns[c];
    }
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < vecs; c++)
            *(vec *)(out + r * out_row + c * LANES) = sum[r][c];
}

/* out += a b, where out is `rows` x `width` and b is `count` x `width`. The width is a multiple of
   LANES, and a[r][k] is at a + r * row + k * step. */
static void multiply(
    real *out, size out_row, const real *a, size row, size step, const real *b, size stride,
    size rows, size width, size count)
{
    for (size c = 0, vecs; c < width; c += vecs * LANES) {
        vecs = width - c < TILE ? 1 : VECS;
        for (size r = 0, some; r < rows; r += some) {
            some = rows - r < ROWS ? 1 : ROWS;
            #define SUM(rows, vecs) multiply_tile( \
                out + r * out_row + c, out_row, a + r * row, row, step, b + c, stride, count, \
                rows, vecs)
            if (some == ROWS && vecs == VECS)
                SUM(ROWS, VECS);
            else if (some == ROWS)
                SUM(ROWS, 1);
            else if (vecs == VECS)
                SUM(1, VECS);
            else
                SUM(1, 1);
            #undef SUM
        }
    }
}

/* exp(x) for x in [-MAX_ETA, 0]: a power of two times a Taylor series. */
INLINE real exponential(real x)
{
    const double ln2 = 0.6931471805599453, beyond = 2.319046813846299e-17;
    const real round = sizeof(real) == 4 ? 0x1.8p23 : 0x1.8p52, high = ln2;
    const real low = ln2 - (double)high + beyond;
    union { real value; bits bits; } y, power = {x * (real)1.4426950408889634 + round};
    const real k = power.value - round, r = x - k * high - k * low;
    y.value = 1;
    #pragma GCC unroll 13
    for (int n = 13; n; n--)
        y.value = y.value * r * (real)(1.0 / n) + 1;
    y.bits += power.bits << (sizeof(real) == 4 ? 23 : 52);
    return y.value;
}

/* Turn one pixel's row of eta into p - x, where p = sigmoid(eta), and return the sum of that row.
   Multiply s by max(p, 1 - p), and add max(eta, 0) - x eta to total. */
INLINE real score(
    const Entry *list, size count, real *restrict row, real *restrict s, real *restrict total,
    size batch)
{
    for (size k = 0; k < count; k++)
        total[list[k].index] -= list[k].value * row[list[k].index];
    #pragma omp simd
    for (size n = 0; n < batch; n++) {
        const real eta = row[n], near = eta < 0 ? eta : -eta;
        const real e = exponential(near < -MAX_ETA ? -MAX_ETA : near), larger = 1 / (1 + e);
        row[n] = eta < 0 ? e * larger : larger;
        s[n] *= larger;
        total[n] += eta < 0 ? 0 : eta;
    }
    for (size k = 0; k < count; k++)
        row[list[k].index] -= list[k].value;
    real sum = 0; /* of small differences, not a small difference of sums */
    #pragma omp simd reduction(+ : sum)
    for (size n = 0; n < batch; n++)
        sum += row[n];
    return sum;
}

/* The last layer, there and back: from h2 compute eta, the loss, d_b4 and d_h2, and update W4. */
void output(const Arguments *args)
{
    const size batch = args->batch, room = args->room, pixels = args->pixels;
    const size hidden = args->hidden, threads = args->threads;
    const size wide = (hidden + LANES - 1) / LANES * LANES;
    const Entry *by_pixel = args->by_pixel;
    const size *in_pixel = args->in_pixel;
    const real *h = args->h2, *b = args->b4;
    real *d = args->d_h2, *h_t = args->rows_of_h2, *parts = args->parts_of_d_h2;
    real *p = args->p, *s = args->factors, *total = args->reconstruction;
    real *d_b = args->d_b4, *W = args->W4, *m = args->m4, *v = args->v4;
    const Adam by = adam_of(args);
    #pragma omp parallel num_threads(threads)
    {
        #pragma omp for schedule(static)
        for (size first = 0; first < wide; first += LANES)
            for (size n = 0; n < batch; n++)
                for (size j = first; j < first + LANES; j++)
                    h_t[n * wide + j] = j < hidden ? h[j * room + n] : 0;
        #pragma omp for schedule(static)
        for (size t = 0; t < threads; t++) {
            const size end = pixels * (t + 1) / threads;
            real *part = parts + t * hidden * room;
            memset(part, 0, hidden * room * sizeof(real));
            for (size first = pixels * t / threads; first < end; first += CHUNK) {
                const size some = least(CHUNK, end - first);
                real *weights = W + first * hidden, *eta = p + first * room, *d_eta = eta;
                for (size i = 0; i < some; i++)
                    for (size n = 0; n < room; n++)
                        eta[i * room + n] = b[first + i];
                multiply(eta, room, weights, hidden, 1, h, room, some, room, hidden);
                for (size i = first; i < first + some; i++)
                    d_b[i] = score(
                        by_pixel + i * batch, in_pixel[i], p + i * room, s + i * room,
                        total + i * room, batch);
                multiply(part, room, weights, 1, hidden, d_eta, room, hidden, room, some);
                for (size i = 0; i < some; i += ROWS)
                    for (size j = 0; j < hidden; j += TILE) {
                        const size few = least(ROWS, some - i), width = least(TILE, wide - j);
                        real g[ROWS * TILE] = {0};
                        const real *a = d_eta + i * room;
                        multiply(g, TILE, a, room, 1, h_t + j, wide, few, width, batch);
                        for (size r = 0; r < few; r++) {
                            const size at = (first + i + r) * hidden + j;
                            descend(
                                W + at, m + at, v + at, g + r * TILE, least(TILE, hidden - j), by);
                        }
                    }
            }
        }
        #pragma omp for schedule(static)
        for (size k = 0; k < hidden * room; k++) {
            real sum = 0;
            for (size t = 0; t < threads; t++)
                sum += parts[t * hidden * room + k];
            d[k] = h[k] > 0 ? sum : 0;
        }
    }
}

/* The end of a step: update the other parameters, and count the step. */
void conclude(const Arguments *args)
{
    const Adam by = adam_of(args);
    descend(args->others, args->m_others, args->v_others, args->d_others, args->n_others, by);
    *args->steps += 1;
}
