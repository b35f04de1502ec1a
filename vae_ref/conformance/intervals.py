"""Where a right VAE ends up after a course: intervals from many seeds of the reference.

`intervals.json` holds, of every measure, mean and deviation over the seeds, and how many; and
what made them. benchmarks/course_seeds.py writes it.
"""

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from vae_ref.conformance.bench import Bench
from vae_ref.conformance.records import Measure, NotApplicable, Violation
from vae_ref.conformance.registry import share

__all__ = ["interval", "measured", "textbook", "within"]

COUNTS = "active latents"
"""A measure that counts; its interval reaches one unit at least."""

SINGLE = 1e-3
"""How far an interval reaches at least, of its mean: other processors add up in another order."""


@cache
def measured() -> dict[str, Any]:
    """Return what was measured, by course."""
    file = resources.files("vae_ref.conformance") / "intervals.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return found


def interval(course: str, name: str, alpha: float) -> tuple[float, float]:
    """Predict one more seed from those measured: mean -+ t s sqrt(1 + 1 / n).

    A right model is outside with probability alpha, if the measure is normal over seeds. Of what
    was not measured both ends are NaN.
    """
    from scipy import stats

    row = measured().get(course, {}).get("measures", {}).get(name)
    if row is None:
        return math.nan, math.nan
    n, mean = row["count"], row["mean"]
    t = float(stats.t.isf(alpha / 2, n - 1))
    least = 1.0 if COUNTS in name else SINGLE * abs(mean)
    reach = max(t * row["deviation"] * math.sqrt(1 + 1 / n), least)
    return mean - reach, mean + reach


def textbook(bench: Bench) -> None:
    """Raise `NotApplicable` unless the intervals of the course are about such a model."""
    module, course = bench.subject.module, bench.course
    if not course.name:
        raise NotApplicable("the course has no intervals; --train glyphs and --train mnist have")
    shapes = sorted(tuple(p.shape) for p in module.parameters()) if module else []
    if tuple(shapes) != course.form:
        raise NotApplicable("the intervals are those of the textbook's networks, 784-400-20")
    if bench.likelihood.name != "bernoulli":
        raise NotApplicable("the intervals are those of a Bernoulli likelihood, of probabilities")


def within(
    bench: Bench,
    claim: str,
    values: Mapping[str, float],
    *,
    above: Sequence[tuple[str, str]] = (),
) -> None:
    """Hold measures against their intervals, and against each other.

    Args:
        bench: Keeps what was measured, and what has to be above what.
        claim: Whose measures they are; the beginning of their names.
        values: The measures.
        above: Pairs of names, the first of which must be larger.

    Raises:
        Violation: If a measure is outside its interval, or a pair is the wrong way round.
        NotApplicable: If the course has no interval for one of them.
    """
    bench.orders += [(f"{claim}: {large}", f"{claim}: {small}") for large, small in above]
    missing, wrong = [], []
    for name, value in values.items():
        low, high = interval(bench.course.name, f"{claim}: {name}", share() / len(values))
        bench.measured[f"{claim}: {name}"] = Measure(value, low, high)
        if math.isnan(low):
            missing.append(name)
        elif not low <= value <= high:
            wrong.append((name, value, low, high))
    if wrong:
        name, value, low, high = wrong[0]
        side = "above" if value > high else "below"
        raise Violation(
            f"{name} is {value:.4g}, {side} the interval [{low:.4g}, {high:.4g}] of the reference "
            f"on {bench.course.name}",
            symptom="outside",
        )
    for large, small in above:
        if not values[large] > values[small]:
            raise Violation(
                f"{large} is {values[large]:.4g}, not above {small}, {values[small]:.4g}",
                symptom="order",
            )
    if missing:
        raise NotApplicable(f"no interval was measured for {missing[0]}")
