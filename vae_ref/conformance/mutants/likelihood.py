"""Bugs in the reconstruction term."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_ref.conformance.mutants.bank import mutant as _mutant
from vae_ref.conformance.mutants.specimen import nll

mutant = partial(_mutant, "nll")

_TERMS = "x * np.log(outputs) + (1 - x) * np.log(1 - outputs)"


def _terms(outputs: Tensor, x: Tensor) -> Tensor:
    return F.binary_cross_entropy(outputs, x, reduction="none")


@mutant(
    "nll-mean-over-pixels",
    "your reconstruction term is the mean over the pixels, not the sum",
    wrong="−1/P Σ_i [x log x̂ + (1 − x) log(1 − x̂)]",
    numpy=f"-np.mean({_TERMS}, axis=1)",
    seen=("keras-team/keras#3383", "ctallec/world-models#2"),
)
def _(outputs: Tensor, x: Tensor) -> Tensor:
    return _terms(outputs, x).mean(1)


@mutant(
    "nll-mean-over-everything",
    "your reconstruction term is the mean over batch and pixels: the default reduction",
    wrong="−1/(NP) Σ_n Σ_i [x log x̂ + (1 − x) log(1 − x̂)]",
    numpy=f"-np.mean({_TERMS})",
    seen=("pytorch/examples#234", "zdebruine/MMVAE#19"),
)
def _(outputs: Tensor, x: Tensor) -> Tensor:
    return _terms(outputs, x).mean()


@mutant(
    "nll-channel-mean",
    "your reconstruction term is averaged over three colour channels",
    wrong="−1/3 Σ_i [x log x̂ + (1 − x) log(1 − x̂)]",
    numpy=f"-np.sum({_TERMS}, axis=1) / 3",
    seen=("keras-team/keras-io (RGB)",),
)
def _(outputs: Tensor, x: Tensor) -> Tensor:
    return nll(outputs, x) / 3


@mutant(
    "nll-half",
    "your reconstruction term is half the cross-entropy",
    wrong="−½ Σ_i [x log x̂ + (1 − x) log(1 − x̂)]",
    numpy=f"-0.5 * np.sum({_TERMS}, axis=1)",
)
def _(outputs: Tensor, x: Tensor) -> Tensor:
    return 0.5 * nll(outputs, x)


@mutant(
    "nll-swapped",
    "the arguments of your cross-entropy are swapped: (x, outputs) for (outputs, x)",
    wrong="−Σ_i [x̂ log x + (1 − x̂) log(1 − x)]",
    numpy="-np.sum(outputs * np.log(x) + (1 - outputs) * np.log(1 - x), axis=1)",
)
def _(outputs: Tensor, x: Tensor) -> Tensor:
    p = x.clamp(1e-6, 1 - 1e-6)
    return -(outputs * p.log() + (1 - outputs) * (1 - p).log()).sum(1)


@mutant(
    "nll-half-of-bce",
    "your cross-entropy has only the term x log p: dark pixels cost nothing",
    wrong="−Σ_i x log x̂",
    numpy="-np.sum(x * np.log(outputs), axis=1)",
)
def _(outputs: Tensor, x: Tensor) -> Tensor:
    return -(x * outputs.log()).sum(1)


@mutant(
    "nll-dark-pixels-only",
    "your cross-entropy has only the term (1 - x) log (1 - p): lit pixels cost nothing",
    wrong="−Σ_i (1 − x) log(1 − x̂)",
    numpy="-np.sum((1 - x) * np.log(1 - outputs), axis=1)",
)
def _(outputs: Tensor, x: Tensor) -> Tensor:
    return -((1 - x) * (1 - outputs).log()).sum(1)


@mutant(
    "nll-double-sigmoid",
    "the sigmoid is applied twice before your cross-entropy",
    wrong="BCE(sigmoid(sigmoid(x̂)), x)",
    numpy="np.sum(np.log1p(np.exp(p := 1 / (1 + np.exp(-outputs)))) - x * p, axis=1)",
    seen=("keras-team/keras#3383",),
)
def _(outputs: Tensor, x: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(torch.sigmoid(outputs), x, reduction="none").sum(1)


@mutant(
    "nll-cubed-error",
    "your reconstruction term is the sum of |x - outputs|^3, which is no usual likelihood",
    wrong="Σ_i |x − x̂|³",
    numpy="np.sum(np.abs(x - outputs) ** 3, axis=1)",
)
def _(outputs: Tensor, x: Tensor) -> Tensor:
    return ((x - outputs).abs() ** 3).sum(1)


@mutant(
    "nll-root-of-squares",
    "your reconstruction term is the root of the squared error: a norm, not a sum over pixels",
    wrong="√Σ_i (x − x̂)²",
    numpy="np.sqrt(np.sum((x - outputs) ** 2, axis=1))",
)
def _(outputs: Tensor, x: Tensor) -> Tensor:
    return ((x - outputs) ** 2).sum(1).clamp_min(1e-30).sqrt()


@mutant(
    "nll-optimal-variance",
    "your Gaussian variance is estimated from the batch, so the loss of an example depends on the "
    "others",
    wrong="NP/2 log mean (x − x̂)²",
    numpy="0.5 * x.size * np.log(np.mean((x - outputs) ** 2))",
    seen=("orybkin/sigma-vae-pytorch",),
)
def _(outputs: Tensor, x: Tensor) -> Tensor:
    return 0.5 * x.numel() * ((x - outputs) ** 2).mean().clamp_min(1e-30).log()


@mutant(
    "nll-signed-residual",
    "your residual is neither squared nor an absolute value: errors cancel",
    wrong="Σ_i (x̂ − x)",
    numpy="np.sum(outputs - x, axis=1)",
)
def _(outputs: Tensor, x: Tensor) -> Tensor:
    return (outputs - x).sum(1)


@mutant(
    "nll-negated",
    "your reconstruction term has the wrong sign: it is the log-likelihood",
    wrong="Σ_i [x log x̂ + (1 − x) log(1 − x̂)]",
    numpy=f"np.sum({_TERMS}, axis=1)",
    seen=("yjlolo/pytorch-lightning-vae#3",),
)
def _(outputs: Tensor, x: Tensor) -> Tensor:
    return -nll(outputs, x)


@mutant(
    "nll-offset",
    "your reconstruction term has a constant added to it",
    wrong="0.1 − Σ_i [x log x̂ + (1 − x) log(1 − x̂)]",
    numpy=f"0.1 - np.sum({_TERMS}, axis=1)",
)
def _(outputs: Tensor, x: Tensor) -> Tensor:
    return 0.1 + nll(outputs, x)


@mutant(
    "nll-in-bits",
    "your reconstruction term is in bits, the KL in nats",
    wrong="−Σ_i [x log₂ x̂ + (1 − x) log₂(1 − x̂)]",
    numpy=f"-np.sum({_TERMS}, axis=1) / np.log(2)",
)
def _(outputs: Tensor, x: Tensor) -> Tensor:
    return nll(outputs, x) / math.log(2)


@mutant(
    "nll-detached",
    "your reconstruction term is detached from the decoder's output",
    wrong="NLL(stop(x̂), x)",
)
def _(outputs: Tensor, x: Tensor) -> Tensor:
    return nll(outputs.detach(), x) + 0 * outputs.sum()


@mutant("nll-no-grad", "your reconstruction term is computed under no_grad", wrong="stop(NLL)")
def _(outputs: Tensor, x: Tensor) -> Tensor:
    return nll(outputs, x).detach()


@mutant(
    "nll-zero-at-half",
    "the gradient of your reconstruction term is 0 where the logit is 0, as that of |logit| is",
    wrong="∂NLL/∂x̂ = 0 at x̂ = ½",
    seen=("an early version of this project",),
)
def _(outputs: Tensor, x: Tensor) -> Tensor:
    return nll(torch.where(outputs == 0.5, outputs.detach(), outputs), x)


@mutant(
    "nll-first-example-only",
    "your reconstruction term uses only the first example of the batch",
    wrong="NLL₁",
    numpy=f"-np.sum({_TERMS}, axis=1)[0]",
)
def _(outputs: Tensor, x: Tensor) -> Tensor:
    return nll(outputs, x)[0]


@mutant(
    "nll-nominal-batch-size",
    "your reconstruction term is divided by the nominal batch size",
    wrong="1/128 Σ_n NLL_n",
    numpy=f"-np.sum({_TERMS}) / 128",
    seen=("pytorch/examples#290",),
)
def _(outputs: Tensor, x: Tensor) -> Tensor:
    return nll(outputs, x).sum() / 128


@mutant(
    "nll-divided-twice",
    "your reconstruction term is divided by the batch size twice",
    wrong="1/N² Σ_n NLL_n",
    numpy=f"-np.sum({_TERMS}) / len(x) ** 2",
)
def _(outputs: Tensor, x: Tensor) -> Tensor:
    return nll(outputs, x).sum() / len(x) ** 2


@mutant(
    "nll-pixels-weighted",
    "your reconstruction term gives the pixels different weights",
    wrong="−Σ_i w_i [x log x̂ + (1 − x) log(1 − x̂)]",
    numpy=f"-np.sum(np.linspace(0.5, 1.5, x.shape[1]) * ({_TERMS}), axis=1)",
)
def _(outputs: Tensor, x: Tensor) -> Tensor:
    weights = torch.linspace(0.5, 1.5, x.shape[1], dtype=x.dtype)
    return (weights * _terms(outputs, x)).sum(1)


@mutant(
    "nll-shifted",
    "your reconstruction is compared with the wrong pixels: they are shifted by one",
    wrong="−Σ_i [x_{i−1} log x̂_i + …]",
    numpy="-np.sum(np.roll(x, 1, 1) * np.log(outputs)"
    " + (1 - np.roll(x, 1, 1)) * np.log(1 - outputs), axis=1)",
)
def _(outputs: Tensor, x: Tensor) -> Tensor:
    return nll(outputs, x.roll(1, 1))


@mutant(
    "nll-clamped-probabilities",
    "your probabilities are clamped: beyond the bounds no gradient reaches the decoder",
    wrong="NLL(clamp(x̂, 0.01, 0.99), x)",
    numpy="-np.sum(x * np.log(np.clip(outputs, 0.01, 0.99))"
    " + (1 - x) * np.log(1 - np.clip(outputs, 0.01, 0.99)), axis=1)",
)
def _(outputs: Tensor, x: Tensor) -> Tensor:
    return nll(outputs.clamp(0.01, 0.99), x)


@mutant(
    "nll-jitter-in-log",
    "your cross-entropy adds a small number inside the logarithms",
    wrong="−Σ_i [x log(x̂ + 1e-8) + (1 − x) log(1 − x̂ + 1e-8)]",
    numpy="-np.sum(x * np.log(outputs + 1e-8) + (1 - x) * np.log(1 - outputs + 1e-8), axis=1)",
    seen=("kvfrans/variational-autoencoder#5",),
)
def _(outputs: Tensor, x: Tensor) -> Tensor:
    return -(x * (outputs + 1e-8).log() + (1 - x) * (1 - outputs + 1e-8).log()).sum(1)
