r"""Compute with diagonal Gaussians :math:`N(\mu, \operatorname{diag}\sigma^2)`.

The scale is given as ``logvar`` :math:`= \log \sigma^2`. Every real number is a valid ``logvar``,
so an encoder can output it without a constraint. The last axis is the latent axis. The
divergences, the density and the entropy return one value per example, in nats, and leave the
reduction over examples to the caller.
"""

import math

import torch
from torch import Tensor

from vae_ref import checks
from vae_ref.elementwise import elementwise
from vae_ref.shapes import Codes, Noise, PerDraw, PerExample

__all__ = ["entropy", "kl_between", "kl_to_standard_normal", "log_density", "reparameterize"]

_LOG_2PI = math.log(2 * math.pi)


def reparameterize(mu: Codes, logvar: Codes, eps: Noise) -> Noise:
    r"""Turn standard normal noise into a draw from :math:`N(\mu, \sigma^2)`.

    .. math:: z = \mu + \varepsilon\,\sigma, \qquad \sigma = e^{\mathrm{logvar} / 2}

    The draw is a differentiable function of the parameters:
    :math:`\partial z / \partial \mu = 1`, :math:`\partial z / \partial \sigma = \varepsilon` and
    :math:`\partial z / \partial \mathrm{logvar} = \varepsilon\,\sigma / 2`.

    Args:
        mu: The means :math:`\mu`, shape ``(*batch, latent)``.
        logvar: The log variances :math:`\log \sigma^2`, the same shape.
        eps: Standard normal noise :math:`\varepsilon`, the same shape; it may have additional
            leading axes, for several draws per example.

    Returns:
        The draws :math:`z`, in the shape of ``eps``.

    Raises:
        InputError: If the shapes of ``mu`` and ``logvar`` differ, or ``eps`` does not extend them.

    Example:
        >>> mu, logvar = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 2.0]).log() * 2
        >>> reparameterize(mu, logvar, torch.tensor([0.5, 0.5]))
        tensor([1., 3.])

    References:
        Kingma and Welling, *Auto-Encoding Variational Bayes*, 2014, section 2.4.
    """
    checks.require_same_shape(mu=mu, logvar=logvar)
    checks.require_extends("eps", eps, "mu", mu)
    return mu + eps * torch.exp(logvar / 2)


def kl_to_standard_normal(mu: Codes, logvar: Codes) -> PerExample:
    r"""Compute the divergence of a diagonal Gaussian from the standard normal.

    .. math::
        \mathrm{KL}\big(N(\mu, \sigma^2)\,\|\,N(0, I)\big)
        &= \tfrac12 \sum_d \big(\mu_d^2 + \sigma_d^2 - \log \sigma_d^2 - 1\big) \\
        &= \sum_d \tfrac12 \mu_d^2 + \tfrac12 (\sigma_d - 1)^2 + (\sigma_d - 1 - \log \sigma_d)

    The function computes the second form. None of its terms is negative, so they do not cancel
    each other. The result is correct to a few units in the last place for every ``mu`` and
    ``logvar``, even near the prior, where the first form loses all digits. It is finite whenever
    the true value can be represented. Nothing is clamped. The terms of ``logvar`` are computed in
    double precision, and rounded once.

    Args:
        mu: The means :math:`\mu`, shape ``(*batch, latent)``.
        logvar: The log variances :math:`\log \sigma^2`, the same shape.

    Returns:
        The divergence in nats, summed over the latent axis, one value per example.

    Raises:
        InputError: If the shapes differ.

    Example:
        >>> kl_to_standard_normal(torch.zeros(2, 3), torch.zeros(2, 3))
        tensor([0., 0.])
        >>> kl_to_standard_normal(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2))
        tensor([2.5000])

    References:
        Kingma and Welling, *Auto-Encoding Variational Bayes*, 2014, appendix B.
    """
    checks.require_same_shape(mu=mu, logvar=logvar)
    # 0.5 * a * a, in this order, is finite up to the largest representable result.
    return (0.5 * mu * mu + _divergence_of_scale(logvar)).sum(-1)


def kl_between(mu_q: Codes, logvar_q: Codes, mu_p: Codes, logvar_p: Codes) -> PerExample:
    r"""Compute the divergence of one diagonal Gaussian from another.

    .. math::
        \mathrm{KL}\big(N(\mu_q, \sigma_q^2)\,\|\,N(\mu_p, \sigma_p^2)\big)
        = \mathrm{KL}\Big(N\big(\tfrac{\mu_q - \mu_p}{\sigma_p},
          \tfrac{\sigma_q^2}{\sigma_p^2}\big)\,\Big\|\,N(0, I)\Big)

    A divergence does not change if both distributions are shifted and scaled in the same way. If
    this takes :math:`p` to the standard normal, what remains is `kl_to_standard_normal`.

    Args:
        mu_q: The means of :math:`q`, shape ``(*batch, latent)``.
        logvar_q: The log variances of :math:`q`, the same shape.
        mu_p: The means of :math:`p`, the same shape.
        logvar_p: The log variances of :math:`p`, the same shape.

    Returns:
        The divergence in nats, one value per example.

    Raises:
        InputError: If the shapes differ.

    Example:
        >>> zero = torch.zeros(1, 2)
        >>> kl_between(zero + 3.0, zero, zero + 1.0, zero)
        tensor([4.])

    References:
        Kullback and Leibler, *On Information and Sufficiency*, 1951, section 4 (invariance).
    """
    checks.require_same_shape(mu_q=mu_q, logvar_q=logvar_q, mu_p=mu_p, logvar_p=logvar_p)
    return kl_to_standard_normal(_scaled(mu_q - mu_p, logvar_p), logvar_q - logvar_p)


def log_density(z: Noise, mu: Codes, logvar: Codes) -> PerDraw:
    r"""Evaluate the log density of a diagonal Gaussian.

    .. math::
        \log N(z; \mu, \sigma^2) = -\tfrac12 \sum_d
        \Big(\log 2\pi + \log \sigma_d^2 + \frac{(z_d - \mu_d)^2}{\sigma_d^2}\Big)

    Args:
        z: The points :math:`z`, shape ``(*batch, latent)``; there may be additional leading axes,
            for several points per example.
        mu: The means :math:`\mu`, shape ``(*batch, latent)``.
        logvar: The log variances :math:`\log \sigma^2`, the shape of ``mu``.

    Returns:
        The log density in nats, one value per point.

    Raises:
        InputError: If the shapes of ``mu`` and ``logvar`` differ, or ``z`` does not extend them.

    Example:
        >>> log_density(torch.zeros(1), torch.zeros(1), torch.zeros(1))
        tensor(-0.9189)

    References:
        Bishop, *Pattern Recognition and Machine Learning*, 2006, equation 2.43.
    """
    checks.require_same_shape(mu=mu, logvar=logvar)
    checks.require_extends("z", z, "mu", mu)
    eps = _scaled(z - mu, logvar)
    return -0.5 * (_LOG_2PI + logvar + eps * eps).sum(-1)


def entropy(logvar: Codes) -> PerExample:
    r"""Compute the differential entropy of a diagonal Gaussian.

    .. math:: H = \tfrac12 \sum_d \big(1 + \log 2\pi + \log \sigma_d^2\big)

    Args:
        logvar: The log variances :math:`\log \sigma^2`, shape ``(*batch, latent)``.

    Returns:
        The entropy in nats, one value per example; it may be negative.

    Example:
        >>> entropy(torch.zeros(1))
        tensor(1.4189)

    References:
        Cover and Thomas, *Elements of Information Theory*, 2006, theorem 8.4.1.
    """
    return 0.5 * (1 + _LOG_2PI + logvar).sum(-1)


def _scaled(distance: Tensor, logvar: Tensor) -> Tensor:
    """Divide by sigma in two steps, so that zero stays zero if 1 / sigma overflows."""
    root = torch.exp(-logvar / 4)
    return distance * root * root


def _divergence_of_scale_value(logvar: Tensor) -> Tensor:
    h = logvar.double() / 2
    one = series = torch.ones_like(h)
    for n in range(16, 2, -1):  # h**k / k! is below half an ulp of h**2 / 2 for k > 16
        series = torch.addcmul(one, h, series, value=1 / n)
    sigma_minus_1 = torch.expm1(h)
    expm1_minus = torch.where(h.abs() < 0.5, 0.5 * h * h * series, sigma_minus_1 - h)
    return (0.5 * sigma_minus_1 * sigma_minus_1 + expm1_minus).to(logvar)


def _excess_variance(logvar: Tensor) -> Tensor:
    return (0.5 * torch.expm1(logvar.double())).to(logvar)


#: (exp(logvar) - 1 - logvar) / 2, in double precision until the result is rounded.
_divergence_of_scale = elementwise(_divergence_of_scale_value, _excess_variance)
