"""Numbers of 80 digits that know how much a computation in floating point may lose of them."""

from collections.abc import Iterable
from typing import Any

import mpmath

__all__ = ["DIGITS", "Rounded", "exp", "log", "log1p", "maximum", "number", "sqrt", "total"]

DIGITS = 80
"""The decimal digits of all computations; answers are given with 40."""


class Rounded:
    """A number, and the rounding errors of its computation.

    Every operation rounds its result once, and hands on the errors of what it is made of (Higham,
    Accuracy and Stability of Numerical Algorithms, 2002, section 3.3). So a program that computes
    the same formula, in any order of a sum, is wrong by at most a few times ``scale`` times the
    machine epsilon. Scale over value is the condition number of the formula.

    Args:
        value: The number.
        scale: The sum of its rounding errors, in units of the machine epsilon.
    """

    __slots__ = ("scale", "value")

    def __init__(self, value: Any, scale: Any = 0) -> None:
        self.value, self.scale = mpmath.mpf(value), mpmath.mpf(scale)

    def __add__(self, other: Any) -> "Rounded":
        b = _as_rounded(other)
        value = self.value + b.value
        return Rounded(value, self.scale + b.scale + abs(value))

    def __mul__(self, other: Any) -> "Rounded":
        b = _as_rounded(other)
        value = self.value * b.value
        handed_on = abs(self.value) * b.scale + abs(b.value) * self.scale
        return Rounded(value, handed_on + abs(value))

    def __truediv__(self, other: Any) -> "Rounded":
        b = _as_rounded(other)
        value = self.value / b.value
        handed_on = (self.scale + abs(value) * b.scale) / abs(b.value)
        return Rounded(value, handed_on + abs(value))

    def __neg__(self) -> "Rounded":
        return Rounded(-self.value, self.scale)

    def __sub__(self, other: Any) -> "Rounded":
        return self + -_as_rounded(other)

    def __rsub__(self, other: Any) -> "Rounded":
        return _as_rounded(other) - self

    def __rtruediv__(self, other: Any) -> "Rounded":
        return _as_rounded(other) / self

    __radd__, __rmul__ = __add__, __mul__


def number(x: Any) -> Rounded:
    """Return a number that is exact, such as an input."""
    return Rounded(x)


def _as_rounded(x: Any) -> Rounded:
    return x if isinstance(x, Rounded) else Rounded(x)


def _applied(x: Rounded, value: Any, slope: Any) -> Rounded:
    return Rounded(value, abs(slope) * x.scale + abs(value))


def exp(x: Rounded) -> Rounded:
    """Return the exponential."""
    value = mpmath.exp(x.value)
    return _applied(x, value, value)


def log(x: Rounded) -> Rounded:
    """Return the natural logarithm."""
    return _applied(x, mpmath.log(x.value), 1 / x.value)


def log1p(x: Rounded) -> Rounded:
    """Return log(1 + x), as a function that does not round the sum."""
    return _applied(x, mpmath.log1p(x.value), 1 / (1 + x.value))


def sqrt(x: Rounded) -> Rounded:
    """Return the square root; of 0 without an error."""
    value = mpmath.sqrt(x.value)
    return _applied(x, value, 1 / (2 * value) if value else 0)


def maximum(x: Rounded, other: Any) -> Rounded:
    """Return the larger of two numbers, which is not rounded."""
    b = _as_rounded(other)
    return x if x.value >= b.value else b


def total(numbers: Iterable[Rounded]) -> Rounded:
    """Return a sum; every order of the additions is allowed for."""
    found = list(numbers)
    value = mpmath.fsum(n.value for n in found)
    size = mpmath.fsum(abs(n.value) for n in found)
    additions = max(0, len(found) - 1)
    return Rounded(value, mpmath.fsum(n.scale for n in found) + additions * size)
