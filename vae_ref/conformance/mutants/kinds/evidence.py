"""Bugs of estimators of the evidence."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vae_ref.conformance.kinds.evidence import EvidenceEstimator
from vae_ref.conformance.mutants import bank

__all__ = ["specimen"]

LogDensity = Callable[[Tensor], Tensor]

STEP, STEPS = 0.5, 3


def slope(log_density: LogDensity, z: Tensor) -> Tensor:
    """Differentiate a log density."""
    leaf = z.detach().requires_grad_()
    return torch.autograd.grad(log_density(leaf).sum(), leaf)[0]


def leapfrog(
    log_density: LogDensity, z: Tensor, v: Tensor, step: float, steps: int
) -> tuple[Tensor, Tensor]:
    """Make leapfrog steps, each of a half step, a whole one and a half one."""
    for _ in range(steps):
        v = v + step / 2 * slope(log_density, z)
        z = z + step * v
        v = v + step / 2 * slope(log_density, z)
    return z, v


def acceptance(before: Tensor, after: Tensor) -> Tensor:
    """Return the probability to accept, from the energies."""
    return torch.exp((before - after).clamp(max=0.0))


def energy(log_density: LogDensity, z: Tensor, v: Tensor) -> Tensor:
    """Return the energy of codes and momenta."""
    return 0.5 * v.square().sum(-1) - log_density(z).detach()


def chosen(accepted: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Return the new codes of the chains that accept, and the old ones of the others."""
    return torch.where(accepted.unsqueeze(-1), new, old)


def hmc_step(log_density: LogDensity, z: Tensor) -> Tensor:
    """Move codes by Hamiltonian Monte Carlo."""
    v = torch.randn_like(z)
    new, end = leapfrog(log_density, z, v, STEP, STEPS)
    odds = acceptance(energy(log_density, z, v), energy(log_density, new, end))
    return chosen(torch.rand_like(odds) < odds, new, z)


def log_annealed(
    log_prior: LogDensity, log_likelihood: LogDensity, z: Tensor, beta: float
) -> Tensor:
    """Return the log density at a temperature."""
    return log_prior(z) + beta * log_likelihood(z)


def log_weights(
    log_prior: LogDensity,
    log_likelihood: LogDensity,
    z: Tensor,
    betas: Tensor,
    *,
    path: Callable[..., Tensor] = log_annealed,
    new_states: bool = False,
) -> Tensor:
    """Return the log weight of each chain; the path is that of the moves."""
    log_w = torch.zeros_like(z[..., 0])
    for before, after in zip(betas.tolist(), betas.tolist()[1:], strict=False):
        if not new_states:
            log_w = log_w + (after - before) * log_likelihood(z).detach()
        z = hmc_step(lambda z, b=after: path(log_prior, log_likelihood, z, b), z)  # type: ignore[misc]
        if new_states:
            log_w = log_w + (after - before) * log_likelihood(z).detach()
    return log_w


def averaged(log_w: Tensor) -> Tensor:
    """Return the log of the average weight of the chains."""
    return torch.logsumexp(log_w, 0) - math.log(len(log_w))


def log_evidence_lower(*given: Any) -> Tensor:
    """Estimate log p(x) from below, by annealed importance sampling."""
    return averaged(log_weights(*given))


def log_evidence_upper(*given: Any) -> Tensor:
    """Estimate log p(x) from above, by chains from the posterior back to the prior."""
    return -averaged(log_weights(*given))


def specimen(name: str = "specimen", **changes: Any) -> EvidenceEstimator:
    """Return a correct subject, some of whose functions are replaced."""
    functions: dict[str, Any] = {
        "log_evidence_lower": log_evidence_lower,
        "log_evidence_upper": log_evidence_upper,
        "log_annealed": log_annealed,
        "hmc_step": hmc_step,
        "leapfrog": leapfrog,
        "acceptance": acceptance,
    }
    return EvidenceEstimator(name=name, **(functions | changes))


bank.describe(
    "evidence",
    specimen,
    log_evidence_lower="log (1/K) Σ_k w_k,  log w = Σ_t (β_t − β_{t−1}) log p(x|z_{t−1})",
    log_evidence_upper="−log (1/K) Σ_k w_k,  log w = Σ_t (β_t − β_{t−1}) log p(x|z_{t−1})",
    log_annealed="log p(z) + β log p(x|z)",
    hmc_step="z' if u < exp(H(z, v) − H(z', v')), else z",
    leapfrog="v += ½ε ∇log f(z),  z += ε v,  v += ½ε ∇log f(z)",
    acceptance="min(1, exp(H − H'))",
)

of_lower = partial(bank.mutant, "log_evidence_lower", deterministic=False)
of_upper = partial(bank.mutant, "log_evidence_upper", deterministic=False)
of_path = partial(bank.mutant, "log_annealed")
of_move = partial(bank.mutant, "hmc_step", deterministic=False)
of_leapfrog = partial(bank.mutant, "leapfrog")
of_acceptance = partial(bank.mutant, "acceptance")


@of_lower(
    "ais-without-log-k",
    "your estimate adds up the weights of the chains: it lacks −log K",
    wrong="log Σ_k w_k",
    seen=("YosefLab/scVI-dev#8",),
)
def ais_without_log_k(*given: Any) -> Tensor:
    return torch.logsumexp(log_weights(*given), 0)


@of_lower(
    "ais-averaged-over-temperatures",
    "your estimate divides the sum over the chains by the number of temperatures, not of chains",
    wrong="log (1/T) Σ_k w_k",
    seen=("tensorflow/probability#267",),
)
def ais_over_temperatures(prior: Any, likelihood: Any, z: Tensor, betas: Tensor) -> Tensor:
    steps = len(betas) - 1
    return torch.logsumexp(log_weights(prior, likelihood, z, betas), 0) - math.log(steps)


@of_lower(
    "ais-mean-of-logs",
    "your estimate averages the logarithms of the weights, not the weights",
    wrong="(1/K) Σ_k log w_k",
    seen=("arahuja/generative-tf#1 (asked about)",),
)
def ais_mean_of_logs(*given: Any) -> Tensor:
    return log_weights(*given).mean(0)


@of_lower(
    "ais-weights-of-new-states",
    "your chains move to the next temperature before they are weighed: weigh the old states",
    wrong="log w = Σ_t (β_t − β_{t−1}) log p(x|z_t)",
    seen=("DsysDML/rbms#6",),
)
def ais_weights_of_new_states(*given: Any) -> Tensor:
    return averaged(log_weights(*given, new_states=True))


@of_lower(
    "ais-schedule-reversed",
    "your chains start at the prior, but their temperatures go from 1 to 0",
    wrong="log w = Σ_t (β_{t−1} − β_t) log p(x|z_{t−1})",
)
def ais_schedule_reversed(prior: Any, likelihood: Any, z: Tensor, betas: Tensor) -> Tensor:
    return averaged(log_weights(prior, likelihood, z, betas.flip(0)))


@of_lower(
    "ais-last-temperature-left-out",
    "your chains end before the temperature is 1: the last term of the weight is missing",
    wrong="log w = Σ_{t<T} (β_t − β_{t−1}) log p(x|z_{t−1})",
)
def ais_last_left_out(prior: Any, likelihood: Any, z: Tensor, betas: Tensor) -> Tensor:
    return averaged(log_weights(prior, likelihood, z, betas[:-1]))


@of_lower(
    "ais-prior-in-the-weights",
    "your weights have the prior in them, though the path keeps it at every temperature",
    wrong="log w = Σ_t (β_t − β_{t−1}) log p(x, z_{t−1})",
)
def ais_prior_in_the_weights(prior: Any, likelihood: Any, z: Tensor, betas: Tensor) -> Tensor:
    def joint(z: Tensor) -> Tensor:
        return prior(z) + likelihood(z)  # type: ignore[no-any-return]

    def path(prior: Any, joint: Any, z: Tensor, beta: float) -> Tensor:
        return (1 - beta) * prior(z) + beta * joint(z)  # type: ignore[no-any-return]

    return averaged(log_weights(prior, joint, z, betas, path=path))


@of_lower(
    "ais-moves-without-prior",
    "your chains move as if there were no prior",
    wrong="T_t leaves p(x|z)^β_t as it is, not p(z) p(x|z)^β_t",
)
def ais_moves_without_prior(*given: Any) -> Tensor:
    return averaged(log_weights(*given, path=lambda p, f, z, beta: beta * f(z)))


@of_lower(
    "ais-moves-to-another-target",
    "your chains move towards another density than the one that they are weighed for",
    wrong="T_t leaves p(z) p(x|z)^{2β_t} as it is, not p(z) p(x|z)^β_t",
    seen=("lollcat/fab-torch#72",),
)
def ais_moves_to_another_target(*given: Any) -> Tensor:
    return averaged(log_weights(*given, path=lambda p, f, z, beta: p(z) + 2 * beta * f(z)))


@of_lower(
    "ais-resampled-and-weighed-again",
    "your chains are resampled by their weights, and keep these weights",
    wrong="w_k ← w_k after z_k ← z_a, a ~ w",
)
def ais_resampled(prior: Any, likelihood: Any, z: Tensor, betas: Tensor) -> Tensor:
    half = len(betas) // 2 + 1
    log_w = log_weights(prior, likelihood, z, betas[:half])
    a = torch.multinomial(torch.softmax(log_w.T, 1), len(z), replacement=True).T
    z, log_w = z.gather(0, a.unsqueeze(-1).expand_as(z)), log_w.gather(0, a)
    return averaged(log_w + log_weights(prior, likelihood, z, betas[half - 1 :]))


@of_upper(
    "reverse-without-log-k",
    "your upper estimate adds up the weights of the chains: it lacks log K",
    wrong="−log Σ_k w_k",
)
def reverse_without_log_k(*given: Any) -> Tensor:
    return -torch.logsumexp(log_weights(*given), 0)


@of_upper(
    "reverse-not-negated",
    "your upper estimate is the log weight of the reverse chains: the minus sign is missing",
    wrong="log (1/K) Σ_k w_k",
)
def reverse_not_negated(*given: Any) -> Tensor:
    return averaged(log_weights(*given))


@of_upper(
    "reverse-averaged-inverse",
    "your upper estimate averages 1/w over the chains, not w",
    wrong="log (1/K) Σ_k 1/w_k",
)
def reverse_averaged_inverse(*given: Any) -> Tensor:
    return averaged(-log_weights(*given))


@of_upper(
    "reverse-weights-of-new-states",
    "your reverse chains move to the next temperature before they are weighed: weigh the old "
    "states",
    wrong="log w = Σ_t (β_t − β_{t−1}) log p(x|z_t)",
)
def reverse_weights_of_new_states(*given: Any) -> Tensor:
    return -averaged(log_weights(*given, new_states=True))


@of_path(
    "annealed-prior-too",
    "your path anneals the prior too, and so begins at a density that cannot be drawn from",
    wrong="β log p(z) + β log p(x|z)",
)
def annealed_prior_too(prior: Any, likelihood: Any, z: Tensor, beta: float) -> Tensor:
    return beta * (prior(z) + likelihood(z))  # type: ignore[no-any-return]


@of_path(
    "annealed-from-the-wrong-end",
    "your path is the posterior at temperature 0 and the prior at 1",
    wrong="log p(z) + (1 − β) log p(x|z)",
)
def annealed_from_the_wrong_end(prior: Any, likelihood: Any, z: Tensor, beta: float) -> Tensor:
    return log_annealed(prior, likelihood, z, 1 - beta)


@of_move(
    "hmc-always-accepts",
    "your moves are always accepted: the energy of the proposal is compared with itself",
    wrong="z' always",
    seen=("bob-carpenter/walnuts#27",),
)
def hmc_always_accepts(log_density: LogDensity, z: Tensor) -> Tensor:
    return leapfrog(log_density, z, torch.randn_like(z), STEP, STEPS)[0]


@of_move(
    "hmc-energy-of-the-old-momentum",
    "the energy before your moves is computed with other momenta than those that the moves start "
    "with",
    wrong="z' if u < exp(H(z, v_old) − H(z', v')), else z",
    seen=("kazewong/flowMC#78",),
)
def hmc_old_momentum(log_density: LogDensity, z: Tensor) -> Tensor:
    before, v = energy(log_density, z, torch.randn_like(z)), torch.randn_like(z)
    new, end = leapfrog(log_density, z, v, STEP, STEPS)
    odds = acceptance(before, energy(log_density, new, end))
    return chosen(torch.rand_like(odds) < odds, new, z)


@of_move(
    "hmc-kinetic-energy-of-the-codes",
    "the kinetic energy before your moves is computed from the codes, not from the momenta",
    wrong="z' if u < exp(H(z, z) − H(z', v')), else z",
    seen=("blackjax-devs/blackjax#46",),
)
def hmc_kinetic_of_codes(log_density: LogDensity, z: Tensor) -> Tensor:
    new, end = leapfrog(log_density, z, torch.randn_like(z), STEP, STEPS)
    odds = acceptance(energy(log_density, z, z), energy(log_density, new, end))
    return chosen(torch.rand_like(odds) < odds, new, z)


@of_move(
    "hmc-keeps-accepted-only",
    "your moves are repeated until one is accepted: a refused one must count as a move to itself",
    wrong="z' of the first proposal that is accepted",
    seen=("AdamCobb/hamiltorch#5",),
)
def hmc_accepted_only(log_density: LogDensity, z: Tensor) -> Tensor:
    moved = hmc_step(log_density, z)
    for _ in range(9):
        stayed = (moved == z).all(-1)
        moved = chosen(stayed, hmc_step(log_density, z), moved)
    return moved


@of_move(
    "hmc-momentum-shared",
    "all of your chains have the same momentum, and so do not move independently",
    wrong="v_k = v for all chains",
)
def hmc_momentum_shared(log_density: LogDensity, z: Tensor) -> Tensor:
    v = torch.randn_like(z[:1]).expand_as(z)
    new, end = leapfrog(log_density, z, v, STEP, STEPS)
    odds = acceptance(energy(log_density, z, v), energy(log_density, new, end))
    return chosen(torch.rand_like(odds) < odds, new, z)


@of_leapfrog(
    "leapfrog-without-half-steps",
    "your leapfrog steps begin with a whole step of the momenta, not with a half one",
    wrong="v += ε ∇log f(z),  z += ε v",
)
def leapfrog_whole(
    log_density: LogDensity, z: Tensor, v: Tensor, step: float, steps: int
) -> tuple[Tensor, Tensor]:
    for _ in range(steps):
        v = v + step * slope(log_density, z)
        z = z + step * v
    return z, v


@of_leapfrog(
    "leapfrog-half-as-far",
    "your leapfrog steps move the codes by half a step",
    wrong="v += ½ε ∇log f(z),  z += ½ε v,  v += ½ε ∇log f(z)",
    seen=("improbable-research/keanu#492",),
)
def leapfrog_half_as_far(
    log_density: LogDensity, z: Tensor, v: Tensor, step: float, steps: int
) -> tuple[Tensor, Tensor]:
    for _ in range(steps):
        v = v + step / 2 * slope(log_density, z)
        z = z + step / 2 * v
        v = v + step / 2 * slope(log_density, z)
    return z, v


@of_leapfrog(
    "leapfrog-without-the-last-half-step",
    "your leapfrog steps lack the last half step of the momenta",
    wrong="v += ½ε ∇log f(z),  z += ε v",
    seen=("pints-team/pints#957 (in its documentation)",),
)
def leapfrog_without_last(
    log_density: LogDensity, z: Tensor, v: Tensor, step: float, steps: int
) -> tuple[Tensor, Tensor]:
    v = v + step / 2 * slope(log_density, z)
    for n in range(steps):
        z = z + step * v
        v = v + (step if n < steps - 1 else 0.0) * slope(log_density, z)
    return z, v


@of_leapfrog(
    "leapfrog-uphill",
    "your leapfrog steps go against the slope of the log density",
    wrong="v −= ½ε ∇log f(z),  z += ε v,  v −= ½ε ∇log f(z)",
)
def leapfrog_uphill(log_density: LogDensity, *rest: Any) -> tuple[Tensor, Tensor]:
    return leapfrog(lambda z: -log_density(z), *rest)


@of_acceptance(
    "acceptance-reversed",
    "your acceptance probability has the wrong sign: it favours proposals of a higher energy",
    wrong="min(1, exp(H' − H))",
    seen=("lollcat/fab-jax#14",),
)
def acceptance_reversed(before: Tensor, after: Tensor) -> Tensor:
    return acceptance(after, before)


@of_acceptance(
    "acceptance-ratio-of-energies",
    "your acceptance probability is the ratio of the energies, which are logarithms: subtract "
    "them",
    wrong="min(1, |H| / |H'|)",
    seen=("thouska/spotpy#156 (asked about)",),
)
def acceptance_ratio(before: Tensor, after: Tensor) -> Tensor:
    return (before.abs() / after.abs()).clamp(max=1.0)
