"""A VAE with several levels of codes: what it consists of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from vae_ref.conformance.records import Part
from vae_ref.conformance.subject import Subject

__all__ = ["HierarchicalVAE"]


@dataclass(frozen=True, kw_only=True)
class HierarchicalVAE(Subject):
    r"""A VAE whose codes have levels, each with a prior that depends on the levels above.

    Levels are counted from the top down, and so are tuples of them. A Gaussian is a pair
    ``(mu, logvar)`` of the distribution itself, after any clamp; what ``logvar`` stands for is
    declared by ``conventions.spread``. Codes are flat, or have the shape
    ``conventions.latent_shape`` up to their number of channels. What is left out is not judged.

    Attributes:
        kl_residual: ``(delta_mu, delta_logvar, mu_p, logvar_p)`` -> the KL divergence of the
            posterior N(mu_p + delta_mu, sigma_p^2 delta_sigma^2) from its prior in nats, one
            number for each example, or reduced in any way over the batch.
        kl_levels: ``(posteriors, priors)``, two tuples of Gaussians -> the KL divergences of all
            levels, added up, likewise.
        kl_with_free_nats: ``(posteriors, priors)`` -> the same, but every level counts for
            ``free_nats`` at least, in each example or in the mean of the batch.
        negative_elbo_of_levels: ``(nll, posteriors, priors)`` -> the loss. ``nll`` is the
            reconstruction term in nats, one number for each example.
        prior_of_level: ``(*codes)``, those of all levels above, or for two levels ``z_1``
            -> ``(mu_p, logvar_p)``, the prior of the next level.
        draw_hierarchy: ``n`` -> the codes of all levels of n new examples.
        draw_tempered: ``(n, temperature)`` -> the same, where the standard deviation of every
            level is multiplied by the temperature.
        prior_of_top: ``n`` -> ``(mu_p, logvar_p)`` of the top level; without it, N(0, I).
        top_down: ``x`` -> for every level ``(z, posterior, prior)``: a code as it was drawn, and
            the Gaussians that the KL is computed of. A prior of None is N(0, I).
        observations: ``n`` -> x, some data for ``top_down``.
        levels: How many levels the functions of Gaussians take.
        top_prior: ``standard`` if functions of all levels take the prior of the top level for
            N(0, I), whatever they are given for it.
        free_nats: See ``kl_with_free_nats``.
        residual: ``mean`` if ``delta_logvar`` is not relative: the posterior has the mean
            mu_p + delta_mu, but the variance of ``delta_logvar`` itself.

    Example:
        >>> from vae_ref.conformance import verify
        >>> def kl_residual(delta_mu, delta_logvar, mu_p, logvar_p):
        ...     scaled = delta_mu**2 / logvar_p.exp()
        ...     return 0.5 * (scaled + delta_logvar.exp() - delta_logvar - 1).sum(1)
        >>> verify(HierarchicalVAE(name="mine", kl_residual=kl_residual)).verdict
        'partial'
    """

    parts: ClassVar[tuple[Part, ...]] = ("hierarchy",)

    kl_residual: Callable[..., Tensor] | None = None
    kl_levels: Callable[[Sequence[Any], Sequence[Any]], Tensor] | None = None
    kl_with_free_nats: Callable[[Sequence[Any], Sequence[Any]], Tensor] | None = None
    negative_elbo_of_levels: Callable[[Tensor, Sequence[Any], Sequence[Any]], Tensor] | None = None
    prior_of_level: Callable[..., Any] | None = None
    draw_hierarchy: Callable[[int], Sequence[Tensor]] | None = None
    draw_tempered: Callable[[int, float], Sequence[Tensor]] | None = None
    prior_of_top: Callable[[int], Any] | None = None
    top_down: Callable[[Any], Sequence[tuple[Tensor, Any, Any]]] | None = None
    observations: Callable[[int], Any] | None = None
    levels: int = 2
    top_prior: Literal["learned", "standard"] = "learned"
    free_nats: float = 0.0
    residual: Literal["both", "mean"] = "both"

    @property
    def alike(self) -> dict[str, Any]:
        """The number of levels."""
        return {"levels": self.levels}
