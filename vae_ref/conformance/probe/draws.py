"""The draws that all statistical claims about the sampler share, and how many they are."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vae_ref.conformance.answers import statistics
from vae_ref.conformance.answers.statistics import Sample
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import Inconclusive

__all__ = ["BUDGET", "LATENTS", "Draws", "draws", "needed"]

LATENTS = 6
"""An even number, so that latents pair up."""

BUDGET = 3.0
"""The seconds of CPU time that the draws may take: the wall clock decides nothing."""

_FIRST, _LARGEST = 256, 2**15
"""The examples of the first call and of the largest; each call takes twice those of the last."""


@dataclass(frozen=True)
class Draws:
    """Noise of a sampler: (z - mu) / sigma, shape (examples, latents).

    Attributes:
        first: The noise of some calls, one after the other.
        second: The noise of as many further calls, each made right after one of the first.
        calls: The examples of each call.
    """

    first: Sample
    second: Sample
    calls: tuple[int, ...]

    def halves(self) -> tuple[Sample, Sample]:
        """Return the first halves of the batches, and their second halves."""
        parts = np.split(self.first, np.cumsum(self.calls)[:-1])
        pairs = [np.split(part, 2) for part in parts]
        return np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs])


def needed(alpha: float) -> int:
    """Return the draws that find every declared discrepancy at this level."""
    return max(
        statistics.draws_for_mean(0.02, alpha),
        statistics.draws_for_sigma(1.01, alpha),
        2 * statistics.draws_for_correlation(0.02, alpha / 2),
        # What a skewness of 0.1 and an excess kurtosis of 0.3 do to the Legendre scores.
        statistics.draws_for_score(0.1 * 1.588 / 6, 7**0.5, alpha),
        statistics.draws_for_score(0.3 * 1.510 / 24, 3.0, alpha),
    )


def draws(probe: Probe) -> Draws:
    """Sample in pairs of calls, from one seed, until there are enough draws.

    Raises:
        Inconclusive: If the budget is spent before.
    """
    return probe.once("draws", lambda: _draw(probe))


def _draw(probe: Probe) -> Draws:
    latents = LATENTS * probe.latents[-1]
    examples = -(-needed(probe.alpha) // latents)
    mu = torch.linspace(-3, 3, latents, dtype=probe.dtype)
    logvar = torch.linspace(-2, 2, latents, dtype=probe.dtype)
    sigma = torch.exp(logvar.double() / 2)

    def noise(count: int) -> Tensor:
        z = probe.z(mu.expand(count, -1), logvar.expand(count, -1))
        return ((z.double() - mu) / sigma).detach()

    probe.subject.seed(probe.number("draws"))
    first: list[Tensor] = []
    second: list[Tensor] = []
    drawn, count, start = 0, _FIRST, time.process_time()
    while drawn < examples:
        spent = time.process_time() - start
        if spent > BUDGET:
            raise Inconclusive(
                f"{2 * examples * latents:,} draws are needed, and {2 * drawn * latents:,} took "
                f"{spent:.1f} s of CPU time; fewer do not find what the claim says it finds"
            )
        first.append(noise(count))
        second.append(noise(count))
        drawn, count = drawn + count, min(2 * count, _LARGEST)
    calls = tuple(len(part) for part in first)
    return Draws(torch.cat(first).numpy(), torch.cat(second).numpy(), calls)
