"""The pieces of a step as functions: posterior, sampler, divergence and reconstruction.

Each is a replay of the recorded step in which the values that the piece is a function of are
replaced. The numbers of a code or an image are given in any shape; they take the places of the
recorded ones, as many at a time as the step has places, and a sum over all is returned.
"""

import copy
import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache, cached_property, partial
from itertools import permutations
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from vae_ref.conformance.answers import oracles
from vae_ref.conformance.auditing.anatomy import Anatomy, Latent
from vae_ref.conformance.auditing.graph import REFUSED, Operation, Ref, mapped
from vae_ref.conformance.auditing.posterior import SPREADS, USUAL, Posterior
from vae_ref.conformance.auditing.rows import Rows
from vae_ref.conformance.auditing.sampler import Sampler
from vae_ref.conformance.guards import seed_everything
from vae_ref.conformance.probe import terms

__all__ = ["AVERAGED", "BOUND", "NotReplayableError", "Pieces", "uniform"]

_NODES = 6  # of the quadrature over the noise: exact for polynomials of degree 11
_FEW_NODES = 2  # exact for squares, of which a sampled KL of Gaussians is made
_SIZES = [(3, 4), (2, 5)]
"""Examples and latents of the points at which the divergence is compared with the KL."""

_SAME_KL = 1e-9
"""By how much a divergence may differ from a multiple of the KL, relatively, to be one.

Little, since the KL of sigma = softplus(raw) + 1e-5 is not that of softplus(raw).
"""
_AFFINE = {"mul", "div", "true_divide", "add", "sub"}
"""The operations that scale or shift, if all but one of their inputs are numbers."""

_ROUNDINGS = 100
"""By how many roundings two numbers may differ that a parametrisation makes equal.

Few, since sigma = softplus(raw) + 1e-5 is another parametrisation than softplus(raw).
"""


AVERAGED, BOUND = "averaged", "in the importance-weighted bound"
_UNKNOWN = "combined as neither an average nor the importance-weighted bound"
"""How several draws for an example are combined."""

_OF_TERMS = {
    *("_nodes", "_constant", "is_sampled", "code_slots", "_codes_reached"),
    *("pixel_slots", "_pixels_reached", "combination", "_penalised"),
}
"""What pieces remember of the terms that they have."""

_OF_CODE = {"posterior", "sample", "input", "_row_copies"}
"""What they remember of the code that they have."""


class NotReplayableError(ValueError):
    """A part of the step cannot be computed again; the message says which and why."""


class Pieces:
    """The pieces of one step with one code, the first if there are several.

    Args:
        anatomy: Where the parts are.

    Attributes:
        sign: -1 if the step returns the ELBO, whose negative is the loss.
        prior: Mean and log variance of the prior. The posterior is given relative to it, so that
            its KL is that to N(0, 1), which no shift and scale of both changes.
        offset: What other codes add to the divergence.
        held: Values that are the same in every replay.
        notes: What else there is to say, by name.
    """

    sign = 1.0
    prior = (0.0, 0.0)
    offset = 0.0
    held: Mapping[int, Tensor] = MappingProxyType({})
    notes: Mapping[str, str] = MappingProxyType({})

    def __init__(self, anatomy: Anatomy) -> None:
        self.anatomy, self.graph = anatomy, anatomy.graph
        self._recorded_graph = anatomy.graph
        self.latent: Latent = anatomy.latents[0]
        for latent in anatomy.latents:
            if latent.law in ("categorical", "Bernoulli", "Gumbel"):
                raise NotReplayableError(
                    f"the code is {latent.law}: discrete codes are not judged yet"
                )
        self._as_recorded()

    def _as_recorded(self) -> None:
        """Require that a replay without changes gives the recorded loss, bit for bit."""
        if self.graph.opaque:
            raise NotReplayableError(self.graph.opaque)
        (again,) = self.graph.replay([self.graph.loss])
        if not torch.equal(again.detach(), self.recorded_loss):
            reason = "; ".join(text for text, _ in self.graph.obstacles[:1])
            raise NotReplayableError(
                f"the same operations gave another loss, {again.item():g} instead of "
                f"{self.recorded_loss.item():g}" + (f": {reason}" if reason else "")
            )
        doubled = self.graph.doubled()
        try:
            with torch.no_grad():
                (exact,) = doubled.replay([doubled.loss])
        except Exception:  # some library insists on its precision: judge in that
            return
        if abs(float(exact) - float(again.detach())) <= 1e-3 * abs(float(again.detach())):
            doubled.values[doubled.loss].external = exact.detach()
            self.graph = self.anatomy.graph = doubled

    def changed(self, **attributes: Any) -> Self:
        """Return the same pieces with other attributes."""
        other = copy.copy(self)
        other.__dict__ |= attributes | {"anatomy": replace(self.anatomy)}
        for known in _OF_TERMS | (_OF_CODE if "latent" in attributes else set()):
            other.__dict__.pop(known, None)
        return other

    def with_parts(self, **parts: Any) -> Self:
        """Return the same pieces with other parts of the anatomy."""
        other = self.changed()
        other.anatomy = replace(self.anatomy, **parts)
        return other

    @property
    def recorded_loss(self) -> Tensor:
        """The loss of the recorded execution."""
        return self.graph.values[self.graph.loss].external  # type: ignore[return-value]

    def recorded(self, value: int) -> Tensor:
        """Return what a value was when it was recorded."""
        if value not in self._cache:
            with torch.no_grad():
                (self._cache[value],) = self.graph.replay([value])
        return self._cache[value].detach()

    @cached_property
    def _cache(self) -> dict[int, Tensor]:
        return {}

    # The posterior.

    def z(self, given: dict[int, Tensor], noise: float) -> Tensor:
        """Return z for a posterior and a noise, the same everywhere."""
        (z,) = self.graph.replay([self.latent.z], given | self._noise(noise))
        return z

    def _noise(self, value: float) -> dict[int, Tensor]:
        values = self.graph.values
        return {
            n: torch.full(values[n].shape, value, dtype=values[n].dtype) for n in self.latent.noise
        }

    def moments(self, given: dict[int, Tensor]) -> tuple[Tensor, Tensor]:
        """Return (mu, sigma) for a posterior: z without noise, and what noise of 1 adds."""
        mu = self.z(given, 0.0)
        return mu, self.z(given, 1.0) - mu

    @cached_property
    def posterior(self) -> Posterior:
        """How the raw numbers stand for mu and sigma, found by replaying the sampler.

        What the decoder takes may be made of z, as a multiple of it. Where the sampler makes no
        mu + sigma eps of anything, the divergence says what the numbers are, if it is a KL. Where
        the two disagree, the numbers are log sigma^2, if one of them says so.
        """
        if not self.latent.reparameterized:
            raise NotReplayableError("z is drawn by an operation that lets no gradient through")
        last, cut = self.latent.z, self.latent.posterior
        try:
            found = self._on_the_path()
        except NotReplayableError:
            self.latent.z, self.latent.posterior = last, cut
            if len(self.anatomy.latents) > 1:
                raise
            if other := self._from_divergence():
                return other
            raise
        if found.spread != USUAL and len(self.anatomy.latents) == 1:
            other = self._from_divergence()
            if other and other.spread == USUAL and (other.mu, other.raw) == (found.mu, found.raw):
                return other
        return found

    def _on_the_path(self) -> Posterior:
        """Return the posterior of the last value on the way from the noise to z that has one.

        What is added to z later, such as a condition, belongs to the decoder.
        """
        last, cut = self.latent.z, self.latent.posterior
        path = self.graph.descendants(self.latent.noise) & self.graph.ancestors([last])
        size = self.graph.values[last].numel
        reasons = []
        for z in sorted(path, reverse=True):
            if self.graph.values[z].numel != size or z in self.latent.noise:
                continue
            beside = self.graph.ancestors([last], through=partial(_makes_not, z))
            own = tuple(v for v in cut if v in self.graph.ancestors([z]))
            if beside.isdisjoint(own) or z == last:
                self.latent.z, self.latent.posterior = z, own
                try:
                    return self._from_sampler()
                except NotReplayableError as reason:
                    reasons.append(reason)
        raise reasons[0]

    def _from_divergence(self) -> Posterior | None:
        """Return how numbers stand for mu and sigma by the formula of the KL, if it is one.

        That of a sampled KL is log q(z | x) - log p(z), as a function of z and the numbers.
        """
        size = self.graph.values[self.latent.z].numel
        heads = [v for v in self.latent.posterior if self.graph.values[v].numel == size]
        points = [
            tuple(uniform(f"{part} {i}", size) for part in ("mu", "logvar", "eps"))
            for i in range(4)
        ]
        for by_density in (False, True)[: 1 + self.is_sampled]:
            for m, raw in permutations(heads, 2):
                for name, (_, from_logvar) in SPREADS.items():
                    found = Posterior(m, raw, name, from_logvar, by_density=by_density)
                    if self._is_kl(found, points):
                        return found
        return None

    def _is_kl(self, found: Posterior, points: list[tuple[Tensor, ...]]) -> bool:
        """Whether the divergence is a multiple of the KL, if this is the posterior."""
        assumed = copy.copy(self)  # nothing that depends on the posterior is known yet
        assumed.__dict__["posterior"] = found
        ratios = []
        try:
            slots = assumed.code_slots
            for point in points:
                mu, logvar, eps = (part[slots] for part in point)
                value = assumed._divergence(mu, logvar, at=eps if found.by_density else None)
                z = mu + eps * torch.exp(logvar / 2)
                drawn = 0.5 * (z**2 - eps**2 - logvar)
                exact = drawn if found.by_density else oracles.kl(mu, logvar)
                ratios.append(float(value.detach() / exact.sum()))
        except REFUSED:
            return False
        return all(abs(r - ratios[0]) < _SAME_KL * abs(r) for r in ratios)

    def _from_sampler(self) -> Posterior:
        cut, z = self.latent.posterior, self.latent.z
        size = self.graph.values[z].numel
        sizes = {self.graph.values[v].numel for v in cut}
        if len(sizes) != 1 or size % min(sizes):
            shapes = ", ".join(str(self.graph.values[v].shape) for v in cut)
            raise NotReplayableError(
                f"mu and sigma of z, shape {self.graph.values[z].shape}, are made of numbers of "
                f"shape {shapes}, not of one each"
            )
        generator = torch.Generator().manual_seed(0)
        base = {v: self._random(v, generator) for v in cut}
        mu, sigma = self.moments(base)
        moves: dict[str, list[int]] = {"mu": [], "sigma": []}
        for value in cut:
            other_mu, other_sigma = self.moments(base | {value: self._random(value, generator)})
            for name, old, new in (("mu", mu, other_mu), ("sigma", sigma, other_sigma)):
                if not _close(old, new):
                    moves[name].append(value)
        if len(moves["mu"]) != 1 or len(moves["sigma"]) != 1 or moves["mu"] == moves["sigma"]:
            raise NotReplayableError("mu and sigma are not functions of one number each")
        (m,), (raw,) = moves["mu"], moves["sigma"]
        copies = None if {size} == sizes else self._copies(m, base)
        taken = slice(None) if copies is None else copies
        if not _close(mu.flatten(), base[m].flatten()[taken]):
            raise NotReplayableError("the mean of z is not what the encoder outputs as such")
        numbers = base[raw].flatten()[taken]
        for name, (to_sigma, from_logvar) in SPREADS.items():
            if _close(sigma.flatten().abs(), to_sigma(numbers)):
                return Posterior(m, raw, name, from_logvar, copies=copies)
        raise NotReplayableError("sigma is no usual function of what the encoder outputs")

    def _copies(self, mu: int, base: dict[int, Tensor]) -> Tensor:
        """Return which number of mu each number of z is drawn from, if there are several draws."""
        size = self.graph.values[mu].numel
        numbers = self.graph.shaped(mu, torch.arange(size))
        copies = self.z(base | {mu: numbers}, 0.0).flatten().round().long()
        counts = copies.clamp(0, size).bincount(minlength=size)
        if len(counts) > size or counts.min() != counts.max():
            raise NotReplayableError("what z is drawn from is no mu of an example each")
        return copies

    def _random(self, value: int, generator: torch.Generator) -> Tensor:
        found = self.graph.values[value]
        numbers = torch.rand(found.shape, generator=generator, dtype=torch.float64)
        return (0.2 + 1.2 * numbers).to(found.dtype)

    @property
    def beside(self) -> tuple[int, ...]:
        """What the divergence is computed from beside mu and sigma, and that is learned."""
        own = {self.posterior.mu, self.posterior.raw}
        return tuple(dict.fromkeys((*self.anatomy.beside, *set(self.latent.posterior) - own)))

    @property
    def code_places(self) -> int:
        """How many numbers of a code there are in a step, each counted once for all draws."""
        return self.graph.values[self.posterior.mu].numel

    @property
    def draws(self) -> int:
        """How many codes are drawn for each example."""
        return self.graph.values[self.latent.z].numel // self.code_places

    @property
    def has_one_noise(self) -> bool:
        """Whether all draws of an example have the same noise, so that they are one draw."""
        noise = sum(self.graph.values[n].numel for n in self.latent.noise)
        return noise < self.graph.values[self.latent.z].numel

    def posterior_values(self, mu: Tensor, raw: Tensor) -> dict[int, Tensor]:
        """Return the values that are mu and the raw number of sigma, as these are."""
        numbers = {self.posterior.mu: mu, self.posterior.raw: raw}
        return {value: self.graph.shaped(value, part) for value, part in numbers.items()}

    # The pieces.

    @cached_property
    def sample(self) -> Sampler:
        """Draw z by the step's own sampler, with fresh noise."""
        return Sampler(self.graph, [(self.latent, self.posterior)], self.examples)

    def seed(self, seed: int) -> None:
        """Seed all generators that the step draws from."""
        seed_everything(seed)
        for number, generator in enumerate(self.graph.generators.values()):
            generator.manual_seed(seed + number)

    def divergence(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """Return what the posterior adds to the loss, averaged over the noise: a sum."""
        places = len(self.code_slots)
        at_prior = torch.zeros(places, dtype=mu.dtype)
        pairs = zip(_padded(mu, places, 0.0), _padded(logvar, places, 0.0), strict=True)
        total = torch.zeros((), dtype=mu.dtype)
        count = 0
        for m, v in pairs:
            total = total + self._divergence(m, v)
            count += places
        surplus = count - mu.numel()
        if surplus:
            each = self._divergence(at_prior, at_prior) / places
            total = total - surplus * each
        return total

    def kl_weight(self) -> float | None:
        """Return the constant weight of the KL in the loss; None if the divergence is no KL."""
        divergence = terms.Term(self.divergence, differentiable=True)
        return terms.kl_weight(divergence, uniform, _SIZES)

    @cached_property
    def _nodes(self) -> int:
        """How many nodes it takes to average the divergence over the noise."""
        mu, logvar = torch.linspace(-1, 2, 2 * len(self.code_slots), dtype=torch.float64).chunk(2)
        with torch.no_grad():
            few, many = (self._divergence(mu, logvar, n) for n in (_FEW_NODES, _NODES))
        return _FEW_NODES if _close(few, many) else _NODES

    def _divergence(
        self, mu: Tensor, logvar: Tensor, nodes: int = 0, at: Tensor | None = None
    ) -> Tensor:
        """Return the divergence in the step's places, averaged over the noise, or at one noise."""
        slots, places = self.code_slots, self.code_places
        if len(slots) < places:
            full = torch.zeros(places, dtype=mu.dtype)
            mu, logvar = full.index_put((slots,), mu), full.index_put((slots,), logvar)
            at = None if at is None else full.index_put((slots,), at)
        mean, spread = self.prior
        mu, logvar = mean + math.exp(spread / 2) * mu, logvar + spread
        given = self.posterior_values(mu, self.posterior.inverse(logvar))
        fixed = self._nothing(self.anatomy.distortions)
        if not self.is_sampled:
            code = {self.latent.z: self.recorded(self.latent.z)}
            value = self._loss(given | fixed | code)
        else:
            value = torch.zeros((), dtype=mu.dtype)
            draws = [(at, 1.0)] if at is not None else _quadrature(nodes or self._nodes)
            for eps, weight in draws:
                one = self._loss(given | fixed | self._draw(mu, logvar, eps))
                value = value + weight * one
        return (value - self._constant - self.offset).reshape(())

    def _loss(self, given: Mapping[int, Tensor]) -> Tensor:
        """Return the loss with some values replaced."""
        (value,) = self.graph.replay([self.graph.loss], {**self.held, **given})
        return value

    def _draw(self, mu: Tensor, logvar: Tensor, eps: Tensor) -> dict[int, Tensor]:
        """Return what makes z the draw for a noise: the noise, or z where the sampler is wrong."""
        if not self.posterior.by_density:
            return self._noise(float(eps.flatten()[0]))
        z = mu + eps * torch.exp(logvar / 2)
        if self.posterior.copies is not None:
            z = z[self.posterior.copies]
        return {self.latent.z: self.graph.shaped(self.latent.z, z)}

    def _nothing(self, values: tuple[int, ...]) -> dict[int, Tensor]:
        return {
            v: torch.zeros(self.graph.values[v].shape, dtype=self.graph.values[v].dtype)
            for v in (*values, *self.anatomy.asides)
        }

    @cached_property
    def _constant(self) -> Tensor:
        """What else there is in the loss."""
        nothing = self._nothing((*self.anatomy.penalties, *self.anatomy.distortions))
        with torch.no_grad():
            return self._loss(nothing).detach()

    @cached_property
    def is_sampled(self) -> bool:
        """Whether the divergence is computed from z."""
        of_z = self.graph.descendants([self.latent.z])
        return any(v in of_z for v in self.anatomy.penalties)

    @cached_property
    def code_slots(self) -> Tensor:
        """The places of a code whose posterior is in the loss: padding is not."""
        return self._slots(self._codes_reached, self._pixels_reached)

    @cached_property
    def _codes_reached(self) -> Tensor:
        """Which numbers of the posterior move the divergence, in the shape of z."""
        places = self.code_places
        found = self.posterior
        mu = uniform("codes", places) + 0.5
        given = {v: t.requires_grad_() for v, t in self.posterior_values(mu, 0.3 + mu / 3).items()}
        fixed = self._nothing(self.anatomy.distortions)
        z = self.z(given, 1.0) if self.is_sampled else self.recorded(self.latent.z)
        value = self._loss(given | fixed | {self.latent.z: z})
        kind = self.latent.z if found.copies is None else found.mu
        return self._reached(value, [given[found.mu], given[found.raw]], kind)

    def _reached(self, value: Tensor, numbers: list[Tensor], kind: int) -> Tensor:
        """Return where a value has a slope, in the shape of a value of the step.

        Where it has none, there is padding. But a latent of a flat code without a KL is a bug.
        """
        shape = self.graph.values[kind].shape
        reached = torch.zeros(shape, dtype=torch.bool)
        if value.requires_grad:
            for slope in torch.autograd.grad(value.sum(), numbers, allow_unused=True):
                if slope is not None:
                    reached |= (slope != 0).reshape(shape)
        if not reached.any():
            return ~reached
        is_flat_code = kind not in self.anatomy.outputs and len(shape) == 2
        return reached.any(1, keepdim=True).expand(shape) if is_flat_code else reached

    @staticmethod
    def _slots(reached: Tensor, other: Tensor) -> Tensor:
        """Return the places that are reached: all, if the other term has other examples."""
        if _have_other_examples(reached, other):
            reached = torch.ones_like(reached)
        return reached.flatten().nonzero()[:, 0]

    @property
    def leaves_examples_out(self) -> bool:
        """Whether a term of the loss has other examples than the other, as by a mask or a bug."""
        try:
            return _have_other_examples(self._codes_reached, self._pixels_reached)
        except (NotReplayableError, *REFUSED):
            return False

    def is_sum(self) -> bool:
        """Whether the loss is a function of outputs and data plus one of the posterior."""
        anatomy, places = self.anatomy, self.code_places
        if len(anatomy.outputs) != 1 or len(anatomy.data) != 1:
            return True  # which is not judged
        mu, logvar = uniform("mu of a sum", places), uniform("logvar of a sum", places)
        images = {
            v: self._image(v, 0.2 + 0.6 * uniform(f"image {v}", self._places(v)))
            for v in (*anatomy.outputs, *anatomy.data)
        }
        code = self.posterior_values(mu, self.posterior.inverse(logvar))
        code |= self._draw(mu, logvar, torch.ones(places, dtype=mu.dtype))
        without = self._nothing(anatomy.distortions), self._nothing(anatomy.penalties)
        try:
            with torch.no_grad():
                both, divergence, reconstruction = (
                    self._loss(given).sum()
                    for given in (
                        code | images | self._nothing(()),
                        code | without[0],
                        images | without[1],
                    )
                )
        except REFUSED:
            return True  # these numbers do not show it
        rest = both - divergence - reconstruction + self._constant
        same = torch.finfo(both.dtype).eps ** 0.5  # half of the digits are left by rounding
        return not float(rest.abs()) > same * float(divergence.abs() + reconstruction.abs())

    # The networks.

    @property
    def examples(self) -> int:
        """How many examples the step has: the first axis of z."""
        found = self.posterior
        shape = self.graph.values[self.latent.z if found.copies is None else found.mu].shape
        return shape[0] if len(shape) > 1 else 1

    @cached_property
    def rows(self) -> Rows:
        """The networks, in the step's own precision and with the weights of the moment."""
        return Rows(self._recorded_graph, self.examples)

    @cached_property
    def input(self) -> int | None:
        """The images that the posterior is computed from, if there is one such tensor."""
        if len(self.anatomy.data) != 1:
            return None
        (data,) = self.anatomy.data
        images = self.graph.ancestors([data])
        size = self.graph.values[data].numel
        found = [
            v
            for v in images & self.graph.ancestors([self.posterior.mu])
            if not (value := self.graph.values[v]).parameter
            and (value.maker is None or not value.maker.reads)
            and value.numel == size
            and value.shape[:1] == (self.examples,)
        ]
        return found[0] if len(found) == 1 else None

    def encode(self, x: Tensor, *, evaluating: bool) -> tuple[Tensor, Tensor]:
        """Return (mu, logvar) of images, with all else as it was in the step."""
        assert self.input is not None  # noqa: S101 - whoever asks has looked
        found = self.posterior
        mu, raw = self.rows.replay(self.input, [found.mu, found.raw], x, evaluating=evaluating)
        if found.spread == USUAL:
            return mu, raw
        to_sigma, _ = SPREADS[found.spread]
        return mu, 2 * torch.log(to_sigma(raw).abs())  # the sign of sigma does not matter

    def decode(self, z: Tensor, *, evaluating: bool) -> Tensor:
        """Return the outputs for codes, with all else as it was in the step."""
        targets = list(self.anatomy.outputs)
        (outputs,) = self.rows.replay(self.latent.z, targets, z, evaluating=evaluating)
        return outputs

    def take(self, outputs: tuple[int, ...], data: tuple[int, ...]) -> None:
        """Let other values be the decoder's outputs, and what they are compared with."""
        self.anatomy.outputs, self.anatomy.data = outputs, data
        for known in ("pixel_slots", "_pixels_reached", "combination"):
            self.__dict__.pop(known, None)

    def unscaled(self) -> tuple[int, int] | None:
        """Return outputs and data before the same numbers scaled or shifted both, if they did."""
        values = self.graph.values
        pair = (*self.anatomy.outputs, *self.anatomy.data)
        makers = [maker for v in pair if (maker := values[v].maker) and maker.name in _AFFINE]
        if len(pair) != 2 or len(makers) != 2:
            return None
        (a, b), alike = makers, list(zip(makers[0].inputs, makers[1].inputs, strict=False))
        moved = [both for both in alike if both[0] != both[1]]
        if len(moved) != 1 or any(values[v].numel > 1 for v, w in alike if v == w):
            return None
        ((output, data),) = moved
        replaced = mapped(a.arguments, lambda arg: Ref(data) if arg == Ref(output) else arg)
        same = a.name == b.name and replaced == b.arguments
        return (output, data) if same and values[output].shape == values[data].shape else None

    @property
    def pixel_places(self) -> int:
        """How many pixels there are in a step, each counted once for all draws."""
        return sum(self._places(v) for v in self.anatomy.outputs)

    @cached_property
    def _row_copies(self) -> Tensor | None:
        """Which example each row of z is drawn for, if there are several draws."""
        copies, latents = self.posterior.copies, self.code_places // self.examples
        if copies is None:
            return None
        rows = copies.reshape(-1, latents) // latents
        if not torch.equal(rows, rows[:, :1].expand_as(rows)):
            raise NotReplayableError("the numbers of a code are not beside each other in z")
        return rows[:, 0]

    @cached_property
    def combination(self) -> str:
        """Say how the loss combines several draws: give all examples one image, each draw its own.

        It is compared with the losses of which all draws have one image.
        """
        rows = self._row_copies
        if rows is None or len(self.anatomy.outputs) != 1 or len(self.anatomy.data) != 1:
            return _UNKNOWN
        (o,), (x,) = self.anatomy.outputs, self.anatomy.data
        each = torch.zeros_like(rows)
        for example in rows.unique():
            each[rows == example] = torch.arange(self.draws)
        pixels = self.graph.values[o].numel // len(rows)
        images = 0.2 + 0.6 * uniform("images of draws", self.draws, pixels)
        data = self._image(x, 0.2 + 0.6 * uniform("an image", pixels).repeat(self.examples))
        nothing = self._nothing(self.anatomy.penalties) | {x: data}
        with torch.no_grad():
            whole, *alone = (
                self.sign * self._loss(nothing | {o: self.graph.shaped(o, images[which])}).sum()
                for which in (each, *(torch.full_like(each, n) for n in range(self.draws)))
            )
        single = torch.stack(alone)
        if _close(whole, single.mean()):
            return AVERAGED
        for scale in (1, self.examples):
            bound = math.log(self.draws) - torch.logsumexp(-single / scale, 0)
            if _close(whole, scale * bound):
                return BOUND
        return _UNKNOWN

    def _places(self, value: int) -> int:
        """Return how many numbers of an image a value has, each counted once for all draws."""
        size, rows = self.graph.values[value].numel, self._row_copies
        if rows is None:
            return size
        whole = self.graph.values[self.anatomy.outputs[0]].numel
        if whole % len(rows):
            raise NotReplayableError("the outputs are not one image for each code that is drawn")
        return size // self.draws if size == whole else size

    def _image(self, value: int, numbers: Tensor) -> Tensor:
        """Return numbers as outputs or data, the same for all draws of an example."""
        rows = self._row_copies
        if rows is not None and len(numbers) < self.graph.values[value].numel:
            numbers = numbers.reshape(self.examples, -1)[rows].flatten()
        return self.graph.shaped(value, numbers)

    @cached_property
    def pixel_slots(self) -> Tensor:
        """The places of an image whose reconstruction is in the loss: padding is not."""
        return self._slots(self._pixels_reached, self._codes_reached)

    @cached_property
    def _pixels_reached(self) -> Tensor:
        """Which outputs move the reconstruction, in their shape; all, if there are several."""
        if len(self.anatomy.outputs) != 1:
            return torch.ones(1, self.pixel_places, dtype=torch.bool)
        (o,), places = self.anatomy.outputs, self.pixel_places
        outputs = self._image(o, 0.1 + 0.8 * uniform("outputs", places)).requires_grad_()
        nothing = self._nothing(self.anatomy.penalties)
        everywhere = torch.ones(outputs.shape, dtype=torch.bool)
        if self._row_copies is not None:
            return everywhere.flatten()[:places].reshape(self.examples, -1)
        try:
            value = self._loss(nothing | {o: outputs})
        except REFUSED:  # it takes no such outputs, and shows no padding
            return everywhere
        return self._reached(value, [outputs], o)

    def nll(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Return what outputs and data add to the loss, or take from the ELBO."""
        return self.sign * self.reconstruction(outputs, x)

    def reconstruction(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Return what outputs and data add to the loss: a sum."""
        if self.anatomy.is_graph:
            raise NotReplayableError(
                "the decoder multiplies codes by codes, as those of a graph's nodes"
            )
        if not self.anatomy.data:
            raise NotReplayableError("the outputs are compared with nothing of their size")
        pairs = self.anatomy.outputs, self.anatomy.data
        sizes, others = ([self._places(v) for v in part] for part in pairs)
        if sizes != others:
            raise NotReplayableError(
                f"{len(sizes)} outputs are compared with {len(others)} tensors of their size, not "
                "one with one"
            )
        slots, all_places = self.pixel_slots, self.pixel_places
        places = len(slots)
        total = torch.zeros((), dtype=outputs.dtype)
        nothing = self._nothing(self.anatomy.penalties)
        count = 0
        rest = 0.0 if ((x == 0) | (x == 1)).all() else 0.5  # bits are filled up with a bit
        for a, b in zip(_padded(outputs, places, 0.5), _padded(x, places, rest), strict=True):
            if places < all_places:
                both = (torch.full((all_places,), half, dtype=a.dtype) for half in (0.5, rest))
                pair = tuple(
                    full.index_put((slots,), part) for full, part in zip(both, (a, b), strict=True)
                )
            else:
                pair = a, b
            given = {
                value: self._image(value, numbers)
                for part, all_numbers in zip(pairs, pair, strict=True)
                for value, numbers in zip(part, all_numbers.split(sizes), strict=True)
            }
            total = total + (self._loss(given | nothing) - self._constant).reshape(())
            count += places
        if surplus := count - outputs.numel():
            filling = (torch.full((places,), part, dtype=outputs.dtype) for part in (0.5, rest))
            total = total - self.reconstruction(*filling).detach() * (surplus / places)
        return total


def _have_other_examples(reached: Tensor, other: Tensor) -> bool:
    if reached.dim() < 2 or other.dim() < 2 or len(reached) != len(other):
        return False
    ours, theirs = (part.flatten(1).any(1) for part in (reached, other))
    return not torch.equal(ours, theirs)


@cache
def _quadrature(nodes: int) -> list[tuple[Tensor, float]]:
    """Return the nodes and weights of an average over standard normal noise."""
    at, weights = np.polynomial.hermite_e.hermegauss(nodes)
    return list(zip(torch.tensor(at), (weights / weights.sum()).tolist(), strict=True))


def _makes_not(value: int, operation: Operation) -> bool:
    return value not in operation.outputs


def uniform(name: str, *shape: int) -> Tensor:
    """Draw numbers in [0, 1) in double precision, seeded by a name."""
    digest = hashlib.sha256(name.encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def _close(a: Tensor, b: Tensor) -> bool:
    allowed = _ROUNDINGS * torch.finfo(a.dtype).eps
    a, b = a.detach().double(), b.detach().double()
    return bool(((a - b).abs() <= allowed * (a.abs() + b.abs())).all())


def _padded(values: Tensor, size: int, rest: float) -> Iterator[Tensor]:
    """Cut numbers into parts of one size, the last one filled up."""
    flat = values.flatten()
    for part in flat.split(size):
        missing = size - part.numel()
        yield part if not missing else torch.cat([part, part.new_full((missing,), rest)])
