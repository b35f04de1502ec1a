"""The models of pythae: the training step of each, as its trainers call it."""

import torch
from pythae import models

torch.manual_seed(0)


def step_of(name, **options):
    config = getattr(models, f"{name}Config")(input_dim=(12,), latent_dim=3, **options)
    model = getattr(models, name)(config)
    return lambda x: model({"data": x}, epoch=1, dataset_size=100).loss


vae_bce = step_of("VAE", reconstruction_loss="bce")
vae_mse = step_of("VAE", reconstruction_loss="mse")
beta_vae = step_of("BetaVAE", reconstruction_loss="bce", beta=4.0)
iwae = step_of("IWAE", reconstruction_loss="bce", number_samples=5)
beta_tc_vae = step_of("BetaTCVAE", reconstruction_loss="bce")
vamp = step_of("VAMP", reconstruction_loss="bce", number_components=7)
disentangled_beta_vae = step_of("DisentangledBetaVAE", reconstruction_loss="bce")
svae = step_of("SVAE", reconstruction_loss="bce")


def batch():
    return torch.rand(5, 12)
