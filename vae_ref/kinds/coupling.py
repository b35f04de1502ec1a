r"""Coupling flows: half of a code decides how the other half is scaled and shifted."""

import torch
from torch import Tensor, nn

from vae_ref import checks
from vae_ref.shapes import Noise, PerDraw

__all__ = ["AffineCoupling"]


class AffineCoupling(nn.Module):
    r"""Scale and shift half of a code by functions of the other half.

    .. math::
        f(z)_1 = z_1, \qquad f(z)_2 = z_2 \odot e^{s(z_1)} + t(z_1), \qquad
        \log|\det| = \sum_i s_i(z_1)

    Args:
        latent_dim: The number of coordinates, at least 2; of an odd number, the first part is
            the smaller one.
        hidden_dim: The number of units in the hidden layer of the network of s and t.
        swap: Whether the two parts change their roles.

    Raises:
        InputError: If there are fewer than two coordinates, or no hidden unit.

    Example:
        >>> flow, z = AffineCoupling(3), torch.randn(5, 3)
        >>> moved, log_det = flow(z)
        >>> back, log_det_back = flow.inverse(moved)
        >>> torch.allclose(back, z, atol=1e-5), torch.allclose(log_det_back, -log_det)
        (True, True)

    References:
        Dinh, Sohl-Dickstein and Bengio, *Density Estimation using Real NVP*, 2017, equations 4
        to 8; s is a tanh times a scale that is learned, section 4.1.
    """

    def __init__(self, latent_dim: int, hidden_dim: int = 32, *, swap: bool = False) -> None:
        super().__init__()
        checks.require_positive_integer("latent_dim - 1", latent_dim - 1)
        checks.require_positive_integer("hidden_dim", hidden_dim)
        small, large = latent_dim // 2, latent_dim - latent_dim // 2
        self.sizes, self.swap = (large, small) if swap else (small, large), swap
        self.net = nn.Sequential(
            nn.Linear(self.sizes[0], hidden_dim),
            nn.Tanh(),
            nn.Linear(hidden_dim, 2 * self.sizes[1]),
        )
        self.scale = nn.Parameter(torch.ones(self.sizes[1]))

    def _parts(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        first, second = (z.flip(-1) if self.swap else z).split(self.sizes, -1)
        s, t = self.net(first).chunk(2, -1)
        return first, second, self.scale * torch.tanh(s), t

    def _joined(self, first: Tensor, second: Tensor) -> Tensor:
        whole = torch.cat((first, second), -1)
        return whole.flip(-1) if self.swap else whole

    def forward(self, z: Noise) -> tuple[Noise, PerDraw]:
        """Return f(z) and the log-determinant, one value per code."""
        first, second, s, t = self._parts(z)
        return self._joined(first, second * torch.exp(s) + t), s.sum(-1)

    def inverse(self, z: Noise) -> tuple[Noise, PerDraw]:
        """Return the code that the flow takes to z, and the log-determinant of the way back."""
        first, second, s, t = self._parts(z)
        return self._joined(first, (second - t) * torch.exp(-s)), -s.sum(-1)
