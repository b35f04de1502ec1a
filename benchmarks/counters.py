"""Count what every workload does, and keep the counts in a note that is committed.

    python -m benchmarks.counters [--write] [--workloads FILE] [--source DIR] [--note FILE]

Counts the working tree: operations that torch dispatches, floating-point operations of its matrix
products, bytes that operations read and write, the most bytes alive at once of what a call
allocates, tensors saved for the backward pass, values that the host waits for, kernel launches
where there is a CUDA device, and modules of others imported for the first call. They are exact and
the same on every run. What the engine `native` computes in compiled code torch does not dispatch:
it is timed, not counted. Status 0 if the note says the same, 1 if it does not, 2 if nothing could
be counted. `benchmarks.compare` asks for a new note when a count falls.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gate import paired
from benchmarks.gate.paired import Settings
from benchmarks.gate.revisions import GateError, Revision, check_out
from benchmarks.gate.verdict import compared
from vae_ref.support.atomic import replacing

NOTE = "benchmarks/results/counters.json"
WORKLOADS = Path(__file__).with_name("workloads.py")

Counts = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Counted:
    """What workloads do on one revision: their counts, or why they are absent from it."""

    counts: Counts
    absent: dict[str, str]
    on: dict[str, str]


def count(names: Iterable[str], settings: Settings, *revisions: Revision) -> list[Counted]:
    """Count workloads on every revision, all in this minute and on this machine."""
    names = list(names)
    with ThreadPoolExecutor(1 if len(revisions) > 1 else 2) as pool:
        answers = list(pool.map(lambda name: paired.count(settings, name, *revisions), names))
    return [_gathered(dict(zip(names, side, strict=True))) for side in zip(*answers, strict=True)]


def _gathered(answers: dict[str, dict]) -> Counted:
    return Counted(
        {name: answer["counts"] for name, answer in answers.items() if "counts" in answer},
        {name: answer["absent"] for name, answer in answers.items() if "absent" in answer},
        next((answer["on"] for answer in answers.values() if "on" in answer), {}),
    )


def outdated(note: Path, found: Counted) -> list[str] | None:
    """Say where a note differs from what was counted; None if there is none from such a place."""
    if not note.is_file():
        return None
    try:
        noted = json.loads(note.read_text())
        if noted["on"] != found.on:
            return None
        lines = [str(c) for c in compared(noted["counts"], found.counts) if c.base != c.head]
        return lines + [
            f"{name}: not in the note" for name in found.counts if name not in noted["counts"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise GateError(f"{note} is no note of counts; write it anew with --write.") from None


def write(note: Path, found: Counted) -> None:
    """Write the note whole or not at all."""
    note.parent.mkdir(parents=True, exist_ok=True)
    with replacing(note) as file:
        file.write(json.dumps({"on": found.on, "counts": found.counts}, indent=1).encode() + b"\n")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this command and `compare` share."""
    parser.add_argument(
        "--workloads", type=Path, default=WORKLOADS, help="a file with WORKLOADS, by name"
    )
    parser.add_argument("--source", default=".", help="where in the tree packages lie")
    parser.add_argument("--note", default=NOTE, help="the committed counts")
    parser.add_argument("--threads", type=int, default=1, help="that a process computes with")


def settings_of(options: argparse.Namespace, **more: float) -> Settings:
    if not options.workloads.is_file():
        raise GateError(f"--workloads must be a file; {options.workloads} is none.")
    if options.threads < 1:
        raise GateError(f"--threads must be 1 or more; got {options.threads}.")
    return Settings(
        workloads=options.workloads, source=options.source, threads=options.threads, **more
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.counters", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--write", action="store_true", help="write the note")
    arguments(parser)
    options = parser.parse_args(argv)
    try:
        settings = settings_of(options)
        with tempfile.TemporaryDirectory() as directory:
            tree = check_out(None, Path(directory))
            [found] = count(paired.names(tree, settings), settings, tree)
        for workload, counts in found.counts.items():
            print(
                workload, *(f"  {name:17} {value:14,}" for name, value in counts.items()), sep="\n"
            )
        note = Path(options.note)
        if options.write:
            write(note, found)
            return 0
        if (lines := outdated(note, found)) is None:
            raise GateError(f"{note} is of another torch or device, or not there; --write it.")
    except (GateError, OSError) as error:
        print(f"benchmarks.counters: {error}", file=sys.stderr)
        return 2
    if lines:
        print(f"{note} says something else; see to it, or --write:", *lines, sep="\n  ")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
