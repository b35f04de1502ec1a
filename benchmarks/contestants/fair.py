"""A fair PyTorch loop: what an expert in torch writes by hand, without a compiler or an engine.

The images are converted once and stay in memory; a batch is an index_select. One layer computes
both heads, the loss takes logits, Adam is fused, and no loss is read before the epoch ends.
Denormals are flushed, and the constants of log1p are in memory (vae_ref.support.platform says
why). Few loops do that, but it takes only a line each, and a rival should not lose by a line.
"""

import argparse
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import datasets

from benchmarks.contestants.protocol import clock, enter


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 2 * 20))
        self.decoder = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784))

    def loss(self, x: Tensor, eps: Tensor) -> Tensor:
        mu, logvar = self.encoder(x).chunk(2, dim=1)
        sigma = torch.exp(0.5 * logvar)
        logits = self.decoder(mu + eps * sigma)
        reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        return reconstruction + 0.5 * (mu * mu + sigma * sigma - logvar - 1).sum()


def step(model: VAE, optimizer: torch.optim.Optimizer, x: Tensor, eps: Tensor) -> Tensor:
    loss = model.loss(x, eps)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach()


def train(model: VAE, optimizer: torch.optim.Optimizer, images: Tensor) -> float:
    total = images.new_zeros(())
    for index in torch.randperm(len(images), device=images.device).split(128):
        eps = torch.randn(len(index), 20, device=images.device)
        total += step(model, optimizer, images.index_select(0, index), eps)
    return total.item() / len(images)


@torch.inference_mode()
def test(model: VAE, images: Tensor) -> float:
    chunks = images.split(1000)
    losses = [model.loss(x, torch.randn(len(x), 20, device=x.device)) for x in chunks]
    return torch.stack(losses).double().sum().item() / len(images)


def contest(settings: argparse.Namespace) -> Iterator[dict[str, Any]]:
    torch.set_flush_denormal(True)  # before any parallel operation, so that all threads obey
    torch.log1p(torch.full((16,), -0.0))
    torch.manual_seed(settings.seed)
    train_images, test_images = (
        datasets.MNIST(settings.data, train=part).data.flatten(1).to(settings.device).float() / 255
        for part in (True, False)
    )
    model = VAE().to(settings.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    for epoch in range(1, settings.epochs + 1):
        started = clock(settings.device)
        train(model, optimizer, train_images)
        yield {"epoch": epoch, "seconds": clock(settings.device) - started}
    yield {"test_loss": test(model, test_images)}


if __name__ == "__main__":
    enter(contest)
