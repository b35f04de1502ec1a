"""Measure two estimators of the bound's gradient on glyphs, and draw what three KL losses do.

python docs/examples/kinds/estimators.py [PICTURE] [--steps N]
"""

import argparse

import torch
from matplotlib.figure import Figure

from vae_ref import VAE, Bernoulli, glyphs
from vae_ref.gaussian import log_density, reparameterize
from vae_ref.kinds.estimators import doubly_reparameterized, sticking_the_landing
from vae_ref.kinds.sampled_kl import k1, k2, k3
from vae_ref.objective import importance_weighted_bound

parser = argparse.ArgumentParser()
parser.add_argument("picture", nargs="?", default="docs/images/kind_estimators.png")
parser.add_argument("--steps", type=int, default=1000)
chosen = parser.parse_args()

torch.manual_seed(0)
images = glyphs(10_000).images.float() / 255
model = VAE(784, 200, 2)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)


def log_joint_of(x):
    """Return log p(x, z) as a function of z."""

    def log_joint(z):
        prior = log_density(z, torch.zeros_like(z), torch.zeros_like(z))
        return prior - Bernoulli().nll(model.decode_logits(z), x)

    return log_joint


def iwae(mu, logvar, eps, log_joint):
    """Return the bound itself, whose gradient has the score function."""
    z = reparameterize(mu, logvar, eps)
    return importance_weighted_bound(log_joint(z) - log_density(z, mu, logvar))


for step in range(chosen.steps):
    x = images[torch.randint(len(images), (100,))]
    elbo = sticking_the_landing(*model.encode(x), torch.randn(1, 100, 2), log_joint_of(x))
    optimizer.zero_grad()
    (-elbo.mean()).backward()
    optimizer.step()
    if step % 500 == 0 or step == chosen.steps - 1:
        print(f"step {step}: ELBO {elbo.mean().item():.2f} nats")

# The mean of a gradient over its deviation, for each of the encoder's outputs of one batch.
x = images[:10]
mu, logvar = (head.detach().requires_grad_() for head in model.encode(x))
numbers = (1, 4, 16, 64)
ratios = {"IWAE": [], "DReG": []}
for samples in numbers:
    for name, surrogate in (("IWAE", iwae), ("DReG", doubly_reparameterized)):
        slopes = []
        for _ in range(200 if chosen.steps > 100 else 2):
            value = surrogate(mu, logvar, torch.randn(samples, len(x), 2), log_joint_of(x)).sum()
            slopes.append(torch.cat(torch.autograd.grad(value, (mu, logvar)), 1))
        drawn = torch.stack(slopes)
        ratios[name].append((drawn.mean(0).abs() / drawn.std(0)).median().item())
    print(f"K = {samples}: IWAE {ratios['IWAE'][-1]:.3f}, DReG {ratios['DReG'][-1]:.3f}")

# A normal q is fitted to a p of two modes by samples of q, with an estimate of the KL as the loss.
grid = torch.linspace(-6, 6, 121)
log_p = torch.log_softmax(torch.logaddexp(-((grid + 2.5) ** 2), -((grid - 2.5) ** 2) - 0.5), 0)
fitted = {}
for estimate in (k1, k2, k3):
    place, log_width = torch.tensor(1.5, requires_grad=True), torch.tensor(0.0, requires_grad=True)
    descent = torch.optim.Adam([place, log_width], lr=0.02)
    for _ in range(chosen.steps):
        log_q = torch.log_softmax(-0.5 * ((grid - place) / log_width.exp()) ** 2, 0)
        index = torch.multinomial(log_q.detach().exp(), 200, replacement=True)
        descent.zero_grad()
        estimate(log_q[index], log_p[index]).mean().backward()
        descent.step()
    fitted[estimate.__name__] = log_q.detach().exp()

figure = Figure(figsize=(9, 3.2), layout="constrained")
left, right = figure.subplots(1, 2)
for name, line in ratios.items():
    left.loglog(numbers, line, "o-", label=name)
left.set(xlabel="samples K", ylabel="mean of a gradient / its deviation")
right.fill_between(grid, log_p.exp(), color="lightgrey", label="p")
for name, q in fitted.items():
    right.plot(grid, q, label=f"q, with {name} as the loss")
right.set(xlabel="x", yticks=[])
left.legend()
right.legend(fontsize="small")
figure.savefig(chosen.picture, dpi=150)
