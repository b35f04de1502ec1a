"""Draw the noise of a sampler, once for all statistical claims about it."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vae_ref.conformance.answers import statistics
from vae_ref.conformance.answers.statistics import Sample
from vae_ref.conformance.guards import TimeLimit, time_limit
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import Inconclusive

__all__ = ["BUDGET", "LATENTS", "Draws", "draws", "needed"]

LATENTS = 6
"""How many latents are drawn: an even number, so that they pair up."""

BUDGET = 20.0
"""The seconds of CPU time that the draws may take; the wall clock decides nothing."""

_FIRST_CALL, _CALL = 2**8, 2**13
"""The examples of the first call and of every other: JAX compiles a sampler for each number.

Of codes with the shape of an image they are fewer, for the same number of latents.
"""

# The discrepancies that the claims say they find.
_MEAN, _SIGMA_RATIO, _CORRELATION, _SKEWNESS, _EXCESS_KURTOSIS = 0.02, 1.01, 0.02, 0.1, 0.3
# The Legendre scores of degree 3 and 4 projected on the Hermite polynomials: a density with a
# small skewness s has a mean score of 1.588 s / 3!, one with a small excess kurtosis k of
# 1.510 k / 4! (Gram and Charlier's series).
_SCORE_OF_SKEWNESS, _SCORE_OF_KURTOSIS = 1.588, 1.510


@dataclass(frozen=True)
class Draws:
    """Noise of a sampler: (z - mu) / sigma, shape (examples, latents).

    Attributes:
        first: The noise of every other call, joined.
        second: The noise of the calls between: each was made right after one of the first.
        calls: How many examples each of the first calls has.
    """

    first: Sample
    second: Sample
    calls: tuple[int, ...]

    def halves(self) -> tuple[Sample, Sample]:
        """Return the first halves of the batches, and the second halves."""
        parts = np.split(self.first, np.cumsum(self.calls)[:-1])
        pairs = [np.split(part, 2) for part in parts]
        return np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs])


def needed(alpha: float) -> int:
    """Return how many draws find every declared discrepancy at this level of significance."""
    skewness, kurtosis = (
        _SKEWNESS * _SCORE_OF_SKEWNESS / 6,
        _EXCESS_KURTOSIS * _SCORE_OF_KURTOSIS / 24,
    )
    return max(
        statistics.draws_for_mean(_MEAN, alpha),
        statistics.draws_for_sigma(_SIGMA_RATIO, alpha),
        2 * statistics.draws_for_correlation(_CORRELATION, alpha / 2),
        statistics.draws_for_score(skewness, statistics.legendre_bound(3), alpha),
        statistics.draws_for_score(kurtosis, statistics.legendre_bound(4), alpha),
    )


def draws(probe: Probe) -> Draws:
    """Return the draws: call the sampler in pairs, from one seed, until there are enough.

    Raises:
        Inconclusive: If the CPU time is spent first.
    """
    return probe.once("draws", lambda: _draw(probe))


def _draw(probe: Probe) -> Draws:
    latents = LATENTS * probe.latents[-1]
    examples = -(-needed(probe.alpha) // latents)
    mu = torch.linspace(-3, 3, latents, dtype=probe.dtype)
    logvar = torch.linspace(-2, 2, latents, dtype=probe.dtype)
    sigma = torch.exp(logvar.double() / 2)
    call = 2 * max(1, _CALL // 2 * LATENTS // latents)  # even, for there are halves

    def noise(count: int) -> Tensor:
        z = probe.z(mu.expand(count, -1), logvar.expand(count, -1))
        return ((z.double() - mu) / sigma).detach()

    probe.subject.seed(probe.number("draws"))
    first: list[Tensor] = []
    second: list[Tensor] = []
    drawn = 0
    try:
        with time_limit(BUDGET):
            while drawn < examples:
                count = call if drawn else min(call, _FIRST_CALL)
                first.append(noise(count))
                second.append(noise(count))
                drawn += count
    except TimeLimit as limit:
        if limit.by_wall_clock:
            raise
        raise Inconclusive(
            f"{2 * examples * latents:,} draws are needed, but {BUDGET:g} s of CPU time are "
            f"enough for {2 * drawn * latents:,} only; fewer would miss the discrepancy that the "
            "claim states"
        ) from None
    calls = tuple(len(part) for part in first)
    return Draws(torch.cat(first).numpy(), torch.cat(second).numpy(), calls)
