"""The VAE of BCQ in d3rlpy: the error that its imitator minimises."""

import torch
from d3rlpy.models import VectorEncoderFactory
from d3rlpy.models.torch.imitators import VAEDecoder, VAEEncoder, compute_vae_error

torch.manual_seed(0)
factory = VectorEncoderFactory([8])
encoder = VAEEncoder(factory.create_with_action((6,), 5), hidden_size=8, latent_size=3)
decoder = VAEDecoder(factory.create_with_action((6,), 3), hidden_size=8, action_size=5)


def step(observation, action):
    return compute_vae_error(encoder, decoder, observation, action, beta=0.5)


def batch():
    return torch.randn(7, 6), torch.rand(7, 5) * 2 - 1
