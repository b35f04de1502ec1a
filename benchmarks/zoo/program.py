"""The textbook's VAE, as one file."""

import torch
import torch.nn.functional as F
from torch import nn


class VAE(nn.Module):
    def __init__(self, pixels=784, hidden=400, latents=20):
        super().__init__()
        self.inner = nn.Linear(pixels, hidden)
        self.mu = nn.Linear(hidden, latents)
        self.logvar = nn.Linear(hidden, latents)
        self.outer = nn.Linear(latents, hidden)
        self.pixels = nn.Linear(hidden, pixels)

    def encode(self, x):
        h = torch.relu(self.inner(x))
        mu = self.mu(h)
        logvar = self.logvar(h)
        return mu, logvar

    def reparameterize(self, mu, logvar):
        sigma = torch.exp(logvar / 2)
        return mu + sigma * torch.randn_like(mu)

    def decode(self, z):
        h = torch.relu(self.outer(z))
        return torch.sigmoid(self.pixels(h))

    def forward(self, x):
        mu, logvar = self.encode(x)
        z = self.reparameterize(mu, logvar)
        return self.decode(z), mu, logvar


def loss_function(outputs, x, mu, logvar):
    nll = F.binary_cross_entropy(outputs, x, reduction="sum")
    kl = -0.5 * torch.sum(1 + logvar - mu**2 - logvar.exp())
    return nll + kl


def train(model, images, held_out, epochs):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    for _ in range(epochs):
        model.train()
        total = 0.0
        for rows in torch.randperm(len(images)).split(128):
            x = images[rows]
            optimizer.zero_grad()
            outputs, mu, logvar = model(x)
            loss = loss_function(outputs, x, mu, logvar)
            loss.backward()
            optimizer.step()
            total += loss.item()
        yield total / len(images), test(model, held_out) / len(held_out)


@torch.no_grad()
def test(model, images):
    model.eval()
    outputs, mu, logvar = model(images)
    return loss_function(outputs, images, mu, logvar).item()
