"""What trained models make of held-out images and of codes."""

import torch
from torch import Tensor

from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.trainings import scoring
from vae_ref.conformance.trainings.codes import Codes, codes_of
from vae_ref.conformance.trainings.trained import Variant, trained

__all__ = ["DRAWS", "codes", "decoded", "fitted", "pairs", "prior", "reconstruction"]

DRAWS = 1000
_PAIRS, _CHUNK = 1000, 1000


def codes(probe: Probe, variant: Variant) -> Codes:
    """Return the codes of the held-out images after the brief training of a variant."""
    with trained(probe, variant).loaded(brief=True) as body:
        return codes_of(body, probe.course.x.reshape(-1, *body.shape), noisy=variant.noisy)


def decoded(probe: Probe, variant: Variant, z: Tensor) -> Tensor:
    """Decode codes after the brief training of a variant."""
    with trained(probe, variant).loaded(brief=True) as body:
        return torch.cat([body.decode(part.to(body.dtype)) for part in z.split(_CHUNK)])


def reconstruction(probe: Probe, variant: Variant, z: Tensor) -> float:
    """Return the reconstruction term of the held-out images from codes, nats per example."""
    with trained(probe, variant).loaded(brief=True) as body:
        x = probe.course.x
        parts = zip(z.split(_CHUNK), x.split(_CHUNK), strict=True)
        return float(torch.cat([scoring.nll(body, *part) for part in parts]).mean())


def prior(probe: Probe, latents: int) -> Tensor:
    """Draw from N(0, I)."""
    return probe.normal("prior", DRAWS, latents).double()


def fitted(probe: Probe, z: Tensor) -> Tensor:
    """Draw from the normal law with the mean and covariance of the codes."""
    root = torch.linalg.cholesky(torch.cov(z.T))
    drawn = probe.normal("fitted", DRAWS, z.shape[1]).double()
    return torch.addmm(z.mean(0), drawn, root.T)


def pairs(probe: Probe) -> tuple[Tensor, Tensor]:
    """Draw pairs of held-out images of different classes."""
    course = probe.course
    assert course.labels is not None  # noqa: S101 - they are pictured
    n, generator = len(course.held_out), probe.generator("pairs")
    a, b = (torch.randint(n, (_PAIRS,), generator=generator) for _ in range(2))
    apart = course.labels[1][a] != course.labels[1][b]
    return a[apart], b[apart]
