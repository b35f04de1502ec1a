"""A recorded step as a subject, in the textbook's convention, so that every claim can judge it."""

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any, cast, get_args

from torch import Tensor, nn

from vae_ref.conformance.auditing.addends import apart
from vae_ref.conformance.auditing.codes import Codes
from vae_ref.conformance.auditing.graph import at
from vae_ref.conformance.auditing.likelihood import fitted
from vae_ref.conformance.auditing.pieces import AVERAGED, BOUND, Pieces
from vae_ref.conformance.auditing.prior import UnknownPriorError, with_learned_prior
from vae_ref.conformance.records import NotApplicable
from vae_ref.conformance.subject import Conventions, Family, Subject, Weights

__all__ = ["subject_of"]

_NEAR = 1e-6
"""How near a measured weight is to a plain one: a jitter of 1e-9 shifts it by less."""

_MOST_WEIGHTS = 20_000_000
"""The weights from which saving and changing them for every claim takes too long."""


_MOST_WEIGHED = 1e10
"""The largest sigma^2 and mu^2 whose KL is judged by the logarithm of a mean of weights."""

_MIXED = (
    "not judged: what becomes of an example depends on the others of its batch, or they cannot be "
    "replaced"
)


def _exact(weight: float | None, sizes: Iterable[int]) -> float | None:
    """Return a measured weight, or what it all but equals: one over a size, or a plain fraction.

    A number that is added inside of logarithms shifts what is measured, but by less than 1e-6.
    The nearer a fraction has to be, the longer it may be: about one in a hundred weights has one.
    """
    if not weight:
        return weight
    number = max(abs(weight), 1 / abs(weight))
    for size in sizes:
        if abs(size / number - 1) <= _NEAR:
            return math.copysign(float(size) if abs(weight) > 1 else 1 / size, weight)
    for near, longest in ((_NEAR, 1e4), (1e-9, 1e7)):
        fraction = Fraction(number).limit_denominator(max(1, int(math.sqrt(longest / number))))
        if abs(float(fraction) / number - 1) <= near:
            found = float(fraction) if abs(weight) > 1 else float(1 / fraction)
            return math.copysign(found, weight)
    return weight


def _sizes(pieces: Pieces) -> tuple[int, int, int]:
    """Return how many examples a step has, and how many latents and pixels an example has."""
    examples = pieces.examples
    places = (pieces.code_places, pieces.pixel_places)
    latents, pixels = (max(1, number // examples) for number in places)
    return examples, latents, pixels


def _weights(pieces: Pieces, nll: float | None, kl: float | None) -> Weights:
    """Return the weights of the terms, with the sizes of the step and the lines of the terms."""
    anatomy, (examples, latents, pixels) = pieces.anatomy, _sizes(pieces)
    sign = math.copysign(1.0, nll) if nll and kl and nll * kl > 0 else 1.0

    def place(found: tuple[int, ...]) -> str:
        maker = anatomy.graph.values[found[-1]].maker if found else None
        return at(maker.place if maker else None)

    return Weights(
        nll=nll and sign * nll,
        kl=kl and sign * kl,
        examples=examples,
        latents=latents,
        pixels=pixels,
        nll_place=place(anatomy.distortions),
        kl_place=place(anatomy.penalties),
    )


def _module(pieces: Pieces, roots: Sequence[nn.Module]) -> nn.Module | None:
    """Return the networks of a step as one module.

    There is none if it would take long to change the weights, or if autocast rounds them.
    """
    if any(operation.autocast for operation in pieces.rows.graph.operations):
        return None
    whole = roots[0] if len(roots) == 1 else nn.ModuleList(roots)
    if not roots or sum(p.numel() for p in whole.parameters()) > _MOST_WEIGHTS:
        return None
    return whole


def _networks(pieces: Pieces, roots: Sequence[nn.Module]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return encode, decode and module of a subject, and what is said of those not judged."""
    if len(pieces.anatomy.latents) > 1:
        return {}, {"networks": "not judged, since there are several codes"}
    if pieces.draws > 1:
        return {}, {"networks": "not judged, since several codes are drawn for each example"}
    module = _module(pieces, roots)
    if module is None:
        return {}, {}
    heads, outputs = [pieces.posterior.mu, pieces.posterior.raw], [*pieces.anatomy.outputs]
    encodes = pieces.input is not None and pieces.rows.are_independent(pieces.input, heads)
    decodes = len(outputs) == 1 and pieces.rows.are_independent(pieces.latent.z, outputs)
    judged = {"encoder": encodes or pieces.input is None, "decoder": decodes}

    def encode(x: Tensor) -> tuple[Tensor, Tensor]:
        return pieces.encode(x, evaluating=not module.training)

    def decode(z: Tensor) -> Tensor:
        return pieces.decode(z, evaluating=not module.training)

    networks = {
        "module": module,
        "encode": encode if encodes else None,
        "decode": decode if decodes else None,
    }
    return networks, {part: _MIXED for part, is_judged in judged.items() if not is_judged}


def _averages_weights(pieces: Pieces) -> bool:
    """Whether the loss is a logarithm of a mean of weights, or something like it."""
    return pieces.draws > 1 and pieces.combination != AVERAGED


def _rounding(pieces: Pieces) -> float:
    """Return how many times the rounding errors of a plain formula the terms may have.

    The logarithm of a mean of weights is rounded like the logarithm of the largest of them.
    """
    if _averages_weights(pieces):
        return 10 * _MOST_WEIGHED
    return 1e6 if pieces.is_sampled or pieces.held else 64.0


def _conventions(pieces: Pieces, likelihood: Family | None) -> Conventions:
    """Return the likelihood, and the shapes of a code and an image."""
    shapes = [value.shape for value in pieces.graph.values]
    if isinstance(pieces, Codes):
        return Conventions(likelihood=likelihood)
    return Conventions(
        likelihood=likelihood,
        latent_shape=shapes[pieces.latent.z][1:] or None,
        pixel_shape=None if pieces.input is None else shapes[pieces.input][1:] or None,
    )


def _with_known_priors(pieces: Pieces) -> Pieces:
    """Return the pieces with priors that are known, and without what is added to the KL.

    Of several codes it is the first whose divergence is wrong, if there is one.

    Raises:
        UnknownPriorError: If a prior is learned, and is not a Gaussian.
    """
    if isinstance(pieces, Codes):
        codes = pieces.beside_others()
        return codes.wrong or codes
    separate = apart(pieces) if len(pieces.anatomy.penalties) > 1 else None
    return separate or with_learned_prior(pieces)


def subject_of(pieces: Pieces, name: str, roots: Sequence[nn.Module] = ()) -> Subject:
    """Return the subject whose functions are the pieces of a step, each with its weight undone."""
    assert pieces.posterior  # noqa: S101 - raises if mu and sigma cannot be told
    try:
        pieces = _with_known_priors(pieces)
    except UnknownPriorError as unknown:
        return Subject(
            name=name,
            reparameterize=pieces.sample,
            seed=pieces.seed,
            undecided="the divergence depends on what is learned, as that of a flow, of a "
            f"mixture or of several priors ({unknown}): only the sampler is judged",
        )
    if not pieces.is_sum():
        return Subject(
            name=name,
            reparameterize=pieces.sample,
            seed=pieces.seed,
            undecided="the loss is no sum of a reconstruction and a divergence, since one weighs "
            "the other: only the sampler is judged",
        )
    kl_weight = pieces.kl_weight()
    fit = fitted(pieces)
    if fit.found is None and kl_weight and kl_weight < 0:
        pieces.sign = -1.0
        fit = fitted(pieces)
    family, nll_weight = fit.found or (None, None)
    nll_weight = nll_weight and pieces.sign * nll_weight
    undecided, has_nll, likelihood = fit.undecided, fit.is_judged, cast("Family | None", None)
    found = dict(pieces.notes) | ({"reconstruction": fit.note} if fit.note else {})
    is_uneven = isinstance(pieces, Codes) and not pieces.has_one_weight
    signs = {math.copysign(1, weight) for weight in (nll_weight, kl_weight) if weight}
    sizes = _sizes(pieces)
    known = (sizes[0], sizes[0] * sizes[1], sizes[0] * sizes[2], *sizes[1:])
    nll_weight, kl_weight = (_exact(weight, known) for weight in (nll_weight, kl_weight))
    scale = nll_weight or kl_weight or 1.0  # which is negative if the step returns the ELBO
    if signs == {-1.0}:
        found["sign"] = "the step returns the ELBO: its negative is judged"
    if is_uneven:
        undecided = undecided or "the KLs of the codes have other weights: beta is not judged"
    if nll_weight and kl_weight and not has_nll and abs(kl_weight / nll_weight - 1) > _NEAR:
        undecided = "beta is judged only where the likelihood is one for all data"
    if nll_weight and kl_weight and not is_uneven:
        found["weights"] = (
            f"{abs(nll_weight):.4g} of the reconstruction, {abs(kl_weight):.4g} of the KL"
        )

    def kl(mu: Tensor, logvar: Tensor) -> Tensor:
        if averages_weights and max(logvar.exp().max(), mu.square().max()) > _MOST_WEIGHED:
            raise NotApplicable("the logarithm of a mean of weights loses so large a KL")
        return pieces.divergence(mu, logvar) / (kl_weight or scale)

    def nll(outputs: Tensor, x: Tensor) -> Tensor:
        return pieces.reconstruction(outputs, x) / scale

    def loss(outputs: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        whole = pieces.reconstruction(outputs, x) + pieces.divergence(mu, logvar)
        return whole / scale

    averages_weights = _averages_weights(pieces)
    if pieces.draws > 1:
        same = ", all with the same noise" if pieces.has_one_noise else ""
        found["draws"] = f"{pieces.draws} for each example{same}, {pieces.combination}"
    if averages_weights and pieces.combination != BOUND:
        undecided = undecided or f"the draws of an example are {pieces.combination}"
    networks, said = _networks(pieces, roots)
    found |= said
    if family and family.name in get_args(Family):
        likelihood = cast(Family, family.name)
    return Subject(
        name=name,
        kl=kl,
        reparameterize=pieces.sample,
        nll=nll if has_nll else None,
        loss=loss if has_nll and not is_uneven else None,
        undecided=undecided,
        **networks,
        conventions=_conventions(pieces, likelihood),
        weights=_weights(pieces, nll_weight, None if is_uneven else kl_weight),
        rounding=_rounding(pieces),
        found=found,
        seed=pieces.seed,
    )
