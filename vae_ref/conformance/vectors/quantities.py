"""The quantities of a VAE: the textbook's formula, its slopes, and a second way to each number.

Each is a sum over the last axis of a term of single numbers, or the term itself. The second way
shares no formula with the first: an integral of the density, a series, or another product.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import mpmath

from vae_ref.conformance.vectors.rounded import Rounded, exp, log, log1p, maximum, number, total

__all__ = ["QUANTITIES", "Quantity", "Term"]

Numbers = Sequence[Rounded]


@dataclass(frozen=True)
class Term:
    """What one place of the inputs adds to a quantity.

    Attributes:
        inputs: The names of the inputs.
        value: The textbook's formula, of one number of each input.
        slopes: The partial derivatives, by the name of the input.
        second: The value by another way, of numbers of mpmath.
    """

    inputs: tuple[str, ...]
    value: Callable[..., Rounded]
    slopes: dict[str, Callable[..., Rounded]]
    second: Callable[..., Any]


@dataclass(frozen=True)
class Quantity:
    """A quantity of the vectors.

    Attributes:
        name: Its name, which is that of its file.
        formula: What it is, in words and symbols.
        meanings: The inputs in their order, each with its shape and what it is.
        terms: Its terms; the quantity is the sum of them all.
        is_summed: Whether it is summed over the last axis: one value for each example.
        routes: The first and the second way, in words.
        rules: What its inputs must satisfy, beside being finite and of equal shapes.
        source: Where the formula is from.
    """

    name: str
    formula: str
    meanings: dict[str, str]
    terms: tuple[Term, ...]
    routes: tuple[str, str]
    source: str
    is_summed: bool = True
    rules: dict[str, tuple[float, float]] = field(default_factory=dict)


def half(x: Rounded) -> Rounded:
    return Rounded(x.value / 2, x.scale / 2)


def softplus(x: Rounded) -> Rounded:
    return maximum(x, 0) + log1p(exp(-Rounded(abs(x.value), x.scale)))


def sigmoid(x: Rounded) -> Rounded:
    return 1 / (1 + exp(-x))


# Integrals over the noise t of a Gaussian z = mu + sigma t, and over an interval.

_REACH, _STEPS = 22, 4
"""How far the trapezoidal rule goes, in standard deviations, and its steps in each of them.

Beyond 22 lies less than 1e-105 of a Gaussian. For a polynomial times a Gaussian, the error of a
step h is about exp(-2 (pi / h)^2), 1e-137 here (Trefethen and Weideman, The Exponentially
Convergent Trapezoidal Rule, 2014).
"""


def expectation(f: Callable[[Any], Any]) -> Any:
    """Return the mean of a function of standard normal noise, by the trapezoidal rule."""
    nodes = [mpmath.mpf(n) / _STEPS for n in range(-_REACH * _STEPS, _REACH * _STEPS + 1)]
    return mpmath.fsum(mpmath.npdf(t) * f(t) for t in nodes) / _STEPS


def log_density_of(z: Any, mu: Any, logvar: Any) -> Any:
    """Return the log density as the logarithm of the density, which no formula has simplified."""
    sigma = mpmath.sqrt(mpmath.exp(logvar))
    return mpmath.log(mpmath.npdf(z, mu, sigma))


def kl_by_quadrature(mu: Any, logvar: Any, mu_p: Any = 0, logvar_p: Any = 0) -> Any:
    """Return the integral of q (log q - log p)."""
    sigma = mpmath.exp(logvar / 2)

    def difference(t: Any) -> Any:
        z = mu + sigma * t
        return log_density_of(z, mu, logvar) - log_density_of(z, mu_p, logvar_p)

    return expectation(difference)


def density_by_slope(z: Any, mu: Any, logvar: Any) -> Any:
    """Return the log density as the slope of the distribution function, a numerical derivative."""
    sigma = mpmath.sqrt(mpmath.exp(logvar))
    with mpmath.workdps(4 * mpmath.mp.dps):
        side = -abs((mpmath.mpf(z) - mu) / sigma)  # where the function is small, no digit is lost
        slope = mpmath.diff(mpmath.ncdf, side)
    return mpmath.log(slope / sigma)


def entropy_by_quadrature(logvar: Any) -> Any:
    """Return the integral of -q log q."""
    sigma = mpmath.exp(logvar / 2)
    return expectation(lambda t: -log_density_of(sigma * t, 0, logvar))


def exp_by_series(x: Any) -> Any:
    """Return the exponential from its power series in rational numbers."""
    exact = Fraction(*mpmath.libmp.to_rational(mpmath.mpf(x)._mpf_))
    small = abs(exact) / 1024
    term, found, n = Fraction(1), Fraction(1), 0
    while term > Fraction(1, 10 ** (mpmath.mp.dps + 20)):
        n += 1
        term = term * small / n
        found += term
    root = mpmath.mpf(found.numerator) / found.denominator
    grown = root**1024
    return grown if exact >= 0 else 1 / grown


def softplus_by_quadrature(x: Any) -> Any:
    """Return log 2 plus the integral of the sigmoid from 0; for large |x| of its small tail."""
    size = abs(x)
    tail = mpmath.quad(lambda t: 1 / (1 + mpmath.exp(t)), [size, size + 8, size + 40, mpmath.inf])
    return tail + (x if x > 0 else 0)


def log_by_quadrature(p: Any) -> Any:
    """Return the logarithm as the integral of 1 / t, of a number between 1/2 and 1 times 2^n."""
    mantissa, power = mpmath.frexp(p)
    log2 = mpmath.quad(lambda t: 1 / t, [1, 2])
    return power * log2 - mpmath.quad(lambda t: 1 / t, [mantissa, 1])


def log_normaliser_by_quadrature(eta: Any) -> Any:
    """Return log C, where 1 / C is the integral over [0, 1] of the cross-entropy's density."""
    size = abs(eta)  # x -> 1 - x
    ends = [0, *(mpmath.mpf(2) ** n / (1 + size) for n in range(8)), 1]
    inside = sorted({end for end in ends if end <= 1})
    integral = mpmath.quad(lambda x: mpmath.exp(-size * x), inside)
    return mpmath.log1p(mpmath.exp(-size)) - mpmath.log(integral)


# The terms.


def _kl(mu: Rounded, logvar: Rounded) -> Rounded:
    return half(mu * mu + exp(logvar) - 1 - logvar)


def _kl_between(mu: Rounded, logvar: Rounded, mu_p: Rounded, logvar_p: Rounded) -> Rounded:
    d = mu - mu_p
    return half(logvar_p - logvar + exp(logvar - logvar_p) + d * d / exp(logvar_p) - 1)


def _over_variance(mu: Rounded, mu_p: Rounded, logvar_p: Rounded) -> Rounded:
    return (mu - mu_p) / exp(logvar_p)


def _log_2pi() -> Rounded:
    return log(number(2 * mpmath.pi))


def _log_density(z: Rounded, mu: Rounded, logvar: Rounded) -> Rounded:
    d = z - mu
    return -half(d * d / exp(logvar) + logvar + _log_2pi())


KL = Term(
    ("mu", "logvar"),
    _kl,
    {"mu": lambda mu, logvar: mu, "logvar": lambda mu, logvar: half(exp(logvar) - 1)},
    kl_by_quadrature,
)
KL_BETWEEN = Term(
    ("mu", "logvar", "mu_p", "logvar_p"),
    _kl_between,
    {
        "mu": lambda m, v, n, w: _over_variance(m, n, w),
        "logvar": lambda m, v, n, w: half(exp(v - w) - 1),
        "mu_p": lambda m, v, n, w: -_over_variance(m, n, w),
        "logvar_p": lambda m, v, n, w: half(1 - exp(v - w) - (m - n) * _over_variance(m, n, w)),
    },
    kl_by_quadrature,
)
LOG_DENSITY = Term(
    ("z", "mu", "logvar"),
    _log_density,
    {
        "z": lambda z, m, v: -_over_variance(z, m, v),
        "mu": _over_variance,
        "logvar": lambda z, m, v: half((z - m) * _over_variance(z, m, v) - 1),
    },
    density_by_slope,
)
ENTROPY = Term(
    ("logvar",),
    lambda v: half(v + _log_2pi() + 1),
    {"logvar": lambda v: number(0.5)},
    entropy_by_quadrature,
)
DRAW = Term(
    ("mu", "logvar", "eps"),
    lambda m, v, e: m + e * exp(half(v)),
    {
        "mu": lambda m, v, e: number(1),
        "logvar": lambda m, v, e: half(e * exp(half(v))),
        "eps": lambda m, v, e: exp(half(v)),
    },
    lambda m, v, e: m + e * mpmath.sqrt(exp_by_series(v)),
)
BERNOULLI = Term(
    ("logits", "x"),
    lambda a, x: softplus(a) - x * a,
    {"logits": lambda a, x: sigmoid(a) - x},
    lambda a, x: softplus_by_quadrature(a) - x * a,
)
PROBABILITIES = Term(
    ("p", "x"),
    lambda p, x: -(x * log(p) + (1 - x) * log(1 - p)),
    {"p": lambda p, x: (1 - x) / (1 - p) - x / p},
    lambda p, x: -(x * log_by_quadrature(p) + (1 - x) * log_by_quadrature(1 - p)),
)
GAUSSIAN = Term(
    ("mean", "logvar", "x"),
    lambda m, v, x: -_log_density(x, m, v),
    {
        "mean": lambda m, v, x: _over_variance(m, x, v),
        "logvar": lambda m, v, x: half(1 - (x - m) * _over_variance(x, m, v)),
    },
    lambda m, v, x: -density_by_slope(x, m, v),
)


_NEAR, _ERRORS = 0.5, 4
"""Where a formula loses digits, a series is what is expected: it loses a few roundings of 1."""


def _as_by_series(a: Rounded, found: Rounded) -> Rounded:
    return Rounded(found.value, _ERRORS) if abs(a.value) < _NEAR else found


def _log_normaliser(a: Rounded) -> Rounded:
    if not a.value:
        return Rounded(mpmath.log(2), _ERRORS)
    return _as_by_series(a, log(a / ((exp(a) - 1) / (exp(a) + 1))))


def _mean(a: Rounded) -> Rounded:
    if not a.value:
        return Rounded(0.5, _ERRORS)
    return _as_by_series(a, 1 / (1 - exp(-a)) - 1 / a)


CONTINUOUS = Term(
    ("logits", "x"),
    lambda a, x: softplus(a) - x * a - _log_normaliser(a),
    {"logits": lambda a, x: _mean(a) - x},
    lambda a, x: softplus_by_quadrature(a) - x * a - log_normaliser_by_quadrature(a),
)
NORMALISER = Term(
    ("logits",),
    _log_normaliser,
    {"logits": lambda a: sigmoid(a) - _mean(a)},
    log_normaliser_by_quadrature,
)


def bound(log_w: Numbers) -> Rounded:
    """Return the log of the mean of the weights of one example."""
    most = number(max(w.value for w in log_w))
    return most + log(total(exp(w - most) for w in log_w)) - log(number(len(log_w)))


def bound_slopes(log_w: Numbers) -> list[Rounded]:
    """Return the normalised weights, as the exponentials of normalised log weights."""
    whole = bound(log_w) + log(number(len(log_w)))
    return [exp(w - whole) for w in log_w]


def bound_by_pairs(log_w: Sequence[Any]) -> Any:
    """Return the bound by adding one weight after the other to the log of their sum."""
    found = log_w[0]
    for w in log_w[1:]:
        found += mpmath.log1p(mpmath.exp(w - found))
    return found + log_by_quadrature(mpmath.mpf(1) / len(log_w))


_UNIT = (0.0, 1.0)
_KL_SOURCE = "Kingma and Welling 2014, appendix B"
_CODES = "(n, d), the codes of n examples: "
_INTEGRAL = "the trapezoidal rule for q (log q - log p), each the log of a density"

QUANTITIES = {
    q.name: q
    for q in (
        Quantity(
            "kl-to-standard-normal",
            "KL(N(mu, sigma^2) || N(0, I)) = 1/2 sum_d (mu^2 + sigma^2 - log sigma^2 - 1)",
            {"mu": f"{_CODES}means", "logvar": f"{_CODES}log sigma^2"},
            (KL,),
            ("the closed form", _INTEGRAL),
            _KL_SOURCE,
        ),
        Quantity(
            "kl-between-gaussians",
            "KL(N(mu, sigma^2) || N(mu_p, sigma_p^2)), diagonal, summed over d",
            {
                "mu": f"{_CODES}means of q",
                "logvar": f"{_CODES}log variances of q",
                "mu_p": f"{_CODES}means of p",
                "logvar_p": f"{_CODES}log variances of p",
            },
            (KL_BETWEEN,),
            ("the closed form", _INTEGRAL),
            "Kullback and Leibler 1951",
        ),
        Quantity(
            "log-density",
            "log N(z; mu, sigma^2) = -1/2 sum_d ((z - mu)^2 / sigma^2 + log sigma^2 + log 2 pi)",
            {
                "z": f"{_CODES}points",
                "mu": f"{_CODES}means",
                "logvar": f"{_CODES}log sigma^2",
            },
            (LOG_DENSITY,),
            ("the closed form", "a numerical derivative of the distribution function"),
            _KL_SOURCE,
        ),
        Quantity(
            "entropy",
            "H(N(mu, sigma^2)) = 1/2 sum_d (log sigma^2 + log 2 pi + 1)",
            {"logvar": f"{_CODES}log sigma^2"},
            (ENTROPY,),
            ("the closed form", "the trapezoidal rule for -q log q"),
            _KL_SOURCE,
        ),
        Quantity(
            "reparameterization",
            "z = mu + eps sigma, sigma = exp(logvar / 2)",
            {
                "mu": f"{_CODES}means",
                "logvar": f"{_CODES}log sigma^2",
                "eps": f"{_CODES}noise",
            },
            (DRAW,),
            ("the exponential of half of logvar", "the root of a power series of logvar"),
            "Kingma and Welling 2014, section 2.4",
            is_summed=False,
        ),
        Quantity(
            "bernoulli-from-logits",
            "-log p(x | logits) = sum_i log(1 + exp(a_i)) - x_i a_i",
            {"logits": "(n, pixels), outputs before the sigmoid", "x": "(n, pixels), in [0, 1]"},
            (BERNOULLI,),
            ("the closed form", "tanh-sinh quadrature of the sigmoid"),
            "Kingma and Welling 2014, appendix C.1",
            rules={"x": _UNIT},
        ),
        Quantity(
            "bernoulli-from-probabilities",
            "-log p(x | p) = -sum_i (x_i log p_i + (1 - x_i) log(1 - p_i))",
            {"p": "(n, pixels), in (0, 1)", "x": "(n, pixels), in [0, 1]"},
            (PROBABILITIES,),
            ("the closed form", "tanh-sinh quadrature of 1 / t"),
            "Kingma and Welling 2014, appendix C.1",
            rules={"p": _UNIT, "x": _UNIT},
        ),
        Quantity(
            "gaussian",
            "-log N(x; mean, sigma^2) = 1/2 sum_i ((x - mean)^2 / sigma^2 + log 2 pi sigma^2)",
            {
                "mean": "(n, pixels), outputs",
                "logvar": "(n, pixels), log sigma^2 of each pixel",
                "x": "(n, pixels)",
            },
            (GAUSSIAN,),
            ("the closed form", "a numerical derivative of the distribution function"),
            "Kingma and Welling 2014, appendix C.2",
        ),
        Quantity(
            "continuous-bernoulli",
            "-log p(x | a) = sum_i log(1 + exp(a_i)) - x_i a_i - log C(a_i)",
            {"logits": "(n, pixels), outputs a", "x": "(n, pixels), in [0, 1]"},
            (CONTINUOUS,),
            ("the closed form", "tanh-sinh quadrature of the sigmoid, and of 1 / C"),
            "Loaiza-Ganem and Cunningham 2019",
            rules={"x": _UNIT},
        ),
        Quantity(
            "continuous-bernoulli-normaliser",
            "log C(a) = log(a / tanh(a / 2)), log 2 at 0",
            {"logits": "(n, pixels), outputs a"},
            (NORMALISER,),
            ("the closed form", "tanh-sinh quadrature of 1 / C over [0, 1]"),
            "Loaiza-Ganem and Cunningham 2019",
            is_summed=False,
        ),
        Quantity(
            "negative-elbo",
            "-log p(x | logits) + KL(N(mu, sigma^2) || N(0, I)), for each example",
            {
                "logits": "(n, pixels), outputs before the sigmoid at one draw of z",
                "x": "(n, pixels), in [0, 1]",
                "mu": f"{_CODES}means",
                "logvar": f"{_CODES}log sigma^2",
            },
            (BERNOULLI, KL),
            ("the closed forms", "the integrals of both terms"),
            "Kingma and Welling 2014, equation 7",
            rules={"x": _UNIT},
        ),
    )
}
"""All but the bound of several draws, whose numbers do not stand alone."""
