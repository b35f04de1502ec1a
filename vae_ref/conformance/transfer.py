"""Results and reports as plain data, to go from one process to another, or into a file."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from vae_ref.conformance.records import (
    Claim,
    Diagnosis,
    Diagram,
    Edge,
    Finding,
    Measure,
    Node,
    Note,
    Report,
    Result,
)

__all__ = ["claim_from", "plain", "report_from", "result_from"]


def plain(value: Any) -> Any:
    """Return what strict JSON can say of a value.

    NaN and the infinities, which JSON has no numbers for, are the strings ``nan``, ``inf`` and
    ``-inf``. Of a claim, its check is left out.
    """
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value) if field.name != "check"]
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {plain(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, str):  # half of a surrogate pair is no text; parsers refuse it
        return value.encode("utf-8", "backslashreplace").decode()
    if value is None or isinstance(value, bool | int | float):
        return str(value) if isinstance(value, float) and not math.isfinite(value) else value
    if not isinstance(value, Sequence):
        return plain(value.tolist() if hasattr(value, "tolist") else str(value))
    return [plain(item) for item in value]


def _elsewhere(probe: Any) -> Finding | None:
    raise NotImplementedError("this claim is checked in another process")


def _tuples(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in data.items()}


def claim_from(data: Mapping[str, Any]) -> Claim:
    """Return the claim that `plain` made this of; it cannot be checked here."""
    return Claim(**_tuples(data), check=_elsewhere)


def result_from(data: Mapping[str, Any]) -> Result:
    """Return the result that `plain` made this of."""
    diagnosis = data["diagnosis"]
    return Result(
        **{
            **data,
            "claim": claim_from(data["claim"]),
            "diagnosis": Diagnosis(**_tuples(diagnosis)) if diagnosis else None,
            "measured": {
                name: Measure(*map(float, numbers)) for name, numbers in data["measured"].items()
            },
            "order": tuple((large, small) for large, small in data["order"]),
        }
    )


def report_from(data: Mapping[str, Any]) -> Report:
    """Return the report that `plain` made this of."""
    diagram = data["diagram"]
    return Report(
        **{
            **data,
            "results": tuple(map(result_from, data["results"])),
            "notes": tuple(Note(**note) for note in data["notes"]),
            "diagram": diagram and _diagram_from(diagram),
        }
    )


def _diagram_from(data: Mapping[str, Any]) -> Diagram:
    nodes = tuple(Node(**_tuples(node)) for node in data["nodes"])
    return Diagram(nodes, tuple(Edge(*ends) for ends in data["edges"]))
