"""Train VAEs on glyphs without and with a penalty on the total correlation, and compare them.

python docs/examples/kinds/disentangling.py [PICTURE] [--steps N]
"""

import argparse
import math

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import torch

from vae_ref import VAE, glyphs
from vae_ref.gaussian import log_density, reparameterize
from vae_ref.kinds.annealing import Schedule
from vae_ref.kinds.disentangling import total_correlation
from vae_ref.kinds.stratified import stratified_log_weights
from vae_ref.objective import negative_elbo

parser = argparse.ArgumentParser()
parser.add_argument("picture", nargs="?", default="docs/images/kind_disentangling.png")
parser.add_argument("--steps", type=int, default=800)
chosen = parser.parse_args()

LATENTS, BATCH = 8, 128
data = glyphs(4_000)
images = data.images.float() / 255


def estimate(z, mu, logvar, log_w):
    """Estimate the total correlation with any weights."""
    apart = z.unsqueeze(1).expand(-1, len(mu), -1).unsqueeze(-1)
    pairs = log_density(apart, mu.unsqueeze(-1), logvar.unsqueeze(-1))
    joint = torch.logsumexp(pairs.sum(-1) + log_w, 1)
    return (joint - torch.logsumexp(pairs + log_w.unsqueeze(-1), 1).sum(-1)).mean()


def in_a_column(batch, count):
    """Place the stratified weights as the known bug does."""
    weights = torch.full((batch, batch), 1 / (batch - 1))
    weights[:, 1] = 1 / (batch - 1) - 1 / count
    weights[:, 0] = 1 / count
    weights[batch - 2, 0] = 1 / (batch - 1) - 1 / count
    return weights.log()


def draw(model, x):
    mu, logvar = model.encode(x)
    return reparameterize(mu, logvar, torch.randn_like(mu)), mu, logvar


def train(beta):
    """Return a trained model, and the estimates of its total correlation."""
    torch.manual_seed(0)
    model = VAE(input_dim=784, hidden_dim=200, latent_dim=LATENTS)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    schedule = Schedule(steps=max(1, chosen.steps // 3))
    found = []
    for step in range(chosen.steps):
        x = images[torch.randint(len(images), (BATCH,))]
        z, mu, logvar = draw(model, x)
        tc = total_correlation(z, mu, logvar, len(images), sampling="stratified")
        loss = negative_elbo(x, model.decode_logits(z), mu, logvar).loss()
        weight = (beta - 1) * schedule.weight_at(step)
        loss = (loss + weight * tc).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if beta > 1 and step % max(1, chosen.steps // 15) == 0:
            with torch.no_grad():
                found.append((step, *compare(model, z, mu, logvar)))
    print(f"beta {beta}: {loss.item():.2f} nats, total correlation {tc.mean().item():.2f}")
    return model, found


def compare(model, z, mu, logvar):
    """Estimate the total correlation of a batch in three ways, and that of the data set."""
    count = len(images)
    bias = (LATENTS - 1) * math.log(count)  # of weighted sampling, if a batch were all there is
    weighted = total_correlation(z, mu, logvar, count).mean() - bias
    stratified = estimate(z, mu, logvar, stratified_log_weights(BATCH, count).to(z))
    column = estimate(z, mu, logvar, in_a_column(BATCH, count))
    whole = model.encode(images)
    exact = estimate(z, *whole, torch.full((1, count), -math.log(count)))
    return [float(tc) for tc in (weighted, stratified, column, exact)]


plain, _ = train(beta=1)
penalised, found = train(beta=10)
figure, axes = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
for ax, model, title in zip(axes, (plain, penalised), ("beta = 1", "beta = 10")):
    with torch.no_grad():
        z, _, _ = draw(model, images)
    shown = ax.imshow(torch.corrcoef(z.T).abs(), vmin=0, vmax=1, cmap="Blues")
    ax.set(title=f"|correlation| of latents, {title}", xticks=[], yticks=[])
figure.colorbar(shown, ax=axes[1])
steps, *curves = zip(*found)
names = ("weighted, less (D - 1) log N", "stratified", "1/N in a column", "whole data set")
for name, curve, style in zip(names, curves, ("-", "-", "--", ":")):
    axes[2].plot(steps, curve, style, label=name)
axes[2].set(title="total correlation, beta = 10", xlabel="step", ylabel="nats")
axes[2].set_ylim(top=1.6 * axes[2].get_ylim()[1])
axes[2].legend(fontsize=7, loc="upper left")
figure.savefig(chosen.picture, dpi=100)
