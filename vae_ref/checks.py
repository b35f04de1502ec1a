"""Check arguments; errors name the argument, the rule, the value and the remedy."""

import contextlib
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TypeGuard

import torch
from torch import Tensor

from vae_ref.support.errors import InputError

__all__ = [
    "InputError",
    "is_integer",
    "is_number",
    "require_extends",
    "require_finite",
    "require_in_unit_interval",
    "require_pixels",
    "require_positive",
    "require_positive_integer",
    "require_same_batch",
    "require_same_shape",
    "unchecked",
]

_CHECKED = ContextVar("checked", default=True)


@contextlib.contextmanager
def unchecked() -> Iterator[None]:
    """Skip the checks of tensor *values*; the checks of shapes cost nothing and are made.

    This is for engines, whose data have been checked as a whole. On a GPU, a look at a value would
    make the host wait for the device in every step.
    """
    token = _CHECKED.set(False)
    try:
        yield
    finally:
        _CHECKED.reset(token)


def require_same_shape(**tensors: Tensor) -> None:
    """Raise `InputError` unless all tensors have the same shape; nothing is broadcast."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1:
        names, got = " and ".join(shapes), ", ".join(f"{n} {s}" for n, s in shapes.items())
        raise InputError(names, "have the same shape", got, "Shapes are never broadcast here.")


def require_same_batch(**tensors: Tensor) -> None:
    """Raise `InputError` unless all axes of the tensors but the last are the same."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len({shape[:-1] for shape in shapes.values()}) > 1:
        names, got = " and ".join(shapes), ", ".join(f"{n} {s}" for n, s in shapes.items())
        raise InputError(names, "have the same batch", got, "Pass tensors of one batch.")


def require_pixels(name: str, flat: Tensor, count: int, given: Tensor) -> None:
    """Raise `InputError` unless every example has ``count`` pixels.

    Args:
        name: The name of the argument.
        flat: The examples, flattened.
        count: The number of pixels that each must have.
        given: The examples as they were given, for the message.
    """
    if flat.shape[-1:] != (count,):
        raise InputError(
            name,
            f"have {count} pixels per example",
            tuple(given.shape),
            "Resize the images, or build the model with their number of pixels as input_dim.",
        )


def is_integer(value: object) -> TypeGuard[int]:
    """Whether a value is an integer; a bool is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a number that a float can hold; NaN, infinity and a bool are none."""
    return (is_integer(value) or isinstance(value, float)) and abs(value) <= sys.float_info.max


def require_positive_integer(name: str, value: object) -> None:
    """Raise `InputError` unless ``value`` is an integer of at least 1."""
    if not is_integer(value) or value < 1:
        raise InputError(name, "be a positive integer", value, "Use 1 or more.")


def require_extends(name: str, tensor: Tensor, base_name: str, base: Tensor) -> None:
    """Raise `InputError` unless ``tensor`` has the shape of ``base``, or more leading axes."""
    got, expected = tuple(tensor.shape), tuple(base.shape)
    if got[max(len(got) - len(expected), 0) :] != expected:
        raise InputError(
            name,
            f"have the shape of {base_name}, {expected}, after any additional leading axes",
            got,
            "Only additional leading axes, for several draws per example, are broadcast.",
        )


def require_finite(name: str, tensor: Tensor) -> None:
    """Raise `InputError` if an element is infinite or not a number."""
    if _CHECKED.get() and not bool(torch.isfinite(tensor).all()):
        raise InputError(
            name,
            "be finite",
            _first(tensor, ~torch.isfinite(tensor)),
            "Look for a division by zero, a logarithm of zero or an overflow upstream.",
        )


_PIXELS = (
    "Divide 8-bit pixels by 255 and leave out any normalisation; "
    "for data that are not in [0, 1] use the Gaussian likelihood."
)


def require_in_unit_interval(name: str, tensor: Tensor, remedy: str = _PIXELS) -> None:
    """Raise `InputError` unless every element lies in [0, 1]."""
    if not tensor.is_floating_point():
        raise InputError(
            name,
            "be a floating-point tensor",
            tensor.dtype,
            "Divide 8-bit pixels by 255, as torchvision's ToTensor does.",
        )
    if not _CHECKED.get() or not tensor.numel():
        return
    low, high = torch.aminmax(tensor)
    if not (low >= 0 and high <= 1):  # false for NaN too
        raise InputError(
            name,
            "lie in [0, 1]",
            _first(tensor, ~((tensor >= 0) & (tensor <= 1))),
            remedy,
        )


def require_positive(name: str, tensor: Tensor) -> None:
    """Raise `InputError` unless every element is positive and finite."""
    right = (tensor > 0) & torch.isfinite(tensor)
    if _CHECKED.get() and not bool(right.all()):
        raise InputError(
            name,
            "be positive and finite",
            _first(tensor, ~right),
            "Pass a variance, sigma**2, neither its logarithm nor zero.",
        )


def _first(tensor: Tensor, wrong: Tensor) -> str:
    """Describe the first element that is wrong."""
    if not tensor.ndim:
        return str(tensor.item())
    index = tuple(wrong.nonzero()[0].tolist())
    return f"{tensor[index].item()} at index {index}"
