"""Bugs of the terms that disentangle latents, of capacities and free bits, and of schedules."""

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Normal

from vae_ref.conformance.kinds.disentangling import DisentanglingTerms, Schedule
from vae_ref.conformance.mutants import bank

__all__ = ["specimen"]

LAMBDA_OD, LAMBDA_D, GAMMA, FLOOR = 5.0, 10.0, 100.0, 0.5
SCHEDULE = Schedule(steps=100, end=0.5, cycle=200)
EPOCH = 10  # training steps

Parts = tuple[Tensor, Tensor, Tensor]


def stratified_log_weights(batch: int, data: int) -> Tensor:
    """Fill the last place that is not the example's own with what remains."""
    m = batch - 1
    weights = torch.full((batch, batch), 1 / m)
    for row in range(batch):
        weights[row, m if row < m else m - 1] = 1 / m - 1 / data
        weights[row, row] = 1 / data
    return weights.log()


def _pairs(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Return log q(z_id | x_j), shape (i, j, d)."""
    return Normal(mu, torch.exp(logvar / 2)).log_prob(z.unsqueeze(1))  # type: ignore[no-any-return]


def _joint_and_marginals(pairs: Tensor, log_w: Tensor | float) -> tuple[Tensor, Tensor]:
    log_w = torch.as_tensor(log_w, dtype=pairs.dtype)
    log_q = torch.logsumexp(pairs.sum(2) + log_w, 1)
    return log_q, torch.logsumexp(pairs + log_w[..., None], 1).sum(1)


def _parts(pairs: Tensor, z: Tensor, joint_and_marginals: tuple[Tensor, Tensor]) -> Parts:
    log_q, log_marginals = joint_and_marginals
    own = torch.diagonal(pairs).sum(0)
    return own - log_q, log_q - log_marginals, log_marginals - Normal(0.0, 1.0).log_prob(z).sum(1)


def _weighted(z: Tensor, data: int) -> float:
    return -math.log(data * len(z))


def decomposition(z: Tensor, mu: Tensor, logvar: Tensor, data: int) -> Parts:
    """Return the parts of the KL by minibatch weighted sampling."""
    pairs = _pairs(z, mu, logvar)
    return _parts(pairs, z, _joint_and_marginals(pairs, _weighted(z, data)))


def total_correlation(z: Tensor, mu: Tensor, logvar: Tensor, data: int) -> Tensor:
    """Return the total correlation of every code."""
    return decomposition(z, mu, logvar, data)[1]


def _covariance(mu: Tensor) -> Tensor:
    return torch.cov(mu.T, correction=0)


def _spread(logvar: Tensor) -> Tensor:
    return torch.diag(torch.exp(logvar).mean(0))


def _penalty(covariance: Tensor, od: float = LAMBDA_OD, d: float = LAMBDA_D) -> Tensor:
    identity = torch.eye(len(covariance), dtype=covariance.dtype)
    weights = od + (d - od) * identity
    return (weights * (covariance - identity) ** 2).sum()


def dip_penalty(mu: Tensor, logvar: Tensor) -> Tensor:
    """Return the penalty of DIP-VAE-II."""
    return _penalty(_covariance(mu) + _spread(logvar))


def permute_latents(z: Tensor) -> Tensor:
    """Shuffle every column."""
    return torch.stack([column[torch.randperm(len(z))] for column in z.unbind(1)], 1)


def tc_from_logits(logits: Tensor) -> Tensor:
    """Return the log odds that codes are joint."""
    log_p = F.log_softmax(logits, 1)
    return log_p[:, 0] - log_p[:, 1]


def discriminator_loss(joint: Tensor, permuted: Tensor) -> Tensor:
    """Return the mean cross-entropy, with label 0 for joint codes."""
    labels = torch.cat([torch.zeros(len(joint)), torch.ones(len(permuted))]).long()
    return F.cross_entropy(torch.cat([joint, permuted]), labels)


def capacity_term(kl: Tensor, capacity: float) -> Tensor:
    """Return the distance of the mean KL from the capacity."""
    return GAMMA * F.l1_loss(kl.mean(), torch.full_like(kl.mean(), capacity))


def free_bits(kl: Tensor) -> Tensor:
    """Return the KL with a floor for the mean of every latent."""
    mean = kl.mean(0)
    return torch.where(mean > FLOOR, mean, torch.full_like(mean, FLOOR)).sum()


def weight_at(step: int) -> float:
    """Return the weight of a cyclical schedule."""
    assert SCHEDULE.cycle is not None  # noqa: S101 - it is written above
    share = (step % SCHEDULE.cycle) / SCHEDULE.steps
    return SCHEDULE.end if share > 1 else share * SCHEDULE.end


def specimen(
    name: str = "specimen",
    *,
    sampling: Any = "weighted",
    floor_over: Any = "latent",
    **changes: Any,
) -> DisentanglingTerms:
    """Return a correct subject, some of whose functions are replaced."""
    functions: dict[str, Any] = {
        "stratified_log_weights": stratified_log_weights,
        "decomposition": decomposition,
        "total_correlation": total_correlation,
        "dip_penalty": dip_penalty,
        "permute_latents": permute_latents,
        "tc_from_logits": tc_from_logits,
        "discriminator_loss": discriminator_loss,
        "capacity_term": capacity_term,
        "free_bits": free_bits,
        "weight_at": weight_at,
        "lambda_od": LAMBDA_OD,
        "lambda_d": LAMBDA_D,
        "dip_version": "II",
        "gamma": GAMMA,
        "floor": FLOOR,
        "schedule": SCHEDULE,
    }
    if sampling != "weighted":  # the specimen's own are weighted
        functions |= {"decomposition": None, "total_correlation": None}
    if floor_over != "latent":
        functions |= {"free_bits": None}
    return DisentanglingTerms(
        name=name, sampling=sampling, floor_over=floor_over, **(functions | changes)
    )


bank.describe(
    "disentangling",
    specimen,
    stratified_log_weights="w_ii = 1/N, one other (N − M)/(NM), the rest 1/M, with M = B − 1",
    decomposition="log q(z|x)/q(z), log q(z)/∏_d q(z_d), log ∏_d q(z_d)/p(z)",
    total_correlation="log Σ_j w_ij ∏_d q(z_id|x_j) − Σ_d log Σ_j w_ij q(z_id|x_j)",
    dip_penalty="λ_od Σ_{i≠j} C_ij² + λ_d Σ_i (C_ii − 1)²",
    permute_latents="z_{π_d(n), d}, with a permutation π_d for every latent",
    tc_from_logits="l_joint − l_permuted",
    discriminator_loss="−½ E_q[log D(z)] − ½ E_∏q[log(1 − D(z))]",
    capacity_term="γ |KL − C|",
    free_bits="Σ_d max(λ, E_n[KL_nd])",
    weight_at="w₀ + (w₁ − w₀) min(1, (t mod T)/S)",
)

STRATIFIED: Any = "stratified"
EXAMPLE: Any = "example"

of_weights = partial(bank.mutant, "stratified_log_weights")
of_parts = partial(bank.mutant, "decomposition")
of_tc = partial(bank.mutant, "total_correlation")
of_dip = partial(bank.mutant, "dip_penalty")
of_shuffle = partial(bank.mutant, "permute_latents", deterministic=False)
of_logits = partial(bank.mutant, "tc_from_logits")
of_loss = partial(bank.mutant, "discriminator_loss")
of_capacity = partial(bank.mutant, "capacity_term")
of_floor = partial(bank.mutant, "free_bits")
of_schedule = partial(bank.mutant, "weight_at")

_IN_A_COLUMN = (
    "rtqichen/beta-tcvae#1",
    "YannDubs/disentangling-vae#58 (asked about)",
    "clementchadebec/benchmark_VAE",
)


@of_weights(
    "stratified-weights-in-a-column",
    "your weight 1/N is in the first column, not on the diagonal: a stride of B walks down a "
    "column, one of B + 1 down the diagonal",
    wrong="w_i0 = 1/N, w_i1 = (N − M)/(NM), the rest 1/M, w_{B−2, 0} = (N − M)/(NM)",
    seen=_IN_A_COLUMN,
)
def stratified_in_a_column(batch: int, data: int) -> Tensor:
    weights = torch.full((batch, batch), 1 / (batch - 1))
    weights[:, 1] = 1 / (batch - 1) - 1 / data
    weights[:, 0] = 1 / data
    weights[batch - 2, 0] = 1 / (batch - 1) - 1 / data
    return weights.log()


@of_weights(
    "stratified-weights-of-the-batch",
    "your weights are 1/B for every example: they count the example itself too often",
    wrong="w_ij = 1/B",
)
def stratified_of_the_batch(batch: int, data: int) -> Tensor:
    return torch.full((batch, batch), -math.log(batch))


@of_weights(
    "stratified-weights-without-the-rest",
    "your weights lack the one that makes a row add up to 1: all but that of the example itself "
    "are 1/M",
    wrong="w_ii = 1/N, w_ij = 1/M",
)
def stratified_without_the_rest(batch: int, data: int) -> Tensor:
    weights = torch.full((batch, batch), 1 / (batch - 1))
    return weights.fill_diagonal_(1 / data).log()


@of_weights(
    "stratified-weights-not-logarithms",
    "your weights are not logarithms, but are added to logarithms",
    wrong="w_ij in place of log w_ij",
)
def stratified_not_logarithms(batch: int, data: int) -> Tensor:
    return stratified_log_weights(batch, data).exp()


@of_parts(
    "decomposition-weights-in-a-column",
    "the weight 1/N of your stratified sampling is in the first column, not on the diagonal",
    wrong="q(z_i) ≈ q(z_i|x_0)/N + (N − M)/(NM) q(z_i|x_1) + 1/M Σ_{j>1} q(z_i|x_j)",
    seen=_IN_A_COLUMN,
    sampling=STRATIFIED,
)
def decomposition_in_a_column(z: Tensor, mu: Tensor, logvar: Tensor, data: int) -> Parts:
    pairs, log_w = _pairs(z, mu, logvar), stratified_in_a_column(len(z), data)
    return _parts(pairs, z, _joint_and_marginals(pairs, log_w))


@of_parts(
    "decomposition-without-log-nb",
    "your log-sum-exp lacks -log(NB): the mutual information is too small, and the total "
    "correlation negative; the gradients are right",
    wrong="log q(z_i) ≈ log Σ_j q(z_i|x_j)",
    seen=("YannDubs/disentangling-vae#60", "AntixK/PyTorch-VAE"),
)
def decomposition_without_log_nb(z: Tensor, mu: Tensor, logvar: Tensor, data: int) -> Parts:
    pairs = _pairs(z, mu, logvar)
    return _parts(pairs, z, _joint_and_marginals(pairs, 0.0))


@of_parts(
    "decomposition-log-n-once",
    "log(NB) is subtracted from the logarithm of the product once, not once for every latent",
    wrong="log ∏_d q(z_d) ≈ Σ_d log Σ_j q(z_id|x_j) − log(NB)",
)
def decomposition_log_n_once(z: Tensor, mu: Tensor, logvar: Tensor, data: int) -> Parts:
    pairs, log_w = _pairs(z, mu, logvar), _weighted(z, data)
    log_q, bare = _joint_and_marginals(pairs, 0.0)
    return _parts(pairs, z, (log_q + log_w, bare + log_w))


@of_parts(
    "decomposition-over-the-wrong-axis",
    "your log-sum-exp is over the codes, not over the posteriors",
    wrong="log Σ_i q(z_i|x_j)",
    seen=("pyro-ppl/pyro#1214 (of importance weights)",),
)
def decomposition_wrong_axis(z: Tensor, mu: Tensor, logvar: Tensor, data: int) -> Parts:
    pairs = _pairs(z, mu, logvar)
    return _parts(pairs, z, _joint_and_marginals(pairs.transpose(0, 1), _weighted(z, data)))


@of_parts(
    "decomposition-tc-reversed",
    "your total correlation has the wrong sign: it is log ∏ q(z_d) - log q(z)",
    wrong="TC = log ∏_d q(z_d)/q(z)",
)
def decomposition_tc_reversed(z: Tensor, mu: Tensor, logvar: Tensor, data: int) -> Parts:
    information, tc, dimension_wise = decomposition(z, mu, logvar, data)
    return information, -tc, dimension_wise


@of_parts(
    "decomposition-marginals-of-the-joint",
    "the latents are summed before the log-sum-exp of your marginals: the total correlation "
    "vanishes",
    wrong="log ∏_d q(z_d) ≈ log Σ_j w_ij ∏_d q(z_id|x_j)",
)
def decomposition_marginals_of_the_joint(
    z: Tensor, mu: Tensor, logvar: Tensor, data: int
) -> Parts:
    pairs = _pairs(z, mu, logvar)
    log_q, _ = _joint_and_marginals(pairs, _weighted(z, data))
    return _parts(pairs, z, (log_q, log_q))


@of_parts(
    "decomposition-dimension-wise-of-the-posterior",
    "your dimension-wise KL is that of the posteriors, not of the aggregate: it counts the mutual "
    "information and the total correlation once more",
    wrong="DWKL = KL(q(z|x) ‖ p(z))",
    seen=("YannDubs/disentangling-vae#29",),
)
def decomposition_of_the_posterior(z: Tensor, mu: Tensor, logvar: Tensor, data: int) -> Parts:
    information, tc, _ = decomposition(z, mu, logvar, data)
    return information, tc, 0.5 * (mu**2 + logvar.exp() - logvar - 1).sum(1)


@of_parts(
    "decomposition-sigma-for-variance",
    "your densities take the log variance for the log standard deviation",
    wrong="q(z|x) = N(μ, (σ²)²)",
)
def decomposition_sigma(z: Tensor, mu: Tensor, logvar: Tensor, data: int) -> Parts:
    return decomposition(z, mu, 2 * logvar, data)


@of_parts(
    "decomposition-mean-over-latents",
    "your log densities are averaged over the latents, not summed",
    wrong="log q(z) ≈ log Σ_j w_ij exp(1/D Σ_d log q(z_id|x_j))",
)
def decomposition_mean(z: Tensor, mu: Tensor, logvar: Tensor, data: int) -> Parts:
    pairs, log_w = _pairs(z, mu, logvar), _weighted(z, data)
    _, log_marginals = _joint_and_marginals(pairs, log_w)
    return _parts(
        pairs, z, (torch.logsumexp(pairs.mean(2) + log_w, 1), log_marginals / z.shape[1])
    )


@of_parts(
    "decomposition-without-the-example-itself",
    "your estimate of q(z) leaves out the posterior that z was drawn from",
    wrong="q(z_i) ≈ 1/(NB) Σ_{j≠i} q(z_i|x_j)",
)
def decomposition_without_itself(z: Tensor, mu: Tensor, logvar: Tensor, data: int) -> Parts:
    pairs = _pairs(z, mu, logvar)
    others = torch.full((len(z), len(z)), _weighted(z, data), dtype=z.dtype)
    return _parts(pairs, z, _joint_and_marginals(pairs, others.fill_diagonal_(-torch.inf)))


@of_parts(
    "decomposition-parts-in-another-order",
    "your parts are in another order: total correlation, mutual information, dimension-wise KL",
    wrong="(TC, MI, DWKL)",
)
def decomposition_in_another_order(z: Tensor, mu: Tensor, logvar: Tensor, data: int) -> Parts:
    information, tc, dimension_wise = decomposition(z, mu, logvar, data)
    return tc, information, dimension_wise


@of_parts(
    "decomposition-log-of-densities",
    "your densities are added up as they are, not by a log-sum-exp: they underflow",
    wrong="log Σ_j exp(log q(z_i|x_j))",
    seen=("nmichlo/disent#41",),
)
def decomposition_log_of_densities(z: Tensor, mu: Tensor, logvar: Tensor, data: int) -> Parts:
    pairs, log_w = _pairs(z, mu, logvar), _weighted(z, data)
    log_q = pairs.sum(2).exp().sum(1).log() + log_w
    return _parts(pairs, z, (log_q, (pairs.exp().sum(1).log() + log_w).sum(1)))


@of_parts(
    "decomposition-aggregate-detached",
    "your aggregate is computed from detached posteriors: the encoder learns from it through the "
    "codes alone",
    wrong="q(z) ≈ Σ_j w_ij stop-gradient(q)(z_i|x_j)",
)
def decomposition_aggregate_detached(z: Tensor, mu: Tensor, logvar: Tensor, data: int) -> Parts:
    pairs = _pairs(z, mu.detach(), logvar.detach())
    both = _joint_and_marginals(pairs, _weighted(z, data))
    return _parts(_pairs(z, mu, logvar), z, both)


@of_parts(
    "decomposition-code-detached",
    "your parts are computed from detached codes: no gradient goes through z",
    wrong="log q(stop-gradient(z))",
)
def decomposition_code_detached(z: Tensor, mu: Tensor, logvar: Tensor, data: int) -> Parts:
    return decomposition(z.detach(), mu, logvar, data)


@of_tc(
    "tc-weights-in-a-column",
    "the weight 1/N of your stratified sampling is in the first column, not on the diagonal",
    wrong="w_i0 = 1/N in place of w_ii = 1/N",
    seen=_IN_A_COLUMN,
    sampling=STRATIFIED,
)
def tc_in_a_column(z: Tensor, mu: Tensor, logvar: Tensor, data: int) -> Tensor:
    return decomposition_in_a_column(z, mu, logvar, data)[1]  # type: ignore[no-any-return]


@of_tc(
    "tc-without-log-nb",
    "your log-sum-exp lacks -log(NB): the total correlation is negative; its gradient is right",
    wrong="log Σ_j ∏_d q(z_id|x_j) − Σ_d log Σ_j q(z_id|x_j)",
    seen=("YannDubs/disentangling-vae#60", "YannDubs/disentangling-vae#54"),
)
def tc_without_log_nb(z: Tensor, mu: Tensor, logvar: Tensor, data: int) -> Tensor:
    return decomposition_without_log_nb(z, mu, logvar, data)[1]  # type: ignore[no-any-return]


@of_tc(
    "tc-over-the-wrong-axis",
    "your log-sum-exp is over the codes, not over the posteriors",
    wrong="log Σ_i q(z_i|x_j)",
    seen=("pyro-ppl/pyro#1214 (of importance weights)",),
)
def tc_wrong_axis(z: Tensor, mu: Tensor, logvar: Tensor, data: int) -> Tensor:
    return decomposition_wrong_axis(z, mu, logvar, data)[1]  # type: ignore[no-any-return]


@of_tc(
    "tc-reversed",
    "your total correlation has the wrong sign: what should fall is made to rise",
    wrong="log ∏_d q(z_d)/q(z)",
)
def tc_reversed(z: Tensor, mu: Tensor, logvar: Tensor, data: int) -> Tensor:
    return -total_correlation(z, mu, logvar, data)


@of_tc(
    "tc-of-the-posteriors",
    "your total correlation is a penalty on the variances of the posteriors: it does not depend "
    "on how the latents depend on each other",
    wrong="Σ_d (σ² − 1 − log σ²)",
    seen=("DaoyuanLi2816/Molecule-Generator#61",),
)
def tc_of_the_posteriors(z: Tensor, mu: Tensor, logvar: Tensor, data: int) -> Tensor:
    return (logvar.exp() - 1 - logvar).sum(1)


@of_tc(
    "tc-marginals-by-the-mean",
    "the logarithms of your marginals are averaged over the latents, not summed",
    wrong="log q(z) − 1/D Σ_d log q(z_d)",
)
def tc_marginals_by_the_mean(z: Tensor, mu: Tensor, logvar: Tensor, data: int) -> Tensor:
    log_q, log_marginals = _joint_and_marginals(_pairs(z, mu, logvar), _weighted(z, data))
    return log_q - log_marginals / z.shape[1]


@of_tc(
    "tc-log-of-densities",
    "your densities are added up as they are, not by a log-sum-exp: they underflow",
    wrong="log Σ_j exp(log q(z_i|x_j))",
    seen=("nmichlo/disent#41",),
)
def tc_log_of_densities(z: Tensor, mu: Tensor, logvar: Tensor, data: int) -> Tensor:
    return decomposition_log_of_densities(z, mu, logvar, data)[1]  # type: ignore[no-any-return]


@of_tc(
    "tc-aggregate-detached",
    "your aggregate is computed from detached posteriors",
    wrong="q(z) ≈ Σ_j w_ij stop-gradient(q)(z_i|x_j)",
)
def tc_aggregate_detached(z: Tensor, mu: Tensor, logvar: Tensor, data: int) -> Tensor:
    return total_correlation(z, mu.detach(), logvar.detach(), data)


@of_dip(
    "dip-not-centred",
    "your covariance is a second moment: the means are not subtracted",
    wrong="C = E[μ μᵀ]",
)
def dip_not_centred(mu: Tensor, logvar: Tensor) -> Tensor:
    return _penalty(mu.T @ mu / len(mu) + _spread(logvar))


@of_dip(
    "dip-centred-over-latents",
    "your means are centred over the latents, not over the batch",
    wrong="C = E[(μ − mean_d μ)(μ − mean_d μ)ᵀ]",
    seen=("AntixK/PyTorch-VAE",),
)
def dip_centred_over_latents(mu: Tensor, logvar: Tensor) -> Tensor:
    centred = mu - mu.mean(1, keepdim=True)
    return _penalty(centred.T @ centred / len(mu) + _spread(logvar))


@of_dip(
    "dip-not-divided-by-batch",
    "your covariance is a sum over the batch: it is not divided by the number of examples",
    wrong="C = Σ_n (μ_n − μ̄)(μ_n − μ̄)ᵀ",
    seen=("AntixK/PyTorch-VAE",),
)
def dip_not_divided(mu: Tensor, logvar: Tensor) -> Tensor:
    return _penalty(len(mu) * _covariance(mu) + _spread(logvar))


@of_dip(
    "dip-variance-on-all-entries",
    "the variances of your posteriors are added to all entries of the covariance, not to its "
    "diagonal",
    wrong="C_ij = Cov[μ]_ij + E[σ_j²]",
    seen=("AntixK/PyTorch-VAE",),
)
def dip_variance_on_all(mu: Tensor, logvar: Tensor) -> Tensor:
    return _penalty(_covariance(mu) + logvar.exp().mean(0))


@of_dip(
    "dip-variance-squared",
    "your variance is exp(2 logvar), though logvar is the logarithm of a variance already",
    wrong="C = Cov[μ] + E[diag σ⁴]",
    seen=("AntixK/PyTorch-VAE",),
)
def dip_variance_squared(mu: Tensor, logvar: Tensor) -> Tensor:
    return _penalty(_covariance(mu) + _spread(2 * logvar))


@of_dip(
    "dip-variance-missing",
    "your covariance is that of the means, though version II is declared: the variances of the "
    "posteriors are missing",
    wrong="C = Cov[μ]",
)
def dip_variance_missing(mu: Tensor, logvar: Tensor) -> Tensor:
    return _penalty(_covariance(mu))


@of_dip(
    "dip-weights-swapped",
    "the weights of your penalty on and off the diagonal are swapped",
    wrong="λ_d Σ_{i≠j} C_ij² + λ_od Σ_i (C_ii − 1)²",
)
def dip_weights_swapped(mu: Tensor, logvar: Tensor) -> Tensor:
    return _penalty(_covariance(mu) + _spread(logvar), od=LAMBDA_D, d=LAMBDA_OD)


@of_dip(
    "dip-diagonal-to-zero",
    "your penalty pulls the variances to 0, not to 1",
    wrong="λ_od Σ_{i≠j} C_ij² + λ_d Σ_i C_ii²",
)
def dip_diagonal_to_zero(mu: Tensor, logvar: Tensor) -> Tensor:
    whole = _covariance(mu) + _spread(logvar)
    return _penalty(whole + torch.eye(len(whole), dtype=whole.dtype))


@of_dip(
    "dip-half-of-the-pairs",
    "every pair of latents is counted once, not twice: the weight off the diagonal is half of "
    "that declared",
    wrong="λ_od Σ_{i<j} C_ij² + λ_d Σ_i (C_ii − 1)²",
)
def dip_half_of_the_pairs(mu: Tensor, logvar: Tensor) -> Tensor:
    return _penalty(_covariance(mu) + _spread(logvar), od=LAMBDA_OD / 2)


@of_dip(
    "dip-diagonal-weighed-twice",
    "the diagonal is in both terms of your penalty: it is not taken out of the first",
    wrong="λ_od Σ_ij C_ij² + λ_d Σ_i (C_ii − 1)²",
)
def dip_diagonal_twice(mu: Tensor, logvar: Tensor) -> Tensor:
    whole = _covariance(mu) + _spread(logvar)
    return _penalty(whole) + LAMBDA_OD * whole.diagonal().square().sum()


@of_dip(
    "dip-variance-detached",
    "the variances in your penalty are detached: it does not move them",
    wrong="C = Cov[μ] + stop-gradient(E[diag σ²])",
)
def dip_variance_detached(mu: Tensor, logvar: Tensor) -> Tensor:
    return dip_penalty(mu, logvar.detach())


@of_dip(
    "dip-means-detached",
    "the covariance of the means in your penalty is detached: it does not move them",
    wrong="C = stop-gradient(Cov[μ]) + E[diag σ²]",
)
def dip_means_detached(mu: Tensor, logvar: Tensor) -> Tensor:
    return dip_penalty(mu.detach(), logvar)


@of_shuffle(
    "latents-permuted-together",
    "your permutation is one for all latents: whole codes change places, and nothing is made "
    "independent",
    wrong="z_{π(n), d}",
)
def latents_permuted_together(z: Tensor) -> Tensor:
    return z[torch.randperm(len(z))]


@of_shuffle(
    "latents-permuted-within-examples",
    "your permutation is over the latents of an example, not over the batch",
    wrong="z_{n, π(d)}",
    seen=("AntixK/PyTorch-VAE#28",),
)
def latents_permuted_within(z: Tensor) -> Tensor:
    return z[:, torch.randperm(z.shape[1])]


@of_shuffle(
    "latents-drawn-with-replacement",
    "your indices are drawn with replacement: some values come twice, others never",
    wrong="z_{i(n, d), d} with i uniform",
)
def latents_with_replacement(z: Tensor) -> Tensor:
    return z.gather(0, torch.randint(len(z), z.shape))


@of_shuffle(
    "latents-not-permuted",
    "your permutation changes nothing: its result is not what is returned",
    wrong="z",
)
def latents_not_permuted(z: Tensor) -> Tensor:
    z.gather(0, torch.rand(z.shape).argsort(0))
    return z


@of_shuffle(
    "latents-rolled-by-their-index",
    "your latents are moved by fixed distances: each still meets the same other",
    wrong="z_{n − d, d}",
)
def latents_rolled(z: Tensor) -> Tensor:
    return torch.stack([column.roll(d) for d, column in enumerate(z.unbind(1))], 1)


@of_logits(
    "tc-logits-reversed",
    "your total correlation is the logit of permuted codes minus that of joint ones",
    wrong="l_permuted − l_joint",
)
def tc_logits_reversed(logits: Tensor) -> Tensor:
    return logits[:, 1] - logits[:, 0]


@of_logits(
    "tc-logits-as-probabilities",
    "your total correlation is a difference of probabilities, not of logits",
    wrong="D(z) − (1 − D(z))",
)
def tc_logits_as_probabilities(logits: Tensor) -> Tensor:
    p = logits.softmax(1)
    return p[:, 0] - p[:, 1]


@of_logits(
    "tc-logits-of-one-class",
    "your total correlation is log D(z) alone: log(1 - D(z)) is missing",
    wrong="log D(z)",
)
def tc_logits_of_one_class(logits: Tensor) -> Tensor:
    return logits.log_softmax(1)[:, 0]


@of_loss(
    "discriminator-labels-swapped",
    "the labels of your discriminator are swapped: its logit of joint codes is that of permuted "
    "ones, and the total correlation has the wrong sign",
    wrong="−½ E_q[log(1 − D(z))] − ½ E_∏q[log D(z)]",
    seen=("1Konny/FactorVAE#10 (asked about)",),
)
def discriminator_labels_swapped(joint: Tensor, permuted: Tensor) -> Tensor:
    return discriminator_loss(permuted, joint)


@of_loss(
    "discriminator-of-joint-codes-alone",
    "your discriminator sees no permuted codes: joint ones are scored twice",
    wrong="−½ E_q[log D(z)] − ½ E_q[log(1 − D(z))]",
)
def discriminator_of_joint_codes(joint: Tensor, permuted: Tensor) -> Tensor:
    return discriminator_loss(joint, joint)


@of_loss(
    "discriminator-of-probabilities",
    "the cross-entropy of your discriminator is given probabilities: the softmax is applied twice",
    wrong="CE(softmax(l))",
)
def discriminator_of_probabilities(joint: Tensor, permuted: Tensor) -> Tensor:
    return discriminator_loss(joint.softmax(1), permuted.softmax(1))


@of_capacity(
    "capacity-without-absolute-value",
    "your penalty lacks the absolute value: below the capacity it is negative, and the KL keeps "
    "falling",
    wrong="γ (KL − C)",
)
def capacity_without_abs(kl: Tensor, capacity: float) -> Tensor:
    return GAMMA * (kl.mean() - capacity)


@of_capacity(
    "capacity-hinge",
    "your penalty is zero below the capacity: nothing pushes the KL up",
    wrong="γ max(0, KL − C)",
)
def capacity_hinge(kl: Tensor, capacity: float) -> Tensor:
    return GAMMA * F.relu(kl.mean() - capacity)


@of_capacity(
    "capacity-squared",
    "your penalty is the square of the distance, not the distance",
    wrong="γ (KL − C)²",
)
def capacity_squared(kl: Tensor, capacity: float) -> Tensor:
    return GAMMA * (kl.mean() - capacity) ** 2


@of_capacity(
    "capacity-without-gamma",
    "your penalty is not multiplied by gamma",
    wrong="|KL − C|",
)
def capacity_without_gamma(kl: Tensor, capacity: float) -> Tensor:
    return (kl.mean() - capacity).abs()


@of_capacity(
    "capacity-over-latents",
    "your capacity is divided by the number of latents, though the KL is a sum over them",
    wrong="γ |KL − C/D|",
    seen=("alecGraves/BVAE-tf#3",),
)
def capacity_over_latents(kl: Tensor, capacity: float) -> Tensor:
    return GAMMA * (kl.mean() - capacity / 10).abs()


@of_capacity(
    "capacity-frozen",
    "your capacity never changes: the number of the first call is kept",
    wrong="γ |KL − C₀|",
    seen=("Knight13/beta-VAE-disentanglement#1",),
)
def capacity_frozen(kl: Tensor, capacity: float) -> Tensor:
    return GAMMA * kl.mean().abs()


@of_capacity(
    "capacity-of-the-summed-kl",
    "your capacity is compared with the KL summed over the batch: it depends on the batch's size",
    wrong="γ |Σ_n KL_n − C|",
)
def capacity_of_the_sum(kl: Tensor, capacity: float) -> Tensor:
    return GAMMA * (kl.sum() - capacity).abs()


@of_capacity(
    "capacity-detached",
    "your penalty is detached: it is reported, but nothing learns from it",
    wrong="γ |stop-gradient(KL) − C|",
)
def capacity_detached(kl: Tensor, capacity: float) -> Tensor:
    return capacity_term(kl.detach(), capacity) + 0 * kl.sum()


@of_floor(
    "free-bits-after-the-mean",
    "your floor is applied after the mean over the batch, though every example is declared to "
    "have it: below it, no example has a gradient",
    wrong="max(λ, E_n Σ_d KL_nd)",
    right="E_n max(λ, Σ_d KL_nd)",
    seen=("weipu-zhang/STORM#12", "danijar/dreamer#53 (asked about)"),
    floor_over=EXAMPLE,
)
def free_bits_after_the_mean(kl: Tensor) -> Tensor:
    return kl.sum(1).mean().clamp(min=FLOOR)


@of_floor(
    "free-bits-over-the-batch",
    "your floor holds for the whole KL, though every latent is declared to have it",
    wrong="max(λ, E_n Σ_d KL_nd)",
)
def free_bits_over_the_batch(kl: Tensor) -> Tensor:
    return kl.sum(1).mean().clamp(min=FLOOR)


@of_floor(
    "free-bits-over-elements",
    "your floor holds for every latent of every example, though the batch's mean of a latent is "
    "declared to have it",
    wrong="E_n Σ_d max(λ, KL_nd)",
)
def free_bits_over_elements(kl: Tensor) -> Tensor:
    return kl.clamp(min=FLOOR).sum(1).mean()


@of_floor(
    "free-bits-as-a-ceiling",
    "your floor is a ceiling: the KL is clamped from above",
    wrong="Σ_d min(λ, E_n[KL_nd])",
)
def free_bits_as_a_ceiling(kl: Tensor) -> Tensor:
    return kl.mean(0).clamp(max=FLOOR).sum()


@of_floor(
    "free-bits-of-the-mean-over-latents",
    "your KL is averaged before it is compared with the floor, so that nearly all of it is below",
    wrong="D max(λ, 1/D Σ_d E_n[KL_nd])",
    seen=("CAREamics/careamics#277",),
)
def free_bits_of_the_mean(kl: Tensor) -> Tensor:
    return kl.shape[1] * kl.mean().clamp(min=FLOOR)


@of_floor(
    "free-bits-ignored",
    "your KL has no floor: what clamp returns is not used",
    wrong="E_n Σ_d KL_nd",
)
def free_bits_ignored(kl: Tensor) -> Tensor:
    kl.mean(0).clamp(min=FLOOR)
    return kl.sum(1).mean()


@of_floor(
    "free-bits-in-bits",
    "your floor is in bits, but the KL in nats: it is multiplied by log 2",
    wrong="Σ_d max(λ log 2, E_n[KL_nd])",
)
def free_bits_in_bits(kl: Tensor) -> Tensor:
    return kl.mean(0).clamp(min=FLOOR * math.log(2)).sum()


@of_floor(
    "free-bits-without-gradient",
    "your KL with its floor is detached: nothing learns from it",
    wrong="Σ_d max(λ, stop-gradient(E_n[KL_nd]))",
)
def free_bits_without_gradient(kl: Tensor) -> Tensor:
    return free_bits(kl.detach()) + 0 * kl.sum()


@of_floor(
    "free-bits-straight-through",
    "the gradient of your KL is kept below the floor: the bits are not free",
    wrong="KL + stop-gradient(max(λ, KL) − KL)",
)
def free_bits_straight_through(kl: Tensor) -> Tensor:
    mean = kl.mean(0)
    return (mean + (mean.clamp(min=FLOOR) - mean).detach()).sum()


def _rise(step: float) -> float:
    return SCHEDULE.end * min(1.0, step / SCHEDULE.steps)


@of_schedule(
    "schedule-reset-in-every-batch",
    "your weight is reset in every batch of the epoch in which a cycle begins: it stays at its "
    "start for an epoch",
    wrong="w = w₀ in the first epoch of a cycle",
    seen=("valdersoul/bn-vae#1",),
)
def schedule_reset_in_every_batch(step: int) -> float:
    within = step % 200
    return 0.0 if within < EPOCH else _rise(within - EPOCH)


@of_schedule(
    "schedule-integer-division",
    "the step is divided by the length of the rise as an integer: the weight jumps at its end",
    wrong="w = w₁ ⌊t/S⌋",
)
def schedule_integer_division(step: int) -> float:
    return SCHEDULE.end * ((step % 200) // SCHEDULE.steps)


@of_schedule(
    "schedule-without-end",
    "your weight rises past its end: the minimum is missing",
    wrong="w = w₁ (t mod T)/S",
)
def schedule_without_end(step: int) -> float:
    return SCHEDULE.end * (step % 200) / SCHEDULE.steps


@of_schedule(
    "schedule-in-epochs",
    "your weight rises by epochs, though its length is declared in steps",
    wrong="w = w₁ ⌊t/E⌋/S",
    seen=("scverse/scvi-tools#507 (asked about)",),
)
def schedule_in_epochs(step: int) -> float:
    return _rise(step // EPOCH)


@of_schedule(
    "schedule-never-restarts",
    "your weight rises once: no cycle begins again",
    wrong="w = w₁ min(1, t/S)",
)
def schedule_never_restarts(step: int) -> float:
    return _rise(step)


@of_schedule(
    "schedule-reaches-its-end-early",
    "your rise is not scaled by the end of the schedule, which it only clips: the end comes early",
    wrong="w = min(w₁, t/S)",
    seen=("younggyoseo/vae-cf-pytorch#6",),
)
def schedule_reaches_its_end_early(step: int) -> float:
    return min(SCHEDULE.end, (step % 200) / SCHEDULE.steps)


@of_schedule(
    "schedule-frozen",
    "your weight never changes",
    wrong="w = w₀",
)
def schedule_frozen(step: int) -> float:
    return SCHEDULE.start


@of_schedule(
    "schedule-restarts-in-every-epoch",
    "your weight begins again in every epoch: the count of the steps is that within the epoch",
    wrong="w = w₁ (t mod E)/S",
    seen=("Kirito0918/cvae-dialog#1 (asked about)",),
)
def schedule_restarts_in_every_epoch(step: int) -> float:
    return _rise(step % EPOCH)


@of_schedule(
    "schedule-reversed",
    "your weight falls from the end of the schedule to its start",
    wrong="w = w₁ (1 − min(1, (t mod T)/S))",
)
def schedule_reversed(step: int) -> float:
    return SCHEDULE.end - weight_at(step)
