"""Read a subject's KL, reconstruction and loss as sums over examples, whatever their reduction."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from vae_ref.conformance.answers import oracles
from vae_ref.conformance.answers.oracles import FAMILIES, Likelihood

__all__ = ["BatchReduction", "Term", "batch_reduction", "constant_ratio", "family_of", "same"]

BatchReduction = Literal["sum", "mean", "neither"]


def same(dtype: torch.dtype) -> float:
    """Return how far ratios may differ: far above rounding, far below any bug."""
    return max(1e-5, 2e4 * torch.finfo(dtype).eps)


@dataclass(frozen=True)
class Term:
    """A part of the loss as a number: the sum over the examples of a batch.

    Attributes:
        raw: The function as the subject has it.
        differentiable: Whether it brings a gradient.
        batch: How it treats the batch; undone here, because it only scales the loss.
        weight: A constant weight it has in the loss; undone here, judged by the objective.
        averaged: Whether it is declared to be averaged over latents or pixels.
    """

    raw: Callable[..., Tensor]
    differentiable: bool
    batch: BatchReduction = "sum"
    weight: float = 1.0
    averaged: bool = False

    def __call__(self, *arguments: Tensor) -> Tensor:
        """Return the sum over the examples, in nats."""
        examples, features = arguments[0].shape
        factor = (examples if self.batch == "mean" else 1) * (features if self.averaged else 1)
        return self.raw(*arguments).sum() * factor / self.weight

    @property
    def slack(self) -> float:
        """How much a weight that had to be measured adds to the rounding errors."""
        return 1.0 if self.weight == 1 else 64.0

    def weighing(self, weight: float | None) -> "Term":
        """Return the term without a constant weight."""
        return self if weight is None else replace(self, weight=weight)


def batch_reduction(raw: Callable[..., Tensor], *arguments: Tensor) -> BatchReduction:
    """Tell a sum over the batch from a mean by giving every example twice."""
    once = raw(*arguments).detach().sum()
    twice = raw(*(torch.cat([argument, argument]) for argument in arguments)).detach().sum()
    ratio = float(twice / once) if once else 2.0
    if abs(ratio - 2) < same(once.dtype):
        return "sum"
    return "mean" if abs(ratio - 1) < same(once.dtype) else "neither"


def constant_ratio(values: list[Tensor], expected: list[Tensor]) -> float | None:
    """Return the one factor between two lists of numbers, or None if there is none."""
    ratios = torch.stack([v.detach().double() / e for v, e in zip(values, expected, strict=True)])
    centre = ratios.mean()
    constant = bool(((ratios - centre).abs() <= same(values[0].dtype) * centre.abs()).all())
    if not constant:
        return None
    return 1.0 if abs(float(centre) - 1) < same(values[0].dtype) / 100 else float(centre)


def family_of(
    nll: Callable[[Tensor, Tensor], Tensor], draw: Callable[[str, int, int], Tensor], pixels: int
) -> tuple[Likelihood, float] | None:
    """Find the distribution whose negative log-likelihood a function is, up to a + b f.

    Differences between outputs are compared, so that a dropped constant does not matter.
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
    """Return the constant weight of the KL in a sum over examples, if there is one."""
    values, expected = [], []
    for examples, latents in sizes:
        mu = draw("mu", examples, latents) - 0.4
        logvar = 2 * draw("logvar", examples, latents) - 1
        values.append(raw(mu, logvar).sum())
        expected.append(oracles.kl(mu.double(), logvar.double()).sum())
    return constant_ratio(values, expected)
