"""Train a VAE with a VampPrior of two coordinates on glyphs, and draw the prior that it learns.

python docs/examples/kinds/flows.py [PICTURE] [--steps N]
"""

import argparse

import matplotlib.pyplot as plt
import torch
from torch import nn
from torchvision.utils import make_grid

from vae_ref import glyphs
from vae_ref.gaussian import log_density, reparameterize
from vae_ref.kinds import mixtures
from vae_ref.likelihood import Bernoulli

parser = argparse.ArgumentParser()
parser.add_argument("picture", nargs="?", default="docs/images/kind_flows.png")
parser.add_argument("--steps", type=int, default=1500)
chosen = parser.parse_args()

torch.manual_seed(0)
data = glyphs(10_000)
images, labels = data.images.float() / 255, data.labels
encoder = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 4))
decoder = nn.Sequential(nn.Linear(2, 256), nn.ReLU(), nn.Linear(256, 784))


def encode(x):
    """Return the mean and the log variance of a code."""
    return encoder(x).chunk(2, -1)


prior = mixtures.VampPrior(encode, images[:50])  # it begins at fifty images
parts = [*encoder.parameters(), *decoder.parameters(), prior.pseudo_inputs]
optimizer = torch.optim.Adam(parts, lr=1e-3)

for step in range(chosen.steps):
    x = images[torch.randint(len(images), (128,))]
    mu, logvar = encode(x)
    z = reparameterize(mu, logvar, torch.randn_like(mu))
    reconstruction = Bernoulli().nll(decoder(z), x)
    divergence = log_density(z, mu, logvar) - prior.log_density(z)
    loss = (reconstruction + divergence).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 500 == 0 or step == chosen.steps - 1:
        print(f"step {step}: {loss.item():.2f} nats, KL {divergence.mean().item():.2f}")

with torch.no_grad():
    codes, _ = encode(images[:2000])
    low, high = codes.amin(0) - 1, codes.amax(0) + 1
    axes = [torch.linspace(a, b, 300) for a, b in zip(low, high)]
    density = prior.log_density(torch.cartesian_prod(*axes)).view(300, 300).T
    gumbel = -torch.log(-torch.log(torch.rand(100, 50)))
    drawn = mixtures.draw(*prior.components(), gumbel, torch.randn(100, 2))
    new = Bernoulli().mean(decoder(drawn)).view(-1, 1, 28, 28)

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 5))
left.contourf(*axes, density.clamp_min(-12), levels=24, cmap="Greys")
left.scatter(*codes.T, c=labels[:2000], s=2, cmap="tab10")
left.set_title("the learned prior, and codes of ten classes")
right.imshow(make_grid(new, nrow=10).permute(1, 2, 0))
right.set_title("new digits, drawn from it")
right.axis("off")
figure.tight_layout()
figure.savefig(chosen.picture, dpi=80)
