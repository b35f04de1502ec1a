"""Clamps: their bounds; and numbers that a step clamps again and again are clamped once.

What has been clamped is not changed by a clamp with bounds that are as wide. But an audit puts
other numbers in the place of what was clamped, and with those the second clamp would seem a bug.
"""

import math
from typing import Any

from torch import Tensor

from vae_ref.conformance.auditing.graph import Graph, Operation, Ref

__all__ = ["bounds_of", "clamp_once"]

_LOW, _HIGH = {"min": -math.inf}, {"max": math.inf}
_BOUNDS: dict[str, dict[str, float]] = {
    "clamp": _LOW | _HIGH,
    "clip": _LOW | _HIGH,
    "clamp_min": _LOW,
    "clamp_max": _HIGH,
    "hardtanh": {"min_val": -1.0, "max_val": 1.0},
}
"""The operations, with the names of their arguments beside the input, and what these are if not
given."""


def clamp_once(graph: Graph) -> None:
    """Let a clamp take what its input is clamped to already, and return it as it is."""
    known: dict[tuple[int, float, float], int] = {}
    of_value: dict[int, tuple[float, float]] = {}
    changed = {old for operation in graph.operations for old in operation.changed}
    for operation in graph.operations:
        bounds = bounds_of(operation)
        if bounds is None or operation.changed or len(operation.outputs) != 1:
            continue
        (before,), (after,) = operation.inputs, operation.outputs
        same = known.setdefault((before, *bounds), after)
        if same != after and same not in changed:
            (_, *rest), options = operation.arguments
            operation.arguments, operation.inputs = ((Ref(same), *rest), options), (same,)
        low, high = of_value.get(operation.inputs[0], (-math.inf, math.inf))
        if bounds[0] <= low and high <= bounds[1]:
            operation.call = _unchanged
        of_value[after] = max(low, bounds[0]), min(high, bounds[1])


def bounds_of(operation: Operation) -> tuple[float, float] | None:
    """Return the bounds of an operation that clamps; None of another, or if they are tensors."""
    known = _BOUNDS.get(operation.name.removesuffix("_"))
    if known is None or len(operation.inputs) != 1:
        return None
    arguments, options = operation.arguments
    if not arguments or not isinstance(arguments[0], Ref):
        return None
    given = {**options, **dict(zip(known, arguments[1:], strict=False))}
    bounds = {n: default if (v := given.get(n)) is None else v for n, default in known.items()}
    lows, highs = ([bounds[n] for n in bounds if n.startswith(kind)] for kind in ("min", "max"))
    return float(*lows or [-math.inf]), float(*highs or [math.inf])


def _unchanged(numbers: Tensor, *_: Any, **__: Any) -> Tensor:
    return numbers.clone()
