"""Hold one revision against another: does it do more work, or take longer?

    python -m benchmarks.compare BASE [HEAD] [--json FILE] [--markdown FILE] [--accept NAME]

BASE and HEAD are commits, branches or tags, or directories; without HEAD it is the working tree.
Counts are exact, and any increase fails; `benchmarks.counters` says what is counted. Times are
of pairs of processes, run alternately (`gate.paired`), and a slowdown fails if it is beyond doubt,
beyond 5 %, beyond the machine's noise, and there again when measured anew (`gate.verdict`).

An increase that is meant is accepted where it is made, by a line in the message of its commit,
``Costs: training/operations for the sake of ...`` (a pattern such as ``*/imports`` may stand for
the name), or by --accept. Status 0: nothing is worse; 1: something is; 2: it could not be
measured. Another project names its own --workloads, and the --source directory of its packages:

    PYTHONPATH=path/to/vae_ref python -P -m benchmarks.compare origin/main --workloads my.py
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from benchmarks import counters
from benchmarks.gate import paired, report
from benchmarks.gate.paired import Pair, Settings
from benchmarks.gate.report import Report, Timing
from benchmarks.gate.revisions import GateError, Revision, accepted, check_out
from benchmarks.gate.verdict import Effect, compared, effect
from vae_ref.atomic import replacing
from vae_ref.support import provenance

MOST = 4


def compare(
    base: Revision,
    head: Revision,
    settings: Settings,
    *,
    only: str = "*",
    accept: dict[str, str] | None = None,
    note: str = counters.NOTE,
) -> Report:
    """Count and time every workload on both sides."""
    start = time.perf_counter()
    names = [n for n in paired.names(head, settings) if fnmatchcase(n, only)]
    if not names:
        raise GateError(f"--only must match a workload; {only} matches none.")
    _say(f"counting {len(names)} workloads")
    before, after = counters.count(names, settings, base, head)
    if lost := after.absent.keys() - before.absent.keys():
        name = min(lost)
        raise GateError(f"{head.name} has lost the workload {name}: {after.absent[name]}")
    common = [name for name in after.counts if name in before.counts]
    if not common:
        why = next(iter((before.absent | after.absent).values()))
        raise GateError(f"no workload exists on both sides: {why}")
    changes = compared(before.counts, after.counts)
    requests = counters.outdated(head.tree / note, after)
    if requests is None:
        requests = [str(change) for change in changes if change.head < change.base]
    return Report(
        base=base,
        head=head,
        changes=changes,
        timings=timed(base, head, common, settings),
        absent={
            name: f"{'new' if name in after.counts else 'on neither side'}, {why}"
            for name, why in before.absent.items()
        },
        requests=requests,
        accepted=accepted(base, head) | (accept or {}),
        on=provenance.record(threads=settings.threads) | after.on,
        seconds=time.perf_counter() - start,
    )


def timed(base: Revision, head: Revision, names: list[str], settings: Settings) -> list[Timing]:
    """Time workloads, and those that look slower once more, and longer."""
    if not settings.pairs:
        return []
    first = _measured(base, head, names, settings)
    suspects = [name for name in names if _effect(first[name]).slower]
    again = replace(settings, pairs=MOST * settings.pairs)  # at once: who looks often sees much
    second = _pairs(base, head, suspects, again) if suspects else {}
    return [_timing(name, first[name], second.get(name)) for name in names]


def _measured(
    base: Revision, head: Revision, names: list[str], settings: Settings
) -> dict[str, list[Pair]]:
    """Time pairs, and up to `MOST` times as many of what the machine's noise leaves undecided."""
    found: dict[str, list[Pair]] = {name: [] for name in names}
    for share in (1, 1, MOST - 2):
        more = replace(settings, pairs=share * settings.pairs)
        for name, pairs in _pairs(base, head, names, more).items():
            found[name] += pairs
        names = [name for name in names if _effect(found[name]).undecided]
        if not names:
            break
    return found


def _pairs(
    base: Revision, head: Revision, names: list[str], settings: Settings
) -> dict[str, list[Pair]]:
    found: dict[str, list[Pair]] = {name: [] for name in names}
    for number in range(1, settings.pairs + 1):
        _say(f"timing {', '.join(names)}: pair {number} of {settings.pairs}")
        for name, pair in paired.time_pair(base, head, names, settings).items():
            found[name].append(pair)
    return found


def _effect(found: list[Pair]) -> Effect:
    return effect([pair.effect for pair in found], [pair.null for pair in found])


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _timing(name: str, first: list[Pair], second: list[Pair] | None) -> Timing:
    deciding = second or first
    final = _effect(deciding)
    return Timing(
        name=f"{name}/time",
        effect=final,
        seconds=min(pair.seconds for pair in deciding),
        cpu=math.exp(statistics.mean(pair.cpu for pair in deciding)),
        pairs=len(first) + len(second or ()),
        slower=bool(second) and final.slower,
        suspected=bool(second),
    )


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare", description=__doc__.splitlines()[0]
    )
    parser.add_argument("base", metavar="BASE", help="a revision or a directory")
    parser.add_argument("head", metavar="HEAD", nargs="?", help="default: the working tree")
    parser.add_argument("--json", type=Path, help="write everything to this file")
    parser.add_argument("--markdown", type=Path, help="write a summary to this file")
    parser.add_argument(
        "--accept", action="append", default=[], metavar="NAME", help="an increase that is meant"
    )
    parser.add_argument("--only", default="*", metavar="GLOB", help="which workloads")
    parser.add_argument("--pairs", type=int, default=8, help="of processes to time; 0 only counts")
    parser.add_argument("--seconds", type=float, default=0.1, help="a block of calls should take")
    parser.add_argument("--build", metavar="COMMAND", help="run in both trees before all else")
    counters.arguments(parser)
    return parser.parse_args(argv)


def _checked(options: argparse.Namespace) -> argparse.Namespace:
    if options.pairs in (1, 2) or options.pairs < 0:
        raise GateError(f"--pairs must be 0, or 3 or more; got {options.pairs}.")
    if not 0 < options.seconds <= 60:
        raise GateError(f"--seconds must be between 0 and 60; got {options.seconds:g}.")
    for file in filter(None, (options.json, options.markdown)):
        if not file.parent.is_dir():
            raise GateError(f"there is no directory {file.parent} for {file.name}; make it.")
    return options


def main(argv: list[str] | None = None) -> int:
    try:
        options = _checked(_options(argv))
        settings = counters.settings_of(options, pairs=options.pairs, seconds=options.seconds)
        with tempfile.TemporaryDirectory() as directory:
            sides = []
            for side, name in ("base", options.base), ("head", options.head):
                (into := Path(directory, side)).mkdir()
                sides.append(check_out(name, into, build=options.build))
            found = compare(
                *sides,
                settings,
                only=options.only,
                accept=dict.fromkeys(options.accept, "--accept"),
                note=options.note,
            )
        for file, text in (
            (options.json, json.dumps(found.json(), indent=1) + "\n"),
            (options.markdown, report.markdown(found)),
        ):
            if file:
                with replacing(file) as out:
                    out.write(text.encode())
    except (GateError, OSError, KeyboardInterrupt) as error:
        print(f"benchmarks.compare: {str(error) or 'interrupted'}", file=sys.stderr)
        return 2
    report.show(found)
    return int(bool(found.regressions))


if __name__ == "__main__":
    sys.exit(main())
