r"""Estimate a KL from samples: three estimates, and what their gradients are.

.. math::
    r = \frac{p(x)}{q(x)}, \quad x \sim q: \qquad
    k_1 = -\log r, \qquad k_2 = \tfrac12 (\log r)^2, \qquad k_3 = r - 1 - \log r

The mean of :math:`k_1` and :math:`k_3` is the KL. The mean of their gradients, with the samples as
constants, is not the gradient of the KL; that of :math:`k_2` is:

.. math::
    E_q[\nabla k_1] = 0, \qquad
    E_q[\nabla k_2] = \nabla \mathrm{KL}(q \,\|\, p), \qquad
    E_q[\nabla k_3] = \nabla \mathrm{KL}(p \,\|\, q)

In a reward, the estimate multiplies the gradient of :math:`\log q`:

.. math::
    E_q[k_1 \nabla \log q] = \nabla \mathrm{KL}(q \,\|\, p), \qquad
    E_q[k_3 \nabla \log q] = \nabla \mathrm{KL}(q \,\|\, p) - \nabla \mathrm{KL}(p \,\|\, q)

The functions take log probabilities of samples of q, and return an estimate for each sample.
"""

import torch

from vae_ref import checks
from vae_ref.kinds.estimators import with_value
from vae_ref.shapes import PerDraw

__all__ = ["k1", "k2", "k3", "kl_loss"]


def k1(log_q: PerDraw, log_p: PerDraw) -> PerDraw:
    r"""Return :math:`-\log r`: right in the mean, and right in a reward.

    Args:
        log_q: :math:`\log q(x)` of samples of q, of any shape.
        log_p: :math:`\log p(x)` of the same samples, the same shape.

    Returns:
        The estimates in nats, one for each sample.

    Raises:
        InputError: If the shapes differ.

    Example:
        >>> k1(torch.tensor(0.5).log(), torch.tensor(0.25).log())
        tensor(0.6931)

    References:
        Schulman, *Approximating KL Divergence*, 2020.
    """
    checks.require_same_shape(log_q=log_q, log_p=log_p)
    return log_q - log_p


def k2(log_q: PerDraw, log_p: PerDraw) -> PerDraw:
    r"""Return :math:`\tfrac12 (\log r)^2`: wrong in the mean, but right as a loss.

    Args:
        log_q: :math:`\log q(x)` of samples of q, of any shape.
        log_p: :math:`\log p(x)` of the same samples, the same shape.

    Returns:
        The estimates in nats, one for each sample.

    Raises:
        InputError: If the shapes differ.

    Example:
        >>> k2(torch.tensor(2.0), torch.tensor(0.0))
        tensor(2.)

    References:
        Schulman, *Approximating KL Divergence*, 2020.
    """
    return 0.5 * k1(log_q, log_p).square()


def k3(log_q: PerDraw, log_p: PerDraw) -> PerDraw:
    r"""Return :math:`r - 1 - \log r`: right in the mean, and never negative.

    Args:
        log_q: :math:`\log q(x)` of samples of q, of any shape.
        log_p: :math:`\log p(x)` of the same samples, the same shape.

    Returns:
        The estimates in nats, one for each sample.

    Raises:
        InputError: If the shapes differ.

    Example:
        >>> k3(torch.tensor(1.0).log(), torch.tensor(0.5).log())  # 0.5 - 1 + log 2
        tensor(0.1931)

    References:
        Schulman, *Approximating KL Divergence*, 2020.
    """
    log_r = -k1(log_q, log_p)
    return torch.expm1(log_r) - log_r


def kl_loss(log_q: PerDraw, log_p: PerDraw) -> PerDraw:
    r"""Return an estimate whose value and gradient are both right in the mean.

    .. math:: k_3 \text{ in value}, \qquad \nabla k_2 = -\log r\,\nabla \log q \text{ in gradient}

    Args:
        log_q: :math:`\log q(x)` of samples of q, of any shape.
        log_p: :math:`\log p(x)` of the same samples, the same shape.

    Returns:
        The estimates in nats, one for each sample.

    Raises:
        InputError: If the shapes differ.

    Example:
        >>> log_q = torch.tensor(1.0).log().requires_grad_()
        >>> kl = kl_loss(log_q, torch.tensor(0.5).log())
        >>> kl.item(), torch.autograd.grad(kl, log_q)[0].item()  # doctest: +ELLIPSIS
        (0.1931..., 0.6931...)

    References:
        Schulman, *Approximating KL Divergence*, 2020, for the value.
    """
    return with_value(k2(log_q, log_p), k3(log_q, log_p))
