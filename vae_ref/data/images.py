"""A set of images, kept as bytes: a pixel is converted when its batch is made."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from vae_ref.shapes import ImageBytes, Labels, Order, Pixels
from vae_ref.support.errors import InputError, UserError

__all__ = ["DataError", "ImageSet"]


class DataError(UserError):
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

    def __getitem__(self, position: int) -> tuple[Pixels, int]:
        """Return one image in [0, 1] and its label, as a torch data set does."""
        return self.batch(torch.tensor([position]))[0], int(self.labels[position])

    def batch(self, index: Order, dtype: torch.dtype = torch.float32) -> Pixels:
        """Return the chosen images as floating-point pixels in [0, 1]."""
        return self.images[index].to(dtype).div_(255)

    def to(self, device: torch.device | str) -> "ImageSet":
        """Return the set with its images resident on a device."""
        return replace(self, images=self.images.to(device))
