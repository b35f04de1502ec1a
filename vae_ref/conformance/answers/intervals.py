"""Intervals in which the measures of a trained VAE have to lie, from many seeds of the reference.

For every measure, `intervals.json` holds the mean and the deviation over the seeds and the number
of seeds, and it says how they were made. benchmarks/course_seeds.py writes it.
"""

import json
import math
from functools import cache
from importlib import resources
from typing import Any

from vae_ref.conformance.answers.statistics import student_quantile
from vae_ref.conformance.records import Finding, Measure, NotApplicable, Violation

__all__ = ["interval", "measured", "placed", "require_inside"]

COUNTED = "active latents"
"""The measure that is a count: its interval reaches at least 1 to either side."""

LEAST_REACH = 1e-3
"""How far an interval reaches at least, relative to its mean.

Other processors add up in another order, and a training in single precision amplifies that.
"""


@cache
def measured() -> dict[str, Any]:
    """Return what was measured on the reference, by course."""
    file = resources.files("vae_ref.conformance.answers") / "intervals.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return found


def interval(course: str, name: str, alpha: float) -> tuple[float, float]:
    """Return the interval in which one more seed has to lie: mean -+ t s sqrt(1 + 1 / n).

    If the measure is normal over seeds, a right model is outside with probability alpha. Both
    ends are NaN if the measure was not made on the reference.
    """
    row = measured().get(course, {}).get("measures", {}).get(name)
    if row is None:
        return math.nan, math.nan
    n, mean = row["count"], row["mean"]
    t = student_quantile(alpha / 2, n - 1)
    least = 1.0 if COUNTED in name else LEAST_REACH * abs(mean)
    reach = max(t * row["deviation"] * math.sqrt(1 + 1 / n), least)
    return mean - reach, mean + reach


def placed(course: str, claim: str, finding: Finding, alpha: float) -> dict[str, Measure]:
    """Return the measures of a claim with their intervals, under the names that reports use.

    Args:
        course: The name of the course.
        claim: The id of the claim.
        finding: What the claim measured.
        alpha: The claim's level of significance, which its measures share.
    """
    names = {name: f"{claim}: {name}" for name in finding.measures}
    return {
        full: Measure(
            finding.measures[name], *interval(course, full, alpha / len(finding.measures))
        )
        for name, full in names.items()
    }


def require_inside(course: str, finding: Finding, places: dict[str, Measure]) -> None:
    """Raise `Violation` if a measure lies outside its interval, or if two are in the wrong order.

    Args:
        course: The name of the course.
        finding: What a claim measured.
        places: The same measures with their intervals, as `placed` returned them.

    Raises:
        Violation: As above.
        NotApplicable: If the course has no interval for one of the measures.
    """
    found = list(zip(finding.measures, places.values(), strict=True))
    for name, (value, low, high) in found:
        if not math.isnan(low) and not low <= value <= high:
            side = "above" if value > high else "below"
            raise Violation(
                f"{name} is {value:.4g}, {side} the interval [{low:.4g}, {high:.4g}] of the "
                f"reference on {course}",
                symptom="outside",
            )
    for large, small in finding.order:
        if not finding.measures[large] > finding.measures[small]:
            raise Violation(
                f"{large} is {finding.measures[large]:.4g}, not above {small}, "
                f"{finding.measures[small]:.4g}",
                symptom="order",
            )
    if missing := [name for name, measure in found if math.isnan(measure.low)]:
        raise NotApplicable(f"no interval was measured for {missing[0]}")
