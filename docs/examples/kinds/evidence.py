"""Train a VAE on glyphs, and bound log p(x) of images that it simulates, from both sides.

python docs/examples/kinds/evidence.py [PICTURE] [--steps N]
"""

import argparse

import torch
from matplotlib.figure import Figure

from vae_ref import VAE, glyphs, importance_weighted_bound, log_density
from vae_ref.kinds.evidence import anneal

parser = argparse.ArgumentParser()
parser.add_argument("picture", nargs="?", default="docs/images/kind_evidence.png")
parser.add_argument("--steps", type=int, default=1000)
chosen = parser.parse_args()

torch.manual_seed(0)
images = glyphs(10_000).images.float() / 255
model = VAE(784, 400, 20)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for step in range(chosen.steps):
    loss = model.terms(images[torch.randint(len(images), (128,))]).loss().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 500 == 0 or step == chosen.steps - 1:
        print(f"step {step}: {loss.item():.2f} nats")

model.requires_grad_(False)
codes = torch.randn(40, 20)  # draws from the true posteriors of the images that are simulated
x = torch.bernoulli(model.decode(codes))
mu, logvar = model.encode(x)
sigma, zero = torch.exp(logvar / 2), torch.zeros_like(mu)


def log_q(z):
    return log_density(z, mu, logvar)


def log_joint(z):
    return log_density(z, zero, zero) - model.likelihood.nll(model.decode_logits(z), x)


def bound(z, betas):
    noise = {
        "momenta": torch.randn(len(betas) - 2, *z.shape),
        "uniforms": torch.rand(len(betas) - 2, *z.shape[:-1]),
    }
    log_w, _, _ = anneal(log_q, log_joint, z, betas, **noise, step=0.4 * sigma, steps=5)
    return importance_weighted_bound(log_w).mean().item()


temperatures = (2, 4, 8, 16, 32, 64) if chosen.steps > 100 else (2, 4)
lower, upper = [], []
for count in temperatures:
    betas = torch.linspace(0, 1, count + 1)
    lower.append(bound(mu + sigma * torch.randn(4, *mu.shape), betas))
    upper.append(-bound(codes.expand(4, *codes.shape), betas.flip(0)))
    print(f"{count} temperatures: {lower[-1]:.2f} to {upper[-1]:.2f} nats")
elbo = -model.terms(x, torch.randn(100, *mu.shape)).loss().mean().item()

figure = Figure(figsize=(6.4, 3.6), layout="constrained")
axes = figure.subplots()
axes.fill_between(temperatures, lower, upper, alpha=0.2)
axes.plot(temperatures, upper, "o-", label="upper bound, from the posterior back")
axes.plot(temperatures, lower, "o-", label="lower bound, from q(z|x)")
axes.axhline(elbo, linestyle="--", color="grey", label="ELBO")
axes.set(xscale="log", xlabel="temperatures", ylabel="log p(x), nats")
axes.set_xticks(temperatures, [str(count) for count in temperatures], minor=False)
axes.minorticks_off()
axes.legend()
figure.savefig(chosen.picture, dpi=120)
