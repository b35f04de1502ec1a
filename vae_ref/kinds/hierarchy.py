r"""A VAE of two levels of codes, inferred from the top down.

.. math::
    \log p(x) \ge \mathbb E_q[\log p(x \mid z_2)]
    - \mathrm{KL}\big(q(z_1 \mid x)\,\|\,p(z_1)\big)
    - \mathbb E_{q(z_1 \mid x)}\Big[
      \mathrm{KL}\big(q(z_2 \mid z_1, x)\,\|\,p(z_2 \mid z_1)\big)\Big]
"""

from typing import NamedTuple

import torch
from torch import nn

from vae_ref import checks
from vae_ref.gaussian import kl_to_standard_normal, reparameterize
from vae_ref.kinds.residual import kl_residual, residual_posterior
from vae_ref.likelihood import Bernoulli, Likelihood
from vae_ref.objective import Terms
from vae_ref.shapes import Codes, Noise, Outputs, PerExample, Pixels

__all__ = ["HierarchicalVAE", "Level"]

_BERNOULLI = Bernoulli()


class Level(NamedTuple):
    r"""What the inference of a level found.

    Attributes:
        z: A draw from the posterior, shape ``(*batch, latent)``.
        posterior: ``(mu, logvar)`` of :math:`q(z_l \mid z_{<l}, x)`, the same shape each.
        prior: ``(mu, logvar)`` of :math:`p(z_l \mid z_{<l})`, likewise.
        divergence: The divergence of the posterior from the prior in nats, one value per example.
    """

    z: Noise
    posterior: tuple[Codes, Codes]
    prior: tuple[Codes, Codes]
    divergence: PerExample


class HierarchicalVAE(nn.Module):
    r"""A VAE of two levels, whose lower posterior is relative to its prior.

    .. math::
        p(x, z_1, z_2) = p(x \mid z_2)\, N\big(z_2; \mu_p(z_1), \sigma_p^2(z_1)\big)\, N(z_1; 0, I)
        \\
        q(z_2 \mid z_1, x) = N\big(\mu_p(z_1) + \Delta\mu(z_1, x),\;
        \sigma_p^2(z_1)\, \Delta\sigma^2(z_1, x)\big)

    Args:
        input_dim: The number of pixels of an image.
        hidden_dim: The number of units in every hidden layer.
        latent_dims: The numbers of coordinates of the upper and of the lower code.
        likelihood: The distribution of the pixels, given the decoder's outputs.

    Raises:
        InputError: If a dimension is not positive.

    Example:
        >>> model = HierarchicalVAE(input_dim=784, latent_dims=(4, 20))
        >>> x, eps_1, eps_2 = torch.rand(5, 784), torch.randn(5, 4), torch.randn(5, 20)
        >>> model.terms(x, eps_1, eps_2).loss().shape
        torch.Size([5])

    References:
        Vahdat and Kautz, *NVAE: A Deep Hierarchical Variational Autoencoder*, 2020, section 3.
    """

    def __init__(
        self,
        input_dim: int = 784,
        hidden_dim: int = 400,
        latent_dims: tuple[int, int] = (4, 20),
        *,
        likelihood: Likelihood = _BERNOULLI,
    ) -> None:
        super().__init__()
        upper, lower = latent_dims
        sizes = {"input_dim": input_dim, "hidden_dim": hidden_dim, "latent_dims": upper}
        for name, value in [*sizes.items(), ("latent_dims", lower)]:
            checks.require_positive_integer(name, value)
        self.likelihood = likelihood
        self.to_hidden = nn.Linear(input_dim, hidden_dim)
        self.heads = nn.Linear(hidden_dim, 2 * upper)
        self.from_upper = nn.Linear(upper, hidden_dim)
        self.prior_heads = nn.Linear(hidden_dim, 2 * lower)
        self.delta_heads = nn.Linear(2 * hidden_dim, 2 * lower)
        self.from_lower = nn.Linear(lower, hidden_dim)
        self.to_pixels = nn.Linear(hidden_dim, input_dim)

    def prior(self, z_1: Noise) -> tuple[Noise, Noise]:
        """Compute ``mu_p`` and ``logvar_p`` of p(z_2|z_1)."""
        mu_p, logvar_p = self.prior_heads(torch.relu(self.from_upper(z_1))).chunk(2, -1)
        return mu_p, logvar_p

    def top_down(self, x: Pixels, eps_1: Noise, eps_2: Noise) -> tuple[Level, Level]:
        """Infer the upper code, then the lower one given the upper one: one draw of each."""
        h = torch.relu(self.to_hidden(x))
        mu, logvar = self.heads(h).chunk(2, -1)
        z_1 = reparameterize(mu, logvar, eps_1)
        standard = torch.zeros_like(mu), torch.zeros_like(logvar)
        upper = Level(z_1, (mu, logvar), standard, kl_to_standard_normal(mu, logvar))
        mu_p, logvar_p = self.prior(z_1)
        both = torch.cat([h, torch.relu(self.from_upper(z_1))], -1)
        delta_mu, delta_logvar = self.delta_heads(both).chunk(2, -1)
        posterior = residual_posterior(delta_mu, delta_logvar, mu_p, logvar_p)
        z_2 = reparameterize(*posterior, eps_2)
        divergence = kl_residual(delta_mu, delta_logvar, logvar_p)
        return upper, Level(z_2, posterior, (mu_p, logvar_p), divergence)

    def draw(self, eps_1: Noise, eps_2: Noise, temperature: float = 1.0) -> tuple[Noise, Noise]:
        """Turn noise into new codes; the temperature multiplies every standard deviation."""
        z_1 = temperature * eps_1
        return z_1, reparameterize(*self.prior(z_1), temperature * eps_2)

    def decode_logits(self, z_2: Noise) -> Outputs:
        """Compute the outputs that parametrise the likelihood p(x|z_2)."""
        return self.to_pixels(torch.relu(self.from_lower(z_2)))  # type: ignore[no-any-return]

    def terms(self, x: Pixels, eps_1: Noise, eps_2: Noise) -> Terms:
        """Compute the terms of the negative ELBO in nats, per example, from one draw of both."""
        upper, lower = self.top_down(x, eps_1, eps_2)
        nll = self.likelihood.nll(self.decode_logits(lower.z), x)
        return Terms(nll, upper.divergence + lower.divergence)
