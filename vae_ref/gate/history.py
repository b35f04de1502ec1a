"""Remember what every commit does and how long it takes, and find where that changed.

A history is a file with a line of JSON for each commit. A commit is timed against one reference,
which stays the same, in groups of processes that work in turns: so the pace of the machine in that
hour does not matter. Counts are exact, and every change of a count is one. The times of commits in
their order are cut into stretches of the same time by PELT (Killick, Fearnhead and Eckley 2012),
with the scatter of the groups as the noise.
"""

import json
import math
import statistics
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vae_ref.gate import counters, paired
from vae_ref.gate.paired import Settings
from vae_ref.gate.revisions import GateError, Revision, check_out, log
from vae_ref.support import provenance
from vae_ref.support.atomic import replacing

__all__ = ["Series", "Step", "read", "record", "series"]

LEAST = 0.01  #: the smallest change of a time that is named, relative
PENALTY = 3.0  #: of a change of time, in units of the variance times the logarithm of the length

Line = dict[str, Any]


def record(
    names: Sequence[str],
    reference: str,
    settings: Settings,
    file: Path,
    *,
    build: str | None = None,
) -> Iterator[Line]:
    """Count and time commits, and add a line for each to a file; yield the lines.

    Args:
        names: The commits. Those that the file has from this machine are left out.
        reference: The commit that all are timed against.
        settings: How the workloads run; of the groups, all are timed.
        file: The history.
        build: A shell command to run in every tree first.

    Raises:
        GateError: If there is no such commit. One that does not run gets a line that says why.
    """
    if not file.parent.is_dir():
        raise GateError(f"there is no directory {file.parent} for {file.name}; make it.")
    on, against = provenance.record(threads=settings.threads), log(reference)[0]
    known = {
        line["commit"]
        for line in read(file)
        if _machine(line) == _machine({"on": on, "reference": against}) and "failed" not in line
    }
    with tempfile.TemporaryDirectory() as directory:
        fixed = check_out(against, Path(directory), build=build)
        counters.count(paired.names(fixed, settings), settings, fixed)  # an error ends it here
        for name in names:
            commit, date, subject = log(name)
            if commit in known:
                continue
            known.add(commit)
            with tempfile.TemporaryDirectory() as trees:
                tree = check_out(commit, Path(trees), build=build)
                line: Line = {"commit": commit, "date": date, "subject": subject, "on": on}
                line |= {"reference": against, "counts": {}, "times": {}, "absent": {}}
                try:
                    line |= _measured(fixed, tree, settings)
                except GateError as error:  # an old commit need not run on this machine
                    line["failed"] = str(error)
            lines = [*read(file), line]
            with replacing(file) as opened:
                opened.write("".join(json.dumps(each) + "\n" for each in lines).encode())
            yield line


def _measured(fixed: Revision, tree: Revision, settings: Settings) -> Line:
    names = paired.names(tree, settings)
    before, after = counters.count(names, settings, fixed, tree)
    common = [name for name in after.counts if name in before.counts]
    times: dict[str, list[float]] = {name: [] for name in common}
    for number in range(settings.groups if common else 0):
        for name, group in paired.time_group(fixed, tree, common, settings, number % 3).items():
            times[name].append(group.head - group.again / 2)
    return {"counts": after.counts, "times": times, "absent": after.absent}


def read(file: Path) -> list[Line]:
    """Return the lines of a history, which need not exist yet.

    Raises:
        GateError: If it is not one.
    """
    if not file.exists():
        return []
    try:
        lines = [json.loads(text) for text in file.read_text(encoding="utf-8").splitlines()]
        for line in lines:
            _ = line["commit"], line["counts"], line["times"], line["on"], line["reference"]
    except (OSError, ValueError, KeyError, TypeError):
        raise GateError(f"{file} is not a history; vae-ref-gate record makes one.") from None
    return lines


def _machine(line: Line) -> tuple[Any, ...]:
    keys = ("processor", "cores", "torch", "python", "threads")
    return (*(line["on"].get(key) for key in keys), line["reference"])


@dataclass(frozen=True)
class Step:
    """A change of a count or a time.

    Args:
        at: The number of the first commit that has it, among those of the series.
        before: The value until then.
        after: The value from there on.
    """

    at: int
    before: float
    after: float


@dataclass(frozen=True)
class Series:
    """A count or a time of a workload on one machine.

    Args:
        name: ``workload/counter`` or ``workload/time``.
        machine: The machine, in words.
        lines: The lines of the history that have it, in the order of the commits.
        values: The counts; or the times, relative to the reference.
        steps: Where they changed.
    """

    name: str
    machine: str
    lines: list[Line]
    values: list[float]
    steps: list[Step]


def series(lines: Iterable[Line], order: Sequence[str]) -> list[Series]:
    """Gather the counts and times of a history, and find where they changed.

    Args:
        lines: The lines of a history.
        order: All commits, the oldest first.
    """
    place = {commit: number for number, commit in enumerate(order)}
    known = sorted(
        (line for line in lines if line["commit"] in place), key=lambda line: place[line["commit"]]
    )
    machines: dict[tuple[Any, ...], list[Line]] = {}
    for line in known:
        machines.setdefault(_machine(line), []).append(line)
    return [
        found
        for (processor, cores, torch, python, *_), some in machines.items()
        for found in _of_machine(
            f"{processor}, {cores} cores, torch {torch}, Python {python}", some
        )
    ]


def _of_machine(machine: str, lines: list[Line]) -> Iterator[Series]:
    workloads = dict.fromkeys(name for line in lines for name in line["counts"])
    for name in workloads:
        have = [line for line in lines if line["times"].get(name)]
        if have:
            groups = [line["times"][name] for line in have]
            middles = [statistics.median(group) for group in groups]
            values = [math.exp(middle) for middle in middles]
            yield Series(f"{name}/time", machine, have, values, _cuts(middles, groups))
        some = [line for line in lines if name in line["counts"]]
        for counter in dict.fromkeys(key for line in some for key in line["counts"][name]):
            have = [line for line in some if counter in line["counts"][name]]
            counts = [line["counts"][name][counter] for line in have]
            steps = [
                Step(at, counts[at - 1], counts[at])
                for at in range(1, len(counts))
                if counts[at] != counts[at - 1]
            ]
            yield Series(f"{name}/{counter}", machine, have, counts, steps)


def _cuts(middles: list[float], groups: list[list[float]]) -> list[Step]:
    """Cut times into stretches that are alike, and return the steps between them."""
    try:
        import ruptures
    except ImportError:
        raise GateError("change points need ruptures; pip install ruptures.") from None
    spreads = [np.var(group, ddof=1) / len(group) for group in groups if len(group) > 1]
    if len(middles) < 4 or not spreads:
        return []
    noise = max(float(np.median(spreads)), 1e-8)
    signal = np.array(middles)[:, None]
    algorithm = ruptures.Pelt(model="l2", min_size=2, jump=1).fit(signal)
    ends = algorithm.predict(pen=PENALTY * noise * math.log(len(middles)))
    starts = [0, *ends[:-1]]
    levels = [math.exp(statistics.mean(middles[a:b])) for a, b in zip(starts, ends, strict=True)]
    return [
        Step(at, before, after)
        for at, before, after in zip(starts[1:], levels, levels[1:], strict=False)
        if abs(after / before - 1) >= LEAST
    ]
