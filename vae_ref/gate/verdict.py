"""Decide from groups of measurements, and from counts, what has become worse.

Everything here is a pure function of numbers. A group is three processes that ran in turns: one of
the head and two of the base. Which of them is the head was drawn. If head and base do the same,
the three would have taken the same times with another draw, so the slowdown is compared with those
that other draws would show, one out of three in every group. The chance that is found in this way
is exact, whatever the noise of the machine is like, because nothing but the draw decides. A
measurement that lies far out counts as one that lies `FAR` times out.

There are up to three looks, at 10, 20 and 40 groups. The false alarms that are allowed are shared
out among looks and workloads, so that a comparison of equal revisions raises one with a
probability of at most `FALSE_ALARMS`. A look ends the measurement of a workload if a slowdown is
certain, or if one of `NOTABLE` is excluded.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np

__all__ = ["Change", "Effect", "compared", "sequence"]

FALSE_ALARMS = 1e-3  #: probability of one, of all looks at all workloads of a comparison
LOOKS = ((10, 0.25), (20, 0.25), (40, 0.5))  #: groups, and shares of the false alarms; the last
#: look that there is has all that is left
LEVEL = 0.99  #: of the interval
LEAST = 0.005  #: the smallest slowdown that fails, relative
NOTABLE = 0.01  #: the slowdown whose exclusion ends the measurement
FAR = 4.0  #: medians of the distances
FEW, DRAWS = 5_000, 100_000  #: for intervals, and at least for small chances
WORTH = 0.02  #: a chance that is worth more draws


@dataclass(frozen=True)
class Effect:
    """What the groups say about one workload.

    Args:
        groups: The logarithms of the times of the head, and of the second process of the base,
            over that of the first process of the base.
        alpha: What the chance of a slowdown has to be at most for it to be certain.
    """

    groups: Sequence[tuple[float, float]]
    alpha: float

    @cached_property
    def chance(self) -> float:
        """The probability of such a slowdown between equal revisions."""
        rough = _chance(self.groups, 0.0, FEW)
        if rough > WORTH:
            return rough
        return _chance(self.groups, 0.0, DRAWS, times=math.ceil(5 / self.alpha / DRAWS))

    @cached_property
    def ratio(self) -> float:
        """The time of the head over that of the base."""
        return math.exp(_slowdown(self.groups, 0.5))

    @cached_property
    def low(self) -> float:
        """The lower end of the interval of the ratio."""
        return math.exp(_slowdown(self.groups, (1 - LEVEL) / 2))

    @cached_property
    def high(self) -> float:
        """The upper end."""
        return math.exp(_slowdown(self.groups, (1 + LEVEL) / 2))

    @property
    def slower(self) -> bool:
        """Whether a slowdown that matters is certain."""
        return self.chance <= self.alpha and self.ratio - 1 >= LEAST

    @cached_property
    def excluded(self) -> bool:
        """Whether a notable slowdown is excluded, as it is if it is above the interval."""
        return _chance(self.groups, math.log1p(NOTABLE), FEW) > (1 + LEVEL) / 2

    @property
    def faster(self) -> bool:
        """Whether a gain that matters is as good as certain."""
        return self.high < 1 and 1 / self.ratio - 1 >= LEAST

    @property
    def visible(self) -> float:
        """The slowdown that would be found in four of five measurements like this one."""
        normal = NormalDist()
        error = math.log(self.high / self.low) / 2 / normal.inv_cdf((1 + LEVEL) / 2)
        found = normal.inv_cdf(1 - self.alpha) + normal.inv_cdf(0.8)
        return max(LEAST, math.expm1(found * error))

    def json(self) -> dict[str, Any]:
        """Return what was found in types of JSON."""
        names = ("ratio", "low", "high", "chance", "alpha", "slower", "faster", "visible")
        return {name: getattr(self, name) for name in names} | {"groups": [*self.groups]}


def sequence(
    names: Sequence[str],
    measure: Callable[[Sequence[str], int], Mapping[str, tuple[float, float]]],
    *,
    groups: int,
    keep_going: bool = False,
    false_alarms: float = FALSE_ALARMS,
) -> dict[str, Effect]:
    """Measure workloads, until a slowdown is certain, or a notable one is excluded.

    Args:
        names: The workloads.
        measure: Measures a group of some workloads; it is given the number of the group, too.
        groups: How many groups there are at most, of those of the last look.
        keep_going: Whether to go on with the others after the first that is certainly slower.
        false_alarms: The probability of one, of all looks at all workloads.
    """
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    effects: dict[str, Effect] = {}
    unsettled, done, left = list(names), 0, 1.0
    for least, planned in LOOKS:
        enough = min(least, groups)
        if enough == done or not unsettled:
            break
        share = left if enough == groups else planned
        left -= share
        for number in range(done, enough):
            for name, group in measure(unsettled, number).items():
                found[name].append(group)
        done = enough
        for name in unsettled:
            effects[name] = Effect(tuple(found[name]), false_alarms * share / len(names))
        if not keep_going and any(effects[name].slower for name in unsettled):
            break
        unsettled = [n for n in unsettled if not effects[n].slower and not effects[n].excluded]
    return effects


def _chance(
    groups: Sequence[tuple[float, float]], slowdown: float, draws: int, times: int = 1
) -> float:
    """Return the probability of a sum as large as that of the head, without its slowdown."""
    seconds = np.array([(0.0, head - slowdown, again) for head, again in groups])
    seconds -= seconds.mean(1, keepdims=True)
    far = FAR * np.median(np.abs(seconds))
    seconds = np.clip(seconds, -far, far)
    found = seconds[:, 1].sum() - 1e-12  # the same sum in another order is as large
    each = np.arange(len(seconds))
    if 3 ** len(seconds) <= draws:
        return float((seconds[each, _all_choices(len(seconds))].sum(1) >= found).mean())
    as_large = sum(
        int((seconds[each, _choices(seed, draws, len(seconds))].sum(1) >= found).sum())
        for seed in range(times)
    )
    return (1 + as_large) / (1 + times * draws)


@lru_cache(maxsize=8)
def _choices(seed: int, draws: int, groups: int) -> np.ndarray[Any, Any]:
    """Draw which process of each group is called the head; the same in every call."""
    return np.random.default_rng(seed).integers(3, size=(draws, groups), dtype=np.int8)


@cache
def _all_choices(groups: int) -> np.ndarray[Any, Any]:
    return np.array(list(itertools.product(range(3), repeat=groups)), dtype=np.int8)


def _slowdown(groups: Sequence[tuple[float, float]], chance: float) -> float:
    """Return the slowdown, as a logarithm, without which the head has this chance."""
    reach = 2 * max(abs(value) for group in groups for value in group) + 1e-6
    low, high = -reach, reach
    for _ in range(14):
        middle = (low + high) / 2
        if _chance(groups, middle, FEW) < chance:
            low = middle
        else:
            high = middle
    return (low + high) / 2


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
