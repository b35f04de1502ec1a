"""What the regression gate sees: its false alarms, and the slowdowns that it finds.

    python -m benchmarks.gate_power measure [--groups N]
    python -m benchmarks.gate_power table

The first measures groups of processes that all run the working tree, quiet and beside a process
that computes all the time. The second makes 1,000 comparisons of them for every workload, whose
groups are drawn from those that were measured, and of each group the process that is called the
head; it is slowed down or not. It writes how often the gate says that the head is slower. Without
a slowdown, this checks the computation alone: the draw makes the processes alike. So the chance of
what was really measured stands beside it, of equal processes with their own roles. More than was
measured it cannot show: a disturbance that comes once a day is in no group, and groups that are
drawn do not drift.
"""

import argparse
import contextlib
import json
import math
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.race import neighbour
from benchmarks.workloads import WORKLOADS
from vae_ref.gate import paired, verdict
from vae_ref.gate.paired import Settings
from vae_ref.gate.revisions import check_out
from vae_ref.support import provenance
from vae_ref.support.atomic import replacing

RESULTS = Path(__file__).parent / "results" / "gate_power.json"
SLOWDOWNS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.1)
COMPARISONS = 1000

Pool = dict[str, list[dict[str, float]]]


def measured(groups: int, *, busy: bool) -> tuple[Pool, float]:
    """Measure groups of the working tree against itself; return them, and their seconds."""
    settings = Settings(workloads=Path(__file__).with_name("workloads.py"))
    found: Pool = {name: [] for name in WORKLOADS}
    start = time.perf_counter()
    with (
        neighbour() if busy else contextlib.nullcontext(),
        tempfile.TemporaryDirectory() as directory,
    ):
        tree = check_out(None, Path(directory))
        for number in range(groups):
            group = paired.time_group(tree, tree, [*WORKLOADS], settings, number % 3)
            for name, one in group.items():
                times = {"head": one.head, "again": one.again, "seconds": one.seconds}
                found[name].append(times)
            print("busy" if busy else "quiet", number + 1, "of", groups, flush=True)
    return found, (time.perf_counter() - start) / groups


def compared(pool: list[dict[str, float]], slowdown: float, seed: int) -> tuple[bool, int]:
    """Make a comparison of groups that are drawn; return whether it fails, and their number."""
    rng = np.random.default_rng(seed)

    def measure(names: Any, number: int) -> dict[str, tuple[float, float]]:
        group = pool[rng.integers(len(pool))]
        times = rng.permutation([0.0, group["head"], group["again"]])
        head = times[1] - times[0] + math.log1p(slowdown)
        return {names[0]: (head, times[2] - times[0])}

    found = verdict.sequence(
        ["work"],
        measure,
        groups=verdict.LOOKS[-1][0],
        false_alarms=verdict.FALSE_ALARMS / len(WORKLOADS),
    )
    return found["work"].slower, len(found["work"].groups)


def rates(pool: list[dict[str, float]]) -> dict[str, Any]:
    """Return how often each slowdown is found, and how many groups it takes."""
    rows = {}
    for number, slowdown in enumerate(SLOWDOWNS):
        seeds = range(number * COMPARISONS, (number + 1) * COMPARISONS)
        found = [compared(pool, slowdown, seed) for seed in seeds]
        rows[f"{slowdown:.0%}"] = {
            "found": sum(slower for slower, _ in found),
            "groups": statistics.mean(groups for _, groups in found),
        }
    return rows


def main() -> None:
    """Measure, or make the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["measure", "table"])
    parser.add_argument("--groups", type=int, default=40)
    chosen = parser.parse_args()
    if chosen.what == "measure":
        content: dict[str, Any] = {"on": provenance.record(threads=1), "pools": {}, "seconds": {}}
        for busy in (False, True):
            how = "busy" if busy else "quiet"
            content["pools"][how], content["seconds"][how] = measured(chosen.groups, busy=busy)
    else:
        content = json.loads(RESULTS.read_text())
        keys = [(how, name) for how, pool in content["pools"].items() for name in pool]
        with ProcessPoolExecutor() as processes:
            found = list(processes.map(rates, [content["pools"][how][name] for how, name in keys]))
        content["rates"] = {how: {} for how in content["pools"]}
        content["chances"] = {how: {} for how in content["pools"]}
        for (how, name), rows in zip(keys, found, strict=True):
            content["rates"][how][name] = rows
            groups = tuple((one["head"], one["again"]) for one in content["pools"][how][name])
            content["chances"][how][name] = verdict.Effect(groups, verdict.FALSE_ALARMS).chance
            print(how, name, {slowdown: row["found"] for slowdown, row in rows.items()})
    with replacing(RESULTS) as file:
        file.write(json.dumps(content, indent=1).encode() + b"\n")


if __name__ == "__main__":
    main()
