r"""A model with known answers: the linear-Gaussian VAE, whose ELBO and evidence have closed forms.

.. math::
    z \sim N(0, I), \qquad x \mid z \sim N(W z + b,\; s^2 I), \qquad
    q(z \mid x) = N(V (x - b),\; \operatorname{diag}\sigma^2)
"""

import math
from typing import final

import torch
from torch import Tensor, nn

from vae_ref.gaussian import reparameterize
from vae_ref.likelihood import Gaussian
from vae_ref.model import LatentModel
from vae_ref.objective import Terms, negative_elbo
from vae_ref.shapes import Codes, Images, Noise, Outputs, PerDraw, PerExample, Pixels

__all__ = ["LinearVAE", "exact_elbo", "exact_log_evidence"]


class _LearnedGaussian(nn.Module):
    """The `Gaussian` likelihood with a variance that is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.logvar = nn.Parameter(torch.zeros(()))

    def _family(self) -> Gaussian:
        return Gaussian(self.logvar.exp())

    def nll(self, outputs: Outputs, x: Pixels) -> PerDraw:
        return self._family().nll(outputs, x)

    def mean(self, outputs: Outputs) -> Outputs:
        return self._family().mean(outputs)

    def sample(self, outputs: Outputs, noise: Outputs) -> Outputs:
        return self._family().sample(outputs, noise)


@final
class LinearVAE(LatentModel):
    r"""A VAE without a hidden layer, whose pixel variance :math:`s^2` is learned.

    .. math::
        p(x \mid z) = N(W z + b,\; s^2 I), \qquad
        q(z \mid x) = N(V (x - b),\; \operatorname{diag}\sigma^2)

    ``decoder`` holds :math:`W` and :math:`b`, ``mu`` holds :math:`V`, ``logvar`` is
    :math:`\log \sigma^2`, the same for all examples, and ``likelihood.logvar`` is
    :math:`\log s^2`. If the columns of :math:`W` are orthogonal, the true posterior has this form
    of :math:`q`.

    Args:
        input_dim: The number of pixels of an image.
        latent_dim: The number of coordinates of a code.

    Raises:
        InputError: If a dimension is not positive.

    Example:
        >>> model = LinearVAE(input_dim=16, latent_dim=3)
        >>> model.terms(torch.rand(5, 4, 4)).loss().shape
        torch.Size([5])

    References:
        Lucas, Tucker, Grosse and Norouzi, *Don't Blame the ELBO!*, 2019, section 4.
    """

    likelihood: _LearnedGaussian
    decoder: nn.Linear

    def __init__(self, input_dim: int, latent_dim: int) -> None:
        super().__init__(input_dim, latent_dim, likelihood=_LearnedGaussian())
        self.decoder = nn.Linear(latent_dim, input_dim)
        self.mu = nn.Linear(input_dim, latent_dim, bias=False)
        self.logvar = nn.Parameter(torch.zeros(latent_dim))

    def encode(self, x: Images) -> tuple[Codes, Codes]:
        """Compute ``mu`` and ``logvar`` of q(z|x) from flat pixels or images."""
        mu = self.mu(self.flat(x) - self.decoder.bias)
        return mu, self.logvar.expand_as(mu)

    def embed(self, x: Images) -> Codes:
        """Return the posterior means."""
        return self.encode(x)[0]

    def terms(self, x: Images, eps: Noise | None = None) -> Terms:
        """Compute the terms of the negative ELBO in nats, per example, from one draw of z."""
        mu, logvar = self.encode(x)
        z = reparameterize(mu, logvar, torch.randn_like(mu) if eps is None else eps)
        outputs = self.decode_logits(z)
        return negative_elbo(self.flat(x), outputs, mu, logvar, likelihood=self.likelihood)


def exact_elbo(model: LinearVAE, x: Images) -> PerExample:
    r"""Compute the ELBO of a linear VAE; the expectation over z has a closed form.

    .. math::
        \mathrm{ELBO}(x) = \log p(x \mid z{=}\mu) - \mathrm{KL}(q\,\|\,p)
        - \frac{1}{2 s^2} \sum_j \|W_j\|^2 \sigma_j^2

    Args:
        model: The model.
        x: The data :math:`x`, shape ``(*batch, pixels)``, or images.

    Returns:
        The ELBO in nats, shape ``(*batch)``.

    Raises:
        InputError: If ``x`` has another number of pixels than the model, or is not finite.

    Example:
        >>> model, x = LinearVAE(16, 3), torch.rand(5, 16)
        >>> bool((exact_elbo(model, x) <= exact_log_evidence(model, x)).all())
        True

    References:
        Lucas, Tucker, Grosse and Norouzi, *Don't Blame the ELBO!*, 2019, appendix C.
    """
    mu, logvar = model.encode(x)
    s2 = model.likelihood.logvar.exp()
    spread = (model.decoder.weight.square().sum(0) * logvar.exp()).sum(-1) / (2 * s2)
    outputs = model.decode_logits(mu)
    terms = negative_elbo(model.flat(x), outputs, mu, logvar, likelihood=model.likelihood)
    return -(terms.loss() + spread)


def exact_log_evidence(model: LinearVAE, x: Images) -> PerExample:
    r"""Compute :math:`\log p(x)` of a linear VAE; :math:`p(x)` is a Gaussian.

    .. math::
        p(x) = N(b, C), \qquad C = W W^\top + s^2 I, \qquad
        (x - b)^\top C^{-1} (x - b) = \frac{\|x - b - W m\|^2}{s^2} + \|m\|^2

    with the posterior mean :math:`m = M^{-1} W^\top (x - b)` and :math:`M = W^\top W + s^2 I`. The
    terms of this form do not cancel each other.

    Args:
        model: The model.
        x: The data :math:`x`, shape ``(*batch, pixels)``, or images.

    Returns:
        The evidence in nats, shape ``(*batch)``.

    Raises:
        InputError: If ``x`` has another number of pixels than the model.

    Example:
        >>> model = LinearVAE(2, 1)
        >>> _ = nn.init.zeros_(model.decoder.weight), nn.init.zeros_(model.decoder.bias)
        >>> exact_log_evidence(model, torch.zeros(2))
        tensor(-1.8379, grad_fn=<MulBackward0>)

    References:
        Tipping and Bishop, *Probabilistic Principal Component Analysis*, 1999, section 3.1.
    """
    flat = model.flat(x)
    weight, log_s2 = model.decoder.weight, model.likelihood.logvar
    pixels, latent = weight.shape
    gram = weight.T @ weight + log_s2.exp() * torch.eye(latent).to(weight)
    centred = flat - model.decoder.bias
    m: Tensor = centred @ weight @ torch.linalg.inv(gram)
    distance = (centred - m @ weight.T).square().sum(-1) / log_s2.exp() + m.square().sum(-1)
    log_det = (pixels - latent) * log_s2 + torch.logdet(gram)
    return -0.5 * (pixels * math.log(2 * math.pi) + log_det + distance)
