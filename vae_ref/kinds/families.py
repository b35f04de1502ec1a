r"""Likelihoods of real numbers whose scale is learned: Gaussian and Laplace.

The functions take the mean in the shape of the data, and scales in that shape or in one that is
broadcast to it: a scale per pixel, or one for all. The scores are in nats, with all constants,
summed over the last axis. Other modules have Student's t, and the likelihoods of grey levels,
counts and classes.
"""

import math

import torch
from torch import Tensor

from vae_ref import checks
from vae_ref.shapes import Noise, Outputs, PerExample, Pixels

__all__ = ["distance", "draw_gaussian", "draw_laplace", "gaussian_nll", "laplace_nll"]


def gaussian_nll(x: Pixels, mean: Outputs, log_sigma: Tensor) -> PerExample:
    r"""Compute the score of a normal distribution.

    .. math::
        -\log N(x; \mu, \sigma^2) = \sum_i \frac{(x_i - \mu_i)^2}{2\sigma_i^2} + \log\sigma_i
        + \tfrac12 \log 2\pi

    If one sigma is learned for all pixels, its best value is the root mean square of the errors.
    Then the loss needs no weight between reconstruction and KL.

    Args:
        x: The data, shape ``(*batch, pixels)``.
        mean: The means, the same shape.
        log_sigma: The log standard deviations, a shape that is broadcast to that of ``x``.

    Returns:
        The score in nats, one value per example.

    Raises:
        InputError: If the shapes do not match or a value is not finite.

    Example:
        >>> gaussian_nll(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor(0.0))
        tensor([1.8379])

    References:
        Rybkin, Daniilidis and Levine, *Simple and Effective VAE Training with Calibrated
        Decoders*, 2021, equation 3.
    """
    d = distance(x, mean) * torch.exp(-log_sigma)
    return (0.5 * d.square() + log_sigma + 0.5 * math.log(2 * math.pi)).sum(-1)


def draw_gaussian(mean: Outputs, log_sigma: Tensor, noise: Noise) -> Outputs:
    r"""Turn standard normal noise into draws: :math:`x = \mu + \sigma\varepsilon`.

    Args:
        mean: The means :math:`\mu`, shape ``(*batch, pixels)``.
        log_sigma: The log standard deviations, a shape that is broadcast to that of ``mean``.
        noise: Standard normal noise :math:`\varepsilon`, the shape of ``mean``, or with
            additional leading axes.

    Returns:
        The draws, in the shape of ``noise``.

    Example:
        >>> draw_gaussian(torch.ones(2), torch.tensor(2.0).log(), torch.tensor([0.0, 1.5]))
        tensor([1., 4.])

    References:
        Kingma and Welling, *Auto-Encoding Variational Bayes*, 2014, section 2.4.
    """
    return mean + torch.exp(log_sigma) * noise


def laplace_nll(x: Pixels, mean: Outputs, log_scale: Tensor) -> PerExample:
    r"""Compute the score of a Laplace distribution.

    .. math:: -\log p(x) = \sum_i \frac{|x_i - \mu_i|}{b_i} + \log 2b_i

    Args:
        x: The data, shape ``(*batch, pixels)``.
        mean: The means, the same shape.
        log_scale: The logarithms :math:`\log b` of the scales, a shape that is broadcast to that
            of ``x``.

    Returns:
        The score in nats, one value per example.

    Raises:
        InputError: If the shapes do not match or a value is not finite.

    Example:
        >>> laplace_nll(torch.zeros(1, 2), torch.ones(1, 2), torch.tensor(0.0))
        tensor([3.3863])

    References:
        Kotz, Kozubowski and Podgórski, *The Laplace Distribution and Generalizations*, 2001,
        equation 2.1.1.
    """
    d = distance(x, mean).abs() * torch.exp(-log_scale)
    return (d + log_scale + math.log(2)).sum(-1)


def draw_laplace(mean: Outputs, log_scale: Tensor, noise: Noise) -> Outputs:
    r"""Turn uniform noise into draws, by the inverse distribution function.

    .. math:: x = \mu - b\,\operatorname{sign}(u - \tfrac12)\,\log\big(2\min(u, 1 - u)\big)

    Args:
        mean: The means :math:`\mu`, shape ``(*batch, pixels)``.
        log_scale: The logarithms :math:`\log b` of the scales, a shape that is broadcast to that
            of ``mean``.
        noise: Uniform noise :math:`u` in (0, 1), the shape of ``mean``, or with additional
            leading axes.

    Returns:
        The draws, in the shape of ``noise``.

    Example:
        >>> draw_laplace(torch.ones(2), torch.tensor(0.0), torch.tensor([0.5, 0.75]))  # 1 + log 2
        tensor([1.0000, 1.6931])

    References:
        Devroye, *Non-Uniform Random Variate Generation*, 1986, section II.2.
    """
    side = torch.where(noise < 0.5, noise, 1 - noise)
    return mean + torch.exp(log_scale) * torch.sign(noise - 0.5) * -torch.log(2 * side)


def distance(x: Pixels, mean: Outputs) -> Outputs:
    r"""Return the errors :math:`x - \mu` that the scores of real numbers are made of.

    Args:
        x: The data, shape ``(*batch, pixels)``.
        mean: The means :math:`\mu`, the same shape, or with additional leading axes.

    Returns:
        The errors in the units of the data, in the shape of ``mean``.

    Raises:
        InputError: If the shapes do not match or a value of ``x`` is not finite.

    Example:
        >>> distance(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 4.0]))
        tensor([ 1., -2.])

    References:
        Rybkin, Daniilidis and Levine, *Simple and Effective VAE Training with Calibrated
        Decoders*, 2021, equation 3, which squares them.
    """
    checks.require_extends("mean", mean, "x", x)
    checks.require_finite("x", x)
    return x - mean
