r"""Compute with codes that are discrete: each latent takes one of K classes.

.. math::
    q(z \mid x) = \prod_d q_{d, z_d}, \qquad q_{dk} = \frac{e^{\ell_{dk}}}{\sum_j e^{\ell_{dj}}}

An encoder outputs the ``logits`` :math:`\ell`, shape ``(*batch, latents, classes)``. Adding the
same number to all logits of a latent changes nothing. The functions return one value per example,
in nats; `vae_ref.kinds.gumbel` draws such codes.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vae_ref import checks
from vae_ref.shapes import PerExample

__all__ = ["Logits", "entropy", "kl_between", "kl_to_uniform"]

Logits = Float[Tensor, "*batch latents classes"]


def entropy(logits: Logits) -> PerExample:
    r"""Compute the entropy of the codes.

    .. math:: H(q) = -\sum_d \sum_k q_{dk} \log q_{dk}

    Args:
        logits: The logits, shape ``(*batch, latents, classes)``; they have to be finite.

    Returns:
        The entropy in nats, summed over latents, from 0 to latents times log K.

    Example:
        >>> entropy(torch.zeros(2, 3, 4))  # 3 log 4
        tensor([4.1589, 4.1589])

    References:
        Cover and Thomas, *Elements of Information Theory*, 2006, equation 2.1.
    """
    log_q = torch.log_softmax(logits, -1)
    return -(log_q.exp() * log_q).sum((-2, -1))


def kl_between(logits: Logits, prior_logits: Logits) -> PerExample:
    r"""Compute the divergence of one distribution of codes from another.

    .. math:: \mathrm{KL}(q\,\|\,p) = \sum_d \sum_k q_{dk} \log\frac{q_{dk}}{p_{dk}}

    Args:
        logits: The logits of :math:`q`, shape ``(*batch, latents, classes)``; finite.
        prior_logits: The logits of :math:`p`, the same shape.

    Returns:
        The divergence in nats, summed over latents.

    Raises:
        InputError: If the shapes differ.

    Example:
        >>> q = torch.tensor([[[1000.0, 0.0]]])  # certain of the first class
        >>> kl_between(q, torch.tensor([[[0.25, 0.75]]]).log())
        tensor([1.3863])

    References:
        Cover and Thomas, *Elements of Information Theory*, 2006, equation 2.26.
    """
    checks.require_same_shape(logits=logits, prior_logits=prior_logits)
    log_q, log_p = torch.log_softmax(logits, -1), torch.log_softmax(prior_logits, -1)
    return (log_q.exp() * (log_q - log_p)).sum((-2, -1))


def kl_to_uniform(logits: Logits) -> PerExample:
    r"""Compute the divergence from the prior that gives all codes the same probability.

    .. math:: \mathrm{KL}(q\,\|\,\mathrm{uniform}) = \sum_d \Big(\log K + \sum_k
        q_{dk} \log q_{dk}\Big)

    Args:
        logits: The logits, shape ``(*batch, latents, classes)``; they have to be finite.

    Returns:
        The divergence in nats, summed over latents, from 0 to latents times log K.

    Example:
        >>> kl_to_uniform(torch.tensor([[[0.0, 0.0]], [[1000.0, 0.0]]]))
        tensor([0.0000, 0.6931])

    References:
        Jang, Gu and Poole, *Categorical Reparameterization with Gumbel-Softmax*, 2017,
        section 4.2: the divergence of the discrete codes, not of the relaxed ones.
    """
    log_q = torch.log_softmax(logits, -1)
    return (log_q.exp() * (log_q + math.log(logits.shape[-1]))).sum((-2, -1))
