"""VAEs with levels that are right, each in a way of its own, and near misses."""

from functools import partial

import torch
import torch.distributions as D
from torch import nn

from vae_ref.conformance import Conventions
from vae_ref.conformance.kinds import HierarchicalVAE
from vae_ref.conformance.mutants.kinds.hierarchy import (
    draw,
    generate,
    infer,
    kl_levels,
    kl_residual,
    kl_with_free_nats,
    negative_elbo_of_levels,
    prior_of_level,
    specimen,
)

OFF = 1 + 1e-12


def residual_by_torch():
    """By the full covariances of torch."""

    def residual(delta_mu, delta_logvar, mu_p, logvar_p):
        q = D.MultivariateNormal(
            mu_p + delta_mu, torch.diag_embed(torch.exp(logvar_p + delta_logvar))
        )
        p = D.MultivariateNormal(mu_p, torch.diag_embed(torch.exp(logvar_p)))
        return D.kl_divergence(q, p)

    return HierarchicalVAE(name="residual by torch", kl_residual=residual)


def levels_by_torch():
    """Levels are distributions of torch, and the sum is over batch and latents."""

    def levels(posteriors, priors):
        pairs = zip(posteriors, priors, strict=True)
        return sum(D.kl_divergence(q, p).sum() for q, p in pairs)

    spread = Conventions(spread="distribution")
    return HierarchicalVAE(name="levels by torch", kl_levels=levels, conventions=spread)


def with_a_standard_top():
    """As in NVAE: the KL of the top level is that from N(0, I), and takes no prior."""

    def levels(posteriors, priors):
        (mu, logvar), *rest = posteriors
        top = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1)
        below = (
            D.kl_divergence(*(D.Normal(m, torch.exp(s / 2)) for m, s in (q, p))).sum(1)
            for q, p in zip(rest, priors[1:], strict=True)
        )
        return top + sum(below)

    return HierarchicalVAE(name="a standard top", kl_levels=levels, levels=3, top_prior="standard")


def with_log_sigma_and_images():
    """As NVAE: log sigma, codes with height and width, the KL by the ratio of the sigmas."""

    def residual(delta_mu, delta_log_sigma, mu_p, log_sigma_p):
        sigma_p, sigma_q = log_sigma_p.exp(), (log_sigma_p + delta_log_sigma).exp()
        shift, ratio = (mu_p + delta_mu - mu_p) / sigma_p, sigma_q / sigma_p
        return (0.5 * (shift * shift + ratio * ratio) - 0.5 - ratio.log()).sum([1, 2, 3])

    def levels(posteriors, priors):
        kl = 0
        for (mu, s), (mu_p, s_p) in zip(reversed(posteriors), reversed(priors), strict=True):
            kl += residual(mu - mu_p, s - s_p, mu_p, s_p)
        return kl

    return HierarchicalVAE(
        name="log sigma",
        kl_residual=residual,
        kl_levels=levels,
        levels=4,
        conventions=Conventions(spread="log_sigma", latent_shape=(3, 2, 2)),
    )


def whose_scale_is_not_relative():
    """Only the mean is relative to the prior; the KL is averaged over the batch."""

    def residual(delta_mu, logvar, mu_p, logvar_p):
        terms = logvar_p - logvar + torch.exp(logvar - logvar_p) + delta_mu**2 / logvar_p.exp()
        return 0.5 * (terms - 1).sum(1).mean()

    return HierarchicalVAE(name="mean alone", kl_residual=residual, residual="mean")


def whose_levels_are_one_tensor():
    """Levels of the same size, in one tensor; the total has an axis left."""

    def levels(posteriors, priors):
        mu, v, mu_p, v_p = (
            torch.stack([pair[i] for pair in pairs]) for pairs in (posteriors, priors)
            for i in (0, 1)
        )  # fmt: skip
        return D.kl_divergence(D.Normal(mu, v.sqrt()), D.Normal(mu_p, v_p.sqrt())).sum((0, 2))

    return HierarchicalVAE(
        name="one tensor", kl_levels=levels, conventions=Conventions(spread="variance")
    )


class Ladder(nn.Module):
    """Two levels of other sizes, in single precision, merged by precision, with batch norm."""

    def __init__(self, *, dropout=0.0, zero=False):
        super().__init__()
        self.up = nn.Sequential(nn.Linear(9, 16), nn.BatchNorm1d(16), nn.Tanh())
        self.top, self.bottom = nn.Linear(16, 4), nn.Linear(16, 10)
        self.down = nn.Sequential(nn.Linear(2, 16), nn.BatchNorm1d(16), nn.Dropout(dropout))
        self.heads = nn.Linear(16, 10)
        if zero:
            nn.init.zeros_(self.heads.weight)

    def prior(self, z1):
        return self.heads(self.down(z1).relu()).chunk(2, dim=1)

    def forward(self, x):
        h = self.up(x)
        mu1, logvar1 = self.top(h).chunk(2, dim=1)
        z1 = D.Normal(mu1, torch.exp(logvar1 / 2)).rsample()
        prior = self.prior(z1)
        mu, logvar = self.bottom(h).chunk(2, dim=1)
        precision = torch.exp(-logvar) + torch.exp(-prior[1])
        mean = (mu * torch.exp(-logvar) + prior[0] * torch.exp(-prior[1])) / precision
        z2 = mean + torch.randn_like(mean) / precision.sqrt()
        return (z1, (mu1, logvar1), None), (z2, (mean, -precision.log()), prior)

    def generate(self, n, temperature=1.0):
        z1 = temperature * torch.randn(n, 2)
        mu, logvar = self.prior(z1)
        return z1, mu + temperature * torch.exp(0.5 * logvar) * torch.randn(n, 5)


def networks(name, **options):
    ladder = Ladder(**options)
    return HierarchicalVAE(
        name=name,
        prior_of_level=ladder.prior,
        draw_hierarchy=ladder.generate,
        draw_tempered=ladder.generate,
        top_down=ladder,
        observations=lambda n: torch.rand(n, 9),
        module=ladder,
    )


def a_ladder():
    return networks("ladder")


def a_ladder_with_dropout():
    return networks("dropout", dropout=0.3)


def whose_priors_begin_with_zero_weights():
    """As in very deep VAEs before training: no prior depends on the codes above yet."""
    return networks("zero weights", zero=True)


def with_a_learned_top_and_images():
    """Three levels of codes with height and width, each given all above, by sigma."""
    shape = (2, 2, 2)
    top = nn.Parameter(torch.randn(2, *shape))
    layers = nn.ModuleList([nn.Conv2d(2 * level, 4, 1) for level in (1, 2)])

    def prior_of_top(n):
        mu, log_sigma = top.unsqueeze(1).expand(2, n, *shape)
        return mu, log_sigma.exp()

    def prior(*above):
        mu, s = layers[len(above) - 1](torch.cat(above, 1)).chunk(2, 1)
        return mu, nn.functional.softplus(s)

    def generate_(n, t=1.0):
        codes, prior_ = [], prior_of_top(n)
        for _ in range(3):
            mu, sigma = prior_
            codes.append(mu + t * sigma * torch.randn(mu.shape))
            prior_ = prior(*codes) if len(codes) < 3 else None
        return codes

    return HierarchicalVAE(
        name="images",
        levels=3,
        prior_of_top=prior_of_top,
        prior_of_level=prior,
        draw_hierarchy=generate_,
        draw_tempered=generate_,
        conventions=Conventions(spread="sigma", latent_shape=shape),
    )


def losses_in_other_units():
    """The mean over batch and pixels, with a weight of 4; free nats of the mean of the batch."""

    def loss(nll, posteriors, priors):
        return (nll.mean() + 4 * kl_levels(posteriors, priors).mean()) / 784

    def free(posteriors, priors):
        pairs = zip(posteriors, priors, strict=True)
        terms = [kl_levels([q], [p]).mean() for q, p in pairs]
        return torch.stack(
            [torch.where(kl > 2.0, kl, torch.full_like(kl, 2.0)) for kl in terms]
        ).sum()

    return HierarchicalVAE(
        name="other units",
        negative_elbo_of_levels=loss,
        kl_with_free_nats=free,
        free_nats=2.0,
        conventions=Conventions(beta=4.0),
    )


def with_two_levels():
    """The specimen, whose functions of Gaussians take any number of levels."""
    return specimen("two levels", levels=2)


RIGHT = [
    residual_by_torch,
    levels_by_torch,
    with_a_standard_top,
    with_log_sigma_and_images,
    whose_scale_is_not_relative,
    whose_levels_are_one_tensor,
    a_ladder,
    a_ladder_with_dropout,
    whose_priors_begin_with_zero_weights,
    with_a_learned_top_and_images,
    losses_in_other_units,
    with_two_levels,
]


def _slope_off(tensor):
    return OFF * tensor - ((OFF - 1) * tensor).detach()


def _at_the_prior(posteriors, priors):
    same = all(torch.equal(q[0], p[0]) for q, p in zip(posteriors, priors, strict=True))
    return kl_levels(posteriors, priors) + 1e-11 * same


def _inference_off(x):
    levels = infer(x)
    z, posterior, (mu, logvar) = levels[1]
    return [levels[0], (z, posterior, (mu + 1e-3, logvar)), levels[2]]


def _slope_of_prior_off(x):
    def given(levels):
        above = [z + 1e-3 * (z - z.detach()) for z, _, _ in levels[:-1]]
        return prior_of_level(*above)

    return infer(x, given=given)


NEAR = {
    "hierarchy/residual-kl": {"kl_residual": lambda *g: OFF * kl_residual(*g)},
    "hierarchy/residual-kl-zero": {"kl_residual": lambda *g: kl_residual(*g) + 1e-11},
    "hierarchy/residual-kl-slopes": {
        "kl_residual": lambda d_mu, d, mu_p, logvar_p: kl_residual(
            d_mu, d, mu_p, _slope_off(logvar_p)
        )
    },
    "hierarchy/residual-evidence": {"kl_residual": lambda *g: kl_residual(*g) + 1e-11},
    "hierarchy/kl-of-levels": {"kl_levels": lambda q, p: OFF * kl_levels(q, p)},
    "hierarchy/kl-of-levels-zero": {"kl_levels": _at_the_prior},
    "hierarchy/kl-of-the-joint": {"kl_levels": lambda q, p: kl_levels(q, p) + 1e-11},
    "hierarchy/evidence": {"kl_levels": lambda q, p: kl_levels(q, p) + 1e-11},
    "hierarchy/kl-of-levels-slopes": {
        "kl_levels": lambda q, p: kl_levels([(_slope_off(mu), s) for mu, s in q], p)
    },
    "hierarchy/free-nats": {"kl_with_free_nats": lambda q, p: OFF * kl_with_free_nats(q, p)},
    "hierarchy/negative-elbo": {
        "negative_elbo_of_levels": lambda nll, q, p: (
            negative_elbo_of_levels(nll, q, p) + 1e-11 * kl_levels(q, p).mean()
        )
    },
    "hierarchy/draws-from-the-priors": {
        "draw_hierarchy": lambda n: generate(n, below=lambda mu, s: draw(mu, s + 0.2))
    },
    "hierarchy/draws-at-a-temperature": {"draw_tempered": lambda n, t: generate(n, 1.1 * t)},
    "hierarchy/priors-given-the-codes": {"top_down": _inference_off},
    "hierarchy/codes-from-the-posteriors": {
        "top_down": partial(infer, draw=lambda mu, s: draw(mu + 0.1 * torch.exp(s / 2), s))
    },
    "hierarchy/priors-learn-through-the-codes": {"top_down": _slope_of_prior_off},
}
"""Name of a claim -> changes of the specimen that are off by a few tolerances."""
