"""What the kit says: claims, what became of each, and the report of a run."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

__all__ = [
    "BAD",
    "EDITION",
    "TEXTBOOK",
    "Check",
    "Claim",
    "Diagnosis",
    "Diagram",
    "Edge",
    "Finding",
    "Inconclusive",
    "Measure",
    "Node",
    "NotApplicable",
    "Note",
    "Part",
    "Report",
    "Result",
    "Slot",
    "Status",
    "Violation",
]

Part = Literal[
    "kl",
    "reparameterization",
    "likelihood",
    "objective",
    "model",
    "training",
    "conditional",
    "hierarchy",
    "categorical",
    "quantisation",
    "families",
    "disentangling",
    "estimators",
    "flows",
    "evidence",
    "calibration",
]
TEXTBOOK: tuple[Part, ...] = (
    "kl",
    "reparameterization",
    "likelihood",
    "objective",
    "model",
    "training",
)
"""The parts of the textbook's VAE. Each of the others is of a kind of VAE of its own."""

Kind = Literal["exact", "gradient", "metamorphic", "identity", "statistical"]
Level = Literal["standard", "trained"]
EDITION = 1
"""The newest edition of the claims."""

Verdict = Literal["conformant", "partial", "undecided", "violated"]
Slot = str
"""A function of a VAE: of the textbook's kl, sample, nll, loss, bound, net or train.

Of another kind, it is the name that the function has in the subject.
"""

Status = Literal[
    "pass",
    "fail",
    "expected-failure",
    "unexpected-pass",
    "not-applicable",
    "inconclusive",
    "error",
    "timeout",
]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One statement about a VAE, with everything that is said of it anywhere.

    Attributes:
        id: ``part/name``; never reused for another statement.
        statement: The claim in a sentence.
        formula: The claim in LaTeX.
        source: Where the claim is from.
        part: Which part of a VAE it is about.
        slot: Which function of a VAE a violation puts in doubt: where to look for the bug.
        needs: What a subject must have for the claim to apply; one of several is written ``a|b``.
        kind: How it is checked.
        tolerance: The rule of its tolerance or, of a statistical claim, what it detects.
        kills: The bugs of the bank that this claim must notice by itself; others may, too.
        builds_on: The claims whose failure explains a failure of this one.
        level: ``trained`` claims train the subject first.
        edition: The first edition of the claims that has it; what it demands never changes.
        trains: The names of the trainings that a trained claim compares with the textbook's.
        seconds: The CPU time that checking it may take.
        check: Raises `Violation` where the claim does not hold; may return a `Finding`.
    """

    id: str
    statement: str
    formula: str
    source: str
    part: Part
    slot: Slot
    needs: tuple[str, ...]
    kind: Kind
    tolerance: str
    kills: tuple[str, ...]
    builds_on: tuple[str, ...]
    level: Level
    edition: int
    trains: tuple[str, ...]
    seconds: float
    check: "Check"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a claim found out beside that it holds.

    Attributes:
        facts: What was found out about the subject, in words.
        measures: Numbers measured of trained models. Where the course has intervals for the
            claim, these numbers have to lie in them.
        order: Pairs of measures, the first of which has to be the larger.
    """

    facts: dict[str, str] = field(default_factory=dict)
    measures: dict[str, float] = field(default_factory=dict)
    order: tuple[tuple[str, str], ...] = ()


Check = Callable[[Any], Finding | None]
"""The check of a claim: a function of the probe."""


class Violation(Exception):  # noqa: N818 - a finding, not an error
    """The claim does not hold.

    Args:
        message: One sentence that stands alone: what was found, and what should have been.
        symptom: A word for the way in which it fails, for the diagnosis.
        counterexample: Inputs, the expected and the found answer, in plain numbers.
    """

    def __init__(
        self, message: str, *, symptom: str = "", counterexample: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.symptom = symptom
        self.counterexample = dict(counterexample) if counterexample else None


class NotApplicable(Exception):  # noqa: N818
    """The claim says nothing about this subject, for a reason that is reported."""


class Inconclusive(Exception):  # noqa: N818
    """The claim could not be decided; it never counts as held."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The name of a bug: the nearest of the bank, or a transformation that explains the answer."""

    bug: str
    explanation: str
    score: float
    runner_up: str | None = None
    yours: str = ""
    right: str = ""
    reproduction: str = ""
    links: tuple[str, ...] = ()


class Measure(NamedTuple):
    """A number measured of a trained model, and its interval; without one, both ends are NaN."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of one claim."""

    claim: Claim
    status: Status
    message: str = ""
    symptom: str = ""
    seconds: float = 0.0
    counterexample: dict[str, Any] | None = None
    explained_by: str | None = None
    diagnosis: Diagnosis | None = None
    facts: dict[str, str] = field(default_factory=dict)
    measured: dict[str, Measure] = field(default_factory=dict)
    order: tuple[tuple[str, str], ...] = ()


NodeKind = Literal[
    "input",
    "encoder",
    "mu",
    "spread",
    "posterior",
    "noise",
    "code",
    "decoder",
    "outputs",
    "network",
    "divergence",
    "reconstruction",
    "term",
    "loss",
]


@dataclass(frozen=True, kw_only=True)
class Node:
    """A part of a VAE as it was found.

    Attributes:
        id: What the edges call it.
        kind: Which part it is.
        name: What a reader calls it.
        shape: The shape of its numbers; None if it is an operation, such as an encoder.
        note: What else is known of it, in a few words.
        place: The line of the source that makes it or, of an input, that first takes it.
    """

    id: str
    kind: NodeKind
    name: str
    shape: tuple[int, ...] | None = None
    note: str = ""
    place: str = ""


class Edge(NamedTuple):
    """One part is computed from another, without a third between them."""

    source: str
    target: str


@dataclass(frozen=True)
class Diagram:
    """The parts of a VAE as they were found, and which is computed from which.

    Attributes:
        nodes: The parts, from the data to the loss.
        edges: The flow of data between them.
    """

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


@dataclass(frozen=True)
class Note:
    """Something the subject did beside answering, such as printing."""

    kind: str
    where: str
    message: str


BAD: tuple[Status, ...] = ("fail", "error", "timeout", "unexpected-pass")
"""The statuses that make a verdict ``violated``."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that a run found out about a subject.

    Attributes:
        subject: What it is called.
        seed: The seed of everything that was random.
        level: The level of the run.
        edition: The edition of the claims.
        in_level: How many claims the level has in the edition.
        results: What became of each claim that was selected.
        parts: The functions that claims ask of such a subject, and whether it has them.
        facts: What was inferred about the subject.
        notes: What the subject, or the kit, did beside answering.
        declared: Where the subject differs from the textbook, by its own declaration.
        budget: The probability of a false alarm, were the subject right.
        seconds: How long the run took.
        versions: Of what it ran on.
        broken: How the run ended before its end; empty if it did not.
        undecided: Why the subject could not be judged as a whole; empty if it could.
        diagram: The parts of the VAE of a step that was audited; None of any other subject.
    """

    subject: str
    seed: int
    level: Level
    in_level: int
    results: tuple[Result, ...]
    edition: int = EDITION
    parts: dict[str, bool] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    declared: dict[str, Any] = field(default_factory=dict)
    budget: float = 0.0
    seconds: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)
    broken: str = ""
    undecided: str = ""
    diagram: Diagram | None = None

    @property
    def measured(self) -> dict[str, Measure]:
        """What was measured of trained models, by claim and name."""
        return {name: m for result in self.results for name, m in result.measured.items()}

    @property
    def counts(self) -> dict[str, int]:
        """How many claims ended with each status."""
        return dict(Counter(result.status for result in self.results))

    @property
    def judged(self) -> int:
        """How many claims were decided, in whichever way."""
        open_ends = ("not-applicable", "inconclusive")
        return sum(result.status not in open_ends for result in self.results)

    @property
    def verdict(self) -> Verdict:
        """``conformant`` needs the whole level to be run and held; nothing else counts as held.

        ``undecided`` says that nothing is known to be wrong, but that some claim could not be
        decided, or none was judged at all.
        """
        counts = self.counts
        if self.broken or any(counts.get(bad) for bad in BAD):
            return "violated"
        if counts.get("inconclusive") or self.undecided or not self.judged:
            return "undecided"
        return "conformant" if counts.get("pass", 0) == self.in_level else "partial"

    @property
    def exit_status(self) -> int:
        """The status of the command, 1 if violated, 3 if undecided, and 0 otherwise."""
        return {"violated": 1, "undecided": 3}.get(self.verdict, 0)

    @property
    def failures(self) -> tuple[Result, ...]:
        """Return what broke and is not explained by something more basic."""
        return tuple(r for r in self.results if r.status in BAD and r.explained_by is None)
