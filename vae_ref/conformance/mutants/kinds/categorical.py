"""Bugs of discrete codes: of their divergences, their entropy and the loss."""

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_ref.conformance.kinds.categorical import CategoricalVAE
from vae_ref.conformance.mutants import bank

__all__ = ["relaxed", "specimen"]


def kl_to_uniform(logits: Tensor) -> Tensor:
    """Return log K for each latent, minus the entropy: one value per example."""
    return logits.shape[1] * math.log(logits.shape[2]) - entropy_of_codes(logits)


def entropy_of_codes(logits: Tensor) -> Tensor:
    """Return the entropy by the log of the normaliser: log Z minus the mean logit."""
    q = torch.softmax(logits, 2)
    return (torch.logsumexp(logits, 2) - (q * logits).sum(2)).sum(1)


def kl_to_categorical(logits: Tensor, prior_logits: Tensor) -> Tensor:
    """Return the cross-entropy minus the entropy."""
    q = torch.softmax(logits, 2)
    cross = torch.logsumexp(prior_logits, 2) - (q * prior_logits).sum(2)
    return cross.sum(1) - entropy_of_codes(logits)


def race(logits: Tensor) -> Tensor:
    """Return the logarithms of what wins a race of exponential numbers: logits + Gumbel noise."""
    return logits - torch.empty_like(logits).exponential_().log()


def relaxed(scores: Tensor, temperature: float) -> Tensor:
    """Return powers of the scores' exponentials, which sum to 1."""
    powers = torch.exp((scores - scores.detach().amax(2, keepdim=True)) / temperature)
    return powers / powers.sum(2, keepdim=True)


def gumbel_softmax(logits: Tensor, temperature: float) -> Tensor:
    """Return relaxed samples."""
    return relaxed(race(logits), temperature)


def one_hot(y: Tensor, axis: int = 2) -> Tensor:
    """Return 1 where y is largest on an axis, and 0 elsewhere."""
    return torch.zeros_like(y).scatter(axis, y.argmax(axis, keepdim=True), 1.0)


def straight_through(logits: Tensor, temperature: float) -> Tensor:
    """Return one-hot samples with the gradient of the relaxed ones."""
    y = gumbel_softmax(logits, temperature)
    return one_hot(y).detach() + (y - y.detach())


def log_density_relaxed(y: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """Return the log density as the paper writes it."""
    k, powers = y.shape[2], logits - temperature * y.log()
    constant = math.log(math.factorial(k - 1)) + (k - 1) * math.log(temperature)
    terms = (powers - y.log()).sum(2) - k * torch.logsumexp(powers, 2)
    return (terms + constant).sum(1)


def loss_of_codes(outputs: Tensor, x: Tensor, logits: Tensor) -> Tensor:
    """Return the mean over the batch of both terms."""
    nll = F.binary_cross_entropy(outputs, x, reduction="sum") / len(x)
    return nll + kl_to_uniform(logits).mean()


def specimen(name: str = "specimen", **changes: Any) -> CategoricalVAE:
    """Return a correct subject, some of whose functions are replaced."""
    functions: dict[str, Any] = {
        "kl_to_uniform": kl_to_uniform,
        "kl_to_categorical": kl_to_categorical,
        "entropy_of_codes": entropy_of_codes,
        "gumbel_softmax": gumbel_softmax,
        "straight_through": straight_through,
        "log_density_relaxed": log_density_relaxed,
        "loss_of_codes": loss_of_codes,
    }
    return CategoricalVAE(name=name, **(functions | changes))


bank.describe(
    "categorical",
    specimen,
    kl_to_uniform="Σ_d (log K + Σ_k q_dk log q_dk)",
    kl_to_categorical="Σ_d Σ_k q_dk log(q_dk / p_dk)",
    entropy_of_codes="−Σ_d Σ_k q_dk log q_dk",
    gumbel_softmax="y = softmax((logits + g)/τ),  g = −log(−log u)",
    straight_through="z = onehot(argmax y), with the gradient of y",
    log_density_relaxed="log[(K − 1)! τ^(K−1) Π_k α_k y_k^(−τ−1) / (Σ_k α_k y_k^(−τ))^K]",
    loss_of_codes="NLL + β·KL, both summed or both averaged over the batch",
)

of_kl = partial(bank.mutant, "kl_to_uniform")
of_prior = partial(bank.mutant, "kl_to_categorical")
of_entropy = partial(bank.mutant, "entropy_of_codes")
of_loss = partial(bank.mutant, "loss_of_codes")


@of_kl(
    "categorical-kl-log-of-prior-missing",
    "your KL subtracts the probability 1/K of the prior, not its logarithm",
    wrong="Σ_d Σ_k q_dk (log q_dk − 1/K)",
    seen=("YongfeiYan/Gumbel_Softmax_VAE#1", "dev4488/VAE_gumble_softmax#1"),
)
def log_of_prior_missing(logits: Tensor) -> Tensor:
    return -entropy_of_codes(logits) - logits.shape[1] / logits.shape[2]


@of_kl(
    "categorical-kl-without-log-k",
    "your KL lacks log K for each latent: it is minus the entropy, so it is never positive; its "
    "gradient is right",
    wrong="Σ_d Σ_k q_dk log q_dk",
    seen=("loeweX/AmortizedCausalDiscovery#3",),
)
def without_log_k(logits: Tensor) -> Tensor:
    return -entropy_of_codes(logits)


@of_kl(
    "categorical-kl-negative",
    "your KL has the wrong sign: the loss drives the codes to be certain",
    wrong="−Σ_d (log K + Σ_k q_dk log q_dk)",
    seen=("dev4488/VAE_gumble_softmax#1",),
)
def negative(logits: Tensor) -> Tensor:
    return -kl_to_uniform(logits)


@of_kl(
    "categorical-kl-epsilon",
    "your KL adds a number such as 1e-7 to the probabilities; the logarithm of a softmax "
    "(log_softmax) needs none",
    wrong="Σ_d Σ_k q_dk [log(q_dk + 1e-7) − log(1/K + 1e-7)]",
    seen=("AntixK/PyTorch-VAE (models/cat_vae.py)",),
)
def epsilon(logits: Tensor) -> Tensor:
    q = torch.softmax(logits, 2)
    return (q * (torch.log(q + 1e-7) - math.log(1 / q.shape[2] + 1e-7))).sum((1, 2))


@of_kl(
    "categorical-kl-in-bits",
    "your KL is in bits, not in nats as the reconstruction: its logarithm has the base 2",
    wrong="Σ_d (log₂ K + Σ_k q_dk log₂ q_dk)",
)
def in_bits(logits: Tensor) -> Tensor:
    return kl_to_uniform(logits) / math.log(2)


@of_kl(
    "categorical-kl-mean-over-latents",
    "your KL is averaged over the latents, not summed",
    wrong="(1/D) Σ_d (log K + Σ_k q_dk log q_dk)",
    seen=("openai/DALL-E#26 (asked about)",),
)
def mean_over_latents(logits: Tensor) -> Tensor:
    return kl_to_uniform(logits) / logits.shape[1]


@of_kl(
    "categorical-kl-mean-over-classes",
    "your KL is averaged over the classes and latents too: the default reduction of kl_div is the "
    "mean of all its terms",
    wrong="(1/DK) Σ_d Σ_k q_dk log(K q_dk)",
    seen=("pytorch/pytorch#2259", "facebookresearch/deit#61"),
)
def mean_over_classes(logits: Tensor) -> Tensor:
    return kl_to_uniform(logits) / logits[0].numel()


@of_kl(
    "categorical-kl-of-a-relaxed-sample",
    "your KL is that of a relaxed sample y in place of the probabilities q: it is random, and "
    "mostly too large",
    wrong="Σ_d Σ_k y_dk log(K y_dk),  y ~ Gumbel-softmax",
    deterministic=False,
)
def of_a_relaxed_sample(logits: Tensor) -> Tensor:
    y = gumbel_softmax(logits, 1.0)
    return (y * torch.log(y.shape[2] * y)).sum((1, 2))


@of_kl(
    "categorical-kl-of-logits",
    "your KL takes the logits for logarithms of probabilities: they are not normalised",
    wrong="Σ_d Σ_k e^ℓ_dk (ℓ_dk + log K)",
    seen=("apache/mxnet#19722",),
)
def of_logits(logits: Tensor) -> Tensor:
    return (logits.exp() * (logits + math.log(logits.shape[2]))).sum((1, 2))


@of_kl(
    "categorical-kl-softmax-over-latents",
    "the softmax in your KL is over the latents, not over the classes",
    wrong="Σ_d (log K + Σ_k q_dk log q_dk),  q = softmax over d",
)
def softmax_over_latents(logits: Tensor) -> Tensor:
    log_q = torch.log_softmax(logits, 1)
    return (log_q.exp() * (log_q + math.log(logits.shape[2]))).sum((1, 2))


@of_kl(
    "categorical-kl-nan-when-certain",
    "your KL is NaN if a code is certain: 0·log 0 is 0 times minus infinity",
    wrong="Σ_d (log K + Σ_k q_dk log q_dk),  0·log 0 = NaN",
    seen=("JuliaStats/Distributions.jl#793",),
)
def nan_when_certain(logits: Tensor) -> Tensor:
    q = torch.softmax(logits, 2)
    return (q * torch.log(q * q.shape[2])).sum((1, 2))


@of_kl(
    "categorical-kl-slope-reversed",
    "your KL has the right value, but the gradient that you wrote for it has the wrong sign",
    wrong="∂KL/∂ℓ with the opposite sign",
    seen=("Kaixhin/Autoencoders#9",),
)
def slope_reversed(logits: Tensor) -> Tensor:
    kl = kl_to_uniform(logits)
    return 2 * kl.detach() - kl


@of_kl(
    "categorical-kl-detached",
    "your KL has no gradient: it is computed from detached logits, or from samples",
    wrong="KL(stop-gradient(q) ‖ uniform)",
)
def detached(logits: Tensor) -> Tensor:
    return kl_to_uniform(logits.detach())


@of_prior(
    "categorical-prior-ignored",
    "your KL is that from the uniform distribution: the prior is not used",
    wrong="Σ_d (log K + Σ_k q_dk log q_dk)",
)
def prior_ignored(logits: Tensor, prior_logits: Tensor) -> Tensor:
    return kl_to_uniform(logits)


@of_prior(
    "categorical-prior-kl-reversed",
    "your KL is that of the prior from the posterior: the two are swapped",
    wrong="Σ_d Σ_k p_dk log(p_dk / q_dk)",
    seen=("psanch21/VAE-GMVAE#6", "danijar/dreamerv2#4 (asked about)"),
)
def prior_kl_reversed(logits: Tensor, prior_logits: Tensor) -> Tensor:
    return kl_to_categorical(prior_logits, logits)


@of_prior(
    "categorical-prior-cross-entropy",
    "your KL lacks the entropy of the posterior: it is the cross-entropy",
    wrong="−Σ_d Σ_k q_dk log p_dk",
)
def prior_cross_entropy(logits: Tensor, prior_logits: Tensor) -> Tensor:
    return kl_to_categorical(logits, prior_logits) + entropy_of_codes(logits)


@of_prior(
    "categorical-prior-shared-over-batch",
    "your KL takes the average prior of the batch for every example",
    wrong="Σ_d Σ_k q_dk log(q_dk / mean_n p_ndk)",
)
def prior_shared(logits: Tensor, prior_logits: Tensor) -> Tensor:
    p = torch.softmax(prior_logits, 2).mean(0, keepdim=True)
    return kl_to_categorical(logits, p.log().expand_as(logits))


@of_prior(
    "categorical-prior-kl-nan-when-certain",
    "your KL from the prior is NaN if a code is certain: 0·log 0 is 0 times minus infinity",
    wrong="Σ_d Σ_k q_dk log(q_dk / p_dk),  0·log 0 = NaN",
    seen=("JuliaStats/Distributions.jl#793",),
)
def prior_nan_when_certain(logits: Tensor, prior_logits: Tensor) -> Tensor:
    q, p = torch.softmax(logits, 2), torch.softmax(prior_logits, 2)
    return (q * torch.log(q / p)).sum((1, 2))


@of_prior(
    "categorical-prior-kl-detached-prior",
    "your KL is computed from a detached prior: no gradient reaches it, so it never learns",
    wrong="KL(q ‖ stop-gradient(p))",
)
def prior_kl_detached_prior(logits: Tensor, prior_logits: Tensor) -> Tensor:
    return kl_to_categorical(logits, prior_logits.detach())


@of_prior(
    "categorical-prior-kl-detached-posterior",
    "your KL is computed from a detached posterior: no gradient reaches the encoder",
    wrong="KL(stop-gradient(q) ‖ p)",
)
def prior_kl_detached_posterior(logits: Tensor, prior_logits: Tensor) -> Tensor:
    return kl_to_categorical(logits.detach(), prior_logits)


@of_entropy(
    "entropy-of-codes-in-bits",
    "your entropy is in bits, not in nats: its logarithm has the base 2",
    wrong="−Σ_d Σ_k q_dk log₂ q_dk",
)
def entropy_in_bits(logits: Tensor) -> Tensor:
    return entropy_of_codes(logits) / math.log(2)


@of_entropy(
    "entropy-of-codes-negative",
    "your entropy lacks the minus sign",
    wrong="Σ_d Σ_k q_dk log q_dk",
    seen=("haebeom-lee/dropmax#2 (asked about)",),
)
def entropy_negative(logits: Tensor) -> Tensor:
    return -entropy_of_codes(logits)


@of_entropy(
    "entropy-of-codes-wrong-axis",
    "the softmax in your entropy is over the latents (axis 1), not over the classes",
    wrong="−Σ_d Σ_k q_dk log q_dk,  q = softmax over d",
    seen=("castorini/DeeBERT#17",),
)
def entropy_wrong_axis(logits: Tensor) -> Tensor:
    log_q = torch.log_softmax(logits, 1)
    return -(log_q.exp() * log_q).sum((1, 2))


@of_entropy(
    "entropy-of-codes-detached",
    "your entropy has no gradient",
    wrong="H(stop-gradient(q))",
    seen=("tensorflow/tensorflow#6717",),
)
def entropy_detached(logits: Tensor) -> Tensor:
    return entropy_of_codes(logits.detach())


@of_loss(
    "loss-of-codes-without-kl",
    "your loss lacks the KL of the codes: nothing keeps them from collapsing onto a few classes",
    wrong="NLL",
    seen=("lucidrains/DALLE-pytorch#40",),
)
def loss_without_kl(outputs: Tensor, x: Tensor, logits: Tensor) -> Tensor:
    nll: Tensor = F.binary_cross_entropy(outputs, x, reduction="sum")
    return nll / len(x)


@of_loss(
    "loss-of-codes-minus-kl",
    "your loss subtracts the KL of the codes",
    wrong="NLL − KL",
    seen=("dev4488/VAE_gumble_softmax#1",),
)
def loss_minus_kl(outputs: Tensor, x: Tensor, logits: Tensor) -> Tensor:
    nll: Tensor = loss_without_kl(outputs, x, logits)
    return nll - kl_to_uniform(logits).mean()


@of_loss(
    "loss-of-codes-kl-summed-over-batch",
    "the KL in your loss is summed over the batch, but the reconstruction is averaged: "
    "'batchmean' divides by the length of its first argument, which is 1",
    wrong="mean_n NLL_n + Σ_n KL_n",
    seen=("lucidrains/DALLE-pytorch#255",),
)
def loss_kl_summed(outputs: Tensor, x: Tensor, logits: Tensor) -> Tensor:
    log_q = torch.log_softmax(logits, 2)
    log_uniform = -torch.log(torch.full((1,), logits.shape[2], dtype=logits.dtype))
    kl: Tensor = F.kl_div(log_uniform, log_q, reduction="batchmean", log_target=True)
    return F.mse_loss(outputs, x) + kl
