"""The pieces of a step with several codes, as those of one code that has the numbers of all.

Each code is looked at with the others held: with the z that was recorded, and with posteriors that
equal their priors, whose KL is zero.
"""

from collections import ChainMap
from collections.abc import Iterable
from functools import cached_property

import torch
from torch import Tensor

from vae_ref.conformance.answers import oracles
from vae_ref.conformance.auditing.addends import MOST, apart
from vae_ref.conformance.auditing.anatomy import Anatomy
from vae_ref.conformance.auditing.pieces import Pieces, uniform
from vae_ref.conformance.auditing.posterior import Posterior
from vae_ref.conformance.auditing.prior import at_one_number, with_learned_prior
from vae_ref.conformance.auditing.sampler import Sampler
from vae_ref.conformance.probe import terms

__all__ = ["Codes", "pieces_of"]

_SIZES = [(3, 4), (2, 5)]
_NEAR = 1e-6
"""How near two measured weights are that are the same."""

_NONE = 1e-12
"""The weight of a KL below which there is none but rounding."""


def pieces_of(anatomy: Anatomy) -> Pieces:
    """Return the pieces of a step.

    Raises:
        NotReplayableError: If a part cannot be computed again, or its codes are discrete.
    """
    first = Pieces(anatomy)
    return Codes(first) if len(anatomy.latents) > 1 else first


class Codes(Pieces):
    """The pieces of a step with several codes.

    Args:
        first: The pieces with the first code.

    Attributes:
        each: The pieces with each code alone, of the first few.
        weights: The weights of their KLs; none for what is no KL, or not known yet.
    """

    def __init__(self, first: Pieces) -> None:
        self.__dict__ |= first.__dict__
        few, self._rest = self.anatomy.latents[:MOST], self.anatomy.latents[MOST:]
        self.each = [first.changed(latent=latent) for latent in few]
        self.weights: list[float | None] = [None] * len(self.each)

    def beside_others(self) -> "Codes":
        """Return the pieces with every code alone, beside others whose KL is zero.

        Raises:
            UnknownPriorError: If a prior is learned, and is not a Gaussian.
        """
        found = self._beside(self.each)
        for _ in range(2 if self.anatomy.beside else 0):  # at first, no prior is known
            found = [with_learned_prior(code) for code in self._beside(found)]
        if self._rest:
            found = [_zero_at_prior(code) for code in found]
        whole = [_alone(code) for code in found]
        weights = [_weight(code) for code in whole]
        return self.changed(
            each=whole,
            weights=weights,
            held=found[0].held if any(any(code.prior) for code in found) else {},
            notes=self._notes(whole, weights),
            flows=None,
        )

    def _notes(self, whole: list[Pieces], weights: list[float | None]) -> dict[str, str]:
        notes = dict[str, str]()
        for number, (code, weight) in enumerate(zip(whole, weights, strict=True), 1):
            notes |= {f"{name} {number}": text for name, text in code.notes.items()}
            if weight == 0:  # as of one whose posterior is its prior by design
                notes[f"KL {number}"] = "none: the loss does not depend on the posterior but by z"
        if self._rest:
            notes["judged"] = f"the first {len(whole)} of {len(self.anatomy.latents)} codes"
        if not _are_even(weights):
            of = (f"{w:.4g} of code {n}" for n, w in enumerate(weights, 1) if w)
            notes["KLs"] = f"weights of {', '.join(of)}"
        return notes

    def _beside(self, found: list[Pieces]) -> list[Pieces]:
        """Return each code alone, the others held with posteriors that are their priors."""
        learned, held = at_one_number(self), list[dict[int, Tensor]]()
        for code in found:
            mean, logvar = code.prior
            mu = torch.full((code.code_places,), mean, dtype=torch.float64)
            raw = code.posterior.inverse(torch.full_like(mu, logvar))
            z = {code.latent.z: self.recorded(code.latent.z)}
            held.append(z | code.posterior_values(mu, raw))
        rest = {v: self.recorded(v) for x in self._rest for v in (x.z, *x.posterior)}
        return [
            code.changed(held=ChainMap(learned, rest, *(o for o in held if o is not own)))
            for code, own in zip(self.each, held, strict=True)
        ]

    @property
    def wrong(self) -> Pieces | None:
        """The first code whose divergence is no KL."""
        for number, (code, weight) in enumerate(zip(self.each, self.weights, strict=True), 1):
            if weight is None or not any(self.weights):
                return code.changed(notes={"judged": f"code {number}, since its KL is wrong"})
        return None

    @property
    def has_one_weight(self) -> bool:
        """Whether the KLs of all codes have the same weight."""
        return _are_even(self.weights)

    @cached_property
    def _penalised(self) -> list[tuple[Pieces, float]]:
        """The codes that have a KL, with its weight."""
        pairs = zip(self.each, self.weights, strict=True)
        return [(code, weight) for code, weight in pairs if weight] or [
            (code, 1.0) for code in self.each
        ]

    # As one code.

    @property
    def code_places(self) -> int:
        """How many numbers the codes have in a step."""
        return sum(len(code.code_slots) for code, _ in self._penalised)

    @property
    def draws(self) -> int:
        """How many codes of a kind are drawn for each example, at most."""
        return max(code.draws for code in self.each)

    @cached_property
    def posterior(self) -> Posterior:
        """How the raw numbers of the first code stand for mu and sigma."""
        return self.each[0].posterior

    @cached_property
    def code_slots(self) -> Tensor:
        """The places of the codes whose posteriors are in the loss."""
        return torch.arange(self.code_places)

    @property
    def _codes_reached(self) -> Tensor:
        return self.each[0]._codes_reached

    @cached_property
    def is_sampled(self) -> bool:
        """Whether the divergence of one is computed from z."""
        return any(code.is_sampled for code in self.each)

    @cached_property
    def sample(self) -> Sampler:
        """Draw all codes by the step's own samplers, with fresh noise."""
        codes = [(code.latent, code.posterior) for code in self.each]
        return Sampler(self.graph, codes, self.examples)

    @property
    def input(self) -> None:
        """Not known: the networks of several codes are not judged."""
        return

    @property
    def leaves_examples_out(self) -> bool:
        """Whether a term of the loss has other examples than the other."""
        return any(code.leaves_examples_out for code in self.each)

    def is_sum(self) -> bool:
        """Whether the loss is a function of outputs and data plus one of each posterior."""
        return all(code.is_sum() for code in self.each)

    def _divergence(
        self, mu: Tensor, logvar: Tensor, nodes: int = 0, at: Tensor | None = None
    ) -> Tensor:
        """Return the sum of the divergences, without their weights if these differ."""
        sizes = [len(code.code_slots) for code, _ in self._penalised]
        parts = zip(self._penalised, mu.split(sizes), logvar.split(sizes), strict=True)
        return torch.stack(
            [
                code.divergence(m, v) / (1.0 if self.has_one_weight else weight)
                for (code, weight), m, v in parts
            ]
        ).sum()


def _are_even(weights: Iterable[float | None]) -> bool:
    """Whether all KLs that there are have the same weight."""
    known = [weight for weight in weights if weight]
    return all(abs(weight - known[0]) <= _NEAR * abs(known[0]) for weight in known[1:])


def _zero_at_prior(code: Pieces) -> Pieces:
    """Return a code without what the codes that are not looked at add to its divergence."""
    zero = torch.zeros(len(code.code_slots), dtype=torch.float64)
    with torch.no_grad():
        constant = float(code.divergence(zero, zero))
    return code.changed(offset=code.offset + constant)


def _weight(code: Pieces) -> float | None:
    """Return the weight of a code's KL; 0 if it has no divergence, None if that is no KL."""
    divergence = terms.Term(code.divergence, differentiable=True)
    mu, logvar = (uniform(name, 2, code.code_places) for name in ("mu", "logvar"))
    with torch.no_grad():
        if float(divergence(mu, logvar).abs() / oracles.kl(mu, logvar).sum()) < _NONE:
            return 0.0
    return terms.kl_weight(divergence, uniform, _SIZES)


def _alone(code: Pieces) -> Pieces:
    """Return a code without what is added to its KL, if something is."""
    if _weight(code) is None and len(code.anatomy.penalties) > 1:
        return apart(code) or code
    return code
