"""Train a linear VAE on glyphs, and rank simulated codes among draws of three posteriors.

python docs/examples/kinds/calibration.py [PICTURE] [--steps N]
"""

import argparse

import torch
from matplotlib.figure import Figure

from vae_ref import LinearVAE, glyphs
from vae_ref.kinds.calibration import p_values, ranks, uniform_scores
from vae_ref.kinds.linear import posterior

DRAWS, EXAMPLES, LATENTS = 19, 5000, 5

parser = argparse.ArgumentParser()
parser.add_argument("picture", nargs="?", default="docs/images/kind_calibration.png")
parser.add_argument("--steps", type=int, default=1000)
chosen = parser.parse_args()

torch.manual_seed(0)
images = glyphs(10_000).images.float() / 255
model = LinearVAE(784, LATENTS)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for step in range(chosen.steps):
    loss = model.terms(images[torch.randint(len(images), (128,))]).loss().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 500 == 0 or step == chosen.steps - 1:
        print(f"step {step}: {loss.item():.2f} nats")

model.double().requires_grad_(False)
w, variance = model.decoder.weight, 10 * model.likelihood.logvar.exp()  # noisier: less is known
z = torch.randn(EXAMPLES, LATENTS).double()
x = z @ w.T + variance.sqrt() * torch.randn(EXAMPLES, 784).double()
mean, covariance = posterior(x, w, 0 * z, 0 * z, float(variance))
root = torch.linalg.cholesky(covariance[0])
eps = torch.randn(DRAWS, EXAMPLES, LATENTS).double()
posteriors = {
    "the true posterior": mean + eps @ root.T,
    "a quarter too narrow": mean + 0.75 * eps @ root.T,
    "collapsed: the prior": eps,
}

figure = Figure(figsize=(7.6, 4.4), layout="constrained")
axes = figure.subplots(2, 3, sharey="row")
for (name, draws), top, bottom in zip(posteriors.items(), *axes, strict=True):
    u, v = (torch.rand(EXAMPLES, LATENTS).double() for _ in range(2))
    rank = ranks(z, draws, u)
    p = [float(each.min()) for each in p_values(uniform_scores(rank, DRAWS, v))]
    print(f"{name}: p of the mean {p[0]:.2g}, of the size {p[1]:.2g}")
    top.bar(range(DRAWS + 1), torch.bincount(rank[:, 0], minlength=DRAWS + 1), width=0.9)
    top.axhline(EXAMPLES / (DRAWS + 1), color="black", linewidth=0.8)
    top.set(title=name, xlabel="rank of the code")
    bottom.plot(mean[:1500, 0], rank[:1500, 0] + v[:1500, 0] - 0.5, ".", markersize=2)
    bottom.set(xlabel="true posterior mean")
axes[0, 0].set_ylabel("examples")
axes[1, 0].set_ylabel("rank of the code")
figure.savefig(chosen.picture, dpi=120)
