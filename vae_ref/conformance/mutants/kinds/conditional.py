"""Bugs of conditional VAEs and learned priors."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vae_ref.conformance.kinds.conditional import ConditionalVAE
from vae_ref.conformance.mutants import bank

__all__ = ["specimen"]

CLASSES, LATENTS, PIXELS = 3, 5, 7


def kl_between(mu: Tensor, logvar: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    """Return the KL of two Gaussians as papers write it, one value per example."""
    terms = ((mu - mu_p) ** 2 + logvar.exp()) / logvar_p.exp() - 1 - logvar + logvar_p
    return 0.5 * terms.sum(1)


def _table(name: int, width: int) -> Tensor:
    """Return numbers for each class, always the same."""
    generator = torch.Generator().manual_seed(name)
    return torch.randn(CLASSES, width, generator=generator, dtype=torch.float64)


def prior(c: Tensor) -> tuple[Tensor, Tensor]:
    """Return the prior of a class."""
    return _table(1, LATENTS)[c], 0.5 * _table(2, LATENTS)[c]


def draw_prior(c: Tensor) -> Tensor:
    """Draw a code for each example from the prior of its class."""
    mu_p, logvar_p = prior(c)
    return mu_p + torch.exp(logvar_p / 2) * torch.randn_like(mu_p)


def decode_given(z: Tensor, c: Tensor) -> Tensor:
    """Decode a code given its class."""
    return torch.sigmoid(
        z @ _table(3, LATENTS * PIXELS)[0].view(LATENTS, PIXELS).to(z) + _of(c, z)
    )


def _of(c: Tensor, z: Tensor) -> Tensor:
    return _table(4, PIXELS)[c].to(z)


def conditions(n: int) -> Tensor:
    """Return classes, not all the same."""
    return torch.arange(n) % CLASSES


def specimen(
    name: str = "specimen", *, prior: Callable[..., Any] | None = prior, **changes: Any
) -> ConditionalVAE:
    """Return a correct subject, some of whose functions are replaced."""
    functions: dict[str, Any] = {
        "kl_between": kl_between,
        "draw_prior": draw_prior,
        "decode_given": decode_given,
    }
    return ConditionalVAE(name=name, prior=prior, conditions=conditions, **(functions | changes))


bank.describe(
    "conditional",
    specimen,
    kl_between="½ Σ_d [(σ² + (μ − μ_p)²)/σ_p² − 1 − log(σ²/σ_p²)]",
    draw_prior="z = μ_p(c) + ε·σ_p(c)",
    decode_given="x̂ = decoder(z, c)",
)

of_kl = partial(bank.mutant, "kl_between")
of_draw = partial(bank.mutant, "draw_prior", deterministic=False)
of_decoder = partial(bank.mutant, "decode_given")


@of_kl(
    "prior-kl-reversed",
    "your KL is that of the prior from the posterior: the two are swapped",
    wrong="KL(p(z|c) ‖ q(z|x, c))",
    seen=(
        "juliusfrost/dreamer-pytorch#78 (between steps of time)",
        "kumar-shridhar/PyTorch-BayesianCNN#28 (of the weights of a network)",
    ),
)
def prior_kl_reversed(mu: Tensor, logvar: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    return kl_between(mu_p, logvar_p, mu, logvar)


@of_kl(
    "prior-kl-without-half",
    "your KL lacks the factor 1/2",
    wrong="Σ_d [(σ² + (μ − μ_p)²)/σ_p² − 1 − log(σ²/σ_p²)]",
    seen=("mingyuliutw/UNIT#42 (asked about)",),
)
def prior_kl_without_half(mu: Tensor, logvar: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    return 2 * kl_between(mu, logvar, mu_p, logvar_p)


@of_kl(
    "prior-kl-of-means-without-variance",
    "the distance of the means in your KL is not divided by the variance of the prior",
    wrong="½ Σ_d [σ²/σ_p² + (μ − μ_p)² − 1 − log(σ²/σ_p²)]",
)
def prior_kl_of_means(mu: Tensor, logvar: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    zero = torch.zeros_like(mu)
    return kl_between(zero, logvar, zero, logvar_p) + 0.5 * ((mu - mu_p) ** 2).sum(1)


@of_kl(
    "prior-kl-without-log-ratio",
    "your KL lacks the log variance of the prior",
    wrong="½ Σ_d [(σ² + (μ − μ_p)²)/σ_p² − 1 − log σ²]",
)
def prior_kl_without_log(mu: Tensor, logvar: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    return kl_between(mu, logvar, mu_p, logvar_p) - 0.5 * logvar_p.sum(1)


@of_kl(
    "prior-kl-halved-log-ratio",
    "the logarithms in your KL have half of their weight: log σ is taken for log σ²",
    wrong="½ Σ_d [(σ² + (μ − μ_p)²)/σ_p² − 1 − ½ log(σ²/σ_p²)]",
    seen=("keras-team/keras#3300 (of N(0, I))",),
)
def prior_kl_halved_log(mu: Tensor, logvar: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    return kl_between(mu, logvar, mu_p, logvar_p) + 0.25 * (logvar - logvar_p).sum(1)


@of_kl(
    "prior-kl-sigma-for-variance",
    "your KL divides by the standard deviation of the prior, not by its variance",
    wrong="½ Σ_d [(σ² + (μ − μ_p)²)/σ_p − 1 − log(σ²/σ_p²)]",
)
def prior_kl_sigma(mu: Tensor, logvar: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    terms = ((mu - mu_p) ** 2 + logvar.exp()) / torch.exp(logvar_p / 2) - 1 - logvar + logvar_p
    return 0.5 * terms.sum(1)


@of_kl(
    "prior-kl-mean-over-latents",
    "your KL is averaged over the latents, not summed",
    wrong="1/(2D) Σ_d [(σ² + (μ − μ_p)²)/σ_p² − 1 − log(σ²/σ_p²)]",
    seen=("mkusner/grammarVAE#2 (of N(0, I))", "maxhodak/keras-molecules#59 (of N(0, I))"),
)
def prior_kl_mean(mu: Tensor, logvar: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    return kl_between(mu, logvar, mu_p, logvar_p) / mu.shape[1]


@of_kl(
    "prior-ignored",
    "your KL is that from N(0, I): the learned prior is not used",
    wrong="½ Σ_d [σ² + μ² − 1 − log σ²]",
    seen=(
        "wiseodd/generative-models#66 (asked about)",
        "carpedm20/variational-text-tensorflow#4 (asked about)",
        "ys1998/vae-latent-structure#4 (asked about)",
    ),
)
def prior_ignored(mu: Tensor, logvar: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    return kl_between(mu, logvar, 0 * mu_p, 0 * logvar_p)


@of_kl(
    "prior-kl-without-prior-mean",
    "the mean of the prior is missing in your KL",
    wrong="½ Σ_d [(σ² + μ²)/σ_p² − 1 − log(σ²/σ_p²)]",
    seen=("NVlabs/ProtoMotions#140 (asked about)",),
)
def prior_kl_without_prior_mean(
    mu: Tensor, logvar: Tensor, mu_p: Tensor, logvar_p: Tensor
) -> Tensor:
    return kl_between(mu, logvar, 0 * mu_p, logvar_p)


@of_kl(
    "prior-kl-variance-divided-twice",
    "the ratio of the variances in your KL is divided by the variance of the prior once more",
    wrong="½ Σ_d [(σ²/σ_p² + (μ − μ_p)²)/σ_p² − 1 − log(σ²/σ_p²)]",
    seen=("wassname/attentive-neural-processes#5",),
)
def prior_kl_divided_twice(mu: Tensor, logvar: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    ratio = torch.exp(logvar - logvar_p)
    return kl_between(mu, logvar, mu_p, logvar_p) + 0.5 * (ratio * (torch.exp(-logvar_p) - 1)).sum(
        1
    )


@of_kl(
    "prior-shared-over-batch",
    "your KL takes the average prior of the batch for every example",
    wrong="KL(q_n ‖ N(mean_m μ_p(c_m), mean_m σ_p²(c_m)))",
)
def prior_shared(mu: Tensor, logvar: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    mu_p, v_p = mu_p.mean(0, keepdim=True), logvar_p.exp().mean(0, keepdim=True)
    return kl_between(mu, logvar, mu_p.expand_as(mu), v_p.log().expand_as(mu))


@of_kl(
    "prior-kl-clamped",
    "the log variances in your KL are clamped",
    wrong="KL with log σ², log σ_p² clamped to [-10, 10]",
)
def prior_kl_clamped(mu: Tensor, logvar: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    return kl_between(mu, logvar.clamp(-10, 10), mu_p, logvar_p.clamp(-10, 10))


@of_kl(
    "prior-kl-detached-prior",
    "your KL is computed from a detached prior: no gradient reaches it, so it never learns",
    wrong="KL(q ‖ stop-gradient(p))",
    seen=(
        "xuxu-wei/SUAVE#47 (of a mixture: plain tensors)",
        "tiwarylab/State-Predictive-Information-Bottleneck#9 (of the weights of a VampPrior)",
    ),
)
def prior_kl_detached_prior(mu: Tensor, logvar: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    return kl_between(mu, logvar, mu_p.detach(), logvar_p.detach())


@of_kl(
    "prior-kl-detached-posterior",
    "your KL is computed from a detached posterior: no gradient reaches the encoder",
    wrong="KL(stop-gradient(q) ‖ p)",
)
def prior_kl_detached_q(mu: Tensor, logvar: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    return kl_between(mu.detach(), logvar.detach(), mu_p, logvar_p)


@of_draw(
    "prior-drawn-from-standard-normal",
    "your new codes are drawn from N(0, I), though the prior is another one",
    wrong="z = ε",
    seen=("AntixK/PyTorch-VAE#9 (of a VampPrior)",),
)
def prior_drawn_standard(c: Tensor) -> Tensor:
    return torch.randn_like(prior(c)[0])


@of_draw(
    "prior-drawn-without-noise",
    "your new codes are the means of the prior: nothing is drawn",
    wrong="z = μ_p(c)",
)
def prior_drawn_without_noise(c: Tensor) -> Tensor:
    return prior(c)[0]


@of_draw(
    "prior-drawn-too-wide",
    "your new codes are drawn with the exponential of the log variance as the standard deviation",
    wrong="z = μ_p(c) + ε·σ_p²(c)",
    seen=("rachtsingh/ibp_vae#3 (of a posterior)", "keras-team/keras#9972 (of a posterior)"),
)
def prior_drawn_too_wide(c: Tensor) -> Tensor:
    mu_p, logvar_p = prior(c)
    return mu_p + logvar_p.exp() * torch.randn_like(mu_p)


@of_decoder(
    "condition-unused",
    "nothing depends on the condition: the decoder is not given it, and the prior is one for all",
    wrong="x̂ = decoder(z), p(z)",
    seen=("AutoResearch/EEG-GAN#95 (at times, in generation)",),
    prior=lambda c: (torch.zeros(len(c), LATENTS), torch.zeros(len(c), LATENTS)),
    draw_prior=lambda c: torch.randn(len(c), LATENTS),
)
def condition_unused(z: Tensor, c: Tensor) -> Tensor:
    return decode_given(z, torch.zeros_like(c))


@of_decoder(
    "condition-averaged-over-batch",
    "your decoder takes the average condition of the batch for every example",
    wrong="x̂_n = decoder(z_n, mean_m c_m)",
)
def condition_averaged(z: Tensor, c: Tensor) -> Tensor:
    whole = torch.logit(decode_given(z, c)) - _of(c, z)
    return torch.sigmoid(whole + _of(c, z).mean(0))


@of_decoder(
    "condition-of-another-example",
    "your decoder takes the condition of another example of the batch",
    wrong="x̂_n = decoder(z_n, c_{n+1})",
    seen=("atong01/conditional-flow-matching#172 (of flow matching)",),
)
def condition_of_another(z: Tensor, c: Tensor) -> Tensor:
    return decode_given(z, c.roll(1))
