"""Show what a comparison found: in a terminal, as JSON, and as Markdown for a page of a CI."""

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from vae_ref.gate.causes import Cause
from vae_ref.gate.revisions import Revision
from vae_ref.gate.verdict import FALSE_ALARMS, LEAST, LEVEL, Change, Effect

__all__ = ["Report", "Timing", "excuse", "markdown", "show"]


@dataclass(frozen=True)
class Timing:
    """What was found about the time of one workload.

    Args:
        name: ``workload/time``.
        effect: What the groups say.
        seconds: The time of a call on the base.
        cpu: The ratio of CPU times, for information.
    """

    name: str
    effect: Effect
    seconds: float
    cpu: float


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that a comparison found.

    Args:
        base: The old revision.
        head: The new revision, which is judged.
        changes: Every count on both sides.
        causes: The lines that make a count rise, by the name of the count.
        edits: The lines that were changed.
        timings: Every workload that was timed; none, if time was not measured.
        absent: Why a workload was not compared, by its name.
        requests: Where the note of counts should be updated.
        accepted: Why an increase is accepted, by a pattern of its name.
        on: What made the measurements.
        seconds: How long it took.
        stopped: Whether time was not measured because a count has risen.
    """

    base: Revision
    head: Revision
    changes: list[Change]
    causes: dict[str, list[Cause]]
    edits: list[str]
    timings: list[Timing]
    absent: dict[str, str]
    requests: list[str]
    accepted: dict[str, str]
    on: dict[str, Any]
    seconds: float
    stopped: bool = False

    @property
    def regressions(self) -> list[str]:
        """The names of what is worse and not accepted."""
        worse = [change.name for change in self.changes if change.head > change.base]
        worse += [timing.name for timing in self.timings if timing.effect.slower]
        return [name for name in worse if excuse(name, self.accepted) is None]

    @property
    def headline(self) -> str:
        """The verdict in a line."""
        found = self.regressions
        verdict = f"worse: {', '.join(found)}" if found else "nothing is worse"
        return f"{_named(self.head)} against {_named(self.base)}: {verdict}"

    def json(self) -> dict[str, Any]:
        """Return everything in types of JSON."""
        return {
            "status": int(bool(self.regressions)),
            "regressions": self.regressions,
            **{side: _facts(getattr(self, side)) for side in ("base", "head")},
            "counts": [dataclasses.asdict(change) for change in self.changes],
            "causes": {
                name: [dataclasses.asdict(cause) for cause in named]
                for name, named in self.causes.items()
            },
            "edits": self.edits,
            "times": [
                {"name": timing.name, "seconds": timing.seconds, "cpu": timing.cpu}
                | {"effect": timing.effect.json()}
                for timing in self.timings
            ],
            "absent": self.absent,
            "requests": self.requests,
            "accepted": self.accepted,
            "on": self.on,
            "seconds": round(self.seconds, 1),
        }


def excuse(name: str, accepted: Mapping[str, str]) -> str | None:
    """Return the reason of the first pattern that matches a name, or None."""
    return next((r for p, r in accepted.items() if fnmatchcase(name, p)), None)


EDITS = 12  #: changed lines that are listed at most
Rows = list[tuple[str, ...]]

COUNTS = ("count", "base", "head", "change", "")
TIMES = ("time", "base", "change", f"{LEVEL:.0%} interval", "chance", "groups", "CPU", "")


def _facts(revision: Revision) -> dict[str, str | None]:
    return {"name": revision.name, "commit": revision.commit}


def _named(revision: Revision) -> str:
    commit = (revision.commit or "")[:10]
    return revision.name if revision.name.startswith(commit) else f"{revision.name} ({commit})"


def _counts(report: Report) -> Rows:
    """Show what changed; the JSON has the rest."""
    return [
        (
            change.name,
            f"{change.base:,}",
            f"{change.head:,}",
            _relative(change),
            _word(report, change.name, worse=change.head > change.base, word="MORE") or "fewer",
        )
        for change in report.changes
        if change.head != change.base
    ]


def _relative(change: Change) -> str:
    if not change.base:
        return "new"
    relative = change.head / change.base - 1
    return f"{relative:+.1%}" if abs(relative) >= 0.0005 else f"{change.head - change.base:+,}"


def _times(report: Report) -> Rows:
    rows: Rows = []
    for timing in report.timings:
        effect = timing.effect
        verdict = _word(report, timing.name, worse=effect.slower, word="SLOWER")
        if not verdict and not effect.excluded:
            verdict = f"below what can be seen here ({effect.visible:.1%})"
        rows.append(
            (
                timing.name,
                f"{timing.seconds * 1e3:.3g} ms",
                f"{effect.ratio - 1:+.1%}",
                f"{effect.low - 1:+.1%} to {effect.high - 1:+.1%}",
                f"{effect.chance:.0e}" if effect.chance < 0.01 else f"{effect.chance:.2f}",
                str(len(effect.groups)),
                f"{timing.cpu - 1:+.1%}",
                verdict or ("faster" if effect.faster else "unchanged"),
            )
        )
    return rows


def _word(report: Report, name: str, *, worse: bool, word: str) -> str:
    if not worse:
        return ""
    reason = excuse(name, report.accepted)
    return word if reason is None else f"accepted: {reason}"


def _remarks(report: Report) -> list[str]:
    same = sum(change.head == change.base for change in report.changes)
    lines = [f"{same} of {len(report.changes)} counts are unchanged."]
    if not report.on.get("torch"):
        lines.append("Nothing but imports was counted: the workloads do not use torch.")
    elif report.on["device"] == "cpu":
        lines.append("Kernel launches were not counted: there is no CUDA device.")
    if report.stopped:
        lines.append("Time was not measured, because a count has risen; --keep-going measures it.")
    elif not report.timings:
        lines.append("Time was not measured.")
    else:
        lines.append(
            f"A slowdown of {LEAST:.1%} or more fails if it is certain: equal revisions fail with "
            f"a probability of at most {FALSE_ALARMS:g}, all workloads and looks together."
        )
    lines += [f"{name} was not compared: {why}" for name, why in report.absent.items()]
    if report.requests:
        lines.append("Please update the note of counts (vae-ref-gate count --write):")
        lines += [f"- {request}" for request in report.requests]
    if report.regressions:
        lines.append(
            "To accept an increase, add a line to the message of its commit: "
            f"`Costs: {report.regressions[0]} and why`."
        )
    return lines


def _causes(report: Report) -> list[str]:
    """List the lines that make counts rise, each with what it does."""
    found: dict[str, dict[str, list[str]]] = {}
    for name, named in report.causes.items():
        for cause in named:
            unit = " µs while traced" if name.endswith("/time") else ""
            rise = f"{name} {cause.base:,} -> {cause.head:,}{unit}"
            found.setdefault(cause.where, {}).setdefault(cause.action, []).append(rise)
    lines = [
        line
        for where, actions in found.items()
        for line in (where, *(f"- {what}: {', '.join(rises)}" for what, rises in actions.items()))
    ]
    elsewhere = [
        name for name, named in report.causes.items() if not any(cause.changed for cause in named)
    ]
    if elsewhere and report.edits:
        lines.append(
            f"No line that was changed does more itself, or calls one that does ({elsewhere[0]}). "
            "These lines were changed:"
        )
        lines += [f"- {edit}" for edit in report.edits[:EDITS]]
        if (more := len(report.edits) - EDITS) > 0:
            lines.append(f"- and {more} more")
    return lines


def show(report: Report) -> None:
    """Print tables."""
    from rich.console import Console
    from rich.table import Table

    wide = None if sys.stdout.isatty() else 140  # the log of a CI has no width
    console = Console(highlight=False, markup=False, soft_wrap=True, width=wide)
    for heads, rows in ((COUNTS, _counts(report)), (TIMES, _times(report))):
        if rows:
            table = Table(*heads, box=None, pad_edge=False)
            for row in rows:
                table.add_row(*row)
            console.print(table)
    console.print(*_causes(report), *_remarks(report), sep="\n", markup=False)
    console.print(report.headline, style="red" if report.regressions else "green", markup=False)


def markdown(report: Report) -> str:
    """Write the same for a page: the verdict, the tables and the remarks."""
    parts = [f"### Regression gate\n\n**{report.headline}**"]
    for heads, rows in ((COUNTS, _counts(report)), (TIMES, _times(report))):
        if rows:
            lines = (heads, ("---",) * len(heads), *rows)
            parts.append(
                "\n".join(f"| {' | '.join(c.replace('|', '∣') for c in line)} |" for line in lines)
            )
    remarks = (
        f"  {line}" if line[0] == "-" else f"- {line}"
        for line in (*_causes(report), *_remarks(report))
    )
    return "\n\n".join([*parts, "\n".join(remarks)]) + "\n"
