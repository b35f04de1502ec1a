"""The claims, one module per part of a VAE, from the primitives up."""

from functools import cache
from typing import get_args

from vae_ref.conformance.claims import (  # each registers its own  # noqa: F401
    conduct,
    importance,
    kl,
    likelihood,
    loop,
    model,
    objective,
    optimum,
    reasons,
    reparameterization,
    text,
    training,
)
from vae_ref.conformance.claims.registry import registered
from vae_ref.conformance.records import Claim, Part

__all__ = ["BUDGET", "all_claims", "significance"]

BUDGET = 1e-6
"""The probability that a run on a correct subject finds anything at all wrong."""


@cache
def all_claims() -> tuple[Claim, ...]:
    """Return every claim, from the primitives up."""
    order = get_args(Part)
    return tuple(sorted(registered.values(), key=lambda claim: order.index(claim.part)))


@cache
def significance() -> float:
    """Return the level of significance of one statistical claim: its share of the budget."""
    return BUDGET / sum(claim.kind == "statistical" for claim in all_claims())
