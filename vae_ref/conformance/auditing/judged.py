"""A recorded step as a subject, in the textbook's convention, so that every claim can judge it."""

import hashlib
import math
from fractions import Fraction
from typing import cast, get_args

import torch
from torch import Tensor

from vae_ref.conformance.auditing.pieces import NotReplayableError, Pieces
from vae_ref.conformance.probe import terms
from vae_ref.conformance.subject import Conventions, Family, Subject

__all__ = ["subject_of"]

_SIZES = [(3, 4), (2, 5)]


def _uniform(name: str, *shape: int) -> Tensor:
    digest = hashlib.sha256(name.encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def _exact(weight: float | None) -> float | None:
    """Return a measured weight, or the fraction that it all but equals, such as 1/5."""
    if not weight:
        return weight
    for number, inverse in ((weight, False), (1 / weight, True)):
        fraction = float(Fraction(number).limit_denominator(100_000))
        if fraction and abs(fraction - number) <= 1e-9 * abs(number):
            return 1 / fraction if inverse else fraction
    return weight


def subject_of(pieces: Pieces, name: str) -> Subject:
    """Return the subject whose functions are the pieces of a step, each with its weight undone."""
    assert pieces.posterior  # noqa: S101 - raises if mu and sigma cannot be told
    if pieces.anatomy.flows:
        return Subject(
            name=name,
            reparameterize=pieces.sample,
            undecided="the divergence is computed by way of weights, as of a flow or of a prior "
            f"that is learned ({pieces.anatomy.flows}): only the sampler is judged",
        )
    family, nll_weight, likelihood = None, None, cast("Family | None", None)
    try:
        fitting = terms.family_of(pieces.reconstruction, _uniform, 7)
        if fitting:
            family, nll_weight = fitting
    except NotReplayableError:
        has_nll = False
    else:
        has_nll = True
    divergence = terms.Term(pieces.divergence, differentiable=True)
    kl_weight = terms.kl_weight(divergence, _uniform, _SIZES)
    signs = {math.copysign(1, weight) for weight in (nll_weight, kl_weight) if weight}
    nll_weight, kl_weight = _exact(nll_weight), _exact(kl_weight)
    scale = nll_weight or kl_weight or 1.0  # which is negative if the step returns the ELBO
    found: dict[str, str] = {}
    if signs == {-1.0}:
        found["sign"] = "the step returns the ELBO: its negative is judged"
    if nll_weight and kl_weight:
        found["weights"] = (
            f"{abs(nll_weight):.4g} of the reconstruction, {abs(kl_weight):.4g} of the KL"
        )

    def kl(mu: Tensor, logvar: Tensor) -> Tensor:
        return pieces.divergence(mu, logvar) / (kl_weight or scale)

    def nll(outputs: Tensor, x: Tensor) -> Tensor:
        return pieces.reconstruction(outputs, x) / scale

    def loss(outputs: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        whole = pieces.reconstruction(outputs, x) + pieces.divergence(mu, logvar)
        return whole / scale

    if family and family.name in get_args(Family):
        likelihood = cast(Family, family.name)
    return Subject(
        name=name,
        kl=kl,
        reparameterize=pieces.sample,
        nll=nll if has_nll else None,
        loss=loss if has_nll else None,
        conventions=Conventions(likelihood=likelihood),
        rounding=1e6 if pieces.is_sampled else 64.0,
        found=found,
    )
