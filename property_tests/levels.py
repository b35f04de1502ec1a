"""How the statistical tests of this directory share one budget of false alarms.

Every comparison of a sample with its law is made at the two-sided level `ALPHA`. There are fewer
than 100 of them, so a whole run raises a false alarm with probability below 1e-6 (and, its seeds
being fixed, always or never). A deviation of ``detectable(sd, n)`` is missed as rarely.
"""

from math import sqrt

from scipy import stats

ALPHA = 1e-8
Z = float(stats.norm.isf(ALPHA / 2))


def detectable(standard_deviation: float, n: int) -> float:
    """Return the error of a mean of n draws that is found with probability 1 - 1e-6."""
    return (Z + float(stats.norm.isf(1e-6))) * standard_deviation / sqrt(n)
