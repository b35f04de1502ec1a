"""How the statistical tests of this directory share one budget of false alarms.

Every comparison of a sample with its law is made at the two-sided level `ALPHA`. There are fewer
than 100 of them, so this directory raises a false alarm with probability below 5e-7 (and, its
seeds being fixed, always or never); tests/test_mnist.py has the other half of a run's 1e-6.
A deviation of ``detectable(sd, n)`` is missed as rarely.
"""

from math import sqrt

from scipy import stats

ALPHA = 5e-9
Z = float(stats.norm.isf(ALPHA / 2))


def detectable(standard_deviation: float, n: int) -> float:
    """Return the error of a mean of n draws that is found with probability 1 - 1e-6."""
    return (Z + float(stats.norm.isf(1e-6))) * standard_deviation / sqrt(n)
