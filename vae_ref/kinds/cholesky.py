r"""Compute with Gaussians of full covariance, :math:`N(\mu, LL^\top)`.

:math:`L` is the Cholesky factor: lower triangular, with a positive diagonal. An encoder outputs a
square matrix, from which `factor` makes it.
"""

import math

import torch
from torch import Tensor

from vae_ref import checks
from vae_ref.shapes import Codes, Noise, PerDraw, PerExample

__all__ = ["draw", "factor", "kl_to_standard_normal", "log_density"]


def factor(raw: Tensor) -> Tensor:
    r"""Make a Cholesky factor from a square matrix, whose upper triangle is not used.

    .. math:: L_{ij} = R_{ij} \ (i > j), \qquad L_{ii} = e^{R_{ii}}, \qquad L_{ij} = 0 \ (i < j)

    Args:
        raw: Any matrices :math:`R`, shape ``(*batch, latent, latent)``.

    Returns:
        The factors :math:`L`, the same shape.

    Example:
        >>> factor(torch.tensor([[0.0, 5.0], [2.0, 0.0]]))
        tensor([[1., 0.],
                [2., 1.]])

    References:
        Kingma and Welling, *An Introduction to Variational Autoencoders*, 2019, section 2.5.1.
    """
    diagonal = torch.diagonal(raw, dim1=-2, dim2=-1)
    return torch.tril(raw, -1) + torch.diag_embed(torch.exp(diagonal))


def draw(mu: Codes, L: Tensor, eps: Noise) -> Noise:  # noqa: N803
    r"""Turn standard normal noise into a draw: :math:`z = \mu + L\varepsilon`.

    Args:
        mu: The means :math:`\mu`, shape ``(*batch, latent)``.
        L: The Cholesky factors :math:`L`, shape ``(*batch, latent, latent)``.
        eps: Standard normal noise :math:`\varepsilon`, the shape of ``mu``, or with additional
            leading axes.

    Returns:
        The draws :math:`z`, in the shape of ``eps``.

    Raises:
        InputError: If the shapes do not match, or a diagonal of L is not positive.

    Example:
        >>> draw(torch.zeros(2), torch.tensor([[1.0, 0.0], [2.0, 1.0]]), torch.tensor([1.0, 0.0]))
        tensor([1., 2.])

    References:
        Kingma and Welling, *An Introduction to Variational Autoencoders*, 2019, equation 2.36.
    """
    _require_factor(mu, L)
    checks.require_extends("eps", eps, "mu", mu)
    return mu + (L @ eps.unsqueeze(-1)).squeeze(-1)


def kl_to_standard_normal(mu: Codes, L: Tensor) -> PerExample:  # noqa: N803
    r"""Compute the divergence from N(0, I).

    .. math::
        \mathrm{KL}\big(N(\mu, LL^\top)\,\|\,N(0, I)\big)
        = \tfrac12 \Big(\sum_i \mu_i^2 + \sum_{i \ge j} L_{ij}^2 - D\Big) - \sum_i \log L_{ii}

    Args:
        mu: The means :math:`\mu`, shape ``(*batch, latent)``.
        L: The Cholesky factors :math:`L`, shape ``(*batch, latent, latent)``.

    Returns:
        The divergence in nats, one value per example.

    Raises:
        InputError: If the shapes do not match, or a diagonal of L is not positive.

    Example:
        >>> kl_to_standard_normal(torch.zeros(2), torch.tensor([[1.0, 0.0], [2.0, 1.0]]))
        tensor(2.)

    References:
        Kullback and Leibler, *On Information and Sufficiency*, 1951; the determinant of a
        triangular matrix is the product of its diagonal.
    """
    _require_factor(mu, L)
    trace = L.square().sum((-2, -1))
    return 0.5 * (mu.square().sum(-1) + trace - mu.shape[-1]) - _half_log_det(L)


def log_density(z: Noise, mu: Codes, L: Tensor) -> PerDraw:  # noqa: N803
    r"""Evaluate the log density.

    .. math::
        \log N(z; \mu, LL^\top) = -\tfrac D2 \log 2\pi - \sum_i \log L_{ii}
        - \tfrac12 \big\|L^{-1}(z - \mu)\big\|^2

    Args:
        z: The points :math:`z`, the shape of ``mu``, or with additional leading axes.
        mu: The means :math:`\mu`, shape ``(*batch, latent)``.
        L: The Cholesky factors :math:`L`, shape ``(*batch, latent, latent)``.

    Returns:
        The log density in nats, one value per point.

    Raises:
        InputError: If the shapes do not match, or a diagonal of L is not positive.

    Example:
        >>> log_density(torch.zeros(1), torch.zeros(1), torch.eye(1))
        tensor(-0.9189)

    References:
        Bishop, *Pattern Recognition and Machine Learning*, 2006, equation 2.43.
    """
    _require_factor(mu, L)
    checks.require_extends("z", z, "mu", mu)
    eps = torch.linalg.solve_triangular(L, (z - mu).unsqueeze(-1), upper=False).squeeze(-1)
    constant = 0.5 * mu.shape[-1] * math.log(2 * math.pi)
    square: Tensor = eps.square().sum(-1)
    return -0.5 * square - _half_log_det(L) - constant


def _half_log_det(factor: Tensor) -> Tensor:
    return torch.diagonal(factor, dim1=-2, dim2=-1).log().sum(-1)


def _require_factor(mu: Tensor, factor: Tensor) -> None:
    got, expected = tuple(factor.shape), (*mu.shape, mu.shape[-1])
    if got != expected:
        raise checks.InputError("L", f"have the shape {expected}", got, "Pass a square matrix.")
    diagonal = torch.diagonal(factor, dim1=-2, dim2=-1)
    checks.require_positive("the diagonal of L", diagonal)
