"""Score a trained model from its encoder and decoder alone: its own loss marks nothing here."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vae_ref.conformance.answers import oracles
from vae_ref.conformance.probe.networks import Networks

__all__ = ["Score", "active_latents", "encode", "log_likelihood", "score", "scores"]

_CHUNK = 1000


class Score(NamedTuple):
    """The terms of the negative ELBO, nats per example."""

    reconstruction: float
    divergence: float

    @property
    def loss(self) -> float:
        """The negative ELBO."""
        return self.reconstruction + self.divergence


def nll(networks: Networks, z: Tensor, x: Tensor) -> Tensor:
    """Return -log p(x | z), one value per code; z may have leading axes of its own."""
    likelihood = networks.probe.likelihood
    outputs = networks.decode(z.reshape(-1, z.shape[-1]).to(networks.dtype))
    if likelihood.bounded:  # a float32 probability may round to 0 or 1: the logit is infinite
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
    """Return the terms for several draws of the noise, shape ``(draws, examples, 2)``."""
    mu, logvar = encode(networks, x)
    kl = oracles.kl(mu, logvar).sum(1)
    rows = []
    for draw in range(draws):
        eps = networks.probe.normal(f"{name} {draw}", *mu.shape).double()
        z = mu + eps * torch.exp(logvar / 2)
        pairs = zip(z.split(_CHUNK), x.split(_CHUNK), strict=True)
        rows.append(torch.stack([torch.cat([nll(networks, *pair) for pair in pairs]), kl], 1))
    return torch.stack(rows)


def score(networks: Networks, x: Tensor) -> Score:
    """Average the terms over images, with one draw of the noise for each."""
    with torch.no_grad():
        return Score(*scores(networks, x, 1)[0].mean(0).tolist())


def log_likelihood(networks: Networks, x: Tensor, samples: int) -> Tensor:
    """Return the log weights of draws from q(z | x), shape ``(samples, examples)``.

    The log of the mean weight over the first K of them is the bound with K samples.
    """
    mu, logvar = encode(networks, x)
    parts = []
    for first in range(0, samples, 25):
        count = min(25, samples - first)
        eps = networks.probe.normal(f"importance {first}", count, mu.numel()).double()
        eps = eps.reshape(count, *mu.shape)
        z = mu + eps * torch.exp(logvar / 2)
        parts.append(0.5 * (eps**2 + logvar - z**2).sum(-1) - nll(networks, z, x))
    return torch.cat(parts)


def bound(log_w: Tensor) -> float:
    """Return the importance-weighted bound, the mean over examples, nats per example."""
    return float((torch.logsumexp(log_w, 0) - math.log(len(log_w))).mean())


def active_latents(mu: Tensor) -> int:
    """Count the latents whose mean varies between images: its variance exceeds 0.01."""
    return int((mu.var(0) > 0.01).sum())
