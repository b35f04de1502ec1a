"""Score a trained model from its encoder and decoder alone, without the subject's own loss."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vae_ref.conformance.answers import oracles
from vae_ref.conformance.probe.networks import Networks

__all__ = ["Score", "active_latents", "bound", "encode", "log_weights", "nll", "score", "scores"]

_CHUNK = 1000  # images that are scored at once
_SAMPLES = 25  # importance samples that are drawn at once
_ACTIVE = 0.01
"""The variance of its mean over images from which a latent is active (Burda et al. 2016)."""


class Score(NamedTuple):
    """The terms of the negative ELBO, nats per example."""

    reconstruction: float
    divergence: float

    @property
    def loss(self) -> float:
        """The negative ELBO."""
        return self.reconstruction + self.divergence


def nll(networks: Networks, z: Tensor, x: Tensor) -> Tensor:
    """Return -log p(x | z), one value per code; z may have more leading axes than x."""
    likelihood = networks.probe.likelihood
    outputs = networks.decode(z.reshape(-1, z.shape[-1]).to(networks.dtype))
    if likelihood.bounded:  # a probability in float32 may round to 0 or 1, whose logit is infinite
        outputs = outputs.clamp(1e-30, 1 - 2**-24)
    outputs = outputs.reshape(*z.shape[:-1], -1)
    target = x.flatten(1).to(outputs.dtype).expand_as(outputs)
    return likelihood.nll(outputs, target).sum(-1, dtype=torch.float64)


def encode(networks: Networks, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return (mu, logvar) of all images, in float64."""
    pairs = [networks.encode(part) for part in x.split(_CHUNK)]
    mu, logvar = (torch.cat(parts).double() for parts in zip(*pairs, strict=True))
    return mu, logvar


def scores(networks: Networks, x: Tensor, draws: int, name: str = "score") -> Tensor:
    """Return both terms for several draws of the noise, shape ``(draws, examples, 2)``."""
    mu, logvar = encode(networks, x)
    kl = oracles.kl(mu, logvar).sum(1)
    terms = []
    for draw in range(draws):
        eps = networks.probe.normal(f"{name} {draw}", *mu.shape).double()
        z = mu + eps * torch.exp(logvar / 2)
        pairs = zip(z.split(_CHUNK), x.split(_CHUNK), strict=True)
        terms.append(torch.stack([torch.cat([nll(networks, *pair) for pair in pairs]), kl], 1))
    return torch.stack(terms)


def score(networks: Networks, x: Tensor) -> Score:
    """Return the terms averaged over images, with one draw of the noise for each."""
    with torch.no_grad():
        return Score(*scores(networks, x, 1)[0].mean(0).tolist())


def log_weights(networks: Networks, x: Tensor, samples: int) -> Tensor:
    """Return the log weights log p(x, z) / q(z | x) of draws from q, ``(samples, examples)``.

    The log of the mean weight over the first K of them is the bound with K samples.
    """
    mu, logvar = encode(networks, x)
    parts = []
    for first in range(0, samples, _SAMPLES):
        count = min(_SAMPLES, samples - first)
        eps = networks.probe.normal(f"importance {first}", count, mu.numel()).double()
        eps = eps.reshape(count, *mu.shape)
        z = mu + eps * torch.exp(logvar / 2)
        parts.append(0.5 * (eps**2 + logvar - z**2).sum(-1) - nll(networks, z, x))
    return torch.cat(parts)


def bound(log_w: Tensor) -> float:
    """Return the importance-weighted bound, averaged over examples, in nats per example."""
    return float((torch.logsumexp(log_w, 0) - math.log(len(log_w))).mean())


def active_latents(mu: Tensor) -> int:
    """Count the latents whose mean varies between images."""
    return int((mu.var(0) > _ACTIVE).sum())
