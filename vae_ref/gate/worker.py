"""A process of one revision: it sets up workloads, times them and counts them when asked.

    python -P worker.py WORKLOADS SOURCE

WORKLOADS is a file that defines ``WORKLOADS``, or the place of each workload, in JSON. Requests
and answers are JSON, one per line. SOURCE comes first in PYTHONPATH. This file is started by its
path and loads counting.py by its path, so that SOURCE alone decides which revision of a package is
imported. torch is imported only if a workload imports it.
"""

import functools
import gc
import importlib.util
import json
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

PREFIX = "gate_loads_"
FRAMES = 10  #: of the project are noted where something is counted

Chain = tuple[tuple[str, int], ...]
"""Files and lines, each called by the next."""


class Project:
    """Tells the files of the project, and which line of them imported a module.

    Args:
        source: The directory of its packages. Files in it have names that are relative to it.
        files: Its workloads.
    """

    def __init__(self, source: Path, files: set[str]) -> None:
        self.source, self.files = source, files
        self.importers: dict[str, Chain] = {}
        self.relative = functools.cache(self._relative)
        sys.meta_path.insert(0, self)

    def _relative(self, file: str) -> str | None:
        if file in self.files:
            return file
        return str(Path(file).resolve().relative_to(self.source)) if self.has(file) else None

    def has(self, file: str) -> bool:
        """Whether a file is of its packages. What is generated, or installed there, is not."""
        path = Path(file).resolve()
        foreign = file.startswith("<") or "site-packages" in path.parts
        return not foreign and path.is_relative_to(self.source)

    def chain(self, frame: FrameType | None) -> Chain:
        """Return file and line of the frames of the project, the innermost first."""
        found = []
        while frame:
            if file := self.relative(frame.f_code.co_filename):
                found.append((file, frame.f_lineno))
            frame = frame.f_back
        return tuple(found[:FRAMES])

    def find_spec(self, name: str, *_: object) -> None:
        """Note who imports a module, and leave it to others to find it."""
        self.importers.setdefault(name, self.chain(sys._getframe(1)))


class Process:
    """Answers the requests: runs the workloads of a file with the packages of a tree."""

    def __init__(self, workloads: str, source: str) -> None:
        self.source = Path(source).resolve()
        places = json.loads(workloads) if workloads.startswith("{") else {"": f"{workloads}:"}
        files = {place.rpartition(":")[0] for place in places.values()}
        self.project = Project(self.source, files)
        self.workloads: dict[str, Callable[[], Callable[[], object]]]
        if workloads.startswith("{"):
            self.workloads = {name: function(place) for name, place in places.items()}
        else:
            self.workloads = load(Path(workloads)).WORKLOADS
        self.calls: dict[str, Callable[[], object]] = {}

    def list(self) -> dict[str, Any]:
        """Name the workloads."""
        return {"names": [*self.workloads]}

    def prepare(self, workload: str) -> dict[str, Any]:
        """Set up a workload and warm it up, or say what this revision lacks."""
        if "torch" in sys.modules:
            sys.modules["torch"].manual_seed(0)
        try:
            call = self.calls[workload] = self.workloads[workload]()
        except (ImportError, AttributeError) as error:
            return {"absent": one_line(error)}
        call()
        if not any(self._ours(m) for n, m in [*sys.modules.items()] if not n.startswith(PREFIX)):
            raise LookupError(f"it imports nothing from {self.source}; see --source")
        gc.collect()
        gc.freeze()
        return {}

    def run(self, workload: str, calls: int) -> dict[str, Any]:
        """Time a block of calls."""
        before = time.process_time()
        seconds = [self._seconds(workload) for _ in range(calls)]
        return {
            "wall": statistics.mean(seconds),
            "cpu": (time.process_time() - before) / calls + 1e-9,  # not 0, even if it only waits
        }

    def trace(self, workload: str) -> dict[str, Any]:
        """Time the lines of a call."""
        tracing = load(Path(__file__).with_name("tracing.py"))
        return {"lines": tracing.trace(self.calls[workload], self.project.relative)}

    def count(self, workload: str) -> dict[str, Any]:
        """Count a call, and the modules of other projects that were imported for it."""
        answer = self.prepare(workload)
        if "absent" in answer:
            return answer
        foreign = [name for name, module in [*sys.modules.items()] if not self._ours(module)]
        counts, sites = {"imports": len(foreign)}, imports(foreign, self.project)
        if "torch" in sys.modules:
            counting = load(Path(__file__).with_name("counting.py"))
            found = counting.ledger(self.calls[workload], self.project)
            counts |= found.counts()
            sites += found.sites()
        return {"counts": counts, "sites": sites, "on": environment()}

    def _seconds(self, workload: str) -> float:
        start = time.perf_counter()
        self.calls[workload]()
        if "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized():
            sys.modules["torch"].cuda.synchronize()
        return time.perf_counter() - start

    def _ours(self, module: ModuleType) -> bool:
        file = getattr(module, "__file__", None)
        return file is not None and self.project.has(file)


def imports(modules: list[str], project: Project) -> list[dict[str, Any]]:
    """Count modules by the line that imports them."""
    chains = Counter(project.importers.get(name, ()) for name in modules)
    return [
        {"chain": chain, "what": "import", "counts": {"imports": number}}
        for chain, number in chains.items()
    ]


@functools.cache
def load(path: Path) -> ModuleType:
    """Import a file by its path, once, under a name that no other module has."""
    name = PREFIX + str(path.with_suffix("")).replace(".", "_")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def function(place: str) -> Callable[[], Callable[[], object]]:
    """Return a function of a file, which is imported when it is called."""
    file, _, name = place.rpartition(":")

    def call() -> Callable[[], object]:
        made: Callable[[], object] = getattr(load(Path(file)), name)()
        return made

    return call


def environment() -> dict[str, Any]:
    """Return what counts depend on besides the code; they are compared only where it is equal."""
    torch = sys.modules.get("torch")
    return {
        "python": ".".join(map(str, sys.version_info[:2])),
        "torch": torch and str(torch.__version__),
        "device": torch.cuda.get_device_name() if torch and torch.cuda.is_available() else "cpu",
    }


def one_line(error: BaseException) -> str:
    """Describe an error by its type and the first line of its message."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def main() -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # so that no answer is mixed with what a workload prints
    process = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            process = process or Process(*sys.argv[1:])
            answer = getattr(process, request.pop("do"))(**request)
        except Exception as error:  # whatever it is, the gate reports it and ends
            answer = {"error": one_line(error)}
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
