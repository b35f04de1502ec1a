"""Find a Gaussian prior that is learned, by what the divergence is when its numbers are held.

The KL of a latent from N(m, s^2), with a weight w, is

    w / 2 ((sigma^2 + (mu - m)^2) / s^2 - log sigma^2 + log s^2 - 1),

which is linear in mu^2, mu, sigma^2, log sigma^2 and 1. What m and s are computed from is held at
one number everywhere; then m and s^2 follow from the coefficients.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from vae_ref.conformance.auditing.graph import REFUSED, at
from vae_ref.conformance.auditing.pieces import Pieces, uniform

__all__ = ["UnknownPriorError", "at_one_number", "with_learned_prior"]

_POINTS = 9
_SHIFTS = (0.25, 0.5)
"""What is added to the recorded averages of the learned numbers, so that they are not special."""

_SAME = 1e-7
"""The rounding errors of a sampled KL in double precision, and of the fit, are far smaller."""


_TERMS: dict[float, Callable[[Tensor, Tensor], tuple[Tensor, ...]]] = {
    1: lambda m, v: (m**2, m, v.exp(), v),
    2: lambda m, v: (m**2, m, (2 * v).exp(), v),
    0.5: lambda m, v: (m**2, m, (v / 2).exp(), v),
    -1: lambda m, v: (m**2 * (-v).exp(), m * (-v).exp(), (-v).exp(), v),
}
"""What a divergence is a sum of, beside a constant.

The first is right. The others are wrong, and are judged to be: log sigma for log sigma^2, or the
other way round, and the divergence of the prior from the posterior.
"""


_FAR, _LESS_FAR = 1e3, 20.0
"""How far one learned number is moved; the second is for one whose exponential is taken."""

_BY_MUCH = 500
"""A prior's variance changes by more than this, if its own number moves so far."""


class UnknownPriorError(ValueError):
    """What is learned is not mean and variance of a Gaussian prior; the message is its line."""


class _Held(NamedTuple):
    """What a divergence is while the learned numbers are held.

    Attributes:
        held: The numbers.
        values: The divergence at some points.
        mean: The mean of the prior that it is from.
        variance: Its variance.
    """

    held: dict[int, Tensor]
    values: Tensor
    mean: float
    variance: float


def with_learned_prior(pieces: Pieces) -> Pieces:
    """Return the pieces with the learned numbers held, and with the prior that they make.

    The pieces stay the same if these numbers move neither mean nor variance of a prior.

    Raises:
        UnknownPriorError: If what is learned is not mean and variance of a Gaussian.
    """
    if not pieces.beside:
        return pieces
    first, second = (_held(pieces, at_one_number(pieces, shift)) for shift in _SHIFTS)
    ratios = second.values / first.values
    if _same(ratios, ratios[:1]):  # a weight is learned, and no prior
        return pieces
    if any(not 0 < each.variance < torch.inf for each in (first, second)):
        raise UnknownPriorError(_line(pieces))
    if _same(*(_numbers(each.mean, each.variance) for each in (first, second))):
        return pieces
    if not _is_quadratic(pieces.changed(held=at_one_number(pieces, spread=1.0))):
        raise UnknownPriorError(_line(pieces))
    is_alone = len(pieces.anatomy.latents) == 1  # else the others' divergences are in the constant
    if is_alone and not (_is_zero_at_its_prior(pieces, first) or _is_of_one(pieces, first)):
        raise UnknownPriorError(_line(pieces))
    of = f"the KL is that from N({first.mean:.4g}, {first.variance:.4g}), with its numbers held"
    return pieces.changed(
        held=first.held,
        prior=(first.mean, math.log(first.variance)),
        notes={"prior": f"a Gaussian that is learned ({_line(pieces)}): {of}"},
    )


def _held(pieces: Pieces, held: dict[int, Tensor]) -> _Held:
    """Find mean and variance of the prior while numbers are held; NaN says that there is none."""
    other, places = pieces.changed(held=held), pieces.code_places
    points = [
        (2 * uniform(f"mu {i}", places) - 1, 2 * uniform(f"logvar {i}", places) - 1)
        for i in range(_POINTS)
    ]
    try:
        with torch.no_grad():
            values = torch.stack([other.divergence(m, v) for m, v in points]).double()
    except REFUSED as refused:
        raise UnknownPriorError(_line(pieces)) from refused
    for power, terms in _TERMS.items():
        sums = torch.stack(
            [torch.stack([t.sum() for t in (*terms(m, v), torch.ones_like(v))]) for m, v in points]
        )
        found = torch.linalg.lstsq(sums, values).solution
        squares, means, variances, logs, _ = found.tolist()
        if squares > 0 and _same(sums @ found, values):
            mean = -means / (2 * squares)
            variance = -logs / squares if power > 0 else variances / squares - mean**2
            return _Held(held, values, mean, variance)
    return _Held(held, values, torch.nan, torch.nan)


def _is_of_one(pieces: Pieces, near: _Held) -> bool:
    """Whether one learned number at most decides the variance, and one the mean.

    The sum of the divergences from several priors is one from their product, and a constant that
    is no mistake. Each of them moves the variance of the product, but no further than the others
    allow, and its mean by a part of what its own mean is moved.
    """
    ratios, shifts = list[float](), list[float]()
    for value in pieces.beside:
        for far in (_FAR, _LESS_FAR):
            moved = _held(pieces, near.held | {value: near.held[value] + far})
            if 0 < moved.variance < torch.inf:
                break
        ratios.append(moved.variance / near.variance)
        shift = (moved.mean - near.mean) / far
        shifts.append(shift if abs(shift) > _SAME * max(1, moved.variance) else 0)
    variances = [ratio for ratio in ratios if not abs(ratio - 1) <= _SAME]
    means = [shift for shift in shifts if shift]
    return (
        len(variances) <= 1
        and len(means) <= 1
        and all(not 1 / _BY_MUCH < ratio < _BY_MUCH for ratio in variances)
        and all(abs(shift - 1) <= _SAME for shift in means)
    )


def _is_zero_at_its_prior(pieces: Pieces, found: _Held) -> bool:
    prior = (found.mean, math.log(found.variance))
    zero = torch.zeros(pieces.code_places, dtype=torch.float64)
    value = pieces.changed(held=found.held, prior=prior).divergence(zero, zero)
    return bool(value.abs() <= _SAME * found.values.abs().max())


def at_one_number(
    pieces: Pieces, shift: float = _SHIFTS[0], spread: float = 0.0
) -> dict[int, Tensor]:
    """Return what is held: the learned numbers, each near its average in the step."""
    held = dict(pieces.held)
    for value in pieces.beside:
        recorded = pieces.recorded(value)
        numbers = recorded.mean() + shift + spread * uniform(f"held {value}", recorded.numel())
        held[value] = pieces.graph.shaped(value, numbers)
    return held


def _is_quadratic(pieces: Pieces) -> bool:
    """Whether a divergence is one from a Gaussian: quadratic in mu, as that of no mixture is."""
    mu = 2 * uniform("a direction", pieces.code_places) - 1
    logvar = torch.zeros_like(mu)
    with torch.no_grad():
        values = torch.stack([pieces.divergence(t * mu, logvar) for t in range(-3, 4)])
    cubes = values.diff(n=3)
    return bool((cubes.abs() <= _SAME * values.abs().sum()).all())


def _numbers(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def _line(pieces: Pieces) -> str:
    """Return the first line that takes a learned number."""
    users, beside = pieces.graph.users(), pieces.beside
    return at(next((o.place for v in beside for o in users.get(v, ()) if o.place), None))


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether numbers are the same but for rounding errors of the size of the largest of them."""
    return bool(((a - b).abs() <= _SAME * b.abs().max()).all())
