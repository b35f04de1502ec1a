"""Bugs of Gaussians of full covariance, given by their Cholesky factor."""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vae_ref.conformance.mutants import bank
from vae_ref.conformance.mutants.kinds.flows import draw_full, kl_full, log_density_full

# ruff: noqa: N803 - L is the letter of the mathematics
of_kl = partial(bank.mutant, "kl_full")
of_draw = partial(bank.mutant, "draw_full")
of_sample = partial(bank.mutant, "sample_full", deterministic=False)
of_density = partial(bank.mutant, "log_density_full")

RAW: dict[str, Any] = {
    "factor": "log-diagonal",
    "kl_full": None,
    "draw_full": None,
    "sample_full": None,
    "log_density_full": None,
}
"""What is replaced to show a bug in how L is made of a matrix: no other function takes one."""


def _diagonal(L: Tensor) -> Tensor:
    return torch.diagonal(L, dim1=1, dim2=2)


def _without(name: str) -> dict[str, Any]:
    return {key: value for key, value in RAW.items() if key != name}


@of_kl(
    "full-kl-log-det-halved",
    "the logarithms of the diagonal of L have half of their weight in your KL: log L_ii² is meant",
    wrong="½ (‖μ‖² + Σ_ij L_ij² − D − Σ_i log L_ii)",
)
def full_kl_halved(mu: Tensor, L: Tensor) -> Tensor:
    return kl_full(mu, L) + 0.5 * _diagonal(L).log().sum(1)


@of_kl(
    "full-kl-log-det-doubled",
    "the logarithms of the diagonal of L have twice their weight in your KL",
    wrong="½ (‖μ‖² + Σ_ij L_ij² − D) − 2 Σ_i log L_ii",
)
def full_kl_doubled(mu: Tensor, L: Tensor) -> Tensor:
    return kl_full(mu, L) - _diagonal(L).log().sum(1)


@of_kl(
    "full-kl-log-det-added",
    "your KL adds the logarithms of the diagonal of L, which have to be subtracted",
    wrong="½ (‖μ‖² + Σ_ij L_ij² − D) + Σ_i log L_ii",
)
def full_kl_added(mu: Tensor, L: Tensor) -> Tensor:
    return kl_full(mu, L) + 2 * _diagonal(L).log().sum(1)


@of_kl(
    "full-kl-diagonal-only",
    "your KL takes the diagonal of L alone: what the entries below it add to the variances is "
    "missing",
    wrong="½ (‖μ‖² + Σ_i L_ii² − D) − Σ_i log L_ii",
)
def full_kl_diagonal(mu: Tensor, L: Tensor) -> Tensor:
    return kl_full(mu, torch.diag_embed(_diagonal(L)))


@of_kl(
    "full-kl-factor-for-covariance",
    "your KL takes the Cholesky factor L for the covariance",
    wrong="½ (‖μ‖² + Σ_i L_ii − D − Σ_i log L_ii)",
    seen=("pyro-ppl/numpyro#1433",),
)
def full_kl_of_factor(mu: Tensor, L: Tensor) -> Tensor:
    return kl_full(mu, torch.diag_embed(_diagonal(L).sqrt()))


@of_kl(
    "full-kl-without-dimension",
    "your KL does not subtract the number of latents: it is not 0 at the prior",
    wrong="½ (‖μ‖² + Σ_ij L_ij²) − Σ_i log L_ii",
)
def full_kl_without_dimension(mu: Tensor, L: Tensor) -> Tensor:
    return kl_full(mu, L) + 0.5 * mu.shape[1]


@of_kl(
    "full-kl-log-det-of-batch",
    "your KL adds up the log-determinants of all examples, and gives each the sum",
    wrong="½ (‖μ_n‖² + Σ_ij L_nij² − D) − Σ_m Σ_i log L_mii",
    seen=("ratschlab/SVGP-VAE#4 (asked about)",),
)
def full_kl_of_batch(mu: Tensor, L: Tensor) -> Tensor:
    log_det = _diagonal(L).log().sum(1)
    return kl_full(mu, L) + log_det - log_det.sum()


@of_kl(
    "full-kl-upper-not-masked",
    "the upper triangle of the matrix that the encoder outputs enters your KL",
    wrong="½ (‖μ‖² + Σ_{i≠j} R_ij² + Σ_i exp(2 R_ii) − D) − Σ_i R_ii",
    **_without("kl_full"),
)
def full_kl_not_masked(mu: Tensor, L: Tensor) -> Tensor:
    square = (mu**2).sum(1) + (L**2).sum((1, 2)) + (_diagonal(L).exp() ** 2).sum(1)
    return 0.5 * (square - (_diagonal(L) ** 2).sum(1) - mu.shape[1]) - _diagonal(L).sum(1)


@of_kl(
    "full-kl-diagonal-without-exp",
    "your KL takes the diagonal that the encoder outputs as it is: it is the logarithm of that of "
    "L",
    wrong="½ (‖μ‖² + Σ_{i≥j} R_ij² − D) − Σ_i log|R_ii|",
    **_without("kl_full"),
)
def full_kl_without_exp(mu: Tensor, L: Tensor) -> Tensor:
    square = (mu**2).sum(1) + (torch.tril(L) ** 2).sum((1, 2))
    return 0.5 * (square - mu.shape[1]) - _diagonal(L).abs().log().sum(1)


@of_kl(
    "full-kl-detached-factor",
    "your KL is computed from a detached L: the covariance does not learn from it",
    wrong="KL(N(μ, stop-gradient(L Lᵀ)) ‖ N(0, I))",
)
def full_kl_detached(mu: Tensor, L: Tensor) -> Tensor:
    return kl_full(mu, L.detach())


@of_draw(
    "full-draw-transposed",
    "your draw multiplies the noise by Lᵀ: its covariance is Lᵀ L, not L Lᵀ",
    wrong="z = μ + Lᵀ ε",
    seen=("numpy/numpy#15871", "pyro-ppl/pyro#686"),
)
def full_draw_transposed(mu: Tensor, L: Tensor, eps: Tensor) -> Tensor:
    return draw_full(mu, L.mT, eps)


@of_draw(
    "full-draw-diagonal-only",
    "your draw takes the diagonal of L alone: the latents are independent",
    wrong="z_i = μ_i + L_ii ε_i",
)
def full_draw_diagonal(mu: Tensor, L: Tensor, eps: Tensor) -> Tensor:
    return mu + _diagonal(L) * eps


@of_draw(
    "full-draw-covariance-for-factor",
    "your draw multiplies the noise by the covariance, not by its Cholesky factor",
    wrong="z = μ + L Lᵀ ε",
)
def full_draw_by_covariance(mu: Tensor, L: Tensor, eps: Tensor) -> Tensor:
    return draw_full(mu, L @ L.mT, eps)


@of_draw(
    "full-draw-upper-not-masked",
    "the upper triangle of the matrix that the encoder outputs enters your draw",
    wrong="z = μ + (R with exp(R_ii) on the diagonal) ε",
    **_without("draw_full"),
)
def full_draw_not_masked(mu: Tensor, L: Tensor, eps: Tensor) -> Tensor:
    diagonal = _diagonal(L)
    return draw_full(mu, L + torch.diag_embed(diagonal.exp() - diagonal), eps)


@of_draw(
    "full-draw-detached-factor",
    "your draw is computed from a detached L: the covariance does not learn from the "
    "reconstruction",
    wrong="z = μ + stop-gradient(L) ε",
)
def full_draw_detached(mu: Tensor, L: Tensor, eps: Tensor) -> Tensor:
    return draw_full(mu, L.detach(), eps)


@of_sample(
    "full-sample-factor-for-covariance",
    "your draws have the Cholesky factor L as their covariance: it was passed as the covariance",
    wrong="z ~ N(μ, tril(L) + tril(L, −1)ᵀ)",
    seen=("pyro-ppl/numpyro#1433",),
)
def full_sample_of_factor(mu: Tensor, L: Tensor) -> Tensor:
    # torch and others take the lower triangle of a covariance, and do not see that it is no
    # symmetric matrix; where it has no Cholesky factor, some add to the diagonal.
    root, _ = torch.linalg.cholesky_ex(L + L.mT.triu(1))
    return draw_full(mu, root, torch.randn_like(mu))


@of_sample(
    "full-sample-shared-noise",
    "your draws share one noise for the whole batch",
    wrong="z_n = μ_n + L_n ε",
)
def full_sample_shared(mu: Tensor, L: Tensor) -> Tensor:
    return draw_full(mu, L, torch.randn_like(mu[:1]).expand_as(mu))


@of_density(
    "full-density-log-det-added",
    "your log density adds the log-determinant of the covariance, which has to be subtracted",
    wrong="−½ (D log 2π + ‖L⁻¹(z − μ)‖²) + Σ_i log L_ii",
)
def full_density_added(z: Tensor, mu: Tensor, L: Tensor) -> Tensor:
    return log_density_full(z, mu, L) + 2 * _diagonal(L).log().sum(1)


@of_density(
    "full-density-log-det-doubled",
    "your log density subtracts the log-determinant of the covariance, of which only half counts",
    wrong="−½ (D log 2π + ‖L⁻¹(z − μ)‖²) − 2 Σ_i log L_ii",
)
def full_density_doubled(z: Tensor, mu: Tensor, L: Tensor) -> Tensor:
    return log_density_full(z, mu, L) - _diagonal(L).log().sum(1)


@of_density(
    "full-density-transposed",
    "your log density divides by Lᵀ: its covariance is Lᵀ L, not L Lᵀ",
    wrong="−½ (D log 2π + ‖L⁻ᵀ(z − μ)‖²) − Σ_i log L_ii",
    seen=("pyro-ppl/pyro#686",),
)
def full_density_transposed(z: Tensor, mu: Tensor, L: Tensor) -> Tensor:
    return log_density_full(z, mu, L.mT)


@of_density(
    "full-density-without-constant",
    "your log density lacks (D/2) log 2π",
    wrong="−½ ‖L⁻¹(z − μ)‖² − Σ_i log L_ii",
)
def full_density_without_constant(z: Tensor, mu: Tensor, L: Tensor) -> Tensor:
    return log_density_full(z, mu, L) + 0.5 * mu.shape[1] * math.log(2 * math.pi)
