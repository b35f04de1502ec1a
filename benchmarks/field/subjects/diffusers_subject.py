"""The posterior of latent diffusion, and its autoencoder at a small size."""

import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from vae_ref.conformance import Conventions, Subject

torch.manual_seed(0)


def posterior_of(mu, logvar):
    return DiagonalGaussianDistribution(torch.cat([mu, logvar], 1))


posterior = Subject(
    name="diffusers, DiagonalGaussianDistribution",
    kl=lambda mu, logvar: posterior_of(mu, logvar).kl(),
    reparameterize=lambda mu, logvar: posterior_of(mu, logvar).sample(),
    conventions=Conventions(latent_shape=(3, 2, 2)),
)

model = AutoencoderKL(
    down_block_types=("DownEncoderBlock2D",) * 2,
    up_block_types=("UpDecoderBlock2D",) * 2,
    block_out_channels=(8, 8),
    norm_num_groups=4,
    latent_channels=3,
)


def encode(x):
    q = model.encode(x).latent_dist
    return q.mean, q.logvar


def forward(x):
    q = model.encode(x).latent_dist
    return model.decode(q.sample()).sample, q.mean, q.logvar


autoencoder = Subject(
    name="diffusers, AutoencoderKL",
    kl=posterior.kl,
    reparameterize=posterior.reparameterize,
    encode=encode,
    decode=lambda z: model.decode(z).sample,
    forward=forward,
    module=model,
    conventions=Conventions(latent_shape=(3, 4, 4), pixel_shape=(3, 8, 8)),
)
