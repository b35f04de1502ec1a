"""Conditional VAEs that are right, each in a way of its own, and near misses."""

from dataclasses import replace

import torch
import torch.distributions as D
from torch import nn

from vae_ref.conformance import Conventions
from vae_ref.conformance.kinds import ConditionalVAE
from vae_ref.conformance.mutants.kinds.conditional import (
    decode_given,
    draw_prior,
    kl_between,
    specimen,
)

OFF = 1 + 1e-12


def by_torch():
    """By the classes of torch, summed over the batch."""

    def kl(mu, logvar, mu_p, logvar_p):
        q, p = D.Normal(mu, (logvar / 2).exp()), D.Normal(mu_p, (logvar_p / 2).exp())
        return D.kl_divergence(q, p).sum()

    return ConditionalVAE(name="by torch", kl_between=kl)


def by_cross_entropy():
    """The published formula by another route: cross-entropy minus entropy."""

    def kl(mu, logvar, mu_p, logvar_p):
        v, v_p = torch.exp(logvar), torch.exp(logvar_p)
        cross = logvar_p + (v + mu.square() - 2 * mu * mu_p + mu_p.square()) / v_p
        return ((cross - logvar - 1) / 2).sum(dim=-1, keepdim=True)

    only = {"kl_between": kl}
    return ConditionalVAE(name="by cross-entropy", **only)


def networks_of_one_hot_vectors():
    """Whose condition is one-hot, and whose prior is a network."""
    prior, decoder = nn.Linear(4, 6), nn.Linear(3 + 4, 9)

    def heads(c):
        return prior(c).chunk(2, dim=1)

    def draw(c):
        return D.Normal(heads(c)[0], torch.exp(heads(c)[1] / 2)).rsample()

    return ConditionalVAE(
        name="one-hot",
        kl_between=kl_between,
        prior=heads,
        draw_prior=draw,
        decode_given=lambda z, c: decoder(torch.cat([z, c], 1)).sigmoid(),
        conditions=lambda n: torch.eye(4)[torch.arange(n) % 4],
        conventions=Conventions(latent_shape=(3,)),
    )


def with_a_standard_prior():
    """The usual conditional VAE: p(z|c) = N(0, I), and the class goes to the decoder alone."""
    return specimen(
        "a standard prior",
        prior=lambda c: (torch.zeros(len(c), 5), torch.zeros(len(c), 5)),
        draw_prior=lambda c: torch.randn(len(c), 5),
    )


def with_a_learned_prior_and_no_condition():
    """One prior for all examples: it has no conditions, and its decoder is not asked."""
    mu_p, logvar_p = nn.Parameter(torch.randn(5)), nn.Parameter(torch.randn(5))
    none = {"decode_given": None}
    return specimen(
        "a learned prior",
        prior=lambda c: (mu_p.expand(len(c), 5), logvar_p.expand(len(c), 5)),
        draw_prior=lambda c: mu_p + torch.exp(logvar_p / 2) * torch.randn(len(c), 5),
        **none,
    )


def conditions_in_a_dictionary():
    """Of a class and a number for each example."""

    def both(n):
        return {"class": torch.arange(n) % 3, "size": torch.linspace(-1, 1, n)[:, None]}

    return replace(
        specimen("a dictionary"),
        prior=None,
        draw_prior=None,
        decode_given=lambda z, c: decode_given(z, c["class"]) * torch.sigmoid(c["size"]),
        conditions=both,
        conventions=Conventions(latent_shape=(5,)),
    )


def codes_that_are_images():
    """Latents and outputs with axes for channels, height and width."""
    shape = (2, 2, 2)

    def prior(c):
        h = c.double()[:, None, None, None].expand(-1, *shape)
        return h / 2, -h / 3

    def draw(c):
        mu_p, logvar_p = prior(c)
        return mu_p + torch.exp(logvar_p / 2) * torch.randn(mu_p.shape)

    return ConditionalVAE(
        name="images",
        prior=prior,
        draw_prior=draw,
        conditions=lambda n: torch.arange(n) % 3,
        conventions=Conventions(latent_shape=shape),
    )


RIGHT = [
    by_torch,
    by_cross_entropy,
    networks_of_one_hot_vectors,
    with_a_standard_prior,
    with_a_learned_prior_and_no_condition,
    conditions_in_a_dictionary,
    codes_that_are_images,
]


def _only_where(condition, mu, logvar, mu_p, logvar_p):
    kl = kl_between(mu, logvar, mu_p, logvar_p)
    return torch.where(condition.any(1), OFF * kl, kl)


def _slope_off(*which):
    def kl(*inputs):
        off = [
            OFF * t - ((OFF - 1) * t).detach() if i in which else t for i, t in enumerate(inputs)
        ]
        return kl_between(*off)

    return kl


def _leaky(z, c):
    outputs = decode_given(z, c)
    return outputs + 1e-10 * outputs.mean(0)


NEAR = {
    "conditional/kl-of-two-gaussians": {"kl_between": lambda *g: OFF * kl_between(*g)},
    "conditional/kl-from-the-standard-normal": {
        "kl_between": lambda *g: _only_where(g[2] == 0, *g)
    },
    "conditional/kl-zero-at-the-prior": {"kl_between": lambda *g: kl_between(*g) + 1e-12},
    "conditional/kl-invariant": {"kl_between": lambda *g: kl_between(*g) * OFF ** g[0].sum(1)},
    "conditional/kl-extremes": {"kl_between": lambda *g: _only_where(g[1].abs() > 20, *g)},
    "conditional/kl-slopes-of-the-posterior": {"kl_between": _slope_off(0, 1)},
    "conditional/kl-slopes-of-the-prior": {"kl_between": _slope_off(3)},
    "conditional/evidence": {"kl_between": lambda *g: kl_between(*g) + 1e-12},
    "conditional/draws-from-the-prior": {
        "draw_prior": lambda c: draw_prior(c) + 0.1 * torch.exp(_logvar_p(c) / 2)
    },
    "conditional/a-condition-for-each-example": {"decode_given": _leaky},
}
"""Name of a claim -> changes of the specimen that are off by a few tolerances."""


def _logvar_p(c):
    from vae_ref.conformance.mutants.kinds.conditional import prior

    return prior(c)[1]
