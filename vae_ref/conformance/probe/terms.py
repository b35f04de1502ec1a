"""Call a subject's KL and reconstruction as sums over examples, whatever their reduction."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from vae_ref.conformance.answers import oracles
from vae_ref.conformance.answers.oracles import FAMILIES, Likelihood

__all__ = [
    "BatchReduction",
    "Term",
    "batch_reduction",
    "constant_ratio",
    "family_of",
    "kl_weight",
    "ratio_tolerance",
]

BatchReduction = Literal["sum", "mean", "neither"]


_RATIO, _RATIO_ROUNDINGS = 1e-5, 2e4

_MEASURED = 64.0
"""By how much tolerances grow for a term whose weight in the loss was measured."""


def ratio_tolerance(dtype: torch.dtype) -> float:
    """Return how far two ratios may differ and still be the same.

    1e-5, or 20,000 roundings where that is more, as the 0.24 % of single precision: far more than
    sums of a few hundred numbers lose, and less than any bug of the bank changes.
    """
    return max(_RATIO, _RATIO_ROUNDINGS * torch.finfo(dtype).eps)


@dataclass(frozen=True)
class Term:
    """A part of the loss as a number: the sum over the examples of a batch.

    Attributes:
        raw: The subject's own function.
        differentiable: Whether the function comes with a gradient.
        batch: How the function reduces the batch. This is undone, because it only scales the loss.
        weight: The constant weight of the term in the loss. This is undone here; the claims about
            the objective judge it.
        averaged: Whether the term is declared to be averaged over latents or pixels.
        rounding: By how much tolerances grow for other reasons.
    """

    raw: Callable[..., Tensor]
    differentiable: bool
    batch: BatchReduction = "sum"
    weight: float = 1.0
    averaged: bool = False
    rounding: float = 1.0

    def __call__(self, *arguments: Tensor) -> Tensor:
        """Return the sum over the examples, in nats."""
        examples, features = arguments[0].shape
        factor = (examples if self.batch == "mean" else 1) * (features if self.averaged else 1)
        return self.raw(*arguments).sum() * factor / self.weight

    @property
    def tolerance_factor(self) -> float:
        """The factor on tolerances: a weight that was measured has rounding errors of its own."""
        return max(self.rounding, 1.0 if self.weight == 1 else _MEASURED)

    def without_weight(self, weight: float | None) -> "Term":
        """Return the term with a constant weight undone."""
        return self if weight is None else replace(self, weight=weight)


def batch_reduction(raw: Callable[..., Tensor], *arguments: Tensor) -> BatchReduction:
    """Return whether a function sums or averages over the batch: give it every example twice."""
    once = raw(*arguments).detach().sum()
    twice = raw(*(torch.cat([argument, argument]) for argument in arguments)).detach().sum()
    ratio = float(twice / once) if once else 2.0
    if abs(ratio - 2) < ratio_tolerance(once.dtype):
        return "sum"
    return "mean" if abs(ratio - 1) < ratio_tolerance(once.dtype) else "neither"


def constant_ratio(values: list[Tensor], expected: list[Tensor]) -> float | None:
    """Return the one factor between two lists of numbers, or None if there is none.

    A factor that all but equals 1 is returned as 1: then there is nothing to undo.
    """
    ratios = torch.stack([v.detach().double() / e for v, e in zip(values, expected, strict=True)])
    centre = ratios.mean()
    constant = bool(
        ((ratios - centre).abs() <= ratio_tolerance(values[0].dtype) * centre.abs()).all()
    )
    if not constant:
        return None
    return (
        1.0 if abs(float(centre) - 1) < ratio_tolerance(values[0].dtype) / 100 else float(centre)
    )


def family_of(
    nll: Callable[[Tensor, Tensor], Tensor], draw: Callable[[str, int, int], Tensor], pixels: int
) -> tuple[Likelihood, float] | None:
    """Find the distribution whose negative log-likelihood is b times a function, up to a constant.

    Differences between outputs are compared, so that a constant that is left out does not matter.

    Returns:
        The distribution and the factor of the function, 1 / b; or None if there is none.
    """
    x = draw("family x", 2, pixels)
    outputs = [0.05 + 0.9 * draw(f"family {i}", 2, pixels) for i in range(5)]
    values = [nll(o, x).detach().sum() for o in outputs]
    for family in FAMILIES.values():
        exact = [family.nll(o.double(), x.double()).sum() for o in outputs]
        ratio = constant_ratio(
            [value - values[0] for value in values[1:]], [e - exact[0] for e in exact[1:]]
        )
        if ratio is not None and ratio > 0:
            return family, ratio
    return None


def kl_weight(
    raw: Callable[..., Tensor],
    draw: Callable[[str, int, int], Tensor],
    sizes: list[tuple[int, int]],
) -> float | None:
    """Return the constant weight of the KL in a sum over examples, or None if there is none."""
    values, expected = [], []
    for examples, latents in sizes:
        mu = draw("mu", examples, latents) - 0.4
        logvar = 2 * draw("logvar", examples, latents) - 1
        values.append(raw(mu, logvar).sum())
        expected.append(oracles.kl(mu.double(), logvar.double()).sum())
    return constant_ratio(values, expected)
