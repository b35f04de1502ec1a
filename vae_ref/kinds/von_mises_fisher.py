r"""The von Mises-Fisher distribution: directions x around a mean direction, on a sphere.

.. math::
    p(x) = C_m(\kappa)\, e^{\kappa \mu^\top x}, \qquad
    C_m(\kappa) = \frac{\kappa^{m/2 - 1}}{(2\pi)^{m/2} I_{m/2 - 1}(\kappa)}, \qquad
    x, \mu \in \mathbb R^m, \ \|x\| = \|\mu\| = 1

The concentration :math:`\kappa` has the shape ``(*batch)``; ``dim`` is m, at least 2.
"""

import math

import numpy as np
import torch
from scipy import special
from torch import Tensor

from vae_ref import checks
from vae_ref.elementwise import elementwise
from vae_ref.shapes import PerExample

__all__ = ["kl_to_uniform", "log_area", "log_normaliser", "mean_length"]


def _scaled_bessel(order: float, kappa: Tensor) -> Tensor:
    """Return I_order(kappa) exp(-kappa), which does not overflow."""
    return torch.from_numpy(np.asarray(special.ive(order, kappa.detach().double().numpy())))


def mean_length(kappa: PerExample, dim: int) -> PerExample:
    r"""Compute the length of the mean, :math:`A(\kappa) = I_{m/2}(\kappa) / I_{m/2 - 1}(\kappa)`.

    .. math:: \frac{\partial A}{\partial \kappa} = 1 - A^2 - \frac{m - 1}{\kappa} A

    Args:
        kappa: The concentrations :math:`\kappa`, shape ``(*batch)``.
        dim: The number :math:`m` of coordinates of a direction, at least 2.

    Returns:
        The length, between 0 and 1, one value per example.

    Raises:
        InputError: If a concentration is not positive, or :math:`m` is less than 2.

    Example:
        >>> mean_length(torch.tensor([1.0]), dim=3)  # 1 / tanh(1) - 1
        tensor([0.3130])

    References:
        Davidson et al., *Hyperspherical Variational Auto-Encoders*, 2018, appendix B.
    """
    _require(kappa, dim)

    def value(k: Tensor) -> Tensor:
        return (_scaled_bessel(dim / 2, k) / _scaled_bessel(dim / 2 - 1, k)).to(k)

    def slope(k: Tensor) -> Tensor:
        a = elementwise(value, slope)(k)
        return 1 - a.square() - (dim - 1) * a / k

    return elementwise(value, slope)(kappa)


def log_normaliser(kappa: PerExample, dim: int) -> PerExample:
    r"""Compute :math:`\log C_m(\kappa)`, whose derivative is minus `mean_length`.

    .. math:: \log C_m(\kappa) = \Big(\frac m2 - 1\Big) \log\kappa - \frac m2 \log 2\pi
        - \log I_{m/2 - 1}(\kappa)

    Args:
        kappa: The concentrations :math:`\kappa`, shape ``(*batch)``.
        dim: The number :math:`m` of coordinates of a direction, at least 2.

    Returns:
        The logarithm in nats, one value per example.

    Raises:
        InputError: If a concentration is not positive, or :math:`m` is less than 2.

    Example:
        >>> log_normaliser(torch.tensor([1.0]), dim=3)  # log(1 / (4 pi sinh 1))
        tensor([-2.6925])

    References:
        Davidson et al., *Hyperspherical Variational Auto-Encoders*, 2018, equation 2.
    """
    _require(kappa, dim)

    def value(k: Tensor) -> Tensor:
        wide = k.double()
        log_bessel = _scaled_bessel(dim / 2 - 1, k).log() + wide
        constant = dim / 2 * math.log(2 * math.pi)
        return ((dim / 2 - 1) * wide.log() - constant - log_bessel).to(k)

    return elementwise(value, lambda k: -mean_length(k, dim))(kappa)


def kl_to_uniform(kappa: PerExample, dim: int) -> PerExample:
    r"""Compute the divergence from the uniform distribution on the sphere.

    .. math::
        \mathrm{KL} = \kappa A + \log C_m(\kappa) + \log |S^{m-1}|, \qquad
        |S^{m-1}| = \frac{2\pi^{m/2}}{\Gamma(m/2)}

    Args:
        kappa: The concentrations :math:`\kappa`, shape ``(*batch)``.
        dim: The number :math:`m` of coordinates of a direction, at least 2.

    Returns:
        The divergence in nats, one value per example.

    Raises:
        InputError: If a concentration is not positive, or :math:`m` is less than 2.

    Example:
        >>> kl_to_uniform(torch.tensor([1.0]), dim=3)
        tensor([0.1516])

    References:
        Davidson et al., *Hyperspherical Variational Auto-Encoders*, 2018, equation 5.
    """
    return kappa * mean_length(kappa, dim) + log_normaliser(kappa, dim) + log_area(dim)


def log_area(dim: int) -> float:
    r"""Compute the log area of the unit sphere in :math:`\mathbb R^m`.

    .. math:: \log |S^{m-1}| = \log \frac{2\pi^{m/2}}{\Gamma(m/2)}

    It is minus the log density of the uniform distribution on the sphere.

    Args:
        dim: The number :math:`m` of coordinates; for 1, the sphere consists of two points.

    Returns:
        The logarithm in nats.

    Example:
        >>> f"{log_area(3):.4f}"  # log(4 pi)
        '2.5310'

    References:
        *NIST Digital Library of Mathematical Functions*, section 5.19(iii).
    """
    return math.log(2) + dim / 2 * math.log(math.pi) - math.lgamma(dim / 2)


def _require(kappa: Tensor, dim: int) -> None:
    """Raise `InputError` unless a concentration is positive, and m is at least 2."""
    checks.require_positive_integer("dim - 1", dim - 1)
    checks.require_positive("kappa", kappa)
