"""The networks of a subject, as the claims call them: codes and outputs are flat."""

import contextlib
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import NotApplicable, Violation
from vae_ref.conformance.subject import from_spread
from vae_ref.support.excerpt import excerpt

__all__ = ["Networks", "changed"]

_USUAL_SHAPES = ((784,), (1, 28, 28), (1, 32, 32), (3, 32, 32), (3, 64, 64), (1, 64, 64))


class Networks:
    """The encoder, decoder and forward pass of a subject, in its shapes and its precision."""

    @classmethod
    def of(cls, probe: Probe) -> "Networks":
        """Return the networks of a probe; they are made once, with the shapes found then."""
        return probe.once("networks", lambda: cls(probe))

    def __init__(self, probe: Probe) -> None:
        self.probe, self.subject = probe, probe.subject
        self.conventions = probe.conventions

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the weights."""
        module = self.subject.module
        parameters = [] if module is None else list(module.parameters())
        if self.subject.elsewhere:
            return getattr(torch, self.subject.elsewhere.dtype)  # type: ignore[no-any-return]
        return parameters[0].dtype if parameters else self.probe.dtype

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape of an input: the declared one, or else the first that the subject takes."""
        if self.conventions.pixel_shape:
            return self.conventions.pixel_shape
        module = self.subject.module
        linear = [m for m in module.modules() if isinstance(m, nn.Linear)] if module else []
        candidates = [*((layer.in_features,) for layer in linear[:1]), *_USUAL_SHAPES]
        function = self.subject.encode or self.subject.forward
        errors: list[Exception] = []
        answered = False
        for shape in candidates:
            try:
                if function is None:
                    return shape
                with self.probe.calling():
                    answer = function(torch.full((2, *shape), 0.5).to(self.dtype))
                if _has_two(answer):
                    return shape
                answered = True
            except Exception as error:
                errors.append(error)
        of_tokens = module and any(isinstance(m, nn.Embedding) for m in module.modules())
        in_their_own_ways = len(set(map(str, errors))) > 1
        if not answered and (in_their_own_ways or of_tokens):  # refused, each in its own way
            raise NotApplicable(
                f"the networks take no images of a usual shape alone ({excerpt(errors[0], 100)}); "
                "declare pixel_shape, or audit the step that calls them"
            )
        last = errors[0] if errors else None
        raise Violation(
            f"the subject takes no input of a usual shape ({last}); declare pixel_shape",
            symptom="no-input",
        )

    def images(self, n: int, name: str = "images") -> Tensor:
        """Draw inputs whose pixels are uniform in [0, 1)."""
        pixels = torch.Size(self.shape).numel()
        x = self.probe.uniform(name, n, pixels).to(self.dtype)
        return x.reshape(n, *self.shape)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return (mu, logvar), flat."""
        assert self.subject.encode is not None  # noqa: S101 - the claim needs it
        with self.probe.calling():
            answer = self.subject.encode(x.clone())
        return self._posterior("encode", "(mu, logvar)", answer)

    def _posterior(self, name: str, expected: str, answer: Any) -> tuple[Tensor, Tensor]:
        """Convert an answer to (mu, logvar), flat."""
        try:
            mu, logvar = from_spread(self.conventions.spread, answer)
            return mu.reshape(len(mu), -1), logvar.reshape(len(logvar), -1)
        except (TypeError, ValueError, AttributeError) as error:
            message = f"{name} returned {_kind(answer)}, not {expected}"
            if self.subject.reparameterize is None and self.subject.kl is None:
                raise NotApplicable(f"{message}; audit the step that calls it") from error
            raise Violation(message, symptom="no-pair") from error

    @cached_property
    def latents(self) -> int:
        """How many latents the networks have."""
        if self.conventions.latent_shape:
            return torch.Size(self.conventions.latent_shape).numel()
        if self.subject.encode is None:
            raise NotApplicable("the size of a code is not known; declare latent_shape")
        return self.encode(self.images(2))[0].shape[1]

    def codes(self, n: int, scale: float = 1.0) -> Tensor:
        """Draw codes from the prior."""
        return scale * self.probe.normal("codes", n, self.latents).to(self.dtype)

    def decode(self, z: Tensor) -> Tensor:
        """Return the outputs for flat codes, flat."""
        assert self.subject.decode is not None  # noqa: S101 - the claim needs it
        shape = self.conventions.latent_shape or (z.shape[1],)
        with self.probe.calling():
            outputs = self.subject.decode(z.reshape(len(z), *shape).clone())
        return outputs.reshape(len(z), -1)

    def composed(self, x: Tensor, seed: int) -> Tensor:
        """Return decode(reparameterize(*encode(x))) of the subject's own tensors, flat."""
        encode, sample, decode = (
            getattr(self.subject, name) for name in ("encode", "reparameterize", "decode")
        )
        with self.probe.calling():
            answer = encode(x.clone())
            self.subject.seed(seed)
            whole = self.conventions.spread == "distribution"
            z = sample(answer) if whole else sample(*answer)
            outputs: Tensor = decode(z)
        return outputs.reshape(len(x), -1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (outputs, mu, logvar), flat."""
        assert self.subject.forward is not None  # noqa: S101 - the claim needs it
        with self.probe.calling():
            answer: Any = self.subject.forward(x.clone())
        entries = list(answer) if isinstance(answer, (tuple, list)) else [answer]
        expected = "(reconstruction, mu, logvar)"
        if len(entries) < 2 or not isinstance(entries[0], Tensor):
            raise Violation(
                f"forward returned {_kind(answer)}, not {expected}", symptom="no-triple"
            )
        outputs, *posterior = entries
        whole = self.conventions.spread == "distribution"
        mu, logvar = self._posterior("forward", expected, posterior[0] if whole else posterior)
        return outputs.reshape(len(x), -1), mu, logvar


def _has_two(answer: Any) -> bool:
    """Return whether every tensor of an answer has two entries on its first axis."""
    entries = answer if isinstance(answer, (tuple, list)) else [answer]
    return all(len(t) == 2 for t in entries if isinstance(t, Tensor) and t.ndim)


def _kind(answer: Any) -> str:
    if isinstance(answer, (tuple, list)):
        return f"({', '.join(type(entry).__name__ for entry in answer)})"
    return "nothing" if answer is None else type(answer).__name__


@contextlib.contextmanager
def changed(
    module: nn.Module | None,
    *,
    factor: float = 1.0,
    signs: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
) -> Iterator[None]:
    """Scale the weights of a module, flip some of their signs, or convert their precision.

    Afterwards the module has its own weights again, whatever the block did to them.
    """
    if module is None:
        yield
        return
    tensors = [*module.parameters(), *module.buffers()]
    saved = [tensor.data.clone() for tensor in tensors]
    try:
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.data = parameter.data * factor
                if signs is not None:
                    flips = torch.randint(2, parameter.shape, generator=signs) * 2 - 1
                    parameter.data *= flips.to(parameter)
            for tensor in tensors:
                if dtype is not None and tensor.is_floating_point():
                    tensor.data = tensor.data.to(dtype)
        yield
    finally:
        for tensor, before in zip(tensors, saved, strict=True):
            tensor.data = before
            tensor.grad = None
