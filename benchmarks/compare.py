"""Compare two revisions: does the new one do more work, or take longer?

    python -m benchmarks.compare BASE [HEAD] [--json FILE] [--markdown FILE] [--accept NAME]

BASE and HEAD are commits, branches, tags or directories. Without HEAD, the working tree is judged.
Counts are exact, and any increase fails; `benchmarks.counters` says what is counted. Times are
those of pairs of processes that run in turns (`gate.paired`). A slowdown fails if it is certain,
larger than 5 %, larger than the machine's noise, and found again by a second measurement
(`gate.verdict`).

To accept an increase that is intended, add a line to the message of the commit that makes it:
``Costs: training/operations for the sake of ...``. A pattern such as ``*/imports`` can take the
place of the name. The option --accept does the same. The status is 0 if nothing is worse, 1 if
something is, and 2 if the revisions could not be compared. Another project passes its own
--workloads, and with --source the directory of its packages:

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
from vae_ref.support import provenance
from vae_ref.support.atomic import replacing

MORE = 4  #: times as many pairs are timed where the first ones do not decide


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
    requests = counters.differences(head.tree / note, after)
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
    """Time every workload, and those that look slower again, with more pairs."""
    if not settings.pairs:
        return []
    first = _measured(base, head, names, settings)
    suspects = [name for name in names if _effect(first[name]).slower]
    # All at once: to look again after every pair would raise false alarms.
    again = replace(settings, pairs=MORE * settings.pairs)
    second = _pairs(base, head, suspects, again) if suspects else {}
    return [_timing(name, first[name], second.get(name)) for name in names]


def _measured(
    base: Revision, head: Revision, names: list[str], settings: Settings
) -> dict[str, list[Pair]]:
    """Time pairs, and up to `MORE` times as many where the noise leaves the result undecided."""
    found: dict[str, list[Pair]] = {name: [] for name in names}
    for share in (1, 1, MORE - 2):
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
    parser.add_argument("--json", type=Path, help="write the whole report to this file")
    parser.add_argument("--markdown", type=Path, help="write a summary to this file")
    parser.add_argument(
        "--accept", action="append", default=[], metavar="NAME", help="accept this increase"
    )
    parser.add_argument("--only", default="*", metavar="GLOB", help="compare these workloads only")
    parser.add_argument("--pairs", type=int, default=8, help="pairs to time; 0 counts only")
    parser.add_argument("--seconds", type=float, default=0.1, help="duration of a block of calls")
    parser.add_argument("--build", metavar="COMMAND", help="run this in both trees first")
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
