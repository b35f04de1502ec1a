"""Measure codes: how posteriors overlap, and which part of the latent space is empty."""

from typing import NamedTuple

import torch
from torch import Tensor

from vae_ref.conformance.probe.networks import Networks
from vae_ref.conformance.trainings import scoring

__all__ = [
    "Codes",
    "bhattacharyya",
    "codes_of",
    "emptiness",
    "energy_distance",
    "nearest_codes",
]


class Codes(NamedTuple):
    """The posteriors of images, and one draw from each."""

    mu: Tensor
    logvar: Tensor
    z: Tensor


def codes_of(networks: Networks, x: Tensor, *, noisy: bool = True) -> Codes:
    """Encode images; without noise, z is mu."""
    mu, logvar = scoring.encode(networks, x)
    eps = networks.probe.normal("clouds", *mu.shape).double()
    return Codes(mu, logvar, mu + eps * torch.exp(logvar / 2) if noisy else mu)


def bhattacharyya(a: Codes, b: Codes) -> Tensor:
    """Return the Bhattacharyya distances of posteriors: minus the log of their overlap."""
    variance = (a.logvar.exp() + b.logvar.exp()) / 2
    shape = variance.log() - (a.logvar + b.logvar) / 2
    return ((a.mu - b.mu) ** 2 / (8 * variance) + shape / 2).sum(1)


def energy_distance(a: Tensor, b: Tensor) -> float:
    """Return an unbiased estimate of the energy distance: 0 for samples of one distribution.

    2 E|a - b| - E|a - a'| - E|b - b'| (Szekely and Rizzo 2013).
    """
    within = (float(torch.cdist(s, s).sum()) / (len(s) * (len(s) - 1)) for s in (a, b))
    return 2 * float(torch.cdist(a, b).mean()) - sum(within)


def emptiness(codes: Tensor, draws: Tensor) -> float:
    """Return how far draws are from the nearest code, relative to how far other codes are."""
    of_codes, of_draws = nearest_codes(codes, draws)
    return float(of_draws.mean() / of_codes.mean())


def nearest_codes(codes: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distances to the nearest code of one half: of the other half, and of draws."""
    half = len(codes) // 2
    others, known = codes[:half], codes[half:]
    of_codes, of_draws = (torch.cdist(points, known).min(1).values for points in (others, draws))
    return of_codes, of_draws
