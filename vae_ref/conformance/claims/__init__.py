"""The claims, from those about one formula up to those about whole trainings."""

from functools import cache
from typing import get_args

from vae_ref.conformance.claims import (  # each module registers its claims  # noqa: F401
    conduct,
    guide,
    importance,
    kl,
    likelihood,
    loop,
    model,
    objective,
    optimum,
    reasons,
    reparameterization,
    training,
)
from vae_ref.conformance.claims.registry import registered
from vae_ref.conformance.records import Claim, Part

__all__ = ["BUDGET", "all_claims", "significance"]

BUDGET = 1e-6
"""The probability that a run finds a violation though the subject is correct."""


@cache
def all_claims() -> tuple[Claim, ...]:
    """Return every claim, in the order of the parts of a VAE."""
    order = get_args(Part)
    return tuple(sorted(registered.values(), key=lambda claim: order.index(claim.part)))


@cache
def significance() -> float:
    """Return the level of significance of one statistical claim: its share of the budget."""
    return BUDGET / sum(claim.kind == "statistical" for claim in all_claims())
