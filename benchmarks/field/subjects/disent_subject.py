"""The VAE framework of disent: one step of its training."""

import torch
from disent.frameworks.vae import Vae
from disent.model import AutoEncoder
from disent.model.ae import DecoderLinear, EncoderLinear

torch.manual_seed(0)


def step_of(framework, **options):
    size = {"x_shape": (1, 8, 8), "z_size": 3}
    model = AutoEncoder(
        encoder=EncoderLinear(**size, z_multiplier=2), decoder=DecoderLinear(**size)
    )
    made = framework(model=model, cfg=framework.cfg(**options))
    made.log_dict = lambda *_, **__: None  # there is no trainer that would collect it
    return lambda x: made.do_training_step({"x_targ": (x,)}, 0)


mse = step_of(Vae, recon_loss="mse")
bce = step_of(Vae, recon_loss="bce")
mean_sum = step_of(Vae, recon_loss="bce", loss_reduction="mean_sum")


def batch():
    return torch.rand(5, 1, 8, 8)
