"""The claims, from those about one formula up to those about whole trainings."""

from functools import cache

from vae_ref.conformance.claims import (
    conduct,
    guide,
    importance,
    kinds,
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
from vae_ref.conformance.records import EDITION, TEXTBOOK, Claim, Part

__all__ = ["BUDGET", "all_claims", "significance"]

# Each registers its claims when it is imported; reports have them in this order.
_MODULES = (
    kl,
    reparameterization,
    likelihood,
    importance,
    objective,
    conduct,
    model,
    loop,
    optimum,
    reasons,
    guide,
    training,
    *kinds.MODULES,
)

BUDGET = 1e-6
"""The probability that a run finds a violation though the subject is correct."""


@cache
def all_claims() -> tuple[Claim, ...]:
    """Return every claim, in the order of the parts of a VAE."""
    order = [module.__name__ for module in _MODULES]
    return tuple(sorted(registered.values(), key=lambda c: order.index(c.check.__module__)))


@cache
def significance(edition: int = EDITION, parts: tuple[Part, ...] = TEXTBOOK) -> float:
    """Return the level of significance of one statistical claim: its share of the budget.

    Args:
        edition: The claims of this edition share it, so that a later one changes no verdict.
        parts: The parts of the kind of VAE, whose claims are those of a run.
    """
    statistical = sum(
        c.kind == "statistical" and c.edition <= edition and c.part in parts for c in all_claims()
    )
    return BUDGET / max(1, statistical)
