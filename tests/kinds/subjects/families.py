"""Likelihoods that are right, each in a way of its own, and near misses."""

import math

import numpy as np
import torch
import torch.distributions as D
import torch.nn.functional as F
from scipy import stats

from vae_ref.conformance import Conventions, from_numpy
from vae_ref.conformance.kinds import LikelihoodFamily
from vae_ref.conformance.mutants.kinds import families as bank
from vae_ref.conformance.mutants.kinds.families import specimen  # noqa: F401 - test_kinds.py takes it from here

OFF = 1 + 1e-6


def family(name, score, **rest):
    return LikelihoodFamily(name=name, score=score, **rest)


def gaussian_by_torch():
    """Without a declaration, of deviations, with a number for each pixel."""
    return family(
        "Normal",
        lambda x, mean, sigma: -D.Normal(mean, sigma).log_prob(x),
        mean_of=lambda mean, sigma: D.Normal(mean, sigma).mean,
        draw_pixels=lambda mean, sigma: D.Normal(mean, sigma).sample(),
        up_to_constant=False,
    )


def gaussian_by_the_loss_of_torch():
    """Which leaves out its constant by default, and is averaged over the batch."""
    return family(
        "gaussian_nll_loss",
        lambda x, mean, variance: (
            F.gaussian_nll_loss(mean, x, variance, reduction="none").sum(1).mean()
        ),
        up_to_constant=True,
    )


def gaussian_with_one_scale():
    """The sigma-VAE: one sigma for all, whose logarithm is added once for each pixel."""

    def score(x, mean, log_sigma):
        d = ((x - mean) / log_sigma.exp()).square().sum()
        return 0.5 * d + x.numel() * (log_sigma + 0.5 * math.log(2 * math.pi))

    return family("sigma-VAE", score)


def gaussian_with_a_scale_per_column():
    """A layer's parameter, in single precision, of images."""

    def score(x, mean, logvar):
        mean, logvar, x = mean.float(), logvar.float(), x.float()
        return 0.5 * ((x - mean) ** 2 * torch.exp(-logvar) + logvar).sum((1, 2, 3)).double()

    return family(
        "images",
        score,
        scale_per="column",
        conventions=Conventions(pixel_shape=(2, 3, 3), dtype="float32"),
    )


def squared_errors():
    """A fixed deviation, the root of 1/2, and no constant."""
    return family("squared errors", lambda x, mean: ((x - mean) ** 2).sum())


def absolute_errors():
    """Laplace with a fixed scale, averaged over the batch, which is changed in place."""

    def score(x, mean):
        return x.sub_(mean).abs_().sum(1).mean()

    return family("absolute errors", score)


def laplace_by_torch():
    return family(
        "Laplace",
        lambda x, mean, log_b: -D.Independent(D.Laplace(mean, log_b.exp()), 1).log_prob(x),
        draw_pixels=lambda mean, log_b: D.Laplace(mean, log_b.exp()).rsample(),
    )


def student_by_torch():
    """Whose first argument are the degrees."""
    return family(
        "StudentT",
        lambda x, df, mean, scale: -D.StudentT(df, mean, scale).log_prob(x).sum(1),
        mean_of=lambda df, mean, scale: D.StudentT(df, mean, scale).mean,
        draw_pixels=lambda df, mean, scale: D.StudentT(df, mean, scale).sample(),
    )


def student_by_scipy():
    """Without gradients."""

    def score(x, mean, scale, degrees):
        return -stats.t.logpdf(x, degrees, mean, scale).sum(1)

    return family("scipy.stats.t", from_numpy(score), family="student-t")


def _published(x, mean, log_scales):
    """The discretised logistic as it was published, with its approximation of rare levels."""
    inv = torch.exp(-log_scales.clamp(min=-7))
    plus, middle, minus = (inv * (x - mean + d) for d in (1 / 255, 0, -1 / 255))
    delta = torch.sigmoid(plus) - torch.sigmoid(minus)
    rare = middle - log_scales - 2 * F.softplus(middle) - math.log(127.5)
    inner = torch.where(delta > 1e-5, torch.log(delta.clamp(min=1e-12)), rare)
    upper = torch.where(x > 0.999, -F.softplus(minus), inner)
    return torch.where(x < -0.999, plus - F.softplus(plus), upper)


def logistic_as_published():
    """The sampler returns grey values between the levels."""

    def draw(mean, log_scale):
        u = torch.empty_like(mean).uniform_(1e-5, 1 - 1e-5)
        return (mean + log_scale.exp() * (u.log() - (1 - u).log())).clamp(-1, 1)

    return family("PixelCNN++", lambda x, m, s: -_published(x, m, s).sum(), draw_pixels=draw)


def mixture_as_published():
    """Whose components are the second axis, as channels are."""

    def score(x, logits, mean, log_scale):
        each = _published(x[:, None], mean, log_scale) + torch.log_softmax(logits, 1)
        return -torch.logsumexp(each, 1).sum(1)

    return family("a mixture", score)


def logistic_of_bytes():
    """Levels from 0 to 255, by a distribution function."""

    def score(x, mean, scale):
        def cdf(t):
            return torch.sigmoid((t - mean) / scale)

        above = torch.where(x >= 255, torch.ones_like(x), cdf(x + 0.5))
        below = torch.where(x <= 0, torch.zeros_like(x), cdf(x - 0.5))
        return -torch.log(above - below).sum(1)

    return family("bytes", score, mean_of=lambda mean, scale: mean, family="discretised-logistic")


def poisson_by_torch():
    """Of log rates; the loss leaves out log x!."""
    return family(
        "poisson_nll_loss",
        lambda x, log_rate: F.poisson_nll_loss(log_rate, x, reduction="sum"),
        mean_of=torch.exp,
        draw_pixels=lambda log_rate: D.Poisson(log_rate.exp()).sample(),
    )


def negative_binomial_by_torch():
    return family(
        "NegativeBinomial",
        lambda x, n, logits: -D.NegativeBinomial(n, logits=logits).log_prob(x).sum(1),
        mean_of=lambda n, logits: D.NegativeBinomial(n, logits=logits).mean,
        draw_pixels=lambda n, logits: D.NegativeBinomial(n, logits=logits).sample(),
    )


def zero_inflated_as_in_scvi():
    """With its small number inside of logarithms, and a dispersion for each gene."""
    eps = 1e-8

    def score(x, mu, theta, pi):
        softplus_pi = F.softplus(-pi)
        log_sum = torch.log(theta + mu + eps)
        pi_theta = -pi + theta * (torch.log(theta + eps) - log_sum)
        zero = F.softplus(pi_theta) - softplus_pi
        other = -softplus_pi + pi_theta + x * (torch.log(mu + eps) - log_sum)
        other = other + torch.lgamma(x + theta) - torch.lgamma(theta) - torch.lgamma(x + 1)
        log = (x < eps).to(x) * zero + (x > eps).to(x) * other
        return -log.sum(-1)

    return family("scVI", score, scale_per="column")


def categorical_of_torch():
    """Classes on the second axis, as torch wants them."""
    return family(
        "cross_entropy", lambda x, logits: F.cross_entropy(logits, x, reduction="none").sum(1)
    )


def categorical_of_probabilities():
    return family(
        "Categorical",
        lambda x, p: -D.Categorical(probs=p).log_prob(x).sum(1),
        mean_of=lambda p: p,
        draw_pixels=lambda p: D.Categorical(probs=p).sample(),
        family="categorical",
        takes=("probabilities",),
    )


def multinomial_as_a_recommender():
    """The multinomial score of recommenders, without its coefficient."""
    return family("Mult-VAE", lambda x, logits: -(F.log_softmax(logits, 1) * x).sum(-1).mean())


def multinomial_by_scipy():
    def score(x, p):
        return -np.asarray(stats.multinomial.logpmf(x, x.sum(1), p))

    return family("scipy", from_numpy(score), family="multinomial", takes=("probabilities",))


def a_family_that_is_not_known():
    """Gumbel's, whose parameters the subject gives: only its mass and slopes are judged."""
    return family(
        "Gumbel",
        lambda x, loc, scale: -D.Gumbel(loc, scale).log_prob(x).sum(1),
        support="real",
        parameters=lambda n: (torch.linspace(-1, 1, n)[:, None], torch.linspace(1, 2, n)[:, None]),
    )


def a_scale_through_softplus():
    """A right density of the family that is declared, in a form that nobody knows."""
    return family(
        "softplus",
        lambda x, mean, raw: -D.Normal(mean, F.softplus(raw) + 1e-3).log_prob(x).sum(1),
        family="gaussian",
    )


def averaged_over_pixels_on_purpose():
    return family(
        "mean",
        lambda x, mean, log_sigma: -D.Normal(mean, log_sigma.exp()).log_prob(x).mean(),
        conventions=Conventions(nll_reduction="mean"),
    )


def only_a_mean_and_draws():
    """Without a score, of a family that is declared."""
    return LikelihoodFamily(
        name="draws",
        family="negative-binomial",
        takes=("mean", "dispersion"),
        mean_of=lambda mean, dispersion: mean,
        draw_pixels=lambda mean, a: torch.poisson(mean * D.Gamma(1 / a, 1 / a).sample()),
    )


RIGHT = [
    gaussian_by_torch,
    gaussian_by_the_loss_of_torch,
    gaussian_with_one_scale,
    gaussian_with_a_scale_per_column,
    squared_errors,
    absolute_errors,
    laplace_by_torch,
    student_by_torch,
    student_by_scipy,
    logistic_as_published,
    mixture_as_published,
    logistic_of_bytes,
    poisson_by_torch,
    negative_binomial_by_torch,
    zero_inflated_as_in_scvi,
    categorical_of_torch,
    categorical_of_probabilities,
    multinomial_as_a_recommender,
    multinomial_by_scipy,
    a_family_that_is_not_known,
    a_scale_through_softplus,
    averaged_over_pixels_on_purpose,
    only_a_mean_and_draws,
]


def _slope_off(x, mean, log_sigma):
    return bank.gaussian(x, mean, log_sigma + 1e-5 * (log_sigma - log_sigma.detach()))


def _off_in_extremes(x, mean, log_sigma):
    score = bank.gaussian(x, mean, log_sigma)
    return torch.where((log_sigma.abs() > 3).any(1), OFF * score, score)


def _half_of_the_slope(x, mean, log_sigma):
    """The slope by sigma lacks a constant, which is 0 in neither mean nor value."""
    score = bank.gaussian(x, mean, log_sigma)
    return score + 1e-5 * (log_sigma - log_sigma.detach()).sum(1)


NEAR = {
    "families/total-mass": {"score": lambda x, m, s: bank.gaussian(x, m, s) + 1e-5 * s.sum(1)},
    "families/value": {"score": lambda x, m, s: OFF * bank.gaussian(x, m, s)},
    "families/slopes": {"score": _slope_off},
    "families/mean-slope-is-zero": {"score": _half_of_the_slope},
    "families/extremes": {"score": _off_in_extremes},
    "families/mean": {"mean_of": lambda mean, log_sigma: mean + 1e-5},
    "families/draws": {
        "draw_pixels": lambda m, s: bank.draw_gaussian(m, s) + 0.15 * s.exp(),
    },
    "families/draws-apart": {
        "draw_pixels": lambda m, s: (
            m
            + s.exp() * (0.4 * torch.randn_like(m[:, :1]) + math.sqrt(0.84) * torch.randn_like(m))
        )
    },
}
"""Name of a claim -> changes of the specimen that are off by a few tolerances."""
