"""How the raw numbers of a posterior stand for mu and sigma."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["SPREADS", "USUAL", "Posterior"]

USUAL = "log sigma^2"

SPREADS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "log sigma^2": (lambda c: torch.exp(c / 2), lambda logvar: logvar),
    "log sigma": (torch.exp, lambda logvar: logvar / 2),
    "sigma": (lambda c: c, lambda logvar: torch.exp(logvar / 2)),
    "sigma^2": (torch.sqrt, torch.exp),
    "softplus^-1(sigma)": (F.softplus, lambda logvar: _softplus_inverse(torch.exp(logvar / 2))),
}
"""Parametrisations: name -> (from a raw number to sigma, from log sigma^2 to the raw number)."""


def _softplus_inverse(sigma: Tensor) -> Tensor:
    return sigma + torch.log(-torch.expm1(-sigma))


@dataclass(frozen=True, eq=False)
class Posterior:
    """How the raw numbers of a posterior stand for mu and sigma.

    Attributes:
        mu: The value that is mu.
        raw: The value that sigma is computed from.
        spread: What that is, as `SPREADS` names it.
        inverse: From log sigma^2 to the raw number.
        by_density: Whether the density of a sampled KL says so, and not the sampler.
        copies: Of several draws for each example, which number of mu each number of z is drawn
            from; None of one draw.
    """

    mu: int
    raw: int
    spread: str
    inverse: Callable[[Tensor], Tensor]
    by_density: bool = False
    copies: Tensor | None = None
