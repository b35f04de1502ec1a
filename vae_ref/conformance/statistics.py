"""Exact tests of samples against N(0, 1), and how many draws they need.

Every test returns a p-value whose distribution under the null is known, or bounded from above;
nothing here is asymptotic but the omnibus test. A test at level alpha finds its declared
discrepancy with probability `POWER`, given the number of draws that is computed here. False
alarms and power are measured, at an inflated level, in tests/conformance/test_statistics.py.
"""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

__all__ = [
    "POWER",
    "chi_square",
    "correlation",
    "draws_for_correlation",
    "draws_for_mean",
    "draws_for_score",
    "draws_for_sigma",
    "kl_monte_carlo",
    "kolmogorov_smirnov",
    "legendre",
    "mean",
    "score",
    "tails",
]

POWER = 1 - 1e-6
"""The probability with which a declared discrepancy is found."""

Sample = NDArray[np.float64]


def _reach(alpha: float, power: float) -> float:
    """Return how many standard errors a discrepancy must be away to be found."""
    return float(stats.norm.isf(alpha / 2) + stats.norm.isf(1 - power))


def mean(sample: Sample) -> float:
    """Test E[eps] = 0: the mean of n standard normal numbers is N(0, 1/n), exactly."""
    return float(2 * stats.norm.sf(abs(sample.mean()) * math.sqrt(sample.size)))


def draws_for_mean(shift: float, alpha: float, power: float = POWER) -> int:
    """Return the draws that find a mean wrong by ``shift`` standard deviations."""
    return math.ceil((_reach(alpha, power) / shift) ** 2)


def chi_square(sample: Sample) -> float:
    """Test E[eps^2] = 1: the sum of n squares is chi-square with n degrees, exactly."""
    return _two_sided(stats.chi2(sample.size), float((sample**2).sum()))


def draws_for_sigma(ratio: float, alpha: float, power: float = POWER) -> int:
    """Return the draws that find a standard deviation wrong by a factor of ``ratio``.

    The normal approximation of the chi-square distribution, with its variance under either
    hypothesis; 5 % are added for what it leaves out.
    """
    wrong = ratio**2
    reach = float(stats.norm.isf(alpha / 2) + wrong * stats.norm.isf(1 - power))
    return math.ceil(1.05 * 2 * (reach / (wrong - 1)) ** 2)


def correlation(a: Sample, b: Sample) -> float:
    """Test that pairs are independent, by the t distribution of their correlation, exactly."""
    n = a.size
    r = float(np.corrcoef(a.ravel(), b.ravel())[0, 1])
    if not abs(r) < 1:  # constant, or copies of each other
        return 0.0
    return float(2 * stats.t.sf(abs(r) * math.sqrt((n - 2) / (1 - r * r)), n - 2))


def draws_for_correlation(r: float, alpha: float, power: float = POWER) -> int:
    """Return the pairs that find a correlation of ``r`` (Fisher's transformation)."""
    return 3 + math.ceil((_reach(alpha, power) / math.atanh(r)) ** 2)


def legendre(sample: Sample, degree: int) -> Sample:
    """Return the scores of Neyman's smooth test: mean 0, variance 1, bounded.

    sqrt(2k + 1) P_k(2 Phi(eps) - 1): degree 3 moves with the skewness, degree 4 with the fourth
    moment.
    """
    coefficients = [0.0] * degree + [math.sqrt(2 * degree + 1)]
    values = np.polynomial.legendre.legval(2 * stats.norm.cdf(sample) - 1, coefficients)
    return np.asarray(values)


def score(values: Sample, bound: float) -> float:
    """Test E[s] = 0 for scores of variance 1 that are bounded: Bernstein's inequality.

    P(|mean| >= t) <= 2 exp(-n t^2 / (2 + 2 bound t / 3)), for every n.
    """
    n, t = values.size, abs(float(values.mean()))
    if not math.isfinite(t):
        return 0.0
    return min(1.0, 2 * math.exp(-n * t * t / (2 + 2 * bound * t / 3)))


def draws_for_score(shift: float, bound: float, alpha: float, power: float = POWER) -> int:
    """Return the draws for which a mean score of ``shift`` is found."""
    # Solve n t^2 = L (2 + 2 bound t / 3) for t, the critical mean; the score's own deviation is
    # taken for twice 1, as it may be under the alternative.
    log = math.log(2 / alpha)
    n = 1.0
    for _ in range(200):
        critical = log * bound / (3 * n) + math.sqrt((log * bound / (3 * n)) ** 2 + 2 * log / n)
        if critical + math.sqrt(2) * stats.norm.isf(1 - power) / math.sqrt(n) < shift:
            break
        n *= 1.15
    return math.ceil(n)


def tails(sample: Sample, beyond: float = 3.0) -> float:
    """Test P(|eps| > 3): the count is binomial, exactly."""
    p = 2 * float(stats.norm.sf(beyond))
    return _two_sided(stats.binom(sample.size, p), int((np.abs(sample) > beyond).sum()))


def kolmogorov_smirnov(sample: Sample) -> float:
    """Test the whole distribution function; sees everything, but little of it."""
    return float(stats.kstest(sample.ravel(), "norm").pvalue)


def kl_monte_carlo(
    mu: Sample, logvar: float, value: float, n: int, generator: torch.Generator
) -> tuple[float, float]:
    """Test that E_q[log q - log p] is ``value``; return the p-value and the estimate.

    With eps standard normal, log q(z) - log p(z) = sum_d a eps_d^2 + b_d eps_d + c_d, where
    a = (sigma^2 - 1) / 2, b = mu sigma and c = mu^2 / 2 - log sigma. Completing the square, the
    sum over draws is a times a noncentral chi-square number, and a constant: about its mean, its
    law is known exactly.
    """
    sigma = math.exp(logvar / 2)
    a, b = (sigma**2 - 1) / 2, mu * sigma
    eps = torch.randn((n, mu.size), generator=generator, dtype=torch.float64).numpy()
    ratio = a * eps**2 + b * eps + mu**2 / 2 - math.log(sigma)
    law = stats.ncx2(n * mu.size, n * float(((b / (2 * a)) ** 2).sum()))
    estimate = float(ratio.sum()) / n
    return _two_sided(law, law.mean() + n * (estimate - value) / a), estimate


def _two_sided(law: Any, value: float) -> float:
    if not math.isfinite(value):
        return 0.0
    return float(min(1.0, 2 * min(law.cdf(value), law.sf(value - (law.dist.name == "binom")))))
