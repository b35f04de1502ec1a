"""The draws that all statistical claims about the sampler share, and how many they are."""

import time
from dataclasses import dataclass

import torch

from vae_ref.conformance import statistics
from vae_ref.conformance.bench import Bench
from vae_ref.conformance.records import Inconclusive
from vae_ref.conformance.registry import share
from vae_ref.conformance.statistics import Sample

__all__ = ["LATENTS", "PATIENCE", "Draws", "draws", "needed"]

LATENTS = 6
"""An even number, so that latents pair up."""

PATIENCE = 5.0
"""How many seconds the draws may take."""


@dataclass(frozen=True)
class Draws:
    """Two calls of a sampler, standardised: (z - mu) / sigma, shape (examples, latents)."""

    first: Sample
    second: Sample


def needed() -> int:
    """Return the draws that find every declared discrepancy at its level."""
    alpha = share()
    return max(
        statistics.draws_for_mean(0.02, alpha),
        statistics.draws_for_sigma(1.01, alpha),
        2 * statistics.draws_for_correlation(0.02, alpha / 2),
        # What a skewness of 0.1 and an excess kurtosis of 0.3 do to the Legendre scores.
        statistics.draws_for_score(0.1 * 1.588 / 6, 7**0.5, alpha),
        statistics.draws_for_score(0.3 * 1.510 / 24, 3.0, alpha),
    )


def draws(bench: Bench) -> Draws:
    """Sample twice with one seed for both, or raise `Inconclusive` if that would take too long."""
    if bench.drawn is None:
        try:
            bench.drawn = _draw(bench)
        except Inconclusive as reason:
            bench.drawn = reason
    if isinstance(bench.drawn, Inconclusive):
        raise bench.drawn
    return bench.drawn


def _draw(bench: Bench) -> Draws:
    latents = LATENTS * bench.latents[-1]
    examples = -(-needed() // latents)
    mu = torch.linspace(-3, 3, latents, dtype=bench.dtype)
    logvar = torch.linspace(-2, 2, latents, dtype=bench.dtype)
    bench.subject.seed(bench.number("draws"))
    trial = 256
    bench.z(mu.expand(trial, -1), logvar.expand(trial, -1))  # the first call may compile
    start = time.perf_counter()
    bench.z(mu.expand(trial, -1), logvar.expand(trial, -1))
    expected = (time.perf_counter() - start) * 2 * examples / trial
    if expected > PATIENCE:
        raise Inconclusive(
            f"{2 * examples * latents:,} draws would take about {expected:.0f} s; fewer do not "
            "find what the claim says it finds"
        )
    sigma = torch.exp(logvar.double() / 2)
    first, second = (
        (bench.z(mu.expand(examples, -1), logvar.expand(examples, -1)).double() - mu) / sigma
        for _ in range(2)
    )
    return Draws(first.detach().numpy(), second.detach().numpy())
