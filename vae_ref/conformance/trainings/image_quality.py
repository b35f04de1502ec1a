"""Measure images: how like real ones they are, and how blurry."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vae_ref.conformance.course import Course
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import NotApplicable
from vae_ref.support.platform import Adam

__all__ = ["confidence", "high_frequencies", "nearest_distances"]

_HIDDEN, _STEPS, _BATCH = 128, 1400, 128  # of the classifier
_NEIGHBOURS = 20_000  # images of the training set, among which the nearest is looked for
_LARGEST_FREQUENCY = 0.5  # in cycles per pixel


def _classifier(probe: Probe) -> nn.Module:
    """Train a small network to tell the classes of the course's images apart."""
    course = probe.course
    if course.labels is None:
        raise NotApplicable("the course has no classes")
    torch.default_generator.manual_seed(probe.number("classifier"))
    classes = int(course.labels[0].max()) + 1
    inner = nn.Linear(course.train.shape[1], _HIDDEN)
    net = nn.Sequential(inner, nn.ReLU(), nn.Linear(_HIDDEN, classes)).float()
    optimiser = Adam(net.parameters(), 1e-3, fused=True)
    with torch.enable_grad():
        for _ in range(_STEPS):
            rows = torch.randint(len(course.train), (_BATCH,))
            x = Course.numbers(course.train[rows])
            optimiser.zero_grad()
            F.cross_entropy(net(x), course.labels[0][rows]).backward()
            optimiser.step()
    return net


def confidence(probe: Probe, images: Tensor) -> float:
    """Return the probability of the likeliest class, averaged over images."""
    net = probe.once("classifier", lambda: _classifier(probe))
    with torch.no_grad():
        return float(net(images.float()).softmax(1).max(1).values.mean())


def nearest_distances(probe: Probe, images: Tensor) -> Tensor:
    """Return the distance of every image to the nearest image of the training set."""
    neighbours = Course.numbers(probe.course.train[:_NEIGHBOURS])
    return torch.cdist(images.float(), neighbours).min(1).values


def high_frequencies(images: Tensor, size: tuple[int, int]) -> float:
    """Return the share of the energy, without the mean, beyond half the largest frequency."""
    spectrum = torch.fft.fft2(images.reshape(-1, *size).double()).abs().square()
    rows, columns = (torch.fft.fftfreq(n, dtype=torch.float64) for n in size)
    radius = (rows[:, None] ** 2 + columns**2).sqrt()
    return float(
        spectrum[:, radius > _LARGEST_FREQUENCY / 2].sum() / spectrum[:, radius > 0].sum()
    )
