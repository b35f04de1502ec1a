"""An audit says what kind of VAE a step has, by the flow of data."""

import pytest

from tests.conformance import richer_steps, steps
from vae_ref.conformance.audited import audit_step

KINDS = {
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
