"""A VAE whose codes are discrete: what it consists of."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from vae_ref.conformance.records import Part
from vae_ref.conformance.subject import Conventions, DeclarationError, Subject
from vae_ref.support.excerpt import excerpt

__all__ = ["CategoricalVAE"]


@dataclass(frozen=True, kw_only=True)
class CategoricalVAE(Subject):
    r"""A VAE each of whose latents takes one of K classes.

    What is left out is not judged. Logits have the shape ``(examples, latents, classes)``, samples
    too. A function that takes latents with axes of their own, such as ``(4, 4)``, or only one
    number of latents, needs ``conventions.latent_shape``. Temperatures are given as floats.

    Attributes:
        kl_to_uniform: ``logits`` -> the KL divergence of the codes from the uniform prior in nats,
            one number for each example or latent, or reduced in any way over the batch.
        kl_to_categorical: ``(logits, prior_logits)`` -> the KL divergence from a prior, likewise.
        entropy_of_codes: ``logits`` -> the entropy of the codes in nats, likewise.
        gumbel_softmax: ``(logits, temperature)`` -> relaxed samples, with noise that it draws
            itself.
        straight_through: ``(logits, temperature)`` -> one-hot samples with a gradient.
        log_density_relaxed: ``(y, logits, temperature)`` -> the log density of relaxed samples in
            nats, one number for each example or latent, or summed over the batch.
        loss_of_codes: ``(outputs, x, logits)`` -> the loss, whose KL is that from the uniform
            prior, with a constant weight that is not 0; outputs and x as in a
            subject of the textbook, with the shape ``conventions.pixel_shape``.
        takes: What stands for ``logits`` in all functions: ``logits``, which need not be
            normalised, ``log_probabilities`` or ``probabilities``.
        classes: The number of classes, if the functions take only one.
        classes_last: False if the classes are on the second axis: ``(examples, classes,
            latents)``.
        gradient_of: What the gradient of ``straight_through`` is that of: the ``relaxed`` sample
            with the same noise, or the ``probabilities``, without a temperature.
        density_of: ``y``, or ``log y`` if the density is that of its logarithm, which is then
            given in place of y.

    Example:
        >>> import torch
        >>> from vae_ref.conformance import verify
        >>> def kl_to_uniform(logits):
        ...     q = torch.softmax(logits, -1)
        ...     return (q * torch.log(q * q.shape[-1] + 1e-20)).sum()
        >>> verify(CategoricalVAE(name="mine", kl_to_uniform=kl_to_uniform)).failures
        ()
    """

    parts: ClassVar[tuple[Part, ...]] = ("categorical",)

    kl_to_uniform: Callable[[Tensor], Tensor] | None = None
    kl_to_categorical: Callable[[Tensor, Tensor], Tensor] | None = None
    entropy_of_codes: Callable[[Tensor], Tensor] | None = None
    gumbel_softmax: Callable[[Tensor, float], Tensor] | None = None
    straight_through: Callable[[Tensor, float], Tensor] | None = None
    log_density_relaxed: Callable[[Tensor, Tensor, float], Tensor] | None = None
    loss_of_codes: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    takes: Literal["logits", "log_probabilities", "probabilities"] = "logits"
    classes: int | None = None
    classes_last: bool = True
    gradient_of: Literal["relaxed", "probabilities"] = "relaxed"
    density_of: Literal["y", "log y"] = "y"

    @property
    def alike(self) -> dict[str, Any]:
        """The numbers of latents and classes, for functions that take no other."""
        shape = self.conventions.latent_shape
        flat = Conventions(latent_shape=(math.prod(shape),) if shape else None)
        return {"classes": self.classes, "conventions": flat}

    def __post_init__(self) -> None:
        for name, options in (
            ("takes", ("logits", "log_probabilities", "probabilities")),
            ("gradient_of", ("relaxed", "probabilities")),
            ("density_of", ("y", "log y")),
        ):
            if (value := getattr(self, name)) not in options:
                rule = f"{name} must be {' or '.join(options)}"
                raise DeclarationError(f"{rule}; got {excerpt(repr(value))}.")
        if self.classes is not None and not 2 <= self.classes <= 1_000_000:
            raise DeclarationError(f"classes must be from 2 to 1,000,000; got {self.classes}.")
