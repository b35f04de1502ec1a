"""The outlier detector VAE: its loss and its sampler as it calls them, and its loop."""

import torch
from pyod.models.vae import VAEModel, vae_loss

from vae_ref.conformance import Conventions, Subject

torch.manual_seed(0)
model = VAEModel(12, [8], [8], latent_dim=3, output_activation_name="identity", dropout_rate=0.0)


def with_capacity(capacity):
    def loss(outputs, x, mu, logvar):
        return vae_loss(x, outputs, mu, logvar, capacity=capacity, logvar_clip=(-30.0, 20.0))

    return Subject(
        name=f"pyod, VAE with capacity {capacity:g}",
        loss=loss,
        reparameterize=model.reparameterize,
        encode=model.encode,
        decode=model.decode,
        forward=model,
        module=model,
        conventions=Conventions(nll_reduction="mean", dtype="float32"),
    )


as_it_is = with_capacity(0.0)
unbounded = with_capacity(float("inf"))
