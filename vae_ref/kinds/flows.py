r"""Normalizing flows: maps whose log-determinant is known turn one density into another.

.. math::
    z' = f(z), \qquad
    \log q(z') = \log q(z) - \log\Big|\det\frac{\partial f}{\partial z}\Big|
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from vae_ref import checks
from vae_ref.gaussian import log_density
from vae_ref.shapes import Codes, Noise, PerDraw

__all__ = ["Flow", "PlanarFlow"]


class PlanarFlow(nn.Module):
    r"""Move a code in one direction, by a function of its distance from a plane.

    .. math::
        f(z) = z + \hat u \tanh(w^\top z + b), \qquad
        \log|\det| = \log\big|1 + (1 - \tanh^2(w^\top z + b))\, w^\top \hat u\big|, \\
        \hat u = u + \big(\log(1 + e^{w^\top u}) - 1 - w^\top u\big) \frac{w}{\|w\|^2}
        \quad\Rightarrow\quad w^\top \hat u > -1

    Args:
        latent_dim: The number of coordinates of a code.

    Raises:
        InputError: If it is not positive.

    Example:
        >>> z, log_det = PlanarFlow(2)(torch.zeros(5, 2))
        >>> z.shape, log_det.shape
        (torch.Size([5, 2]), torch.Size([5]))

    References:
        Rezende and Mohamed, *Variational Inference with Normalizing Flows*, 2015, equations 10
        to 12 and appendix A.1.
    """

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        checks.require_positive_integer("latent_dim", latent_dim)
        self.u, self.w = (nn.Parameter(0.5 * torch.randn(latent_dim)) for _ in "uw")
        self.b = nn.Parameter(torch.zeros(()))

    def forward(self, z: Noise) -> tuple[Noise, PerDraw]:
        """Return f(z) and the log-determinant, one value per code."""
        product = self.w @ self.u
        u_hat = self.u + (F.softplus(product) - 1 - product) * self.w / self.w.square().sum()
        h = torch.tanh(z @ self.w + self.b)
        log_det = torch.log1p((1 - h.square()) * (self.w @ u_hat))
        return z + h.unsqueeze(-1) * u_hat, log_det


class Flow(nn.Sequential):
    r"""Apply flows one after the other; their log-determinants add up.

    .. math::
        z_K = f_K \circ \dots \circ f_1(z_0), \qquad
        \log|\det| = \sum_k \log\Big|\det\frac{\partial f_k}{\partial z_{k-1}}\Big|

    Args:
        flows: The flows, the first one first; each returns the code and its log-determinant.

    Example:
        >>> z, log_det = Flow([PlanarFlow(2), PlanarFlow(2)])(torch.zeros(5, 2))
        >>> z.shape, log_det.shape
        (torch.Size([5, 2]), torch.Size([5]))

    References:
        Rezende and Mohamed, *Variational Inference with Normalizing Flows*, 2015, equations 6
        and 7.
    """

    def __init__(self, flows: Sequence[nn.Module]) -> None:
        super().__init__(*flows)

    def forward(self, z: Noise) -> tuple[Noise, PerDraw]:
        """Return the code after the last flow, and the sum of the log-determinants."""
        total = z.new_zeros(z.shape[:-1])
        for flow in self:
            z, log_det = flow(z)
            total = total + log_det
        return z, total

    def divergence(self, z: Noise, mu: Codes, logvar: Codes) -> tuple[Noise, PerDraw]:
        r"""Return :math:`z_K` and an unbiased estimate of the divergence from N(0, I).

        .. math:: \log N(z_0; \mu, \sigma^2) - \log|\det| - \log N(z_K; 0, I), \quad z_K = f(z_0)
        """
        z_k, log_det = self(z)
        zero = torch.zeros_like(mu)
        return z_k, log_density(z, mu, logvar) - log_det - log_density(z_k, zero, zero)
