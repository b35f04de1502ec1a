"""Decide, from pairs of measurements and from counts, what is worse than it was.

Pure functions of numbers. A slowdown is suspected only if three things hold of the ratio of head
over base: its bootstrap interval excludes 1; it exceeds 5 %; and it exceeds three times the
spread that the base has against itself, measured in the same minutes. It is flagged if all three
hold again for four times as many pairs, measured afresh. Where no slowdown is suspected, and the
interval leaves room for one of more than 5 %, as many pairs are added, and then twice as many.

Measured on a virtual machine of two cores, whose pairs scatter by 1.3 to 3 %, and by up to 7 % in
bad minutes: 20 of 20 comparisons of equals raise no alarm, nor do 10 of 10 of the package's
workloads (tests/benchmarks/test_gate.py). Drawing eight pairs again and again from 48 measured
ones, equals are suspected in none of 1500 draws, or in one where two other processes keep both
cores busy by fits and starts. A step slowed by 10 % is suspected in all of them, in the bad ones
in 92 to 98 %. Time of the processor is no steadier than that of the clock, unless others compute
beside it, and is shown for information only; the fastest block is no steadier than the mean.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Change", "Effect", "compared", "effect"]

LEVEL = 0.99
FLOOR = 0.05
FACTOR = 3.0
DRAWS = 4000


@dataclass(frozen=True)
class Effect:
    """What the pairs say of one workload.

    Args:
        ratio: The time of the head over that of the base.
        low: The lower end of its interval.
        high: The upper end.
        spread: The standard error of the base over itself, relative.
    """

    ratio: float
    low: float
    high: float
    spread: float

    @property
    def threshold(self) -> float:
        """The smallest slowdown that could be flagged, relative."""
        return max(FLOOR, FACTOR * self.spread)

    @property
    def slower(self) -> bool:
        return self.low > 1 and self.ratio - 1 > self.threshold

    @property
    def undecided(self) -> bool:
        """Whether neither a slowdown is seen, nor one beyond the floor excluded."""
        return not self.slower and self.high - 1 > FLOOR

    @property
    def faster(self) -> bool:
        return self.high < 1 and 1 / self.ratio - 1 > self.threshold


def effect(effects: Sequence[float], nulls: Sequence[float]) -> Effect:
    """Estimate a ratio and its interval.

    Args:
        effects: The logarithm of head over base, one for every pair.
        nulls: That of the base over itself. Its true value is known to be 0, so that the spread
            is taken about 0, and a lasting difference between equal processes widens it too.
    """
    low, high = _bootstrap(effects)
    spread = math.sqrt(np.square(nulls).mean() / len(nulls))
    return Effect(math.exp(np.mean(effects)), math.exp(low), math.exp(high), math.expm1(spread))


def _bootstrap(values: Sequence[float]) -> tuple[float, float]:
    """Return the percentile interval of the mean, drawing whole pairs; the same on every call."""
    drawn = np.random.default_rng(0).choice(values, (DRAWS, len(values)))
    low, high = np.quantile(drawn.mean(1), ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)


@dataclass(frozen=True)
class Change:
    """A count on both sides.

    Args:
        name: ``workload/counter``.
        base: What the base does.
        head: What the head does.
    """

    name: str
    base: int
    head: int

    def __str__(self) -> str:
        relative = f" ({self.head / self.base - 1:+.1%})" if self.base else ""
        return f"{self.name}: {self.base:,} -> {self.head:,}{relative}"


def compared(base: dict[str, dict[str, int]], head: dict[str, dict[str, int]]) -> list[Change]:
    """Pair up the counts that both sides have, by workload and counter."""
    return [
        Change(f"{workload}/{counter}", base[workload][counter], value)
        for workload, counts in head.items()
        if workload in base
        for counter, value in counts.items()
        if counter in base[workload]
    ]
