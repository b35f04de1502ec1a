"""The bench: a subject as the claims see it, in nats, its conventions undone."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial

import torch
from torch import Tensor

from vae_ref.conformance import terms
from vae_ref.conformance.calls import Calls
from vae_ref.conformance.course import Course
from vae_ref.conformance.oracles import FAMILIES, Likelihood
from vae_ref.conformance.records import NotApplicable
from vae_ref.conformance.terms import Term

__all__ = ["Bench"]

_TEXTBOOK_PIXELS = 784


class Bench(Calls):
    """The parts of a subject's loss, as sums over examples.

    Without a KL or a reconstruction of its own, a subject is asked for them through its loss: at
    the prior the KL is 0, and reconstructions may be all but perfect.
    """

    @cached_property
    def course(self) -> Course:
        """What the claims that train use."""
        if self.subject.course is None:
            raise NotApplicable("there is no course: no images to train on")
        return self.subject.course()

    @cached_property
    def latents(self) -> tuple[int, ...]:
        """How many latents the functions are tried with; several, pairwise different, if they can.

        The sizes of batch, latents and pixels are always different: bugs hide where they agree.
        """
        unit = 1
        for size in (self.conventions.latent_shape or (1,))[1:]:
            unit *= size
        return (5 * unit, 2 * unit, unit)

    @cached_property
    def pixels(self) -> tuple[int, ...]:
        """How many pixels the functions are tried with; a loss may be tied to one number."""
        unit = 1
        for size in (self.conventions.pixel_shape or (1,))[1:]:
            unit *= size
        if self.subject.loss is None and self.subject.nll is None:
            return (7 * unit, 11 * unit)
        try:
            for pixels in (7 * unit, 11 * unit):
                self._try(pixels)
        except Exception:
            shape = self.conventions.pixel_shape
            return (unit * shape[0] if shape else _TEXTBOOK_PIXELS,)
        return (7 * unit, 11 * unit)

    def _try(self, pixels: int) -> None:
        half = torch.full((3, pixels), 0.5, dtype=self.dtype)
        if self.subject.nll is not None:
            self.nll_as_is(half, half)
        if self.subject.loss is not None:
            code = torch.zeros(3, self.latents[0], dtype=self.dtype)
            self.loss_as_is(half, half, code, code)

    def perfect(self, examples: int, pixels: int) -> tuple[Tensor, Tensor]:
        """Return outputs and x that agree so well that the reconstruction all but vanishes."""
        x = (self.uniform("perfect", examples, pixels) > 0.5).to(self.dtype)
        near = x + 0.001 * (1 - 2 * x)
        return (near if self.likelihood.bounded else self.likelihood.best(near)), x

    def _kl_from_loss(self, mu: Tensor, logvar: Tensor, pixels: int | None = None) -> Tensor:
        pair = self.perfect(len(mu), pixels or self.pixels[0])
        prior = torch.zeros_like(mu)
        return (
            self.loss_as_is(*pair, mu, logvar).sum() - self.loss_as_is(*pair, prior, prior).sum()
        )

    def _nll_from_loss(self, outputs: Tensor, x: Tensor) -> Tensor:
        prior = torch.zeros(len(x), self.latents[0], dtype=self.dtype)
        return self.loss_as_is(outputs, x, prior, prior).sum()

    @cached_property
    def in_loss(self) -> tuple[Term, Term]:
        """The reconstruction and the KL as they stand in the loss, with their weights."""
        if self.subject.loss is None:
            raise NotApplicable("there is no loss")
        differentiable = getattr(self.subject.loss, "differentiable", True)
        found = []
        for raw, shape, averaged in (
            (self._nll_from_loss, (3, self.pixels[0]), self.conventions.nll_reduction),
            (self._kl_from_loss, (3, self.latents[0]), self.conventions.kl_reduction),
        ):
            pair = (self.uniform("a", *shape) * 0.9 + 0.05, 1 - 0.8 * self.uniform("b", *shape))
            batch = terms.batch_reduction(raw, *pair)
            found.append(Term(raw, differentiable, batch, averaged=averaged == "mean"))
        return found[0], found[1]

    @cached_property
    def _weighed(self) -> tuple[list[float | None], list[float | None]]:
        """The weights of reconstruction and KL in the loss, for every number of pixels."""
        reconstruction, divergence = self.in_loss
        sizes = [(3, self.latents[0]), (4, self.latents[1]), (2, self.latents[0])]
        own: list[float | None] = []
        other: list[float | None] = []
        for pixels in self.pixels:
            found = terms.family_of(reconstruction, self.uniform, pixels)
            own.append(found[1] if found else None)
            whole = replace(divergence, raw=partial(self._kl_from_loss, pixels=pixels))
            other.append(terms.kl_weight(whole, self.uniform, sizes))
        return own, other

    def _equal(self, values: list[float]) -> bool:
        return all(abs(v - values[0]) <= terms.same(self.dtype) * abs(values[0]) for v in values)

    @cached_property
    def weights(self) -> tuple[float | None, float | None]:
        """The constant weights of reconstruction and KL in the loss; None where there is none.

        Weights that change with the number of pixels, but both alike, scale the loss as a whole.
        """
        own, other = self._weighed
        if None in own or None in other:
            known = None not in own and self._equal(_numbers(own))
            return (own[0] if known else None), other[0]
        a, b = _numbers(own), _numbers(other)
        alike = self._equal([x / y for x, y in zip(b, a, strict=True)])
        return (a[0] if alike or self._equal(a) else None), b[0]

    @property
    def per_pixel(self) -> bool:
        """Whether the whole loss is divided by the number of pixels: nats per pixel."""
        own = [w * n for w, n in zip(self._weighed[0], self.pixels, strict=True) if w is not None]
        return len(own) > 1 and self._equal(own) and None not in self.weights

    @cached_property
    def likelihood(self) -> Likelihood:
        """The distribution of a pixel: as declared, as inferred, or as the textbook has it."""
        return self.found_likelihood or FAMILIES["bernoulli"]

    @cached_property
    def found_likelihood(self) -> Likelihood | None:
        """The distribution that was declared or could be inferred."""
        if self.conventions.likelihood:
            return FAMILIES[self.conventions.likelihood]
        if self.subject.nll is not None:
            raw: Callable[..., Tensor] = self.nll_as_is
        elif self.subject.loss is not None:
            raw = self._nll_from_loss
        else:
            return None
        found = terms.family_of(raw, self.uniform, self.pixels[0])
        if found:
            self.facts["likelihood"] = found[0].name
        return found[0] if found else None

    @cached_property
    def kl(self) -> Term:
        """The KL, summed over examples."""
        if self.subject.kl is None:
            term, weight = self.in_loss[1], self.weights[1]
            if weight == 0:
                raise NotApplicable("the loss has no KL; see objective/beta")
            self.facts["KL"] = f"taken from the loss, {_over(term.batch)}"
            return term.weighing(weight)
        shape = (3, self.latents[0])
        batch = terms.batch_reduction(
            self.kl_as_is, self.uniform("a", *shape), 0.5 - self.uniform("b", *shape)
        )
        self.facts["KL"] = _over(batch)
        differentiable = getattr(self.subject.kl, "differentiable", True)
        averaged = self.conventions.kl_reduction == "mean"
        return Term(self.kl_as_is, differentiable, batch, averaged=averaged)

    def rounded(self, scale: Tensor) -> Tensor:
        """Return the scale of rounding errors of the KL: larger, if it is taken from a loss."""
        return (scale + self._kl_floor) * self.kl.slack

    @cached_property
    def _kl_floor(self) -> float:
        """What a KL taken from the loss has to be told from: the terms it is added to."""
        if self.subject.kl is not None:
            return 0.0
        outputs, x = self.perfect(4, self.pixels[0])
        prior = torch.zeros(4, self.latents[0], dtype=self.dtype)
        value = self.loss_as_is(outputs, x, prior, prior).sum().abs()
        return float(value) * (4 if self.kl.batch == "mean" else 1) / abs(self.kl.weight)

    @cached_property
    def nll(self) -> Term:
        """The reconstruction term, summed over examples."""
        if self.subject.nll is None:
            term, weight = self.in_loss[0], self.weights[0]
            self.facts["reconstruction"] = f"taken from the loss, {_over(term.batch)}"
            if self.per_pixel and weight is not None:
                return replace(term, averaged=True, weight=weight * self.pixels[0])
            return term.weighing(weight if self.constant_weights else None)
        shape = (3, self.pixels[0])
        pair = (self.uniform("a", *shape) * 0.9 + 0.05, 1 - 0.8 * self.uniform("b", *shape))
        batch = terms.batch_reduction(self.nll_as_is, *pair)
        self.facts["reconstruction"] = _over(batch)
        differentiable = getattr(self.subject.nll, "differentiable", True)
        averaged = self.conventions.nll_reduction == "mean"
        return Term(self.nll_as_is, differentiable, batch, averaged=averaged)

    @property
    def constant_weights(self) -> bool:
        """Whether the loss is reconstruction and KL with constant weights.

        A number of pixels that cannot be varied may hide in a weight; then only a loss scaled as
        a whole, which changes nothing, is taken for constant.
        """
        reconstruction, divergence = self.weights
        if not reconstruction or not divergence:
            return False
        whole = abs(reconstruction / divergence - 1) < terms.same(self.dtype)
        return len(self.pixels) > 1 or whole or not self.likelihood.absolute


def _numbers(values: list[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _over(batch: terms.BatchReduction) -> str:
    return {
        "sum": "summed over the batch",
        "mean": "averaged over the batch",
        "neither": "neither summed nor averaged over the batch",
    }[batch]
