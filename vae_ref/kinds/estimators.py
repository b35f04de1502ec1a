r"""Estimate the gradient of the ELBO and of the bound along the path of the samples.

.. math::
    \nabla_\phi \log w = \underbrace{\frac{\partial \log w}{\partial z}
    \frac{\partial z}{\partial \phi}}_{\text{path}}
    - \underbrace{\frac{\partial \log q_\phi(z)}{\partial \phi}}_{\text{score function}},
    \qquad \log w = \log p(x, z) - \log q_\phi(z)

Both functions return a surrogate, whose value is the ELBO or the bound, and whose gradient is
the estimator; it is to be maximised. ``vae_ref.objective.importance_weighted_bound`` is the bound
of IWAE, which needs no surrogate.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from vae_ref.gaussian import log_density, reparameterize
from vae_ref.objective import importance_weighted_bound
from vae_ref.shapes import Codes, Noise, PerDraw, PerExample

__all__ = ["doubly_reparameterized", "sticking_the_landing", "with_value"]

LogJoint = Callable[[Noise], PerDraw]


def with_value(gradient: Tensor, value: Tensor) -> Tensor:
    r"""Return a surrogate with the gradient of one tensor and the value of another.

    .. math:: s = g + \mathrm{sg}[v - g], \qquad s = v, \qquad \nabla s = \nabla g

    Args:
        gradient: The tensor :math:`g`, of any shape.
        value: The tensor :math:`v`, the same shape; its own gradient does not count.

    Returns:
        The surrogate :math:`s`, the same shape, in the units of ``value``.

    Example:
        >>> x = torch.tensor(3.0, requires_grad=True)
        >>> y = with_value(x, torch.tensor(7.0))
        >>> y.item(), torch.autograd.grad(y, x)[0].item()
        (7.0, 1.0)

    References:
        Bengio, Leonard and Courville, *Estimating or Propagating Gradients Through Stochastic
        Neurons for Conditional Computation*, 2013: the straight-through estimator is of this form.
    """
    return gradient + (value - gradient).detach()


def sticking_the_landing(mu: Codes, logvar: Codes, eps: Noise, log_joint: LogJoint) -> PerExample:
    r"""Return a surrogate of the ELBO, whose gradient is that of the path alone.

    .. math::
        \nabla_\phi = \frac1K \sum_k \frac{\partial}{\partial z_k}
        \big(\log p(x, z_k) - \log q_\phi(z_k)\big)\,\frac{\partial z_k}{\partial \phi},
        \qquad z_k = \mu + \sigma \varepsilon_k

    The score function, which is left out, has the mean zero. At the true posterior, what remains
    is zero for every noise; the whole gradient is zero there only in the mean.

    Args:
        mu: The means of :math:`q_\phi`, shape ``(*batch, latent)``.
        logvar: Its log variances, the same shape.
        eps: Standard normal noise, shape ``(samples, *batch, latent)``.
        log_joint: :math:`\log p(x, z)` of codes in the shape of ``eps``, one value per code.

    Returns:
        The surrogate, shape ``(*batch)``; its value is an estimate of the ELBO in nats.

    Raises:
        InputError: If shapes do not match.

    Example:
        >>> mu, eps = torch.zeros(1, requires_grad=True), torch.randn(4, 1)
        >>> prior = lambda z: log_density(z, torch.zeros(1), torch.zeros(1))
        >>> sticking_the_landing(mu, torch.zeros(1), eps, prior).backward()
        >>> mu.grad
        tensor([0.])

    References:
        Roeder, Wu and Duvenaud, *Sticking the Landing: Simple, Lower-Variance Gradient Estimators
        for Variational Inference*, 2017: the path derivative.
    """
    z = reparameterize(mu, logvar, eps)
    return (log_joint(z) - log_density(z, mu.detach(), logvar.detach())).mean(0)


def doubly_reparameterized(
    mu: Codes, logvar: Codes, eps: Noise, log_joint: LogJoint
) -> PerExample:
    r"""Return a surrogate of the bound, whose score function is reparametrised too.

    .. math::
        \nabla_\phi = \sum_k \tilde w_k^2\,\frac{\partial \log w_k}{\partial z_k}
        \frac{\partial z_k}{\partial \phi}, \qquad
        \nabla_\theta = \sum_k \tilde w_k \nabla_\theta \log p_\theta(x, z_k), \qquad
        \tilde w_k = \frac{w_k}{\sum_j w_j}

    The ratio of mean to standard deviation of the first gradient rises with :math:`K`; that of
    IWAE falls. The gradient with respect to the parameters :math:`\theta` of the model has weights
    that are not squared.

    Args:
        mu: The means of :math:`q_\phi`, shape ``(*batch, latent)``.
        logvar: Its log variances, the same shape.
        eps: Standard normal noise, shape ``(samples, *batch, latent)``.
        log_joint: :math:`\log p(x, z)` of codes in the shape of ``eps``, one value per code.

    Returns:
        The surrogate, shape ``(*batch)``; its value is the bound in nats.

    Raises:
        InputError: If shapes do not match, or there is no sample.

    Example:
        >>> mu, eps = torch.ones(1, requires_grad=True), torch.randn(5, 1)
        >>> prior = lambda z: log_density(z, torch.zeros(1), torch.zeros(1))
        >>> doubly_reparameterized(mu, torch.zeros(1), eps, prior).shape
        torch.Size([])

    References:
        Tucker, Lawson, Gu and Maddison, *Doubly Reparameterized Gradient Estimators for Monte
        Carlo Objectives*, 2019: IWAE-DReG.
    """
    q = mu.detach(), logvar.detach()
    z = reparameterize(mu, logvar, eps)
    log_w = log_joint(z) - log_density(z, *q)
    w = torch.softmax(log_w.detach(), 0)
    of_model = log_joint(z.detach())
    return with_value(
        (w.square() * log_w + (w - w.square()) * of_model).sum(0),
        importance_weighted_bound(log_w),
    )
