"""The module of scVI with a Gaussian likelihood and with counts, and its encoder."""

import torch
from scvi import REGISTRY_KEYS
from scvi.module import VAE

torch.manual_seed(0)


def step_of(likelihood):
    module = VAE(n_input=12, n_batch=1, n_latent=3, n_hidden=8, gene_likelihood=likelihood)

    def step(x):
        tensors = {
            REGISTRY_KEYS.X_KEY: x,
            REGISTRY_KEYS.BATCH_KEY: torch.zeros(len(x), 1),
            REGISTRY_KEYS.LABELS_KEY: torch.zeros(len(x), 1),
        }
        return module(tensors)[2].loss

    return step


normal = step_of("normal")
counts = step_of("nb")


def batch():
    return torch.randint(1, 9, (5, 12)).float()
