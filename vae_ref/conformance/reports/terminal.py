"""Print a report on a terminal or in a log."""

import io
import textwrap

from rich.cells import cell_len
from rich.console import Console

from vae_ref.conformance.records import Report, Result, Status
from vae_ref.conformance.reports.page import Page, padded
from vae_ref.conformance.reports.wording import (
    STATUS,
    by_part,
    by_reason,
    folded,
    rows,
    summary,
    tally,
)
from vae_ref.support.messages import say, translated

__all__ = ["as_text", "show"]

_STYLE = {
    "conformant": "bold green",
    "partial": "bold yellow",
    "undecided": "bold yellow",
    "violated": "bold red",
}

_OPEN: tuple[tuple[str, Status], ...] = (
    ("expected failures", "expected-failure"),
    ("inconclusive", "inconclusive"),
    ("not applicable", "not-applicable"),
)

_LEFT_OUT = ("formula", "source")
"""The rows that are left to ``vae-ref claims``, which shows all of a claim."""


def show(report: Report, console: Console, *, measures: bool = False) -> None:
    """Print a report: counts, failures, what was left open, and the verdict.

    A failure that another one explains is only named.

    Args:
        report: The report of a run.
        console: Where to print. Lines are wrapped at its width; words and code are never broken.
        measures: Whether to print all measures of trained models.
    """
    page = Page(console)
    page.line(f"vae-ref verify: {translated(report.subject)}", "bold")
    page.line()
    _parts(page, report)
    others = folded(report)
    for result in report.failures:
        _failure(page, result, others.pop(result.claim.id, []))
    # What explains a failure need not be a failure itself: it may be an expected one.
    page.section(
        "explained by what is reported elsewhere",
        ((root, ", ".join(ids)) for root, ids in others.items()),
    )
    for title, status in _OPEN:
        reasons = by_reason(report, status)
        page.section(title, ((reason, ", ".join(ids)) for reason, ids in reasons.items()))
    page.section(
        "noted",
        ((f"{translated(note.kind)}, {note.where}", note.message) for note in report.notes),
    )
    page.section("inferred", report.facts.items())
    if measures:
        _measured(page, report)
    page.section("declared", ((key, str(value)) for key, value in report.declared.items()))
    page.paragraph(summary(report), style=_STYLE[report.verdict])


def as_text(report: Report, width: int = 80) -> str:
    """Return what `show` prints."""
    text = io.StringIO()
    show(report, Console(file=text, width=width))
    return text.getvalue().rstrip()


def _parts(page: Page, report: Report) -> None:
    parts = by_part(report)
    longest = max(map(len, parts), default=0)
    digits = max((len(str(counts.total())) for counts in parts.values()), default=0)
    for part, counts in parts.items():
        held = say(
            "{held:{digits}} of {total:{digits}} hold",
            held=counts["pass"],
            total=counts.total(),
            digits=digits,
        )
        page.line(f"  {part:{longest}}  {held}   {tally(counts)}".rstrip())
    page.line()


def _measured(page: Page, report: Report) -> None:
    """Print a table of the measures, with their values and intervals."""
    page.line(say("measured"), "bold")
    longest = max(map(len, report.measured), default=0)
    for name, (value, low, high) in report.measured.items():
        page.line(f"  {name:{longest}} {value:11.4f}  [{low:.4f}, {high:.4f}]")
    page.line()


def _failure(page: Page, result: Result, others: list[str]) -> None:
    diagnosis = result.diagnosis
    page.line(f"{say(STATUS[result.status]).upper()} {result.claim.id}", "bold red")
    if diagnosis:
        page.paragraph(translated(diagnosis.explanation), indent=2, style="bold")
    shown = [(say(name), translated(t)) for name, t in rows(result) if name not in _LEFT_OUT]
    longest = max(7, *(cell_len(label) for label, _ in shown))
    for label, text in shown:
        page.paragraph(text, label=f"{padded(label, longest)}  ", indent=2)
    if diagnosis and diagnosis.reproduction:
        page.line(f"  {say('reproduction')}")
        page.line()
        page.line(textwrap.indent(diagnosis.reproduction.strip("\n"), " " * 6))
        page.line()
    if others:
        page.paragraph(", ".join(others), label=say("also: "), indent=2)
    page.line()
