"""Which term of a loss moves which of its inputs: read off the gradients alone.

A loss whose terms are partly detached has the same value as without: only its gradients tell. If
the gradient of each term is known, as if nothing were detached, then a gradient that was found is
the sum of those terms that reach the input. Routes are judged wherever a gradient is stopped: in
vector quantisation, a straight-through estimator, a detached KL, or the path derivative of STL.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from vae_ref.conformance.answers.comparison import tolerance
from vae_ref.conformance.records import Violation

__all__ = ["Routes", "Term", "require_routes", "routes"]

Routes = dict[str, frozenset[str] | None]
"""For each input, the names of the terms that move it; None if their gradients do not add up."""


class Term(NamedTuple):
    """One term of a loss.

    Attributes:
        name: What messages call it.
        weight: Its weight in the loss.
        gradients: Its derivative by each input, without the weight, as if nothing were detached.
        moves: The inputs that it is meant to move.
    """

    name: str
    weight: float
    gradients: Mapping[str, Tensor]
    moves: AbstractSet[str]


def _meant(terms: Sequence[Term], name: str) -> frozenset[str]:
    return frozenset(term.name for term in terms if name in term.moves)


def _sum(terms: Sequence[Term], name: str, chosen: AbstractSet[str]) -> Tensor:
    """Return the gradient by an input if the chosen terms reach it, and no other."""
    whole = torch.zeros_like(terms[0].gradients[name], dtype=torch.float64)
    for term in terms:
        if term.name in chosen:
            whole = whole + term.weight * term.gradients[name].double()
    return whole


def routes(
    gradients: Mapping[str, Tensor],
    terms: Sequence[Term],
    *,
    scale: Mapping[str, Tensor],
    dtype: torch.dtype,
) -> Routes:
    """Infer which terms move each input.

    Where several answers fit, such as if two terms are alike, the one nearest to what is meant
    counts.

    Args:
        gradients: The derivative of the loss by each input, as it was found.
        terms: The terms that the loss should have.
        scale: The size of what each derivative adds up, for its rounding errors.
        dtype: The precision in which the loss was computed.
    """
    names = [term.name for term in terms]
    subsets = [
        frozenset(chosen) for size in range(len(names) + 1) for chosen in combinations(names, size)
    ]
    found: Routes = {}
    for name, gradient in gradients.items():
        meant, allowed = _meant(terms, name), tolerance(dtype, scale[name].double())
        nearest = sorted(subsets, key=lambda chosen: len(chosen ^ meant))
        found[name] = next(
            (
                chosen
                for chosen in nearest
                if bool(((gradient.double() - _sum(terms, name, chosen)).abs() <= allowed).all())
            ),
            None,
        )
    return found


def require_routes(
    gradients: Mapping[str, Tensor],
    terms: Sequence[Term],
    *,
    scale: Mapping[str, Tensor],
    dtype: torch.dtype,
    inputs: Mapping[str, Tensor],
) -> None:
    """Raise `Violation` unless every term moves just the inputs that it is meant to move.

    The arguments are those of `routes`, and what the function was given, for the counterexample.
    """
    found = routes(gradients, terms, scale=scale, dtype=dtype)
    meant = {name: _meant(terms, name) for name in found}
    wrong = [name for name in found if found[name] != meant[name]]
    if not wrong:
        return
    parts = [_sentence(name, found[name], gradients[name], terms) for name in wrong]
    exchanged = len(wrong) > 1 and _exchanged(found, meant)
    raise Violation(
        "; ".join(parts) + (": the two have changed places" if exchanged else ""),
        symptom="; ".join(f"{name}: {_symptom(found[name])}" for name in wrong),
        counterexample={"inputs": {name: value.tolist() for name, value in inputs.items()}},
    )


def _symptom(found: frozenset[str] | None) -> str:
    return "other" if found is None else " and ".join(sorted(found)) or "nothing"


def _exchanged(found: Routes, meant: Mapping[str, frozenset[str]]) -> bool:
    """Whether every input is moved by the terms that are meant for another one."""
    others = {name: [meant[other] for other in meant if other != name] for name in meant}
    return all(chosen and chosen in others[name] for name, chosen in found.items())


def _sentence(
    name: str, found: frozenset[str] | None, gradient: Tensor, terms: Sequence[Term]
) -> str:
    """Say how an input is moved, and how it should be."""
    meant = _meant(terms, name)
    if found is None:
        right = _sum(terms, name, meant)
        size, got = float((right * right).sum()), gradient.double()
        factor = float((got * right).sum()) / size if size else 0.0
        if size and torch.allclose(got, factor * right, rtol=1e-3, atol=1e-3 * size**0.5):
            return f"{name} is moved {factor:.6g} times as much as by {_and(meant)}"
        of_what = _and(meant) or "nothing"
        return f"the gradient by {name} is not that of {of_what}, nor of any of the terms"
    missing, extra = meant - found, found - meant
    if not extra:
        return f"{_and(missing)} does not move {name}"
    if not missing:
        return f"{_and(extra)} moves {name}{' too' if meant else ''}"
    return f"{name} is moved by {_and(extra)}, not by {_and(missing)}"


def _and(names: AbstractSet[str]) -> str:
    return " with ".join(sorted(names))
