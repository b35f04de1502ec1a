r"""Draw directions from a von Mises-Fisher distribution; see `vae_ref.kinds.von_mises_fisher`."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vae_ref import checks
from vae_ref.kinds.von_mises_fisher import log_area, log_normaliser
from vae_ref.shapes import PerExample

__all__ = ["draw"]

_NODES, _WEIGHTS = (torch.from_numpy(array) for array in np.polynomial.legendre.leggauss(64))


def _orthogonal(v: Tensor, mu: Tensor) -> Tensor:
    """The direction of v without its part along mu."""
    return F.normalize(v - (v * mu).sum(-1, keepdim=True) * mu, dim=-1)


def draw(mu: Tensor, kappa: PerExample, uniform: PerExample, eps: Tensor) -> Tensor:
    r"""Turn noise into a draw, whose angle to :math:`\mu` comes from inverting its distribution.

    .. math::
        x = \mu\cos\theta + v\sin\theta, \qquad
        P(\theta \le t) \propto \int_0^t e^{\kappa\cos s} \sin^{m-2}s\,ds, \qquad v \perp \mu

    Davidson et al. (2018) draw by rejection instead (Ulrich 1984). Then the noise has no fixed
    size, and the gradient with respect to :math:`\kappa` needs a correction. Here it is exact, by
    the implicit function theorem.

    Args:
        mu: The mean directions, shape ``(*batch, m)``, of length 1.
        kappa: The concentrations, shape ``(*batch)``.
        uniform: Uniform noise in (0, 1), shape ``(*batch)``.
        eps: Standard normal noise, shape ``(*batch, m)``.

    Returns:
        The directions :math:`x`, shape ``(*batch, m)``, of length 1.

    Raises:
        InputError: If shapes differ, or a concentration is not positive.

    Example:
        >>> north = torch.tensor([0.0, 0.0, 1.0])
        >>> half = torch.tensor(0.5)
        >>> x = draw(north, torch.tensor(1.0), half, torch.tensor([1.0, 0.0, 0.0]))
        >>> x.norm(), x @ north  # the median of mu'x is log(cosh 1)
        (tensor(1.0000), tensor(0.4338))

    References:
        Figurnov, Mohamed and Mnih, *Implicit Reparameterization Gradients*, 2018, equation 5.
    """
    checks.require_same_shape(mu=mu, eps=eps)
    checks.require_same_shape(kappa=kappa, uniform=uniform)
    k, dim = kappa.double(), mu.shape[-1]
    log_total = -log_normaliser(k, dim) - k - log_area(dim - 1)

    def density(angle: Tensor, k: Tensor, log_total: Tensor) -> Tensor:
        tilt = torch.exp(-2 * k * torch.sin(angle / 2).square() - log_total)
        return tilt * torch.sin(angle) ** (dim - 2)

    def below(angle: Tensor) -> Tensor:
        inner = angle.unsqueeze(-1) * (1 + _NODES) / 2
        return angle / 2 * (density(inner, k[..., None], log_total[..., None]) @ _WEIGHTS)

    with torch.no_grad():
        low, high = torch.zeros_like(k), torch.full_like(k, math.pi)
        for _ in range(14):
            middle = (low + high) / 2
            under = below(middle) < uniform
            low, high = torch.where(under, middle, low), torch.where(under, high, middle)
        theta = (low + high) / 2
        for _ in range(4):  # Newton's steps
            step = (below(theta) - uniform) / density(theta, k, log_total).clamp_min(1e-300)
            theta = torch.clamp(theta - step, low, high)
        slope = density(theta, k, log_total).clamp_min(1e-300)
    theta = (theta - (below(theta) - uniform) / slope).to(mu).unsqueeze(-1)
    v = _orthogonal(_orthogonal(eps, mu), mu)  # twice: noise along mu cancels to few digits
    return mu * torch.cos(theta) + v * torch.sin(theta)
