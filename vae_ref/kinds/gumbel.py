r"""Draw discrete codes so that a gradient flows: the Gumbel-softmax, or concrete, distribution.

With Gumbel noise :math:`g_k = -\log(-\log u_k)`, the index of the largest :math:`\ell_k + g_k` is
a draw from the softmax of the logits. A softmax with a temperature takes the place of the argmax.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vae_ref import checks
from vae_ref.kinds.categorical import Logits
from vae_ref.shapes import PerExample

__all__ = ["gumbel", "gumbel_softmax", "log_density", "straight_through"]

Relaxed = Float[Tensor, "*batch latents classes"]


def gumbel(u: Tensor) -> Tensor:
    r"""Turn uniform noise into standard Gumbel noise, :math:`g = -\log(-\log u)`.

    Args:
        u: Uniform noise in [0, 1), of any shape; 0 gives minus infinity.

    Returns:
        The noise :math:`g`, in the shape of ``u``.

    Example:
        >>> gumbel(torch.tensor([0.5]))
        tensor([0.3665])

    References:
        Jang, Gu and Poole, *Categorical Reparameterization with Gumbel-Softmax*, 2017, section 2.
    """
    return -torch.log(-torch.log(u))


def _require_temperature(temperature: float) -> None:
    if not temperature > 0:
        remedy = "Lower it towards 0."
        raise checks.InputError("temperature", "be positive", temperature, remedy)


def gumbel_softmax(logits: Logits, g: Tensor, temperature: float) -> Relaxed:
    r"""Turn Gumbel noise into a relaxed draw of every latent, a point of the simplex.

    .. math:: y_k = \frac{\exp((\ell_k + g_k) / \tau)}{\sum_j \exp((\ell_j + g_j) / \tau)}

    The class that is drawn has the largest coordinate; the others vanish as :math:`\tau \to 0`.

    Args:
        logits: The logits :math:`\ell`, shape ``(*batch, latents, classes)``.
        g: Standard Gumbel noise, the same shape; see `gumbel`.
        temperature: The temperature :math:`\tau`, a positive number.

    Returns:
        The draws, in the shape of ``logits``; they sum to 1 over the classes.

    Raises:
        InputError: If the shapes differ, or the temperature is not positive.

    Example:
        >>> gumbel_softmax(torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]]), 0.5)
        tensor([[0.5000, 0.5000]])

    References:
        Maddison, Mnih and Teh, *The Concrete Distribution*, 2017, section 3.2.
        Jang, Gu and Poole, *Categorical Reparameterization with Gumbel-Softmax*, 2017, equation 2.
    """
    checks.require_same_shape(logits=logits, g=g)
    _require_temperature(temperature)
    return torch.softmax((logits + g) / temperature, -1)


def straight_through(logits: Logits, g: Tensor, temperature: float) -> Relaxed:
    r"""Draw one-hot codes that have the gradient of the relaxed ones.

    .. math:: z = \mathrm{onehot}(\arg\max_k y_k) + y - \mathrm{sg}[y]

    Args:
        logits: The logits :math:`\ell`, shape ``(*batch, latents, classes)``.
        g: Standard Gumbel noise, the same shape; see `gumbel`.
        temperature: The temperature :math:`\tau`, a positive number.

    Returns:
        The codes, in the shape of ``logits``, one-hot up to rounding.

    Raises:
        InputError: If the shapes differ, or the temperature is not positive.

    Example:
        >>> logits = torch.tensor([[0.0, 1.0]], requires_grad=True)
        >>> z = straight_through(logits, torch.zeros(1, 2), temperature=1.0)
        >>> z.tolist(), torch.autograd.grad(z[0, 1], logits)[0]
        ([[0.0, 1.0]], tensor([[-0.1966,  0.1966]]))

    References:
        Jang, Gu and Poole, *Categorical Reparameterization with Gumbel-Softmax*, 2017,
        section 2.2.
    """
    y = gumbel_softmax(logits, g, temperature)
    hard = torch.zeros_like(y).scatter(-1, y.argmax(-1, keepdim=True), 1.0)
    return hard - y.detach() + y


def log_density(y: Relaxed, logits: Logits, temperature: float) -> PerExample:
    r"""Evaluate the log density of relaxed draws, as a density of any K - 1 of their coordinates.

    .. math::
        p(y) = \prod_d\,(K - 1)!\;\tau^{K-1}\,
        \frac{\prod_k e^{\ell_k}\,y_k^{-\tau - 1}}{\big(\sum_k e^{\ell_k}\,y_k^{-\tau}\big)^K}

    Args:
        y: Points inside the simplex, shape ``(*batch, latents, classes)``.
        logits: The logits :math:`\ell`, the same shape.
        temperature: The temperature :math:`\tau`, a positive number.

    Returns:
        The log density in nats, summed over latents.

    Raises:
        InputError: If the shapes differ, or the temperature is not positive.

    Example:
        >>> third = torch.full((1, 1, 3), 1 / 3)
        >>> log_density(third, torch.zeros(1, 1, 3), temperature=1.0)  # uniform: 2! everywhere
        tensor([0.6931])

    References:
        Maddison, Mnih and Teh, *The Concrete Distribution*, 2017, definition 1.
    """
    checks.require_same_shape(y=y, logits=logits)
    _require_temperature(temperature)
    classes, log_y = y.shape[-1], y.log()
    terms = torch.log_softmax(logits - temperature * log_y, -1) - log_y
    constant = math.lgamma(classes) + (classes - 1) * math.log(temperature)
    return (terms.sum(-1) + constant).sum(-1)
