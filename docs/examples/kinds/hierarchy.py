"""Train a VAE of two levels on glyphs, and draw what each level decides.

python docs/examples/kinds/hierarchy.py [PICTURE] [--steps N]
"""

import argparse

import torch
from torchvision.utils import save_image

from vae_ref import glyphs
from vae_ref.kinds.hierarchy import HierarchicalVAE

UPPER, LOWER = 4, 20

parser = argparse.ArgumentParser()
parser.add_argument("picture", nargs="?", default="docs/images/kind_hierarchy.png")
parser.add_argument("--steps", type=int, default=1500)
chosen = parser.parse_args()

torch.manual_seed(0)
images = glyphs(10_000).images.float() / 255
model = HierarchicalVAE(input_dim=784, latent_dims=(UPPER, LOWER))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

for step in range(chosen.steps):
    x = images[torch.randint(len(images), (128,))]
    eps_1, eps_2 = torch.randn(128, UPPER), torch.randn(128, LOWER)
    loss = model.terms(x, eps_1, eps_2).loss().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 500 == 0 or step == chosen.steps - 1:
        with torch.no_grad():
            upper, lower = (level.divergence.mean() for level in model.top_down(x, eps_1, eps_2))
        print(f"step {step}: {loss.item():.2f} nats, KL {upper:.2f} above, {lower:.2f} below")

# A column for each upper code; the lower codes are the mean, then draws of their prior.
eps_1, eps_2 = torch.randn(1, 10, UPPER).expand(8, -1, -1), torch.randn(8, 10, LOWER)
eps_2[0] = 0
with torch.no_grad():
    _, z_2 = model.draw(eps_1, eps_2)
    drawn = model.likelihood.mean(model.decode_logits(z_2))
save_image(drawn.view(-1, 1, 28, 28), chosen.picture, nrow=10)
