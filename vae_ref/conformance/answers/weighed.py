"""Recognise losses that are meant to favour some pixels: weighed by the data, or focal."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["weighed_loss"]

_SAME = 1e-6
_GAMMAS = (1e-2, 20.0)


def _of_probabilities(outputs: Tensor) -> tuple[Tensor, Tensor]:
    return outputs, torch.ones_like(outputs)


def _of_logits(outputs: Tensor) -> tuple[Tensor, Tensor]:
    p = torch.sigmoid(outputs)
    return p, p * (1 - p)


_READINGS = (_of_probabilities, _of_logits)
"""What outputs may be: each gives the probabilities p and the derivatives dp/doutputs."""

_SLOPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "a squared error": lambda o, x: o - x,
    "a cross-entropy": lambda p, x: (p - x) / (p * (1 - p)),
    "a cross-entropy of logits": lambda o, x: torch.sigmoid(o) - x,
}
"""The derivatives of losses of a pixel, up to a factor."""


def weighed_loss(
    nll: Callable[[Tensor, Tensor], Tensor], draw: Callable[[str, int, int], Tensor], pixels: int
) -> str:
    """Return which weighed loss a reconstruction term is for data of 0 and 1, if it is one.

    A weight may depend on all of the data, such as on how many pixels are black; but not on the
    outputs. Weights that are the same whatever the data are make no such loss. A focal loss is
    -(1 - p_x)^gamma log p_x, where p_x is the probability of the pixel's own value; a pixel of 0
    may have another weight than one of 1 (Lin et al., Focal Loss for Dense Object Detection,
    2017).

    Args:
        nll: ``(outputs, x)`` -> a sum over pixels, or a mean of it.
        draw: ``(name, rows, columns)`` -> numbers in [0, 1).
        pixels: How many pixels an image has.
    """
    x = draw("weighed x", 4, pixels).round()
    outputs, others = (
        0.05 + 0.9 * draw(f"weighed {name}", 4, pixels) for name in ("outputs", "others")
    )

    def slopes(outputs: Tensor, x: Tensor = x) -> Tensor:
        free = outputs.detach().clone().requires_grad_()
        (found,) = torch.autograd.grad(nll(free, x).sum(), free)
        return found.double()

    try:
        given, again, flipped = slopes(outputs), slopes(others), slopes(outputs, 1 - x)
    except (RuntimeError, ValueError, IndexError):
        return ""  # such outputs are none, or have no gradient

    for name, slope in _SLOPES.items():
        weights = given / slope(outputs, x)
        unweighed = _equal(weights, flipped / slope(outputs, 1 - x))
        same = _equal(weights, again / slope(others, x))
        if (weights > 0).all() and same and not unweighed:
            return f"{name} that is weighed by the data"
    for reading in _READINGS:
        p, inner = (part.double() for part in reading(outputs))
        if gamma := _gamma(given / inner, torch.where(x == 1, p, 1 - p), x == 1):
            return f"a focal loss with gamma {gamma:.4g}"
    return ""


def _focal(p: Tensor, gamma: float) -> Tensor:
    """Return the derivative of (1 - p)^gamma log p."""
    return (1 - p) ** gamma / p - gamma * (1 - p) ** (gamma - 1) * p.log()


def _gamma(slopes: Tensor, p: Tensor, white: Tensor) -> float | None:
    """Return the gamma of the focal loss that has these slopes, if there is one.

    Args:
        slopes: The derivatives with respect to the probability of a white pixel.
        p: The probability of each pixel's own value.
        white: Which pixels are white.
    """
    from scipy.optimize import brentq  # half a second, and few programs need it

    slopes = torch.where(white, -slopes, slopes)
    least, most = p[white].argmin(), p[white].argmax()
    ends = torch.stack([p[white][least], p[white][most]])
    ratio = slopes[white][most] / slopes[white][least]
    if not ((slopes > 0) & slopes.isfinite()).all():
        return None

    def excess(log_gamma: float) -> float:
        low, high = _focal(ends, math.exp(log_gamma))
        return math.log(high / low / ratio)

    low, high = map(math.log, _GAMMAS)
    if excess(low) * excess(high) >= 0:
        return None
    gamma = math.exp(brentq(excess, low, high, xtol=1e-13))
    weights = slopes / _focal(p, gamma)
    classes = (weights[white], weights[~white])
    return gamma if all(_equal(part, part[:1]) for part in classes) else None


def _equal(a: Tensor, b: Tensor) -> bool:
    return bool(((a - b).abs() <= _SAME * b.abs()).all())
