/* A training step of the textbook's VAE in one call: forward, loss, backward and Adam.

   Four fifths of the pixels of a digit are 0 and add nothing to the sums of the first layer. Its
   products skip them. The hidden units are divided into shares, so narrow that the sums of a share
   stay in registers, and the rows that are added up stay in a core's own cache. The step is divided
   into as many parts as there are threads, but fewer threads may compute them; the result is the
   same. A thread computes, updates and keeps the weights of the same shares and of the same pixels
   in every step, and the weights of a share are contiguous: where two cores have no cache in
   common, it is slow to read a line that the other core wrote, or merely prefetched. In the last
   layer, a thread does all the work on a few pixels, from logits to update, before it goes on to
   the next. No gradient of a weight is stored: Adam uses each as soon as it is summed.

   Rows are padded to whole vectors. A hidden unit or latent that is padding has weights of 0, so
   that it adds nothing, has no gradient, and stays 0.

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
    TERMS = sizeof(real) == 4 ? 7 : 13, /* of the series of exp, from degree 1 */
    MAX_EXP = sizeof(real) == 4 ? 86 : 706 /* exp(-MAX_EXP) is still a normal number */
};

/* A pixel that is not 0. */
typedef struct {
    int32_t index; /* in the list of an example: the pixel; in the list of a pixel: the example */
    real value;
} Entry;

/* Weights or biases, and Adam's first and second moments of them. */
typedef struct {
    real *w, *m, *v;
} Parameter;

/* The arguments of a step. All steps of one batch size share them.

   `Arguments` in native.py has the same fields in the same order, which a test checks. Arrays are
   contiguous, the last axis of a shape runs fastest, and d_x is the derivative of the loss with
   respect to x. */
typedef struct {
    size batch;   /* examples of the step */
    size room;    /* the batch, rounded up to whole vectors */
    size stride;  /* the room, rounded up to an odd number of vectors: so neighbouring rows do
                     not compete for the same lines of a cache */
    size pixels;  /* pixels of an image */
    size hidden;  /* units of a hidden layer, rounded up to whole vectors */
    size latent;  /* latents */
    size latents; /* the same, rounded up to whole vectors */
    size heads;   /* twice the latents, mu and logvar, rounded up to whole vectors */
    size shares;  /* shares of the first layer's units; so many for every part */
    size parts;   /* parts of the step, at most so many threads */

    double *beta;    /* scalar: the weight of the divergence */
    double *lr;      /* scalar: Adam's learning rate */
    double *beta1;   /* scalar: the decay of its first moments */
    double *beta2;   /* scalar: the decay of its second moments */
    double *epsilon; /* scalar: what it adds to the root of a second moment */
    float *steps;    /* scalar: the number of steps that it has taken */

    Parameter W1; /* for each share, pixels x units of the share */
    Parameter W4; /* pixels x hidden */
    Parameter Wc; /* 2 latent x hidden: the weights of mu and logvar */
    Parameter W3; /* hidden x latents */
    Parameter b1; /* hidden */
    Parameter bc; /* heads */
    Parameter b3; /* hidden */
    Parameter b4; /* pixels */

    Entry *by_example; /* batch x pixels: the pixels of each example that are not 0 */
    size *in_example;  /* batch: how many entries of each row of by_example are used */
    Entry *by_pixel;   /* pixels x batch: the examples in which each pixel is not 0 */
    size *in_pixel;    /* pixels: how many entries of each row of by_pixel are used */

    real *h1;    /* batch x hidden: max(W1 x + b1, 0) */
    real *d_h1;  /* batch x hidden: the derivative with respect to h1, then to W1 x + b1 */
    real *Wc_t;  /* hidden x heads: Wc transposed */
    real *c;     /* batch x heads: mu, then logvar */
    real *d_c;   /* batch x heads */
    real *sigma; /* batch x latents: exp(logvar / 2) */
    real *z;     /* latent x stride: mu + eps sigma */
    real *z_t;   /* batch x latents: z transposed */
    real *d_z;   /* latent x stride */
    real *h2;    /* hidden x stride: max(W3 z + b3, 0) */
    real *h2_t;  /* batch x hidden: h2 transposed */
    real *d_h2;  /* hidden x stride: the derivative with respect to W3 z + b3 */
    real *parts_of_d_h2; /* parts x hidden x stride: the sum over the pixels of each part */

    real *p;              /* pixels x room: eta = W4 h2 + b4, then p = sigmoid(eta), then p - x */
    real *factors;        /* pixels x room: a product of max(p, 1 - p) over steps */
    real *reconstruction; /* pixels x room: a sum of max(eta, 0) - x eta over steps */
    real *divergence;     /* batch x latents: a sum of sigma^2 - 1 + mu^2 - logvar over steps */
} Arguments;

/* From the first of some things up to the end, which is not one of them. */
typedef struct {
    size first, end;
} Range;

static inline size least(size a, size b) { return a < b ? a : b; }

/* Part number t of `count` things that are divided into equal parts. */
static inline Range part(size count, size t, size parts)
{
    return (Range){count * t / parts, count * (t + 1) / parts};
}

/* The same where things stay together in whole vectors. */
static inline Range vectors(size count, size t, size parts)
{
    const Range range = part(count / LANES, t, parts);
    return (Range){range.first * LANES, range.end * LANES};
}

/* The constants of one step of Adam. */
typedef struct {
    real one_minus_beta1, beta2, one_minus_beta2, step_size, per_root, epsilon;
} Adam;

static inline Adam adam_of(const Arguments *args)
{
    const double rate = *args->lr, beta1 = *args->beta1, beta2 = *args->beta2;
    const double number = *args->steps + 1;
    return (Adam){1 - beta1, beta2, 1 - beta2, rate / (1 - pow(beta1, number)),
                  1 / sqrt(1 - pow(beta2, number)), *args->epsilon};
}

/* Update `count` weights, from number `at`, by their gradients g. It is compiled once. */
static __attribute__((noinline)) void descend(
    Parameter to, size at, const real *restrict g, size count, Adam by)
{
    real *restrict w = to.w + at, *restrict m = to.m + at, *restrict v = to.v + at;
    for (size j = 0; j < count; j++) {
        m[j] += by.one_minus_beta1 * (g[j] - m[j]);
        v[j] = by.beta2 * v[j] + by.one_minus_beta2 * g[j] * g[j];
        w[j] -= by.step_size * m[j] / (sqrt(v[j]) * by.per_root + by.epsilon);
    }
}

/* out += the sum of value * row over the list. */
INLINE void add_vecs(
    real *out, const real *rows, size stride, const Entry *list, size count, const int vecs)
{
    vec even[MAX_VECS], odd[MAX_VECS]; /* two sums, so that additions overlap */
    for (int k = 0; k < vecs; k++) {
        even[k] = *(const vec *)(out + k * LANES);
        odd[k] = (vec){0};
    }
    for (; count > 1; count -= 2, list += 2) {
        const real *r = rows + list[0].index * stride, *q = rows + list[1].index * stride;
        for (int k = 0; k < vecs; k++) {
            even[k] += list[0].value * *(const vec *)(r + k * LANES);
            odd[k] += list[1].value * *(const vec *)(q + k * LANES);
        }
    }
    if (count)
        for (int k = 0; k < vecs; k++)
            even[k] += list->value * *(const vec *)(rows + list->index * stride + k * LANES);
    for (int k = 0; k < vecs; k++)
        *(vec *)(out + k * LANES) = even[k] + odd[k];
}

/* The same for rows of one to MAX_VECS vectors. */
INLINE void add_rows(
    real *out, const real *rows, size stride, size width, const Entry *list, size count)
{
    switch (width / LANES) {
    case 1: add_vecs(out, rows, stride, list, count, 1); break;
    case 2: add_vecs(out, rows, stride, list, count, 2); break;
    case 3: add_vecs(out, rows, stride, list, count, 3); break;
    case 4: add_vecs(out, rows, stride, list, count, 4); break;
    case 5: add_vecs(out, rows, stride, list, count, 5); break;
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

/* The same for any number of rows. */
INLINE void multiply_rows(
    real *out, size out_row, const real *a, size row, size step, const real *b, size stride,
    size rows, size count, const int vecs)
{
    size r = 0;
    #define TILES(n) \
        for (; r + n <= rows; r += n) \
            multiply_tile( \
                out + r * out_row, out_row, a + r * row, row, step, b, stride, count, n, vecs)
    TILES(ROWS);
    TILES(1);
    #undef TILES
}

/* out += a b, where out is `rows` x `width` and b is `count` x `width`. The width is a multiple of
   LANES, and a[r][k] is at a + r * row + k * step. */
static void multiply(
    real *out, size out_row, const real *a, size row, size step, const real *b, size stride,
    size rows, size width, size count)
{
    for (size c = 0; c < width; c += TILE) {
        #define ROWS_OF(vecs) multiply_rows( \
            out + c, out_row, a, row, step, b + c, stride, rows, count, vecs)
        switch (least(VECS, (width - c) / LANES)) {
        case 1: ROWS_OF(1); break;
        case 2: ROWS_OF(2); break;
        #if VECTOR == 64
        case 3: ROWS_OF(3); break;
        case 4: ROWS_OF(4); break;
        #endif
        }
        #undef ROWS_OF
    }
}

/* Update a block of weights, `rows` x `width` from number `at` in rows of `line`, by their
   gradient a b. */
static void descend_along(
    Parameter to, size at, size line, const real *a, size row, size step, const real *b,
    size stride, size rows, size width, size count, Adam by)
{
    for (size j = 0; j < width; j += TILE)
        for (size i = 0; i < rows; i += ROWS) {
            const size few = least(ROWS, rows - i), wide = least(TILE, width - j);
            real g[ROWS * TILE] = {0};
            multiply(g, TILE, a + i * row, row, step, b + j, stride, few, wide, count);
            for (size r = 0; r < few; r++)
                descend(to, at + (i + r) * line + j, g + r * TILE, wide, by);
        }
}

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

/* List the examples of every pixel, for the pixels of a part. */
static void list_examples(const Arguments *args, size t)
{
    const size batch = args->batch, pixels = args->pixels;
    const Range range = part(pixels, t, args->parts);
    Entry *by_pixel = args->by_pixel;
    size *in_pixel = args->in_pixel;
    for (size i = range.first; i < range.end; i++)
        in_pixel[i] = 0;
    for (size n = 0; n < batch; n++) {
        const Entry *list = args->by_example + n * pixels;
        for (size k = 0; k < args->in_example[n]; k++) {
            const size i = list[k].index;
            if (range.first <= i && i < range.end)
                by_pixel[i * batch + in_pixel[i]++] = (Entry){n, list[k].value};
        }
    }
}

/* The first layer of a share: compute h1. */
static void enter(const Arguments *args, size s)
{
    const size pixels = args->pixels, hidden = args->hidden;
    const Range units = vectors(hidden, s, args->shares);
    const size width = units.end - units.first;
    const real *W = args->W1.w + units.first * pixels;
    for (size n = 0; n < args->batch; n++) {
        real *out = args->h1 + n * hidden + units.first;
        memcpy(out, args->b1.w + units.first, width * sizeof(real));
        add_rows(out, W, width, width, args->by_example + n * pixels, args->in_example[n]);
        for (size j = 0; j < width; j++)
            out[j] = out[j] < 0 ? 0 : out[j];
    }
}

/* The way back through the first layer of a share: from d_h1 update b1 and W1. */
static void leave(const Arguments *args, size s, Adam by)
{
    const size pixels = args->pixels, hidden = args->hidden, batch = args->batch;
    const Range units = vectors(hidden, s, args->shares);
    const size width = units.end - units.first;
    const real *h = args->h1 + units.first;
    real *d = args->d_h1 + units.first, g[MAX_VECS * LANES] = {0};
    for (size n = 0; n < batch; n++)
        for (size j = 0, k = n * hidden; j < width; j++, k++) {
            d[k] = h[k] <= 0 ? 0 : d[k];
            g[j] += d[k];
        }
    descend(args->b1, units.first, g, width, by);
    for (size i = 0; i < pixels; i++) {
        memset(g, 0, width * sizeof(real));
        add_rows(g, d, hidden, width, args->by_pixel + i * batch, args->in_pixel[i]);
        descend(args->W1, units.first * pixels + i * width, g, width, by);
    }
}

/* exp(x) for |x| <= MAX_EXP: a power of two times a Taylor series. */
INLINE real exponential(real x)
{
    const double ln2 = 0.6931471805599453, beyond = 2.319046813846299e-17;
    const real round = sizeof(real) == 4 ? 0x1.8p23 : 0x1.8p52, high = ln2;
    const real low = ln2 - (double)high + beyond;
    union { real value; bits bits; } y, power = {x * (real)1.4426950408889634 + round};
    const real k = power.value - round, r = x - k * high - k * low;
    static const real factors[] = { /* 1 / n! */
        1, 1, 1. / 2, 1. / 6, 1. / 24, 1. / 120, 1. / 720, 1. / 5040, 1. / 40320, 1. / 362880,
        1. / 3628800, 1. / 39916800, 1. / 479001600, 1. / 6227020800};
    y.value = factors[TERMS];
    #pragma GCC unroll 13
    for (int n = TERMS - 1; n >= 0; n--)
        y.value = y.value * r + factors[n];
    y.bits += power.bits << (sizeof(real) == 4 ? 23 : 52);
    return y.value;
}

/* Between the hidden layers, for the examples of a part: compute c, sigma, z and h2. */
static void encode(const Arguments *args, size t, const real *eps)
{
    const size hidden = args->hidden, latent = args->latent, latents = args->latents;
    const size heads = args->heads, stride = args->stride;
    const Range range = vectors(args->room, t, args->parts);
    const size first = range.first, width = range.end - first, end = least(range.end, args->batch);
    for (size n = first; n < end; n++)
        memcpy(args->c + n * heads, args->bc.w, heads * sizeof(real));
    multiply(
        args->c + first * heads, heads, args->h1 + first * hidden, hidden, 1, args->Wc_t, heads,
        end - first, heads, hidden);
    for (size n = first; n < end; n++) {
        const real *mu = args->c + n * heads, *logvar = mu + latent, *noise = eps + n * latent;
        real *sigma = args->sigma + n * latents, *z = args->z_t + n * latents;
        real *total = args->divergence + n * latents;
        for (size l = 0; l < latent; l++) {
            const real half = logvar[l] / 2, below = half < -MAX_EXP ? -MAX_EXP : half;
            /* Beyond MAX_EXP, the square of sigma is infinite. */
            sigma[l] = exponential(below > MAX_EXP ? MAX_EXP : below);
            z[l] = mu[l] + noise[l] * sigma[l];
            total[l] += sigma[l] * sigma[l] - 1 + mu[l] * mu[l] - logvar[l];
        }
        for (size l = 0; l < latent; l++)
            args->z[l * stride + n] = z[l];
    }
    for (size j = 0; j < hidden; j++)
        for (size n = first; n < range.end; n++)
            args->h2[j * stride + n] = args->b3.w[j];
    multiply(
        args->h2 + first, stride, args->W3.w, latents, 1, args->z + first, stride, hidden, width,
        latent);
    for (size j = 0; j < hidden; j++) {
        real *h = args->h2 + j * stride;
        for (size n = first; n < range.end; n++)
            h[n] = h[n] < 0 ? 0 : h[n];
    }
    for (size j = 0; j < hidden; j += LANES)
        for (size n = first; n < end; n++)
            for (size k = j; k < j + LANES; k++)
                args->h2_t[n * hidden + k] = args->h2[k * stride + n];
}

/* The way back between the hidden layers, for the examples of a part: compute d_h2, d_c, d_h1. */
static void decode_back(const Arguments *args, size t, const real *eps)
{
    const size hidden = args->hidden, latent = args->latent, latents = args->latents;
    const size heads = args->heads, stride = args->stride;
    const Range range = vectors(args->room, t, args->parts);
    const size first = range.first, width = range.end - first, end = least(range.end, args->batch);
    const real beta = *args->beta;
    for (size j = 0; j < hidden; j++) {
        const real *restrict h = args->h2 + j * stride;
        real *restrict d = args->d_h2 + j * stride;
        for (size q = 0; q < args->parts; q++) {
            const real *restrict added = args->parts_of_d_h2 + (q * hidden + j) * stride;
            for (size n = first; n < range.end; n++)
                d[n] = (q ? d[n] : 0) + added[n];
        }
        for (size n = first; n < range.end; n++)
            d[n] = h[n] <= 0 ? 0 : d[n];
    }
    for (size l = 0; l < latent; l++)
        memset(args->d_z + l * stride + first, 0, width * sizeof(real));
    multiply(
        args->d_z + first, stride, args->W3.w, 1, latents, args->d_h2 + first, stride, latent,
        width, hidden);
    for (size n = first; n < end; n++) {
        const real *mu = args->c + n * heads, *sigma = args->sigma + n * latents;
        const real *noise = eps + n * latent;
        real *d_mu = args->d_c + n * heads, *d_logvar = d_mu + latent;
        for (size l = 0; l < latent; l++) {
            const real d_z = args->d_z[l * stride + n];
            d_mu[l] = d_z + beta * mu[l];
            d_logvar[l] = (d_z * noise[l] * sigma[l] + beta * (sigma[l] * sigma[l] - 1)) / 2;
        }
    }
    memset(args->d_h1 + first * hidden, 0, (end - first) * hidden * sizeof(real));
    multiply(
        args->d_h1 + first * hidden, hidden, args->d_c + first * heads, heads, 1, args->Wc.w,
        hidden, end - first, hidden, 2 * latent);
}

/* Update the layers between the hidden ones: the columns of Wc and the rows of W3 of a part. */
static void descend_between(const Arguments *args, size t, Adam by)
{
    const size batch = args->batch, hidden = args->hidden, latents = args->latents;
    const size heads = args->heads, stride = args->stride;
    const Range range = vectors(hidden, t, args->parts);
    const size first = range.first, width = range.end - first;
    descend_along(
        args->Wc, first, hidden, args->d_c, 1, heads, args->h1 + first, hidden, 2 * args->latent,
        width, batch, by);
    descend_along(
        args->W3, first * latents, latents, args->d_h2 + first * stride, stride, 1, args->z_t,
        latents, width, latents, batch, by);
    for (size j = first; j < range.end; j++) {
        real g = 0;
        #pragma omp simd reduction(+ : g)
        for (size n = 0; n < batch; n++)
            g += args->d_h2[j * stride + n];
        descend(args->b3, j, &g, 1, by);
    }
    if (t)
        return;
    real g[heads];
    memset(g, 0, sizeof g);
    for (size n = 0; n < batch; n++)
        for (size l = 0; l < heads; l++)
            g[l] += args->d_c[n * heads + l];
    descend(args->bc, 0, g, heads, by);
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
        const real e = exponential(near < -MAX_EXP ? -MAX_EXP : near), larger = 1 / (1 + e);
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

/* The last layer of a part's pixels, there and back: from h2 compute eta, the loss and the part's
   d_h2, and update b4 and W4. Or only compute the loss. */
static void output(const Arguments *args, size t, Adam by, int learn)
{
    const size batch = args->batch, room = args->room, stride = args->stride;
    const size hidden = args->hidden;
    const Range range = part(args->pixels, t, args->parts);
    real *d_h2 = args->parts_of_d_h2 + t * hidden * stride;
    memset(d_h2, 0, hidden * stride * sizeof(real));
    for (size first = range.first; first < range.end; first += CHUNK) {
        const size some = least(CHUNK, range.end - first);
        const real *W = args->W4.w + first * hidden;
        real *eta = args->p + first * room, *d_eta = eta;
        for (size i = 0; i < some; i++)
            for (size n = 0; n < room; n++)
                eta[i * room + n] = args->b4.w[first + i];
        multiply(eta, room, W, hidden, 1, args->h2, stride, some, room, hidden);
        for (size i = first; i < first + some; i++) {
            const real g = score(
                args->by_pixel + i * batch, args->in_pixel[i], args->p + i * room,
                args->factors + i * room, args->reconstruction + i * room, batch);
            if (learn)
                descend(args->b4, i, &g, 1, by);
        }
        if (!learn)
            continue;
        multiply(d_h2, stride, W, 1, hidden, d_eta, room, hidden, room, some);
        descend_along(
            args->W4, first * hidden, hidden, d_eta, room, 1, args->h2_t, hidden, some, hidden,
            batch, by);
    }
}

/* Have this thread flush denormal numbers, or not, and return what it did before. */
static inline unsigned flush_denormals(unsigned on)
{
    #ifdef __SSE__
    const unsigned both = 0x8040, before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr((before & ~both) | on);
    return before & both;
    #else
    return on;
    #endif
}

/* Take a step of training with the pixels x = images[index] / 255 and the noise eps, batch x
   latent, and with so many threads. Or only add its loss to the sums. */
void step(
    const Arguments *args, const uint8_t *images, const size *index, const real *eps,
    size threads, int learn)
{
    const size batch = args->batch, pixels = args->pixels, hidden = args->hidden;
    const size shares = args->shares, parts = args->parts, heads = args->heads;
    const Adam by = adam_of(args);
    real intensity[256];
    for (int byte = 0; byte < 256; byte++)
        intensity[byte] = byte / (real)255;
    const unsigned flushing = flush_denormals(0);
    flush_denormals(flushing);
    #pragma omp parallel num_threads(threads)
    {
        const unsigned before = flush_denormals(flushing);
        #pragma omp for schedule(static)
        for (size n = 0; n < batch; n++) {
            for (size i = 0; n + AHEAD < batch && i < pixels; i += 64)
                __builtin_prefetch(images + index[n + AHEAD] * pixels + i);
            args->in_example[n] = list_bytes(
                images + index[n] * pixels, pixels, intensity, args->by_example + n * pixels);
        }
        #pragma omp for schedule(static) nowait
        for (size s = 0; s < shares; s++)
            enter(args, s);
        #pragma omp for schedule(static) nowait
        for (size t = 0; t < parts; t++)
            list_examples(args, t);
        #pragma omp for schedule(static)
        for (size j = 0; j < hidden; j++)
            for (size i = 0; i < 2 * args->latent; i++)
                args->Wc_t[j * heads + i] = args->Wc.w[i * hidden + j];
        #pragma omp for schedule(static)
        for (size t = 0; t < parts; t++)
            encode(args, t, eps);
        #pragma omp for schedule(static)
        for (size t = 0; t < parts; t++)
            output(args, t, by, learn);
        if (learn) {
            #pragma omp for schedule(static)
            for (size t = 0; t < parts; t++)
                decode_back(args, t, eps);
            #pragma omp for schedule(static) nowait
            for (size t = 0; t < parts; t++)
                descend_between(args, t, by);
            #pragma omp for schedule(static) nowait
            for (size s = 0; s < shares; s++)
                leave(args, s, by);
        }
        flush_denormals(before);
    }
    *args->steps += learn;
}
