r"""The linear model with a condition: its posterior and its evidence are known.

.. math:: z \mid c \sim N(\mu_p, \operatorname{diag}\sigma_p^2), \qquad x \mid z \sim N(Wz, s^2 I)
"""

import math

import torch
from torch import Tensor

from vae_ref import checks
from vae_ref.shapes import Codes, PerExample, Pixels

__all__ = ["log_evidence", "posterior"]


def posterior(
    x: Pixels, w: Tensor, mu_p: Codes, logvar_p: Codes, variance: float
) -> tuple[Codes, Tensor]:
    r"""Compute the true posterior of the linear model, whose evidence is `log_evidence`.

    .. math::
        z \mid c \sim N(\mu_p, \operatorname{diag}\sigma_p^2), \quad x \mid z \sim N(Wz, s^2 I)
        \quad\Rightarrow\quad z \mid x, c \sim N(m, S), \\
        S^{-1} = \operatorname{diag}\sigma_p^{-2} + W^\top W / s^2, \qquad
        m = S\,(\mu_p / \sigma_p^2 + W^\top x / s^2)

    Args:
        x: The data, shape ``(*batch, pixels)``.
        w: The weights :math:`W`, shape ``(pixels, latent)``.
        mu_p: The means of the prior, shape ``(*batch, latent)``.
        logvar_p: Its log variances, the same shape.
        variance: The variance :math:`s^2` of a pixel.

    Returns:
        The mean and the covariance, shapes ``(*batch, latent)`` and ``(*batch, latent, latent)``.

    Raises:
        InputError: If the shapes of the prior's parameters differ.

    Example:
        >>> one = torch.ones(1, 1)
        >>> posterior(one, one, 0 * one, 0 * one, variance=1.0)
        (tensor([[0.5000]]), tensor([[[0.5000]]]))

    References:
        Bishop, *Pattern Recognition and Machine Learning*, 2006, equation 2.116.
    """
    checks.require_same_shape(mu_p=mu_p, logvar_p=logvar_p)
    precision = torch.exp(-logvar_p)
    covariance = torch.linalg.inv(torch.diag_embed(precision) + w.T @ w / variance)
    known = precision * mu_p + x @ w / variance
    return (covariance @ known.unsqueeze(-1)).squeeze(-1), covariance


def log_evidence(
    x: Pixels, w: Tensor, mu_p: Codes, logvar_p: Codes, variance: float
) -> PerExample:
    r"""Compute :math:`\log p(x \mid c)` of the linear model.

    .. math:: p(x \mid c) = N(W\mu_p,\; W \operatorname{diag}(\sigma_p^2)\,W^\top + s^2 I)

    Args:
        x: The data, shape ``(*batch, pixels)``.
        w: The weights :math:`W`, shape ``(pixels, latent)``.
        mu_p: The means of the prior, shape ``(*batch, latent)``.
        logvar_p: Its log variances, the same shape.
        variance: The variance :math:`s^2` of a pixel.

    Returns:
        The log evidence in nats, one value per example.

    Raises:
        InputError: If the shapes of the prior's parameters differ.

    Example:
        >>> one = torch.ones(1, 1)
        >>> log_evidence(one, one, one, 0 * one, variance=1.0)  # log N(1; 1, 2)
        tensor([-1.2655])

    References:
        Bishop, *Pattern Recognition and Machine Learning*, 2006, equation 2.115.
    """
    checks.require_same_shape(mu_p=mu_p, logvar_p=logvar_p)
    noise = variance * torch.eye(len(w), dtype=x.dtype)
    root = torch.linalg.cholesky((w * logvar_p.exp().unsqueeze(-2)) @ w.T + noise)
    scaled = torch.linalg.solve_triangular(root, (x - mu_p @ w.T).unsqueeze(-1), upper=False)
    log_det = 2 * torch.diagonal(root, dim1=-2, dim2=-1).log().sum(-1)
    distance: Tensor = scaled.squeeze(-1).square().sum(-1)
    return -0.5 * (distance + log_det + len(w) * math.log(2 * math.pi))
