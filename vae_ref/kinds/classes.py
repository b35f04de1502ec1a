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
    r"""Compute the score of classes: :math:`-\sum_i \log \mathrm{softmax}(l_i)_{x_i}`.

    Args:
        x: The indices of the classes, shape ``(*batch, pixels)``.
        logits: The logits, shape ``(*batch, pixels, classes)``.

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
        x: The counts, shape ``(*batch, classes)``.
        logits: The logits, the same shape.

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
    """Turn uniform noise in [0, 1), a number for each pixel, into classes."""
    below = torch.softmax(logits, -1).cumsum(-1)[..., :-1]
    return (noise.unsqueeze(-1) >= below).sum(-1)


def draw_multinomial(logits: Tensor, noise: Tensor) -> Pixels:
    """Turn uniform noise, one number on the last axis for each of N draws, into counts."""
    classes = draw_categorical(logits.unsqueeze(-2), noise)
    return F.one_hot(classes, logits.shape[-1]).sum(-2).to(logits)
