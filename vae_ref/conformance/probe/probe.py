"""The probe, through which the claims call a subject: in nats, its conventions undone."""

import contextlib
import hashlib
import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from vae_ref.conformance.ahead import Ahead
from vae_ref.conformance.answers.multinomial import multinomial
from vae_ref.conformance.answers.oracles import FAMILIES, Likelihood
from vae_ref.conformance.answers.robust import robust_loss
from vae_ref.conformance.answers.weighed import weighed_loss
from vae_ref.conformance.course import Course
from vae_ref.conformance.foreign import NoGradientError
from vae_ref.conformance.guards import TimeLimit
from vae_ref.conformance.probe import terms
from vae_ref.conformance.probe.terms import Term
from vae_ref.conformance.records import Inconclusive, NotApplicable, Violation
from vae_ref.conformance.subject import Subject, to_spread

__all__ = ["Probe", "Sizes"]

_TEXTBOOK_PIXELS = 784
_LATENTS, _PIXELS = (5, 2, 1), (7, 11)
"""The lengths of the first axes of codes and images that are tried.

They differ from each other, and from the usual numbers of examples: bugs hide where sizes agree.
"""


@dataclass(frozen=True)
class Sizes:
    """The lengths of the first axes of codes and images that are tried; the last code has 1."""

    latents: tuple[int, ...] = _LATENTS
    pixels: tuple[int, ...] = _PIXELS


_USUAL = Sizes()

_ALPHA = 1e-8
"""The level of a claim outside a run, about a claim's share of the budget of a run."""

T = TypeVar("T")
Arranged = Callable[..., tuple[Any, ...]]
"""Makes the arguments of a part from tensors."""


def _as_they_are(*inputs: Tensor) -> tuple[Any, ...]:
    return inputs


class Probe:
    """A subject's functions, of codes ``(examples, latents)`` and pixels ``(examples, pixels)``.

    The parts of the loss are sums over examples. If a subject has no KL or no reconstruction term
    of its own, the probe takes it from the loss: at the prior the KL is 0, and the reconstruction
    term nearly vanishes if the outputs nearly equal x.

    Args:
        subject: What is under test.
        seed: The seed of everything that is random.
        alpha: The level of significance of one statistical claim.
        ready: Whether the module's weights are those of a finished training.
        sizes: The sizes that are tried.
    """

    def __init__(
        self,
        subject: Subject,
        seed: int = 0,
        *,
        alpha: float = _ALPHA,
        ready: bool = False,
        sizes: Sizes = _USUAL,
    ) -> None:
        self.subject = subject
        self.conventions = subject.conventions
        self.dtype = getattr(torch, subject.conventions.dtype)
        self.seed = seed
        self.alpha = alpha
        self.ready = ready
        self._sizes = sizes
        self.longest_call = 0.0
        self.answers: dict[Hashable, Any] = {}
        self.ahead: Ahead[Any, dict[str, Any]] | None = None

    def once(
        self, key: Hashable, make: Callable[[], T], *, failed: NotApplicable | None = None
    ) -> T:
        """Return the result of ``make``, which is called once for each key.

        If ``make`` raises `NotApplicable` or `Inconclusive`, that is remembered and raised again.

        Args:
            key: Names the result.
            make: Makes the result.
            failed: Is raised from then on if ``make`` raises anything else. Without it, ``make``
                is called again. It is also called again if it was stopped because the machine
                was busy.
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
    def fields(self) -> Any:
        """The subject, of no known type: each kind of VAE has fields of its own."""
        return self.subject

    @property
    def facts(self) -> dict[str, str]:
        """What has been inferred about the subject so far."""
        known = vars(self)  # which holds a cached property once it was asked for
        facts = dict(self.subject.found)
        if found := known.get("inferred_likelihood"):
            facts["likelihood"] = found.name
        for name, part in (("KL", "kl"), ("reconstruction", "nll")):
            if part in known and self.subject.weights is None:  # a step's terms are taken apart
                reduction, own = _REDUCTION[known[part].batch], getattr(self.subject, part)
                facts[name] = reduction if own else f"taken from the loss, {reduction}"
        return facts

    # Random numbers: every claim draws from a generator of its own.

    def generator(self, name: str) -> torch.Generator:
        """Return a generator that is seeded by the probe's seed and a name."""
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

    def _as_codes(self, codes: Tensor) -> Tensor:
        tail = (self.conventions.latent_shape or (1,))[1:]
        return codes.reshape(len(codes), -1, *tail).clone()

    def as_pixels(self, pixels: Tensor) -> Tensor:
        """Return flat pixels in the subject's shape."""
        tail = (self.conventions.pixel_shape or (1,))[1:]
        return pixels.reshape(len(pixels), -1, *tail).clone()

    def posterior(self, mu: Tensor, logvar: Tensor) -> tuple[Any, ...]:
        """Return the arguments that stand for (mu, logvar) in the subject's convention."""
        return to_spread(self.conventions.spread, self._as_codes(mu), self._as_codes(logvar))

    @contextlib.contextmanager
    def calling(self) -> Iterator[None]:
        """Measure the CPU time of a call of the subject."""
        start = time.process_time()
        try:
            yield
        finally:
            self.longest_call = max(self.longest_call, time.process_time() - start)

    def _call(self, part: str, *arguments: Any) -> Tensor:
        with self.calling():
            answer = getattr(self.subject, part)(*arguments)
        if not isinstance(answer, Tensor) or not answer.is_floating_point():
            kind = answer.dtype if isinstance(answer, Tensor) else type(answer).__name__
            raise Violation(
                f"{part} returned {kind}, not a tensor of real numbers; wrap functions of other "
                "libraries with from_numpy or from_jax",
                symptom="no-tensor",
            )
        return answer

    def whole(self, part: str, *inputs: Tensor, arranged: Arranged = _as_they_are) -> Tensor:
        """Call a part with copies of tensors, arranged as it takes them."""
        return self._call(part, *arranged(*(tensor.clone() for tensor in inputs)))

    def each(self, part: str, *inputs: Tensor, arranged: Arranged = _as_they_are) -> Tensor:
        """Return a function of examples, one number each, whatever its reduction over a batch."""
        examples = len(inputs[0])
        answer = self.whole(part, *inputs, arranged=arranged)
        if answer.numel() == examples:
            return answer.reshape(examples)
        rows = zip(*(tensor.split(1) for tensor in inputs), strict=True)
        return torch.stack([self.whole(part, *row, arranged=arranged).sum() for row in rows])

    def bound(self, log_w: Tensor) -> Tensor:
        """Return the importance-weighted bound, one per example."""
        return self.each("importance_weighted", log_w)

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
            raise NotApplicable("the function comes without a gradient")
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
            raise NotApplicable("the function comes without a gradient") from error
        return [
            torch.zeros_like(leaf) if gradient is None else gradient
            for leaf, gradient in zip(leaves, gradients, strict=True)
        ]

    def require_gradient(self, part: str) -> None:
        """Raise `NotApplicable` if a part is from another library and comes without a gradient."""
        if not getattr(getattr(self.subject, part), "differentiable", True):
            raise NotApplicable("the function comes without a gradient")

    # The sampler.

    def z(self, mu: Tensor, logvar: Tensor, seed: int | None = None) -> Tensor:
        """Sample z, flat; with a seed, the subject's noise is seeded first."""
        if seed is not None:
            self.subject.seed(seed)
        z = self._call("reparameterize", *self.posterior(mu, logvar))
        if z.numel() != mu.numel():
            found, expected = tuple(z.shape), tuple(mu.shape)
            raise Violation(f"z has shape {found} for mu of shape {expected}", symptom="shape")
        return z.reshape(mu.shape)

    def eps(self, shape: tuple[int, int], seed: int) -> Tensor:
        """Return the noise that a seed gives: z at mu = 0, logvar = 0.

        Raises:
            NotApplicable: If seeding does not repeat it.
        """
        zero = torch.zeros(shape, dtype=self.dtype)
        noise = self.z(zero, zero, seed).detach()
        if not self.conventions.seeded or not torch.equal(noise, self.z(zero, zero, seed)):
            raise NotApplicable("the noise cannot be repeated by seeding; see Subject.seed")
        return noise

    def sampler(self, seed: int, cotangent: Tensor) -> Callable[..., Tensor]:
        """Return z times a cotangent, always with the noise of one seed, to be differentiated."""
        self.require_gradient("reparameterize")
        return lambda mu, logvar: self.z(mu, logvar, seed) * cotangent

    # The model.

    @contextlib.contextmanager
    def mode(self, *, training: bool) -> Iterator[None]:
        """Switch the module, if there is one, to training or evaluation, and back."""
        module, elsewhere = self.subject.module, self.subject.elsewhere
        parts = [*(module.modules() if module else ()), *([elsewhere] if elsewhere else ())]
        before = [(part, part.training) for part in parts]
        try:
            if module is not None:
                module.train(training)
            if elsewhere is not None:
                elsewhere.training = training
            yield
        finally:
            for part, was in before:
                part.training = was

    # The parts of the loss.

    @cached_property
    def course(self) -> Course:
        """The course that the claims use that train."""
        if self.subject.course is None:
            raise NotApplicable("there is no course: no images to train on")
        return self.subject.course()

    @cached_property
    def latents(self) -> tuple[int, ...]:
        """The numbers of latents that the functions are tried with."""
        unit = 1
        for size in (self.conventions.latent_shape or (1,))[1:]:
            unit *= size
        return tuple(count * unit for count in self._sizes.latents)

    @cached_property
    def pixels(self) -> tuple[int, ...]:
        """The numbers of pixels that the functions are tried with: one, if they take no other."""
        unit = 1
        for size in (self.conventions.pixel_shape or (1,))[1:]:
            unit *= size
        sizes = tuple(count * unit for count in self._sizes.pixels)
        try:
            for pixels in sizes:
                self._call_with(pixels)
        except Exception:
            shape = self.conventions.pixel_shape
            return (unit * shape[0] if shape else _TEXTBOOK_PIXELS,)
        return sizes

    def _call_with(self, pixels: int) -> None:
        """Call what takes pixels, to see whether it takes that many."""
        half = torch.full((3, pixels), 0.5, dtype=self.dtype)
        if self.subject.nll is not None:
            self.nll_as_is(half, half)
        if self.subject.loss is not None:
            code = torch.zeros(3, self.latents[0], dtype=self.dtype)
            self.loss_as_is(half, half, code, code)

    def perfect(self, examples: int, pixels: int) -> tuple[Tensor, Tensor]:
        """Return outputs and x that agree so well that the reconstruction term nearly vanishes."""
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
        """The reconstruction term and the KL as the loss has them, weights included."""
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
    def _weights_by_pixels(self) -> tuple[list[float | None], list[float | None]]:
        """The weights of reconstruction and KL in the loss, for every number of pixels."""
        reconstruction, divergence = self.in_loss
        sizes = [(3, self.latents[0]), (4, self.latents[1]), (2, self.latents[0])]
        of_reconstruction: list[float | None] = []
        of_divergence: list[float | None] = []
        for pixels in self.pixels:
            found = terms.family_of(reconstruction, self.uniform, pixels)
            of_reconstruction.append(found[1] if found else None)
            kl = replace(divergence, raw=partial(self._kl_from_loss, pixels=pixels))
            of_divergence.append(terms.kl_weight(kl, self.uniform, sizes))
        return of_reconstruction, of_divergence

    def _all_equal(self, values: list[float]) -> bool:
        allowed = terms.ratio_tolerance(self.dtype) * abs(values[0])
        return all(abs(value - values[0]) <= allowed for value in values)

    @cached_property
    def weights(self) -> tuple[float | None, float | None]:
        """The constant weights of reconstruction and KL in the loss; None where there is none.

        Both weights may change with the number of pixels, if their ratio does not: that only
        scales the loss as a whole.
        """
        reconstruction, divergence = self._weights_by_pixels
        if None in reconstruction or None in divergence:
            constant = None not in reconstruction and self._all_equal(_known(reconstruction))
            return (reconstruction[0] if constant else None), divergence[0]
        a, b = _known(reconstruction), _known(divergence)
        constant_ratio = self._all_equal([x / y for x, y in zip(b, a, strict=True)])
        return (a[0] if constant_ratio or self._all_equal(a) else None), b[0]

    @property
    def per_pixel(self) -> bool:
        """Whether the whole loss is divided by the number of pixels: nats per pixel."""
        pairs = zip(self._weights_by_pixels[0], self.pixels, strict=True)
        products = [weight * pixels for weight, pixels in pairs if weight is not None]
        return len(products) > 1 and self._all_equal(products) and None not in self.weights

    @cached_property
    def likelihood(self) -> Likelihood:
        """The distribution of a pixel: declared, else inferred, else the textbook's."""
        return self.found_likelihood or FAMILIES["bernoulli"]

    @cached_property
    def found_likelihood(self) -> Likelihood | None:
        """The distribution of a pixel, if it was declared or could be inferred."""
        declared = self.conventions.likelihood
        if declared in (None, "bernoulli", "bernoulli-logits") and self.is_of_bits:
            raise NotApplicable(
                "the reconstruction is a Bernoulli likelihood for data of 0 and 1, and infinite "
                "for data between them, which the claims try"
            )
        return FAMILIES[declared] if declared else self.inferred_likelihood

    @cached_property
    def is_of_bits(self) -> bool:
        """Whether the reconstruction is a Bernoulli's for 0 and 1, and infinite between them."""
        if (raw := self._raw_nll) is None:
            return False
        size = self.pixels[0]
        outputs, x = (self.uniform(f"bits {name}", 1, size) for name in ("outputs", "x"))
        try:
            between = raw(0.05 + 0.9 * outputs, 0.05 + 0.9 * x).detach().sum()
            if between.isfinite():
                return False
            found = terms.family_of(raw, self._bits, size)
        except (RuntimeError, ValueError, IndexError):
            return False  # which the claims will say
        return found is not None and found[0].name.startswith("bernoulli")

    def _bits(self, name: str, *shape: int) -> Tensor:
        """Draw numbers in [0, 1), but data of 0 and 1 alone."""
        numbers = self.uniform(name, *shape)
        return numbers.round() if name == "family x" else numbers

    @property
    def _raw_nll(self) -> Callable[..., Tensor] | None:
        if self.subject.nll is not None:
            return self.nll_as_is
        return self._nll_from_loss if self.subject.loss is not None else None

    @cached_property
    def inferred_likelihood(self) -> Likelihood | None:
        """The distribution of which the reconstruction term is the negative log-likelihood."""
        if (raw := self._raw_nll) is None:
            return None
        size = self.pixels[0]
        other = robust_loss(raw, self.uniform, size)
        if not other and (found := terms.family_of(raw, self.uniform, size)):
            return found[0]
        other = other or weighed_loss(raw, self.uniform, size)
        if other := other or multinomial(raw, self.uniform, size):
            raise NotApplicable(
                f"the reconstruction is {other}, and the claims know no such likelihood"
            )
        return None

    @cached_property
    def kl(self) -> Term:
        """The KL, summed over examples."""
        if self.subject.kl is None:
            term, weight = self.in_loss[1], self.weights[1]
            if weight == 0:
                raise NotApplicable("the loss has no KL; see objective/beta")
            return term.without_weight(weight)
        shape = (3, self.latents[0])
        batch = terms.batch_reduction(
            self.kl_as_is, self.uniform("a", *shape), 0.5 - self.uniform("b", *shape)
        )
        differentiable = getattr(self.subject.kl, "differentiable", True)
        averaged = self.conventions.kl_reduction == "mean"
        rounding = self.subject.rounding
        return Term(self.kl_as_is, differentiable, batch, averaged=averaged, rounding=rounding)

    def kl_rounding(self, scale: Tensor) -> Tensor:
        """Return the scale of the rounding errors of the KL; it is larger for one from a loss."""
        return (scale + self._added_to_kl) * self.kl.tolerance_factor

    @cached_property
    def _added_to_kl(self) -> float:
        """The size of what a loss adds to the KL, whose rounding errors enter the KL too."""
        if self.subject.kl is not None:
            return 1.0 if self.subject.rounding > 1 else 0.0
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
            return term.without_weight(weight if self.constant_weights else None)
        shape = (3, self.pixels[0])
        pair = (self.uniform("a", *shape) * 0.9 + 0.05, 1 - 0.8 * self.uniform("b", *shape))
        batch = terms.batch_reduction(self.nll_as_is, *pair)
        differentiable = getattr(self.subject.nll, "differentiable", True)
        averaged = self.conventions.nll_reduction == "mean"
        rounding = self.subject.rounding
        return Term(self.nll_as_is, differentiable, batch, averaged=averaged, rounding=rounding)

    @property
    def constant_weights(self) -> bool:
        """Whether the loss is reconstruction and KL with constant weights.

        If the number of pixels cannot be varied, it may be part of a weight. Then the weights
        are taken for constant only if they are equal, so that they scale the loss as a whole.
        """
        reconstruction, divergence = self.weights
        if not reconstruction or not divergence:
            return False
        whole = abs(reconstruction / divergence - 1) < terms.ratio_tolerance(self.dtype)
        return len(self.pixels) > 1 or whole or not self.likelihood.absolute


def _known(values: list[float | None]) -> list[float]:
    return [value for value in values if value is not None]


_REDUCTION: dict[terms.BatchReduction, str] = {
    "sum": "summed over the batch",
    "mean": "averaged over the batch",
    "neither": "neither summed nor averaged over the batch",
}
