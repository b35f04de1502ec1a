"""Time two revisions against each other, and one against itself, in groups of processes.

A group is three fresh processes A, B and C that live at the same time and work in turns: A B C C B
A, then B C A A C B, then C A B B A C. So any two of them work in the order A B B A: a machine that
steadily becomes slower or faster affects all alike. In each place of the order, each process works
as much as the others, because one that had done more was found to be up to 4 % slower. A turn is a
call, or some of them if they are short: neighbours disturb for milliseconds, and the shorter the
turns, the more the three have in common. Every group starts new processes, because they differ by
chance, such as in where their memory lies.

One of the three runs the head, and the others the base. Which one does is drawn for every group:
beside a busy process, one that set itself up after another was found to be 2 % slower.
"""

import json
import math
import os
import select
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from vae_ref.gate.revisions import GateError, Revision

__all__ = ["Group", "Settings", "count", "names", "time_group", "trace"]

#: The C library keeps memory that was freed. By chance, some processes returned it to the system
#: and had it mapped again in every call, which took a tenth longer.
STEADY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TOP_PAD_": str(2**28),
    "MALLOC_TRIM_THRESHOLD_": str(2**62),
}
TURN = 0.005  #: seconds that a turn takes, unless a call takes longer
TRACES = 7  #: of each side, to find the line that is slower

Lines = Sequence[Mapping[str, Any]]
"""What each line does in a call: ``place, own, total, hits``."""

WORKER = Path(__file__).with_name("worker.py")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the workers run.

    Args:
        workloads: The file that defines them, or ``file.py:function`` of each by its name.
        source: The directory of a tree from which packages are imported.
        threads: How many threads a process computes with.
        seconds: How long a group works on a workload.
        groups: How many groups of processes are timed at most; 0 if time is not measured.
        timeout: How many seconds to wait for an answer of a worker.
    """

    workloads: Path | Mapping[str, str]
    source: str = "."
    threads: int = 1
    seconds: float = 2.0
    groups: int = 40
    timeout: float = 600.0


@dataclass(frozen=True)
class Group:
    """The times of one workload in one group of processes.

    Args:
        head: The logarithm of head over base.
        again: The same of the base over itself.
        cpu: The logarithm of head over base in CPU time.
        seconds: The time of a call on the base.
    """

    head: float
    again: float
    cpu: float
    seconds: float


class Worker:
    """Starts a process of `gate.worker`, and talks to it."""

    def __init__(self, revision: Revision, settings: Settings) -> None:
        source, workloads = revision.source(settings.source), _described(settings.workloads)
        path = os.pathsep.join(filter(None, (str(source), os.environ.get("PYTHONPATH"))))
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(settings.threads))
        self.revision, self.settings = revision, settings
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        self.process = subprocess.Popen(
            [sys.executable, "-P", WORKER, workloads, source],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=STEADY | os.environ | threads | {"PYTHONPATH": path, "PYTHONHASHSEED": "0"},
        )
        self.requests = cast(IO[bytes], self.process.stdin)
        self.answers = cast(IO[bytes], self.process.stdout)

    def send(self, do: str, **request: Any) -> None:
        self.request = f"{do} {request.get('workload', 'the workloads')}"
        try:
            self.requests.write(json.dumps({"do": do, **request}).encode() + b"\n")
            self.requests.flush()
        except BrokenPipeError:
            raise self._failure(self._last_line()) from None

    def answer(self) -> dict[str, Any]:
        ready, _, _ = select.select([self.answers], [], [], self.settings.timeout)
        if not ready:
            raise self._failure(f"no answer within {self.settings.timeout:g} seconds")
        if not (line := self.answers.readline()):
            raise self._failure(self._last_line())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise self._failure(answer["error"])
        return answer

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        self.send(do, **request)
        return self.answer()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.errors.close()

    def _failure(self, why: str) -> GateError:
        return GateError(f"{self.revision.name} cannot {self.request}: {why}")

    def _last_line(self) -> str:
        self.process.wait()
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"it ended with status {self.process.returncode}"


def _described(workloads: Path | Mapping[str, str]) -> str:
    """Name the file of the workloads, or the place of each, as the worker takes them."""
    if isinstance(workloads, Path):
        return str(workloads.resolve())
    places = {}
    for name, place in workloads.items():
        file, _, function = str(place).rpartition(":")
        if not function.isidentifier() or not Path(file).is_file():
            raise GateError(
                f"[tool.vae-ref-gate.workloads] {name} must be 'file.py:function'; got {place!r}."
            )
        places[name] = f"{Path(file).resolve()}:{function}"
    return json.dumps(places)


@contextmanager
def _workers(settings: Settings, *revisions: Revision) -> Iterator[list[Worker]]:
    with ExitStack() as stack:
        workers = []
        for revision in revisions:
            workers.append(Worker(revision, settings))
            stack.callback(workers[-1].close)
        yield workers


def names(revision: Revision, settings: Settings) -> list[str]:
    """Name the workloads of the file."""
    with _workers(settings, revision) as [worker]:
        named: list[str] = worker.ask("list")["names"]
        return named


def count(settings: Settings, workload: str, *revisions: Revision) -> list[dict[str, Any]]:
    """Count a workload on every revision at the same time, each in a process of its own."""
    with _workers(settings, *revisions) as workers:
        for worker in workers:
            worker.send("count", workload=workload)
        return [worker.answer() for worker in workers]


def trace(
    base: Revision, head: Revision, workload: str, settings: Settings
) -> tuple[list[Lines], list[Lines]]:
    """Time the lines of a workload on both sides, several times in turns."""
    with _workers(settings, base, head) as workers:
        for worker in workers:
            worker.ask("prepare", workload=workload)
        pairs = [
            [worker.ask("trace", workload=workload)["lines"] for worker in workers]
            for _ in range(TRACES)
        ]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def time_group(
    base: Revision, head: Revision, workloads: Sequence[str], settings: Settings, place: int
) -> dict[str, Group]:
    """Time workloads in one group of processes, of which the head has a place from 0 to 2."""
    revisions = [base, base]
    revisions.insert(place, head)
    with _workers(settings, *revisions) as started:
        return {workload: _timed(started, place, workload, settings) for workload in workloads}


def _timed(started: Sequence[Worker], head: int, workload: str, settings: Settings) -> Group:
    workers = dict(zip("ABC", started, strict=True))
    for worker in workers.values():  # all at once; everything after this in turns
        worker.send("prepare", workload=workload)
    for worker in workers.values():
        worker.answer()
    trials = (w.ask("run", workload=workload, calls=3) for w in workers.values())
    call = max(trial["wall"] for trial in trials)
    calls = max(1, round(TURN / call))
    rounds = []
    for turn in range(3 * max(1, round(settings.seconds / (18 * calls * call)))):
        order = ("ABC", "BCA", "CAB")[turn % 3]
        blocks = [
            (name, workers[name].ask("run", workload=workload, calls=calls))
            for name in order + order[::-1]
        ]
        rounds.append(
            {
                (name, clock): sum(block[clock] for who, block in blocks if who == name)
                for name in order
                for clock in ("wall", "cpu")
            }
        )

    def time(name: str, clock: str) -> float:
        """Return the logarithm of a time, relative to the geometric mean of all three."""
        return statistics.median(
            math.log(r[name, clock]) - statistics.mean(math.log(r[n, clock]) for n in "ABC")
            for r in rounds
        )

    new = "ABC"[head]
    base, again = (name for name in "ABC" if name != new)
    return Group(
        time(new, "wall") - time(base, "wall"),
        time(again, "wall") - time(base, "wall"),
        time(new, "cpu") - (time(base, "cpu") + time(again, "cpu")) / 2,
        statistics.median(r[base, "wall"] for r in rounds) / 2,
    )
