"""Write a script of at most eight lines that shows the bug with NumPy alone."""

from typing import Any

from vae_ref.conformance.mutants import BANK
from vae_ref.conformance.records import Slot

__all__ = ["reproduce"]

_LEGIBLE = 9 * 12  # characters: as many numbers as one can still read
_INPUTS: dict[Slot, dict[str, list[list[float]]]] = {
    "kl": {"mu": [[1.0, 2.0], [0.0, -1.0]], "logvar": [[0.5, -1.0], [0.0, 1.0]]},
    "sample": {"mu": [[1.0, 0.0]], "logvar": [[0.5, -1.0]], "eps": [[0.3, -1.2]]},
    "nll": {"outputs": [[0.7, 0.2, 0.5]], "x": [[1.0, 0.0, 0.4]]},
    "bound": {"log_w": [[-3.0, -1.0, -2.0]]},
}
_RIGHT: dict[Slot, str] = {
    "kl": "0.5 * np.sum(mu**2 + np.exp(logvar) - 1 - logvar, axis=1)",
    "sample": "mu + eps * np.exp(logvar / 2)",
    "nll": "-np.sum(x * np.log(outputs) + (1 - x) * np.log(1 - outputs), axis=1)",
    "bound": "np.log(np.mean(np.exp(log_w), axis=1))",
}


def reproduce(slot: Slot, bug: str, counterexample: dict[str, Any] | None) -> str:
    """Return the script, or an empty text if the bug has no NumPy formula."""
    mutant = BANK.get(bug)
    if mutant is None or mutant.slot != slot or not mutant.numpy:
        return ""
    inputs: dict[str, Any] = dict(_INPUTS[slot])
    found = (counterexample or {}).get("inputs", {})
    small = all(len(str(found.get(name, ""))) < _LEGIBLE for name in inputs)
    returned = ""
    if set(inputs) <= set(found) and small and found != inputs:
        inputs = {name: found[name] for name in inputs}
        if "got" in (counterexample or {}):
            returned = f"  # yours returned {counterexample['got']:.6g}" if counterexample else ""
    lines = [f"{name} = np.array({_rounded(value)})" for name, value in inputs.items()]
    return "\n".join(
        [
            "import numpy as np",
            *lines,
            f"right = {_RIGHT[slot]}",
            f"yours = {mutant.numpy}",
            f'print("right", right, "yours", yours){returned}',
        ]
    )


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, 9) if isinstance(value, float) else value
