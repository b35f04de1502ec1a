"""On what something was measured: what every result file says of itself."""

import datetime
import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from benchmarks.mnist_seeds import cpuinfo, processor

__all__ = ["describe", "machine"]

ROOT = Path(__file__).parents[1]


def describe(*, threads: int, device: str = "cpu") -> dict[str, Any]:
    """Describe hardware, versions, threads and commit, and how busy the machine is already."""
    return {
        "processor": processor(),
        "family": cpuinfo("cpu family"),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "cores": cores(),
        "memory_gib": memory(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "device": device,
        "threads": threads,
        "python": platform.python_version(),
        "torch": version("torch"),
        "cuda": torch.version.cuda,
        "jax": version("jax"),
        "vae_ref": version("vae_ref"),
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "load": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else [],
    }


def machine(environment: dict[str, Any]) -> str:
    """Name a machine for a file: its GPU if that is what was measured, or processor and cores.

    Clouds call several generations of processors by one name: family and vectors tell them apart.
    """
    if environment["device"] == "cuda":
        name = environment["gpu"]
    else:
        words = [environment[key] for key in ("processor", "family", "vectors")]
        name = " ".join(str(word) for word in words if word) + f" {environment['cores']} cores"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory() -> int | None:
    """Return the machine's memory in GiB, where the system tells."""
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30)


def version(package: str) -> str | None:
    """Return a package's version, or None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def commit() -> str:
    """Name the commit, with ``+changes`` if the tree has any beside results."""
    try:
        head = git("rev-parse", "--short=12", "HEAD")
        changes = git("status", "--porcelain", "--", ".", ":!benchmarks/results")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"  # not a checkout, or no git
    return head + ("+changes" if changes else "")


def git(*words: str) -> str:
    answer = subprocess.run(
        ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    return answer.stdout.strip()
