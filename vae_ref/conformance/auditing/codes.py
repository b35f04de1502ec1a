"""The pieces of a step with several codes, as those of one code that has the numbers of all.

Each code is looked at with the others held: with the z that was recorded, and with posteriors that
equal their priors, whose KL is zero.
"""

from collections import ChainMap
from collections.abc import Iterable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from vae_ref.conformance.answers import oracles
from vae_ref.conformance.auditing.addends import MOST, apart
from vae_ref.conformance.auditing.anatomy import Anatomy
from vae_ref.conformance.auditing.pieces import NotReplayableError, Pieces, uniform
from vae_ref.conformance.auditing.posterior import Posterior
from vae_ref.conformance.auditing.prior import at_one_number, with_learned_prior
from vae_ref.conformance.auditing.sampler import Sampler

__all__ = ["Codes", "pieces_of"]

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
            NotReplayableError: If several codes of a kind are drawn for each example.
            UnknownPriorError: If a prior is learned, and is not a Gaussian.
        """
        if any(code.draws > 1 for code in self.each):
            raise NotReplayableError(
                "there are several codes, of which several are drawn for each example: they are "
                "not judged yet"
            )
        found = self._beside(self.each)
        for _ in range(2 if self.beside else 0):  # at first, no prior is known
            found = [with_learned_prior(code) for code in self._beside(found)]
        if self._rest:
            found = [_zero_at_prior(code) for code in found]
        whole, weights = zip(*map(_without_addends, found), strict=True)
        return self.changed(
            each=list(whole),
            weights=list(weights),
            held=found[0].held if any(any(code.prior) for code in found) else {},
            notes=self._notes(whole, weights),
        )

    def _notes(self, whole: Sequence[Pieces], weights: Sequence[float | None]) -> dict[str, str]:
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
        """The first code whose divergence is no KL, or the first if none has a divergence."""
        if None not in self.weights and any(self.weights):
            return None
        number = self.weights.index(None) if None in self.weights else 0
        notes = {"judged": f"code {number + 1}, since its KL is wrong"}
        return self.each[number].changed(notes=notes)

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
    def beside(self) -> tuple[int, ...]:
        """What the divergences are computed from beside mu and sigma, and that is learned."""
        return tuple(dict.fromkeys(v for code in self.each for v in code.beside))

    @property
    def draws(self) -> int:
        """One: of several codes, several draws are not judged."""
        return 1

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
    mu, logvar = (uniform(name, 2, code.code_places) for name in ("mu", "logvar"))
    with torch.no_grad():
        moved = code.divergence(mu, logvar) - code.divergence(0 * mu, 0 * logvar)
        if float(moved.abs() / oracles.kl(mu, logvar).sum()) < _NONE:
            return 0.0
    return code.kl_weight()


def _without_addends(code: Pieces) -> tuple[Pieces, float | None]:
    """Return a code without what is added to its KL, if something is, and the KL's weight."""
    weight = _weight(code)
    if weight is None and len(code.anatomy.penalties) > 1 and (alone := apart(code)):
        return alone, _weight(alone)
    return code, weight
