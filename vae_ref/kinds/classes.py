r"""Likelihoods of classes: categorical, and multinomial for the counts of classes.

The scores are in nats, with all constants, one value per example.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_ref import checks
from vae_ref.shapes import Noise, PerExample, Pixels

__all__ = ["categorical_nll", "draw_categorical", "draw_multinomial", "multinomial_nll"]


def categorical_nll(x: Tensor, logits: Tensor) -> PerExample:
    r"""Compute the score of classes.

    .. math:: -\log p(x) = -\sum_i \log \mathrm{softmax}(l_i)_{x_i}

    Args:
        x: The indices :math:`x_i` of the classes, shape ``(*batch, pixels)``.
        logits: The logits :math:`l_i`, shape ``(*batch, pixels, classes)``.

    Returns:
        The score in nats, one value per example.

    Example:
        >>> categorical_nll(torch.tensor([[0, 1]]), torch.zeros(1, 2, 4))  # 2 log 4
        tensor([2.7726])

    References:
        Bishop, *Pattern Recognition and Machine Learning*, 2006, equation 4.108.
    """
    logs = torch.log_softmax(logits, -1)
    return -logs.gather(-1, x.unsqueeze(-1)).squeeze(-1).sum(-1)


def multinomial_nll(x: Pixels, logits: Tensor) -> PerExample:
    r"""Compute the score of the counts of classes in N draws.

    .. math:: -\log p(x) = -\log\frac{N!}{\prod_k x_k!} - \sum_k x_k \log\mathrm{softmax}(l)_k

    Args:
        x: The counts :math:`x_k`, shape ``(*batch, classes)``; their sum is :math:`N`.
        logits: The logits :math:`l`, the same shape.

    Returns:
        The score in nats, one value per example.

    Raises:
        InputError: If the shapes differ.

    Example:
        >>> multinomial_nll(torch.ones(1, 2), torch.zeros(1, 2))  # log 2
        tensor([0.6931])

    References:
        Bishop, *Pattern Recognition and Machine Learning*, 2006, equation 2.34.
    """
    checks.require_same_shape(x=x, logits=logits)
    ways = torch.lgamma(x.sum(-1) + 1) - torch.lgamma(x + 1).sum(-1)
    return -(ways + (x * torch.log_softmax(logits, -1)).sum(-1))


def draw_categorical(logits: Tensor, noise: Noise) -> Tensor:
    r"""Turn uniform noise into classes, by the inverse of their distribution function.

    .. math:: x = \min\Big\{k : u < \sum_{j \le k} \mathrm{softmax}(l)_j\Big\}

    Args:
        logits: The logits :math:`l`, shape ``(*batch, pixels, classes)``.
        noise: Uniform noise :math:`u` in [0, 1), shape ``(*batch, pixels)``, or with additional
            leading axes.

    Returns:
        The indices of the classes, in the shape of ``noise``.

    Example:
        >>> draw_categorical(torch.zeros(3, 4), torch.tensor([0.1, 0.6, 0.9]))
        tensor([0, 2, 3])

    References:
        Devroye, *Non-Uniform Random Variate Generation*, 1986, section III.2.
    """
    below = torch.softmax(logits, -1).cumsum(-1)[..., :-1]
    return (noise.unsqueeze(-1) >= below).sum(-1)


def draw_multinomial(logits: Tensor, noise: Tensor) -> Pixels:
    r"""Turn uniform noise into the counts of classes in N draws.

    .. math:: x_k = \#\{n : c_n = k\}, \qquad c_1, \dots, c_N \sim \mathrm{softmax}(l)

    Args:
        logits: The logits :math:`l`, shape ``(*batch, classes)``.
        noise: Uniform noise in [0, 1), one number for each draw, shape ``(*batch, N)``.

    Returns:
        The counts, in the shape of ``logits``.

    Example:
        >>> draw_multinomial(torch.zeros(4), torch.tensor([0.1, 0.6, 0.9]))
        tensor([1., 0., 1., 1.])

    References:
        Bishop, *Pattern Recognition and Machine Learning*, 2006, section 2.2.
    """
    classes = draw_categorical(logits.unsqueeze(-2), noise)
    return F.one_hot(classes, logits.shape[-1]).sum(-2).to(logits)
