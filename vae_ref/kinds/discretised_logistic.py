r"""Likelihoods of the 256 levels of a grey pixel: the discretised logistic, and its mixture.

A level has the probability that a logistic distribution gives to the interval around it, up to
halfway to its neighbours. The first and the last level also have that of all that is beyond them.
So the probabilities of the levels add up to 1; densities at the levels would not.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_ref import checks
from vae_ref.kinds.classes import draw_categorical
from vae_ref.shapes import Noise, Outputs, PerExample, Pixels

__all__ = ["draw_logistic", "draw_mixture", "log_level", "logistic_nll", "mixture_nll"]


def log_level(x: Tensor, mean: Tensor, log_scale: Tensor, *, levels: int = 256) -> Tensor:
    r"""Compute the log probability of levels in [0, 1], elementwise.

    .. math::
        \log p(x) = \log\big(s(a) - s(b)\big) = \log s(a) + \log s(-b) + \log(1 - e^{b - a}),
        \qquad a, b = (x - \mu \pm \tfrac12 w) / e^{\text{log scale}}

    with the sigmoid function :math:`s` and the distance :math:`w` between two levels. The first
    level has :math:`\log s(a)`, the last one :math:`\log s(-b)`. The second form loses no digits,
    and is finite however far a level is from the mean.

    Args:
        x: The levels, multiples of ``1 / (levels - 1)``, of any shape.
        mean: The means of the logistic distributions, in the same units, a shape that is
            broadcast with that of ``x``.
        log_scale: The logarithms of their scales, likewise.
        levels: The number of levels.

    Returns:
        The log probabilities in nats, one for each level.

    Example:
        >>> x = torch.linspace(0, 1, 256)
        >>> f"{log_level(x, torch.tensor(0.2), torch.tensor(-3.0)).exp().sum():.6f}"
        '1.000000'

    References:
        Salimans et al., *PixelCNN++*, 2017, equation 2.
    """
    half = 0.5 / (levels - 1)
    inverse = torch.exp(-log_scale)
    above, below = (x - mean + half) * inverse, (x - mean - half) * inverse
    width = torch.log(-torch.expm1(-2 * half * inverse))
    first, last = x < half, x > 1 - half
    inner = F.logsigmoid(above) + F.logsigmoid(-below) + width
    edges = torch.where(first, F.logsigmoid(above), F.logsigmoid(-below))
    return torch.where(first | last, edges, inner)


def logistic_nll(x: Pixels, mean: Outputs, log_scale: Tensor, *, levels: int = 256) -> PerExample:
    r"""Compute the score of grey levels.

    .. math:: -\log p(x) = -\sum_i \log\big(s(a_i) - s(b_i)\big)

    The terms are those of `log_level`.

    Args:
        x: The pixels, levels in [0, 1], shape ``(*batch, pixels)``.
        mean: The means, the same shape.
        log_scale: The logarithms of the scales, a shape that is broadcast to that of ``x``.
        levels: The number of levels.

    Returns:
        The score in nats, one value per example.

    Raises:
        InputError: If the shapes do not match or a pixel is outside [0, 1].

    Example:
        >>> logistic_nll(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor(9.0))  # 2 log 2
        tensor([1.3863])

    References:
        Salimans et al., *PixelCNN++*, 2017, equation 2.
    """
    checks.require_extends("mean", mean, "x", x)
    checks.require_in_unit_interval("x", x)
    return -log_level(x, mean, log_scale, levels=levels).sum(-1)


def draw_logistic(mean: Tensor, log_scale: Tensor, noise: Tensor, *, levels: int = 256) -> Tensor:
    r"""Turn uniform noise into levels: round draws of a logistic distribution.

    .. math::
        x = \frac{\operatorname{round}\big((L - 1)\,y\big)}{L - 1}, \qquad
        y = \min\Big(1, \max\Big(0,\; \mu + e^{\text{log scale}} \log\frac{u}{1 - u}\Big)\Big)

    Args:
        mean: The means :math:`\mu`, of any shape.
        log_scale: The logarithms of the scales, a shape that is broadcast with that of ``mean``.
        noise: Uniform noise :math:`u` in (0, 1), in the shape of the draws.
        levels: The number of levels :math:`L`.

    Returns:
        The levels in [0, 1], in the shape of ``noise``.

    Example:
        >>> noise = torch.tensor([0.1, 0.5, 0.99])
        >>> draw_logistic(torch.tensor(0.25), torch.tensor(-2.0), noise, levels=5)
        tensor([0.0000, 0.2500, 0.7500])

    References:
        Salimans et al., *PixelCNN++*, 2017, equation 1, with one component.
    """
    x = (mean + torch.exp(log_scale) * torch.logit(noise)).clamp(0, 1)
    return torch.round(x * (levels - 1)) / (levels - 1)


def mixture_nll(
    x: Pixels, logits: Tensor, mean: Tensor, log_scale: Tensor, *, levels: int = 256
) -> PerExample:
    r"""Compute the score of grey levels under several logistic distributions.

    .. math:: -\log p(x) = -\sum_i \log \sum_k \mathrm{softmax}(l_i)_k\, p_k(x_i)

    Args:
        x: The pixels, levels in [0, 1], shape ``(*batch, pixels)``.
        logits: The weights of the components before the softmax, ``(*batch, pixels, components)``.
        mean: The means, the same shape.
        log_scale: The logarithms of the scales, the same shape.
        levels: The number of levels.

    Returns:
        The score in nats, one value per example.

    Raises:
        InputError: If the shapes do not match or a pixel is outside [0, 1].

    Example:
        >>> x, zero = torch.zeros(1, 2), torch.zeros(1, 2, 3)  # three components that are the same
        >>> mixture_nll(x, zero, zero, zero + 9)  # 2 log 2
        tensor([1.3863])

    References:
        Salimans et al., *PixelCNN++*, 2017, equations 1 and 2.
    """
    checks.require_same_shape(logits=logits, mean=mean, log_scale=log_scale)
    checks.require_in_unit_interval("x", x)
    components = log_level(x.unsqueeze(-1), mean, log_scale, levels=levels)
    return -torch.logsumexp(torch.log_softmax(logits, -1) + components, -1).sum(-1)


def draw_mixture(
    logits: Tensor, mean: Tensor, log_scale: Tensor, choice: Noise, noise: Noise
) -> Outputs:
    r"""Turn two uniform numbers for each pixel into a level.

    .. math:: k \sim \mathrm{softmax}(l), \qquad x \sim p_k(x)

    Args:
        logits: The logits :math:`l`, shape ``(*batch, pixels, components)``.
        mean: The means, the same shape.
        log_scale: The logarithms of the scales, the same shape.
        choice: Uniform noise in [0, 1), which chooses the component, shape ``(*batch, pixels)``.
        noise: Uniform noise in (0, 1), which chooses the level, the same shape.

    Returns:
        The levels in [0, 1], multiples of 1/255, shape ``(*batch, pixels)``.

    Example:
        >>> mean, half = torch.tensor([[0.2, 0.8]]), torch.tensor([0.5])
        >>> draw_mixture(0 * mean, mean, 0 * mean, torch.tensor([0.9]), half)
        tensor([0.8000])

    References:
        Salimans et al., *PixelCNN++*, 2017, equation 1.
    """
    k = draw_categorical(logits, choice).unsqueeze(-1)
    mean, log_scale = mean.gather(-1, k), log_scale.gather(-1, k)
    return draw_logistic(mean.squeeze(-1), log_scale.squeeze(-1), noise)
