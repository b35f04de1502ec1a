/* Correctly rounded answers of functions of one float, and the errors of others' answers.

   Every function is computed in double with a relative error far below 2^-45 (`BOUND`): its
   parts are right to a few 2^-53, and no subtraction magnifies an error more than tenfold. If all
   numbers within the bound round to the same float, that is the answer. If not, the function is
   computed again in quadruple precision (Ziv's test). That decides; where even that is too coarse, it keeps a
   sign (STICKY). The tests hold the answers to mpmath, bit for bit.

   The loops have no branches, so that a compiler makes them vectors of doubles. */

#include <math.h>
#include <quadmath.h>
#include <stdint.h>
#include <string.h>

#define BOUND 0x1p-45
#define BLOCK 256
#define INLINE static inline __attribute__((always_inline))

/* The order is that of FUNCTIONS in exact.py. */
enum { KL_LOGVAR, KL_MU, BLACK_LOGITS, WHITE_LOGITS, BLACK_PROBS, WHITE_PROBS, NORMALISER, SIGMA };

typedef struct {
    int64_t inputs, not_rounded, over_1_ulp, exceptional;
    double worst;                   /* the largest error, in ulp, of the inputs that are none */
    float worst_at, exceptional_at; /* the first such input */
} Tally;

INLINE double of_bits(uint64_t bits) { double x; memcpy(&x, &bits, 8); return x; }
INLINE uint64_t to_bits(double x) { uint64_t bits; memcpy(&bits, &x, 8); return bits; }

/* exp(x) and exp(x) - 1. From |x| = 200 on, they stay what they are there, which is out of the
   range of floats, or -1. */
INLINE double exponential(double x, double *minus_1)
{
    const double shift = 0x1.8p52;
    x = x < -200 ? -200 : x > 200 ? 200 : x;
    double shifted = x * 0x1.71547652b82fep0 + shift, k = shifted - shift;
    double r = x - k * 0x1.62e42fefa38p-1 - k * 0x1.ef35793c7673p-45, q = 1;
#pragma GCC unroll 16
    for (int n = 16; n > 1; n--)
        q = 1 + r * (1.0 / n) * q;
    double power = of_bits((to_bits(shifted) - to_bits(shift) + 1023) << 52);
    *minus_1 = power * (r * q) + (power - 1);
    return power * (r * q) + power;
}

/* 2 artanh(s), for |s| <= 1/3. */
INLINE double twice_artanh(double s)
{
    double t = s * s, sum = 1.0 / 35;
#pragma GCC unroll 17
    for (int n = 33; n > 0; n -= 2)
        sum = sum * t + 1.0 / n;
    return 2 * s * sum;
}

/* log(x), for x >= 0. If rest is not 0, x is 1 + rest, rounded. */
INLINE double logarithm(double x, double rest)
{
    uint64_t above = to_bits(x) + (0x3ff0000000000000 - 0x3fe6a09e667f3bcd);
    double k = of_bits(0x4330000000000000 | above >> 52) - (0x1p52 + 1023);
    double m = of_bits((above & 0xfffffffffffff) + 0x3fe6a09e667f3bcd);
    rest = rest == 0 || k != 0 ? m - 1 : rest;
    double found = k * 0x1.62e42fefa39efp-1 + twice_artanh(rest / (2 + rest));
    return x == 0 ? -INFINITY : found;
}

INLINE void kl_by_logvar(double l, double *value, double *derivative)
{
    double minus_1, series = 1;
    exponential(l, &minus_1);
#pragma GCC unroll 18
    for (int n = 18; n > 2; n--)
        series = 1 + l * (1.0 / n) * series;
    double far = l > 100 ? minus_1 : minus_1 - l;
    *value = 0.5 * (fabs(l) < 0.5 ? 0.5 * l * l * series : far);
    *derivative = 0.5 * minus_1;
}

INLINE void kl_by_mu(double mu, double *value, double *derivative)
{
    *value = 0.5 * mu * mu;
    *derivative = mu;
}

INLINE void softplus(double l, double *value, double *derivative)
{
    double unused, e = exponential(-fabs(l), &unused);
    *value = (l > 0 ? l : 0) + twice_artanh(e / (2 + e));
    *derivative = (l < 0 ? e : 1) / (1 + e);
}

INLINE void softplus_of_minus(double l, double *value, double *derivative)
{
    softplus(-l, value, derivative);
    *derivative = -*derivative;
}

INLINE void minus_log_1_minus(double p, double *value, double *derivative)
{
    *value = -logarithm(1 - p, -p);
    *derivative = 1 / (1 - p);
}

INLINE void minus_log(double p, double *value, double *derivative)
{
    *value = -logarithm(p, 0);
    *derivative = -1 / p;
}

/* B_2n / (2n)!, from n = 1 on; the series converge for |eta| < 2 pi, and are used below 1. */
static const double BERNOULLI[] = {
    1.0 / 12, -1.0 / 720, 1.0 / 30240, -1.0 / 1209600, 1.0 / 47900160,
    -691.0 / 1307674368000, 1.0 / 74724249600, -3617.0 / 10670622842880000,
    43867.0 / 5109094217170944000, -174611.0 / 802857662698291200000.0,
};

INLINE void log_normaliser(double eta, double *value, double *derivative)
{
    double a = fabs(eta), t = eta * eta, even = 0, odd = 0, minus_1;
#pragma GCC unroll 10
    for (int n = 10; n > 0; n--) {
        odd = odd * t + BERNOULLI[n - 1];
        even = even * t + BERNOULLI[n - 1] / (2 * n);
    }
    double e = exponential(-a, &minus_1), tail = 1 / a + e / minus_1;
    double below = logarithm(-minus_1 / a, 0), above = eta > 1e30 ? eta : eta + below;
    *value = a < 1 ? 0.5 * eta + t * even : eta < 0 ? below : above;
    *derivative = a < 1 ? 0.5 + eta * odd : eta < 0 ? tail : 1 - tail;
}

INLINE void sigma(double l, double *value, double *derivative)
{
    double unused;
    *value = exponential(0.5 * l, &unused);
    *derivative = 0.5 * *value;
}

/* STICKY: what is added to a number may be too small to be seen next to it. If that number is in the
   middle of two floats, or a power of two, below which an ulp is smaller, its sign still matters.
   Any number of this sign that is small enough says the same as the true one. */
#define STICKY 0x1p-100Q

static __float128 at_least(__float128 smallest, __float128 x)
{
    return x == 0 ? x : copysignq(fmaxq(fabsq(x), smallest), x);
}

static __float128 value_of(int which, __float128 x)
{
    __float128 size = fabsq(x), t = x * x, rest;
    switch (which) {
    case KL_LOGVAR:
        if (size < 0x1p-20)
            return t / 4 * (1 + x / 3 + t / 12 + t * x / 60 + t * t / 360);
        return x < -50 ? (-1 - x + fmaxq(expq(x), size * STICKY)) / 2 : (expm1q(x) - x) / 2;
    case KL_MU:
        return t / 2;
    case WHITE_LOGITS:
        return value_of(BLACK_LOGITS, -x);
    case BLACK_LOGITS:
        rest = log1pq(expq(-size));
        return x > 0 ? x + fmaxq(rest, x * STICKY) : rest;
    case BLACK_PROBS:
        return -log1pq(-x);
    case WHITE_PROBS:
        return -logq(x);
    case NORMALISER:
        if (size < STICKY)
            return x / 2 + size * STICKY;
        if (size < 0x1p-10)
            return x / 2 + t / 24 - t * t / 2880 + t * t * t / 181440;
        return fmaxq(x, 0) + logq(-expm1q(-size) / size);
    default: /* SIGMA */
        return x < -1 ? expq(x / 2) : 1 + at_least(STICKY, expm1q(x / 2));
    }
}

static __float128 derivative_of(int which, __float128 x)
{
    __float128 size = fabsq(x), t = x * x, e, tail;
    switch (which) {
    case KL_LOGVAR:
        if (size < STICKY)
            return x / 2 + size * STICKY;
        return x < -50 ? (fmaxq(expq(x), STICKY) - 1) / 2 : expm1q(x) / 2;
    case KL_MU:
        return x;
    case WHITE_LOGITS:
        return -derivative_of(BLACK_LOGITS, -x);
    case BLACK_LOGITS:
        if (size < 1)
            return 0.5Q + at_least(STICKY, tanhq(x / 2) / 2);
        e = expq(-size);
        return x < 0 ? e / (1 + e) : 1 / (1 + fmaxq(e, STICKY));
    case BLACK_PROBS:
        return 1 / (1 - x);
    case WHITE_PROBS:
        return -1 / x;
    case NORMALISER:
        if (size < 0x1p-10)
            return 0.5Q + at_least(STICKY, x / 12)
                              * (1 - t / 60 + t * t / 2520 - t * t * t / 100800);
        tail = 1 / size - at_least(STICKY / size, 1 / expm1q(size));
        return x < 0 ? tail : 1 - fmaxq(tail, STICKY);
    default: /* SIGMA */
        return value_of(SIGMA, x) / 2;
    }
}

static __float128 one_of(int which, int is_derivative, float x)
{
    return is_derivative ? derivative_of(which, x) : value_of(which, x);
}

/* Round n answers; return how many took quadruple precision. */
static int64_t rounded(int which, int is_derivative, int64_t n, const float *x, double *y, float *r)
{
    int64_t again = 0;
    int open[BLOCK], any = 0;
    for (int64_t i = 0; i < n; i++) {
        float low = y[i] * (1 - BOUND), high = y[i] * (1 + BOUND);
        r[i] = low;
        open[i] = low < high || low > high; /* not if it is NaN */
        any |= open[i];
    }
    for (int64_t i = 0; any && i < n; i++)
        if (open[i]) {
            __float128 answer = one_of(which, is_derivative, x[i]);
            r[i] = answer;
            y[i] = answer;
            again++;
        }
    return again;
}

/* Compute a function for the floats with the bits start, start + stride, ...: the inputs, values
   and derivatives as doubles, and both correctly rounded. Return the number of hard answers. */
int64_t answers(int which, uint32_t start, uint32_t stride, int64_t n, float *x, double *value,
                double *derivative, float *rounded_value, float *rounded_derivative)
{
    int64_t again = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = start + stride * (uint32_t)i;
        memcpy(x + i, &bits, 4);
    }
    for (int64_t at = 0; at < n; at += BLOCK) {
        int64_t m = n - at < BLOCK ? n - at : BLOCK;
        float *xs = x + at;
        double v[BLOCK], d[BLOCK];
#define CASE(name, function) \
    case name: \
        for (int64_t i = 0; i < m; i++) \
            function(xs[i], v + i, d + i); \
        break;
        switch (which) {
            CASE(KL_LOGVAR, kl_by_logvar)
            CASE(KL_MU, kl_by_mu)
            CASE(BLACK_LOGITS, softplus)
            CASE(WHITE_LOGITS, softplus_of_minus)
            CASE(BLACK_PROBS, minus_log_1_minus)
            CASE(WHITE_PROBS, minus_log)
            CASE(NORMALISER, log_normaliser)
            CASE(SIGMA, sigma)
        }
        again += rounded(which, 0, m, xs, v, rounded_value + at);
        again += rounded(which, 1, m, xs, d, rounded_derivative + at);
        memcpy(value + at, v, m * sizeof *v);
        memcpy(derivative + at, d, m * sizeof *d);
    }
    return again;
}

/* The ulp of floats at y: the distance of the two floats around it, 2^-149 for the smallest. */
INLINE double ulp(double y)
{
    int64_t exponent = (int64_t)(to_bits(y) >> 52 & 0x7ff) - 1023;
    return of_bits((uint64_t)((exponent < -126 ? -126 : exponent) - 23 + 1023) << 52);
}

/* Return the error in ulp, and whether it exceeds 1. Where the double does not say that, or which
   ulp it is, the quadruple does. */
static double error_of(int which, int is_derivative, float x, float computed, double y, int *over)
{
    double unit = ulp(y), error = fabs(computed - y) / unit;
    *over = error > 1;
    if (fabs(error - 1) > 0x1p-18 && ulp(y * (1 - BOUND)) == unit && ulp(y * (1 + BOUND)) == unit)
        return error;
    __float128 answer = one_of(which, is_derivative, x);
    double near = answer;
    if (fabsq(answer) < fabs(near)) /* below a power of two the ulp is half of that above it */
        near = nextafter(near, 0);
    __float128 exact = fabsq(computed - answer) / ulp(near);
    *over = exact > 1;
    return exact;
}

/* Add n answers to a tally. Where an answer or the right one is infinite or NaN, they have to be
   the same; where they are not, the input is exceptional, and has no error in ulp. */
void tally(int which, int is_derivative, int64_t n, const float *x, const float *computed,
           const double *y, const float *right, Tally *t)
{
    t->inputs += n;
    for (int64_t i = 0; i < n; i++) {
        float c = computed[i], r = right[i];
        if (c == r || (c != c && r != r)) {
            double error = isfinite(r) ? fabs(c - y[i]) / ulp(y[i]) : 0;
            if (error > t->worst) {
                t->worst = error;
                t->worst_at = x[i];
            }
            continue;
        }
        t->not_rounded++;
        if (!isfinite(c) || !isfinite(r)) {
            if (!t->exceptional++)
                t->exceptional_at = x[i];
            continue;
        }
        int over;
        double error = error_of(which, is_derivative, x[i], c, y[i], &over);
        t->over_1_ulp += over;
        if (error > t->worst) {
            t->worst = error;
            t->worst_at = x[i];
        }
    }
}
