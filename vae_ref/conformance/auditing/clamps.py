"""Let numbers be clamped once, where a step keeps them between the same bounds again and again.

What has been clamped is not changed by a clamp with bounds that are as wide. But an audit puts
other numbers in the place of what was clamped, and with those the second clamp would seem a bug.
"""

import math
from typing import Any

from torch import Tensor

from vae_ref.conformance.auditing.graph import Graph, Operation, Ref

__all__ = ["clamp_once"]

_BOUNDS = {
    "clamp": ("min", "max"),
    "clip": ("min", "max"),
    "clamp_min": ("min",),
    "clamp_max": ("max",),
}
"""The operations, with the names of their arguments beside the input."""


def clamp_once(graph: Graph) -> None:
    """Let a clamp take what its input is clamped to already, and return it as it is."""
    known: dict[tuple[int, float, float], int] = {}
    of_value: dict[int, tuple[float, float]] = {}
    changed = {old for operation in graph.operations for old in operation.changed}
    for operation in graph.operations:
        bounds = _bounds(operation)
        if bounds is None:
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


def _bounds(operation: Operation) -> tuple[float, float] | None:
    """Return the bounds of a clamp that are numbers, and that nothing else is made of."""
    names = _BOUNDS.get(operation.name)
    if not names or len(operation.inputs) != 1 or len(operation.outputs) != 1:
        return None
    arguments, options = operation.arguments
    if not arguments or not isinstance(arguments[0], Ref):
        return None
    given = {**options, **dict(zip(names, arguments[1:], strict=False))}
    low, high = given.get("min"), given.get("max")
    return (-math.inf if low is None else low, math.inf if high is None else high)


def _unchanged(numbers: Tensor, *_: Any, **__: Any) -> Tensor:
    return numbers.clone()
