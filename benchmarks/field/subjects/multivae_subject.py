"""The KL of MultiVae, its sampler, and the step of JMVAE with two modalities."""

import torch
from multivae.data.datasets.base import MultimodalBaseDataset
from multivae.models import JMVAE, MVAE, JMVAEConfig, MVAEConfig
from multivae.models.base.base_utils import kl_divergence, rsample_from_gaussian

from vae_ref.conformance import Subject

torch.manual_seed(0)


def kl(mu, logvar):
    return kl_divergence(mu, logvar, torch.zeros_like(mu), torch.zeros_like(mu))


functions = Subject(
    name="multivae, kl_divergence and rsample_from_gaussian",
    kl=kl,
    reparameterize=rsample_from_gaussian,
)


def step_of(model, config):
    made = model(config(n_modalities=2, latent_dim=3, input_dims={"a": (12,), "b": (7,)}))
    return lambda a, b: made(MultimodalBaseDataset({"a": a, "b": b})).loss


jmvae = step_of(JMVAE, JMVAEConfig)
mvae = step_of(MVAE, MVAEConfig)


def batch():
    return torch.rand(5, 12), torch.rand(5, 7)
