"""The textbook script as its readers run it: the model and the loop of pytorch/examples, vae.

It is rewritten here with its habits: a DataLoader that converts one image at a time, a sigmoid and
the cross-entropy of probabilities, Adam with its defaults, a loss that is read after every step
and printed after every tenth batch. Nothing is made slow on purpose.
"""

import argparse
import sys
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from benchmarks.contestants.protocol import clock, enter


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(784, 400)
        self.fc21 = nn.Linear(400, 20)
        self.fc22 = nn.Linear(400, 20)
        self.fc3 = nn.Linear(20, 400)
        self.fc4 = nn.Linear(400, 784)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu: Tensor, logvar: Tensor) -> Tensor:
        std = torch.exp(0.5 * logvar)
        eps = torch.randn_like(std)
        return mu + eps * std

    def decode(self, z: Tensor) -> Tensor:
        h3 = F.relu(self.fc3(z))
        return torch.sigmoid(self.fc4(h3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mu, logvar = self.encode(x.view(-1, 784))
        z = self.reparameterize(mu, logvar)
        return self.decode(z), mu, logvar


def loss_function(recon_x: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    bce = F.binary_cross_entropy(recon_x, x.view(-1, 784), reduction="sum")
    kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return bce + kld


def train(model: VAE, optimizer: torch.optim.Optimizer, loader: DataLoader, epoch: int) -> float:
    device = next(model.parameters()).device
    model.train()
    train_loss = 0.0
    for batch_index, (data, _) in enumerate(loader):
        data = data.to(device)
        optimizer.zero_grad()
        recon_batch, mu, logvar = model(data)
        loss = loss_function(recon_batch, data, mu, logvar)
        loss.backward()
        train_loss += loss.item()
        optimizer.step()
        if batch_index % 10 == 0:
            done = f"[{batch_index * len(data)}/{len(loader.dataset)}]"
            per_example = loss.item() / len(data)
            print(f"Train epoch: {epoch} {done} Loss: {per_example:.6f}", file=sys.stderr)
    return train_loss / len(loader.dataset)


def test(model: VAE, loader: DataLoader) -> float:
    device = next(model.parameters()).device
    model.eval()
    test_loss = 0.0
    with torch.no_grad():
        for data, _ in loader:
            data = data.to(device)
            recon_batch, mu, logvar = model(data)
            test_loss += loss_function(recon_batch, data, mu, logvar).item()
    return test_loss / len(loader.dataset)


def contest(settings: argparse.Namespace) -> Iterator[dict[str, Any]]:
    torch.manual_seed(settings.seed)
    cuda = {"num_workers": 1, "pin_memory": True} if settings.device == "cuda" else {}
    train_loader, test_loader = (
        DataLoader(
            datasets.MNIST(settings.data, train=is_train, transform=transforms.ToTensor()),
            batch_size=128,
            shuffle=is_train,
            **cuda,
        )
        for is_train in (True, False)
    )
    model = VAE().to(settings.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(1, settings.epochs + 1):
        started = clock(settings.device)
        train(model, optimizer, train_loader, epoch)
        yield {"epoch": epoch, "seconds": clock(settings.device) - started}
    yield {"test_loss": test(model, test_loader)}


if __name__ == "__main__":
    enter(contest)
