"""Measure codes: where the clouds q(z | x) lie, how they overlap, what they leave empty."""

from typing import NamedTuple

import torch
from torch import Tensor

from vae_ref.conformance.probe.networks import Networks
from vae_ref.conformance.trainings import scoring

__all__ = ["Codes", "between", "codes_of", "distances", "emptiness", "energy"]


class Codes(NamedTuple):
    """The posteriors of images, and one draw from each: the aggregate posterior."""

    mu: Tensor
    logvar: Tensor
    z: Tensor


def codes_of(networks: Networks, x: Tensor, *, noisy: bool = True) -> Codes:
    """Encode images; without noise a code is a point."""
    mu, logvar = scoring.encode(networks, x)
    eps = networks.probe.normal("clouds", *mu.shape).double()
    return Codes(mu, logvar, mu + eps * torch.exp(logvar / 2) if noisy else mu)


def between(a: Codes, b: Codes) -> Tensor:
    """Return the Bhattacharyya distance of clouds, nats: minus the log of their overlap."""
    variance = (a.logvar.exp() + b.logvar.exp()) / 2
    shape = variance.log() - (a.logvar + b.logvar) / 2
    return ((a.mu - b.mu) ** 2 / (8 * variance) + shape / 2).sum(1)


def energy(a: Tensor, b: Tensor) -> float:
    """Return the energy distance of two samples, without bias: 0 if they are of one law.

    2 E|a - b| - E|a - a'| - E|b - b'| (Szekely and Rizzo 2013).
    """
    own = (float(torch.cdist(s, s).sum()) / (len(s) * (len(s) - 1)) for s in (a, b))
    return 2 * float(torch.cdist(a, b).mean()) - sum(own)


def emptiness(codes: Tensor, draws: Tensor) -> float:
    """Return how far draws are from the nearest code, beside fresh codes: 1 if they are alike."""
    fresh, drawn = distances(codes, draws)
    return float(drawn.mean() / fresh.mean())


def distances(codes: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distances to the nearest of half the codes: of the other half, and of draws."""
    half = len(codes) // 2
    fresh, known = codes[:half], codes[half:]
    nearest, drawn = (torch.cdist(points, known).min(1).values for points in (fresh, draws))
    return nearest, drawn
