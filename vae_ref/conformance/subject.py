"""What is under test: a dataclass of optional functions, and the conventions that it declares."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn

from vae_ref.conformance.course import Course
from vae_ref.conformance.guards import seed_everything
from vae_ref.excerpt import excerpt

__all__ = ["Conventions", "DeclarationError", "Subject"]

Spread = Literal["logvar", "log_sigma", "sigma", "variance", "distribution"]
Reduction = Literal["sum", "mean"]
Family = Literal[
    "bernoulli",
    "bernoulli-logits",
    "continuous-bernoulli",
    "continuous-bernoulli-logits",
    "gaussian",
    "laplace",
]


class DeclarationError(ValueError):
    """A declared convention that does not exist."""


@dataclass(frozen=True, kw_only=True)
class Conventions:
    """How a subject differs from the textbook, by its own declaration; all of it is data.

    Attributes:
        spread: What the second head is: ``logvar`` log sigma^2, ``log_sigma``, ``sigma``,
            ``variance``, or ``distribution``: one ``torch.distributions.Normal`` stands for both.
        likelihood: The distribution of a pixel given the decoder's output; inferred if left out.
        kl_reduction: ``mean`` if the KL is meant to be averaged over the latents.
        nll_reduction: ``mean`` if the reconstruction is meant to be averaged over the pixels.
        beta: The weight of the KL in the loss.
        variance: Of a Gaussian likelihood, if it is meant to be a certain one.
        evaluation: ``mean`` if in evaluation mode the mean is meant to be taken for z.
        seeded: False if the subject's noise cannot be repeated by seeding.
        dtype: The precision the subject computes in, whatever it is given.
        latent_shape: The shape of one code, if it is not flat; 100,000,000 numbers at most.
        pixel_shape: The shape of one input, if it is not flat or cannot be inferred; likewise.
    """

    spread: Spread = "logvar"
    likelihood: Family | None = None
    kl_reduction: Reduction = "sum"
    nll_reduction: Reduction = "sum"
    beta: float = 1.0
    variance: float | None = None
    evaluation: Literal["sample", "mean"] = "sample"
    seeded: bool = True
    dtype: Literal["float64", "float32"] = "float64"
    latent_shape: tuple[int, ...] | None = None
    pixel_shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("beta", "variance"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise DeclarationError(
                    f"{name} must be positive and finite; got {excerpt(value)}."
                )
        for name in ("latent_shape", "pixel_shape"):
            shape = getattr(self, name)
            if shape is not None and not (
                0 < len(shape) <= 8 and min(shape) > 0 and math.prod(shape) <= 100_000_000
            ):
                rule = "sizes such as 4,8,8, at most 8 of them and 100,000,000 in all"
                raise DeclarationError(f"{name} must be {rule}; got {excerpt(shape)}.")

    @property
    def declared(self) -> dict[str, Any]:
        """What differs from the textbook."""
        return {
            item.name: getattr(self, item.name)
            for item in dataclasses.fields(self)
            if getattr(self, item.name) != item.default and not item.name.endswith("_shape")
        }

    def declaring(self, declarations: Mapping[str, str]) -> "Conventions":
        """Return these conventions with some replaced, from their names and values as text."""
        types = get_type_hints(Conventions)
        values: dict[str, Any] = {}
        for key, text in declarations.items():
            if key not in types:
                raise DeclarationError(
                    f"there is no convention called {excerpt(repr(key))}; "
                    f"there are {', '.join(types)}."
                )
            values[key] = _parse(key, text, types[key])
            try:
                dataclasses.replace(self, **{key: values[key]})
            except DeclarationError as error:
                rule = str(error).partition("; got")[0]
                raise DeclarationError(
                    f"{rule}; got {excerpt(repr(text))}. {_write(key)}"
                ) from None
        return dataclasses.replace(self, **values)


def _parse(key: str, text: str, kind: Any) -> Any:
    options = [kind] if get_origin(kind) is Literal else [a for a in get_args(kind) if a]
    for option in options or [kind]:
        if get_origin(option) is Literal and text in get_args(option):
            return text
        if get_origin(option) is tuple:
            sizes = text.replace("(", "").replace(")", "").replace("x", ",").split(",")
            parts = [size.strip() for size in sizes if size.strip()]
            if all(part.isdecimal() and part.isascii() and len(part) < 10 for part in parts):
                return tuple(int(part) for part in parts)
        if option is bool and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if option is float:
            try:
                return float(text)
            except ValueError:
                pass
    expected = {
        float: "a number",
        bool: "true or false",
    }.get((options or [kind])[0]) or " or ".join(
        name for option in options if get_origin(option) is Literal for name in get_args(option)
    )
    raise DeclarationError(
        f"{key} must be {expected or 'sizes such as 4,8,8'}; got {excerpt(repr(text))}. "
        + _write(key)
    )


def _write(key: str) -> str:
    return f"Write --declare {key}=VALUE."


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A VAE under test; what is left out makes the claims that need it not applicable.

    Every function takes and returns torch tensors with examples on the first axis;
    ``from_numpy`` and ``from_jax`` make such functions from those of other libraries. What
    ``logvar`` below stands for is declared by ``conventions.spread``; with ``distribution``, one
    ``torch.distributions.Normal`` takes the place of ``mu, logvar``.

    Attributes:
        name: What reports call it.
        kl: ``(mu, logvar)`` -> the KL divergence, reduced in any way over the batch.
        reparameterize: ``(mu, logvar)`` -> z, with noise of its own.
        nll: ``(outputs, x)`` -> the reconstruction term, reduced in any way over the batch.
        loss: ``(outputs, x, mu, logvar)`` -> the whole loss.
        importance_weighted: ``(log_w)``, shape ``(examples, samples)`` -> the bound of log p(x).
        encode: ``x`` -> ``(mu, logvar)``.
        decode: ``z`` -> outputs.
        forward: ``x`` -> ``(outputs, mu, logvar)``.
        module: What holds the parameters and is switched between training and evaluation.
        train: ``(images, held_out, epochs)`` -> yields ``(train_loss, test_loss)`` after every
            epoch of training ``module``, as it reports them, in nats per example.
        course: Returns the `Course` for the claims that train.
        seed: Seeds the subject's noise.
        conventions: How it differs from the textbook.

    Example:
        >>> subject = Subject(
        ...     name="mine",
        ...     kl=lambda mu, logvar: 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(),
        ... )
        >>> from vae_ref.conformance import verify
        >>> verify(subject, only="kl/*").counts["pass"] > 10
        True
    """

    name: str
    kl: Callable[..., Tensor] | None = None
    reparameterize: Callable[..., Tensor] | None = None
    nll: Callable[..., Tensor] | None = None
    loss: Callable[..., Tensor] | None = None
    importance_weighted: Callable[[Tensor], Tensor] | None = None
    encode: Callable[[Tensor], Any] | None = None
    decode: Callable[[Tensor], Tensor] | None = None
    forward: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]] | None = None
    module: nn.Module | None = None
    train: Callable[[Tensor, Tensor, int], Iterable[tuple[float, float]]] | None = None
    course: Callable[[], Course] | None = None
    seed: Callable[[int], None] = seed_everything
    conventions: Conventions = field(default_factory=Conventions)

    def has(self, needs: str) -> bool:
        """Whether one of the parts ``a|b|c`` is there."""
        return any(getattr(self, part) is not None for part in needs.split("|"))


def to_spread(spread: Spread, mu: Tensor, logvar: Tensor) -> tuple[Any, ...]:
    """Express (mu, logvar) in the convention of a subject."""
    if spread == "distribution":
        return (torch.distributions.Normal(mu, torch.exp(logvar / 2), validate_args=False),)
    if spread == "log_sigma":
        return mu, logvar / 2
    if spread == "sigma":
        return mu, torch.exp(logvar / 2)
    return mu, torch.exp(logvar) if spread == "variance" else logvar


def from_spread(spread: Spread, answer: Any) -> tuple[Tensor, Tensor]:
    """Read what an encoder returned in the convention of a subject as (mu, logvar)."""
    if spread == "distribution":
        return answer.mean, 2 * torch.log(answer.stddev)
    mu, second = answer
    if spread == "log_sigma":
        return mu, 2 * second
    if spread == "sigma":
        return mu, 2 * torch.log(second)
    return mu, torch.log(second) if spread == "variance" else second
