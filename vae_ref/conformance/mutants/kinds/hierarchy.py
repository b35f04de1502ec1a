"""Bugs of VAEs with levels."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vae_ref.conformance.kinds.hierarchy import HierarchicalVAE
from vae_ref.conformance.mutants import bank

__all__ = ["specimen"]

LEVELS, LATENTS, PIXELS, FREE = 3, 3, 7, 0.5

Gaussian = tuple[Tensor, Tensor]
Gaussians = Sequence[Gaussian]


def kl_residual(delta_mu: Tensor, delta_logvar: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    """Return the KL as the paper of NVAE writes it, one value per example."""
    shift = delta_mu**2 / logvar_p.exp()
    return 0.5 * (shift + delta_logvar.exp() - delta_logvar - 1).sum(1)


def kl(q: Gaussian, p: Gaussian) -> Tensor:
    """Return the KL of two Gaussians, one value per example."""
    (mu, logvar), (mu_p, logvar_p) = q, p
    terms = ((mu - mu_p) ** 2 + logvar.exp()) / logvar_p.exp() - 1 - logvar + logvar_p
    return 0.5 * terms.sum(1)


def each(posteriors: Gaussians, priors: Gaussians) -> list[Tensor]:
    """Return the KL of every level."""
    return [kl(q, p) for q, p in zip(posteriors, priors, strict=True)]


def total(terms: Sequence[Tensor]) -> Tensor:
    """Add up the terms of the levels."""
    return torch.stack(list(terms)).sum(0)


def kl_levels(posteriors: Gaussians, priors: Gaussians) -> Tensor:
    """Add up the KL of all levels."""
    return total(each(posteriors, priors))


def kl_with_free_nats(posteriors: Gaussians, priors: Gaussians) -> Tensor:
    """Add up the KL of all levels, of which each counts for the free nats at least."""
    return total([term.clamp(min=FREE) for term in each(posteriors, priors)])


def negative_elbo_of_levels(nll: Tensor, posteriors: Gaussians, priors: Gaussians) -> Tensor:
    """Return the mean loss of a batch."""
    return (nll + kl_levels(posteriors, priors)).mean()


def _table(name: int, rows: int, columns: int) -> Tensor:
    """Return weights, always the same."""
    generator = torch.Generator().manual_seed(name)
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64)


def prior_of_level(*above: Tensor) -> Gaussian:
    """Return the prior of the level below some codes."""
    h = torch.cat([z.double() for z in above], 1)
    h = torch.tanh(h @ _table(len(above), h.shape[1], 2 * LATENTS) / 2)
    mu, logvar = h.chunk(2, 1)
    return 1 + 1.5 * mu, logvar - 0.5


def draw(mu: Tensor, logvar: Tensor) -> Tensor:
    """Draw a code."""
    return mu + torch.exp(logvar / 2) * torch.randn_like(mu)


def generate(
    n: int,
    temperature: float = 1.0,
    *,
    top: Callable[..., Tensor] = draw,
    below: Callable[..., Tensor] = draw,
) -> list[Tensor]:
    """Draw new codes from the top down."""
    scale = torch.full((n, LATENTS), temperature, dtype=torch.float64).log() * 2
    codes = [top(torch.zeros_like(scale), scale)]
    while len(codes) < LEVELS:
        mu_p, logvar_p = prior_of_level(*codes)
        codes.append(below(mu_p, logvar_p + scale))
    return codes


def draw_hierarchy(n: int) -> list[Tensor]:
    """Draw the codes of n new examples."""
    return generate(n)


def draw_tempered(n: int, temperature: float) -> list[Tensor]:
    """Draw them with all standard deviations multiplied by a temperature."""
    return generate(n, temperature)


def bottom_up(x: Tensor, level: int) -> Gaussian:
    """Return what the data say of a level."""
    mu, logvar = torch.tanh(x @ _table(20 + level, PIXELS, 2 * LATENTS)).chunk(2, 1)
    return mu, logvar - 1


def merged(x: Tensor, level: int, prior: Gaussian | None) -> Gaussian:
    """Weigh what the data say with the prior by their precisions."""
    mu, logvar = bottom_up(x, level)
    if prior is None:
        return mu, logvar
    precision = torch.exp(-logvar) + torch.exp(-prior[1])
    mean = mu * torch.exp(-logvar) + prior[0] * torch.exp(-prior[1])
    return mean / precision, -precision.log()


Level = tuple[Tensor, Gaussian, Gaussian | None]


def infer(
    x: Tensor,
    *,
    draw: Callable[[Tensor, Tensor], Tensor] = draw,
    given: Callable[[list[Level]], Gaussian | None] | None = None,
    of: Callable[[Tensor, int, Gaussian | None], Gaussian] | None = None,
) -> list[Level]:
    """Infer all levels from the top down; return the prior, or the posterior, of a function."""
    levels: list[Level] = []
    while len(levels) < LEVELS:
        codes = [z for z, _, _ in levels]
        prior = prior_of_level(*codes) if codes else None
        posterior = merged(x, len(levels), prior)
        z = draw(*posterior)
        reported = of(x, len(levels), prior) if of else posterior
        shown = given([*levels, (z, posterior, prior)]) if given and codes else prior
        levels.append((z, reported, shown))
    return levels


def top_down(x: Tensor) -> list[Level]:
    """Infer the codes of all levels."""
    return infer(x)


def observations(n: int) -> Tensor:
    """Return some data."""
    return torch.rand(n, PIXELS, dtype=torch.float64)


def specimen(name: str = "specimen", **changes: Any) -> HierarchicalVAE:
    """Return a correct subject, some of whose functions are replaced."""
    functions: dict[str, Any] = {
        "kl_residual": kl_residual,
        "kl_levels": kl_levels,
        "kl_with_free_nats": kl_with_free_nats,
        "negative_elbo_of_levels": negative_elbo_of_levels,
        "prior_of_level": prior_of_level,
        "draw_hierarchy": draw_hierarchy,
        "draw_tempered": draw_tempered,
        "top_down": top_down,
        "observations": observations,
        "levels": LEVELS,
    }
    return HierarchicalVAE(name=name, free_nats=FREE, **(functions | changes))


bank.describe(
    "hierarchy",
    specimen,
    kl_residual="½ Σ_d [Δμ²/σ_p² + Δσ² − log Δσ² − 1]",
    kl_levels="Σ_l KL(q_l ‖ p_l)",
    kl_with_free_nats="Σ_l max(λ, KL_l)",
    negative_elbo_of_levels="Σ_n (NLL_n + Σ_l KL_l,n), or the mean over n of both",
    prior_of_level="p(z_l | z_<l), each example of its own codes",
    draw_hierarchy="z_l = μ_p(z_<l) + ε_l·σ_p(z_<l)",
    draw_tempered="z_l = μ_p(z_<l) + t·ε_l·σ_p(z_<l)",
    top_down="z_l = μ_l + ε_l·σ_l, with the prior p(z_l | z_<l)",
)

of_residual = partial(bank.mutant, "kl_residual")
of_levels = partial(bank.mutant, "kl_levels")
of_free = partial(bank.mutant, "kl_with_free_nats")
of_loss = partial(bank.mutant, "negative_elbo_of_levels")
of_prior = partial(bank.mutant, "prior_of_level")
of_codes = partial(bank.mutant, "draw_hierarchy", deterministic=False)
of_temperature = partial(bank.mutant, "draw_tempered", deterministic=False)
of_inference = partial(bank.mutant, "top_down", deterministic=False)


@of_residual(
    "residual-kl-without-half",
    "your KL of the residual posterior lacks the factor 1/2",
    wrong="Σ_d [Δμ²/σ_p² + Δσ² − log Δσ² − 1]",
)
def residual_without_half(d_mu: Tensor, d: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    return 2 * kl_residual(d_mu, d, mu_p, logvar_p)


@of_residual(
    "residual-kl-prior-mean-subtracted",
    "your KL subtracts the mean of the prior from the shift, which is relative to it already",
    wrong="½ Σ_d [(Δμ − μ_p)²/σ_p² + Δσ² − log Δσ² − 1]",
    seen=("NVlabs/ProtoMotions#140 (asked about)",),
)
def residual_mean_subtracted(d_mu: Tensor, d: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    return kl_residual(d_mu - mu_p, d, mu_p, logvar_p)


@of_residual(
    "residual-kl-shift-not-scaled",
    "the shift in your KL is not divided by the variance of the prior",
    wrong="½ Σ_d [Δμ² + Δσ² − log Δσ² − 1]",
)
def residual_shift_not_scaled(d_mu: Tensor, d: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    return kl_residual(d_mu, d, mu_p, torch.zeros_like(logvar_p))


@of_residual(
    "residual-kl-shift-over-sigma",
    "the squared shift in your KL is divided by the standard deviation of the prior, not by its "
    "variance",
    wrong="½ Σ_d [Δμ²/σ_p + Δσ² − log Δσ² − 1]",
)
def residual_shift_over_sigma(d_mu: Tensor, d: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    return kl_residual(d_mu, d, mu_p, logvar_p / 2)


@of_residual(
    "residual-kl-log-sigma",
    "your KL takes the log variance for the logarithm of the standard deviation",
    wrong="½ Σ_d [Δμ²/σ_p² + Δσ⁴ − log Δσ⁴ − 1]",
    seen=("KarenUllrich/Tutorial_BayesianCompressionForDL#1 (of a prior without levels)",),
)
def residual_log_sigma(d_mu: Tensor, d: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    return kl_residual(d_mu, 2 * d, mu_p, logvar_p)


@of_residual(
    "residual-kl-scale-added",
    "the variances of prior and residual are added in your KL; they have to be multiplied",
    wrong="KL(N(μ_p + Δμ, σ_p² + Δσ²) ‖ N(μ_p, σ_p²))",
    seen=("GlassyWing/nvae#6 (asked about)",),
)
def residual_scale_added(d_mu: Tensor, d: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    variance = logvar_p.exp() + d.exp()
    return kl((mu_p + d_mu, variance.log()), (mu_p, logvar_p))


@of_residual(
    "residual-kl-scale-absolute",
    "your KL takes the factor of the standard deviation for the standard deviation itself",
    wrong="KL(N(μ_p + Δμ, Δσ²) ‖ N(μ_p, σ_p²))",
)
def residual_scale_absolute(d_mu: Tensor, d: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    return kl((mu_p + d_mu, d), (mu_p, logvar_p))


@of_residual(
    "residual-kl-mean-over-latents",
    "your KL of the residual posterior is averaged over the latents, not summed",
    wrong="1/(2D) Σ_d [Δμ²/σ_p² + Δσ² − log Δσ² − 1]",
)
def residual_mean(d_mu: Tensor, d: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    return kl_residual(d_mu, d, mu_p, logvar_p) / d.shape[1]


@of_residual(
    "residual-kl-detached-prior",
    "your KL is computed with a detached prior: its variance does not learn from the shift",
    wrong="KL with stop-gradient(σ_p)",
)
def residual_detached_prior(d_mu: Tensor, d: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    return kl_residual(d_mu, d, mu_p.detach(), logvar_p.detach())


@of_residual(
    "residual-kl-detached-posterior",
    "your KL is computed with a detached posterior: no gradient reaches the encoder",
    wrong="KL with stop-gradient(Δμ, Δσ)",
)
def residual_detached_q(d_mu: Tensor, d: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    return kl_residual(d_mu.detach(), d.detach(), mu_p, logvar_p)


@of_levels(
    "levels-without-top",
    "the KL of the top level is missing",
    wrong="Σ_{l>1} KL_l",
)
def levels_without_top(posteriors: Gaussians, priors: Gaussians) -> Tensor:
    return total(each(posteriors, priors)[1:])


@of_levels(
    "levels-top-twice",
    "the KL of the top level is counted twice",
    wrong="KL_1 + Σ_l KL_l",
)
def levels_top_twice(posteriors: Gaussians, priors: Gaussians) -> Tensor:
    return kl_levels(posteriors, priors) + each(posteriors, priors)[0]


@of_levels(
    "levels-last-alone",
    "only the KL of the last level is left: the KL of each level overwrites the one before, and "
    "is not added to it",
    wrong="KL_L",
    seen=("IntelLabs/bayesian-torch#2 (of the layers of a Bayesian network)",),
)
def levels_last_alone(posteriors: Gaussians, priors: Gaussians) -> Tensor:
    return each(posteriors, priors)[-1]


@of_levels(
    "levels-averaged",
    "your KL is averaged over the levels, not summed",
    wrong="1/L Σ_l KL_l",
)
def levels_averaged(posteriors: Gaussians, priors: Gaussians) -> Tensor:
    return kl_levels(posteriors, priors) / len(priors)


@of_levels(
    "levels-swapped",
    "your KL is that of the priors from the posteriors: the two are swapped",
    wrong="Σ_l KL(p_l ‖ q_l)",
    seen=("juliusfrost/dreamer-pytorch#78 (between steps of time)",),
)
def levels_swapped(posteriors: Gaussians, priors: Gaussians) -> Tensor:
    return kl_levels(priors, posteriors)


@of_levels(
    "levels-standard-prior",
    "your KL of every level is that from N(0, I): the priors given the codes above are not used",
    wrong="Σ_l KL(q_l ‖ N(0, I))",
)
def levels_standard_prior(posteriors: Gaussians, priors: Gaussians) -> Tensor:
    return kl_levels(posteriors, [(0 * mu_p, 0 * logvar_p) for mu_p, logvar_p in priors])


@of_levels(
    "levels-prior-of-another-level",
    "the variances of your priors belong to another level",
    wrong="Σ_l KL(q_l ‖ N(μ_p,l, σ_p,l+1²))",
)
def levels_prior_of_another(posteriors: Gaussians, priors: Gaussians) -> Tensor:
    logvars = [logvar_p for _, logvar_p in priors]
    moved = [
        (mu_p, logvars[level - 1].mean(1, keepdim=True).expand_as(mu_p))
        for level, (mu_p, _) in enumerate(priors)
    ]
    return kl_levels(posteriors, moved)


@of_levels(
    "levels-constant-once",
    "the constant in your KL is subtracted once for each level, not for each latent",
    wrong="½ Σ_l [Σ_d ((σ² + (μ − μ_p)²)/σ_p² − log(σ²/σ_p²)) − 1]",
    seen=("ericjang/draw#2",),
)
def levels_constant_once(posteriors: Gaussians, priors: Gaussians) -> Tensor:
    return kl_levels(posteriors, priors) + sum(0.5 * (mu.shape[1] - 1) for mu, _ in priors)


@of_levels(
    "levels-log-sigma",
    "the logarithms in your KL have half of their weight: log σ is taken for log σ²",
    wrong="½ Σ_l Σ_d [(σ² + (μ − μ_p)²)/σ_p² − 1 − ½ log(σ²/σ_p²)]",
    seen=("keras-team/keras#3300 (of a single level)",),
)
def levels_log_sigma(posteriors: Gaussians, priors: Gaussians) -> Tensor:
    logs = [(q[1] - p[1]).sum(1) / 4 for q, p in zip(posteriors, priors, strict=True)]
    return kl_levels(posteriors, priors) + total(logs)


@of_levels(
    "levels-detached-prior",
    "your KL is computed from detached priors: no level's prior learns",
    wrong="Σ_l KL(q_l ‖ stop-gradient(p_l))",
)
def levels_detached_prior(posteriors: Gaussians, priors: Gaussians) -> Tensor:
    return kl_levels(posteriors, [(mu.detach(), logvar.detach()) for mu, logvar in priors])


@of_levels(
    "levels-detached-posterior",
    "your KL is computed from detached posteriors: no gradient reaches the encoder",
    wrong="Σ_l KL(stop-gradient(q_l) ‖ p_l)",
)
def levels_detached_q(posteriors: Gaussians, priors: Gaussians) -> Tensor:
    return kl_levels([(mu.detach(), logvar.detach()) for mu, logvar in posteriors], priors)


@of_free(
    "free-nats-after-mean",
    "your free nats are compared with the KL after it was divided by the number of latents",
    wrong="Σ_l max(λ, KL_l / D_l)",
    seen=("CAREamics/careamics#277",),
)
def free_nats_after_mean(posteriors: Gaussians, priors: Gaussians) -> Tensor:
    terms = zip(each(posteriors, priors), priors, strict=True)
    return total([(term / p[0].shape[1]).clamp(min=FREE) for term, p in terms])


@of_free(
    "free-nats-of-the-sum",
    "your free nats are those of all levels together, not of each",
    wrong="max(L·λ, Σ_l KL_l)",
)
def free_nats_of_the_sum(posteriors: Gaussians, priors: Gaussians) -> Tensor:
    return kl_levels(posteriors, priors).clamp(min=FREE * len(priors))


@of_free(
    "free-nats-cap",
    "your free nats are the most that a level counts for; they have to be the least",
    wrong="Σ_l min(λ, KL_l)",
)
def free_nats_cap(posteriors: Gaussians, priors: Gaussians) -> Tensor:
    return total([term.clamp(max=FREE) for term in each(posteriors, priors)])


@of_free(
    "free-nats-added",
    "your free nats are added to the KL of a level; they have to be its least value",
    wrong="Σ_l (λ + KL_l)",
)
def free_nats_added(posteriors: Gaussians, priors: Gaussians) -> Tensor:
    return total([term + FREE for term in each(posteriors, priors)])


@of_levels(
    "levels-mixed-reduction",
    "the KL of your top level is summed over the batch, those of the others are averaged: the "
    "weight of the top level is the size of the batch",
    wrong="Σ_n KL_1,n + mean_n Σ_{l>1} KL_l,n",
)
def levels_mixed_reduction(posteriors: Gaussians, priors: Gaussians) -> Tensor:
    top = kl_levels(posteriors[:1], priors[:1])
    return top.sum() + kl_levels(posteriors[1:], priors[1:]).mean()


@of_loss(
    "levels-loss-mixed-reduction",
    "the KL in your loss is summed over the batch, but the reconstruction is averaged: its weight "
    "is the size of the batch",
    wrong="mean_n NLL_n + Σ_n Σ_l KL_l,n",
    seen=("GlassyWing/nvae#3",),
)
def loss_mixed_reduction(nll: Tensor, posteriors: Gaussians, priors: Gaussians) -> Tensor:
    return nll.mean() + kl_levels(posteriors, priors).sum()


@of_loss(
    "levels-loss-without-top",
    "your loss lacks the KL of the top level",
    wrong="mean_n (NLL_n + Σ_{l>1} KL_l,n)",
)
def loss_without_top(nll: Tensor, posteriors: Gaussians, priors: Gaussians) -> Tensor:
    return (nll + kl_levels(posteriors[1:], priors[1:])).mean()


@of_loss(
    "levels-loss-kl-subtracted",
    "the KL is subtracted in your loss, which makes it grow",
    wrong="mean_n (NLL_n − Σ_l KL_l,n)",
)
def loss_kl_subtracted(nll: Tensor, posteriors: Gaussians, priors: Gaussians) -> Tensor:
    return (nll - kl_levels(posteriors, priors)).mean()


@of_loss(
    "levels-loss-averaged",
    "the KL in your loss is averaged over the levels",
    wrong="mean_n (NLL_n + 1/L Σ_l KL_l,n)",
)
def loss_averaged(nll: Tensor, posteriors: Gaussians, priors: Gaussians) -> Tensor:
    return (nll + kl_levels(posteriors, priors) / len(priors)).mean()


@of_loss(
    "levels-loss-negated",
    "your loss is the ELBO: its sign is wrong, and a minimum has the worst reconstruction",
    wrong="mean_n (−NLL_n − Σ_l KL_l,n)",
)
def loss_negated(nll: Tensor, posteriors: Gaussians, priors: Gaussians) -> Tensor:
    return -negative_elbo_of_levels(nll, posteriors, priors)


@of_prior(
    "prior-of-another-example",
    "the prior of a lower level is that of another example of the batch",
    wrong="p(z_l,n | z_<l,n+1)",
)
def prior_of_another(*above: Tensor) -> Gaussian:
    return prior_of_level(*(z.roll(1, 0) for z in above))


@of_prior(
    "prior-of-mean-code",
    "the prior of a lower level is given the mean code of the batch, the same for all examples",
    wrong="p(z_l,n | mean_m z_<l,m)",
)
def prior_of_mean_code(*above: Tensor) -> Gaussian:
    return prior_of_level(*(z.mean(0, keepdim=True).expand_as(z) for z in above))


@of_codes(
    "codes-below-from-standard-normal",
    "your lower levels are drawn from N(0, I), not from their priors given the codes above",
    wrong="z_l = ε_l",
)
def codes_standard(n: int) -> list[Tensor]:
    return generate(n, below=lambda mu_p, logvar_p: torch.randn_like(mu_p))


@of_codes(
    "codes-below-are-means",
    "your lower levels are the means of their priors: nothing is drawn below the top",
    wrong="z_l = μ_p(z_<l)",
)
def codes_are_means(n: int) -> list[Tensor]:
    return generate(n, below=lambda mu_p, logvar_p: mu_p)


@of_codes(
    "codes-variance-for-sigma",
    "your lower levels are drawn with the exponential of the log variance as the standard "
    "deviation",
    wrong="z_l = μ_p + ε_l·σ_p²",
    seen=("rishikksh20/vae_tacotron2#3 (of a posterior)",),
)
def codes_variance(n: int) -> list[Tensor]:
    return generate(n, below=lambda mu_p, logvar_p: draw(mu_p, 2 * logvar_p))


@of_codes(
    "codes-uniform-noise",
    "your codes are drawn with noise that is uniform in [0, 1), not normal",
    wrong="z_l = μ_p + u_l·σ_p,  u ~ U(0, 1)",
    seen=("toshikwa/slac.pytorch#5",),
)
def codes_uniform(n: int) -> list[Tensor]:
    return generate(n, top=_uniform, below=_uniform)


def _uniform(mu: Tensor, logvar: Tensor) -> Tensor:
    return mu + torch.exp(logvar / 2) * torch.rand_like(mu)


@of_codes(
    "codes-same-noise",
    "all levels of your codes are drawn with the same noise",
    wrong="z_l = μ_p(z_<l) + ε·σ_p(z_<l)",
)
def codes_same_noise(n: int) -> list[Tensor]:
    same = _same_noise()
    return generate(n, top=same, below=same)


def _same_noise() -> Callable[[Tensor, Tensor], Tensor]:
    """Return a draw that uses its first noise again."""
    kept: list[Tensor] = []

    def again(mu: Tensor, logvar: Tensor) -> Tensor:
        if not kept:
            kept.append(torch.randn_like(mu))
        return mu + torch.exp(logvar / 2) * kept[0]

    return again


@of_temperature(
    "temperature-on-variance",
    "your temperature multiplies the variance: the standard deviation is multiplied by its square "
    "root only",
    wrong="z_l = μ_p + √t·ε_l·σ_p",
)
def temperature_on_variance(n: int, temperature: float) -> list[Tensor]:
    return generate(n, temperature**0.5)


@of_temperature(
    "temperature-ignored",
    "your temperature is not used",
    wrong="z_l = μ_p + ε_l·σ_p",
    seen=("NVlabs/NVAE#55 (of pixels; proposed)",),
)
def temperature_ignored(n: int, temperature: float) -> list[Tensor]:
    return generate(n)


@of_temperature(
    "temperature-divided",
    "your noise is divided by the temperature",
    wrong="z_l = μ_p + ε_l·σ_p/t",
    seen=("NVlabs/NVAE#54 (of pixels; proposed)",),
)
def temperature_divided(n: int, temperature: float) -> list[Tensor]:
    return generate(n, 1 / temperature)


@of_temperature(
    "temperature-on-top-alone",
    "your temperature is used at the top level alone",
    wrong="z_1 = t·ε_1, z_l = μ_p + ε_l·σ_p",
)
def temperature_on_top(n: int, temperature: float) -> list[Tensor]:
    return generate(n, top=lambda mu, logvar: temperature * draw(mu, logvar))


@of_inference(
    "inference-prior-of-mean",
    "the prior of a lower level is given the mean of the posterior above, not the code drawn",
    wrong="p(z_l | μ_<l(x))",
)
def inference_prior_of_mean(x: Tensor) -> list[Level]:
    return infer(x, given=lambda levels: prior_of_level(*(q[0] for _, q, _ in levels[:-1])))


@of_inference(
    "inference-prior-of-prior-draw",
    "the prior of a lower level is given codes drawn from the priors above, not those drawn from "
    "the posteriors",
    wrong="p(z_l | z̃_<l),  z̃ ~ p(z)",
    seen=("toshikwa/slac.pytorch#9", "Kaixhin/PlaNet#29"),
)
def inference_prior_of_prior_draw(x: Tensor) -> list[Level]:
    drawn = generate(len(x))
    return infer(x, given=lambda levels: prior_of_level(*drawn[: len(levels) - 1]))


@of_inference(
    "inference-prior-of-own-code",
    "the prior of a level is given the code of the level itself, which replaced the one above",
    wrong="p(z_l | z_l)",
    seen=("yjlolo/pytorch-deep-markov-model#4 (asked about)",),
)
def inference_prior_of_own(x: Tensor) -> list[Level]:
    return infer(x, given=lambda levels: prior_of_level(*(z for z, _, _ in levels[1:])))


@of_inference(
    "inference-prior-of-another-example",
    "the prior of a lower level belongs to another example of the batch",
    wrong="p(z_l,n | z_<l,n+1)",
)
def inference_prior_of_another(x: Tensor) -> list[Level]:
    return infer(
        x, given=lambda levels: prior_of_level(*(z.roll(1, 0) for z, _, _ in levels[:-1]))
    )


@of_inference(
    "inference-standard-prior",
    "the prior of your lower levels is N(0, I) in the KL, though new codes have another one",
    wrong="KL(q(z_l | z_<l, x) ‖ N(0, I))",
)
def inference_standard_prior(x: Tensor) -> list[Level]:
    return infer(x, given=lambda levels: None)


@of_inference(
    "inference-prior-of-detached-code",
    "the codes are detached before the prior below them is computed: no gradient of its KL "
    "reaches the levels above",
    wrong="p(z_l | stop-gradient(z_<l))",
)
def inference_prior_of_detached(x: Tensor) -> list[Level]:
    return infer(x, given=lambda levels: prior_of_level(*(z.detach() for z, _, _ in levels[:-1])))


@of_inference(
    "inference-variance-for-sigma",
    "your codes are drawn with the exponential of the log variance as the standard deviation",
    wrong="z_l = μ_l + ε_l·σ_l²",
    seen=("rishikksh20/vae_tacotron2#3 (of a single level)",),
)
def inference_variance(x: Tensor) -> list[Level]:
    return infer(x, draw=lambda mu, logvar: draw(mu, 2 * logvar))


@of_inference(
    "inference-kl-of-bottom-up",
    "your KL is that of the Gaussian that the data alone give, but the code is drawn from the one "
    "that is merged with the prior",
    wrong="KL(N(μ̂_l(x), σ̂_l²(x)) ‖ p(z_l | z_<l)),  z_l ~ q(z_l | z_<l, x)",
    seen=(
        "AntixK/PyTorch-VAE#25 (asked about)",
        "v-manhlt3/Disentangle-VAE-for-VC#5",
    ),
)
def inference_kl_of_bottom_up(x: Tensor) -> list[Level]:
    return infer(x, of=lambda x, level, prior: bottom_up(x, level))


@of_inference(
    "inference-same-noise",
    "the codes of all levels are drawn with the same noise",
    wrong="z_l = μ_l + ε·σ_l",
)
def inference_same_noise(x: Tensor) -> list[Level]:
    return infer(x, draw=_same_noise())


@of_inference(
    "inference-without-noise",
    "your codes are the means of the posteriors: nothing is drawn",
    wrong="z_l = μ_l",
)
def inference_without_noise(x: Tensor) -> list[Level]:
    return infer(x, draw=lambda mu, logvar: mu)


@of_inference(
    "inference-uniform-noise",
    "your codes are drawn with noise that is uniform in [0, 1), not normal",
    wrong="z_l = μ_l + u_l·σ_l,  u ~ U(0, 1)",
    seen=("toshikwa/slac.pytorch#5",),
)
def inference_uniform(x: Tensor) -> list[Level]:
    return infer(x, draw=_uniform)


@of_inference(
    "inference-noise-shared-over-batch",
    "all examples of a batch have the same noise in a level",
    wrong="z_l,n = μ_l,n + ε_l·σ_l,n",
)
def inference_shared(x: Tensor) -> list[Level]:
    return infer(x, draw=lambda mu, logvar: mu + torch.exp(logvar / 2) * torch.randn_like(mu[:1]))
