"""Recognise the likelihood of a multinomial distribution, which no claim knows."""

from collections.abc import Callable

from torch import Tensor

__all__ = ["multinomial"]

_SAME = 1e-4
"""Far more than rounding, relative to what other outputs change, and less than other terms do."""


def multinomial(
    nll: Callable[[Tensor, Tensor], Tensor], draw: Callable[[str, int, int], Tensor], pixels: int
) -> str:
    """Return what a reconstruction term is if it is -sum x log softmax(o), up to a factor.

    It is affine in the data, and a number that is added to all outputs changes nothing (Liang et
    al., Variational Autoencoders for Collaborative Filtering, 2018). No other likelihood that is
    known here is both.

    Args:
        nll: ``(outputs, x)`` -> a sum over pixels, or a mean of it.
        draw: ``(name, rows, columns)`` -> numbers in [0, 1).
        pixels: How many pixels an image has.
    """
    o, x, y = (draw(f"multinomial {name}", 1, pixels) for name in ("outputs", "x", "other x"))
    try:
        first, second, between, shifted, other = (
            float(nll(outputs, data).detach().sum())
            for outputs, data in ((o, x), (o, y), (o, (x + y) / 2), (o + 1, x), (3 * o, x))
        )
    except (RuntimeError, ValueError, IndexError):
        return ""  # such outputs are none
    size = _SAME * abs(other - first)
    is_affine = abs(between - (first + second) / 2) <= size
    is_one = is_affine and abs(shifted - first) <= size and abs(first - second) > size > 0
    return "the likelihood of a multinomial distribution" if is_one else ""
