"""The subject, a VAE under test: its functions, and the conventions that it declares."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn

from vae_ref.conformance.course import Course
from vae_ref.conformance.guards import seed_everything
from vae_ref.conformance.records import TEXTBOOK, Diagram, Part
from vae_ref.support.errors import UserError
from vae_ref.support.excerpt import excerpt

__all__ = ["Conventions", "DeclarationError", "Elsewhere", "Subject", "Weights"]

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


class DeclarationError(UserError, ValueError):
    """A declared convention that does not exist."""


@dataclass(frozen=True, kw_only=True)
class Conventions:
    """How a subject says that it differs from the textbook; all of it is data.

    Attributes:
        spread: What the second head returns: ``logvar``, which is log sigma^2, ``log_sigma``,
            ``sigma``, ``variance``, or ``distribution``: one ``torch.distributions.Normal`` takes
            the place of both heads.
        likelihood: The distribution of a pixel given the decoder's output. If it is left out, it
            is inferred.
        kl_reduction: ``mean`` if the KL is meant to be averaged over the latents.
        nll_reduction: ``mean`` if the reconstruction is meant to be averaged over the pixels.
        beta: The weight of the KL in the loss.
        variance: The variance of a Gaussian likelihood, if a certain one is meant.
        evaluation: ``mean`` if z is meant to be the mean in evaluation mode.
        seeded: False if the subject's noise cannot be repeated by seeding.
        dtype: The precision in which the subject computes, whatever it is given.
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
        """The conventions that differ from the textbook's."""
        return {
            item.name: getattr(self, item.name)
            for item in dataclasses.fields(self)
            if getattr(self, item.name) != item.default and not item.name.endswith("_shape")
        }

    def declaring(self, declarations: Mapping[str, str]) -> "Conventions":
        """Return a copy with some conventions replaced, given by name and value as text."""
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
                    f"{rule}; got {excerpt(repr(text))}. {_remedy(key)}"
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
        + _remedy(key)
    )


def _remedy(key: str) -> str:
    return f"Write --declare {key}=VALUE."


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The weights of both terms in the loss of one step, whose sizes do not vary.

    Attributes:
        nll: The factor of the reconstruction, summed over everything; None if it is not constant.
        kl: The factor of the KL, likewise.
        examples: How many examples the batch of the step has.
        latents: How many latents an example has.
        pixels: How many pixels an example has.
        nll_place: The line that computes the reconstruction.
        kl_place: The line that computes the KL.
        twice: The weights in the same step with every example given twice, if they are known.
    """

    nll: float | None
    kl: float | None
    examples: int
    latents: int
    pixels: int
    nll_place: str
    kl_place: str
    twice: "Weights | None" = None

    @property
    def ratio(self) -> float | None:
        """The weight of the KL over that of the reconstruction, if there are both."""
        return self.kl / self.nll if self.kl and self.nll else None


@dataclass
class Elsewhere:
    """A module in another process: its weights are out of reach, its mode is told.

    Attributes:
        again: Asks some of the questions again; yields each function that gives another answer,
            and how it differs.
        end: Ends the process.
        dtype: The precision of the weights.
        training: Whether it is to compute as in training, or as in evaluation.
    """

    again: Callable[[], Iterator[tuple[str, str]]]
    end: Callable[[], None]
    dtype: Literal["float64", "float32"] = "float64"
    training: bool = True


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A VAE under test. A claim does not apply if it needs a part that is left out.

    Every function takes and returns torch tensors with examples on the first axis;
    ``from_numpy`` and ``from_jax`` make such functions from those of other libraries. What
    ``logvar`` below stands for is declared by ``conventions.spread``; with ``distribution``, one
    ``torch.distributions.Normal`` takes the place of ``mu, logvar``.

    Attributes:
        name: The name that reports use.
        kl: ``(mu, logvar)`` -> the KL divergence, reduced in any way over the batch.
        reparameterize: ``(mu, logvar)`` -> z, with noise that it draws itself.
        nll: ``(outputs, x)`` -> the reconstruction term, reduced in any way over the batch.
        loss: ``(outputs, x, mu, logvar)`` -> the whole loss.
        importance_weighted: ``(log_w)``, shape ``(examples, samples)`` -> the bound of log p(x).
        encode: ``x`` -> ``(mu, logvar)``.
        decode: ``z`` -> outputs.
        forward: ``x`` -> ``(outputs, mu, logvar)``.
        module: The torch module that holds the parameters; the kit switches it between training
            and evaluation mode.
        train: ``(images, held_out, epochs)`` -> trains ``module``, and yields
            ``(train_loss, test_loss)`` after every epoch, in nats per example.
        course: Returns the `Course` for the claims that train.
        seed: Seeds the subject's noise.
        conventions: How the subject differs from the textbook.
        found: What was found about the subject before it was judged, by name, for the report.
        diagram: The parts of a step that was audited, for the report.
        undecided: Why the subject cannot be judged as a whole; a run without a violation is then
            undecided.
        weights: The weights of the terms in the loss of a step, where they are known.
        rounding: How many times the rounding errors of a plain formula its terms may have, if
            they are measured, as parts of something larger.
        elsewhere: The mode of a subject whose functions run in another process.

    Example:
        >>> subject = Subject(
        ...     name="mine",
        ...     kl=lambda mu, logvar: 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(),
        ... )
        >>> from vae_ref.conformance import verify
        >>> verify(subject, only="kl/*").counts["pass"] > 10
        True
    """

    parts: ClassVar[tuple[Part, ...]] = TEXTBOOK

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
    found: Mapping[str, str] = field(default_factory=dict)
    diagram: Diagram | None = None
    undecided: str = ""
    weights: Weights | None = None
    rounding: float = 1.0
    elsewhere: Elsewhere | None = None

    @property
    def alike(self) -> dict[str, Any]:
        """The declarations that a bug has to share, so that both are asked the same."""
        return {}

    def has(self, needs: str) -> bool:
        """Return whether the subject has one of the parts ``a|b|c``."""
        return any(getattr(self, part) is not None for part in needs.split("|"))


def to_spread(spread: Spread, mu: Tensor, logvar: Tensor) -> tuple[Any, ...]:
    """Convert (mu, logvar) to the convention of a subject."""
    if spread == "distribution":
        return (torch.distributions.Normal(mu, torch.exp(logvar / 2), validate_args=False),)
    if spread == "log_sigma":
        return mu, logvar / 2
    if spread == "sigma":
        return mu, torch.exp(logvar / 2)
    return mu, torch.exp(logvar) if spread == "variance" else logvar


def from_spread(spread: Spread, answer: Any) -> tuple[Tensor, Tensor]:
    """Convert what an encoder returned, in the convention of a subject, to (mu, logvar)."""
    if spread == "distribution":
        return answer.mean, 2 * torch.log(answer.stddev)
    mu, second = answer
    if spread == "log_sigma":
        return mu, 2 * second
    if spread == "sigma":
        return mu, 2 * torch.log(second)
    return mu, torch.log(second) if spread == "variance" else second
