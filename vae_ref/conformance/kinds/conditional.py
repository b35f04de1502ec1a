"""A conditional VAE, or one whose prior is learned: what it consists of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from vae_ref.conformance.records import Part
from vae_ref.conformance.subject import Subject

__all__ = ["ConditionalVAE"]


@dataclass(frozen=True, kw_only=True)
class ConditionalVAE(Subject):
    r"""A VAE of x given c, with the prior p(z|c) = N(mu_p(c), sigma_p^2(c)).

    A prior that is learned without a condition is one whose c is the same for all examples. What
    is left out is not judged. Of the conventions, those of the precision and the noise apply.

    Attributes:
        kl_between: ``(mu, logvar, mu_p, logvar_p)``, each ``(examples, latents)`` -> the KL
            divergence of N(mu, sigma^2) from N(mu_p, sigma_p^2) in nats, one number for each
            example, or reduced in any way over the batch.
        prior: ``c`` -> ``(mu_p, logvar_p)``.
        draw_prior: ``c`` -> z, one draw from the prior for each example.
        decode_given: ``(z, c)`` -> outputs.
        conditions: ``n`` -> c, some conditions for n examples, as the functions take them. The
            claims about ``prior``, ``draw_prior`` and ``decode_given`` need it.

    Example:
        >>> from torch.distributions import Normal, kl_divergence
        >>> from vae_ref.conformance import verify
        >>> def kl_between(mu, logvar, mu_p, logvar_p):
        ...     q, p = Normal(mu, (logvar / 2).exp()), Normal(mu_p, (logvar_p / 2).exp())
        ...     return kl_divergence(q, p).sum(1)
        >>> verify(ConditionalVAE(name="mine", kl_between=kl_between)).verdict
        'partial'
    """

    parts: ClassVar[tuple[Part, ...]] = ("conditional",)

    kl_between: Callable[..., Tensor] | None = None
    prior: Callable[[Any], tuple[Tensor, Tensor]] | None = None
    draw_prior: Callable[[Any], Tensor] | None = None
    decode_given: Callable[[Tensor, Any], Tensor] | None = None
    conditions: Callable[[int], Any] | None = None
