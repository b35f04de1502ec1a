"""Evaluate a race: medians and ranges, ratios, which loss is void, which target is met.

The pace of a machine changes from minute to minute. So a ratio is taken within each repetition,
between processes that ran minutes apart, and the median of these ratios is reported.
"""

import json
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import stats

__all__ = [
    "CONTESTANTS",
    "Result",
    "Spread",
    "Standings",
    "Target",
    "interval",
]

CONTESTANTS = {
    "textbook": "textbook script",
    "fair": "fair PyTorch",
    "scan": "JAX scan",
    "ours": "vae_ref",
    "floor": "floor",
}
STEADY = 3  #: the epoch from which every epoch is alike
TEXTBOOK, SCAN = 8.0, 1.15  #: the targets
FLOOR = {"AVX512": 0.65}  #: a target that depends on the instructions
ELSEWHERE = 1.15  #: the same target with all other instructions

SEEDS = Path(__file__).parent / "results" / "mnist_seeds.jsonl"
ALPHA = 5e-7 / 32  # what the end-to-end tests of tests/test_mnist.py give to each comparison


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one contestant did in one repetition.

    Args:
        contestant: Its name.
        repetition: Which repetition, from 1.
        seed: The seed of its weights, order and noise.
        seconds: How long each epoch trained.
        test_loss: The loss after the last epoch, in nats per example; None for the floor.
        engine: What executed the epochs, if there is a choice.
    """

    contestant: str
    repetition: int
    seed: int
    seconds: Sequence[float]
    test_loss: float | None
    engine: str | None = None


class Spread(NamedTuple):
    """The median of some values and their range."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        found = list(values)
        return cls(statistics.median(found), min(found), max(found))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}–{self.high:.2f})"


class Target(NamedTuple):
    """A target, what was reached, and the verdict."""

    statement: str
    found: str
    verdict: Literal["met", "missed", "void", "not measured"]


def interval(epoch: int) -> tuple[float, float]:
    """Predict the test loss of one more seed from the seeds measured, as the tests do."""
    losses = [json.loads(line)["test_loss"] for line in SEEDS.read_text().splitlines()]
    values = np.array([loss[epoch - 1] for loss in losses])
    t = stats.t.isf(ALPHA / 2, len(values) - 1)
    reach = float(t * values.std(ddof=1) * np.sqrt(1 + 1 / len(values)))
    return float(values.mean()) - reach, float(values.mean()) + reach


@dataclass(frozen=True)
class Standings:
    """All results of a race.

    Args:
        results: One of every contestant and repetition.
        vectors: The instructions of the processor that raced, such as ``AVX2``.
    """

    results: Sequence[Result]
    vectors: str | None = None

    @classmethod
    def read(cls, file: dict[str, Any]) -> "Standings":
        """Take the results from the content of a result file."""
        on = file["environment"]
        vectors = on.get("vectors") if on["device"] == "cpu" else None
        return cls([Result(**result) for result in file["results"]], vectors)

    @property
    def names(self) -> list[str]:
        """The contestants that took part, in the table's order."""
        return [name for name in CONTESTANTS if any(r.contestant == name for r in self.results)]

    @property
    def epochs(self) -> range:
        return range(1, len(self.results[0].seconds) + 1)

    def of(self, name: str) -> dict[int, Result]:
        """Return a contestant's results by repetition."""
        return {r.repetition: r for r in self.results if r.contestant == name}

    @property
    def engines(self) -> set[str]:
        return {result.engine for result in self.results if result.engine}

    def seconds(self, name: str, epoch: int) -> Spread:
        return Spread.of(r.seconds[epoch - 1] for r in self.of(name).values())

    def loss(self, name: str) -> Spread | None:
        losses = [r.test_loss for r in self.of(name).values() if r.test_loss is not None]
        return Spread.of(losses) if losses else None

    def is_void(self, name: str) -> bool:
        """Say whether its times do not count, because a loss is wrong. The floor has no loss."""
        low, high = interval(self.epochs[-1])
        losses = [r.test_loss for r in self.of(name).values() if r.test_loss is not None]
        # NaN must count as outside
        return not all(low <= loss <= high for loss in losses)

    def ratio(self, name: str, other: str, *, first: int = 1, last: int | None = None) -> Spread:
        """Divide the time of one by that of another, over the epochs ``first`` to ``last``."""
        part = slice(first - 1, last)
        theirs = self.of(other)
        return Spread.of(
            sum(result.seconds[part]) / sum(theirs[repetition].seconds[part])
            for repetition, result in self.of(name).items()
            if repetition in theirs
        )

    def worst(self, name: str, other: str) -> Spread:
        """Return the ratio of the epoch in which it is largest."""
        return max(self.ratio(name, other, first=e, last=e) for e in self.epochs)

    def drift(self, name: str) -> Spread:
        """Divide the time of the last epoch by that of the first."""
        return Spread.of(r.seconds[-1] / r.seconds[0] for r in self.of(name).values())

    def targets(self) -> list[Target]:
        """Say whether each target is met."""
        # The floor does the same work in every epoch: its drift is the machine's noise.
        noise = self.drift("floor").high if self.of("floor") else 1.0
        floor = FLOOR.get(self.vectors or "", ELSEWHERE)
        return [
            self._target(
                f"at least {TEXTBOOK:g} times as fast as the textbook script, all epochs",
                "textbook",
                lambda: self.ratio("textbook", "ours"),
                at_least=TEXTBOOK,
            ),
            self._target(
                f"at least {SCAN:g} times as fast as the JAX scan, from epoch {STEADY} on",
                "scan",
                lambda: self.ratio("scan", "ours", first=STEADY),
                at_least=SCAN,
                epochs=STEADY,
            ),
            self._target(
                f"at most {floor:g} times the floor, in every epoch",
                "floor",
                lambda: self.worst("ours", "floor"),
                at_most=floor,
            ),
            self._target(
                "the last epoch no slower than the first, beyond the floor's own drift",
                "floor",
                lambda: self.drift("ours"),
                at_most=max(1.0, noise),
                epochs=2,
            ),
        ]

    def _target(
        self,
        statement: str,
        rival: str,
        compare: Callable[[], Spread],
        *,
        at_least: float = 0,
        at_most: float = math.inf,
        epochs: int = 1,
    ) -> Target:
        if not {"ours", rival} <= set(self.names) or len(self.epochs) < epochs:
            return Target(statement, "", "not measured")
        found = compare()
        if self.is_void("ours") or self.is_void(rival):
            return Target(statement, str(found), "void")
        is_met = at_least <= found.median <= at_most
        return Target(statement, str(found), "met" if is_met else "missed")
