r"""The linear model of two levels: its evidence and its posterior are known.

.. math::
    z_1 \sim N(0, I), \qquad
    z_2 \mid z_1 \sim N(A z_1, \operatorname{diag}\sigma_2^2), \qquad
    x \mid z_2 \sim N(W z_2, s^2 I)

With :math:`z_2 = A z_1 + e_2`, the upper code and :math:`e_2` are independent, and
:math:`x \mid z_1, e_2 \sim N(W A z_1 + W e_2, s^2 I)`: it is the linear model of one level with
the weights :math:`(W A, W)`.
"""

import torch
from torch import Tensor

from vae_ref.kinds import linear
from vae_ref.shapes import Codes, Noise, PerExample, Pixels

__all__ = ["log_evidence", "posterior_of_lower", "posterior_of_upper"]


def _one_level(x: Pixels, a: Tensor, w: Tensor, logvar_2: Tensor) -> tuple[Tensor, Codes, Codes]:
    upper = a.shape[1]
    logvar = torch.cat([torch.zeros(upper, dtype=x.dtype), logvar_2])
    zero = torch.zeros(*x.shape[:-1], len(logvar), dtype=x.dtype)
    return torch.cat([w @ a, w], 1), zero, logvar.expand_as(zero)


def log_evidence(
    x: Pixels, a: Tensor, w: Tensor, logvar_2: Tensor, *, variance: float
) -> PerExample:
    r"""Compute the log evidence :math:`\log p(x)`.

    .. math:: p(x) = N\big(0,\; W (A A^\top + \operatorname{diag}\sigma_2^2)\, W^\top + s^2 I\big)

    Args:
        x: The data, shape ``(*batch, pixels)``.
        a: The weights :math:`A`, shape ``(lower, upper)``.
        w: The weights :math:`W`, shape ``(pixels, lower)``.
        logvar_2: The log variances :math:`\log\sigma_2^2`, shape ``(lower,)``.
        variance: The variance :math:`s^2` of a pixel.

    Returns:
        The log evidence in nats, one value per example.

    Example:
        >>> one = torch.ones(1, 1)
        >>> log_evidence(one, one, one, torch.zeros(1), variance=2.0)  # log N(1; 0, 4)
        tensor([-1.7371])

    References:
        Bishop, *Pattern Recognition and Machine Learning*, 2006, equation 2.115.
    """
    return linear.log_evidence(x, *_one_level(x, a, w, logvar_2), variance)


def posterior_of_upper(
    x: Pixels, a: Tensor, w: Tensor, logvar_2: Tensor, *, variance: float
) -> tuple[Codes, Tensor]:
    r"""Compute the true posterior of the upper code.

    .. math::
        z_1 \mid x \sim N(m, S), \qquad S^{-1} = I + A^\top W^\top R^{-1} W A, \qquad
        m = S A^\top W^\top R^{-1} x, \\
        R = W \operatorname{diag}(\sigma_2^2)\, W^\top + s^2 I

    Args:
        x: The data, shape ``(*batch, pixels)``.
        a: The weights :math:`A`, shape ``(lower, upper)``.
        w: The weights :math:`W`, shape ``(pixels, lower)``.
        logvar_2: The log variances :math:`\log\sigma_2^2`, shape ``(lower,)``.
        variance: The variance :math:`s^2` of a pixel.

    Returns:
        The mean and the covariance, shapes ``(*batch, upper)`` and ``(*batch, upper, upper)``.

    Example:
        >>> one = torch.ones(1, 1)
        >>> posterior_of_upper(one, one, one, torch.zeros(1), variance=2.0)
        (tensor([[0.2500]]), tensor([[[0.7500]]]))

    References:
        Bishop, *Pattern Recognition and Machine Learning*, 2006, equation 2.116.
    """
    mean, covariance = linear.posterior(x, *_one_level(x, a, w, logvar_2), variance)
    upper = a.shape[1]
    return mean[..., :upper], covariance[..., :upper, :upper]


def posterior_of_lower(
    x: Pixels, z_1: Noise, a: Tensor, w: Tensor, logvar_2: Tensor, *, variance: float
) -> tuple[Codes, Tensor]:
    r"""Compute the true posterior of the lower code, given the upper one.

    .. math::
        z_2 \mid z_1, x \sim N(m, S), \qquad
        S^{-1} = \operatorname{diag}\sigma_2^{-2} + W^\top W / s^2, \qquad
        m = S\,(A z_1 / \sigma_2^2 + W^\top x / s^2)

    Args:
        x: The data, shape ``(*batch, pixels)``.
        z_1: The upper codes, shape ``(*batch, upper)``.
        a: The weights :math:`A`, shape ``(lower, upper)``.
        w: The weights :math:`W`, shape ``(pixels, lower)``.
        logvar_2: The log variances :math:`\log\sigma_2^2`, shape ``(lower,)``.
        variance: The variance :math:`s^2` of a pixel.

    Returns:
        The mean and the covariance, shapes ``(*batch, lower)`` and ``(*batch, lower, lower)``.

    Example:
        >>> one = torch.ones(1, 1)
        >>> posterior_of_lower(one, 0 * one, one, one, torch.zeros(1), variance=1.0)
        (tensor([[0.5000]]), tensor([[[0.5000]]]))

    References:
        Bishop, *Pattern Recognition and Machine Learning*, 2006, equation 2.116.
    """
    mu_p = z_1 @ a.T
    return linear.posterior(x, w, mu_p, logvar_2.expand_as(mu_p), variance)
