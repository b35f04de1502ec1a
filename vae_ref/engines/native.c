/* What a step of training gains from a compiler: the layers next to the pixels, and the loss.

   Four fifths of the pixels of a digit are 0, and add nothing to the sums of the first layer: its
   products leave them out. The hidden units are divided into shares so narrow that their sums stay
   in registers, and the rows that are added up in a core's own cache. A thread computes, updates
   and keeps the weights of the same shares in every step, and those of a share lie together: where
   two cores share no cache, a line that the other one wrote, or has merely prefetched, is dear.
   Of the last layer a thread has the same pixels in every step, and goes there and back with a few
   of them at a time. The gradients of both layers' weights are never stored: Adam takes them as
   they are summed.

   REAL is float or double, VECTOR the bytes of a vector, and `room` the batch rounded up to whole
   vectors. Arrays are contiguous; the last letter of a shape runs fastest:

     images  examples x pixels, bytes              index   batch
     of_example  batch x pixels                    in_example  batch, how many of them are used
     of_pixel    pixels x batch                    in_pixel    pixels, likewise
     first layer:  W, m, v  shares x pixels x units per share      h, d  batch x hidden
     last layer:   W, m, v  pixels x hidden                        h, d  hidden x room
                   p, s, total  pixels x room
*/
#include <stdint.h>
#include <string.h>
#include <tgmath.h>

typedef REAL real;
typedef int64_t size;
typedef real vec __attribute__((vector_size(VECTOR), aligned(sizeof(real)), may_alias));
typedef __typeof__(_Generic((real)0, float: (uint32_t)0, double: (uint64_t)0)) bits;

#define SIZES size shares, size batch, size room, size pixels, size hidden, int threads
#define INLINE static inline __attribute__((always_inline))

enum {
    LANES = sizeof(vec) / sizeof(real),
    MOST = 5,  /* vectors of a share's units */
    AHEAD = 4, /* images that are fetched before they are read */
    ROWS = 6, VECS = VECTOR == 64 ? 4 : 2, /* of a tile of sums, each in a register */
    TILE = VECS * LANES, CHUNK = 8 * ROWS, /* pixels whose weights stay near until updated */
    FAR = sizeof(real) == 4 ? 86 : 706 /* exp(-FAR) is still a normal number */
};

/* A pixel that is not 0: of a list of an example which it is, of a list of a pixel whose. */
typedef struct {
    int32_t index;
    real value;
} Entry;

/* out += sum of value * row, of as many vectors as `vecs`; the last one may overlap with others. */
INLINE void add_vecs(
    real *out, const real *rows, size stride, size width, const Entry *list, size count,
    const int vecs)
{
    size at[MOST];
    vec even[MOST], odd[MOST]; /* an addition takes as long as several begin in */
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

/* The same, of any width from LANES to MOST * LANES. */
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

/* List the bytes that are not 0, as intensities; runs of zeros are passed over by eights. */
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

/* h = max(W x + b, 0), where x = images / 255, of which both lists are made. */
void enter(
    const uint8_t *images, const size *index, const real *W, const real *b, real *h,
    Entry *of_example, size *in_example, Entry *of_pixel, size *in_pixel, SIZES)
{
    const size units = hidden / shares;
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
                images + index[n] * pixels, pixels, intensity, of_example + n * pixels);
        }
        #pragma omp for schedule(static) nowait
        for (size s = 0; s < shares; s++)
            for (size n = 0; n < batch; n++) {
                real *restrict out = h + n * hidden + s * units;
                for (size j = 0; j < units; j++)
                    out[j] = b[s * units + j];
                add_rows(
                    out, W + s * pixels * units, units, units, of_example + n * pixels,
                    in_example[n]);
                for (size j = 0; j < units; j++)
                    out[j] = out[j] < 0 ? 0 : out[j];
            }
        #pragma omp for schedule(static)
        for (int t = 0; t < threads; t++) {
            const size first = pixels * t / threads, end = pixels * (t + 1) / threads;
            for (size i = first; i < end; i++)
                in_pixel[i] = 0;
            for (size n = 0; n < batch; n++)
                for (size k = n * pixels; k < n * pixels + in_example[n]; k++) {
                    const size i = of_example[k].index;
                    if (first <= i && i < end)
                        of_pixel[i * batch + in_pixel[i]++] = (Entry){n, of_example[k].value};
                }
        }
    }
}

/* What a step of Adam multiplies by. */
typedef struct {
    real rise, decay, rise_sq, length, per_root, eps;
} Adam;

static inline Adam adam_after(const float *steps, const double rates[4])
{
    const double rate = rates[0], beta1 = rates[1], beta2 = rates[2];
    const double step = *steps + 1; /* which this one is; `conclude` counts it */
    return (Adam){1 - beta1, beta2, 1 - beta2, rate / (1 - pow(beta1, step)),
                  1 / sqrt(1 - pow(beta2, step)), rates[3]};
}

/* Move weights against their gradients. */
INLINE void descend(
    real *restrict w, real *restrict m, real *restrict v, const real *restrict g, size count,
    Adam by)
{
    for (size j = 0; j < count; j++) {
        m[j] += by.rise * (g[j] - m[j]);
        v[j] = by.decay * v[j] + by.rise_sq * g[j] * g[j];
        w[j] -= by.length * m[j] / (sqrt(v[j]) * by.per_root + by.eps);
    }
}

/* The derivative d by h becomes that by W x + b, summed in d_b, and W takes a step of Adam. */
void leave(
    const Entry *of_pixel, const size *in_pixel, const real *h, real *d, real *W, real *d_b,
    real *m, real *v, const float *steps, const double rates[4], SIZES)
{
    const size units = hidden / shares;
    const Adam by = adam_after(steps, rates);
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
            add_rows(g, d + s * units, hidden, units, of_pixel + i * batch, in_pixel[i]);
            const size row = (s * pixels + i) * units;
            descend(W + row, m + row, v + row, g, units, by);
        }
    }
}

/* out += a b, where out is a tile of `rows` x `vecs`, whose sums stay in registers. */
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

/* out += a b, of `rows` x `width`, a multiple of LANES; a[r][k] is at a + r * row + k * step. */
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

/* exp(x) of x in [-FAR, 0], by powers of two and Taylor's series. */
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

/* A row of eta becomes p = sigmoid(eta), and that the derivative p - x, whose sum is returned; s is
   multiplied by max(p, 1 - p) and total grows by max(eta, 0) - x eta. */
INLINE real score(
    const Entry *list, size count, real *restrict row, real *restrict s, real *restrict total,
    size batch)
{
    for (size k = 0; k < count; k++)
        total[list[k].index] -= list[k].value * row[list[k].index];
    #pragma omp simd
    for (size n = 0; n < batch; n++) {
        const real eta = row[n], near = eta < 0 ? eta : -eta;
        const real e = exponential(near < -FAR ? -FAR : near), larger = 1 / (1 + e);
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

/* Of the last layer, from h to its derivative d, rectified: eta = W h + b, its score and derivative
   p - x, summed in d_b, and a step of Adam. h_t is h transposed, of rows rounded up to whole
   vectors; parts are those of d that the threads' pixels add up to. */
void output(
    const Entry *of_pixel, const size *in_pixel, const real *h, real *d, real *h_t, real *parts,
    real *p, real *s, real *total, const real *b, real *d_b, real *W, real *m, real *v,
    const float *steps, const double rates[4], SIZES)
{
    const size wide = (hidden + LANES - 1) / LANES * LANES;
    const Adam by = adam_after(steps, rates);
    #pragma omp parallel num_threads(threads)
    {
        #pragma omp for schedule(static)
        for (size first = 0; first < wide; first += LANES)
            for (size n = 0; n < batch; n++)
                for (size j = first; j < first + LANES; j++)
                    h_t[n * wide + j] = j < hidden ? h[j * room + n] : 0;
        #pragma omp for schedule(static)
        for (int t = 0; t < threads; t++) {
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
                        of_pixel + i * batch, in_pixel[i], p + i * room, s + i * room,
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
            for (int t = 0; t < threads; t++)
                sum += parts[t * hidden * room + k];
            d[k] = h[k] > 0 ? sum : 0;
        }
    }
}

/* The parameters that are left take their step of Adam, and it is counted. */
void conclude(
    real *W, const real *g, real *m, real *v, float *steps, const double rates[4], size count)
{
    descend(W, m, v, g, count, adam_after(steps, rates));
    *steps += 1;
}
