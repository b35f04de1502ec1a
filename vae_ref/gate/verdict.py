"""Decide from pairs of measurements, and from counts, what has become worse.

Everything here is a pure function of numbers. A slowdown is suspected if three conditions hold for
the ratio of head over base: its bootstrap interval excludes 1; it exceeds 5 %; and it exceeds
three times the spread of the base against itself, measured in the same minutes. It is flagged if
all three hold again for four times as many new pairs. If no slowdown is suspected, but the
interval does not exclude one of more than 5 %, as many pairs are added, and then twice as many.

This was measured on a virtual machine with two cores. Its pairs scatter by 1.3 to 3 %, and in bad
minutes by up to 7 %. Of 20 comparisons of equal revisions none raised an alarm, nor did any of 10
of the package's workloads. Eight pairs were drawn 1500 times from
48 measured ones. Between equal revisions, a slowdown is then suspected in no draw; and in one
draw, if two other processes keep both cores busy from time to time. A step that is 10 % slower is
suspected in all draws; in bad minutes, in 92 to 98 %. CPU time is no steadier than wall time
unless other processes compute too, so it is shown for information only. The fastest block is no
steadier than the mean.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Change", "Effect", "compared", "effect"]

LEVEL = 0.99  #: of the bootstrap interval
LEAST = 0.05  #: the smallest slowdown that matters, relative
SPREADS = 3.0  #: a slowdown must exceed so many times the spread of the base
DRAWS = 4000


@dataclass(frozen=True)
class Effect:
    """What the pairs say about one workload.

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
        return max(LEAST, SPREADS * self.spread)

    @property
    def visible(self) -> float:
        """The smallest slowdown that would be seen: past the threshold, and past the interval."""
        return max(self.threshold, math.sqrt(self.high / self.low) - 1)

    @property
    def slower(self) -> bool:
        """Whether a slowdown is certain and exceeds the threshold."""
        return self.low > 1 and self.ratio - 1 > self.threshold

    @property
    def undecided(self) -> bool:
        """Whether a slowdown that matters is neither seen nor excluded."""
        return not self.slower and self.high - 1 > LEAST

    @property
    def faster(self) -> bool:
        """Whether a gain is certain and exceeds the threshold."""
        return self.high < 1 and 1 / self.ratio - 1 > self.threshold


def effect(effects: Sequence[float], nulls: Sequence[float]) -> Effect:
    """Estimate a ratio and its interval.

    Args:
        effects: The logarithm of head over base, one for every pair.
        nulls: The same of the base over itself. Its true value is 0, so the spread is taken about
            0, and a lasting difference between equal processes widens it too.
    """
    low, high = _bootstrap(effects)
    spread = math.sqrt(np.square(nulls).mean() / len(nulls))
    return Effect(math.exp(np.mean(effects)), math.exp(low), math.exp(high), math.expm1(spread))


def _bootstrap(values: Sequence[float]) -> tuple[float, float]:
    """Return the percentile interval of the mean over pairs; it is the same on every call."""
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
    """Pair the counts that both sides have, by workload and counter."""
    return [
        Change(f"{workload}/{counter}", base[workload][counter], value)
        for workload, counts in head.items()
        if workload in base
        for counter, value in counts.items()
        if counter in base[workload]
    ]
