"""Train a conditional VAE with a learned prior on glyphs, and draw new digits of every class.

python docs/examples/kinds/conditional.py [PICTURE] [--steps N]
"""

import argparse

import torch
from torchvision.utils import save_image

from vae_ref import glyphs
from vae_ref.kinds.conditional import ConditionalVAE

parser = argparse.ArgumentParser()
parser.add_argument("picture", nargs="?", default="docs/images/kind_conditional.png")
parser.add_argument("--steps", type=int, default=2000)
chosen = parser.parse_args()

torch.manual_seed(0)
data = glyphs(10_000)
images, labels = data.images.float() / 255, data.labels
model = ConditionalVAE(input_dim=784, classes=10)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

for step in range(chosen.steps):
    batch = torch.randint(len(images), (128,))
    eps = torch.randn(128, 20)
    terms = model.terms(images[batch], labels[batch], eps)
    loss = terms.loss().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 500 == 0 or step == chosen.steps - 1:
        print(f"step {step}: {loss.item():.2f} nats, KL {terms.divergence.mean().item():.2f}")

c = torch.arange(10).repeat(8)  # a column for each class
with torch.no_grad():
    drawn = model.decode(model.draw_prior(c, torch.randn(80, 20)), c)
save_image(drawn.view(-1, 1, 28, 28), chosen.picture, nrow=10)
