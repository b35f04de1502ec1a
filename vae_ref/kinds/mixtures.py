r"""Mixtures of Gaussians as priors, among them the VampPrior.

.. math:: p(z) = \sum_k w_k\, N(z; \mu_k, \operatorname{diag}\sigma_k^2), \qquad \sum_k w_k = 1
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from vae_ref import checks, gaussian
from vae_ref.shapes import Codes, Noise, PerDraw

__all__ = ["VampPrior", "draw", "log_density"]

Encoder = Callable[[Tensor], tuple[Tensor, Tensor]]


def log_density(z: Noise, logits: Tensor, mu: Codes, logvar: Codes) -> PerDraw:
    r"""Evaluate the log density of a mixture.

    .. math::
        \log p(z) = \log \sum_k e^{\log w_k + \log N(z; \mu_k, \sigma_k^2)}, \qquad
        w = \operatorname{softmax}(\text{logits})

    Args:
        z: The codes, shape ``(*batch, latent)``.
        logits: The log weights up to a constant, shape ``(components,)``.
        mu: The means, shape ``(components, latent)``.
        logvar: The log variances, the same shape.

    Returns:
        The log density in nats, one value per code.

    Raises:
        InputError: If the shapes do not match.

    Example:
        >>> zero = torch.zeros(2, 1)  # two components that are the same
        >>> log_density(torch.zeros(1), torch.zeros(2), zero, zero)
        tensor(-0.9189)

    References:
        Bishop, *Pattern Recognition and Machine Learning*, 2006, equation 2.188.
    """
    _require_components(logits, mu)
    parts = gaussian.log_density(z.unsqueeze(-2).expand(*z.shape[:-1], *mu.shape), mu, logvar)
    return torch.logsumexp(torch.log_softmax(logits, 0) + parts, -1)


def draw(logits: Tensor, mu: Codes, logvar: Codes, gumbel: Tensor, eps: Noise) -> Noise:
    r"""Draw from a mixture: choose a component by Gumbel noise, and draw from it.

    .. math:: k = \operatorname{argmax}_k(\log w_k + g_k), \qquad z = \mu_k + \sigma_k\varepsilon

    Args:
        logits: The log weights up to a constant, shape ``(components,)``.
        mu: The means, shape ``(components, latent)``.
        logvar: The log variances, the same shape.
        gumbel: Gumbel noise, ``-log(-log(uniform))``, shape ``(*batch, components)``.
        eps: Standard normal noise, shape ``(*batch, latent)``.

    Returns:
        The draws, in the shape of ``eps``.

    Raises:
        InputError: If the shapes do not match.

    Example:
        >>> mu = torch.tensor([[1.0], [2.0]])
        >>> gumbel = torch.tensor([[0.0, 9.0], [9.0, 0.0]])
        >>> draw(torch.zeros(2), mu, 0 * mu, gumbel, torch.zeros(2, 1))
        tensor([[2.],
                [1.]])

    References:
        Maddison, Tarlow and Minka, *A\* Sampling*, 2014, section 2.
    """
    _require_components(logits, mu)
    chosen = torch.argmax(logits + gumbel, -1)
    return gaussian.reparameterize(mu[chosen], logvar[chosen], eps)


class VampPrior(nn.Module):
    r"""The prior that is the average posterior of pseudo-inputs, which are learned.

    .. math:: p(z) = \frac1K \sum_{k=1}^K q(z \mid u_k)

    Args:
        encode: The encoder, ``u`` -> ``(mu, logvar)``.
        pseudo_inputs: The initial pseudo-inputs, shape ``(components, pixels)``.

    Example:
        >>> prior = VampPrior(lambda u: (u, 0 * u), torch.zeros(3, 1))
        >>> prior.log_density(torch.zeros(5, 1)).shape
        torch.Size([5])

    References:
        Tomczak and Welling, *VAE with a VampPrior*, 2018, equation 9.
    """

    def __init__(self, encode: Encoder, pseudo_inputs: Tensor) -> None:
        super().__init__()
        self.encode = encode
        self.pseudo_inputs = nn.Parameter(pseudo_inputs.clone())

    def components(self) -> tuple[Tensor, Codes, Codes]:
        """Return the logits, means and log variances of the mixture; the weights are equal."""
        mu, logvar = self.encode(self.pseudo_inputs)
        return mu.new_zeros(len(mu)), mu, logvar

    def log_density(self, z: Noise) -> PerDraw:
        """Evaluate the log density in nats, one value per code."""
        return log_density(z, *self.components())


def _require_components(logits: Tensor, mu: Tensor) -> None:
    got, expected = tuple(logits.shape), tuple(mu.shape[:-1])
    if got != expected or len(expected) != 1:
        raise checks.InputError("logits", f"have the shape {expected}", got, "Pass one for each.")
