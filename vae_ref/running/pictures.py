"""Draw what a model has learned.

`tiles` returns a picture. Every other function writes one as a PNG file, atomically.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from vae_ref.data import ImageSet
from vae_ref.model import LatentModel
from vae_ref.running.history import Record
from vae_ref.shapes import Codes
from vae_ref.support.atomic import replacing

__all__ = [
    "curves",
    "interpolation",
    "manifold",
    "posterior",
    "reconstruction",
    "samples",
    "tiles",
]

_ZOOM = 2
_BORDER = 0.25


@torch.inference_mode()
def reconstruction(path: Path, model: LatentModel, data: ImageSet) -> None:
    """Draw the first image of every class over its reconstruction from the mean code."""
    x = data.batch(_one_of_each(data), model.dtype)
    rows = torch.cat([x, model.decode(model.embed(x))])
    _save_tiles(path, rows, data.size, columns=len(x))


@torch.inference_mode()
def samples(path: Path, model: LatentModel, eps: Codes, size: tuple[int, int]) -> None:
    """Draw decoded draws from the prior, eight in a row."""
    _save_tiles(path, model.decode(eps.to(model.device, model.dtype)), size, columns=8)


@torch.inference_mode()
def interpolation(path: Path, model: LatentModel, data: ImageSet, *, steps: int = 10) -> None:
    """Draw straight lines in the latent space; each row leads to an image of another class.

    Both ends of a row are original images; between them are decoded points of the line.
    """
    index = _one_of_each(data)
    starts = data.batch(index, model.dtype)
    ends = starts.roll(-1, 0)
    t = torch.linspace(0, 1, steps, dtype=model.dtype, device=starts.device)[:, None]
    between = torch.lerp(model.embed(starts)[:, None], model.embed(ends)[:, None], t)
    rows = torch.cat([starts[:, None], model.decode(between), ends[:, None]], 1)
    _save_tiles(path, rows.flatten(0, 1), data.size, columns=steps + 2)


@torch.inference_mode()
def manifold(path: Path, model: LatentModel, size: tuple[int, int], *, side: int = 20) -> None:
    """Draw the decoded plane of a two-dimensional latent space.

    The points are the centres of cells of equal probability under the prior: the quantiles of
    the normal distribution along both axes.
    """
    quantiles = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    axis = torch.special.ndtri(quantiles)
    plane = torch.cartesian_prod(axis.flip(0), axis).flip(-1)  # first axis right, second axis up
    plane = plane.to(model.device, model.dtype)
    _save_tiles(path, model.decode(plane), size, columns=side, padding=0)


@torch.inference_mode()
def posterior(path: Path, model: LatentModel, data: ImageSet) -> None:
    """Draw the codes of a set in a two-dimensional latent space, coloured by label."""
    index = torch.arange(len(data), device=data.images.device)
    z = torch.cat([model.embed(data.batch(i, model.dtype)) for i in index.split(1000)]).cpu()
    figure = Figure((7, 6), layout="constrained")
    axes = figure.add_subplot()
    labels = data.labels.cpu()
    dots = axes.scatter(z[:, 0], z[:, 1], c=labels, s=3, cmap="tab10")
    dots.set_clim(labels.min().item() - 0.5, labels.max().item() + 0.5)  # one colour per label
    axes.set(xlabel="z[0]", ylabel="z[1]", title="the test images in the latent space")
    axes.set_aspect("equal", "datalim")
    figure.colorbar(dots, label="label", ticks=labels.unique())
    _save_figure(path, figure)


def curves(path: Path, history: Sequence[Record]) -> None:
    """Draw the losses of a training against the epoch."""
    epochs = [record.epoch for record in history]
    figure = Figure((11, 4), layout="constrained")
    loss, reconstruction, divergence = figure.subplots(1, 3)
    loss.plot(epochs, [r.train_loss for r in history], ".-", label="train")
    loss.plot(epochs, [r.test_loss for r in history], ".-", label="test")
    loss.legend()
    loss.set(title="loss", ylabel="nats per example")
    reconstruction.plot(epochs, [r.test_reconstruction for r in history], ".-C1")
    reconstruction.set(title="reconstruction, test")
    divergence.plot(epochs, [r.test_kl for r in history], ".-C1")
    divergence.set(title="KL divergence, test")
    for axes in (loss, reconstruction, divergence):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    _save_figure(path, figure)


def _one_of_each(data: ImageSet) -> Tensor:
    """Return the indices of the first image of every class, at most ten."""
    classes = data.labels.unique()[:10]
    return torch.stack([(data.labels == label).nonzero()[0, 0] for label in classes])


@torch.inference_mode()
def tiles(
    images: Tensor, size: tuple[int, int], *, columns: int = 10, padding: int = 1
) -> Image.Image:
    """Return a picture of flat images, as many in a row as there are columns.

    Example:
        >>> from vae_ref import glyphs
        >>> tiles(glyphs(20).batch(torch.arange(20)), (28, 28)).size
        (582, 118)
    """
    shown = images.reshape(-1, *size).clamp(0, 1)  # Gaussian means may lie a little outside
    columns = min(columns, len(shown))
    missing = -len(shown) % columns
    shown = F.pad(shown, (0, padding, 0, padding, 0, missing), value=_BORDER)
    rows = shown.unflatten(0, (-1, columns)).transpose(1, 2).flatten(2).flatten(0, 1)
    page = F.pad(rows, (padding, 0, padding, 0), value=_BORDER)
    page = page.repeat_interleave(_ZOOM, 0).repeat_interleave(_ZOOM, 1)
    return Image.fromarray(page.mul(255).round().to("cpu", torch.uint8).numpy())


def _save_tiles(
    path: Path, images: Tensor, size: tuple[int, int], *, columns: int, padding: int = 1
) -> None:
    with replacing(path) as file:
        tiles(images, size, columns=columns, padding=padding).save(file, format="PNG")


def _save_figure(path: Path, figure: Figure) -> None:
    FigureCanvasAgg(figure)
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=120)
