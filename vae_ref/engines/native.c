/* What a step of training gains from a compiler: the layers next to the pixels, and the loss.

   Four fifths of the pixels of a digit are 0, and add nothing to the sums of the first layer: its
   products leave them out. The hidden units are divided into shares so narrow that their sums stay
   in registers, and the rows that are added up in a core's own cache. A thread computes, updates
   and keeps the weights of the same shares in every step, and those of a share lie together: where
   two cores share no cache, a line that the other one wrote, or has merely prefetched, is dear.
   The gradients of both layers' weights are never stored: Adam takes them as they are summed.

   REAL is float or double. Arrays are contiguous; the last letter of a shape runs fastest:

     images  examples x pixels, bytes      W, m, v  shares x pixels x units per share
     index   batch                         b        hidden = shares x units per share
     eta, p, s, total  pixels x batch      h, d     batch x hidden
     of_example  batch x pixels            in_example  batch, how many of them are used
     of_pixel    pixels x batch            in_pixel    pixels, likewise
*/
#include <stdint.h>
#include <string.h>
#include <tgmath.h>

typedef REAL real;
typedef int64_t size;
typedef real vec __attribute__((vector_size(32), aligned(sizeof(real)), may_alias));

#define INLINE static inline __attribute__((always_inline))

enum {
    LANES = sizeof(vec) / sizeof(real),
    MOST = 5,                   /* vectors of a share's units */
    AHEAD = 4,                  /* images that are fetched before they are read */
    ROWS = 6, WIDTH = 2 * LANES /* of a tile of sums, in twelve of sixteen registers */
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
    Entry *of_example, size *in_example, Entry *of_pixel, size *in_pixel,
    size shares, size batch, size pixels, size hidden, int threads)
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

/* p = sigmoid(eta) becomes the derivative p - x, summed in d_b; s is multiplied by max(p, 1 - p)
   and total grows by max(eta, 0) - x eta. */
void score(
    const Entry *of_pixel, const size *in_pixel, const real *eta, real *p, real *s, real *total,
    real *d_b, size batch, size pixels, int threads)
{
    #pragma omp parallel for schedule(static) num_threads(threads)
    for (size i = 0; i < pixels; i++) {
        real sum = 0;
        #pragma omp simd reduction(+ : sum)
        for (size k = i * batch; k < (i + 1) * batch; k++) {
            const real q = 1 - p[k];
            s[k] *= p[k] > q ? p[k] : q;
            total[k] += eta[k] > 0 ? eta[k] : 0;
            sum += p[k];
        }
        for (size k = i * batch; k < i * batch + in_pixel[i]; k++) {
            const size at = i * batch + of_pixel[k].index;
            p[at] -= of_pixel[k].value;
            total[at] -= of_pixel[k].value * eta[at];
            sum -= of_pixel[k].value;
        }
        d_b[i] = sum;
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
    real *restrict w, real *restrict m, real *restrict v, const real *restrict g, size count, Adam by)
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
    real *m, real *v, const float *steps, const double rates[4],
    size shares, size batch, size pixels, size hidden, int threads)
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

/* W takes a step of Adam along d h', where h is hidden x batch; it is copied into panels, hidden
   units by as many as two vectors hold, and a tile of sums remains in registers. */
void update(
    const real *d, const real *h, real *panels, real *W, real *m, real *v, const float *steps,
    const double rates[4], size batch, size pixels, size hidden, int threads)
{
    const Adam by = adam_after(steps, rates);
    const size wide = (hidden + WIDTH - 1) / WIDTH * WIDTH;
    #pragma omp parallel num_threads(threads)
    {
        #pragma omp for schedule(static)
        for (size first = 0; first < wide; first += WIDTH)
            for (size j = first; j < first + WIDTH; j++)
                for (size n = 0; n < batch; n++)
                    panels[first * batch + n * WIDTH + j - first] =
                        j < hidden ? h[j * batch + n] : 0;
        #pragma omp for schedule(static)
        for (size i = 0; i < pixels; i += ROWS) {
            const size some = least(ROWS, pixels - i);
            const real *rows[ROWS]; /* those that are missing from the last are its first again */
            for (size r = 0; r < ROWS; r++)
                rows[r] = d + (i + (r < some ? r : 0)) * batch;
            real g[ROWS][wide];
            for (size first = 0; first < wide; first += WIDTH) {
                const vec *panel = (const vec *)(panels + first * batch);
                vec left[ROWS], right[ROWS];
                for (int r = 0; r < ROWS; r++)
                    left[r] = right[r] = (vec){0};
                for (size n = 0; n < batch; n++) {
                    const vec a = panel[2 * n], b = panel[2 * n + 1];
                    for (int r = 0; r < ROWS; r++) {
                        left[r] += rows[r][n] * a;
                        right[r] += rows[r][n] * b;
                    }
                }
                for (int r = 0; r < ROWS; r++) {
                    *(vec *)(g[r] + first) = left[r];
                    *(vec *)(g[r] + first + LANES) = right[r];
                }
            }
            for (size r = 0, row = i * hidden; r < some; r++, row += hidden)
                descend(W + row, m + row, v + row, g[r], hidden, by);
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
