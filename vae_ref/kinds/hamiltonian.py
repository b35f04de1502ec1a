r"""Move codes by Hamiltonian Monte Carlo, which leaves a density :math:`f` invariant."""

from collections.abc import Callable

import torch
from torch import Tensor

from vae_ref import checks
from vae_ref.shapes import Noise, PerDraw

__all__ = ["LogDensity", "hmc", "leapfrog"]

LogDensity = Callable[[Noise], PerDraw]
"""Codes, shape ``(*chains, latent)`` -> a log density that may lack a constant, ``(*chains)``."""


def leapfrog(
    log_density: LogDensity, z: Noise, v: Noise, step: Tensor, steps: int
) -> tuple[Noise, Noise]:
    r"""Follow the Hamiltonian motion of :math:`H = -\log f(z) + \tfrac12 \|v\|^2`.

    .. math::
        v \leftarrow v + \tfrac\epsilon2 \nabla \log f(z), \qquad
        z \leftarrow z + \epsilon v, \qquad
        v \leftarrow v + \tfrac\epsilon2 \nabla \log f(z)

    A step preserves volume, and with :math:`-v` it leads back.

    Args:
        log_density: The log density :math:`\log f`.
        z: The codes, shape ``(*chains, latent)``.
        v: The momenta, the same shape.
        step: The step size :math:`\epsilon`; it extends to the shape of ``z``, so that a latent
            may have its own.
        steps: The number of steps.

    Returns:
        The codes and the momenta at the end.

    Raises:
        InputError: If the shapes differ, or ``steps`` is not positive.

    Example:
        >>> z, v = torch.ones(1, 1), torch.zeros(1, 1)
        >>> leapfrog(lambda z: -z.square().sum(-1) / 2, z, v, torch.tensor(1.0), 1)
        (tensor([[0.5000]]), tensor([[-0.7500]]))

    References:
        Neal, *MCMC Using Hamiltonian Dynamics*, 2011, equations 2.28 to 2.30.
    """
    checks.require_same_shape(z=z, v=v)
    checks.require_positive_integer("steps", steps)
    v = v + step / 2 * _slope(log_density, z)
    for n in range(steps):
        z = z + step * v
        v = v + (step if n < steps - 1 else step / 2) * _slope(log_density, z)
    return z, v


def hmc(
    log_density: LogDensity, z: Noise, v: Noise, u: PerDraw, *, step: Tensor, steps: int
) -> tuple[Noise, Tensor]:
    r"""Make one Hamiltonian Monte Carlo step, which leaves the density invariant.

    .. math:: z' \text{ is accepted if } u < \exp\big(H(z, v) - H(z', v')\big)

    Args:
        log_density: The log density :math:`\log f`.
        z: The codes, shape ``(*chains, latent)``.
        v: Standard normal noise, the new momenta, the same shape.
        u: Uniform noise in [0, 1), shape ``(*chains)``.
        step: See `leapfrog`.
        steps: See `leapfrog`.

    Returns:
        The codes, and whether each chain accepted. A proposal that is not finite is refused.

    Raises:
        InputError: If the shapes differ, or ``steps`` is not positive.

    Example:
        >>> still, u, one = torch.zeros(2, 1), torch.tensor([0.0, 0.9]), torch.tensor(1.0)
        >>> hmc(lambda z: -z.square().sum(-1) / 2, still, still + 3, u, step=one, steps=1)[1]
        tensor([ True, False])

    References:
        Neal, *MCMC Using Hamiltonian Dynamics*, 2011, section 3.2.
    """
    proposed, end = leapfrog(log_density, z, v, step, steps)
    kinetic = (end.square() - v.square()).sum(-1) / 2
    accepted = u.log() < log_density(proposed) - log_density(z) - kinetic
    return torch.where(accepted.unsqueeze(-1), proposed, z), accepted


def _slope(log_density: LogDensity, z: Noise) -> Noise:
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        (slope,) = torch.autograd.grad(log_density(leaf).sum(), leaf)
    return slope
