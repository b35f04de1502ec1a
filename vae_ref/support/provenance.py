"""Say what made a result: the versions, the hardware, the threads, the commit and the date."""

import datetime
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["FIELDS", "cores", "machine_name", "merge", "record", "versions"]

CPUINFO = Path("/proc/cpuinfo")
ROOT = Path(__file__).parents[2]

FIELDS = (
    "vae_ref",
    "torch",
    "cuda",
    "python",
    "jax",
    "processor",
    "family",
    "vectors",
    "cores",
    "memory_gib",
    "gpu",
    "device",
    "threads",
    "commit",
    "date",
)
"""The fields by which records are merged: all but the load, which is never twice the same."""


def record(*, threads: int, device: str = "cpu") -> dict[str, Any]:
    """Describe what makes a result, in types of JSON; what is unknown is absent.

    Args:
        threads: How many threads compute.
        device: The kind of device that computes.

    Returns:
        The `FIELDS`, and the load of the machine before the result is made.
    """
    torch = sys.modules.get("torch")  # where it is not used, it is not worth the seconds
    family = _cpuinfo("cpu family")
    found = {
        **versions(),
        "cuda": torch.version.cuda if torch else None,
        "jax": _version("jax"),
        "processor": _cpuinfo("model name") or platform.processor() or None,
        "family": int(family) if family else None,
        "vectors": torch.backends.cpu.get_cpu_capability() if torch else None,
        "cores": cores(),
        "memory_gib": _memory(),
        "gpu": torch.cuda.get_device_name() if torch and torch.cuda.is_available() else None,
        "device": device,
        "threads": threads,
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "load": [round(n, 2) for n in os.getloadavg()] if hasattr(os, "getloadavg") else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def versions() -> dict[str, str]:
    """Return the versions of Python, torch and this package, as far as they are installed."""
    packages = {name: _version(name) for name in ("torch", "vae_ref")}
    return {"python": platform.python_version()} | {n: v for n, v in packages.items() if v}


def merge(records: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Merge the records of several results: for each field, all values that occur."""
    found = list(records)
    values = {name: {str(one[name]) for one in found if name in one} for name in FIELDS}
    return {name: ", ".join(sorted(several)) for name, several in values.items() if several}


def machine_name(record: Mapping[str, Any]) -> str:
    """Name a machine for a file: the GPU if it computed, else the processor and its cores.

    Clouds give several generations of processors one name; family and vectors tell them apart.
    """
    if record["device"] == "cuda":
        name = record["gpu"]
    else:
        words = [record.get(key) for key in ("processor", "family", "vectors")]
        name = " ".join(str(word) for word in words if word) + f" {record['cores']} cores"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _version(package: str) -> str | None:
    """Return a version; that of a package which is imported also names its build."""
    try:
        loaded = sys.modules.get(package)
        return str(loaded.__version__) if loaded else metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpuinfo(field: str) -> str | None:
    """Return what Linux says of the first processor."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith(field))
    return next(named, None)


def _memory() -> int | None:
    """Return the machine's memory in GiB, where the system tells."""
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30)


def _commit() -> str | None:
    """Name the commit, with ``+changes`` if files other than results differ from it."""
    if not (ROOT / ".git").exists():  # installed, perhaps into somebody else's checkout
        return None
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        changes = _git("status", "--porcelain", "--", ".", ":!benchmarks/results")
    except (OSError, subprocess.SubprocessError):
        return None
    return head + ("+changes" if changes else "")


def _git(*words: str) -> str:
    command = ["git", *words]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    return run.stdout.strip()
