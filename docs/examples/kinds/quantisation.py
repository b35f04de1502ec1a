"""Train VQ-VAEs on glyphs whose losses have the same value, but move something else.

python docs/examples/kinds/quantisation.py [PICTURE] [--steps N]
"""

import argparse

import matplotlib
import torch
from torch import nn

from vae_ref import glyphs
from vae_ref.kinds.codebook import perplexity
from vae_ref.kinds.quantisation import losses, nearest, quantise

matplotlib.use("Agg")
import matplotlib.pyplot as plt

CODES, DIMS, PATCH = 64, 8, 4


class VQVAE(nn.Module):
    """A VAE of 7 x 7 codes, one for each patch of 4 x 4 pixels."""

    def __init__(self):
        super().__init__()
        self.codebook = nn.Parameter(0.1 * torch.randn(CODES, DIMS))
        self.encode = nn.Sequential(nn.Linear(PATCH**2, 64), nn.ReLU(), nn.Linear(64, DIMS))
        self.decode = nn.Sequential(nn.Linear(DIMS, 64), nn.ReLU(), nn.Linear(64, PATCH**2))

    def terms(self, x, detached):
        """Return the error of x, the losses of the codes, and which codes are used."""
        z_e, codebook = self.encode(x), self.codebook
        z_q, k = quantise(z_e, codebook)
        if detached == "no straight-through":
            z_q = codebook[k]
        at_encoder = z_e.detach() if detached == "the encoder" else z_e
        at_codebook = codebook.detach() if detached == "the codebook" else codebook
        of_codes = losses(at_encoder, at_codebook).loss(0.25)
        return (self.decode(z_q) - x).square().sum(-1).mean(), of_codes.mean(), k

    def reconstruct(self, x):
        return self.decode(self.codebook[nearest(self.encode(x), self.codebook)])


def patches(images):
    rows = images.unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH)
    return rows.reshape(len(images), -1, PATCH**2)


def whole(rows):
    side = 28 // PATCH
    return rows.view(-1, side, side, PATCH, PATCH).transpose(2, 3).reshape(-1, 28, 28)


NAMES = {
    "": "right",
    "the encoder": "the encoder is detached from both losses",
    "the codebook": "the codebook is detached from both losses",
    "no straight-through": "no straight-through gradient",
}

parser = argparse.ArgumentParser()
parser.add_argument("picture", nargs="?", default="docs/images/kind_quantisation.png")
parser.add_argument("--steps", type=int, default=600)
chosen = parser.parse_args()

images = glyphs(5_000).images.view(-1, 28, 28).float() / 255
data = patches(images)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), width_ratios=(1.2, 1), layout="constrained")
rows = [torch.cat(list(images[:8]), 1)]
for detached, name in NAMES.items():
    torch.manual_seed(0)
    model = VQVAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    errors = []
    for step in range(chosen.steps):
        x = data[torch.randint(len(data), (32,))]
        error, of_codes, k = model.terms(x, detached)
        if not step:
            print(f"{name}: at first, {error.item():.6f} and {of_codes.item():.6f}", end="")
        optimizer.zero_grad()
        (error + of_codes).backward()
        optimizer.step()
        errors.append(error.item())
    used = perplexity(k, CODES).item()
    print(f"; at last, {errors[-1]:.4f} and {of_codes.item():.4f}, perplexity {used:.1f}")
    smooth = torch.tensor(errors).unfold(0, min(20, len(errors)), 1).mean(1)
    axes[0].semilogy(smooth, label=f"{name} (perplexity {used:.0f})")
    with torch.no_grad():
        rows.append(torch.cat(list(whole(model.reconstruct(data[:8]))), 1))

axes[0].set(xlabel="step", ylabel="squared error of a patch")
axes[0].legend(fontsize=7)
axes[1].imshow(torch.cat(rows).clamp(0, 1), cmap="gray")
axes[1].set_yticks([14 + 28 * i for i in range(5)])
axes[1].set_yticklabels(
    ["data", "right", "encoder\ndetached", "codebook\ndetached", "no straight-\nthrough"]
)
axes[1].tick_params(labelsize=7, length=0)
axes[1].set_xticks([])
figure.savefig(chosen.picture, dpi=110)
