"""The registry: a claim is written once, as a decorated function; everything else is generated."""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, cast, get_args

from vae_ref.conformance.records import Claim, Kind, Level, Part

if TYPE_CHECKING:
    from vae_ref.conformance.bench import Bench

__all__ = ["BUDGET", "all_claims", "claim", "share"]

BUDGET = 1e-6
"""The probability that a run on a correct subject finds anything at all wrong."""

_registered: dict[str, Claim] = {}


def claim(
    identifier: str,
    *,
    statement: str,
    formula: str,
    source: str,
    needs: tuple[str, ...],
    kind: Kind,
    tolerance: str,
    kills: tuple[str, ...],
    builds_on: tuple[str, ...] = (),
    level: Level = "standard",
    seconds: float = 10.0,
) -> "Callable[[Callable[[Bench], None]], Callable[[Bench], None]]":
    """Register a function as the check of a claim."""

    def register(check: "Callable[[Bench], None]") -> "Callable[[Bench], None]":
        if identifier in _registered:
            raise ValueError(f"two claims are called {identifier}")
        _registered[identifier] = Claim(
            id=identifier,
            statement=statement,
            formula=formula,
            source=source,
            part=cast(Part, identifier.partition("/")[0]),
            needs=needs,
            kind=kind,
            tolerance=tolerance,
            kills=kills,
            builds_on=builds_on,
            level=level,
            seconds=seconds,
            check=check,
        )
        return check

    return register


@cache
def all_claims() -> tuple[Claim, ...]:
    """Return every claim, from the primitives up."""
    from vae_ref.conformance import claims  # noqa: F401 - registers them

    order = get_args(Part)
    return tuple(sorted(_registered.values(), key=lambda claim: order.index(claim.part)))


@cache
def share() -> float:
    """Return the false-alarm probability that each statistical claim may spend."""
    return BUDGET / sum(claim.kind == "statistical" for claim in all_claims())
