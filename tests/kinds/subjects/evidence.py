"""Estimators of the evidence that are right, each in a way of its own, and near misses."""

import math

import numpy as np
import torch
import torch.distributions as D
from scipy import special, stats

from vae_ref.conformance.kinds import EvidenceEstimator
from vae_ref.conformance.mutants.kinds import evidence as bugs
from vae_ref.conformance.mutants.kinds.evidence import specimen

NOT_OF_THE_REFERENCE = {
    "evidence/path-ends": "there is no log_annealed",
    "evidence/metropolis": "there is no acceptance",
}


def importance_sampling():
    """Without any temperature: the average likelihood, and the harmonic mean from above."""
    return EvidenceEstimator(
        name="importance sampling",
        log_evidence_lower=lambda prior, f, z, betas: f(z).logsumexp(0) - math.log(len(z)),
        log_evidence_upper=lambda prior, f, z, betas: math.log(len(z)) - (-f(z)).logsumexp(0),
    )


def by_scipy():
    """With NumPy's arrays, SciPy's functions and a random walk, as the paper has it."""

    def number(log_density, z):
        return log_density(torch.from_numpy(z)).numpy()

    def walk(log_density, z):
        new = stats.norm.rvs(loc=z, scale=0.5)
        gain = number(log_density, new) - number(log_density, z)
        accepted = stats.uniform.rvs(size=gain.shape) < np.exp(np.minimum(gain, 0))
        return np.where(accepted[..., None], new, z)

    def log_weights(prior, f, z, betas):
        z, log_w = z.double().numpy(), 0.0
        for before, after in zip(betas[:-1].tolist(), betas[1:].tolist(), strict=True):
            log_w = log_w + (after - before) * number(f, z)
            for _ in range(2):
                z = walk(lambda z, b=after: prior(z) + b * f(z), z)
        return special.logsumexp(log_w, axis=0, b=1 / len(z))

    return EvidenceEstimator(
        name="by SciPy",
        log_evidence_lower=lambda *given: torch.from_numpy(log_weights(*given)),
        log_evidence_upper=lambda *given: -torch.from_numpy(log_weights(*given)),
        hmc_step=lambda f, z: torch.from_numpy(walk(f, z.double().numpy())),
        acceptance=lambda h, new: torch.from_numpy(np.exp((h - new).numpy())),
    )


def langevin(log_density, z, step=0.3):
    """Move by Metropolis-adjusted Langevin, by the densities of the proposals."""

    def proposal(z):
        return D.Normal(z + step**2 / 2 * bugs.slope(log_density, z), step)

    there = proposal(z)
    new = there.sample()
    back = proposal(new).log_prob(z).sum(-1) - there.log_prob(new).sum(-1)
    odds = torch.exp(log_density(new) - log_density(z) + back).detach()
    return torch.where((torch.rand_like(odds) < odds)[..., None], new, z)


def joined_axes_and_a_schedule_of_its_own():
    """Whose chains and examples share an axis, and which returns the weights of the chains."""

    def log_weights(prior, f, z, betas):
        ends = torch.sigmoid(torch.linspace(-4, 4, 8))
        own = (ends - ends[0]) / (ends[-1] - ends[0])
        own = own.flip(0) if betas[0] > betas[-1] else own
        flat, log_w = z.flatten(0, 1), 0.0
        for before, after in zip(own[:-1].tolist(), own[1:].tolist(), strict=True):
            log_w = log_w + (after - before) * f(flat)
            flat = langevin(lambda z, b=after: (1 - b) * prior(z) + b * (prior(z) + f(z)), flat)
        return log_w.view(z.shape[:-1])

    return EvidenceEstimator(
        name="joined axes",
        log_evidence_lower=log_weights,
        log_evidence_upper=lambda *given: -log_weights(*given),
        hmc_step=langevin,
    )


def sequential_monte_carlo():
    """Whose chains are resampled at every temperature, and weighed anew from there."""

    def lower(prior, f, z, betas):
        total = 0.0
        for before, after in zip(betas[:-1].tolist(), betas[1:].tolist(), strict=True):
            log_w = (after - before) * f(z)
            total = total + log_w.logsumexp(0) - math.log(len(z))
            a = torch.multinomial(log_w.softmax(0).T, len(z), replacement=True).T
            z = z.gather(0, a[..., None].expand_as(z))
            z = bugs.hmc_step(lambda z, b=after: prior(z) + b * f(z), z)
        return total

    return EvidenceEstimator(name="sequential Monte Carlo", log_evidence_lower=lower)


def moves_before_it_weighs():
    """At the temperature where the chains are: the first move leaves the prior as it is."""

    def log_weights(prior, f, z, betas):
        log_w = 0.0
        for before, after in zip(betas[:-1].tolist(), betas[1:].tolist(), strict=True):
            z = bugs.hmc_step(lambda z, b=before: prior(z) + b * f(z), z)
            log_w = log_w + (after - before) * f(z)
        return log_w.logsumexp(0) - math.log(len(z))

    return EvidenceEstimator(
        name="moves first",
        log_evidence_lower=log_weights,
        log_evidence_upper=lambda *given: -log_weights(*given),
        log_annealed=lambda prior, f, z, beta: prior(z) + beta * f(z) + 7,
    )


def half_steps_of_the_codes():
    """The leapfrog that begins with the codes, changes its arguments and turns the momenta."""

    def leapfrog(f, z, v, step, steps):
        for _ in range(steps):
            z += step / 2 * v
            v += step * bugs.slope(f, z)
            z += step / 2 * v
        return z, v.neg_()

    def move(f, z):
        v = torch.randn_like(z)
        before = bugs.energy(f, z, v)
        new, end = leapfrog(f, z.clone(), v.clone(), 0.4, 4)
        gain = before - bugs.energy(f, new, end)
        return torch.where((torch.rand_like(gain).log() < gain)[..., None], new, z)

    return specimen("half steps of the codes", leapfrog=leapfrog, hmc_step=move)


RIGHT = [
    importance_sampling,
    by_scipy,
    joined_axes_and_a_schedule_of_its_own,
    sequential_monte_carlo,
    moves_before_it_weighs,
    half_steps_of_the_codes,
]


def _off(estimate, by):
    return lambda *given: estimate(*given) + by


def _off_inside(estimate, by):
    """Off where the estimate stays between the least and the most likelihood."""

    def off(*given):
        found = estimate(*given)
        return found + by * ((found > -1.8) & (found < -0.2))

    return off


def _leap_off(*given):
    z, v = bugs.leapfrog(*given)
    return z * (1 + 1e-12), v


NEAR = {
    "evidence/flat-likelihood": {"log_evidence_lower": _off(bugs.log_evidence_lower, 1e-11)},
    "evidence/flat-likelihood-from-above": {
        "log_evidence_upper": _off(bugs.log_evidence_upper, -1e-11)
    },
    "evidence/lower-unbiased": {"log_evidence_lower": _off_inside(bugs.log_evidence_lower, 0.12)},
    "evidence/upper-unbiased": {"log_evidence_upper": _off_inside(bugs.log_evidence_upper, 0.12)},
    "evidence/lower-never-above": {"log_evidence_lower": _off(bugs.log_evidence_lower, 1.6)},
    "evidence/upper-never-below": {"log_evidence_upper": _off(bugs.log_evidence_upper, -1.6)},
    "evidence/path-ends": {
        "log_annealed": lambda prior, f, z, beta: prior(z) + (beta + 1e-11) * f(z)
    },
    "evidence/leapfrog-on-a-gaussian": {"leapfrog": _leap_off},
    "evidence/metropolis": {"acceptance": lambda h, new: bugs.acceptance(h, new + 1e-11)},
    "evidence/move-leaves-the-target": {
        "hmc_step": lambda f, z: bugs.hmc_step(f, z) + 0.015 * (f(z) > -9)[..., None]
    },
}
"""Name of a claim -> changes of the specimen that are off by a few tolerances."""
