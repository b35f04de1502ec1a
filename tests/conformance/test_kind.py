"""An audit says what kind of VAE a step has, by the flow of data."""

import pytest
import torch
from torch import nn

from tests.conformance import richer_steps, steps
from vae_ref.conformance.audited import audit_step


def with_a_flow():
    """A planar flow of the code, whose determinant is a term of the loss."""
    enc, dec, x = steps.encoder(), steps.decoder(), steps.images()
    u, w = (nn.Parameter(torch.randn(steps.L)) for _ in range(2))

    def step():
        mu, logvar = enc(x).chunk(2, 1)
        z = mu + torch.exp(logvar / 2) * torch.randn_like(mu)
        h = torch.tanh(z @ w)
        log_det = torch.log((1 + (1 - h**2) * (u @ w)).abs() + 1e-4)
        later = z + u * h[:, None]
        log_q = -0.5 * (logvar + (z - mu) ** 2 / logvar.exp()).sum(1)
        kl = log_q - log_det + 0.5 * (later**2).sum(1)
        return (kl + (dec(later) - x).square().sum(1)).sum()

    return step


def autoregressive():
    """The decoder is given the pixels, too."""
    enc, dec, x = steps.encoder(), steps.decoder(steps.L + steps.X), steps.images()

    def step():
        mu, logvar = enc(x).chunk(2, 1)
        z = mu + torch.exp(logvar / 2) * torch.randn_like(mu)
        out = dec(torch.cat([z, x.roll(1, 1)], 1))
        return (out - x).square().sum() + steps.gaussian_kl(mu, logvar).sum()

    return step


KINDS = {
    with_a_flow: "a VAE with a flow",
    autoregressive: "a VAE whose decoder is given data too",
    steps.textbook: None,
    steps.averaged: None,
    steps.tied: None,
    steps.with_distributions: None,
    steps.with_a_sampled_kl: None,
    steps.with_a_classifier_of_mu: None,
    steps.conditional: "a conditional VAE",
    steps.with_a_label_added: "a conditional VAE",
    steps.categorical: "a VAE with discrete codes",
    steps.vector_quantized: "a VQ-VAE",
    steps.autoencoder: None,
    richer_steps.with_a_prior_for_each_label: "a conditional VAE with a learned prior",
    richer_steps.with_a_prior_of_parameters: "a VAE with a learned prior",
    richer_steps.with_a_sampled_kl_to_a_learned_prior: "a conditional VAE with a learned prior",
    richer_steps.with_a_mixture_for_a_prior: "a VAE with a learned prior",
    richer_steps.with_two_codes: "a VAE of 2 codes",
    richer_steps.with_two_layers_of_codes: "a hierarchical VAE of 2 levels",
    richer_steps.with_a_ladder: "a hierarchical VAE of 2 levels",
}


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_the_kind_is_told(make, user, single_precision):
    assert audit_step(make()).found.get("kind") == KINDS[make]
