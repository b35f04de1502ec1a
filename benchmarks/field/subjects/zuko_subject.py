"""The diagonal Gaussian of Zuko, and a VAE that is made of it and of Zuko's networks."""

import torch
import zuko
from torch.distributions import kl_divergence

from vae_ref.conformance import Conventions, Subject

torch.manual_seed(0)


def posterior(mu, sigma):
    return zuko.distributions.DiagNormal(mu, sigma)


def kl(mu, sigma):
    return kl_divergence(
        posterior(mu, sigma), posterior(torch.zeros_like(mu), torch.ones_like(mu))
    )


distribution = Subject(
    name="zuko, DiagNormal",
    kl=kl,
    reparameterize=lambda mu, sigma: posterior(mu, sigma).rsample(),
    conventions=Conventions(spread="sigma"),
)

heads, decoder = zuko.nn.MLP(12, 6, [8]), zuko.nn.MLP(3, 12, [8])


def step(x):
    mu, logvar = heads(x).chunk(2, 1)
    q = posterior(mu, torch.exp(logvar / 2))
    z = q.rsample()
    p = posterior(torch.zeros_like(mu), torch.ones_like(mu))
    outputs = decoder(z)
    likelihood = posterior(outputs, torch.ones_like(outputs))
    return (kl_divergence(q, p) - likelihood.log_prob(x)).mean()


def batch():
    return torch.randn(5, 12)
