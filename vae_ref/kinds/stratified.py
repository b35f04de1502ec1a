"""The aggregate of the posteriors of a data set: weights to estimate it, and a known case."""

import torch
from torch import Tensor

from vae_ref import checks

__all__ = ["gaussian_total_correlation", "stratified_log_weights"]


def stratified_log_weights(batch: int, data: int) -> Tensor:
    r"""Compute the logarithms of the weights that estimate q(z) from a batch without bias.

    .. math::
        \hat q(z_i) = \sum_j w_{ij}\, q(z_i \mid x_j), \qquad w_{ii} = \frac1N, \qquad
        w_{ij} = \frac1M, \qquad w_{i,i+1} = \frac{N - M}{NM}, \qquad M = B - 1

    An example is in its own batch for certain, so its weight is 1/N: the weights depend on the
    row. Those of a row add up to 1.

    Args:
        batch: The size :math:`B` of the batch, at least 2.
        data: The size :math:`N` of the data set, at least that of the batch.

    Returns:
        The matrix :math:`\log w_{ij}`, shape ``(batch, batch)``, in double precision.

    Raises:
        InputError: If the batch has fewer than two examples, or more than the data set.

    Example:
        >>> stratified_log_weights(3, 10).exp()
        tensor([[0.1000, 0.4000, 0.5000],
                [0.5000, 0.1000, 0.4000],
                [0.4000, 0.5000, 0.1000]], dtype=torch.float64)

    References:
        Chen et al., *Isolating Sources of Disentanglement in VAEs*, 2018, appendix C.2.
    """
    checks.require_positive_integer("batch", batch)
    if batch < 2 or data < batch:
        raise checks.InputError("batch", "be 2 or more, and at most data", batch, "Take another.")
    m = batch - 1
    weights = torch.full((batch, batch), 1 / m, dtype=torch.float64)
    weights.fill_diagonal_(1 / data)
    rows = torch.arange(batch)
    weights[rows, (rows + 1) % batch] = (data - m) / (data * m)
    return weights.log()


def gaussian_total_correlation(covariance: Tensor) -> Tensor:
    r"""Compute the total correlation of a Gaussian.

    .. math::
        \mathrm{KL}\Big(q(z)\,\Big\|\,\prod_d q(z_d)\Big)
        = \tfrac12 \Big(\sum_d \log C_{dd} - \log\det C\Big)

    It is the sum of the entropies of the latents, less the entropy of all together.

    Args:
        covariance: The covariance matrices :math:`C`, shape ``(*batch, latent, latent)``.

    Returns:
        The total correlation in nats, one value per matrix.

    Example:
        >>> gaussian_total_correlation(torch.tensor([[4.0, 1.0], [1.0, 1.0]]))
        tensor(0.1438)

    References:
        Cover and Thomas, *Elements of Information Theory*, 2006, theorem 8.4.1, for the entropies.
    """
    variances = torch.diagonal(covariance, dim1=-2, dim2=-1)
    return 0.5 * (variances.log().sum(-1) - torch.logdet(covariance))
