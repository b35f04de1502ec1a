"""Count what every workload does, and keep the counts in a committed file, the note.

    python -m benchmarks.counters [--write] [--workloads FILE] [--source DIR] [--note FILE]

The working tree is counted: operations that torch dispatches, floating-point operations of its
matrix products, bytes that operations read and write, the peak of the bytes that a call
allocates, tensors saved for the backward pass, values that the host waits for, kernel launches
if there is a CUDA device, and modules of other projects that the first call imports. The counts
are exact, and the same on every run. What the engine `native` computes in compiled code is not
dispatched by torch: it is timed, but not counted. The status is 0 if the note agrees, 1 if it
does not, and 2 if nothing could be counted. `benchmarks.compare` asks for a new note when a count
falls.
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
    """The counts of workloads on one revision, or why they are absent from it."""

    counts: Counts
    absent: dict[str, str]
    on: dict[str, str]


def count(names: Iterable[str], settings: Settings, *revisions: Revision) -> list[Counted]:
    """Count workloads on every revision, on the same machine and at the same time."""
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


def differences(note: Path, found: Counted) -> list[str] | None:
    """List where a note differs from the counts; None if there is no note to compare with."""
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
        raise GateError(f"{note} is not a note of counts; write it with --write.") from None


def write(note: Path, found: Counted) -> None:
    """Write the note whole or not at all."""
    note.parent.mkdir(parents=True, exist_ok=True)
    with replacing(note) as file:
        file.write(json.dumps({"on": found.on, "counts": found.counts}, indent=1).encode() + b"\n")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that this command shares with `compare`."""
    parser.add_argument(
        "--workloads", type=Path, default=WORKLOADS, help="a file that defines WORKLOADS"
    )
    parser.add_argument("--source", default=".", help="directory with the packages")
    parser.add_argument("--note", default=NOTE, help="file of the committed counts")
    parser.add_argument("--threads", type=int, default=1, help="threads per process")


def settings_of(options: argparse.Namespace, **more: float) -> Settings:
    if not options.workloads.is_file():
        raise GateError(f"--workloads must be a file; {options.workloads} is not.")
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
        if (lines := differences(note, found)) is None:
            raise GateError(f"{note} is missing, or from another torch or device; --write it.")
    except (GateError, OSError) as error:
        print(f"benchmarks.counters: {error}", file=sys.stderr)
        return 2
    if lines:
        print(f"{note} differs from the counts; find out why, or --write it:", *lines, sep="\n  ")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
