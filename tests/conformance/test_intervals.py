"""Intervals: what they predict, what they find, and that the stored ones are well founded."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import vae_ref.conformance
from tests.conformance.untrained import Untrained
from vae_ref.conformance import Course
from vae_ref.conformance.answers import intervals
from vae_ref.conformance.claims import all_claims, significance
from vae_ref.conformance.mutants.specimen import halves, specimen
from vae_ref.conformance.records import Finding, NotApplicable, Violation
from vae_ref.conformance.runner import probe_of
from vae_ref.conformance.trainings.trained import require_textbook

FILE = Path(vae_ref.conformance.__file__).parent / "answers" / "intervals.json"
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
COURSES = ("mnist", "glyphs", "halves")


def rows(course):
    file = RESULTS / f"course_{course}.jsonl"
    return [json.loads(line)["measured"] for line in file.read_text().splitlines()]


untrained = pytest.fixture(lambda monkeypatch: Untrained(monkeypatch))  # noqa: PLW0108


@pytest.fixture
def known(monkeypatch):
    """Intervals of a course with one measure, mean 2, deviation 0.1, from 20 seeds."""
    row = {"mean": 2.0, "deviation": 0.1, "count": 20}
    measures = {"training/blur: data": row, "training/blur: vae": row | {"mean": 1.0}}
    monkeypatch.setattr(intervals, "measured", lambda: {"halves": {"measures": measures}})


def held(measures, *order):
    """Hold measures of the course against its intervals, as the runner does."""
    finding = Finding(measures=measures, order=order)
    places = intervals.placed("halves", "training/blur", finding, 1e-6)
    intervals.require_inside("halves", finding, places)
    return places


def test_a_further_seed_is_outside_as_often_as_it_says():
    """20 normal numbers predict a 21st: at alpha = 0.05, over 20,000 trials."""
    generator = np.random.default_rng(0)
    drawn = generator.normal(3, 0.5, (20_000, 21))
    mean, deviation = drawn[:, :20].mean(1), drawn[:, :20].std(1, ddof=1)
    reach = stats.t.isf(0.025, 19) * deviation * math.sqrt(1 + 1 / 20)
    outside = (np.abs(drawn[:, 20] - mean) > reach).sum()
    assert stats.binomtest(int(outside), 20_000, 0.05).pvalue > 1e-6


def test_the_formula(known):
    low, high = intervals.interval("halves", "training/blur: data", 0.05)
    reach = stats.t.isf(0.025, 19) * 0.1 * math.sqrt(1.05)
    assert (low, high) == pytest.approx((2 - reach, 2 + reach))


def test_of_what_was_not_measured_both_ends_are_nan(known):
    assert all(map(math.isnan, intervals.interval("halves", "training/blur: x", 0.05)))
    assert all(map(math.isnan, intervals.interval("elsewhere", "training/blur: data", 0.05)))


@pytest.mark.parametrize("value", [2.0, 2.3])
def test_what_is_inside_holds_and_is_kept(known, value):
    found = held({"data": value, "vae": 1.0}, ("data", "vae"))["training/blur: data"]
    assert found.value == value
    assert found.low < value < found.high


@pytest.mark.parametrize(("value", "side"), [(0.0, "below"), (4.0, "above"), (math.nan, "below")])
def test_what_is_outside_on_either_side_is_a_violation_that_says_so(known, value, side):
    with pytest.raises(Violation, match=rf"data is .*, {side} the interval \[.* on halves"):
        held({"data": value})


def test_what_is_the_wrong_way_round_is_a_violation(known):
    with pytest.raises(Violation, match="vae is 1, not above data, 2"):
        held({"data": 2.0, "vae": 1.0}, ("vae", "data"))


def test_what_has_no_interval_is_not_taken_to_hold(known):
    with pytest.raises(NotApplicable, match="no interval was measured for other"):
        held({"data": 2.0, "other": 1.0})


def test_a_count_may_be_one_off(monkeypatch):
    row = {"mean": 20.0, "deviation": 0.0, "count": 20}
    stored = {"mnist": {"measures": {"x: active latents": row}}}
    monkeypatch.setattr(intervals, "measured", lambda: stored)
    assert intervals.interval("mnist", "x: active latents", 1e-9) == (19.0, 21.0)


@pytest.mark.parametrize(
    ("course", "reason"),
    [
        (Course(train=halves().train, held_out=halves().held_out), "has no intervals"),
        (Course(name="mnist", train=halves().train, held_out=halves().held_out), "784-400-20"),
    ],
)
def test_intervals_are_for_their_own_course_and_networks(course, reason):
    from dataclasses import replace

    probe = probe_of(replace(specimen(), course=lambda: course))
    with pytest.raises(NotApplicable, match=reason):
        require_textbook(probe)


@pytest.mark.parametrize("course", COURSES)
def test_the_stored_means_are_those_of_the_stored_seeds(course):
    stored, found = json.loads(FILE.read_text())[course], rows(course)
    assert len(found) >= 20
    assert stored["measures"].keys() == found[0].keys()
    for name, row in stored["measures"].items():
        values = [seed[name] for seed in found]
        assert row["count"] == len(values)
        assert row["mean"] == pytest.approx(np.mean(values), abs=2e-6)
        assert row["deviation"] == pytest.approx(np.std(values, ddof=1), abs=2e-6)
    assert {"command", "torch", "python", "processor", "threads", "vae_ref"} <= stored.keys()


@pytest.mark.parametrize("course", COURSES)
def test_no_measure_is_far_from_normal_over_the_seeds(course):
    """The intervals assume it: skewness and kurtosis, at a level of 1e-6 over all measures."""
    found = rows(course)
    names = [n for n in found[0] if np.std([seed[n] for seed in found]) > 1e-5]
    p = {n: stats.shapiro([seed[n] for seed in found]).pvalue for n in names}
    worst = min(p, key=p.get)
    assert p[worst] > 1e-6 / len(p), (worst, p[worst], [seed[worst] for seed in found])


@pytest.mark.slow
def test_what_has_to_be_above_is_so_by_far(untrained):
    """A seed is the wrong way round with probability 4e-11, if differences are normal."""
    orders = [
        tuple(f"{claim.id}: {name}" for name in pair)
        for claim in all_claims()
        if claim.trains
        for pair in claim.check(untrained.probe).order
    ]
    assert len(orders) > 30
    for course in ("mnist", "glyphs"):
        for large, small in orders:
            apart = [seed[large] - seed[small] for seed in rows(course)]
            assert np.mean(apart) > 6.5 * np.std(apart, ddof=1), (course, large, small)


def test_what_the_loss_on_mnist_finds():
    """With probability 1 - 1e-6 a shift that is as large as here, in nats per example."""
    stored = json.loads(FILE.read_text())["mnist"]["measures"]
    claim = [name for name in stored if name.startswith("training/loss: ")]
    name = "training/loss: test loss after 20"
    low, high = intervals.interval("mnist", name, significance() / len(claim))
    assert (high - low) / 2 + stats.norm.isf(1e-6) * stored[name]["deviation"] < 5
