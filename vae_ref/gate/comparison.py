"""Compare two revisions: does the new one do more work, or take longer?

Counts are exact, and any increase fails. Times are those of groups of processes that run in turns
(`paired`). A slowdown fails if chance explains it as seldom as `verdict` says.
"""

import math
import random
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from vae_ref.gate import counters, paired
from vae_ref.gate.causes import causes, edits, slower_line
from vae_ref.gate.paired import Group, Settings
from vae_ref.gate.report import Report, Timing, excuse
from vae_ref.gate.revisions import GateError, Revision, accepted
from vae_ref.gate.verdict import FALSE_ALARMS, compared, sequence
from vae_ref.support import provenance

__all__ = ["compare", "timed"]

SHARE = 0.2  #: of a slowdown, which a line must make up to be named


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
    stopped = bool(risen) and not keep_going and settings.groups > 0
    timings = [] if stopped else timed(base, head, common, settings, keep_going=keep_going)
    trees = base.source(settings.source), head.source(settings.source)
    named = causes(changes, before.sites, after.sites, trees)
    for timing in timings:
        if timing.effect.slower:
            workload = timing.name.removesuffix("/time")
            lines = paired.trace(base, head, workload, settings)
            slowdown = timing.seconds * (timing.effect.ratio - 1)
            named[timing.name] = slower_line(*lines, trees, least=SHARE * slowdown)
    return Report(
        base=base,
        head=head,
        changes=changes,
        causes=named,
        edits=edits(trees) if named else [],
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
    """Time workloads, until a slowdown is certain, or a notable one is excluded.

    Args:
        base: The old revision.
        head: The new revision.
        names: The workloads.
        settings: How they run.
        keep_going: Whether to go on with the others after the first that is certainly slower.
    """
    groups: dict[str, list[Group]] = {name: [] for name in names}
    draw = random.SystemRandom()

    def measure(names: Sequence[str], number: int) -> dict[str, tuple[float, float]]:
        _say(f"timing {', '.join(names)}: group {number + 1}, at most {settings.groups}")
        found = paired.time_group(base, head, names, settings, draw.randrange(3))
        for name, group in found.items():
            groups[name].append(group)
        return {name: (group.head, group.again) for name, group in found.items()}

    if settings.groups and 3.0**-settings.groups > FALSE_ALARMS / len(names):
        raise GateError(f"{len(names)} workloads need more than {settings.groups} groups; see -h.")
    effects = sequence(names, measure, groups=settings.groups, keep_going=keep_going)
    return [
        Timing(
            name=f"{name}/time",
            effect=found,
            seconds=statistics.median(group.seconds for group in groups[name]),
            cpu=math.exp(statistics.mean(group.cpu for group in groups[name])),
        )
        for name, found in effects.items()
    ]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
