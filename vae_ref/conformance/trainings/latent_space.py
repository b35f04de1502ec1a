"""Encode held-out images and decode codes with the trained models."""

import torch
from torch import Tensor

from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.trainings import scoring
from vae_ref.conformance.trainings.codes import Codes, codes_of
from vae_ref.conformance.trainings.trained import Variant, trained

__all__ = ["DRAWS", "codes", "decoded", "fitted", "pairs", "prior", "reconstruction"]

DRAWS = 1000
"""How many codes are drawn from a distribution."""

_PAIRS = 1000  # of images, fewer if some are of the same class
_CHUNK = 1000  # codes that are decoded at once


def codes(probe: Probe, variant: Variant) -> Codes:
    """Return the codes of the held-out images after the brief training of a variant."""
    with trained(probe, variant).loaded(brief=True) as networks:
        return codes_of(networks, probe.course.x.reshape(-1, *networks.shape), noisy=variant.noisy)


def decoded(probe: Probe, variant: Variant, z: Tensor) -> Tensor:
    """Decode codes after the brief training of a variant."""
    with trained(probe, variant).loaded(brief=True) as networks:
        return torch.cat([networks.decode(part.to(networks.dtype)) for part in z.split(_CHUNK)])


def reconstruction(probe: Probe, variant: Variant, z: Tensor) -> float:
    """Return the reconstruction term of the held-out images given codes, nats per example."""
    with trained(probe, variant).loaded(brief=True) as networks:
        x = probe.course.x
        parts = zip(z.split(_CHUNK), x.split(_CHUNK), strict=True)
        return float(torch.cat([scoring.nll(networks, *part) for part in parts]).mean())


def prior(probe: Probe, latents: int) -> Tensor:
    """Draw codes from N(0, I)."""
    return probe.normal("prior", DRAWS, latents).double()


def fitted(probe: Probe, z: Tensor) -> Tensor:
    """Draw codes from the normal distribution with the mean and covariance of given codes."""
    root = torch.linalg.cholesky(torch.cov(z.T))
    drawn = probe.normal("fitted", DRAWS, z.shape[1]).double()
    return torch.addmm(z.mean(0), drawn, root.T)


def pairs(probe: Probe) -> tuple[Tensor, Tensor]:
    """Draw pairs of held-out images of different classes."""
    course = probe.course
    assert course.labels is not None  # noqa: S101 - the claim requires pictures
    n, generator = len(course.held_out), probe.generator("pairs")
    a, b = (torch.randint(n, (_PAIRS,), generator=generator) for _ in range(2))
    differ = course.labels[1][a] != course.labels[1][b]
    return a[differ], b[differ]
