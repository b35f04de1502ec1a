"""The VAE of normflows without a flow: a Gaussian encoder, a Bernoulli decoder, one draw."""

import normflows as nf
import torch
from torch import nn

torch.manual_seed(0)
prior = nf.distributions.DiagGaussian(3, trainable=False)
encoder = nf.distributions.NNDiagGaussian(nn.Linear(12, 6))


def step_of(decoder):
    model = nf.NormalizingFlowVAE(prior, encoder, flows=[], decoder=decoder)

    def step(x):
        _, log_q, log_p = model(x)
        return (log_q - log_p).mean()

    return step


bernoulli = step_of(nf.distributions.NNBernoulliDecoder(nn.Linear(3, 12)))
gaussian = step_of(nf.distributions.NNDiagGaussianDecoder(nn.Linear(3, 24)))


def batch():
    return torch.bernoulli(torch.full((5, 12), 0.5))
