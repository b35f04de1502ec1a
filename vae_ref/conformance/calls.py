"""Call a subject with flat tensors, in its own shapes and conventions; draw what is random."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vae_ref.conformance.foreign import NoGradientError
from vae_ref.conformance.records import Inconclusive, Measure, NotApplicable, Violation
from vae_ref.conformance.subject import Subject, to_spread

if TYPE_CHECKING:
    from vae_ref.conformance.body import Body
    from vae_ref.conformance.linear import Solution
    from vae_ref.conformance.sampling import Draws
    from vae_ref.conformance.trained import Trained

__all__ = ["Calls"]


class Calls:
    """A subject's functions, of codes ``(examples, latents)`` and pixels ``(examples, pixels)``.

    What claims find out beside their verdict lies in ``facts``, what they measure of a trained
    model in ``measured``. With ``ready``, the module's weights are those of a finished training.
    """

    def __init__(self, subject: Subject, seed: int = 0, *, ready: bool = False) -> None:
        self.subject = subject
        self.conventions = subject.conventions
        self.dtype = getattr(torch, subject.conventions.dtype)
        self.seed = seed
        self.facts: dict[str, str] = {}
        self.drawn: Draws | Inconclusive | None = None
        self.measured: dict[str, Measure] = {}
        self.orders: list[tuple[str, str]] = []
        self.ready = ready
        self.linear: Solution | None = None
        self.classifier: nn.Module | None = None
        self.trained: dict[str, Trained | NotApplicable] = {}
        self.body: Body | None = None

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

    def differentiable(self, part: str) -> None:
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
        self.differentiable("reparameterize")
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
