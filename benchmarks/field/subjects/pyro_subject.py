"""A VAE as a model and a guide of Pyro, with both of its estimates of the bound."""

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch import nn

torch.manual_seed(0)
heads, decoder = nn.Linear(12, 6), nn.Linear(3, 12)


def model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 3), 1.0).to_event(1))
        pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)


def guide(x):
    mu, logvar = heads(x).chunk(2, 1)
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(mu, torch.exp(logvar / 2)).to_event(1))


def analytic(x):
    return TraceMeanField_ELBO().differentiable_loss(model, guide, x)


def sampled(x):
    return Trace_ELBO().differentiable_loss(model, guide, x)


def batch():
    return torch.bernoulli(torch.full((5, 12), 0.5))
