"""The probe: a subject as the claims see it, in nats, its conventions undone."""

import contextlib
import hashlib
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from vae_ref.conformance.answers.oracles import FAMILIES, Likelihood
from vae_ref.conformance.course import Course
from vae_ref.conformance.foreign import NoGradientError
from vae_ref.conformance.guards import TimeLimit
from vae_ref.conformance.probe import terms
from vae_ref.conformance.probe.terms import Term
from vae_ref.conformance.records import Inconclusive, NotApplicable, Violation
from vae_ref.conformance.subject import Subject, to_spread

__all__ = ["Probe"]

_TEXTBOOK_PIXELS = 784
_ALPHA = 1e-8

T = TypeVar("T")


class Probe:
    """A subject's functions, of codes ``(examples, latents)`` and pixels ``(examples, pixels)``.

    The parts of the loss are sums over examples. A subject without a KL or a reconstruction of its
    own is asked for them through its loss: at the prior the KL is 0, and reconstructions may be
    all but perfect.

    Args:
        subject: What is under test.
        seed: The seed of everything that is random.
        alpha: The level of significance of one statistical claim.
        ready: Whether the module's weights are those of a finished training.
    """

    def __init__(
        self, subject: Subject, seed: int = 0, *, alpha: float = _ALPHA, ready: bool = False
    ) -> None:
        self.subject = subject
        self.conventions = subject.conventions
        self.dtype = getattr(torch, subject.conventions.dtype)
        self.seed = seed
        self.alpha = alpha
        self.ready = ready
        self.answers: dict[Hashable, Any] = {}

    def once(
        self, key: Hashable, make: Callable[[], T], *, failed: NotApplicable | None = None
    ) -> T:
        """Return what ``make`` returns, made once for each key.

        That there is no answer, because it does not apply or could not be decided, is remembered
        too.

        Args:
            key: What it is.
            make: Makes it.
            failed: What is raised from then on if ``make`` raises anything else. Without it,
                ``make`` is called again; so it is if all that stopped it was a busy machine.
        """
        if key not in self.answers:
            try:
                self.answers[key] = make()
            except (NotApplicable, Inconclusive) as reason:
                self.answers[key] = reason
            except BaseException as error:
                if failed and not (isinstance(error, TimeLimit) and error.by_wall_clock):
                    self.answers[key] = failed
                raise
        answer = self.answers[key]
        if isinstance(answer, NotApplicable | Inconclusive):
            raise answer
        return answer  # type: ignore[no-any-return]

    @property
    def facts(self) -> dict[str, str]:
        """What has been inferred of the subject so far."""
        known = vars(self)  # a cached property lies there once it was asked for
        facts: dict[str, str] = {}
        if found := known.get("inferred_likelihood"):
            facts["likelihood"] = found.name
        for name, part in (("KL", "kl"), ("reconstruction", "nll")):
            if part in known:
                taken = "" if getattr(self.subject, part) else "taken from the loss, "
                facts[name] = taken + _OVER[known[part].batch]
        return facts

    # What is random: every claim draws from a generator of its own.

    def generator(self, name: str) -> torch.Generator:
        """Return a generator that is a function of the seed and a name."""
        digest = hashlib.sha256(f"{self.seed} {name}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))

    def normal(self, name: str, *shape: int) -> Tensor:
        """Draw standard normal numbers."""
        generator = self.generator(name)
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(self.dtype)

    def uniform(self, name: str, *shape: int) -> Tensor:
        """Draw numbers in [0, 1)."""
        generator = self.generator(name)
        return torch.rand(shape, generator=generator, dtype=torch.float64).to(self.dtype)

    def number(self, name: str) -> int:
        """Draw a seed for the subject's own noise."""
        return int(torch.randint(2**31, (), generator=self.generator(name)))

    # Calling the subject.

    def _codes(self, codes: Tensor) -> Tensor:
        tail = (self.conventions.latent_shape or (1,))[1:]
        return codes.reshape(len(codes), -1, *tail).clone()

    def as_pixels(self, pixels: Tensor) -> Tensor:
        """Give flat pixels the subject's shape."""
        tail = (self.conventions.pixel_shape or (1,))[1:]
        return pixels.reshape(len(pixels), -1, *tail).clone()

    def posterior(self, mu: Tensor, logvar: Tensor) -> tuple[Any, ...]:
        """Return the arguments that stand for (mu, logvar) in the subject's convention."""
        return to_spread(self.conventions.spread, self._codes(mu), self._codes(logvar))

    def _call(self, part: str, *arguments: Any) -> Tensor:
        answer = getattr(self.subject, part)(*arguments)
        if not isinstance(answer, Tensor) or not answer.is_floating_point():
            kind = answer.dtype if isinstance(answer, Tensor) else type(answer).__name__
            raise Violation(
                f"{part} returned {kind}, not a tensor of real numbers; wrap functions of other "
                "libraries with from_numpy or from_jax",
                symptom="no-tensor",
            )
        return answer

    def bound(self, log_w: Tensor) -> Tensor:
        """Return the importance-weighted bound, one per example."""
        bound = self._call("importance_weighted", log_w.clone())
        if bound.numel() == len(log_w):
            return bound.reshape(len(log_w))
        rows = [self._call("importance_weighted", row.clone()) for row in log_w.split(1)]
        return torch.stack([row.reshape(()) for row in rows])

    def kl_as_is(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """Call the subject's own KL."""
        return self._call("kl", *self.posterior(mu, logvar))

    def nll_as_is(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Call the subject's own reconstruction term."""
        return self._call("nll", self.as_pixels(outputs), self.as_pixels(x))

    def loss_as_is(self, outputs: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        """Call the subject's own loss."""
        posterior = self.posterior(mu, logvar)
        return self._call("loss", self.as_pixels(outputs), self.as_pixels(x), *posterior)

    def gradient(self, function: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
        """Differentiate the sum of what a function returns."""
        if not getattr(function, "differentiable", True):
            raise NotApplicable("the function brings no gradient")
        leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
        value = function(*leaves)
        if not value.requires_grad:
            raise Violation(
                "no gradient flows: the result is detached, or computed under no_grad",
                symptom="no-gradient",
            )
        try:
            gradients = torch.autograd.grad(value.sum(), leaves, allow_unused=True)
        except NoGradientError as error:
            raise NotApplicable("the function brings no gradient") from error
        return [
            torch.zeros_like(leaf) if gradient is None else gradient
            for leaf, gradient in zip(leaves, gradients, strict=True)
        ]

    def require_gradient(self, part: str) -> None:
        """Raise `NotApplicable` if a part is of another library and brings no gradient."""
        if not getattr(getattr(self.subject, part), "differentiable", True):
            raise NotApplicable("the function brings no gradient")

    # The sampler.

    def z(self, mu: Tensor, logvar: Tensor, seed: int | None = None) -> Tensor:
        """Sample z, flat; with a seed, from that state of the subject's noise."""
        if seed is not None:
            self.subject.seed(seed)
        z = self._call("reparameterize", *self.posterior(mu, logvar))
        if z.numel() != mu.numel():
            found, due = tuple(z.shape), tuple(mu.shape)
            raise Violation(f"z has shape {found} for mu of shape {due}", symptom="shape")
        return z.reshape(mu.shape)

    def eps(self, shape: tuple[int, int], seed: int) -> Tensor:
        """Return the noise that a seed stands for: z at the prior; seeds must repeat it."""
        zero = torch.zeros(shape, dtype=self.dtype)
        noise = self.z(zero, zero, seed).detach()
        if not self.conventions.seeded or not torch.equal(noise, self.z(zero, zero, seed)):
            raise NotApplicable("the noise cannot be repeated by seeding; see Subject.seed")
        return noise

    def sampler(self, seed: int, cotangent: Tensor) -> Callable[..., Tensor]:
        """Return the sampler with its noise held fast, as a function to differentiate."""
        self.require_gradient("reparameterize")
        return lambda mu, logvar: self.z(mu, logvar, seed) * cotangent

    # The model.

    @contextlib.contextmanager
    def mode(self, *, training: bool) -> Iterator[None]:
        """Switch the module, if there is one, to training or evaluation, and back."""
        module = self.subject.module
        before = [] if module is None else [(m, m.training) for m in module.modules()]
        try:
            if module is not None:
                module.train(training)
            yield
        finally:
            for part, was in before:
                part.training = was

    # The parts of the loss.

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
        return self.inferred_likelihood

    @cached_property
    def inferred_likelihood(self) -> Likelihood | None:
        """The distribution that the reconstruction term is seen to score."""
        if self.subject.nll is not None:
            raw: Callable[..., Tensor] = self.nll_as_is
        elif self.subject.loss is not None:
            raw = self._nll_from_loss
        else:
            return None
        found = terms.family_of(raw, self.uniform, self.pixels[0])
        return found[0] if found else None

    @cached_property
    def kl(self) -> Term:
        """The KL, summed over examples."""
        if self.subject.kl is None:
            term, weight = self.in_loss[1], self.weights[1]
            if weight == 0:
                raise NotApplicable("the loss has no KL; see objective/beta")
            return term.weighing(weight)
        shape = (3, self.latents[0])
        batch = terms.batch_reduction(
            self.kl_as_is, self.uniform("a", *shape), 0.5 - self.uniform("b", *shape)
        )
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
            if self.per_pixel and weight is not None:
                return replace(term, averaged=True, weight=weight * self.pixels[0])
            return term.weighing(weight if self.constant_weights else None)
        shape = (3, self.pixels[0])
        pair = (self.uniform("a", *shape) * 0.9 + 0.05, 1 - 0.8 * self.uniform("b", *shape))
        batch = terms.batch_reduction(self.nll_as_is, *pair)
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


_OVER: dict[terms.BatchReduction, str] = {
    "sum": "summed over the batch",
    "mean": "averaged over the batch",
    "neither": "neither summed nor averaged over the batch",
}
