"""Print a report on a terminal or in a log."""

import io
import textwrap
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from vae_ref.conformance.records import Report, Result, Status
from vae_ref.conformance.reports.wording import (
    STATUS,
    by_part,
    by_reason,
    folded,
    printable,
    rows,
    summary,
    tally,
)

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

_COLUMN = 26
"""The longest name that has a column of its own; after a longer one, the text has its own line."""


def show(report: Report, console: Console, *, measures: bool = False) -> None:
    """Print a report: counts, failures, what was left open, and the verdict.

    A failure that another one explains is only named.

    Args:
        report: The report of a run.
        console: Where to print. Lines are wrapped at its width; words and code are never broken.
        measures: Whether to print all measures of trained models.
    """
    page = _Page(console)
    page.line(f"vae-ref verify: {report.subject}", "bold")
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
    page.section("noted", ((f"{n.kind}, {n.where}", n.message) for n in report.notes))
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


class _Page:
    """Prints lines on a console, wrapped, every text as it is."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._width = max(console.width, 40)

    def line(self, text: str = "", style: str = "") -> None:
        """Print a line without wrapping it."""
        encoding = self._console.encoding
        text = printable(text).encode(encoding, "backslashreplace").decode(encoding)
        self._console.print(Text(text, style), soft_wrap=True, highlight=False)

    def paragraph(self, text: str, label: str = "", indent: int = 0, style: str = "") -> None:
        """Print a wrapped text; its other lines are indented like its first."""
        wrapped = textwrap.wrap(
            f"{label}{printable(text)}",
            self._width,
            initial_indent=" " * indent,
            subsequent_indent=" " * (indent + len(label)),
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in wrapped:
            self.line(line, style)

    def section(self, title: str, items: Iterable[tuple[str, str]]) -> None:
        """Print pairs under a title, or nothing if there are none."""
        pairs = list(items)
        if not pairs:
            return
        self.line(title, "bold")
        longest = max(len(name) for name, _ in pairs)
        for name, text in pairs:
            if longest <= _COLUMN:
                self.paragraph(text, label=f"{printable(name):{longest}}  ", indent=2)
            else:
                self.paragraph(f"{name}:", indent=2)
                self.paragraph(text, indent=6)
        self.line()


def _parts(page: _Page, report: Report) -> None:
    parts = by_part(report)
    longest = max(map(len, parts), default=0)
    digits = max((len(str(counts.total())) for counts in parts.values()), default=0)
    for part, counts in parts.items():
        row = f"  {part:{longest}}  {counts['pass']:{digits}} of {counts.total():{digits}} hold"
        page.line(f"{row}   {tally(counts)}".rstrip())
    page.line()


def _measured(page: _Page, report: Report) -> None:
    """Print a table of the measures, with their values and intervals."""
    page.line("measured", "bold")
    longest = max(map(len, report.measured), default=0)
    for name, (value, low, high) in report.measured.items():
        page.line(f"  {name:{longest}} {value:11.4f}  [{low:.4f}, {high:.4f}]")
    page.line()


def _failure(page: _Page, result: Result, others: list[str]) -> None:
    claim, diagnosis = result.claim, result.diagnosis
    page.line(f"{STATUS[result.status].upper()} {claim.id}", "bold red")
    if diagnosis:
        page.paragraph(diagnosis.explanation, indent=2, style="bold")
    for label, text in rows(result):
        if label not in _LEFT_OUT:
            page.paragraph(text, label=f"{label:7}  ", indent=2)
    if diagnosis and diagnosis.reproduction:
        page.line("  reproduction")
        page.line()
        page.line(textwrap.indent(diagnosis.reproduction.strip("\n"), " " * 6))
        page.line()
    if others:
        page.paragraph(", ".join(others), label="also: ", indent=2)
    page.line()
