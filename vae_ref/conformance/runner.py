"""Hold a subject against the claims; whatever it does, the run goes on."""

import fnmatch
import platform
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from importlib import metadata

import torch

from vae_ref.conformance import guards
from vae_ref.conformance.bench import Bench
from vae_ref.conformance.body import changed
from vae_ref.conformance.records import (
    Claim,
    Inconclusive,
    Level,
    NotApplicable,
    Note,
    Report,
    Result,
    Violation,
)
from vae_ref.conformance.registry import BUDGET, all_claims
from vae_ref.conformance.subject import Subject
from vae_ref.excerpt import excerpt

__all__ = ["UnknownClaimError", "check", "expectation", "known", "select", "verify"]


class UnknownClaimError(ValueError):
    """A claim id, or a pattern of ids, that matches nothing."""


def select(only: str | None, level: Level = "standard") -> tuple[Claim, ...]:
    """Return the claims of a level whose id matches a pattern."""
    standing = [c for c in all_claims() if level == "trained" or c.level == "standard"]
    chosen = tuple(c for c in standing if only is None or fnmatch.fnmatchcase(c.id, only))
    if not chosen:
        other = any(fnmatch.fnmatchcase(c.id, only or "") for c in all_claims())
        raise UnknownClaimError(
            f"no claim matches {excerpt(repr(only))}"
            + (" but at the level trained." if other else "; vae-ref claims lists them.")
        )
    return chosen


def known(expected_failures: Mapping[str, str] | None) -> dict[str, str]:
    """Return expected failures, or raise `UnknownClaimError` if one of them is no claim."""
    expected = dict(expected_failures or {})
    if unknown := sorted(expected.keys() - {claim.id for claim in all_claims()}):
        raise UnknownClaimError(
            f"an expected failure names no claim: {excerpt(', '.join(unknown))}; "
            "vae-ref claims lists them."
        )
    return expected


def check(claim: Claim, bench: Bench, notes: list[Note] | None = None) -> Result:
    """Check one claim, under its time limit and with the global state kept."""
    missing = [need for need in claim.needs if not bench.subject.has(need)]
    if missing:
        lacks = " and ".join(need.replace("|", " or ") for need in missing)
        return Result(claim=claim, status="not-applicable", message=f"there is no {lacks}")
    start, seconds = time.perf_counter(), claim.seconds

    def result(status: str, message: str = "", **rest: object) -> Result:
        took = time.perf_counter() - start
        return Result(claim=claim, status=status, message=message, seconds=took, **rest)  # type: ignore[arg-type]

    with (
        guards.global_state_kept(),
        guards.quiet() as printed,
        warnings.catch_warnings(record=True) as warned,
        torch.enable_grad(),
    ):
        warnings.simplefilter("always")  # whatever filters are set, a warning is no failure
        try:
            if "course" in claim.needs:
                seconds *= bench.course.patience
            with (
                guards.time_limit(seconds),
                bench.mode(training=True),
                changed(bench.subject.module),
            ):
                claim.check(bench)
            answer = result("pass")
        except Violation as violation:
            answer = result(
                "fail",
                str(violation),
                symptom=violation.symptom,
                counterexample=violation.counterexample,
            )
        except NotApplicable as reason:
            answer = result("not-applicable", str(reason))
        except Inconclusive as reason:
            answer = result("inconclusive", str(reason))
        except guards.TimeLimit:
            answer = result("timeout", f"no answer within {seconds:g} s", symptom="timeout")
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            answer = result("error", guards.told(error), symptom=type(error).__name__)
    if notes is not None:
        if text := printed.getvalue().strip():
            lines = text.splitlines()
            message = f"printed {len(lines)} lines: {lines[0][:80]}"
            notes.append(Note("prints", claim.id, message))
        notes.extend(Note("warns", claim.id, str(w.message).partition("\n")[0]) for w in warned)
    return answer


def verify(
    subject: Subject,
    *,
    only: str | None = None,
    seed: int = 0,
    level: Level = "standard",
    expected_failures: Mapping[str, str] | None = None,
    ready: bool = False,
    progress: Callable[[Result], None] = lambda result: None,
) -> Report:
    """Hold a subject against every claim that applies to it.

    Args:
        subject: What is under test.
        only: A pattern of claim ids, such as ``kl/*``; by default all.
        seed: Of everything that is random.
        level: ``trained`` adds the claims that train the subject first.
        expected_failures: Claim ids with the reason why they are known to fail.
        ready: Whether the module's weights are those of a finished training: the claims that
            train take them as they are.
        progress: Called with every result.

    Returns:
        The report; ``report.verdict`` sums it up.

    Raises:
        UnknownClaimError: If ``only`` or an expected failure matches no claim.

    Example:
        >>> wrong = Subject(name="wrong", kl=lambda mu, s: (mu**2 + s.exp() - 1 - s).sum())
        >>> report = verify(wrong)
        >>> report.verdict, report.failures[0].claim.id
        ('violated', 'kl/closed-form')
    """
    from vae_ref.conformance.diagnosis import explain

    expected = known(expected_failures)
    bench, start = Bench(subject, seed, ready=ready), time.perf_counter()
    notes: list[Note] = []
    results: list[Result] = []
    for claim in select(only, level):
        results.append(expectation(check(claim, bench, notes), expected))
        progress(results[-1])
    everything = select(None, level)
    return Report(
        subject=subject.name,
        seed=seed,
        level=level,
        in_level=len(everything),
        results=explain(bench, results),
        facts=dict(bench.facts),
        measured=dict(bench.measured),
        notes=_distinct(notes),
        declared=subject.conventions.declared,
        budget=BUDGET,
        seconds=time.perf_counter() - start,
        versions={
            "python": platform.python_version(),
            "torch": torch.__version__,
            "vae_ref": metadata.version("vae_ref"),
        },
    )


def expectation(result: Result, expected: Mapping[str, str]) -> Result:
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
