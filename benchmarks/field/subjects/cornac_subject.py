"""The VAE of the recommender VAECF, with each of its likelihoods that the claims know."""

import torch
from cornac.models.vaecf.vaecf import VAE

from vae_ref.conformance import Conventions, Subject

torch.manual_seed(0)


def with_likelihood(likelihood):
    model = VAE(3, [12, 8], "tanh", likelihood)
    return Subject(
        name=f"cornac, VAECF with {likelihood}",
        loss=lambda outputs, x, mu, logvar: model.loss(x, outputs, mu, logvar, beta=1.0),
        reparameterize=model.reparameterize,
        encode=model.encode,
        decode=model.decode,
        forward=model,
        module=model,
        conventions=Conventions(),
    )


bern = with_likelihood("bern")
gaus = with_likelihood("gaus")
mult = VAE(3, [12, 8], "tanh", "mult")


def step_mult(x):
    return mult.loss(x, *mult(x), beta=1.0)


def batch():
    return torch.bernoulli(torch.full((5, 12), 0.5))
