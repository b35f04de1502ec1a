"""The autoencoder and the variational autoencoder, with the networks of the textbook."""

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import nn

from vae_ref import checks
from vae_ref.gaussian import reparameterize
from vae_ref.likelihood import Bernoulli, Likelihood
from vae_ref.objective import Terms, negative_elbo
from vae_ref.shapes import Codes, Images, Noise, Outputs, Pixels

__all__ = ["VAE", "Autoencoder", "LatentModel"]

_BERNOULLI = Bernoulli()


class LatentModel(nn.Module, ABC):
    """What all models share: a decoder, the likelihood of its outputs, and an objective.

    To write your own model, set ``decoder`` and implement `embed` and `terms`. The training loop
    needs no more.

    Args:
        input_dim: The number of pixels of an image.
        latent_dim: The number of coordinates of a code.
        likelihood: The distribution of the pixels, given the decoder's outputs; `Bernoulli` gives
            the binary cross-entropy.

    Raises:
        InputError: If a dimension is not positive.
    """

    decoder: nn.Module

    def __init__(
        self, input_dim: int, latent_dim: int, *, likelihood: Likelihood = _BERNOULLI
    ) -> None:
        super().__init__()
        for name, value in ("input_dim", input_dim), ("latent_dim", latent_dim):
            checks.require_positive_integer(name, value)
        if not isinstance(likelihood, Likelihood):
            raise checks.InputError(
                "likelihood",
                "have nll, mean and sample",
                repr(likelihood),
                "Pass Gaussian(), for example.",
            )
        self.input_dim, self.latent_dim = input_dim, latent_dim
        self.likelihood = likelihood

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the parameters."""
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return next(self.parameters()).device

    def decode_logits(self, z: Noise) -> Outputs:
        """Compute the decoder's outputs, which parametrise the likelihood."""
        return self.decoder(z)  # type: ignore[no-any-return]

    def decode(self, z: Noise) -> Outputs:
        """Compute the mean image of p(x|z): probabilities, for the Bernoulli likelihood."""
        return self.likelihood.mean(self.decode_logits(z))

    @abstractmethod
    def embed(self, x: Images) -> Codes:
        """Return one code for each image, for pictures."""

    @abstractmethod
    def terms(self, x: Images, eps: Noise | None = None) -> Terms:
        """Compute the terms of the training loss in nats, one value of each per example."""

    def flat(self, x: Images) -> Pixels:
        """Return images, ``(batch, ...)`` or flat, as ``(*batch, pixels)``.

        Raises:
            InputError: If they do not have ``input_dim`` pixels.
        """
        flat = x if x.ndim < 2 or x.shape[-1] == self.input_dim else x.flatten(1)
        checks.require_pixels("x", flat, self.input_dim, x)
        return flat


class _Network(LatentModel):
    """What both models share: a decoder with a hidden layer of rectified linear units."""

    def __init__(
        self,
        input_dim: int = 784,
        hidden_dim: int = 400,
        latent_dim: int = 20,
        *,
        likelihood: Likelihood = _BERNOULLI,
    ) -> None:
        super().__init__(input_dim, latent_dim, likelihood=likelihood)
        checks.require_positive_integer("hidden_dim", hidden_dim)
        self.hidden_dim = hidden_dim
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, input_dim)
        )


@final
class VAE(_Network):
    r"""A variational autoencoder: an encoder with two heads, a random code, a decoder.

    .. math::
        q(z \mid x) = N\big(\mu(x), \sigma^2(x)\big), \qquad p(z) = N(0, I), \qquad
        p(x \mid z) = \text{likelihood of } \mathrm{decoder}(z)

    The encoder and the decoder have one hidden layer of rectified linear units each. The defaults
    are those of the textbook: 784-400-20 and back.

    Args:
        input_dim: The number of pixels of an image.
        hidden_dim: The number of units in the hidden layers of the encoder and the decoder.
        latent_dim: The number of coordinates of a code.
        likelihood: The distribution of the pixels, given the decoder's outputs; `Bernoulli` gives
            the binary cross-entropy.

    Raises:
        InputError: If a dimension is not positive.

    Example:
        >>> model = VAE(input_dim=784, hidden_dim=400, latent_dim=20)
        >>> recon_x, mu, logvar = model(torch.rand(128, 1, 28, 28))
        >>> recon_x.shape, mu.shape, logvar.shape
        (torch.Size([128, 784]), torch.Size([128, 20]), torch.Size([128, 20]))

    References:
        Kingma and Welling, *Auto-Encoding Variational Bayes*, 2014, appendix C.
    """

    def __init__(
        self,
        input_dim: int = 784,
        hidden_dim: int = 400,
        latent_dim: int = 20,
        *,
        likelihood: Likelihood = _BERNOULLI,
    ) -> None:
        super().__init__(input_dim, hidden_dim, latent_dim, likelihood=likelihood)
        self.encoder = nn.Sequential(nn.Linear(input_dim, hidden_dim), nn.ReLU())
        self.mu = nn.Linear(hidden_dim, latent_dim)
        self.logvar = nn.Linear(hidden_dim, latent_dim)

    def encode(self, x: Images) -> tuple[Codes, Codes]:
        """Compute ``mu`` and ``logvar`` of q(z|x) from flat pixels or images."""
        h = self.encoder(self.flat(x))
        return self.mu(h), self.logvar(h)

    def reparameterize(self, mu: Codes, logvar: Codes, eps: Noise | None = None) -> Noise:
        """Draw z from q(z|x), in evaluation mode too; torch draws ``eps`` if it is not given."""
        return reparameterize(mu, logvar, torch.randn_like(mu) if eps is None else eps)

    def forward(self, x: Images, eps: Noise | None = None) -> tuple[Outputs, Codes, Codes]:
        """Encode, draw a code and decode it; return ``(recon_x, mu, logvar)``."""
        mu, logvar = self.encode(x)
        return self.decode(self.reparameterize(mu, logvar, eps)), mu, logvar

    def embed(self, x: Images) -> Codes:
        """Return the posterior means."""
        return self.encode(x)[0]

    def terms(self, x: Images, eps: Noise | None = None) -> Terms:
        """Compute the terms of the negative ELBO in nats, per example, from one draw of z."""
        mu, logvar = self.encode(x)
        outputs = self.decode_logits(self.reparameterize(mu, logvar, eps))
        return negative_elbo(self.flat(x), outputs, mu, logvar, likelihood=self.likelihood)


@final
class Autoencoder(_Network):
    """An autoencoder: the networks of the `VAE`, a code without noise, and no prior.

    Args:
        input_dim: The number of pixels of an image.
        hidden_dim: The number of units in the hidden layers of the encoder and the decoder.
        latent_dim: The number of coordinates of a code.
        likelihood: The distribution of the pixels, given the decoder's outputs; its negative
            log-likelihood is the loss.

    Raises:
        InputError: If a dimension is not positive.

    Example:
        >>> model = Autoencoder(latent_dim=2)
        >>> model(torch.rand(5, 784)).shape, model.encode(torch.rand(5, 784)).shape
        (torch.Size([5, 784]), torch.Size([5, 2]))

    References:
        Hinton and Salakhutdinov, *Reducing the Dimensionality of Data with Neural Networks*, 2006.
    """

    def __init__(
        self,
        input_dim: int = 784,
        hidden_dim: int = 400,
        latent_dim: int = 20,
        *,
        likelihood: Likelihood = _BERNOULLI,
    ) -> None:
        super().__init__(input_dim, hidden_dim, latent_dim, likelihood=likelihood)
        self.encoder = nn.Sequential(
            nn.Linear(input_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, latent_dim)
        )

    def encode(self, x: Images) -> Codes:
        """Compute the codes of flat pixels or images."""
        return self.encoder(self.flat(x))  # type: ignore[no-any-return]

    def forward(self, x: Images) -> Outputs:
        """Encode and decode; return the reconstruction."""
        return self.decode(self.encode(x))

    def embed(self, x: Images) -> Codes:
        """Return the codes."""
        return self.encode(x)

    def terms(self, x: Images, eps: Noise | None = None) -> Terms:
        """Compute the reconstruction loss in nats, per example; the divergence is zero.

        ``eps`` is accepted but not used, so that one training loop works for both models.
        """
        reconstruction = self.likelihood.nll(self.decode_logits(self.encode(x)), self.flat(x))
        return Terms(reconstruction, torch.zeros_like(reconstruction))
