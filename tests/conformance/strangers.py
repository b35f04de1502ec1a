"""Files as strangers write them: the textbook's VAE, a convolutional one, and their variations."""

import textwrap

__all__ = ["CONVOLUTIONAL", "KL", "MEAN_KL", "SMALL", "TEXTBOOK", "kl_that", "varied"]

TEXTBOOK = """\
import torch
import torch.nn.functional as F
from torch import nn


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(784, 400)
        self.fc21 = nn.Linear(400, 20)
        self.fc22 = nn.Linear(400, 20)
        self.fc3 = nn.Linear(20, 400)
        self.fc4 = nn.Linear(400, 784)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        eps = torch.randn_like(std)
        return mu + eps * std

    def decode(self, z):
        h3 = F.relu(self.fc3(z))
        return torch.sigmoid(self.fc4(h3))

    def forward(self, x):
        mu, logvar = self.encode(x.view(-1, 784))
        z = self.reparameterize(mu, logvar)
        return self.decode(z), mu, logvar


def loss_function(recon_x, x, mu, logvar):
    BCE = F.binary_cross_entropy(recon_x, x.view(-1, 784), reduction="sum")
    KLD = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return BCE + KLD
"""

CONVOLUTIONAL = """\
import torch
import torch.nn.functional as F
from torch import nn


class ConvVAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 4, 4)
        self.fc_mu, self.fc_logvar = nn.Linear(98, 4), nn.Linear(98, 4)
        self.fc = nn.Linear(4, 98)
        self.deconv = nn.ConvTranspose2d(2, 1, 4, 4)

    def encode(self, x):
        h = F.relu(self.conv(x)).flatten(1)
        return self.fc_mu(h), self.fc_logvar(h)

    def reparameterize(self, mu, logvar):
        return mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)

    def decode(self, z):
        h = F.relu(self.fc(z)).view(-1, 2, 7, 7)
        return torch.sigmoid(self.deconv(h))

    def forward(self, x):
        mu, logvar = self.encode(x)
        return self.decode(self.reparameterize(mu, logvar)), mu, logvar


def loss_function(recon_x, x, mu, logvar):
    bce = F.binary_cross_entropy(recon_x, x, reduction="sum")
    return bce - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
"""


def varied(source: str, *changes: tuple[str, str], after: str = "") -> str:
    """Replace parts of a file, each of which must be there, and add to its end."""
    for old, new in changes:
        assert old in source, old
        source = source.replace(old, new)
    return source + "\n\n" + textwrap.dedent(after)


MEAN_KL = varied(TEXTBOOK, ("-0.5 * torch.sum", "-0.5 * torch.mean"))

SMALL = varied(TEXTBOOK, ("400", "16"), ("20", "3"))
KL = """
    import sys
    import time

    import torch

    from vae_ref.conformance import Subject


    def kl(mu, logvar):
        {act}
        return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()


    subject = Subject(name="of a file", kl=kl)
"""


def kl_that(act: str) -> str:
    return textwrap.dedent(KL).format(act=act)
