"""The command ``vae-ref-gate``."""

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from vae_ref.gate import counters, paired, report, trend
from vae_ref.gate import history as remembered
from vae_ref.gate.comparison import compare
from vae_ref.gate.config import configured
from vae_ref.gate.paired import Settings
from vae_ref.gate.revisions import GateError, check_out, commits
from vae_ref.gate.verdict import LOOKS
from vae_ref.support import command
from vae_ref.support.atomic import replacing

__all__ = ["main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Say whether a change makes a program do more work, or take longer.",
)

_Workloads = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A file that defines WORKLOADS.",
        show_default="those of pyproject.toml",
    ),
]
_Source = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="The directory of the packages.", show_default="."),
]
_Note = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", help="The file of the committed counts.", show_default=counters.NOTE
    ),
]
_Threads = Annotated[
    int | None, typer.Option(help="How many threads a process has.", show_default="1")
]


@app.command("compare")
def compare_command(
    base: Annotated[str, typer.Argument(help="A commit, branch, tag or directory.")],
    head: Annotated[
        str | None,
        typer.Argument(help="The revision that is judged.", show_default="the working tree"),
    ] = None,
    *,
    counters_only: Annotated[
        bool, typer.Option("--counters-only", help="Count, and do not measure time: quick, exact.")
    ] = False,
    only: Annotated[str, typer.Option(metavar="GLOB", help="Compare these workloads only.")] = "*",
    accept: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB",
            help="Accept this increase. So does a line 'Costs: NAME and why' of the message of "
            "the commit that makes it.",
        ),
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Do not stop at the first certain failure.")
    ] = False,
    groups: Annotated[
        int | None,
        typer.Option(help="How many groups of processes are timed at most.", show_default="40"),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(help="How long a group works on a workload.", show_default="2"),
    ] = None,
    build: Annotated[
        str | None, typer.Option(metavar="COMMAND", help="Run this in both trees first.")
    ] = None,
    workloads: _Workloads = None,
    source: _Source = None,
    note: _Note = None,
    threads: _Threads = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write the whole report there."),
    ] = None,
    markdown: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a summary there, for the page of a CI."),
    ] = None,
) -> int:
    """Compare two revisions; the status is 0 if nothing is worse, 1 if something is.

    It is 2 if the revisions could not be compared. Counts are exact, and any increase fails.
    Times are those of groups of processes that run in turns.
    """
    given = {
        "workloads": workloads,
        "source": source,
        "note": note,
        "threads": threads,
        "groups": 0 if counters_only else groups,
        "seconds": seconds,
        "build": build,
    }
    chosen = configured(Path(), given)
    settings = _settings(chosen)
    for file in filter(None, (json_file, markdown)):
        if not file.parent.is_dir():
            raise GateError(f"there is no directory {file.parent} for {file.name}; make it.")
    with tempfile.TemporaryDirectory() as directory:
        old, new = Path(directory, "base"), Path(directory, "head")
        old.mkdir()
        new.mkdir()
        found = compare(
            check_out(base, old, build=chosen.get("build")),
            check_out(head, new, build=chosen.get("build")),
            settings,
            only=only,
            accept=dict.fromkeys(accept or (), "--accept"),
            note=chosen.get("note", counters.NOTE),
            keep_going=keep_going,
        )
    for out, text in (
        (json_file, json.dumps(found.json(), indent=1) + "\n"),
        (markdown, report.markdown(found)),
    ):
        if out:
            with replacing(out) as opened:
                opened.write(text.encode())
    report.show(found)
    return int(bool(found.regressions))


@app.command("count")
def count_command(
    *,
    write: Annotated[bool, typer.Option("--write", help="Write the note.")] = False,
    workloads: _Workloads = None,
    source: _Source = None,
    note: _Note = None,
    threads: _Threads = None,
) -> int:
    """Count the working tree, and compare it with the note, a committed file of counts.

    The status is 0 if the note agrees, 1 if it does not, and 2 if nothing could be counted.
    """
    given = {"workloads": workloads, "source": source, "note": note, "threads": threads}
    chosen = configured(Path(), given)
    settings = _settings(chosen)
    with tempfile.TemporaryDirectory() as directory:
        tree = check_out(None, Path(directory), build=chosen.get("build"))
        [found] = counters.count(paired.names(tree, settings), settings, tree)
    for workload, counts in found.counts.items():
        print(workload, *(f"  {name:17} {value:14,}" for name, value in counts.items()), sep="\n")
    file = Path(chosen.get("note", counters.NOTE))
    if write:
        counters.write(file, found)
        return 0
    if (lines := counters.differences(file, found)) is None:
        raise GateError(f"{file} is missing, or from another torch or device; --write it.")
    if lines:
        print(f"{file} differs from the counts; find out why, or --write it:", *lines, sep="\n  ")
    return int(bool(lines))


_History = Annotated[Path, typer.Option("--history", metavar="FILE", help="The history.")]


@app.command("record")
def record_command(
    revisions: Annotated[
        list[str] | None, typer.Argument(help="Commits; HEAD, if none is named.")
    ] = None,
    *,
    history: _History = Path("history.jsonl"),
    last: Annotated[
        int | None, typer.Option(help="Record so many commits, spread evenly over all there are.")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="The commit to time against.", show_default="that of the history"),
    ] = None,
    groups: Annotated[int, typer.Option(help="How many groups of processes are timed.")] = 3,
    seconds: Annotated[float | None, typer.Option(help="As of compare.")] = None,
    build: Annotated[str | None, typer.Option(metavar="COMMAND", help="As of compare.")] = None,
    workloads: _Workloads = None,
    source: _Source = None,
    threads: _Threads = None,
) -> int:
    """Count and time commits, and add a line for each to a history."""
    given = {"workloads": workloads, "source": source, "threads": threads, "build": build}
    chosen = configured(Path(), given | {"seconds": seconds})
    settings = replace(_settings(chosen), groups=groups)
    known = remembered.read(history)
    fixed = reference or (known[-1]["reference"] if known else "HEAD")
    names = revisions or ["HEAD"]
    if last:
        every = commits()
        names = [every[round(n * (len(every) - 1) / max(1, last - 1))] for n in range(last)]
    for line in remembered.record(names, fixed, settings, history, build=chosen.get("build")):
        print(line["commit"][:10], line["subject"], line.get("failed", ""), flush=True)
    return 0


@app.command("trend")
def trend_command(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="The page to write.")],
    *,
    history: _History = Path("history.jsonl"),
) -> int:
    """Draw the history as a page, and name the commits where a count or a time changed."""
    order = commits()
    if not (found := remembered.series(remembered.read(history), order)):
        raise GateError(
            f"{history} has no commit of this repository; vae-ref-gate record adds one."
        )
    title = f"History of {Path.cwd().name}"
    with replacing(out) as opened:
        opened.write(trend.page(found, order, title).encode())
    number = sum(len(series.steps) for series in found)
    print(f"{number} change{'s' * (number != 1)}; see {out}")
    return 0


def _settings(chosen: dict[str, Any]) -> Settings:
    workloads = chosen.get("workloads")
    if workloads is None:
        raise GateError(
            "nothing says what to measure; write [tool.vae-ref-gate.workloads] in pyproject.toml "
            "with lines such as step = 'speed.py:step', or pass --workloads FILE."
        )
    if not isinstance(workloads, dict) and not (workloads := Path(workloads)).is_file():
        raise GateError(f"--workloads must be a file; {workloads} is not.")
    settings = Settings(
        workloads=workloads,
        **{k: chosen[k] for k in ("source", "threads", "groups", "seconds") if k in chosen},
    )
    if settings.threads < 1:
        raise GateError(f"--threads must be 1 or more; got {settings.threads}.")
    if settings.groups and not LOOKS[0][0] <= settings.groups <= LOOKS[-1][0]:
        raise GateError(
            f"--groups must be 0, or {LOOKS[0][0]} to {LOOKS[-1][0]}; got {settings.groups}."
        )
    if not 0 < settings.seconds <= 60:
        raise GateError(f"--seconds must be between 0 and 60; got {settings.seconds:g}.")
    return settings


def run(arguments: list[str] | None = None) -> int:
    """Run the command, and return its exit status."""
    return command.run(app, "vae-ref-gate", arguments)


def main() -> None:
    """Run the command of ``sys.argv``; answer bad input with one line and exit status 2."""
    sys.exit(run())
