r"""Student's t as a likelihood: its density falls as a power of x, so outliers cost little."""

import math

import torch
from torch import Tensor

from vae_ref import checks
from vae_ref.kinds.families import distance
from vae_ref.shapes import Noise, Outputs, PerExample, Pixels

__all__ = ["draw_student", "student_nll"]


def student_nll(x: Pixels, mean: Outputs, log_scale: Tensor, degrees: Tensor) -> PerExample:
    r"""Compute the score of Student's t with a location and a scale.

    .. math::
        -\log p(x) = \sum_i \frac{\nu_i + 1}2 \log\Big(1 + \frac{(x_i - \mu_i)^2}{\nu_i
        \sigma_i^2}\Big) + \log\sigma_i + \tfrac12 \log \pi\nu_i
        - \log\frac{\Gamma((\nu_i + 1)/2)}{\Gamma(\nu_i/2)}

    Args:
        x: The data, shape ``(*batch, pixels)``.
        mean: The means, the same shape.
        log_scale: The logarithms of the scales, a shape that is broadcast to that of ``x``.
        degrees: The degrees of freedom :math:`\nu`, likewise; with 1 or less, there is no mean.

    Returns:
        The score in nats, one value per example.

    Raises:
        InputError: If the shapes do not match, a value is not finite or degrees not positive.

    Example:
        >>> one = torch.ones(1, 1)
        >>> student_nll(0 * one, 0 * one, 0 * one, one)  # log pi: it is Cauchy's distribution
        tensor([1.1447])

    References:
        Takahashi et al., *Student-t Variational Autoencoder for Robust Density Estimation*, 2018,
        equation 8.
    """
    checks.require_positive("degrees", degrees)
    d = distance(x, mean) * torch.exp(-log_scale)
    gammas = torch.lgamma((degrees + 1) / 2) - torch.lgamma(degrees / 2)
    power = 0.5 * (degrees + 1) * torch.log1p(d.square() / degrees)
    return (power + log_scale + 0.5 * torch.log(math.pi * degrees) - gammas).sum(-1)


def draw_student(
    mean: Outputs, log_scale: Tensor, degrees: Tensor, noise: Noise, chi_square: Noise
) -> Outputs:
    r"""Turn normal noise and chi-square noise into draws.

    .. math:: x = \mu + \sigma\,\varepsilon\,\sqrt{\nu / c}, \qquad c \sim \chi^2_\nu

    Args:
        mean: The means :math:`\mu`, shape ``(*batch, pixels)``.
        log_scale: The logarithms of the scales :math:`\sigma`, a shape that is broadcast to that
            of ``mean``.
        degrees: The degrees of freedom :math:`\nu`, likewise.
        noise: Standard normal noise :math:`\varepsilon`, the shape of ``mean``, or with
            additional leading axes.
        chi_square: Noise :math:`c` with these degrees of freedom, in the shape of ``noise``.

    Returns:
        The draws, in the shape of ``noise``.

    Example:
        >>> one = torch.ones(1)
        >>> draw_student(one, 0 * one, 4 * one, 3 * one, 9 * one)
        tensor([3.])

    References:
        Bishop, *Pattern Recognition and Machine Learning*, 2006, section 2.3.7.
    """
    return mean + torch.exp(log_scale) * noise * torch.sqrt(degrees / chi_square)
