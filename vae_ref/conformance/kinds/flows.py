"""A VAE with a richer posterior or prior than a diagonal Gaussian: what it consists of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from vae_ref.conformance.records import Part
from vae_ref.conformance.subject import Subject

__all__ = ["Factor", "FlexibleVAE"]

Factor = Literal["cholesky", "log-diagonal", "softplus-diagonal", "covariance"]


@dataclass(frozen=True, kw_only=True)
class FlexibleVAE(Subject):
    r"""A VAE whose posterior or prior is richer than a diagonal Gaussian.

    There are four families, and what is left out is not judged: Gaussians of full covariance,
    flows, mixtures such as the VampPrior, and von Mises-Fisher distributions on a sphere. A
    density or a divergence is one number for each example, or reduced in any way over the batch.

    Attributes:
        kl_full: ``(mu, L)``, shapes ``(examples, latents)`` and ``(examples, latents, latents)``
            -> the KL divergence of N(mu, L L^T) from N(0, I) in nats.
        draw_full: ``(mu, L, eps)`` -> z, from standard normal noise of the shape of mu.
        sample_full: ``(mu, L)`` -> z, with noise of its own.
        log_density_full: ``(z, mu, L)`` -> log N(z; mu, L L^T) in nats.
        factor: What L is in the functions above: ``cholesky``, lower triangular with a positive
            diagonal; ``log-diagonal`` or ``softplus-diagonal``, a square matrix whose lower
            triangle is that of the Cholesky factor, with the logarithm or the inverse of softplus
            on the diagonal, and anything in the upper triangle; or ``covariance``, L L^T itself.
        flow: ``z`` -> ``(z', log_det)``, the code after all flows, and ``log|det dz'/dz|`` of
            them all together, of shapes ``(examples, flow_dim)`` and ``(examples,)``. It has
            parameters of its own; do not leave them at zero, where many flows do nothing.
        inverse_flow: ``z'`` -> ``(z, log_det)``, the way back and ``log|det dz/dz'|``.
        kl_flow: ``(z, mu, logvar)`` -> the estimate
            ``log N(z; mu, sigma^2) - log|det dz'/dz| - log N(z'; 0, I)`` of the
            divergence, where z is the draw before the flow.
        flow_dim: The number of coordinates of a code that ``flow`` takes.
        log_flexible_prior: ``z`` -> log p(z) in nats.
        draw_flexible_prior: ``n`` -> n draws from the prior, shape ``(n, prior_dim)``.
        prior_components: ``()`` -> ``(weights, mu, logvar)`` of the components, if the prior is a
            mixture of diagonal Gaussians: shapes ``(components,)``, and twice ``(components,
            prior_dim)``. Equal weights may be None. A VampPrior returns None, and what the
            encoder makes of its pseudo-inputs.
        prior_parameters: What the prior learns, such as the pseudo-inputs: tensors that require
            a gradient.
        prior_dim: The number of coordinates of a code that the prior is for.
        log_normaliser_vmf: ``(kappa, m)``, where kappa has the shape ``(examples, 1)`` -> log
            C_m(kappa), so that C_m(kappa) exp(kappa mu^T x) is a density on the sphere in R^m.
        kl_vmf: ``(kappa, m)`` -> the divergence from the uniform distribution on that sphere.
        draw_vmf: ``(mu, kappa)``, shapes ``(examples, m)`` and ``(examples, 1)`` -> x, a
            direction for each example.
        vmf_dims: The values of m that the functions are tried with, each at least 2.
        kappa_fixed: Whether kappa is a constant, so that it needs no gradient.

    Example:
        >>> import torch
        >>> from torch.distributions import MultivariateNormal, kl_divergence
        >>> from vae_ref.conformance import verify
        >>> def kl_full(mu, L):
        ...     q = MultivariateNormal(mu, scale_tril=L)
        ...     p = MultivariateNormal(0 * mu, covariance_matrix=torch.eye(mu.shape[1]).to(mu))
        ...     return kl_divergence(q, p)
        >>> verify(FlexibleVAE(name="mine", kl_full=kl_full)).counts["pass"]
        6
    """

    parts: ClassVar[tuple[Part, ...]] = ("flows",)

    kl_full: Callable[..., Tensor] | None = None
    draw_full: Callable[..., Tensor] | None = None
    sample_full: Callable[..., Tensor] | None = None
    log_density_full: Callable[..., Tensor] | None = None
    factor: Factor = "cholesky"
    flow: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
    inverse_flow: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
    kl_flow: Callable[..., Tensor] | None = None
    flow_dim: int = 2
    log_flexible_prior: Callable[[Tensor], Tensor] | None = None
    draw_flexible_prior: Callable[[int], Tensor] | None = None
    prior_components: Callable[[], Any] | None = None
    prior_parameters: Sequence[Tensor] | None = None
    prior_dim: int = 2
    log_normaliser_vmf: Callable[..., Tensor] | None = None
    kl_vmf: Callable[..., Tensor] | None = None
    draw_vmf: Callable[..., Tensor] | None = None
    vmf_dims: tuple[int, ...] = (3, 5, 10)
    kappa_fixed: bool = False
