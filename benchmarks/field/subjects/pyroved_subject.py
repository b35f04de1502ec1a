"""The VAE of pyroVED without invariances: the loss that its trainer asks Pyro for."""

import torch
from pyro.infer import Trace_ELBO
from pyroved.models import iVAE

model = iVAE((12,), latent_dim=3, hidden_dim_e=[8], hidden_dim_d=[8])


def step(x):
    return Trace_ELBO().differentiable_loss(model.model, model.guide, x)


def batch():
    return torch.bernoulli(torch.full((5, 12), 0.5))
