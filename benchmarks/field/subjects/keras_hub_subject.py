"""The sampler of the posterior in Keras Hub's VAE, of which Stable Diffusion 3 is made."""

import os

os.environ["KERAS_BACKEND"] = "torch"

import torch
from keras_hub.src.models.vae.vae_layers import DiagonalGaussianDistributionSampler

from vae_ref.conformance import Conventions, Subject

sampler = DiagonalGaussianDistributionSampler("sample", seed=0, dtype="float64")


def reseed(seed):
    sampler.seed_generator.state.assign(torch.tensor([0, seed % 2**31]))


subject = Subject(
    name="keras_hub, DiagonalGaussianDistributionSampler",
    reparameterize=lambda mu, logvar: sampler(torch.cat([mu, logvar], -1)),
    seed=reseed,
    conventions=Conventions(),
)
