r"""Test whether a posterior is the true one, by simulation: draw a code, then data, then compare.

.. math::
    z \sim p(z), \quad x \sim p(x \mid z) \quad\Rightarrow\quad z \mid x \sim p(z \mid x)

The code is a draw from the true posterior of its data. So if :math:`q(z \mid x)` is the true
posterior, the code is like any draw from q: its standardised distance from the mean is standard
normal, for a Gaussian q, and its rank among draws is uniform, for any q. Both hold given x, so the
scores are independent of the data too. A posterior that is equal to the prior passes all tests but
the one of this independence.
"""

import math

import torch
from torch import Tensor

from vae_ref import checks
from vae_ref.shapes import Codes, Noise, PerExample

__all__ = ["p_values", "ranks", "scores", "uniform_scores"]


def scores(z: Codes, mu: Codes, logvar: Codes) -> Codes:
    r"""Standardise the codes that the data were simulated from.

    .. math:: s = \frac{z - \mu(x)}{\sigma(x)} \sim N(0, 1) \quad\text{if}\quad q = p(z \mid x)

    Args:
        z: The codes, shape ``(examples, latent)``.
        mu: The means of the posteriors, the same shape.
        logvar: Their log variances, the same shape.

    Returns:
        The scores, the same shape.

    Raises:
        InputError: If the shapes differ.

    Example:
        >>> scores(torch.ones(1, 1), torch.zeros(1, 1), torch.tensor([[4.0]]).log())
        tensor([[0.5000]])

    References:
        Cook, Gelman and Rubin, *Validation of Software for Bayesian Models Using Posterior
        Quantiles*, 2006, section 2.
    """
    checks.require_same_shape(z=z, mu=mu, logvar=logvar)
    return (z - mu) * torch.exp(-logvar / 2)


def ranks(z: Codes, draws: Noise, u: Codes) -> Tensor:
    r"""Count the draws that are below the codes; ties are broken at random.

    .. math:: r = \#\{z_l < z\} + \lfloor u\,(1 + \#\{z_l = z\}) \rfloor \in \{0, \dots, L\}

    Args:
        z: The codes, shape ``(examples, latent)``.
        draws: Draws from the posteriors of their data, shape ``(L, examples, latent)``.
        u: Uniform noise in [0, 1), the shape of ``z``.

    Returns:
        The ranks, integers, the shape of ``z``.

    Raises:
        InputError: If the shapes do not match.

    Example:
        >>> ranks(torch.tensor([[0.5]]), torch.tensor([[[0.0]], [[1.0]]]), torch.zeros(1, 1))
        tensor([[1]])

    References:
        Talts et al., *Validating Bayesian Inference Algorithms with Simulation-Based
        Calibration*, 2018, theorem 1.
    """
    checks.require_same_shape(z=z, u=u)
    checks.require_extends("draws", draws, "z", z)
    return (draws < z).sum(0) + (u * (1 + (draws == z).sum(0))).long()


def uniform_scores(rank: Tensor, draws: int, u: Codes) -> Codes:
    r"""Turn uniform ranks into standard normal scores.

    .. math:: s = \Phi^{-1}\Big(\frac{r + u}{L + 1}\Big)

    The noise spreads each rank over an interval, so that the scores have no steps.

    Args:
        rank: The ranks :math:`r` among ``draws`` draws, shape ``(examples, latent)``.
        draws: The number of draws :math:`L`.
        u: Uniform noise in (0, 1), the same shape.

    Returns:
        The scores, the same shape.

    Raises:
        InputError: If the shapes differ.

    Example:
        >>> uniform_scores(torch.tensor([0, 1, 2]), 2, torch.full((3,), 0.5))
        tensor([-0.9674,  0.0000,  0.9674])

    References:
        Dunn and Smyth, *Randomized Quantile Residuals*, 1996; Talts et al., *Validating Bayesian
        Inference Algorithms with Simulation-Based Calibration*, 2018, theorem 1: the ranks are
        uniform.
    """
    checks.require_same_shape(rank=rank, u=u)
    return torch.special.ndtri((rank + u) / (draws + 1))  # type: ignore[no-any-return]


def p_values(scores: Codes) -> tuple[PerExample, PerExample]:
    r"""Test that scores are standard normal, by two exact tests: of their mean and of their size.

    .. math:: \bar s \sim N(0, 1/n), \qquad \textstyle\sum_{i=1}^n s_i^2 \sim \chi^2_n

    Args:
        scores: The scores of :math:`n` examples, shape ``(examples, latent)``.

    Returns:
        Two p-values for each latent, two-sided, shape ``(latent)`` each.

    Example:
        >>> p_values(torch.tensor([[0.5], [-0.5], [1.5], [-1.5]], dtype=torch.float64))
        (tensor([1.], dtype=torch.float64), tensor([0.5746], dtype=torch.float64))

    References:
        Cook, Gelman and Rubin, *Validation of Software for Bayesian Models Using Posterior
        Quantiles*, 2006, section 2, for the test of the squares.
    """
    n = torch.tensor(len(scores) / 2, dtype=scores.dtype)
    mean = 2 * torch.special.ndtr(-scores.mean(0).abs() * math.sqrt(len(scores)))
    below = torch.special.gammainc(n, scores.square().sum(0) / 2)
    return mean, 2 * torch.minimum(below, 1 - below)
