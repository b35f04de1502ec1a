"""Count what every workload does, and keep the counts in a committed file, the note.

Counted are operations that torch dispatches, floating-point operations of its matrix products,
bytes that operations read and write, the peak of the bytes that a call allocates, tensors saved
for the backward pass, values that the host waits for, kernel launches if there is a CUDA device,
and modules of other projects that the first call imports. The counts are exact, and the same on
every run. Compiled code, such as the engine `native`, is not dispatched by torch: it is timed, but
not counted. `vae-ref-gate compare` asks for a new note when a count falls.
"""

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vae_ref.gate import paired
from vae_ref.gate.paired import Settings
from vae_ref.gate.revisions import GateError, Revision
from vae_ref.gate.verdict import compared
from vae_ref.support.atomic import replacing

__all__ = ["NOTE", "Counted", "Counts", "count", "differences", "write"]

NOTE = "counters.json"

Counts = dict[str, dict[str, int]]
Sites = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Counted:
    """The counts of workloads on one revision, or why they are absent from it.

    Args:
        counts: The counts, by workload.
        absent: Why a workload is absent.
        on: What counts depend on besides the code.
        sites: The counts of each line, by workload.
    """

    counts: Counts
    absent: dict[str, str]
    on: dict[str, str]
    sites: Sites = field(default_factory=dict)


def count(names: Iterable[str], settings: Settings, *revisions: Revision) -> list[Counted]:
    """Count workloads on every revision, on the same machine and at the same time."""
    names = list(names)
    with ThreadPoolExecutor(1 if len(revisions) > 1 else 2) as pool:
        answers = list(pool.map(lambda name: paired.count(settings, name, *revisions), names))
    return [_gathered(dict(zip(names, side, strict=True))) for side in zip(*answers, strict=True)]


def _gathered(answers: dict[str, dict[str, Any]]) -> Counted:
    return Counted(
        {name: answer["counts"] for name, answer in answers.items() if "counts" in answer},
        {name: answer["absent"] for name, answer in answers.items() if "absent" in answer},
        next((answer["on"] for answer in answers.values() if "on" in answer), {}),
        {name: answer["sites"] for name, answer in answers.items() if "sites" in answer},
    )


def differences(note: Path, found: Counted) -> list[str] | None:
    """List where a note differs from the counts; None if there is no note to compare with."""
    if not note.is_file():
        return None
    try:
        noted = json.loads(note.read_text())
        if noted["on"] != found.on:
            return None
        lines = [str(c) for c in compared(noted["counts"], found.counts) if c.base != c.head]
        return lines + [
            f"{name}: not in the note" for name in found.counts if name not in noted["counts"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise GateError(
            f"{note} is not a note of counts; write it with vae-ref-gate count --write."
        ) from None


def write(note: Path, found: Counted) -> None:
    """Write the note whole or not at all."""
    note.parent.mkdir(parents=True, exist_ok=True)
    with replacing(note) as file:
        file.write(json.dumps({"on": found.on, "counts": found.counts}, indent=1).encode() + b"\n")
