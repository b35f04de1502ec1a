"""Bugs in the loss and in the importance-weighted bound; the terms themselves are right."""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vae_ref.conformance.mutants.bank import mutant as _mutant
from vae_ref.conformance.mutants.specimen import Net, bound, kl, nll

loss = partial(_mutant, "loss")
weighted = partial(_mutant, "bound")


def _sums(outputs: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    return nll(outputs, x).sum(), kl(mu, logvar).sum()


def _weighing(weight: float) -> Any:
    def function(outputs: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        reconstruction, divergence = _sums(outputs, x, mu, logvar)
        return reconstruction + weight * divergence

    return function


loss(
    "loss-beta-4",
    "your loss gives the KL a weight of 4; declare beta if that is meant",
    wrong="NLL + 4 KL",
)(_weighing(4.0))
loss(
    "loss-kl-weight-1e-6",
    "your loss gives the KL a weight of 1e-6, which is almost none",
    wrong="NLL + 1e-6 KL",
    seen=("CompVis/latent-diffusion#227",),
)(_weighing(1e-6))
loss(
    "loss-kl-without-half",
    "your loss contains twice the KL: its factor 1/2 is missing, or beta is 2",
    wrong="NLL + 2 KL",
)(_weighing(2.0))
loss("loss-kl-halved", "your loss contains half the KL", wrong="NLL + ½ KL")(_weighing(0.5))
loss(
    "loss-kl-negated",
    "your loss subtracts the KL",
    wrong="NLL − KL",
    seen=("yzwxx/vae-celebA#4",),
)(_weighing(-1.0))


@loss(
    "loss-no-kl",
    "your loss has no KL: it is that of an autoencoder",
    wrong="NLL",
    seen=("facebookresearch/irmae#1",),
)
def _(outputs: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return nll(outputs, x).sum()


@loss("loss-no-reconstruction", "your loss has no reconstruction term", wrong="KL")
def _(outputs: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return kl(mu, logvar).sum() + 0 * outputs.sum()


@loss("loss-product", "your loss multiplies reconstruction and KL", wrong="NLL (1 + KL)")
def _(outputs: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    reconstruction, divergence = _sums(outputs, x, mu, logvar)
    return reconstruction * (1 + divergence)


@loss(
    "loss-kl-scaled-by-reconstruction",
    "your KL is scaled by the size of the reconstruction term",
    wrong="NLL + stop(NLL) KL / 10",
)
def _(outputs: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    reconstruction, divergence = _sums(outputs, x, mu, logvar)
    return reconstruction + reconstruction.detach() * divergence / 10


@loss(
    "loss-kl-mean-over-latents",
    "your loss averages the KL over the latent dimensions and sums the reconstruction",
    wrong="NLL + KL / D",
    seen=("keras-team/keras#6015",),
)
def _(outputs: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    reconstruction, divergence = _sums(outputs, x, mu, logvar)
    return reconstruction + divergence / mu[0].numel()


@loss(
    "loss-kl-mean-over-everything",
    "your loss averages the KL over batch and latents and sums the reconstruction",
    wrong="Σ_n NLL_n + 1/(ND) Σ_n KL_n",
    seen=("sksq96/pytorch-vae",),
)
def _(outputs: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    reconstruction, divergence = _sums(outputs, x, mu, logvar)
    return reconstruction + divergence / mu.numel()


@loss(
    "loss-reconstruction-mean",
    "your loss averages the reconstruction over the pixels and sums the KL",
    wrong="NLL / P + KL",
    seen=("pytorch/examples#234", "keras-team/keras#3383"),
)
def _(outputs: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    reconstruction, divergence = _sums(outputs, x, mu, logvar)
    return reconstruction / x[0].numel() + divergence


@loss(
    "loss-mean-plus-sum",
    "your loss takes the mean of the reconstruction over batch and pixels, and the sum of the KL",
    wrong="1/(NP) Σ_n NLL_n + Σ_n KL_n",
    seen=("orybkin/sigma-vae-pytorch", "zdebruine/MMVAE#19"),
)
def _(outputs: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    reconstruction, divergence = _sums(outputs, x, mu, logvar)
    return reconstruction / x.numel() + divergence


@loss(
    "loss-sum-plus-batch-mean",
    "your loss sums the reconstruction over the batch and averages the KL",
    wrong="Σ_n NLL_n + 1/N Σ_n KL_n",
    seen=("pytorch/examples#290",),
)
def _(outputs: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    reconstruction, divergence = _sums(outputs, x, mu, logvar)
    return reconstruction + divergence / len(x)


@loss(
    "loss-batch-mean-plus-sum",
    "your loss averages the reconstruction over the batch and sums the KL",
    wrong="1/N Σ_n NLL_n + Σ_n KL_n",
)
def _(outputs: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    reconstruction, divergence = _sums(outputs, x, mu, logvar)
    return reconstruction / len(x) + divergence


@loss(
    "loss-nominal-batch-size",
    "your loss divides the KL by the nominal batch size: a short last batch is weighted wrongly",
    wrong="1/N Σ_n NLL_n + 1/128 Σ_n KL_n",
    seen=("pytorch/examples#296",),
)
def _(outputs: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    reconstruction, divergence = _sums(outputs, x, mu, logvar)
    return reconstruction / len(x) + divergence / 128


@loss(
    "loss-free-bits",
    "the KL in your loss has a floor: below it, no gradient flows",
    wrong="NLL + max(2, KL)",
)
def _(outputs: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return nll(outputs, x).sum() + kl(mu, logvar).clamp_min(2.0).sum()


@loss(
    "loss-capacity",
    "your loss pulls the KL to a capacity, |KL - C|: it is not a bound of log p(x)",
    wrong="NLL + |KL − C|",
    seen=("1Konny/Beta-VAE",),
)
def _(outputs: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return nll(outputs, x).sum() + (kl(mu, logvar) - 1.5).abs().sum()


@loss("loss-offset", "your loss has a constant added to it", wrong="NLL + KL + 1")
def _(outputs: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return sum(_sums(outputs, x, mu, logvar), torch.tensor(float(len(x)), dtype=x.dtype))


@loss("loss-kl-detached", "the KL in your loss is detached", wrong="NLL + stop(KL)")
def _(outputs: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    reconstruction, divergence = _sums(outputs, x, mu, logvar)
    return reconstruction + divergence.detach() + 0 * (mu + logvar).sum()


@loss(
    "loss-reconstruction-detached",
    "the reconstruction term in your loss is detached",
    wrong="stop(NLL) + KL",
)
def _(outputs: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    reconstruction, divergence = _sums(outputs, x, mu, logvar)
    return reconstruction.detach() + divergence + 0 * outputs.sum()


@loss(
    "loss-swapped-posterior",
    "your loss takes its arguments in the order (..., logvar, mu)",
    wrong="NLL + KL(logvar, μ)",
    seen=("bvezilic (variational autoencoders)",),
)
def _(outputs: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return nll(outputs, x).sum() + kl(logvar, mu).sum()


_LOG_SCALE = nn.Parameter(torch.zeros(1, dtype=torch.float32))


class _Scaled(Net):
    """The networks with the scale of their likelihood, which is learned."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.log_scale = _LOG_SCALE


def _scaled_nll(outputs: Tensor, x: Tensor) -> Tensor:
    scale = _LOG_SCALE.to(outputs.dtype)
    return ((outputs - x).square() / (2 * scale.exp()) + scale).sum(1)


@loss(
    "loss-scale-of-another-variance",
    "your likelihood has a scale that is learned, and the normaliser of another one: it says "
    "(x - m)^2 / (2 s) + log s, whose variance is s, but whose normaliser is that of s^2",
    wrong="Σ_i [(x_i − x̂_i)² / (2 s) + log s] + KL",
    right="Σ_i [(x_i − x̂_i)² / (2 s²) + log s] + KL",
    seen=("orybkin/sigma-vae-pytorch#11",),
    net=_Scaled,
    nll=_scaled_nll,
)
def _(outputs: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return _scaled_nll(outputs, x).sum() + kl(mu, logvar).sum()


@weighted(
    "iw-no-log-k",
    "your bound lacks - log K: it grows with the number of samples",
    wrong="log Σ_k w_k",
    numpy="np.log(np.sum(np.exp(log_w), axis=1))",
)
def _(log_w: Tensor) -> Tensor:
    return torch.logsumexp(log_w, 1)


@weighted(
    "iw-mean-of-logs",
    "your bound is the mean of the log weights, which is the ELBO for every K",
    wrong="1/K Σ_k log w_k",
    numpy="np.mean(log_w, axis=1)",
    seen=("generative-tf, issue 1",),
)
def _(log_w: Tensor) -> Tensor:
    return log_w.mean(1)


@weighted(
    "iw-self-normalised",
    "your bound is the mean of the log weights under the normalised weights: its gradient is "
    "right, but its value is not a bound",
    wrong="Σ_k w̃_k log w_k",
    numpy="np.sum(np.exp(log_w) / np.exp(log_w).sum(1, keepdims=True) * log_w, axis=1)",
    seen=("clementchadebec/benchmark_VAE", "xqding/Importance_Weighted_Autoencoders"),
)
def _(log_w: Tensor) -> Tensor:
    return (torch.softmax(log_w, 1).detach() * log_w).sum(1)


@weighted(
    "iw-wrong-sign",
    "your bound gives the worst samples the largest weights: the softmax has the wrong sign",
    wrong="Σ_k softmax(−log w)_k log w_k",
    numpy="np.sum(np.exp(-log_w) / np.exp(-log_w).sum(1, keepdims=True) * log_w, axis=1)",
    seen=("AntixK/PyTorch-VAE#34",),
)
def _(log_w: Tensor) -> Tensor:
    return (torch.softmax(-log_w, 1) * log_w).sum(1)


@weighted(
    "iw-no-shift",
    "your bound exponentiates the log weights without shifting them first, so it overflows",
    wrong="log (1/K) Σ_k exp(log w_k), unshifted",
    numpy="np.log(np.mean(np.exp(log_w), axis=1))",
    seen=("xqding/Importance_Weighted_Autoencoders#3",),
)
def _(log_w: Tensor) -> Tensor:
    return torch.log(torch.exp(log_w).mean(1))


@weighted(
    "iw-maximum",
    "your bound is the largest log weight",
    wrong="max_k log w_k",
    numpy="np.max(log_w, axis=1)",
)
def _(log_w: Tensor) -> Tensor:
    return log_w.amax(1)


@weighted(
    "iw-detached-weights",
    "the gradient of your bound is that of the mean log weight",
    wrong="∂L/∂log w_k = 1/K",
)
def _(log_w: Tensor) -> Tensor:
    value = torch.logsumexp(log_w, 1) - math.log(log_w.shape[1])
    return log_w.mean(1) + (value - log_w.mean(1)).detach()


@weighted("iw-no-grad", "your bound is detached from the weights", wrong="stop(L_K)")
def _(log_w: Tensor) -> Tensor:
    return bound(log_w).detach()
