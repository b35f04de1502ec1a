"""The course of a training: the images, the numbers of epochs, and whose intervals apply."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["TEXTBOOK", "Course"]

Form = tuple[tuple[int, ...], ...]


def form_of(pixels: int, hidden: int, latents: int) -> Form:
    """Return the shapes of the textbook's parameters, sorted."""
    layers = [(hidden, pixels), (latents, hidden), (latents, hidden)]
    layers += [(hidden, latents), (pixels, hidden)]
    return tuple(sorted([*layers, *((rows,) for rows, _ in layers)]))


TEXTBOOK = form_of(784, 400, 20)


@dataclass(frozen=True, kw_only=True)
class Course:
    """What a training needs: images to train on, images to test on, and numbers of epochs.

    Attributes:
        name: Names the intervals that apply, such as ``mnist``; a course of your own has none.
        train: Images, shape ``(n, pixels)``: bytes, or real numbers that are used as they are.
        held_out: Images that nothing is trained on, in the same form.
        labels: The classes of both sets of images, ``(train, held_out)``, for claims about
            classes.
        size: The height and width of an image, for claims about pictures.
        epochs: How many epochs the textbook's training lasts.
        brief: How many epochs every variation of that training lasts.
        milestones: The epochs after which the model is scored.
        importance: How many images are scored by importance weighting, and with how many samples.
        weights: The weights of the KL for which rate and distortion are measured, rising.
        patience: The factor by which the time limits of the claims are multiplied.
        form: The shapes of the parameters for which the intervals were measured, sorted.

    Example:
        >>> course = Course(train=torch.rand(640, 12), held_out=torch.rand(100, 12))
        >>> course.name, course.epochs, course.milestones
        ('', 6, (6,))
    """

    train: Tensor
    held_out: Tensor
    name: str = ""
    labels: tuple[Tensor, Tensor] | None = None
    size: tuple[int, int] | None = None
    epochs: int = 6
    brief: int = 6
    milestones: tuple[int, ...] = (6,)
    importance: tuple[int, int] = (100, 500)
    weights: tuple[float, ...] = (0.25, 1.0, 4.0)
    patience: float = 1.0
    form: Form = TEXTBOOK

    @cached_property
    def x(self) -> Tensor:
        """The held-out images, as numbers in float32."""
        return self.numbers(self.held_out)

    @staticmethod
    def numbers(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return images as numbers: bytes are divided by 255."""
        return images.to(dtype) if images.is_floating_point() else images.to(dtype).div_(255)
