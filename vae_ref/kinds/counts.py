r"""Likelihoods of counts: Poisson, negative binomial, and negative binomial with excess zeros.

The functions are elementwise: a score is minus their sum over the last axis, in nats.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_ref import checks
from vae_ref.shapes import Noise, Pixels

__all__ = ["draw_count", "log_negative_binomial", "log_poisson", "log_zero_inflated"]


def log_poisson(x: Pixels, rate: Tensor) -> Tensor:
    r"""Compute the log probability of Poisson counts, whose mean and variance are the rate.

    .. math:: \log p(x) = x \log\lambda - \lambda - \log x!

    Args:
        x: The counts, shape ``(*batch, pixels)``.
        rate: The rates :math:`\lambda`, a shape that is broadcast to that of ``x``.

    Returns:
        The log probabilities in nats, one for each count.

    Raises:
        InputError: If a rate is not positive.

    Example:
        >>> log_poisson(torch.tensor([0.0, 1.0]), torch.tensor(2.0))
        tensor([-2.0000, -1.3069])

    References:
        Johnson, Kemp and Kotz, *Univariate Discrete Distributions*, 2005, equation 4.1.
    """
    checks.require_positive("rate", rate)
    return torch.xlogy(x, rate) - rate - torch.lgamma(x + 1)


def log_negative_binomial(x: Pixels, mean: Tensor, theta: Tensor) -> Tensor:
    r"""Compute the log probability of counts whose rate varies: the negative binomial.

    .. math::
        p(x) = \frac{\Gamma(x + \theta)}{\Gamma(\theta)\,x!}
        \Big(\frac\theta{\theta + \mu}\Big)^\theta \Big(\frac\mu{\theta + \mu}\Big)^x
        = \int \mathrm{Poisson}(x; \lambda)\,\mathrm{Gamma}(\lambda; \theta, \theta/\mu)\,d\lambda

    The mean is :math:`\mu`, the variance :math:`\mu + \mu^2/\theta`.

    Args:
        x: The counts, shape ``(*batch, pixels)``.
        mean: The means :math:`\mu`, a shape that is broadcast to that of ``x``.
        theta: The inverse dispersions :math:`\theta`, likewise.

    Returns:
        The log probabilities in nats, one for each count.

    Raises:
        InputError: If a mean or an inverse dispersion is not positive.

    Example:
        >>> one = torch.tensor(1.0)
        >>> log_negative_binomial(torch.arange(3.0), one, one).exp()  # geometric
        tensor([0.5000, 0.2500, 0.1250])

    References:
        Lopez et al., *Deep generative modeling for single-cell transcriptomics*, 2018,
        supplementary note 4.
    """
    checks.require_positive("mean", mean)
    checks.require_positive("theta", theta)
    coefficient = torch.lgamma(x + theta) - torch.lgamma(theta) - torch.lgamma(x + 1)
    odds = torch.log(mean / theta)
    return coefficient + theta * F.logsigmoid(-odds) + x * F.logsigmoid(odds)


def log_zero_inflated(x: Pixels, mean: Tensor, theta: Tensor, gate_logits: Tensor) -> Tensor:
    r"""Compute the log probability of negative binomial counts with excess zeros.

    .. math::
        p(x) = \pi\,1(x = 0) + (1 - \pi)\,\mathrm{NB}(x; \mu, \theta), \qquad
        \pi = 1/(1 + e^{-l})

    The mean is :math:`(1 - \pi)\mu`.

    Args:
        x: The counts, shape ``(*batch, pixels)``.
        mean: The means :math:`\mu` of the counts without excess zeros, a shape that is broadcast
            to that of ``x``.
        theta: The inverse dispersions :math:`\theta`, likewise.
        gate_logits: The logits :math:`l` of an excess zero, likewise.

    Returns:
        The log probabilities in nats, one for each count.

    Raises:
        InputError: If a mean or an inverse dispersion is not positive.

    Example:
        >>> one = torch.tensor(1.0)
        >>> log_zero_inflated(torch.arange(3.0), one, one, 0 * one).exp()
        tensor([0.7500, 0.1250, 0.0625])

    References:
        Lopez et al., *Deep generative modeling for single-cell transcriptomics*, 2018,
        supplementary note 4.
    """
    counts = F.logsigmoid(-gate_logits) + log_negative_binomial(x, mean, theta)
    return torch.where(x == 0, torch.logaddexp(F.logsigmoid(gate_logits), counts), counts)


def draw_count(log_probability: Callable[[Tensor], Tensor], noise: Noise) -> Tensor:
    r"""Turn uniform noise into counts: add up probabilities until they exceed the noise.

    .. math:: x = \min\Big\{k : u < \sum_{j=0}^k p(j)\Big\}

    Args:
        log_probability: The log probability :math:`\log p` of a count, elementwise, such as
            ``lambda x: log_poisson(x, rate)``.
        noise: Uniform noise :math:`u` in [0, 1), in the shape of the draws.

    Returns:
        The counts, in the shape of ``noise``.

    Example:
        >>> draw_count(lambda x: log_poisson(x, torch.tensor(2.0)), torch.tensor([0.1, 0.2, 0.9]))
        tensor([0., 1., 4.])

    References:
        Devroye, *Non-Uniform Random Variate Generation*, 1986, section III.2.
    """
    u = noise.double().clamp(max=1 - 1e-12)  # beyond, all probabilities may add up to less
    x = torch.zeros_like(noise)
    below = log_probability(x).double().exp()
    while bool((more := u >= below).any()):
        x = x + more
        below = torch.where(more, below + log_probability(x).double().exp(), below)
    return x
