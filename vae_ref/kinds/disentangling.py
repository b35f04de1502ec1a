r"""The total correlation of codes, the part of the KL that beta-TC-VAE multiplies by beta.

.. math::
    E_n\,\mathrm{KL}\big(q(z \mid x_n)\,\|\,p(z)\big) = \underbrace{I(n; z)}_{\text{MI}}
    + \underbrace{\mathrm{KL}\Big(q(z)\,\Big\|\,\prod_d q(z_d)\Big)}_{\text{TC}}
    + \underbrace{\sum_d \mathrm{KL}\big(q(z_d)\,\|\,p(z_d)\big)}_{\text{dimension-wise KL}},
    \qquad q(z) = \frac1N \sum_{n=1}^N q(z \mid x_n)

The aggregate :math:`q(z)` is a sum over the whole data set. It is estimated from a batch.
"""

import math
from typing import Literal, NamedTuple

import torch

from vae_ref import checks
from vae_ref.gaussian import log_density
from vae_ref.kinds.stratified import stratified_log_weights
from vae_ref.shapes import Codes, Noise, PerExample

__all__ = ["Decomposition", "decomposition", "total_correlation"]


class Decomposition(NamedTuple):
    r"""Estimates of the parts of a KL; they add up to :math:`\log q(z \mid x) - \log p(z)`.

    Attributes:
        mutual_information: Estimates of :math:`I(n; z)` in nats, shape ``(batch)``.
        total_correlation: Estimates of the total correlation in nats, the same shape.
        dimension_wise: Estimates of the dimension-wise KL in nats, the same shape.
    """

    mutual_information: PerExample
    total_correlation: PerExample
    dimension_wise: PerExample


def decomposition(
    z: Noise,
    mu: Codes,
    logvar: Codes,
    data: int,
    *,
    sampling: Literal["weighted", "stratified"] = "weighted",
) -> Decomposition:
    r"""Estimate the three parts of the KL from a batch of codes.

    .. math::
        \Big(\log \frac{q(z_i \mid x_i)}{\hat q(z_i)},\; \log \frac{\hat q(z_i)}{\prod_d
        \hat q(z_{id})},\; \log \frac{\prod_d \hat q(z_{id})}{p(z_i)}\Big), \qquad
        \hat q(z_i) = \sum_j w_{ij}\,q(z_i \mid x_j)

    Weighted sampling has :math:`w_{ij} = 1 / (NB)`, for a batch of B examples. It is biased: if
    the batch is the whole data set, every :math:`\log\hat q` is :math:`\log N` too small. So the
    total correlation of D latents is :math:`(D - 1) \log N` too large.

    Args:
        z: One draw from every posterior, shape ``(batch, latent)``.
        mu: The means, the same shape.
        logvar: The log variances, the same shape.
        data: The size :math:`N` of the data set.
        sampling: The weights: those of minibatch ``weighted`` or ``stratified`` sampling.

    Returns:
        `Decomposition`, in nats, one value of each part per example.

    Raises:
        InputError: If the shapes differ, or, with stratified sampling, if the batch has fewer
            than two examples or more than the data set.

    Example:
        >>> same = torch.zeros(4, 2)
        >>> decomposition(same, same, same, 100).total_correlation  # log 100
        tensor([4.6052, 4.6052, 4.6052, 4.6052])

    References:
        Chen et al., *Isolating Sources of Disentanglement in VAEs*, 2018, equations 2 and S.4.
    """
    checks.require_same_shape(z=z, mu=mu, logvar=logvar)
    batch = len(z)
    if sampling == "weighted":
        log_w = torch.full((batch, batch), -math.log(data * batch), dtype=z.dtype)
    else:
        log_w = stratified_log_weights(batch, data).to(z)
    apart = z.unsqueeze(1).expand(-1, batch, -1).unsqueeze(-1)
    each = log_density(apart, mu.unsqueeze(-1), logvar.unsqueeze(-1))  # of z_id under x_j
    log_q = torch.logsumexp(log_w + each.sum(-1), 1)
    log_marginals = torch.logsumexp(log_w.unsqueeze(-1) + each, 1).sum(-1)
    log_prior = log_density(z, torch.zeros_like(mu), torch.zeros_like(mu))
    own = log_density(z, mu, logvar)
    return Decomposition(own - log_q, log_q - log_marginals, log_marginals - log_prior)


def total_correlation(
    z: Noise,
    mu: Codes,
    logvar: Codes,
    data: int,
    *,
    sampling: Literal["weighted", "stratified"] = "weighted",
) -> PerExample:
    r"""Estimate the total correlation alone, from a batch of codes.

    .. math:: \log \hat q(z_i) - \sum_d \log \hat q(z_{id}), \qquad
        \hat q(z_i) = \sum_j w_{ij}\,q(z_i \mid x_j)

    It is the second part of `decomposition`, with its bias.

    Args:
        z: One draw from every posterior, shape ``(batch, latent)``.
        mu: The means, the same shape.
        logvar: The log variances, the same shape.
        data: The size :math:`N` of the data set.
        sampling: The weights: those of minibatch ``weighted`` or ``stratified`` sampling.

    Returns:
        The estimate in nats, one value per example; their mean is that of the batch.

    Raises:
        InputError: If the shapes differ, or, with stratified sampling, if the batch has fewer
            than two examples or more than the data set.

    Example:
        >>> same = torch.zeros(4, 3)
        >>> total_correlation(same, same, same, 100)  # 2 log 100
        tensor([9.2103, 9.2103, 9.2103, 9.2103])

    References:
        Chen et al., *Isolating Sources of Disentanglement in VAEs*, 2018, equations 2 and S.4.
    """
    return decomposition(z, mu, logvar, data, sampling=sampling).total_correlation
