"""What the kit says: claims, what became of each, and the report of a run."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from vae_ref.conformance.bench import Bench

__all__ = [
    "Claim",
    "Diagnosis",
    "Inconclusive",
    "Measure",
    "NotApplicable",
    "Note",
    "Report",
    "Result",
    "Status",
    "Violation",
]

Part = Literal["kl", "reparameterization", "likelihood", "objective", "model", "training"]
Kind = Literal["exact", "gradient", "metamorphic", "identity", "statistical"]
Level = Literal["standard", "trained"]
Verdict = Literal["conformant", "partial", "violated"]
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
        needs: What a subject must have for the claim to apply; one of several is written ``a|b``.
        kind: How it is checked.
        tolerance: The rule of its tolerance or, of a statistical claim, what it detects.
        kills: The bugs of the bank that this claim alone must notice.
        builds_on: The claims whose failure explains a failure of this one.
        level: ``trained`` claims train the subject first.
        seconds: The time limit.
        check: Raises `Violation` where the claim does not hold.
    """

    id: str
    statement: str
    formula: str
    source: str
    part: Part
    needs: tuple[str, ...]
    kind: Kind
    tolerance: str
    kills: tuple[str, ...]
    builds_on: tuple[str, ...]
    level: Level
    seconds: float
    check: "Callable[[Bench], None]"


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


@dataclass(frozen=True)
class Note:
    """Something the subject did beside answering, such as printing."""

    kind: str
    where: str
    message: str


class Measure(NamedTuple):
    """A number measured of a trained model, and its interval; without one, both ends are NaN."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that a run found out about a subject."""

    subject: str
    seed: int
    level: Level
    in_level: int
    results: tuple[Result, ...]
    facts: dict[str, str] = field(default_factory=dict)
    measured: dict[str, Measure] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    declared: dict[str, Any] = field(default_factory=dict)
    budget: float = 0.0
    seconds: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """How many claims ended with each status."""
        return dict(Counter(result.status for result in self.results))

    @property
    def verdict(self) -> Verdict:
        """``conformant`` needs the whole level to be run and held; nothing else counts as held."""
        counts = self.counts
        if any(counts.get(bad) for bad in ("fail", "error", "timeout", "unexpected-pass")):
            return "violated"
        return "conformant" if counts.get("pass", 0) == self.in_level else "partial"

    @property
    def failures(self) -> tuple[Result, ...]:
        """Return what broke and is not explained by something more basic."""
        bad = ("fail", "error", "timeout", "unexpected-pass")
        return tuple(r for r in self.results if r.status in bad and r.explained_by is None)
