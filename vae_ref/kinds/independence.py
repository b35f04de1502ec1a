r"""Penalties on dependent latents: that of DIP-VAE, and the discriminator of FactorVAE."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_ref import checks
from vae_ref.shapes import Codes, Noise, PerExample, Scalar

__all__ = ["dip_penalty", "discriminator_loss", "permute_latents", "tc_from_logits"]


def dip_penalty(
    mu: Codes,
    logvar: Codes,
    *,
    lambda_od: float,
    lambda_d: float,
    version: Literal["I", "II"] = "I",
) -> Scalar:
    r"""Compute the penalty on the distance of a covariance matrix from the identity.

    .. math::
        \lambda_{od} \sum_{i \ne j} C_{ij}^2 + \lambda_d \sum_i (C_{ii} - 1)^2, \qquad
        C = \operatorname{Cov}_n[\mu_n] \;\; (\text{I}), \qquad
        C = \operatorname{Cov}_n[\mu_n] + E_n[\operatorname{diag} \sigma_n^2] \;\; (\text{II})

    The covariance is that of the batch: the sum over examples is divided by their number, not by
    one less.

    Args:
        mu: The means, shape ``(batch, latent)``.
        logvar: The log variances, the same shape.
        lambda_od: The weight off the diagonal.
        lambda_d: The weight on the diagonal.
        version: Whether C is the covariance of the means, or that of the codes.

    Returns:
        The penalty, one number for the batch, to be added to the mean loss in nats.

    Raises:
        InputError: If the shapes differ.

    Example:
        >>> mu = torch.tensor([[1.0, 2.0], [-1.0, -2.0]])
        >>> dip_penalty(mu, 0 * mu, lambda_od=1.0, lambda_d=10.0)
        tensor(98.)

    References:
        Kumar, Sattigeri and Balakrishnan, *Variational Inference of Disentangled Latent Concepts*,
        2018, equations 6 and 7.
    """
    checks.require_same_shape(mu=mu, logvar=logvar)
    centred = mu - mu.mean(0)
    covariance = centred.T @ centred / len(mu)
    if version == "II":
        covariance = covariance + torch.diag(logvar.exp().mean(0))
    diagonal = covariance.diagonal()
    off = covariance.square().sum() - diagonal.square().sum()
    return lambda_od * off + lambda_d * (diagonal - 1).square().sum()


def permute_latents(z: Noise, noise: Noise) -> Noise:
    r"""Shuffle every latent over the batch on its own: draws from :math:`\prod_d q(z_d)`.

    .. math:: z'_{nd} = z_{\pi_d(n),\,d}

    Args:
        z: The codes, shape ``(batch, latent)``.
        noise: Numbers without ties, the same shape: their order in a latent is :math:`\pi_d`.

    Returns:
        The shuffled codes, the same shape.

    Raises:
        InputError: If the shapes differ.

    Example:
        >>> z = torch.tensor([[1.0, 10.0], [2.0, 20.0]])
        >>> permute_latents(z, torch.tensor([[0.1, 0.8], [0.2, 0.3]]))
        tensor([[ 1., 20.],
                [ 2., 10.]])

    References:
        Kim and Mnih, *Disentangling by Factorising*, 2018, algorithm 1.
    """
    checks.require_same_shape(z=z, noise=noise)
    return z.gather(0, noise.argsort(0))


def tc_from_logits(logits: Tensor) -> PerExample:
    r"""Estimate the log ratio whose mean is the total correlation, from a discriminator's logits.

    .. math:: \log \frac{q(z)}{\prod_d q(z_d)} \approx \log \frac{D(z)}{1 - D(z)} = l_0 - l_1

    Args:
        logits: The logits of codes, shape ``(batch, 2)``: of "joint", and of "permuted".

    Returns:
        The log ratio in nats, one value per example.

    Example:
        >>> tc_from_logits(torch.tensor([[2.0, 0.5]]))
        tensor([1.5000])

    References:
        Kim and Mnih, *Disentangling by Factorising*, 2018, equation 3.
    """
    return logits[:, 0] - logits[:, 1]


def discriminator_loss(joint: Tensor, permuted: Tensor) -> Scalar:
    r"""Compute the cross-entropy of a discriminator that tells codes from permuted codes.

    .. math:: -\tfrac12 E_{q(z)}[\log D(z)] - \tfrac12 E_{\prod_d q(z_d)}[\log(1 - D(z))]

    Args:
        joint: The logits of codes, shape ``(batch, 2)``.
        permuted: The logits of permuted codes, shape ``(batch, 2)``.

    Returns:
        The cross-entropy in nats, one number for the batch.

    Example:
        >>> discriminator_loss(torch.zeros(3, 2), torch.zeros(3, 2))
        tensor(0.6931)

    References:
        Kim and Mnih, *Disentangling by Factorising*, 2018, algorithm 2.
    """
    of_joint, of_permuted = F.log_softmax(joint, 1)[:, 0], F.log_softmax(permuted, 1)[:, 1]
    return -0.5 * (of_joint.mean() + of_permuted.mean())
