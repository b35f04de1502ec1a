"""Judge in a child process: whatever becomes of it, there is a report."""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from vae_ref.cli.judge import CHILD, Request
from vae_ref.conformance.records import Claim, Note, Report, Result
from vae_ref.conformance.reports.picture import Picture
from vae_ref.conformance.supervisor import Child
from vae_ref.conformance.transfer import claim_from, plain, report_from, result_from
from vae_ref.support.errors import UserError

__all__ = ["JudgeFaultError", "supervise"]

_FIRST = 400.0
"""The seconds that a child may take to load its target."""

_HANGS = 3
"""How many claims may hang before the run is broken off."""


class JudgeFaultError(Exception):
    """The kit itself failed; the message says how."""


class _Run:
    """What the children of a run have said so far."""

    def __init__(self, request: Request) -> None:
        self.request, self.start = request, time.perf_counter()
        self.report = Report(
            subject=request.name, seed=request.seed, level=request.level, in_level=0, results=()
        )
        self.whole = False
        self.pictures: list[Picture] = []
        self.results: dict[str, Result] = {}
        self.claim: Claim | None = None
        self.hung: list[str] = []
        self.notes: list[Note] = []

    def take(
        self,
        message: dict[str, Any],
        say: Callable[[Result], None],
        expect: Callable[[int], None],
    ) -> None:
        """Take a message of a child."""
        match message:
            case {"kind": "begin", "report": report, "count": count}:
                self.report = report_from(report)
                expect(count)
            case {"kind": "checking", "claim": claim}:
                self.claim = claim_from(claim)
            case {"kind": "result", "result": data}:
                result = result_from(data)
                self.results[result.claim.id], self.claim = result, None
                say(result)
            case {"kind": "report", "report": report, "pictures": pictures}:
                self.report, self.whole = report_from(report), True
                self.pictures = [Picture(**picture) for picture in pictures]
            case {"kind": "refused", "message": text}:
                raise UserError(text)
            case {"kind": "fault", "message": text}:
                raise JudgeFaultError(text)

    def broken(self, end: str) -> Report:
        """Return the report of a run that broke off."""
        results = dict(self.results)
        during = "while it was loaded"
        if self.claim:
            during = f"in {self.claim.id}"
            why = f"the process {end} while this was checked"
            results[self.claim.id] = Result(
                claim=self.claim, status="error", message=why, symptom="process ended"
            )
        elif results:
            during = "after its last claim"
        return self.concluded(tuple(results.values()), f"the target's process {end} {during}")

    def concluded(self, results: Iterable[Result], broken: str = "") -> Report:
        """Return the report with these results, and with the notes of the supervisor."""
        return replace(
            self.report,
            results=tuple(results),
            notes=(*self.report.notes, *self.notes),
            seconds=time.perf_counter() - self.start,
            broken=broken,
        )


def supervise(
    request: Request,
    say: Callable[[Result], None],
    *,
    expect: Callable[[int], None] = lambda count: None,
    first: float = _FIRST,
) -> tuple[Report, list[Picture]]:
    """Judge in a child process; whatever becomes of it, there is a report.

    A child that hangs where no signal reaches it is killed, and the claim is given to another. If
    that hangs too, the claim has timed out, and a third child goes on with the next.

    Args:
        request: What is to be judged.
        say: Called with every result.
        expect: Called with the number of claims, once the target is loaded.
        first: The seconds that a child may take to load its target.
    """
    run = _Run(request)
    while True:
        earlier = [plain(result) for result in run.results.values()]
        child = Child(CHILD, vars(replace(request, earlier=earlier)), patience=first)
        try:
            for message in child.messages():
                run.take(message, say, expect)
                if run.whole:
                    break
        finally:
            end = child.end()
        if child.written:
            what = f"wrote {child.written} lines outside of Python: {child.first[:80]}"
            run.notes.append(Note("prints", request.name, what))
        if run.whole:
            return run.concluded(run.report.results), run.pictures
        if not (child.hung and run.claim):
            return run.broken(end), []
        run.hung.append(run.claim.id)
        if run.hung.count(run.claim.id) == 2:
            why = "no answer, and no signal reaches it; it was tried twice"
            run.results[run.claim.id] = Result(
                claim=run.claim, status="timeout", message=why, symptom="timeout"
            )
            if len(set(run.hung)) == _HANGS:
                return run.broken(f"hung in {_HANGS} claims"), []
        run.claim = None
