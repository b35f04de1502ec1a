"""Load MNIST and Fashion-MNIST from files in the IDX format."""

import hashlib
import math
import os
import struct
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vae_ref.data.images import DataError, ImageSet

__all__ = ["fashion_mnist", "mnist"]


def mnist(root: str | os.PathLike[str], *, train: bool, download: bool = False) -> ImageSet:
    """Load MNIST from a torchvision root, the directory that holds ``MNIST/raw``.

    Args:
        root: The directory.
        train: The 60,000 training images, or the 10,000 test images.
        download: Whether to fetch what is missing, with a progress bar.

    Raises:
        DataError: If a file is missing, cannot be fetched, is truncated, corrupted, or larger
            than 100 MB or 1,000,000 examples.
        OSError: If a file cannot be read.
    """
    return _load("MNIST", Path(root), train=train, download=download, digests=_MNIST_DIGESTS)


def fashion_mnist(
    root: str | os.PathLike[str], *, train: bool, download: bool = False
) -> ImageSet:
    """Load Fashion-MNIST from a torchvision root, the directory that holds ``FashionMNIST/raw``.

    Args:
        root: The directory.
        train: The 60,000 training images, or the 10,000 test images.
        download: Whether to fetch what is missing, with a progress bar.

    Raises:
        DataError: If a file is missing, cannot be fetched, is truncated, corrupted, or larger
            than 100 MB or 1,000,000 examples.
        OSError: If a file cannot be read.
    """
    return _load("FashionMNIST", Path(root), train=train, download=download, digests={})


_MOST_BYTES, _MOST_EXAMPLES = 100_000_000, 1_000_000  # MNIST has 47,040,016 and 60,000

# MD5 of the uncompressed files. (Those of the archives are torchvision's, checked on download.)
_MNIST_DIGESTS = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def _load(
    name: str, root: Path, *, train: bool, download: bool, digests: Mapping[str, str]
) -> ImageSet:
    folder = root / name / "raw"
    split = "train" if train else "t10k"
    files = [folder / f"{split}-images-idx3-ubyte", folder / f"{split}-labels-idx1-ubyte"]
    if not all(file.is_file() for file in files):
        if not download:
            raise DataError(f"{name} is not in {root} (no {folder}).")
        _download(name, root, folder)
    images, labels = (
        _read_idx(file, axes, digests.get(file.name))
        for file, axes in zip(files, (3, 1), strict=True)
    )
    if len(images) != len(labels):
        raise DataError(f"{folder} is corrupted: {len(images)} images, {len(labels)} labels.")
    if labels.max() > 9:
        raise DataError(
            f"{files[1]} is corrupted: it has a label {labels.max()}, above 9. "
            f"Delete {files[1]} and fetch it again."
        )
    height, width = images.shape[1:]
    return ImageSet(images.flatten(1), labels.long(), (height, width))


def _download(name: str, root: Path, folder: Path) -> None:
    """Have torchvision fetch, verify and unpack the archives."""
    from torchvision import datasets  # a second to import, and of no other use here

    existed = root.exists()
    try:
        getattr(datasets, name)(root, download=True)
    except (RuntimeError, OSError) as error:
        for made in (folder, folder.parent, *(() if existed else (root,))):
            with suppress(OSError):  # only what is empty goes
                made.rmdir()
        reason = next((line for line in reversed(str(error).splitlines()) if line), repr(error))
        raise DataError(
            f"{name} is not in {root} and could not be downloaded ({reason})."
        ) from error


def _read_idx(file: Path, axes: int, digest: str | None) -> Tensor:
    """Read a file of bytes in the IDX format, and check it against all that is known of it.

    The header is two zeros, the type (8 for bytes), the number of axes, then four bytes for the
    length of each axis.
    """
    again = f"Delete {file} and fetch it again."
    with file.open("rb") as stream:
        header, length = stream.read(4 + 4 * axes), stream.seek(0, os.SEEK_END)
    if header[:4] != bytes([0, 0, 8, axes]) or len(header) < 4 + 4 * axes:
        raise DataError(f"{file} is corrupted: it is not an IDX file with {axes} axes. {again}")
    sizes = struct.unpack_from(f">{axes}I", header, 4)
    if length != len(header) + math.prod(sizes):
        raise DataError(
            f"{file} is truncated or corrupted: it has {length} bytes, "
            f"and its header announces {len(header) + math.prod(sizes)}. {again}"
        )
    if 0 in sizes:
        raise DataError(f"{file} is empty: its sizes are {', '.join(map(str, sizes))}. {again}")
    if length > _MOST_BYTES or sizes[0] > _MOST_EXAMPLES:
        raise DataError(
            f"{file} is too large: it has {sizes[0]} examples in {length} bytes; at most "
            f"{_MOST_EXAMPLES:,} in {_MOST_BYTES:,} are read. {again}"
        )
    content = np.fromfile(file, np.uint8)
    archive = file.with_name(f"{file.name}.gz")  # which torchvision verified and leaves there
    if digest:
        intact = hashlib.md5(content.data, usedforsecurity=False).hexdigest() == digest
    else:
        intact = not archive.is_file() or _crc_in(archive) == zlib.crc32(content.data)
    if not intact:
        raise DataError(f"{file} is corrupted: it has the wrong checksum. {again}")
    return torch.from_numpy(content[len(header) :]).view(sizes)


def _crc_in(archive: Path) -> int:
    """Return the checksum of its content that a gzip archive ends with."""
    with archive.open("rb") as stream:
        stream.seek(max(stream.seek(0, os.SEEK_END) - 8, 0))
        return int.from_bytes(stream.read(4), "little")
