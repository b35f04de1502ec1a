r"""Estimate gradients where samples cannot be differentiated, by the score function.

.. math:: \nabla E_q[r(x)] = E_q[(r(x) - b)\,\nabla \log q(x)], \qquad E_q[\nabla \log q(x)] = 0

A baseline :math:`b` that does not depend on the sample changes only the variance of the estimate.
Both functions return a surrogate, whose gradient is the estimator; it is to be maximised.
"""

import torch

from vae_ref import checks
from vae_ref.objective import importance_weighted_bound
from vae_ref.shapes import PerDraw, PerExample

__all__ = ["score_function", "vimco"]


def score_function(log_q: PerDraw, rewards: PerDraw) -> PerExample:
    r"""Return a surrogate of the expected reward; the baseline is the mean of the other rewards.

    .. math::
        \nabla = \frac1K \sum_k \Big(r_k - \frac{1}{K-1} \sum_{j \ne k} r_j\Big)
        \nabla \log q(x_k)
        = \frac{1}{K-1} \sum_k (r_k - \bar r)\,\nabla \log q(x_k)

    Args:
        log_q: :math:`\log q(x_k)` of samples of q, shape ``(samples, *batch)``, two at least.
        rewards: The rewards :math:`r_k`, the same shape; their own gradient does not count.

    Returns:
        The surrogate, shape ``(*batch)``; its value has no meaning.

    Raises:
        InputError: If the shapes differ, or there are fewer than two samples.

    Example:
        >>> log_q = torch.zeros(2, requires_grad=True)
        >>> score_function(log_q, torch.tensor([1.0, 3.0])).backward()
        >>> log_q.grad
        tensor([-1.,  1.])

    References:
        Kool, van Hoof and Welling, *Buy 4 REINFORCE Samples, Get a Baseline for Free!*, 2019.
    """
    _require_samples(log_q=log_q, rewards=rewards)
    centred = rewards.detach() - rewards.detach().mean(0)
    return (centred * log_q).sum(0) / (len(log_q) - 1)


def vimco(log_w: PerDraw, log_q: PerDraw) -> PerExample:
    r"""Return a surrogate of the importance-weighted bound of samples that are not differentiated.

    .. math::
        \nabla = \sum_k \big(L_K - L_{-k}\big)\,\nabla \log q(z_k) + \nabla L_K, \qquad
        L_{-k} = \log \frac1K \Big(\sum_{j \ne k} w_j
        + \prod_{j \ne k} w_j^{1/(K-1)}\Big)

    The learning signal of a sample is how much the bound falls if the geometric mean of the other
    weights takes the place of its own. The baseline :math:`L_{-k}` does not depend on the sample.

    Args:
        log_w: The log weights :math:`\log p(x, z_k) - \log q(z_k)`, shape ``(samples, *batch)``,
            two samples at least.
        log_q: :math:`\log q(z_k)`, the same shape.

    Returns:
        The surrogate, shape ``(*batch)``; its value has no meaning.

    Raises:
        InputError: If the shapes differ, or there are fewer than two samples.

    Example:
        >>> log_q = torch.zeros(2, requires_grad=True)
        >>> vimco(torch.tensor([0.0, 3.0]).log1p(), log_q).backward()  # weights of 1 and 4
        >>> log_q.grad  # log 2.5/4 and log 2.5/1
        tensor([-0.4700,  0.9163])

    References:
        Mnih and Rezende, *Variational Inference for Monte Carlo Objectives*, 2016: local learning
        signals.
    """
    _require_samples(log_w=log_w, log_q=log_q)
    bound, fixed = importance_weighted_bound(log_w), log_w.detach()
    without = []
    for k in range(len(fixed)):
        others = torch.cat([fixed[:k], fixed[k + 1 :]])
        replaced = torch.cat([others, others.mean(0, keepdim=True)])
        without.append(importance_weighted_bound(replaced))
    signal = bound.detach() - torch.stack(without)
    return (signal * log_q).sum(0) + bound


def _require_samples(**tensors: PerDraw) -> None:
    """Raise `InputError` unless the shapes agree and there are two samples."""
    checks.require_same_shape(**tensors)
    name, tensor = next(iter(tensors.items()))
    if not tensor.ndim or len(tensor) < 2:
        raise checks.InputError(
            name,
            "have two samples or more on the first axis",
            tuple(tensor.shape),
            "The baseline of a sample is made of the others.",
        )
