"""Compare an answer with the right one: the tolerance comes from rounding, never from taste."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vae_ref.conformance.records import Violation

__all__ = ["ROUNDINGS", "plain", "require_agreement", "tolerance"]

ROUNDINGS = 32
"""How many roundings an answer may be away, of the size of what it adds up.

A sum of a few hundred numbers loses a few roundings, and a formula written in another way a few
more. The bugs of the bank are off by thousands.
"""


def tolerance(dtype: torch.dtype, scale: Tensor) -> Tensor:
    """Return ``ROUNDINGS`` roundings of ``scale``, the size of what was added up."""
    return ROUNDINGS * torch.finfo(dtype).eps * scale


def require_agreement(
    what: str,
    got: Tensor,
    expected: Tensor,
    *,
    scale: Tensor | float,
    dtype: torch.dtype,
    inputs: Mapping[str, Any],
    symptom: str = "",
) -> None:
    """Raise `Violation` unless ``got`` is ``expected`` up to rounding.

    Args:
        what: What is compared, as a phrase that a message can begin with.
        got: The subject's answer.
        expected: The oracle's answer.
        scale: The size of the terms that make up the answer.
        dtype: The precision in which the subject computes.
        inputs: What the subject was given, by name, for the counterexample.
        symptom: See `Violation`.
    """
    got, expected = got.detach().double(), torch.as_tensor(expected).detach().double()
    if got.shape != expected.shape:
        found, right = tuple(got.shape), tuple(expected.shape)
        raise Violation(f"{what} has shape {found}, not {right}", symptom="shape")
    allowed = tolerance(dtype, torch.as_tensor(scale).detach().double()).expand_as(expected)
    wrong = ~((got - expected).abs() <= allowed)  # true for NaN too
    if not bool(wrong.any()):
        return
    error = torch.where(torch.isfinite(got), (got - expected).abs() / allowed, torch.inf)
    # NumPy's, because torch's imports SymPy, for seconds.
    index = tuple(int(i) for i in np.unravel_index(int(error.argmax()), error.shape))
    at = f" at {list(index)}" if index else ""
    raise Violation(
        f"{what} is {got[index].item():.9g}{at}, not {expected[index].item():.9g}",
        symptom=symptom or ("" if bool(torch.isfinite(got).all()) else "not-finite"),
        counterexample={
            "inputs": {name: plain(value) for name, value in inputs.items()},
            "expected": expected[index].item(),
            "got": got[index].item(),
            "tolerance": allowed[index].item(),
            "index": list(index),
        },
    )


def plain(value: Any) -> Any:
    """Return a tensor as nested lists, and anything else as it is."""
    return value.detach().tolist() if isinstance(value, Tensor) else value
