"""The second process: what it makes, what it leaves, and how it may end."""

import contextlib
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from tests.conformance.untrained import Untrained
from vae_ref.conformance import ahead as ahead_module
from vae_ref.conformance.ahead import Ahead, can_fork
from vae_ref.conformance.claims import all_claims
from vae_ref.conformance.mutants.specimen import specimen
from vae_ref.conformance.records import Violation
from vae_ref.conformance.runner import probe_of
from vae_ref.conformance.trainings import trained as trainings
from vae_ref.conformance.trainings.trained import (
    beta,
    comparisons,
    trained,
    trained_ahead,
)

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


untrained = pytest.fixture(lambda monkeypatch: Untrained(monkeypatch))  # noqa: PLW0108


def begun(make: Callable[[Any], Any], keys: Sequence[Any]) -> Ahead[Any, Any]:
    """Return two processes, the other of which has begun its first task."""
    event = multiprocessing.get_context("fork").Event()

    def begin(key: Any) -> Any:
        event.set()
        return make(key)

    ahead = Ahead(begin, keys)
    assert event.wait(120)
    return ahead


def test_everything_is_made_by_one_of_the_two() -> None:
    ahead = begun(lambda number: number**2, range(20))
    found = [ahead.get(number) for number in range(20)]
    ahead.stop()
    assert found[0] == 0
    assert all(square in (None, number**2) for number, square in enumerate(found))


def test_what_is_not_begun_is_left_to_who_asks() -> None:
    ahead = begun(lambda key: time.sleep(600), ["slow", "next", "last"])
    assert ahead.get("last") is None
    assert ahead.get("next") is None
    assert ahead.get("unknown") is None
    ahead.stop()
    assert ahead.get("slow") is None


@pytest.mark.parametrize(
    "end", [lambda key: os._exit(3), lambda key: 1 / 0, lambda key: sys.exit()]
)
def test_what_fails_is_left_to_who_asks(end: Callable[[Any], Any]) -> None:
    ahead = begun(end, ["it"])
    assert ahead.get("it") is None
    ahead.stop()


def test_one_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead_module, "_SILENCE", 0.1)
    ahead = begun(lambda key: time.sleep(600), ["it"])
    assert ahead.get("it") is None


@pytest.mark.slow
def test_one_that_computes_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock ticks a hundred times a second, and the other process has a share of a core."""

    def compute(key: str) -> str:
        start = time.process_time()
        while time.process_time() < start + 2:
            pass
        return key

    monkeypatch.setattr(ahead_module, "_SILENCE", 1.0)
    ahead = begun(compute, ["it"])
    assert ahead.get("it") == "it"
    ahead.stop()


def test_large_things_do_not_stop_it() -> None:
    ahead = begun(lambda key: bytes(10**6), range(5))
    found = [ahead.get(key) for key in range(5)]
    ahead.stop()
    assert found[0] == bytes(10**6)


def test_no_process_is_left() -> None:
    ahead = begun(lambda key: os.getpid(), ["it"])
    process = ahead.get("it")
    ahead.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_threads_prevent_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1}, raising=False)
    monkeypatch.setattr("threading.active_count", lambda: 1)
    monkeypatch.delitem(ahead_module.sys.modules, "jax", raising=False)
    assert can_fork()
    monkeypatch.setattr("threading.active_count", lambda: 2)
    assert not can_fork()


def test_a_training_made_ahead_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainings, "can_fork", lambda: True)
    alone, helped = (probe_of(specimen()) for _ in range(2))
    claims = [claim for claim in all_claims() if claim.id == "training/sigma-collapses"]
    with torch.random.fork_rng(), trained_ahead(helped, claims):
        one = trained(alone, beta(0))  # meanwhile the other process begins with it as well
        with monkeypatch.context() as patched:
            patched.setattr(trainings, "_train", lambda probe, variant: pytest.fail("not ahead"))
            other = trained(helped, beta(0))
    assert one.train == other.train
    assert one.scores == other.scores
    assert all(map(torch.equal, one.weights, other.weights))
    assert helped.ahead is None


@pytest.mark.slow
def test_claims_name_what_they_train(untrained: Untrained) -> None:
    """Every comparison that a claim makes, and no other, is trained ahead."""
    for claim in all_claims():
        if claim.check.__module__.endswith((".guide", ".reasons", ".training")):
            untrained.forget()
            with contextlib.suppress(Violation):
                claim.check(untrained.probe)
            named = {v.name for v in comparisons([claim], untrained.probe.course)}
            assert untrained.asked - {"vae"} == named, claim.id
