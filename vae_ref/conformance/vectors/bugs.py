"""The bugs of the bank on the questions: which a case catches, and whose answers some are.

Of a bug, the sum of all its values is compared, and its slopes: it may reduce as it likes.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor

from vae_ref.conformance.guards import global_state_kept
from vae_ref.conformance.mutants import BANK
from vae_ref.conformance.mutants.specimen import specimen
from vae_ref.conformance.vectors.cases import Array
from vae_ref.conformance.vectors.documents import inputs_of, numbers_of

__all__ = ["caught", "noise_given", "whose"]

_SLOTS = {
    "kl-to-standard-normal": "kl",
    "reparameterization": "sample",
    "bernoulli-from-probabilities": "nll",
    "negative-elbo": "loss",
    "importance-weighted-bound": "bound",
}
"""The functions of the bank's bugs that compute a quantity."""

_CAUGHT = 1e-6
"""By how much of the scale a bug has to be off; no right function is, in double precision."""

_SAME = 1e-5
"""How near the sum of a bug is to that of an answer, which may be in single precision."""

Values = tuple[float, dict[str, Tensor]]
"""The sum of all values, and the slopes by input."""


@cache
def _textbook() -> dict[str, Callable[..., Any]]:
    right = specimen()
    functions = {
        "kl": right.kl,
        "sample": right.reparameterize,
        "nll": right.nll,
        "loss": right.loss,
        "bound": right.importance_weighted,
    }
    return {slot: function for slot, function in functions.items() if function is not None}


def caught(quantity: str, entry: dict[str, Any]) -> Iterator[str]:
    """Name the bugs whose answer to a case is wrong, where the textbook's is right."""
    slot = _SLOTS.get(quantity, "")
    inputs = {name: inputs_of(of) for name, of in entry["inputs"].items()}
    if not slot or not _is_right(_textbook()[slot], inputs, entry):
        return
    for mutant in BANK.values():
        if mutant.slot == slot and not _is_right(mutant.function, inputs, entry):
            yield mutant.id


def whose(quantity: str, answers: list[tuple[dict[str, Any], list[float]]]) -> list[str]:
    """Name the bugs that give the same sums as answers to some cases.

    Args:
        quantity: The quantity.
        answers: Cases with the values that were given; none of them is empty.
    """
    slot = _SLOTS.get(quantity, "")
    return [
        mutant.id
        for mutant in BANK.values()
        if mutant.slot == slot and all(_is_of(mutant.function, *pair) for pair in answers)
    ]


def _is_of(function: Callable[..., Any], entry: dict[str, Any], given: list[float]) -> bool:
    inputs = {name: inputs_of(of) for name, of in entry["inputs"].items()}
    if not all(map(math.isfinite, given)):
        return False
    found = _computed(function, inputs, ())
    total = math.fsum(number / len(given) for number in given) * len(given)
    return found is not None and math.isclose(found[0], total, rel_tol=_SAME, abs_tol=_SAME)


def _computed(
    function: Callable[..., Any], inputs: Mapping[str, Array], names: tuple[str, ...]
) -> Values | None:
    """Return what a function of the textbook's form computes; None if it raises."""
    given = {
        name: torch.tensor(array.numbers, dtype=torch.float64).view(array.shape)
        for name, array in inputs.items()
    }
    free = {name: tensor.clone().requires_grad_() for name, tensor in given.items()}
    arguments = [free[name] for name in free if name != "eps"]
    if "logits" in free:
        arguments[0] = torch.sigmoid(free["logits"])
    try:
        with global_state_kept(), noise_given([given["eps"]] if "eps" in given else []):
            value = function(*arguments).sum()
            wanted = [free[name] for name in names]
            slopes = torch.autograd.grad(value, wanted, allow_unused=True) if wanted else ()
    except Exception:  # whatever it raises, it is no answer
        return None
    found = zip(names, slopes, strict=True)
    return float(value.detach()), {
        name: torch.zeros_like(free[name]) if slope is None else slope for name, slope in found
    }


def _is_right(
    function: Callable[..., Any], inputs: Mapping[str, Array], entry: dict[str, Any]
) -> bool:
    """Whether a function gives the right sum of all values, and the right slopes."""
    names = tuple(name for name in entry["slopes"] if name != "eps")
    found = _computed(function, inputs, names)
    if found is None:
        return False
    whole = [math.fsum(part) for part in _expected(entry["outputs"]["value"])]
    triples = [(found[0], *whole)]
    for name, slope in found[1].items():
        triples += zip(slope.flatten().tolist(), *_expected(entry["slopes"][name]), strict=True)
    return all(abs(a - b) <= _CAUGHT * max(scale, abs(b)) for a, b, scale in triples)


def _expected(entry: dict[str, Any]) -> tuple[list[float], list[float]]:
    return numbers_of(entry), list(map(float, entry["scale"]))


@contextmanager
def noise_given(draws: list[Tensor]) -> Iterator[None]:
    """Let torch's normal noise be what is given, each draw once, where the shape is the same."""
    left = list(draws)

    def draw(real: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def drawn(*arguments: Any, **options: Any) -> Tensor:
            found = real(*arguments, **options)
            if not left or left[0].shape != found.shape:
                return found
            return left.pop(0).to(found)

        return drawn

    names, kept = ("randn", "randn_like", "normal"), {}
    for name in names:
        kept[name] = getattr(torch, name)
        setattr(torch, name, draw(kept[name]))
    try:
        yield
    finally:
        for name, real in kept.items():
            setattr(torch, name, real)
