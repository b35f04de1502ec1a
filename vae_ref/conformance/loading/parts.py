"""Take apart a loss that returns several values: the loss itself may be one, or its two terms."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vae_ref.conformance.loading import evidence, signatures
from vae_ref.conformance.loading.signatures import Role

__all__ = ["Parts", "parts_of"]

Function = Callable[..., Any]

_IMAGE: tuple[Role, Role] = ("outputs", "x")
_POSTERIOR: tuple[Role, Role] = ("mu", "spread")


class Parts(NamedTuple):
    """What a function computes: the loss, or the reconstruction term and the KL."""

    loss: Function | None = None
    nll: Function | None = None
    kl: Function | None = None


def parts_of(function: Function) -> Parts:
    """Return what a function of (outputs, x, mu, sigma) computes, by what its values depend on.

    One that depends on all of them is the loss, wherever it stands. If there is none, the one that
    depends on the images is the reconstruction term, and the one that depends on the posterior the
    KL. A function of one value, or of arguments whose names say nothing, is left as it is.
    """
    names = signatures.by_role(function)
    if not {*_IMAGE, *_POSTERIOR} <= set(names):
        return Parts(function)
    for images, _, codes, _ in evidence.trials(4):
        tails = {role: images.shape[1:] for role in _IMAGE}
        tails |= {role: codes.shape[1:] for role in _POSTERIOR}
        try:
            found = _values(function, names, tails, images=0.5, posterior=0.5)
            other = _values(function, names, tails, images=0.3, posterior=0.5)
            third = _values(function, names, tails, images=0.5, posterior=0.3)
        except Exception:
            continue
        if len(found) < 2:
            return Parts(function)
        kinds = [
            (not torch.equal(a, b), not torch.equal(a, c))
            for a, b, c in zip(found, other, third, strict=True)
        ]
        if (True, True) in kinds:
            return Parts(_entry(function, kinds.index((True, True))))
        if (True, False) in kinds and (False, True) in kinds:
            nll, kl = (
                _entry(function, kinds.index(kind)) for kind in ((True, False), (False, True))
            )
            return Parts(nll=_of(nll, names, tails, _IMAGE), kl=_of(kl, names, tails, _POSTERIOR))
        break
    return Parts(function)


def _values(
    function: Function,
    names: dict[Role, str],
    tails: dict[Role, torch.Size],
    *,
    images: float,
    posterior: float,
) -> list[Tensor]:
    """Return the values of a function for tensors of one number each; none if it has only one."""
    values = {role: images for role in _IMAGE} | {role: posterior for role in _POSTERIOR}
    tensors = {
        names[role]: torch.full((3, *tails[role]), value, dtype=torch.float64)
        for role, value in values.items()
    }
    answer = evidence.tried(function, tensors)
    several = isinstance(answer, tuple | list) and all(isinstance(a, Tensor) for a in answer)
    return list(answer) if several else []


def _entry(function: Function, index: int) -> Function:
    """Return the function that computes one of several values."""

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        return function(*arguments, **named)[index]

    return call


def _of(
    function: Function,
    names: dict[Role, str],
    tails: dict[Role, torch.Size],
    roles: Sequence[Role],
) -> Function:
    """Return a function of two of its arguments; the others have no influence on it."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = inspect.Signature([inspect.Parameter(names[role], kind) for role in roles])
    others = [role for role in names if role in tails and role not in roles]

    def call(*arguments: Any, **named: Any) -> Any:
        given = signature.bind(*arguments, **named).arguments
        one = next(iter(given.values()))
        rest = {
            names[role]: torch.full((len(one), *tails[role]), 0.5, dtype=one.dtype)
            for role in others
        }
        return function(**given, **rest)

    call.__signature__ = signature  # type: ignore[attr-defined]
    return call
