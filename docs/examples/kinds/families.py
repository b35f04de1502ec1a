"""Train a VAE of glyphs whose decoder also computes a scale for every pixel, and draw the scales.

python docs/examples/kinds/families.py [PICTURE] [--steps N]
"""

import argparse

import torch
from torch import nn
from torchvision.utils import save_image

from vae_ref import glyphs
from vae_ref.gaussian import kl_to_standard_normal, reparameterize
from vae_ref.kinds.families import gaussian_nll

parser = argparse.ArgumentParser()
parser.add_argument("picture", nargs="?", default="docs/images/kind_families.png")
parser.add_argument("--steps", type=int, default=800)
chosen = parser.parse_args()

torch.manual_seed(0)
images = glyphs(4_000).images.float() / 255


class VAE(nn.Module):
    def __init__(self, outputs: int):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 40))
        self.decoder = nn.Sequential(nn.Linear(20, 300), nn.ReLU(), nn.Linear(300, outputs))
        self.log_sigma = nn.Parameter(torch.zeros(()))  # if the decoder computes none

    def forward(self, x, eps):
        mu, logvar = self.encoder(x).chunk(2, -1)
        mean, *scale = self.decoder(reparameterize(mu, logvar, eps)).split(784, -1)
        log_sigma = scale[0] if scale else self.log_sigma
        log_sigma = -4 + nn.functional.softplus(log_sigma + 4)  # a level is 1/255, not nothing
        return mean, log_sigma, kl_to_standard_normal(mu, logvar)


one, each = VAE(784), VAE(2 * 784)
for name, model in (("one scale for all pixels", one), ("a scale for each pixel", each)):
    networks = [*model.encoder.parameters(), *model.decoder.parameters()]
    optimizer = torch.optim.Adam(
        [{"params": networks}, {"params": [model.log_sigma], "lr": 1e-2}], lr=1e-3
    )
    for step in range(chosen.steps):
        x = images[torch.randint(len(images), (128,))]
        mean, log_sigma, kl = model(x, torch.randn(128, 20))
        loss = (gaussian_nll(x, mean, log_sigma) + kl).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(networks, 1000)
        optimizer.step()
        if step % 200 == 0 or step == chosen.steps - 1:
            print(f"{name}, step {step}: {loss.item():.1f} nats")
print(f"the scale for all pixels: {one.log_sigma.exp().item():.3f}")

with torch.no_grad():
    x = images[:10]
    mean, log_sigma, _ = each(x, torch.zeros(10, 20))
scale = (log_sigma.exp() / 0.3).clamp(max=1)
save_image(torch.cat([x, mean.clamp(0, 1), scale]).view(-1, 1, 28, 28), chosen.picture, nrow=10)
