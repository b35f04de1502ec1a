"""Train a VAE whose code is a number of six digits on glyphs, and draw images from new numbers.

python docs/examples/kinds/categorical.py [PICTURE] [--steps N]
"""

import argparse

import torch
from torch import nn
from torchvision.utils import save_image

from vae_ref import Bernoulli, glyphs
from vae_ref.kinds.categorical import kl_to_uniform
from vae_ref.kinds.gumbel import gumbel, gumbel_softmax

parser = argparse.ArgumentParser()
parser.add_argument("picture", nargs="?", default="docs/images/kind_categorical.png")
parser.add_argument("--steps", type=int, default=1500)
chosen = parser.parse_args()

D, K = 6, 10  # six latents of ten classes
torch.manual_seed(0)
images = glyphs(10_000).images.float() / 255
encoder = nn.Sequential(
    nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, D * K), nn.Unflatten(1, (D, K))
)
decoder = nn.Sequential(nn.Flatten(), nn.Linear(D * K, 300), nn.ReLU(), nn.Linear(300, 784))
optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3)

for step in range(chosen.steps):
    temperature = max(0.5, 1 - step / chosen.steps)
    x = images[torch.randint(len(images), (128,))]
    logits = encoder(x)
    y = gumbel_softmax(logits, gumbel(torch.rand_like(logits)), temperature)
    kl = kl_to_uniform(logits).mean()
    loss = Bernoulli().nll(decoder(y), x).mean() + kl
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 500 == 0 or step == chosen.steps - 1:
        print(f"step {step}: {loss.item():.2f} nats, KL {kl.item():.2f} of 13.82")  # 6 log 10

with torch.no_grad():
    x = images[:10]
    numbers = torch.cat([encoder(x).argmax(-1), torch.randint(K, (50, D))])
    drawn = torch.sigmoid(decoder(nn.functional.one_hot(numbers, K).float()))
for number in numbers[:10].tolist():
    print("".join(map(str, number)), end=" ")
print()
save_image(torch.cat([x, drawn]).view(-1, 1, 28, 28), chosen.picture, nrow=10)
