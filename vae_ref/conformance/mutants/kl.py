"""Bugs in the KL divergence."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from vae_ref.conformance.mutants.bank import mutant as _mutant
from vae_ref.conformance.mutants.specimen import kl

mutant = partial(_mutant, "kl")


def _terms(mu: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar)


@mutant(
    "kl-no-half",
    "your KL lacks the factor 1/2",
    wrong="Σ_d (μ² + σ² − log σ² − 1)",
    numpy="np.sum(mu**2 + np.exp(logvar) - 1 - logvar, axis=1)",
    seen=("AntixK/PyTorch-VAE#25",),
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return 2 * kl(mu, logvar)


@mutant(
    "kl-one-per-cent",
    "your KL is 1 % too large",
    wrong="1.01 · ½ Σ_d (μ² + σ² − log σ² − 1)",
    numpy="1.01 * 0.5 * np.sum(mu**2 + np.exp(logvar) - 1 - logvar, axis=1)",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return 1.01 * kl(mu, logvar)


@mutant(
    "kl-mean-over-latents",
    "your KL is the mean over the latent dimensions, not the sum",
    wrong="1/(2D) Σ_d (μ² + σ² − log σ² − 1)",
    numpy="0.5 * np.mean(mu**2 + np.exp(logvar) - 1 - logvar, axis=1)",
    seen=(
        "keras-team/keras-io#270",
        "mkusner/grammarVAE#2",
        "maxhodak/keras-molecules#59",
        "podgorskiy/VAE#1",
    ),
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return _terms(mu, logvar).mean(1)


@mutant(
    "kl-mean-over-everything",
    "your KL is the mean over batch and latent dimensions (torch.mean for torch.sum)",
    wrong="1/(2ND) Σ_n Σ_d (μ² + σ² − log σ² − 1)",
    numpy="0.5 * np.mean(mu**2 + np.exp(logvar) - 1 - logvar)",
    seen=("sksq96/pytorch-vae", "Lightning-Universe/lightning-bolts"),
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return _terms(mu, logvar).mean()


@mutant(
    "kl-negated",
    "your KL has the wrong sign",
    wrong="½ Σ_d (1 + log σ² − μ² − σ²)",
    numpy="0.5 * np.sum(1 + logvar - mu**2 - np.exp(logvar), axis=1)",
    seen=("AntixK/PyTorch-VAE#68", "SeldonIO/alibi-detect#316"),
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return -kl(mu, logvar)


@mutant(
    "kl-no-one",
    "your KL lacks the -1",
    wrong="½ Σ_d (μ² + σ² − log σ²)",
    numpy="0.5 * np.sum(mu**2 + np.exp(logvar) - logvar, axis=1)",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mu**2 + logvar.exp() - logvar).sum(1)


@mutant(
    "kl-logvar-as-log-sigma",
    "your KL reads logvar as log sigma; if that is what it is, declare spread=log_sigma",
    wrong="½ Σ_d (μ² + exp(2 logvar) − 2 logvar − 1)",
    numpy="0.5 * np.sum(mu**2 + np.exp(2 * logvar) - 1 - 2 * logvar, axis=1)",
    seen=("keras-team/keras#3283", "pyg-team/pytorch_geometric#1368"),
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return kl(mu, 2 * logvar)


@mutant(
    "kl-log-sigma-as-logvar",
    "your KL has logvar / 2 where logvar belongs",
    wrong="½ Σ_d (μ² + exp(logvar/2) − logvar/2 − 1)",
    numpy="0.5 * np.sum(mu**2 + np.exp(logvar / 2) - 1 - logvar / 2, axis=1)",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return kl(mu, logvar / 2)


@mutant(
    "kl-sigma-for-variance",
    "your KL has sigma where sigma^2 belongs",
    wrong="½ Σ_d (μ² + σ − log σ² − 1)",
    numpy="0.5 * np.sum(mu**2 + np.exp(logvar / 2) - 1 - logvar, axis=1)",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mu**2 + (logvar / 2).exp() - 1 - logvar).sum(1)


@mutant(
    "kl-variance-squared",
    "your KL squares the variance: exp(logvar) is sigma^2 already",
    wrong="½ Σ_d (μ² + σ⁴ − log σ² − 1)",
    numpy="0.5 * np.sum(mu**2 + np.exp(logvar) ** 2 - 1 - logvar, axis=1)",
    seen=("AntixK/PyTorch-VAE (DIP-VAE)",),
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mu**2 + logvar.exp() ** 2 - 1 - logvar).sum(1)


@mutant(
    "kl-logvar-as-variance",
    "your KL reads logvar as the variance; if that is what it is, declare spread=variance",
    wrong="½ Σ_d (μ² + logvar − log|logvar| − 1)",
    numpy="0.5 * np.sum(mu**2 + logvar - np.log(np.abs(logvar)) - 1, axis=1)",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mu**2 + logvar - torch.log(logvar.abs() + 1e-12) - 1).sum(1)


@mutant(
    "kl-softplus-variance",
    "your KL takes softplus(logvar) for the variance, not exp(logvar)",
    wrong="½ Σ_d (μ² + softplus(logvar) − log softplus(logvar) − 1)",
    numpy="0.5 * np.sum(mu**2 + np.log1p(np.exp(logvar)) - np.log(np.log1p(np.exp(logvar))) - 1,"
    " axis=1)",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    variance = F.softplus(logvar)
    return 0.5 * (mu**2 + variance - 1 - torch.log(variance)).sum(1)


@mutant(
    "kl-reversed",
    "your KL is the wrong way round: KL(p || q), of the prior from the posterior",
    wrong="½ Σ_d ((1 + μ²)/σ² + log σ² − 1)",
    numpy="0.5 * np.sum((1 + mu**2) / np.exp(logvar) - 1 + logvar, axis=1)",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * ((1 + mu**2) * (-logvar).exp() - 1 + logvar).sum(1)


@mutant(
    "kl-no-mu",
    "your KL lacks the term mu^2",
    wrong="½ Σ_d (σ² − log σ² − 1)",
    numpy="0.5 * np.sum(np.exp(logvar) - 1 - logvar, axis=1)",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return kl(0 * mu, logvar)


@mutant(
    "kl-no-variance",
    "your KL lacks the term sigma^2",
    wrong="½ Σ_d (μ² − log σ² − 1)",
    numpy="0.5 * np.sum(mu**2 - 1 - logvar, axis=1)",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mu**2 - 1 - logvar).sum(1)


@mutant(
    "kl-no-log",
    "your KL lacks the term log sigma^2",
    wrong="½ Σ_d (μ² + σ² − 1)",
    numpy="0.5 * np.sum(mu**2 + np.exp(logvar) - 1, axis=1)",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mu**2 + logvar.exp() - 1).sum(1)


@mutant(
    "kl-mu-not-squared",
    "your KL has |mu| where mu^2 belongs",
    wrong="½ Σ_d (|μ| + σ² − log σ² − 1)",
    numpy="0.5 * np.sum(np.abs(mu) + np.exp(logvar) - 1 - logvar, axis=1)",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mu.abs() + logvar.exp() - 1 - logvar).sum(1)


@mutant(
    "kl-swapped-arguments",
    "your KL takes its arguments in the order (logvar, mu)",
    wrong="KL(logvar, μ)",
    numpy="0.5 * np.sum(logvar**2 + np.exp(mu) - 1 - mu, axis=1)",
    seen=("bvezilic (variational autoencoders)",),
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return kl(logvar, mu)


@mutant(
    "kl-free-bits",
    "your KL has a floor per latent (free bits): below the floor it is not the KL",
    wrong="Σ_d max(½, ½ (μ² + σ² − log σ² − 1))",
    numpy="np.sum(np.maximum(0.5, 0.5 * (mu**2 + np.exp(logvar) - 1 - logvar)), axis=1)",
    seen=("CAREamics/careamics#277",),
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return _terms(mu, logvar).clamp_min(0.5).sum(1)


@mutant(
    "kl-jitter-in-log",
    "your KL adds a small number inside the logarithm",
    wrong="½ Σ_d (μ² + σ² − log(σ² + 1e-8) − 1)",
    numpy="0.5 * np.sum(mu**2 + np.exp(logvar) - np.log(np.exp(logvar) + 1e-8) - 1, axis=1)",
    seen=("hwalsuklee/tensorflow-mnist-VAE#4",),
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    variance = logvar.exp()
    return 0.5 * (mu**2 + variance - torch.log(variance + 1e-8) - 1).sum(1)


@mutant(
    "kl-clamped",
    "your KL clamps logvar: outside the bounds its gradient is zero",
    wrong="KL(μ, clamp(logvar, −20, 20))",
    numpy="0.5 * np.sum(mu**2 + np.exp(np.clip(logvar, -20, 20)) - 1"
    " - np.clip(logvar, -20, 20), axis=1)",
    seen=("huggingface/diffusers", "pyg-team/pytorch_geometric#500"),
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return kl(mu, logvar.clamp(-20, 20))


@mutant(
    "kl-detached-logvar",
    "your KL is computed from a detached logvar: no gradient reaches that head",
    wrong="KL(μ, stop(logvar))",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return kl(mu, logvar.detach())


@mutant(
    "kl-detached-mu",
    "your KL is computed from a detached mu: no gradient reaches that head",
    wrong="KL(stop(μ), logvar)",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return kl(mu.detach(), logvar)


@mutant("kl-no-grad", "your KL is computed under no_grad or detached", wrong="stop(KL(μ, logvar))")
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return kl(mu, logvar).detach()


@mutant(
    "kl-of-detached-codes", "your KL is computed from detached codes", wrong="KL(stop(μ, logvar))"
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return kl(mu.detach(), logvar.detach()) + 0 * (mu + logvar).sum(1)


@mutant(
    "kl-straight-through",
    "your KL has the right value, but sigma^2 is detached in it, so its gradient is wrong",
    wrong="½ Σ_d (μ² + stop(σ²) − log σ² − 1)",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return 0.5 * (mu**2 + logvar.exp().detach() - 1 - logvar).sum(1)


@mutant(
    "kl-single-precision",
    "your KL is computed in single precision, whatever it is given; declare dtype=float32 if that "
    "is meant",
    wrong="KL₃₂(μ, logvar)",
    numpy="0.5 * np.sum((mu**2 + np.exp(logvar.astype('f4')) - 1 - logvar).astype('f4'), axis=1)",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return kl(mu.float(), logvar.float()).to(mu.dtype)


@mutant(
    "kl-half-precision",
    "your KL is computed in half precision",
    wrong="KL₁₆(μ, logvar)",
    seen=("huggingface/diffusers#3209",),
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return kl(mu.bfloat16(), logvar.bfloat16()).to(mu.dtype)


@mutant(
    "kl-max-over-latents",
    "your KL is the maximum over the latent dimensions, not the sum",
    wrong="max_d ½ (μ² + σ² − log σ² − 1)",
    numpy="0.5 * np.max(mu**2 + np.exp(logvar) - 1 - logvar, axis=1)",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return _terms(mu, logvar).amax(1)


@mutant(
    "kl-first-latent-only",
    "your KL uses only the first latent",
    wrong="½ (μ₁² + σ₁² − log σ₁² − 1)",
    numpy="0.5 * (mu**2 + np.exp(logvar) - 1 - logvar)[:, 0]",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return _terms(mu, logvar)[:, 0]


@mutant(
    "kl-latents-weighted",
    "your KL gives the latents different weights",
    wrong="½ Σ_d w_d (μ² + σ² − log σ² − 1)",
    numpy="0.5 * np.sum((1 + np.arange(mu.shape[1])) * (mu**2 + np.exp(logvar) - 1 - logvar),"
    " axis=1)",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    weights = 1 + torch.arange(mu.shape[1], dtype=mu.dtype)
    return (weights * _terms(mu, logvar)).sum(1)


@mutant(
    "kl-first-example-only",
    "your KL uses only the first example of the batch",
    wrong="KL(μ₁, logvar₁)",
    numpy="0.5 * np.sum(mu**2 + np.exp(logvar) - 1 - logvar, axis=1)[0]",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return kl(mu, logvar)[0]


@mutant(
    "kl-batch-mean-of-mu",
    "your KL is computed from the batch means of mu and logvar, not averaged over the batch",
    wrong="KL(mean_n μ, mean_n logvar)",
    numpy="0.5 * np.sum(mu.mean(0)**2 + np.exp(logvar.mean(0)) - 1 - logvar.mean(0))",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return kl(mu.mean(0, keepdim=True), logvar.mean(0, keepdim=True))


@mutant(
    "kl-nominal-batch-size",
    "your KL is divided by the nominal batch size, not by the number of examples it is given",
    wrong="1/128 Σ_n KL_n",
    numpy="0.5 * np.sum(mu**2 + np.exp(logvar) - 1 - logvar) / 128",
    seen=("pytorch/examples#296",),
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return kl(mu, logvar).sum() / 128


@mutant(
    "kl-in-bits",
    "your KL is in bits, the reconstruction in nats",
    wrong="KL / log 2",
    numpy="0.5 * np.sum(mu**2 + np.exp(logvar) - 1 - logvar, axis=1) / np.log(2)",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return kl(mu, logvar) / math.log(2)


@mutant(
    "kl-zero-times-infinity",
    "your KL is NaN where the variance is tiny: its formula multiplies 0 by infinity",
    wrong="½ Σ_d (μ² + σ² (1 − log σ² / σ²) − 1)",
    numpy="0.5 * np.sum(mu**2 + np.exp(logvar) * (1 - logvar / np.exp(logvar)) - 1, axis=1)",
    seen=("an early version of this project",),
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    variance = torch.where(logvar < -36, torch.zeros_like(logvar), logvar.exp())
    return 0.5 * (mu**2 + variance * (1 - logvar / variance) - 1).sum(1)


@mutant(
    "kl-of-full-covariances",
    "your KL is that of Gaussians with full covariances, whose Cholesky factor does not exist "
    "once a variance underflows",
    wrong="KL(N(μ, diag σ²) ‖ N(0, I)) by Cholesky factors",
    seen=("pytorch/pytorch#31248", "LiUzHiAn/VAE-Pytorch#1"),
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    q, p = (
        MultivariateNormal(mean, torch.diag_embed(variance), validate_args=False)
        for mean, variance in (
            (mu, logvar.exp()),
            (torch.zeros_like(mu), torch.ones_like(logvar)),
        )
    )
    return kl_divergence(q, p)
