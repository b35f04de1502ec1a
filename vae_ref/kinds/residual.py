r"""Posteriors that are relative to the prior of their level."""

import torch

from vae_ref import checks
from vae_ref.gaussian import kl_to_standard_normal
from vae_ref.shapes import Codes, PerExample

__all__ = ["kl_residual", "residual_posterior"]


def residual_posterior(
    delta_mu: Codes, delta_logvar: Codes, mu_p: Codes, logvar_p: Codes
) -> tuple[Codes, Codes]:
    r"""Return the posterior that differs from the prior by a shift and a factor.

    .. math:: q(z \mid x) = N(\mu_p + \Delta\mu,\; \sigma_p^2\,\Delta\sigma^2)

    Args:
        delta_mu: The shifts :math:`\Delta\mu` of the means, shape ``(*batch, latent)``.
        delta_logvar: The logarithms of the factors :math:`\Delta\sigma^2`, the same shape.
        mu_p: The means of the prior, the same shape.
        logvar_p: The log variances of the prior, the same shape.

    Returns:
        The means and the log variances of the posterior.

    Raises:
        InputError: If the shapes differ.

    Example:
        >>> one = torch.ones(1, 2)
        >>> residual_posterior(one, 2 * one, 3 * one, 4 * one)
        (tensor([[4., 4.]]), tensor([[6., 6.]]))

    References:
        Vahdat and Kautz, *NVAE*, 2020, section 3.2.
    """
    checks.require_same_shape(
        delta_mu=delta_mu, delta_logvar=delta_logvar, mu_p=mu_p, logvar_p=logvar_p
    )
    return mu_p + delta_mu, logvar_p + delta_logvar


def kl_residual(delta_mu: Codes, delta_logvar: Codes, logvar_p: Codes) -> PerExample:
    r"""Compute the divergence of a `residual_posterior` from its prior.

    .. math::
        \mathrm{KL} = \tfrac12 \sum_d
        \Big(\frac{\Delta\mu_d^2}{\sigma_{p,d}^2} + \Delta\sigma_d^2 - \log\Delta\sigma_d^2
        - 1\Big)

    The mean of the prior cancels. Its variance remains only as the divisor of the shift.

    Args:
        delta_mu: The shifts of the means, shape ``(*batch, latent)``.
        delta_logvar: The logarithms of the factors of the variances, the same shape.
        logvar_p: The log variances of the prior, the same shape.

    Returns:
        The divergence in nats, one value per example.

    Raises:
        InputError: If the shapes differ.

    Example:
        >>> zero = torch.zeros(1, 2)
        >>> kl_residual(zero + 2.0, zero, zero + torch.tensor(4.0).log())
        tensor([1.])

    References:
        Vahdat and Kautz, *NVAE*, 2020, equation 2.
    """
    checks.require_same_shape(delta_mu=delta_mu, delta_logvar=delta_logvar, logvar_p=logvar_p)
    return kl_to_standard_normal(delta_mu * torch.exp(-logvar_p / 2), delta_logvar)
