r"""Combine reconstruction and divergence into the objective of a VAE.

.. math::
    -\mathrm{ELBO}(x)
    = \underbrace{\mathbb E_{q(z \mid x)}[-\log p(x \mid z)]}_{\text{reconstruction}}
    + \underbrace{\mathrm{KL}(q(z \mid x)\,\|\,p(z))}_{\text{divergence}} \ge -\log p(x)
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F

from vae_ref import checks
from vae_ref.gaussian import kl_to_standard_normal, log_density
from vae_ref.likelihood import Bernoulli, Likelihood
from vae_ref.shapes import Codes, Images, Noise, Outputs, PerDraw, PerExample, Pixels, Scalar

__all__ = ["Terms", "importance_weighted_bound", "log_weight", "loss_function", "negative_elbo"]


class Terms(NamedTuple):
    """The two terms of the negative ELBO, in nats, one value of each per example."""

    reconstruction: PerDraw
    divergence: PerExample

    def loss(self, beta: float = 1.0) -> PerDraw:
        r"""Add the terms with a weight: :math:`\text{reconstruction} + \beta\,\text{divergence}`.

        Args:
            beta: The weight :math:`\beta`; 1 gives the negative ELBO.

        Example:
            >>> Terms(torch.tensor([80.0]), torch.tensor([25.0])).loss()
            tensor([105.])

        References:
            Higgins et al., *beta-VAE*, 2017, equation 4.
        """
        return self.reconstruction + beta * self.divergence


_BERNOULLI = Bernoulli()


def negative_elbo(
    x: Pixels, outputs: Outputs, mu: Codes, logvar: Codes, *, likelihood: Likelihood = _BERNOULLI
) -> Terms:
    r"""Compute both terms of the negative ELBO, one value of each per example.

    .. math::
        \big(-\log p(x \mid z),\;\mathrm{KL}(N(\mu, \sigma^2)\,\|\,N(0, I))\big)

    The first is an unbiased estimate from the draws of ``z`` that were decoded into
    ``outputs``; the second is exact.

    Args:
        x: The data :math:`x`, shape ``(*batch, pixels)``.
        outputs: The decoder's outputs at :math:`z`, before any sigmoid, shape
            ``(*batch, pixels)``; there may be additional leading axes, for several draws per
            example.
        mu: The means :math:`\mu` of :math:`q(z \mid x)`, shape ``(*batch, latent)``.
        logvar: The log variances of :math:`q(z \mid x)`, the same shape.
        likelihood: The distribution of the pixels, given the outputs.

    Returns:
        `Terms`, in nats.

    Raises:
        InputError: If shapes do not match or ``x`` is out of the likelihood's range.

    Example:
        >>> x, logits, code = torch.ones(2, 3), torch.zeros(2, 3), torch.ones(2, 1)
        >>> negative_elbo(x, logits, mu=code, logvar=0 * code)
        Terms(reconstruction=tensor([2.0794, 2.0794]), divergence=tensor([0.5000, 0.5000]))

    References:
        Kingma and Welling, *Auto-Encoding Variational Bayes*, 2014, equation 7.
    """
    checks.require_same_batch(x=x, mu=mu)
    return Terms(likelihood.nll(outputs, x), kl_to_standard_normal(mu, logvar))


def log_weight(
    x: Pixels,
    outputs: Outputs,
    z: Noise,
    mu: Codes,
    logvar: Codes,
    *,
    likelihood: Likelihood = _BERNOULLI,
) -> PerDraw:
    r"""Compute the log importance weight of a draw :math:`z` from :math:`q(z \mid x)`.

    .. math:: \log w = \log p(x \mid z) + \log p(z) - \log q(z \mid x)

    Its expectation is the ELBO. The expectation of :math:`w` itself is :math:`p(x)`.

    Args:
        x: The data, shape ``(*batch, pixels)``.
        outputs: The decoder's outputs at ``z``, shape ``(samples, *batch, pixels)``.
        z: The draws, shape ``(samples, *batch, latent)``.
        mu: The means of :math:`q(z \mid x)`, shape ``(*batch, latent)``.
        logvar: The log variances of :math:`q(z \mid x)`, the same shape.
        likelihood: The distribution of the pixels, given the outputs.

    Returns:
        The log weights in nats, shape ``(samples, *batch)``.

    Raises:
        InputError: If shapes do not match or ``x`` is out of the likelihood's range.

    Example:
        >>> x, logits, z = torch.ones(1, 2), torch.zeros(1, 2), torch.zeros(1, 3)
        >>> log_weight(x, logits, z, mu=0 * z, logvar=0 * z)
        tensor([-1.3863])

    References:
        Burda, Grosse and Salakhutdinov, *Importance Weighted Autoencoders*, 2016, section 3.
    """
    checks.require_same_batch(x=x, mu=mu)
    checks.require_same_batch(outputs=outputs, z=z)
    prior = log_density(z, torch.zeros_like(mu), torch.zeros_like(logvar))
    return prior - log_density(z, mu, logvar) - likelihood.nll(outputs, x)


def importance_weighted_bound(log_weights: PerDraw) -> PerDraw:
    r"""Average importance weights into a lower bound of :math:`\log p(x)`.

    .. math:: L_K = \log \frac1K \sum_{k=1}^K w_k

    With one sample it is the ELBO. In expectation, the bound rises with :math:`K` towards
    :math:`\log p(x)`.

    Args:
        log_weights: :math:`\log w_k`, shape ``(samples, *batch)``.

    Returns:
        The bound in nats, shape ``(*batch)``.

    Raises:
        InputError: If there is no sample.

    Example:
        >>> importance_weighted_bound(torch.tensor([[0.0], [math.log(3.0)]]))
        tensor([0.6931])

    References:
        Burda, Grosse and Salakhutdinov, *Importance Weighted Autoencoders*, 2016, equation 8.
    """
    if not log_weights.ndim or not len(log_weights):
        raise checks.InputError(
            "log_weights",
            "have at least one sample on the first axis",
            tuple(log_weights.shape),
            "Stack the samples: (samples, *batch).",
        )
    return torch.logsumexp(log_weights, 0) - math.log(len(log_weights))


def loss_function(recon_x: Pixels, x: Images, mu: Codes, logvar: Codes) -> Scalar:
    r"""Compute the loss of the textbook script: cross-entropy plus divergence.

    .. math::
        \sum_{n, i} -x_{ni} \log \hat x_{ni} - (1 - x_{ni}) \log(1 - \hat x_{ni})
        + \sum_n \mathrm{KL}(N(\mu_n, \sigma_n^2)\,\|\,N(0, I))

    It takes probabilities, as the script does, and cannot be more accurate than they are. A
    float32 probability close to 1 has few digits for its distance from 1. For a black pixel with
    the logit :math:`\eta`, the error is up to about :math:`2^{-24} e^\eta` nats: 0.001 at 10, 0.2
    at 15. From 16.7 on, the probability is 1, the loss is 100, which is torch's limit, and the
    gradient is zero. For a white pixel, the value is accurate down to a logit of -87, but torch's
    gradient fades below -27. If such logits can occur, train with `negative_elbo`, which takes
    logits.

    Args:
        recon_x: The decoded probabilities :math:`\hat x`, shape ``(*batch, pixels)``.
        x: Pixels in [0, 1], in the same shape or as images with as many pixels.
        mu: The means, shape ``(*batch, latent)``.
        logvar: The log variances, the same shape.

    Returns:
        The negative ELBO in nats, **summed** over the batch.

    Raises:
        InputError: If shapes do not match, or ``x`` or ``recon_x`` leaves [0, 1].

    Example:
        >>> half, code = torch.full((2, 784), 0.5), torch.zeros(2, 20)
        >>> loss_function(half, torch.ones(2, 1, 28, 28), code, code) / 784
        tensor(1.3863)

    References:
        Kingma and Welling, *Auto-Encoding Variational Bayes*, 2014, equation 10.
    """
    batched = recon_x.ndim > 1
    if x.numel() != recon_x.numel() or (batched and x.shape[:1] != recon_x.shape[:1]):
        raise checks.InputError(
            "x",
            f"have as many examples and pixels as recon_x, {tuple(recon_x.shape)}",
            tuple(x.shape),
            "Pass the batch that was encoded.",
        )
    checks.require_in_unit_interval("x", x)
    checks.require_in_unit_interval(
        "recon_x", recon_x, "Apply the sigmoid, or pass logits to negative_elbo."
    )
    checks.require_same_batch(recon_x=recon_x, mu=mu)
    cross_entropy = F.binary_cross_entropy(recon_x, x.reshape(recon_x.shape), reduction="sum")
    return cross_entropy + kl_to_standard_normal(mu, logvar).sum()
