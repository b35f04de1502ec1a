"""Hold a subject against the claims; whatever it does, the run goes on."""

import difflib
import fnmatch
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vae_ref.conformance import guards
from vae_ref.conformance.answers import intervals
from vae_ref.conformance.claims import BUDGET, all_claims, significance
from vae_ref.conformance.diagnosis.explain import explain
from vae_ref.conformance.loading.recognition import load
from vae_ref.conformance.mutants import BANK
from vae_ref.conformance.probe.networks import changed
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import (
    EDITION,
    Claim,
    Finding,
    Inconclusive,
    Level,
    Measure,
    NotApplicable,
    Note,
    Part,
    Report,
    Result,
    Status,
    Violation,
)
from vae_ref.conformance.subject import Subject
from vae_ref.support.errors import InputError, UserError
from vae_ref.support.excerpt import excerpt
from vae_ref.support.provenance import versions

__all__ = [
    "UnknownClaimError",
    "as_expected",
    "check",
    "probe_of",
    "require_known",
    "select",
    "subject_or_step",
    "verify",
]

_MOST_SAID = 1000  # characters of a message

_HANGING = 0.5
"""The share of a claim's CPU time from which one call of the subject is taken to hang."""

_CLOSE = 0.75
"""How like a name another has to be, to be meant perhaps."""

_LISTED = "vae-ref claims lists them."

_ELSEWHERE = "the weights are in another process, and are not asked for"

Begins = Callable[[Claim, float], None]


def _nobody(claim: Claim, seconds: float) -> None:
    """Tell nobody that a claim is about to be checked."""


class UnknownClaimError(UserError, ValueError):
    """A claim id, or a pattern of ids, that matches nothing."""


def select(
    only: str | None,
    level: Level = "standard",
    edition: int = EDITION,
    *,
    parts: tuple[Part, ...] | None = None,
) -> tuple[Claim, ...]:
    """Return the claims of a level and an edition whose id matches a pattern.

    Args:
        only: The pattern; None takes all.
        level: ``trained`` adds the claims that train the subject first.
        edition: The edition of the claims.
        parts: The parts of a kind of VAE; None takes the claims about all kinds.

    Raises:
        InputError: If there is no such edition.
        UnknownClaimError: If there is no such claim.
    """
    if not 1 <= edition <= EDITION:
        editions = " or ".join(map(str, range(1, EDITION + 1)))
        raise InputError("edition", f"be {editions}", edition, "Leave it out for the newest.")
    of_edition = tuple(claim for claim in all_claims(parts) if claim.edition <= edition)
    standing = [c for c in of_edition if level == "trained" or c.level == "standard"]
    chosen = tuple(c for c in standing if only is None or fnmatch.fnmatchcase(c.id, only))
    if chosen:
        return chosen

    def matching(claims: tuple[Claim, ...]) -> bool:
        return any(fnmatch.fnmatchcase(c.id, only or "") for c in claims)

    quoted = excerpt(repr(only))
    if matching(of_edition):
        raise UnknownClaimError(f"no claim matches {quoted} but at the level trained.")
    if matching(all_claims()):
        raise UnknownClaimError(f"no claim about this kind of VAE matches {quoted}; {_LISTED}")
    raise UnknownClaimError(f"no claim matches {quoted}; {_instead(only)}")


def require_known(expected_failures: Mapping[str, str]) -> None:
    """Raise `UnknownClaimError` if an expected failure names no claim."""
    if unknown := sorted(expected_failures.keys() - {claim.id for claim in all_claims()}):
        raise UnknownClaimError(
            f"an expected failure names no claim: {excerpt(', '.join(unknown))}; "
            f"{_instead(unknown[0])}"
        )


def _instead(pattern: str | None) -> str:
    """Say what may have been meant by a pattern that matches no claim."""
    claims = {claim.id: claim for claim in all_claims()}
    parts = [f"{part}/*" for part in dict.fromkeys(claim.part for claim in claims.values())]
    name = (pattern or "").lower()
    for claim in claims.values():
        if name in claim.kills:
            return f"it is a bug, which {claim.id} finds."
    part = f"{name.rstrip('/*')}/*"
    close = difflib.get_close_matches(name, [*claims, *parts, *BANK], n=2, cutoff=_CLOSE)
    close = [part] if part in parts else close
    return f"did you mean {' or '.join(close)}?" if close else _LISTED


def probe_of(
    subject: Subject, seed: int = 0, *, ready: bool = False, edition: int = EDITION
) -> Probe:
    """Return the probe that all claims of a run share."""
    return Probe(subject, seed, alpha=significance(edition, subject.parts), ready=ready)


def check(
    claim: Claim, probe: Probe, notes: list[Note] | None = None, *, begins: Begins = _nobody
) -> Result:
    """Check one claim, under its limit of CPU time and with the global state kept.

    What does not end, though it spends no CPU time, is checked once more before it is called a
    time-out: the machine may have been busy.

    Args:
        claim: The claim.
        probe: The subject.
        notes: Takes what the subject does beside answering.
        begins: Called before every try, with the claim and its seconds of CPU time.
    """
    missing = [need for need in claim.needs if not probe.subject.has(need)]
    if missing == ["module"] and probe.subject.elsewhere:
        return Result(claim=claim, status="not-applicable", message=_ELSEWHERE)
    if missing:
        lacks = " and ".join(need.replace("|", " or ") for need in missing)
        if missing == ["kl"] and probe.subject.has("loss"):
            lacks = "kl function of its own"
        if missing == ["forward"] and probe.subject.diagram:
            lacks = "forward function of its own, as the step was audited"
        return Result(claim=claim, status="not-applicable", message=f"there is no {lacks}")
    result, hangs = _check(claim, probe, notes, begins)
    return _check(claim, probe, notes, begins)[0] if hangs else result


def _check(
    claim: Claim, probe: Probe, notes: list[Note] | None, begins: Begins
) -> tuple[Result, bool]:
    """Check a claim once; say also whether it hangs."""
    start, seconds, hangs = time.perf_counter(), claim.seconds, False
    measured: dict[str, Measure] = {}

    def result(status: Status, message: str = "", **rest: object) -> Result:
        return Result(
            claim=claim,
            status=status,
            message=message if len(message) <= _MOST_SAID else f"{message[:_MOST_SAID]}...",
            seconds=time.perf_counter() - start,
            measured=measured,
            **rest,  # type: ignore[arg-type]
        )

    with (
        guards.global_state_kept(),
        guards.quiet() as printed,
        warnings.catch_warnings(record=True) as warned,
        torch.enable_grad(),
        guards.one_thread(),
    ):
        warnings.simplefilter("always")  # whatever filters are set, a warning is no failure
        try:
            if "course" in claim.needs:
                seconds *= probe.course.patience
            begins(claim, seconds)
            probe.longest_call = 0.0
            with (
                guards.time_limit(seconds),
                probe.mode(training=True),
                changed(probe.subject.module),
            ):
                found = claim.check(probe) or Finding()
            if found.measures:
                course = probe.course.name
                measured = intervals.placed(course, claim.id, found, probe.alpha)
                intervals.require_inside(course, found, measured)
            answer = result("pass", facts=found.facts, order=found.order)
        except (Violation, NotApplicable, Inconclusive) as found_out:
            if not _of_the_kit(found_out):
                answer = result("error", guards.kind_and_message(found_out), symptom="own finding")
            elif isinstance(found_out, Violation):
                answer = result(
                    "fail",
                    str(found_out),
                    symptom=found_out.symptom,
                    counterexample=found_out.counterexample,
                )
            elif isinstance(found_out, NotApplicable):
                answer = result("not-applicable", str(found_out))
            else:
                answer = result("inconclusive", str(found_out))
        except guards.TimeLimit as limit:
            hangs = limit.by_wall_clock
            status, message = _out_of_time(hangs, seconds, probe.longest_call)
            answer = result(status, message, symptom=status if status == "timeout" else "")
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            answer = result("error", guards.kind_and_message(error), symptom=type(error).__name__)
    if notes is not None and not hangs:
        if text := printed.getvalue().strip():
            lines = text.splitlines()
            message = f"printed {len(lines)} lines: {lines[0][:80]}"
            notes.append(Note("prints", claim.id, message))
        notes.extend(Note("warns", claim.id, str(w.message).partition("\n")[0]) for w in warned)
    return answer, hangs


def _out_of_time(hangs: bool, seconds: float, longest: float) -> tuple[Status, str]:
    """Tell a subject that does not answer from one that is only slow, which is no fault."""
    if hangs:
        return "timeout", f"no answer within {guards.patience(seconds):g} s, twice"
    if longest >= _HANGING * seconds:
        return "timeout", f"no answer within {seconds:g} s of CPU time"
    return (
        "inconclusive",
        f"{seconds:g} s of CPU time are not enough: one call alone took {longest:.2g} s",
    )


def _of_the_kit(error: BaseException) -> bool:
    """Whether the kit itself raised a finding; a subject that raises one is merely wrong."""
    frame = error.__traceback__
    while frame and frame.tb_next:
        frame = frame.tb_next
    here = Path(__file__).parent
    return frame is not None and Path(frame.tb_frame.f_code.co_filename).is_relative_to(here)


def results(
    probe: Probe,
    claims: Iterable[Claim],
    notes: list[Note],
    expected: Mapping[str, str],
    *,
    begins: Begins = _nobody,
) -> Iterator[Result]:
    """Check claims, one each time that the caller asks for the next result."""
    for claim in claims:
        yield as_expected(check(claim, probe, notes, begins=begins), expected)


def subject_or_step(
    subject: Subject | str | Path | None, step: Callable[..., Any] | None, batch: Any = None
) -> Subject:
    """Return the subject that was given, or that of a step.

    Args:
        subject: The subject, or what to load it from; or None.
        step: A function that returns the loss, of a batch if one is given; or None.
        batch: What the step is called with.

    Raises:
        InputError: If there is neither or both, or a batch without a step.
        NoVAEError: If the step has no VAE that can be judged.
        TargetError: If a subject cannot be loaded.
    """
    if subject is not None and step is None and batch is None:
        return load(str(subject)) if isinstance(subject, str | Path) else subject
    if subject is not None or step is None:
        given = {"a subject": subject, "a step": step, "a batch": batch}
        names = [name for name, value in given.items() if value is not None]
        raise InputError(
            "the arguments",
            "be a subject, or a step with or without its batch",
            " and ".join(names) or "none of them",
            "Pass one of the two.",
        )
    from vae_ref.conformance.auditing.anatomy import NoVAEError
    from vae_ref.conformance.auditing.audit import Audit, run_step

    name = getattr(step, "__qualname__", "")
    found = Audit("the step" if not name or "<" in name else name)  # as in <lambda>
    run_step(found, step, *(() if batch is None else (batch,)))
    if found.subject is None:
        raise NoVAEError(found.reason)
    return found.subject


def verify(
    subject: Subject | str | Path | None = None,
    *,
    step: Callable[..., Any] | None = None,
    batch: Any = None,
    only: str | None = None,
    seed: int = 0,
    level: Level = "standard",
    edition: int = EDITION,
    expected_failures: Mapping[str, str] | None = None,
    ready: bool = False,
    progress: Callable[[Result], None] = lambda result: None,
) -> Report:
    """Hold a subject, or the VAE of a training step, against every claim that applies to it.

    Args:
        subject: What is under test; or a file or a module to load it from, as a text or a path.
        step: Instead of a subject, a function that returns the loss.
        batch: What the step is called with, if anything; after that with all of it twice.
        only: A pattern of claim ids, such as ``kl/*``; by default all.
        seed: The seed of everything that is random.
        level: ``trained`` adds the claims that train the subject first.
        edition: The edition of the claims: a later one may demand more. By default the newest.
        expected_failures: Claim ids with the reason why they are known to fail.
        ready: Whether the module's weights are those of a finished training: the claims that
            train take them as they are.
        progress: Called with every result.

    Returns:
        The report; ``report.verdict`` sums it up.

    Raises:
        InputError: If there is neither subject nor step, or both, or a batch without a step, or
            no such edition.
        NoVAEError: If the step has no VAE that can be judged; the message says why.
        TargetError: If a subject cannot be loaded.
        UnknownClaimError: If ``only`` or an expected failure matches no claim.

    Example:
        >>> wrong = Subject(name="wrong", kl=lambda mu, s: (mu**2 + s.exp() - 1 - s).sum())
        >>> report = verify(wrong)
        >>> report.verdict, report.failures[0].claim.id
        ('violated', 'kl/closed-form')
    """
    expected = expected_failures or {}
    require_known(expected)
    subject = subject_or_step(subject, step, batch)
    chosen, start = select(only, level, edition, parts=subject.parts), time.perf_counter()
    probe, notes = probe_of(subject, seed, ready=ready, edition=edition), list[Note]()
    found: list[Result] = []
    for result in results(probe, chosen, notes, expected):
        found.append(result)
        progress(result)
    seconds = time.perf_counter() - start
    return conclude(probe, level, found, notes, edition=edition, seconds=seconds)


def conclude(
    probe: Probe,
    level: Level,
    found: Sequence[Result],
    notes: Sequence[Note],
    *,
    edition: int = EDITION,
    seconds: float,
) -> Report:
    """Explain the failures, and make the report of a run."""
    explained, more = explain(probe, found)
    facts = dict(probe.facts)
    for result in found:
        facts |= result.facts
    return Report(
        subject=probe.subject.name,
        seed=probe.seed,
        level=level,
        edition=edition,
        in_level=len(select(None, level, edition, parts=probe.subject.parts)),
        results=explained,
        parts=_parts(probe.subject),
        facts=facts,
        notes=_distinct([*notes, *more]),
        declared=probe.conventions.declared,
        budget=BUDGET,
        seconds=seconds,
        versions=versions(),
        undecided=probe.subject.undecided,
        diagram=probe.subject.diagram,
    )


def _parts(subject: Subject) -> dict[str, bool]:
    """Return what claims ask of such a subject, and whether it has it."""
    needs = [need for claim in all_claims(subject.parts) for need in claim.needs]
    names = dict.fromkeys(name for need in needs for name in need.split("|"))
    return {name: subject.has(name) for name in names if name != "course"}


def as_expected(result: Result, expected: Mapping[str, str]) -> Result:
    """Turn a failure that was expected, or one that was and did not come, into its own status."""
    if result.claim.id not in expected:
        return result
    reason = expected[result.claim.id]
    if result.status == "fail":
        return replace(result, status="expected-failure", message=f"{reason}: {result.message}")
    if result.status == "pass":
        return replace(result, status="unexpected-pass", message=f"expected to fail: {reason}")
    return result


def _distinct(notes: Iterable[Note]) -> tuple[Note, ...]:
    """Keep the first of the notes that say the same."""
    return tuple({(note.kind, note.message): note for note in reversed(list(notes))}.values())[
        ::-1
    ]
