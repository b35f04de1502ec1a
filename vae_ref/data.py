"""Load images, kept as bytes: a pixel is converted when its batch is made."""

import hashlib
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vae_ref.checks import InputError
from vae_ref.shapes import ImageBytes, Labels, Order, Pixels

__all__ = ["DataError", "ImageSet", "fashion_mnist", "mnist"]


class DataError(Exception):
    """Says which data could not be read, why, and what to do about it."""


@dataclass(frozen=True)
class ImageSet:
    """Images in one resident tensor of bytes, with what is known about them.

    Args:
        images: The pixels, 0 to 255, shape ``(examples, pixels)``.
        labels: The class of every image, shape ``(examples,)``.
        size: Height and width.
        factors: Further labels by name, shape ``(examples,)`` each.

    Raises:
        InputError: If the parts do not fit together.

    Example:
        >>> data = ImageSet(torch.full((3, 4), 255, dtype=torch.uint8), torch.arange(3), (2, 2))
        >>> len(data), data.batch(torch.tensor([0, 2]))
        (3, tensor([[1., 1., 1., 1.],
                [1., 1., 1., 1.]]))
    """

    images: ImageBytes
    labels: Labels
    size: tuple[int, int]
    factors: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        height, width = self.size
        if self.images.dtype != torch.uint8 or self.images.shape[1:] != (height * width,):
            raise InputError(
                "images",
                f"be uint8 of shape (examples, {height * width})",
                f"{self.images.dtype} of shape {tuple(self.images.shape)}",
                "Pixels are kept as bytes and divided by 255 in each batch.",
            )
        if self.labels.shape != self.images.shape[:1]:
            raise InputError(
                "labels",
                f"have one entry for each of {len(self.images)} images",
                tuple(self.labels.shape),
                "Pass zeros where there are no labels.",
            )

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, index: Order, dtype: torch.dtype = torch.float32) -> Pixels:
        """Return the chosen images as floating-point pixels in [0, 1]."""
        return self.images[index].to(dtype).div_(255)

    def to(self, device: torch.device | str) -> "ImageSet":
        """Return the set with its images resident on a device."""
        return replace(self, images=self.images.to(device))


def mnist(root: str | os.PathLike[str], *, train: bool, download: bool = False) -> ImageSet:
    """Load MNIST from a torchvision root, the directory that holds ``MNIST/raw``.

    Args:
        root: The directory.
        train: The 60,000 training images, or the 10,000 test images.
        download: Whether to fetch what is missing, with a progress bar.

    Raises:
        DataError: If a file is missing, cannot be fetched, is truncated or corrupted.
    """
    from torchvision.datasets import MNIST

    return _load(MNIST, Path(root), train=train, download=download, digests=_MNIST_DIGESTS)


def fashion_mnist(
    root: str | os.PathLike[str], *, train: bool, download: bool = False
) -> ImageSet:
    """Load Fashion-MNIST from a torchvision root, the directory that holds ``FashionMNIST/raw``.

    Args:
        root: The directory.
        train: The 60,000 training images, or the 10,000 test images.
        download: Whether to fetch what is missing, with a progress bar.

    Raises:
        DataError: If a file is missing, cannot be fetched or is truncated.
    """
    from torchvision.datasets import FashionMNIST

    return _load(FashionMNIST, Path(root), train=train, download=download, digests={})


# MD5 of the uncompressed files. (Those of the archives are torchvision's, checked on download.)
_MNIST_DIGESTS = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def _load(
    dataset: Callable[..., Any],
    root: Path,
    *,
    train: bool,
    download: bool,
    digests: Mapping[str, str],
) -> ImageSet:
    name = dataset.__name__
    folder = root / name / "raw"
    split = "train" if train else "t10k"
    files = [folder / f"{split}-images-idx3-ubyte", folder / f"{split}-labels-idx1-ubyte"]
    if not all(file.is_file() for file in files):
        if not download:
            raise DataError(f"{name} is not in {root} (no {folder}).")
        _download(dataset, root, folder)
    for file in files:
        _check_idx(file, digests.get(file.name))
    loaded = dataset(root, train=train)
    height, width = loaded.data.shape[1:]
    return ImageSet(loaded.data.flatten(1), loaded.targets, (height, width))


def _download(dataset: Callable[..., Any], root: Path, folder: Path) -> None:
    existed = root.exists()
    try:
        dataset(root, download=True)
    except (RuntimeError, OSError) as error:
        for made in (folder, folder.parent, *(() if existed else (root,))):
            with suppress(OSError):  # only what is empty goes
                made.rmdir()
        reason = next((line for line in reversed(str(error).splitlines()) if line), repr(error))
        raise DataError(
            f"{dataset.__name__} is not in {root} and could not be downloaded ({reason})."
        ) from error


def _check_idx(file: Path, digest: str | None) -> None:
    """Compare a file with the size that its own header announces, and with its known digest.

    An IDX header is four bytes, the last of which is the number of axes, then four for each axis.
    """
    content = file.read_bytes()
    axes = content[3] if len(content) > 3 else 0
    header = 4 + 4 * axes
    sizes = [int.from_bytes(content[at : at + 4], "big") for at in range(4, header, 4)]
    expected = header + int(torch.tensor(sizes, dtype=torch.int64).prod())
    again = f"Delete {file} and fetch it again."
    if content[:3] != b"\0\0\x08" or axes not in (1, 3):
        raise DataError(
            f"{file} is corrupted: it does not begin like an IDX file of bytes. {again}"
        )
    if len(content) != expected:
        raise DataError(
            f"{file} is truncated or corrupted: it has {len(content)} bytes, "
            f"and its header announces {expected}. {again}"
        )
    if digest and hashlib.md5(content, usedforsecurity=False).hexdigest() != digest:
        raise DataError(f"{file} is corrupted: its checksum is not {digest}. {again}")
