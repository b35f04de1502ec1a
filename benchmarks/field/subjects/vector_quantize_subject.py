"""A VQ-VAE: its codes are discrete, and no claim is about them."""

import torch
from torch import nn
from vector_quantize_pytorch import VectorQuantize

torch.manual_seed(0)
encoder, decoder = nn.Linear(12, 4), nn.Linear(4, 12)
quantize = VectorQuantize(dim=4, codebook_size=8)


def step(x):
    z, _, commitment = quantize(encoder(x)[:, None])
    return nn.functional.mse_loss(decoder(z[:, 0]), x) + commitment.sum()


def batch():
    return torch.randn(16, 12)
