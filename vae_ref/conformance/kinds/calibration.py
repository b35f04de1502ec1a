"""An amortised posterior, judged by codes and data that its model simulates."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from vae_ref.conformance.records import Part
from vae_ref.conformance.subject import Subject

__all__ = ["AmortisedPosterior"]


@dataclass(frozen=True, kw_only=True)
class AmortisedPosterior(Subject):
    r"""A posterior q(z|x), and the model whose posterior it stands for.

    Whether it is the true posterior is judged only if it is declared to be: a Gaussian with
    independent latents cannot be the posterior of most models, and a trained one is near it at
    best. Otherwise the miscalibration is measured, and reported as a fact. Of the conventions,
    those of the spread, the precision and the noise apply.

    Attributes:
        simulate: ``n`` -> ``(z, x)``: n codes drawn from the prior, and data drawn from each. The
            examples are on the first axis, of whatever the posterior takes.
        gaussian_posterior: ``x`` -> ``(mu, logvar)`` of a Gaussian with independent latents.
        draw_posterior: ``(x, draws)`` -> z with the draws on the first axis and the examples on
            the second one.
        exact: Whether the posterior is meant to be the true one.

    Example:
        >>> import math, torch
        >>> from vae_ref.conformance import verify
        >>> def simulate(n):
        ...     z = torch.randn(n, 1)
        ...     return z, z + torch.randn(n, 1)
        >>> def posterior(x):
        ...     return x / 2, torch.full_like(x, math.log(1 / 2))
        >>> subject = AmortisedPosterior(
        ...     name="mine", simulate=simulate, gaussian_posterior=posterior, exact=True
        ... )
        >>> verify(subject).failures
        ()
    """

    parts: ClassVar[tuple[Part, ...]] = ("calibration",)

    simulate: Callable[[int], tuple[Tensor, Any]] | None = None
    gaussian_posterior: Callable[[Any], Any] | None = None
    draw_posterior: Callable[[Any, int], Tensor] | None = None
    exact: bool = False
