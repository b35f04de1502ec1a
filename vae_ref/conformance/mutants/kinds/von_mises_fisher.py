"""Bugs of von Mises-Fisher distributions: their normaliser, their divergence and their draws."""

import math
from functools import partial

import torch
from torch import Tensor

from vae_ref.conformance.mutants import bank
from vae_ref.conformance.mutants.kinds.flows import (
    around_pole,
    cosines,
    draw_vmf,
    envelope,
    kl_vmf,
    log_area,
    log_normaliser_vmf,
    mean_length,
    reflect,
)

of_normaliser = partial(bank.mutant, "log_normaliser_vmf")
of_kl = partial(bank.mutant, "kl_vmf")
of_draw = partial(bank.mutant, "draw_vmf", deterministic=False)


@of_normaliser(
    "vmf-normaliser-scaled-bessel",
    "your normaliser takes the exponentially scaled Bessel function and does not subtract kappa",
    wrong="(m/2 − 1) log κ − (m/2) log 2π − log(e^−κ I_{m/2−1}(κ))",
    seen=("pyro-ppl/numpyro#776 (on a circle)",),
)
def normaliser_scaled(kappa: Tensor, dim: int) -> Tensor:
    return log_normaliser_vmf(kappa, dim) + kappa[:, 0]


@of_normaliser(
    "vmf-normaliser-sign-of-kappa",
    "your normaliser adds kappa to correct the scaled Bessel function; it has to be subtracted",
    wrong="(m/2 − 1) log κ − (m/2) log 2π − log(e^−κ I_{m/2−1}(κ)) + κ",
    seen=("JuliaStats/Distributions.jl#1598",),
)
def normaliser_sign_of_kappa(kappa: Tensor, dim: int) -> Tensor:
    return log_normaliser_vmf(kappa, dim) + 2 * kappa[:, 0]


@of_normaliser(
    "vmf-normaliser-inverted",
    "your normaliser has the wrong sign: it is the log of the integral, not of its inverse",
    wrong="−log C_m(κ)",
    seen=("Sachin19/seq2seq-con#9",),
)
def normaliser_inverted(kappa: Tensor, dim: int) -> Tensor:
    return -log_normaliser_vmf(kappa, dim)


@of_normaliser(
    "vmf-normaliser-of-another-dimension",
    "your normaliser is that of the sphere in R^(m-1): the dimension is one too small",
    wrong="log C_{m−1}(κ)",
    seen=("ThomasYeoLab/CBIG#56",),
)
def normaliser_dimension(kappa: Tensor, dim: int) -> Tensor:
    return log_normaliser_vmf(kappa, dim - 1)


@of_normaliser(
    "vmf-normaliser-power-of-kappa",
    "the power of kappa in your normaliser is m/2, not m/2 - 1",
    wrong="(m/2) log κ − (m/2) log 2π − log I_{m/2−1}(κ)",
)
def normaliser_power(kappa: Tensor, dim: int) -> Tensor:
    return log_normaliser_vmf(kappa, dim) + kappa[:, 0].log()


@of_normaliser(
    "vmf-normaliser-overflows",
    "your normaliser takes the Bessel function itself, which overflows from about 700",
    wrong="log C_m(κ) with I_{m/2−1}(κ) = ∞ for κ > 700",
)
def normaliser_overflows(kappa: Tensor, dim: int) -> Tensor:
    return torch.where(kappa[:, 0] > 700, -torch.inf, log_normaliser_vmf(kappa, dim))


@of_normaliser(
    "vmf-normaliser-slope-of-unscaled-bessel",
    "the derivative of your normaliser takes that of the Bessel function for that of the scaled "
    "one",
    wrong="∂ log C_m/∂κ = 1 − I_{m/2}(κ)/I_{m/2−1}(κ)",
)
def normaliser_slope(kappa: Tensor, dim: int) -> Tensor:
    return log_normaliser_vmf(kappa, dim) + (kappa - kappa.detach())[:, 0]


@of_kl(
    "vmf-kl-without-area",
    "your KL lacks the log area of the sphere: it is the negative entropy",
    wrong="κ A + log C_m(κ)",
)
def kl_without_area(kappa: Tensor, dim: int) -> Tensor:
    return kl_vmf(kappa, dim) - log_area(dim)


@of_kl(
    "vmf-kl-area-of-another-dimension",
    "your KL takes the area of the sphere in R^(m+1): the dimension is one too large",
    wrong="κ A + log C_m(κ) + log |S^m|",
)
def kl_another_area(kappa: Tensor, dim: int) -> Tensor:
    return kl_vmf(kappa, dim) - log_area(dim) + log_area(dim + 1)


@of_kl(
    "vmf-kl-area-subtracted",
    "your KL subtracts the log area of the sphere, which has to be added",
    wrong="κ A + log C_m(κ) − log |S^{m−1}|",
)
def kl_area_subtracted(kappa: Tensor, dim: int) -> Tensor:
    return kl_vmf(kappa, dim) - 2 * log_area(dim)


@of_kl(
    "vmf-kl-normaliser-subtracted",
    "your KL subtracts the log normaliser, which has to be added",
    wrong="κ A − log C_m(κ) + log |S^{m−1}|",
)
def kl_normaliser_subtracted(kappa: Tensor, dim: int) -> Tensor:
    return kl_vmf(kappa, dim) - 2 * log_normaliser_vmf(kappa, dim)


@of_kl(
    "vmf-kl-without-mean-length",
    "your KL takes kappa for kappa A: the mean of mu^T x is less than 1",
    wrong="κ + log C_m(κ) + log |S^{m−1}|",
)
def kl_without_length(kappa: Tensor, dim: int) -> Tensor:
    return kl_vmf(kappa, dim) + kappa[:, 0] * (1 - mean_length(kappa, dim))


@of_kl(
    "vmf-kl-scaled-bessel",
    "your KL takes the exponentially scaled Bessel function and does not subtract kappa",
    wrong="κ A + log C_m(κ) + κ + log |S^{m−1}|",
    seen=("pyro-ppl/numpyro#776 (of the density on a circle)",),
)
def kl_scaled(kappa: Tensor, dim: int) -> Tensor:
    return kl_vmf(kappa, dim) + kappa[:, 0]


@of_kl(
    "vmf-kl-overflows",
    "your KL takes the Bessel functions themselves, which overflow from about 700",
    wrong="κ ∞/∞ + log C_m(κ) + log |S^{m−1}| for κ > 700",
)
def kl_overflows(kappa: Tensor, dim: int) -> Tensor:
    return torch.where(kappa[:, 0] > 700, math.nan, kl_vmf(kappa, dim))


@of_kl(
    "vmf-kl-detached",
    "your KL is computed from a detached kappa: the concentration does not learn from it",
    wrong="KL(stop-gradient(κ))",
)
def kl_detached(kappa: Tensor, dim: int) -> Tensor:
    return kl_vmf(kappa.detach(), dim)


@of_kl(
    "vmf-kl-slope-of-mean-length-alone",
    "the gradient of your KL lacks part of the derivative of A: that of one Bessel function",
    wrong="∂KL/∂κ = κ (1 − A²) instead of κ (1 − A² − (m − 1) A/κ)",
)
def kl_slope(kappa: Tensor, dim: int) -> Tensor:
    more = (dim - 1) * mean_length(kappa, dim).detach() * (kappa - kappa.detach())[:, 0]
    return kl_vmf(kappa, dim) + more


@of_draw(
    "vmf-drawn-with-wrong-b",
    "b in your rejection sampler is wrong: it has 4 kappa² where its formula has the root of "
    "4 kappa² + (m - 1)²",
    wrong="b = (m − 1) / (2κ + 4κ² + (m − 1)²)",
)
def drawn_with_wrong_b(mu: Tensor, kappa: Tensor) -> Tensor:
    dim = mu.shape[1]
    b = (dim - 1) / (2 * kappa + 4 * kappa**2 + (dim - 1) ** 2)
    w = cosines(kappa, dim, b, rejects=False)
    return reflect(mu, around_pole(mu, w))


@of_draw(
    "vmf-drawn-without-rejection",
    "your sampler accepts every proposal",
    wrong="w = (1 − (1 + b) e) / (1 − (1 − b) e)",
)
def drawn_without_rejection(mu: Tensor, kappa: Tensor) -> Tensor:
    dim = mu.shape[1]
    w = cosines(kappa, dim, envelope(kappa, dim), rejects=False)
    return reflect(mu, around_pole(mu, w))


@of_draw(
    "vmf-drawn-reflected-wrongly",
    "your draws are not around mu: the reflection takes e_1 + mu for e_1 - mu",
    wrong="x = (I − 2uuᵀ)y, u ∝ e_1 + μ",
)
def drawn_reflected_wrongly(mu: Tensor, kappa: Tensor) -> Tensor:
    return reflect(-mu, around_pole(mu, cosines(kappa, mu.shape[1], envelope(kappa, mu.shape[1]))))


@of_draw(
    "vmf-drawn-around-the-pole",
    "your draws are around the first axis, not around mu: they are not rotated",
    wrong="x = y",
)
def drawn_around_pole(mu: Tensor, kappa: Tensor) -> Tensor:
    return around_pole(mu, cosines(kappa, mu.shape[1], envelope(kappa, mu.shape[1])))


@of_draw(
    "vmf-drawn-off-the-sphere",
    "your draws are not on the sphere: the direction around mu is not normalised",
    wrong="y = (w, √(1 − w²) v), v ~ N(0, I)",
)
def drawn_off_sphere(mu: Tensor, kappa: Tensor) -> Tensor:
    w = cosines(kappa, mu.shape[1], envelope(kappa, mu.shape[1]))
    return reflect(mu, torch.cat([w, torch.sqrt(1 - w**2) * torch.randn_like(mu)[:, 1:]], 1))


@of_draw(
    "vmf-drawn-one-sided",
    "your draws are on one side of mu: the direction around it comes from uniform numbers",
    wrong="v ∝ uniform in [0, 1]^(m−1)",
)
def drawn_one_sided(mu: Tensor, kappa: Tensor) -> Tensor:
    w = cosines(kappa, mu.shape[1], envelope(kappa, mu.shape[1]))
    v = torch.rand_like(mu)[:, 1:]
    v = v / v.norm(dim=1, keepdim=True)
    return reflect(mu, torch.cat([w, torch.sqrt(1 - w**2) * v], 1))


@of_draw(
    "vmf-drawn-not-a-number-at-the-pole",
    "your draws are NaN where mu is the first axis: the reflection divides by zero there",
    wrong="u = (e_1 − μ)/‖e_1 − μ‖ = 0/0",
    seen=("JuliaStats/Distributions.jl#1423", "JuliaStats/Distributions.jl#1464"),
)
def drawn_nan_at_pole(mu: Tensor, kappa: Tensor) -> Tensor:
    at_pole = (mu[:, 0] > 1 - 1e-12)[:, None]
    return torch.where(at_pole, math.nan, draw_vmf(mu, kappa))
