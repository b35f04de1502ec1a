"""Exact tests of samples against N(0, 1), and how many draws they need.

Every test returns a p-value whose distribution under the null hypothesis is known, or bounded
from above; nothing here is asymptotic. With the number of draws that is computed here, a test at
level alpha finds its declared discrepancy with probability `POWER`. False alarms and power are
measured, at an inflated level, in tests/conformance/test_statistics.py.

The functions are those of ``scipy.special``, because ``scipy.stats`` takes a second to import.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special

__all__ = [
    "POWER",
    "chi_square",
    "correlation",
    "draws_for_correlation",
    "draws_for_mean",
    "draws_for_score",
    "draws_for_sigma",
    "equal_means",
    "kl_monte_carlo",
    "kolmogorov_smirnov",
    "legendre",
    "legendre_bound",
    "mean",
    "normal_quantile",
    "score",
    "student_quantile",
    "tails",
    "uniform",
]

POWER = 1 - 1e-6
"""The probability with which a test finds the discrepancy that it declares."""

Sample = NDArray[np.float64]


def normal_quantile(tail: float) -> float:
    """Return the value that a standard normal number exceeds with this probability."""
    return float(-special.ndtri(tail))


def student_quantile(tail: float, degrees: int) -> float:
    """Return the value that a number from a t distribution exceeds with this probability."""
    return float(-special.stdtrit(degrees, tail))


def _standard_errors(alpha: float, power: float) -> float:
    """Return how many standard errors a discrepancy must have to be found."""
    return normal_quantile(alpha / 2) + normal_quantile(1 - power)


def mean(sample: Sample) -> float:
    """Test E[eps] = 0: the mean of n standard normal numbers is N(0, 1/n), exactly."""
    return float(2 * special.ndtr(-abs(sample.mean()) * math.sqrt(sample.size)))


def draws_for_mean(shift: float, alpha: float, power: float = POWER) -> int:
    """Return how many draws find a mean that is wrong by ``shift`` standard deviations."""
    return math.ceil((_standard_errors(alpha, power) / shift) ** 2)


def chi_square(sample: Sample) -> float:
    """Test E[eps^2] = 1: the sum of n squares is chi-square with n degrees, exactly."""
    n, squares = sample.size, float((sample**2).sum())
    return _two_sided(special.chdtr(n, squares), special.chdtrc(n, squares))


def draws_for_sigma(ratio: float, alpha: float, power: float = POWER) -> int:
    """Return how many draws find a standard deviation that is wrong by a factor of ``ratio``.

    By the normal approximation of the chi-square distribution, with its variance under either
    hypothesis; 5 % are added because it is an approximation.
    """
    variance = ratio**2
    reach = normal_quantile(alpha / 2) + variance * normal_quantile(1 - power)
    return math.ceil(1.05 * 2 * (reach / (variance - 1)) ** 2)


def correlation(a: Sample, b: Sample) -> float:
    """Test that pairs are uncorrelated, by the exact t distribution of their correlation."""
    n = a.size
    r = float(np.corrcoef(a.ravel(), b.ravel())[0, 1])
    if not abs(r) < 1:  # constant, or copies of each other
        return 0.0
    return float(2 * special.stdtr(n - 2, -abs(r) * math.sqrt((n - 2) / (1 - r * r))))


def draws_for_correlation(r: float, alpha: float, power: float = POWER) -> int:
    """Return how many pairs find a correlation of ``r``, by Fisher's transformation."""
    return 3 + math.ceil((_standard_errors(alpha, power) / math.atanh(r)) ** 2)


def equal_means(groups: Sample) -> float:
    """Test that groups have one mean, by the exact F distribution of the ratio of variances.

    Only means that differ more than they should count.

    Args:
        groups: A group of normal numbers of one variance in each row.
    """
    count, size = groups.shape
    between = size * groups.mean(1).var(ddof=1)
    within = groups.var(axis=1, ddof=1).mean()
    if not within > 0:
        return float(between == 0)
    return float(special.fdtrc(count - 1, count * (size - 1), between / within))


def legendre(sample: Sample, degree: int) -> Sample:
    """Return the scores of Neyman's smooth test: their mean is 0, their variance 1.

    sqrt(2k + 1) P_k(2 Phi(eps) - 1): the mean score of degree 3 changes with the skewness, that
    of degree 4 with the fourth moment.
    """
    coefficients = [0.0] * degree + [math.sqrt(2 * degree + 1)]
    values = np.polynomial.legendre.legval(2 * special.ndtr(sample) - 1, coefficients)
    return np.asarray(values)


def legendre_bound(degree: int) -> float:
    """Return the largest score that `legendre` can return: sqrt(2k + 1)."""
    return math.sqrt(2 * degree + 1)


def score(values: Sample, bound: float) -> float:
    """Test E[s] = 0 for bounded scores of variance 1, by Bernstein's inequality.

    P(|mean| >= t) <= 2 exp(-n t^2 / (2 + 2 bound t / 3)), for every n.
    """
    n, t = values.size, abs(float(values.mean()))
    if not math.isfinite(t):
        return 0.0
    return min(1.0, 2 * math.exp(-n * t * t / (2 + 2 * bound * t / 3)))


def draws_for_score(shift: float, bound: float, alpha: float, power: float = POWER) -> int:
    """Return how many draws find a mean score of ``shift``."""
    # Solve n t^2 = L (2 + 2 bound t / 3) for t, the critical mean. Under the alternative the
    # variance of a score is not 1; it is taken to be 2.
    log = math.log(2 / alpha)
    n = 1.0
    for _ in range(200):
        critical = log * bound / (3 * n) + math.sqrt((log * bound / (3 * n)) ** 2 + 2 * log / n)
        if critical + math.sqrt(2) * normal_quantile(1 - power) / math.sqrt(n) < shift:
            break
        n *= 1.15
    return math.ceil(n)


def tails(sample: Sample, beyond: float = 3.0) -> float:
    """Test P(|eps| > beyond): the count is binomial, exactly."""
    n, p, count = sample.size, 2 * special.ndtr(-beyond), int((np.abs(sample) > beyond).sum())
    above = special.bdtrc(count - 1, n, p) if count else 1.0
    return _two_sided(special.bdtr(count, n, p), above)


def kolmogorov_smirnov(sample: Sample) -> float:
    """Test the whole distribution function: any deviation counts, but only large ones are found.

    P(D >= d) <= 2 exp(-2 n d^2), for every n (Massart 1990): nearly an equality where it is small.
    """
    cdf, n = special.ndtr(np.sort(sample, axis=None)), sample.size
    above, below = np.arange(1, n + 1) / n - cdf, cdf - np.arange(n) / n
    d = float(max(above.max(), below.max()))
    return min(1.0, 2 * math.exp(-2 * n * d * d)) if math.isfinite(d) else 0.0


def uniform(sample: Sample) -> float:
    """Test draws that should be uniform on [0, 1], by their largest deviation from it."""
    return kolmogorov_smirnov(special.ndtri(np.clip(sample, 0, 1)))


def kl_monte_carlo(
    mu: Sample, logvar: float, value: float, n: int, generator: torch.Generator
) -> tuple[float, float]:
    """Test that E_q[log q - log p] is ``value``; return the p-value and the estimate.

    With eps standard normal, log q(z) - log p(z) = sum_d a eps_d^2 + b_d eps_d + c_d, where
    a = (sigma^2 - 1) / 2, b = mu sigma and c = mu^2 / 2 - log sigma. Complete the square: the sum
    over draws is a times a noncentral chi-square number, plus a constant. So its distribution
    around its mean is known exactly.
    """
    sigma = math.exp(logvar / 2)
    a, b = (sigma**2 - 1) / 2, mu * sigma
    eps = torch.randn((n, mu.size), generator=generator, dtype=torch.float64).numpy()
    ratio = a * eps**2 + b * eps + mu**2 / 2 - math.log(sigma)
    degrees, noncentrality = n * mu.size, n * float(((b / (2 * a)) ** 2).sum())
    estimate = float(ratio.sum()) / n
    # The noncentral chi-square number: its mean, plus the deviation of the sum over a.
    number = degrees + noncentrality + n * (estimate - value) / a
    below = special.chndtr(number, degrees, noncentrality) if number > 0 else 0.0
    return _two_sided(below, 1 - below), estimate


def _two_sided(below: float, above: float) -> float:
    """Return the p-value, from the probabilities to find at most and at least what was found."""
    p = 2 * min(below, above)
    return min(1.0, float(p)) if math.isfinite(p) else 0.0
