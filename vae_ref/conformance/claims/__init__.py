"""The claims, from those about one formula up to those about whole trainings."""

from functools import cache
from types import ModuleType

from vae_ref.conformance.claims import (
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
)

BUDGET = 1e-6
"""The probability that a run finds a violation though the subject is correct."""


@cache
def all_claims(parts: tuple[Part, ...] | None = None) -> tuple[Claim, ...]:
    """Return every claim, in the order of the parts of a VAE.

    Args:
        parts: The parts of a kind of VAE; None takes the claims about all kinds.
    """
    modules: tuple[ModuleType, ...] = _MODULES
    if parts != TEXTBOOK:
        from vae_ref.conformance.claims import kinds

        modules = (*modules, *kinds.MODULES)
    order = [module.__name__ for module in modules]
    known = [c for c in registered.values() if parts is None or c.part in parts]
    return tuple(sorted(known, key=lambda claim: order.index(claim.check.__module__)))


@cache
def significance(edition: int = EDITION, parts: tuple[Part, ...] = TEXTBOOK) -> float:
    """Return the level of significance of one statistical claim: its share of the budget.

    Args:
        edition: The claims of this edition share it, so that a later one changes no verdict.
        parts: The parts of the kind of VAE, whose claims are those of a run.
    """
    statistical = sum(c.kind == "statistical" and c.edition <= edition for c in all_claims(parts))
    return BUDGET / max(1, statistical)
