/* What a step of training gains from a compiler: the layer next to the pixels, and the loss.

   Four fifths of the pixels of a digit are 0, and add nothing to the sums of the first layer: its
   products leave them out. The hidden units are divided into shares. A thread computes, updates
   and keeps the weights of its share in its own cache, and those of a share lie together: where
   two cores share no cache, a line that the other one wrote, or has merely prefetched, is dear.

   REAL is float or double. Arrays are contiguous; the last letter of a shape runs fastest:

     images  examples x pixels, bytes      W, m, v  shares x pixels x units per share
     index   batch                         b        hidden = shares x units per share
     x, eta, p, s, total   pixels x batch  h, d     batch x hidden
*/
#include <stdint.h>
#include <tgmath.h>

typedef REAL real;
typedef int64_t size;

enum { MOST = 1024, BLOCK = 32 };

typedef struct {
    size count;
    int32_t index[MOST];
    real value[MOST];
} Nonzeros;

static inline void append(Nonzeros *list, size index, real value)
{
    list->index[list->count] = (int32_t)index;
    list->value[list->count] = value;
    list->count += value != 0; /* no branch, so no misprediction */
}

/* out += sum of value * row, over the rows that are not multiplied by 0. */
static inline void add_rows(
    real *restrict out, const real *restrict rows, size stride, size width, const Nonzeros *list)
{
    const int32_t *index = list->index;
    const real *value = list->value;
    size i = 0;
    for (; i + 4 <= list->count; i += 4) {
        const real *r0 = rows + index[i] * stride, *r1 = rows + index[i + 1] * stride;
        const real *r2 = rows + index[i + 2] * stride, *r3 = rows + index[i + 3] * stride;
        const real v0 = value[i], v1 = value[i + 1], v2 = value[i + 2], v3 = value[i + 3];
        for (size j = 0; j < width; j++)
            out[j] += (v0 * r0[j] + v1 * r1[j]) + (v2 * r2[j] + v3 * r3[j]);
    }
    for (; i < list->count; i++) {
        const real *row = rows + index[i] * stride, v = value[i];
        for (size j = 0; j < width; j++)
            out[j] += v * row[j];
    }
}

static inline size least(size a, size b) { return a < b ? a : b; }

/* x = images / 255 and h = max(W x + b, 0). */
void enter(
    const uint8_t *images, const size *index, const real *W, const real *b, real *x, real *h,
    size shares, size batch, size pixels, size hidden)
{
    const size units = hidden / shares;
    real intensity[256];
    for (int byte = 0; byte < 256; byte++)
        intensity[byte] = byte / (real)255;
    #pragma omp parallel num_threads(shares)
    {
        #pragma omp for schedule(static) nowait
        for (size s = 0; s < shares; s++)
            for (size n = 0; n < batch; n++) {
                const uint8_t *image = images + index[n] * pixels;
                real *restrict out = h + n * hidden + s * units;
                for (size j = 0; j < units; j++)
                    out[j] = b[s * units + j];
                for (size first = 0; first < pixels; first += MOST) {
                    Nonzeros list;
                    list.count = 0;
                    for (size i = first; i < least(first + MOST, pixels); i++)
                        append(&list, i, intensity[image[i]]);
                    add_rows(out, W + s * pixels * units, units, units, &list);
                }
                for (size j = 0; j < units; j++)
                    out[j] = out[j] < 0 ? 0 : out[j];
            }
        #pragma omp for schedule(static)
        for (size first = 0; first < pixels; first += BLOCK)
            for (size n = 0; n < batch; n++)
                for (size i = first; i < least(first + BLOCK, pixels); i++)
                    x[i * batch + n] = intensity[images[index[n] * pixels + i]];
    }
}

/* p = sigmoid(eta) becomes the derivative p - x, summed in d_b; s is multiplied by max(p, 1 - p)
   and total grows by max(eta, 0) - x eta. */
void score(
    const real *x, const real *eta, real *p, real *s, real *total, real *d_b,
    size shares, size batch, size pixels)
{
    #pragma omp parallel for schedule(static) num_threads(shares)
    for (size i = 0; i < pixels; i++) {
        real sum = 0;
        for (size k = i * batch; k < (i + 1) * batch; k++) {
            const real q = 1 - p[k], d = p[k] - x[k];
            s[k] *= p[k] > q ? p[k] : q;
            total[k] += (eta[k] > 0 ? eta[k] : 0) - x[k] * eta[k];
            p[k] = d;
            sum += d;
        }
        d_b[i] = sum;
    }
}

/* The derivative d by h becomes that by W x + b, summed in d_b, and W takes a step of Adam. */
void leave(
    const real *x, const real *h, real *d, real *W, real *d_b, real *m, real *v,
    const float *steps, const double rates[4], size shares, size batch, size pixels, size hidden)
{
    const size units = hidden / shares;
    const double rate = rates[0], beta1 = rates[1], beta2 = rates[2];
    const double step = *steps + 1; /* which this one is; the caller counts it */
    const real rise = 1 - beta1, decay = beta2, rise_sq = 1 - beta2, eps = rates[3];
    const real length = rate / (1 - pow(beta1, step)), root = sqrt(1 - pow(beta2, step));
    #pragma omp parallel for schedule(static) num_threads(shares)
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
            for (size first = 0; first < batch; first += MOST) {
                Nonzeros list;
                list.count = 0;
                for (size n = first; n < least(first + MOST, batch); n++)
                    append(&list, n, x[i * batch + n]);
                add_rows(g, d + s * units, hidden, units, &list);
            }
            const size row = (s * pixels + i) * units;
            real *restrict w = W + row, *restrict mean = m + row, *restrict square = v + row;
            for (size j = 0; j < units; j++) {
                mean[j] += rise * (g[j] - mean[j]);
                square[j] = decay * square[j] + rise_sq * g[j] * g[j];
                w[j] -= length * mean[j] / (sqrt(square[j]) / root + eps);
            }
        }
    }
}
