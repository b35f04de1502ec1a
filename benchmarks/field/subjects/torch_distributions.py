"""The Gaussian, its KL and the likelihoods of torch.distributions."""

import torch
from torch import distributions

from vae_ref.conformance import Conventions, Subject


def kl(q):
    return distributions.kl_divergence(q, distributions.Normal(0.0, 1.0)).sum(1)


def with_likelihood(name, family, likelihood):
    def nll(outputs, x):
        return -likelihood(outputs).log_prob(x).sum(1)

    return Subject(
        name=f"torch.distributions, {name}",
        kl=kl,
        reparameterize=lambda q: q.rsample(),
        nll=nll,
        loss=lambda outputs, x, q: nll(outputs, x) + kl(q),
        conventions=Conventions(spread="distribution", likelihood=family),
    )


bernoulli = with_likelihood(
    "Bernoulli of logits",
    "bernoulli-logits",
    lambda logits: distributions.Bernoulli(logits=logits, validate_args=False),
)
continuous_bernoulli = with_likelihood(
    "ContinuousBernoulli of logits",
    "continuous-bernoulli-logits",
    lambda logits: distributions.ContinuousBernoulli(logits=logits),
)
gaussian = with_likelihood(
    "Normal",
    "gaussian",
    lambda mean: distributions.Normal(mean, torch.ones_like(mean)),
)
laplace = with_likelihood(
    "Laplace",
    "laplace",
    lambda mean: distributions.Laplace(mean, torch.ones_like(mean)),
)
