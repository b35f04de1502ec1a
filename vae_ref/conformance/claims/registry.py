"""The registry of claims: each is written once, as a decorated function."""

from collections.abc import Callable
from typing import cast, get_args

from vae_ref.conformance.records import Check, Claim, Kind, Level, Part, Slot

__all__ = ["claim", "registered"]

registered: dict[str, Claim] = {}


def claim(
    identifier: str,
    *,
    statement: str,
    formula: str,
    source: str,
    slot: Slot,
    needs: tuple[str, ...],
    kind: Kind,
    tolerance: str,
    kills: tuple[str, ...],
    builds_on: tuple[str, ...] = (),
    level: Level = "standard",
    edition: int = 1,
    trains: tuple[str, ...] = (),
    seconds: float | None = None,
) -> Callable[[Check], Check]:
    """Register a function as the check of a claim; see `Claim` for the arguments."""
    part = identifier.partition("/")[0]
    if part not in get_args(Part):
        raise ValueError(f"{identifier} does not begin with a part of a VAE")

    def register(check: Check) -> Check:
        if identifier in registered:
            raise ValueError(f"two claims are called {identifier}")
        registered[identifier] = Claim(
            id=identifier,
            statement=statement,
            formula=formula,
            source=source,
            part=cast(Part, part),
            slot=slot,
            needs=needs,
            kind=kind,
            tolerance=tolerance,
            kills=kills,
            builds_on=builds_on,
            level=level,
            edition=edition,
            trains=trains,
            seconds=seconds or (30.0 if kind == "statistical" else 10.0),
            check=check,
        )
        return check

    return register
