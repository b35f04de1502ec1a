"""Compare two revisions: does the new one do more work, or take longer?

Counts are exact, and any increase fails. Times are those of pairs of processes that run in turns
(`paired`). A slowdown fails if it is certain, larger than 5 %, larger than the machine's noise,
and found again by a second measurement (`verdict`).
"""

import math
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase

from vae_ref.gate import counters, paired
from vae_ref.gate.causes import causes, slower_line
from vae_ref.gate.paired import Pair, Settings
from vae_ref.gate.report import Report, Timing, excuse
from vae_ref.gate.revisions import GateError, Revision, accepted
from vae_ref.gate.verdict import Effect, compared, effect
from vae_ref.support import provenance

__all__ = ["MORE", "compare", "timed"]

MORE = 4  #: times as many pairs are timed where the first ones do not decide


def compare(
    base: Revision,
    head: Revision,
    settings: Settings,
    *,
    only: str = "*",
    accept: Mapping[str, str] | None = None,
    note: str = counters.NOTE,
    keep_going: bool = False,
) -> Report:
    """Count and time every workload on both sides.

    Args:
        base: The old revision.
        head: The new revision, which is judged.
        settings: How the workloads run.
        only: A pattern of the workloads to compare.
        accept: Why an increase is accepted, by a pattern of its name; the messages of the commits
            say more of them.
        note: The file of the committed counts, in the head.
        keep_going: Whether to go on after the first failure that is certain.

    Raises:
        GateError: If nothing can be compared, or the head has lost a workload.
    """
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
    reasons = accepted(base, head) | dict(accept or {})
    risen = [c for c in changes if c.head > c.base and excuse(c.name, reasons) is None]
    stopped = bool(risen) and not keep_going and settings.pairs > 0
    timings = [] if stopped else timed(base, head, common, settings, keep_going=keep_going)
    trees = base.source(settings.source), head.source(settings.source)
    named = causes(changes, before.sites, after.sites, trees)
    for timing in timings:
        if timing.slower:
            workload = timing.name.removesuffix("/time")
            lines = paired.trace(base, head, workload, settings)
            named[timing.name] = slower_line(*lines, trees)
    return Report(
        base=base,
        head=head,
        changes=changes,
        causes=named,
        timings=timings,
        absent={
            name: f"{'new' if name in after.counts else 'on neither side'}, {why}"
            for name, why in before.absent.items()
        },
        requests=requests,
        accepted=reasons,
        on=provenance.record(threads=settings.threads) | after.on,
        seconds=time.perf_counter() - start,
        stopped=stopped,
    )


def timed(
    base: Revision,
    head: Revision,
    names: list[str],
    settings: Settings,
    *,
    keep_going: bool = False,
) -> list[Timing]:
    """Time every workload, and those that look slower again, with more pairs.

    Args:
        base: The old revision.
        head: The new revision.
        names: The workloads.
        settings: How they run.
        keep_going: Whether to time all that look slower again, or one after the other until the
            first that is slower again.
    """
    if not settings.pairs:
        return []
    first = _measured(base, head, names, settings)
    suspects = [name for name in names if _effect(first[name]).slower]
    # All pairs at once: to look again after every pair would raise false alarms.
    again = replace(settings, pairs=MORE * settings.pairs)
    second: dict[str, list[Pair]] = {}
    for group in [suspects] if keep_going and suspects else [[name] for name in suspects]:
        second |= _pairs(base, head, group, again)
        if not keep_going and _effect(second[group[0]]).slower:
            break
    return [
        _timing(name, first[name], second.get(name), suspected=name in suspects) for name in names
    ]


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


def _timing(name: str, first: list[Pair], second: list[Pair] | None, *, suspected: bool) -> Timing:
    deciding = second or first
    final = _effect(deciding)
    return Timing(
        name=f"{name}/time",
        effect=final,
        seconds=min(pair.seconds for pair in deciding),
        cpu=math.exp(statistics.mean(pair.cpu for pair in deciding)),
        pairs=len(first) + len(second or ()),
        slower=bool(second) and final.slower,
        suspected=suspected,
        again=bool(second),
    )
