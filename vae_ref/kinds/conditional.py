r"""A conditional VAE whose prior is learned: every class has a Gaussian of its own.

.. math::
    \log p(x \mid c) \ge \mathbb E_{q(z \mid x, c)}[\log p(x \mid z, c)]
    - \mathrm{KL}\big(q(z \mid x, c)\,\|\,p(z \mid c)\big)

`vae_ref.gaussian.kl_between` computes the divergence.
"""

import torch
from torch import nn

from vae_ref import checks
from vae_ref.gaussian import kl_between, reparameterize
from vae_ref.likelihood import Bernoulli, Likelihood
from vae_ref.objective import Terms
from vae_ref.shapes import Codes, Labels, Noise, Outputs, Pixels

__all__ = ["ConditionalVAE"]

_BERNOULLI = Bernoulli()


class ConditionalVAE(nn.Module):
    r"""A VAE of pixels given a class, which encoder, decoder and prior are all given.

    .. math::
        q(z \mid x, c) = N\big(\mu(x, c), \sigma^2(x, c)\big), \qquad
        p(z \mid c) = N(\mu_c, \sigma_c^2), \qquad
        p(x \mid z, c) = \text{likelihood of } \mathrm{decoder}(z, c)

    Args:
        input_dim: The number of pixels of an image.
        classes: The number of classes; with one, it is a VAE with a learned prior.
        hidden_dim: The number of units in the hidden layers of the encoder and the decoder.
        latent_dim: The number of coordinates of a code.
        likelihood: The distribution of the pixels, given the decoder's outputs.

    Raises:
        InputError: If a dimension is not positive.

    Example:
        >>> model = ConditionalVAE(input_dim=784, classes=10)
        >>> x, c, eps = torch.rand(5, 784), torch.arange(5), torch.randn(5, 20)
        >>> model.terms(x, c, eps).loss().shape
        torch.Size([5])

    References:
        Sohn, Lee and Yan, *Learning Structured Output Representation using Deep Conditional
        Generative Models*, 2015, equation 4.
    """

    def __init__(
        self,
        input_dim: int = 784,
        classes: int = 10,
        hidden_dim: int = 400,
        latent_dim: int = 20,
        *,
        likelihood: Likelihood = _BERNOULLI,
    ) -> None:
        super().__init__()
        sizes = {"input_dim": input_dim, "classes": classes, "hidden_dim": hidden_dim}
        for name, value in (sizes | {"latent_dim": latent_dim}).items():
            checks.require_positive_integer(name, value)
        self.likelihood = likelihood
        self.of_class = nn.Embedding(classes, hidden_dim)
        self.to_hidden = nn.Linear(input_dim, hidden_dim)
        self.heads = nn.Linear(hidden_dim, 2 * latent_dim)
        self.prior_heads = nn.Embedding(classes, 2 * latent_dim)
        self.from_code = nn.Linear(latent_dim, hidden_dim)
        self.to_pixels = nn.Linear(hidden_dim, input_dim)

    def encode(self, x: Pixels, c: Labels) -> tuple[Codes, Codes]:
        """Compute ``mu`` and ``logvar`` of q(z|x, c)."""
        mu, logvar = self.heads(torch.relu(self.to_hidden(x) + self.of_class(c))).chunk(2, -1)
        return mu, logvar

    def prior(self, c: Labels) -> tuple[Codes, Codes]:
        """Return ``mu_p`` and ``logvar_p`` of p(z|c)."""
        mu_p, logvar_p = self.prior_heads(c).chunk(2, -1)
        return mu_p, logvar_p

    def decode_logits(self, z: Noise, c: Labels) -> Outputs:
        """Compute the outputs that parametrise the likelihood."""
        return self.to_pixels(torch.relu(self.from_code(z) + self.of_class(c)))  # type: ignore[no-any-return]

    def decode(self, z: Noise, c: Labels) -> Outputs:
        """Compute the mean image of p(x|z, c)."""
        return self.likelihood.mean(self.decode_logits(z, c))

    def draw_prior(self, c: Labels, eps: Noise) -> Noise:
        """Turn standard normal noise into a draw from p(z|c)."""
        return reparameterize(*self.prior(c), eps)

    def terms(self, x: Pixels, c: Labels, eps: Noise) -> Terms:
        """Compute the terms of the negative ELBO in nats, per example, from one draw of z."""
        mu, logvar = self.encode(x, c)
        outputs = self.decode_logits(reparameterize(mu, logvar, eps), c)
        return Terms(self.likelihood.nll(outputs, x), kl_between(mu, logvar, *self.prior(c)))
