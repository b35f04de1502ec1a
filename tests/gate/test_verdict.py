"""The decision, on made-up measurements whose true effect is known."""

import itertools
import math
from functools import partial

import numpy as np
import pytest

from vae_ref.gate import paired, verdict
from vae_ref.gate.verdict import Change, Effect, compared, sequence

ALPHA = 5e-5


def drawn(seed: int, slowdown: float, noise: float, groups: int = 10):
    """Draw groups of processes that differ with heavy tails; only the head is slower."""
    draw, tails = np.random.default_rng(seed), 4
    scale = noise / math.sqrt(tails / (tails - 2))
    times = scale * draw.standard_t(tails, (groups, 3))
    return [(math.log1p(slowdown) + b - a, c - a) for a, b, c in times]


def sequences(slowdown: float, noise: float, trials: int) -> list[Effect]:
    """Compare revisions again and again, of one workload."""
    found = []
    for seed in range(trials):
        groups = iter(drawn(seed, slowdown, noise, 40))
        found.append(sequence(["work"], partial(following, groups), groups=40)["work"])
    return found


def following(groups, names, number):
    """Measure the only workload: take the next group."""
    return {"work": next(groups)}


@pytest.mark.parametrize("groups", [3, 5])
def test_the_chance_is_that_of_all_choices_of_the_head(groups):
    times = np.array([(0.0, *group) for group in drawn(1, 0.005, 0.01, groups)])
    times -= times.mean(1, keepdims=True)
    far = verdict.FAR * np.median(np.abs(times))
    sums = [sum(choice) for choice in itertools.product(*np.clip(times, -far, far))]
    exact = np.mean(np.array(sums) >= np.clip(times, -far, far)[:, 1].sum() - 1e-12)
    error = math.sqrt(exact * (1 - exact) / verdict.FEW)
    assert Effect(drawn(1, 0.005, 0.01, groups), ALPHA).chance == pytest.approx(
        exact, abs=5 * error + 1 / verdict.FEW
    )


@pytest.mark.parametrize("noise", [0.001, 0.3])
def test_equal_revisions_have_a_small_chance_as_often_as_it_says(noise):
    """Of 1,000, at most 5 standard deviations more than one in 10 have a chance below it."""
    chances = np.array([Effect(drawn(seed, 0, noise), ALPHA).chance for seed in range(1000)])
    assert abs((chances <= 0.1).sum() - 100) < 5 * math.sqrt(90)


def test_a_process_that_lies_far_out_is_clipped():
    groups = drawn(0, 0.03, 0.005)
    wild = [(groups[0][0] - 0.8, groups[0][1]), *groups[1:]]
    assert Effect(wild, ALPHA).ratio == pytest.approx(1.03, abs=0.01)
    assert np.mean([head - again / 2 for head, again in wild]) < -0.04


@pytest.mark.parametrize("noise", [0.005, *(pytest.param(0.05, marks=pytest.mark.slow),)])
def test_equal_revisions_raise_no_alarm(noise):
    """Of 500 comparisons, half a one is expected; three or more have a chance of 1 %."""
    assert sum(found.slower for found in sequences(0.0, noise, 500)) <= 2


def test_two_percent_are_found():
    assert sum(found.slower for found in sequences(0.02, 0.01, 100)) >= 95


def test_a_slowdown_too_small_to_matter_passes():
    found = sequences(0.003, 0.0005, 20)
    assert not any(effect.slower for effect in found)
    assert all(effect.chance < 0.01 for effect in found)


def test_the_measurement_ends_when_it_is_decided():
    assert {len(found.groups) for found in sequences(0.0, 0.002, 20)} == {10}
    assert {len(found.groups) for found in sequences(0.1, 0.005, 20)} == {10}
    assert max(len(found.groups) for found in sequences(0.0, 0.05, 20)) == 40


def in_turns(slowdowns, noise=0.004):
    """Measure workloads of these slowdowns; return the effects, and what was measured."""
    groups = {n: drawn(7 + i, s, noise, 40) for i, (n, s) in enumerate(slowdowns.items())}
    asked = []

    def measure(names, number):
        asked.append(list(names))
        return {name: groups[name][number] for name in names}

    return measure, asked


def test_the_first_certain_slowdown_ends_all():
    slowdowns = {"slow": 0.1, "noisy": 0.006}
    measure, asked = in_turns(slowdowns)
    effects = sequence([*slowdowns], measure, groups=40)
    assert len(asked) == 10
    assert effects["slow"].slower
    measure, asked = in_turns(slowdowns)
    effects = sequence([*slowdowns], measure, groups=40, keep_going=True)
    assert len(effects["slow"].groups) == 10
    assert len(asked) > 10
    assert asked[-1] == ["noisy"]


def test_looks_and_workloads_share_the_false_alarms():
    slowdowns = {"a": 0.006, "b": 0.006}
    measure, _ = in_turns(slowdowns, noise=0.02)
    effects = sequence([*slowdowns], measure, groups=40)
    shares = [share for _, share in verdict.LOOKS]
    assert sum(shares) == 1
    assert {effect.alpha for effect in effects.values()} == {verdict.FALSE_ALARMS * shares[-1] / 2}


def test_a_slowdown_is_found_among_many_workloads():
    """There are as many draws as a small share of the false alarms takes."""
    assert Effect(drawn(0, 0.1, 0.005, 20), alpha=1e-6).slower


def test_the_last_look_that_there_is_has_all_that_is_left():
    measure, _ = in_turns({"work": 0.006}, noise=0.02)
    effect = sequence(["work"], measure, groups=10)["work"]
    assert effect.alpha == verdict.FALSE_ALARMS


def test_a_twofold_slowdown_is_found_in_the_first_look_of_many_workloads():
    slowdowns = {f"work {n}": 1.0 for n in range(14)}
    measure, asked = in_turns(slowdowns)
    assert all(effect.slower for effect in sequence([*slowdowns], measure, groups=40).values())
    assert len(asked) == 10


def test_no_more_groups_than_asked_for():
    measure, asked = in_turns({"work": 0.0}, noise=0.1)
    effects = sequence(["work"], measure, groups=15)
    assert len(asked) == len(effects["work"].groups) == 15
    assert sequence(["work"], measure, groups=0) == {}


def test_the_interval_contains_the_truth_as_often_as_it_says():
    effects = [Effect(drawn(seed, 0.02, 0.02), ALPHA) for seed in range(300)]
    held = np.mean([effect.low <= 1.02 <= effect.high for effect in effects])
    assert 0.97 <= held <= 1


def test_noise_of_the_machine_hides_more():
    quiet, noisy = (Effect(drawn(0, 0.0, noise), ALPHA) for noise in (0.003, 0.03))
    assert verdict.LEAST <= quiet.visible < 0.01
    assert 0.03 < noisy.visible < 0.15
    assert quiet.excluded
    assert not noisy.excluded


def test_a_speedup_is_reported_and_is_no_regression():
    found = Effect(drawn(0, -0.2, 0.01), ALPHA)
    assert found.faster
    assert not found.slower
    assert found.ratio == pytest.approx(0.8, abs=0.02)


def test_the_same_measurements_give_the_same_verdict():
    assert Effect(drawn(0, 0.05, 0.03), ALPHA).json() == Effect(drawn(0, 0.05, 0.03), ALPHA).json()


class Slope:
    """A worker on a machine that takes longer from block to block."""

    clock = itertools.count()

    def __init__(self, cost: float, drift: float) -> None:
        self.cost, self.drift = cost, drift

    def send(self, do, workload):
        assert do == "prepare"

    def answer(self):
        return {}

    def ask(self, do, workload, calls):
        seconds = self.cost * (1 + self.drift * next(self.clock))
        return {"wall": seconds, "cpu": seconds}


@pytest.mark.parametrize("head", range(3))
@pytest.mark.parametrize("slowdown", [0.0, 0.1])
def test_a_steady_drift_cancels(slowdown, head):
    """Each block takes 2 % longer than the one before; A before B would see 4 %."""
    Slope.clock = itertools.count()
    workers = [Slope(1 + slowdown * (place == head), 0.02) for place in range(3)]
    group = paired._timed(workers, head, "step", paired.Settings(workloads=None))
    assert group.head == pytest.approx(math.log1p(slowdown), abs=1e-8)
    assert group.again == pytest.approx(0, abs=1e-8)


def test_counts_are_paired_where_both_sides_have_them():
    base = {"step": {"operations": 5, "flops": 7}, "gone": {"operations": 1}}
    head = {"step": {"operations": 6, "launches": 1}, "new": {"operations": 1}}
    assert compared(base, head) == [Change("step/operations", 5, 6)]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (Change("step/flops", 1000, 1500), "step/flops: 1,000 -> 1,500 (+50.0%)"),
        (Change("step/waits", 0, 2), "step/waits: 0 -> 2"),
    ],
)
def test_a_change_in_words(change, text):
    assert str(change) == text
