"""A trained VAE of 784 pixels: what it answers to a few images, in numbers of 80 digits, twice.

The weights are multiples of 1/4096, so every program can hold them without rounding. Here they are
arrays: a number with its rounding errors for each of 652,824 weights would take minutes.
"""

import functools
import itertools
import math
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
from numpy.typing import NDArray

from vae_ref.conformance.vectors.network import LAYERS, Given, Matrix, Numbers, backward, forward
from vae_ref.conformance.vectors.rounded import DIGITS, Rounded, number

__all__ = ["FILE", "GRAIN", "answers", "answers_again", "inputs", "read_weights"]

FILE = Path(__file__).parent / "files" / "trained-network.safetensors"
GRAIN = 4096
"""The weights are multiples of one over this."""

Weights = Mapping[str, NDArray[Any]]
"""The weights by name, in units of 1/4096: whole numbers of Python, exact in every product."""


@functools.cache
def read_weights() -> Weights:
    """Read the weights, once."""
    from safetensors.numpy import load_file

    found = {}
    for name, array in load_file(FILE).items():
        whole = array.astype(np.float64) * GRAIN
        if not np.array_equal(whole, np.rint(whole)):
            raise ArithmeticError(f"{name} has a number that is no multiple of 1/{GRAIN}")
        found[name] = whole.astype(np.int64).astype(object)
    return found


def _whole(number: Any, bits: int) -> int:
    """Return a number in units of 2**-bits, rounded."""
    return int(mpmath.nint(mpmath.ldexp(number, bits)))


def _real(whole: int, bits: int) -> Any:
    return mpmath.ldexp(mpmath.mpf(whole), -bits)


_EXAMPLES, _LATENTS, _SIDE, _SHADES = 3, 20, 28, 64


def inputs() -> Given:
    """Return three images, each with a stroke of two bends, and the noise."""
    rng = random.Random("trained network")
    images = [
        [stroke(row, column) for row in range(_SIDE) for column in range(_SIDE)]
        for stroke in [_stroke(rng) for _ in range(_EXAMPLES)]
    ]
    noise = [[round(rng.gauss(0, 1) * 64) / 64 for _ in range(_LATENTS)] for _ in images]
    return {"x": images, "eps": noise}


def _stroke(rng: random.Random) -> Callable[[int, int], float]:
    """Return the shades of a line through four points, about three pixels wide."""
    corners = [complex(rng.uniform(6, 22), rng.uniform(6, 22)) for _ in range(4)]

    def shade(row: int, column: int) -> float:
        at, nearest = complex(column, row), math.inf
        for a, b in itertools.pairwise(corners):
            along = ((at - a) * (b - a).conjugate()).real / abs(b - a) ** 2
            nearest = min(nearest, abs(a + min(1, max(0, along)) * (b - a) - at))
        return round(min(1, max(0, 2 - nearest)) * _SHADES) / _SHADES

    return shade


# One way: the formulas of `network`, with numbers of 80 digits that know their rounding errors.


def answers(given: Given) -> tuple[Numbers, Numbers]:
    """Return all values of a step, and the slopes of the loss by the biases."""
    weights: Any = read_weights()
    x, eps = ([[number(n) for n in row] for row in given[name]] for name in ("x", "eps"))
    with mpmath.workdps(DIGITS):
        found = forward(weights, x, eps, layer=_layer)
        slopes = backward(weights, x, eps, found, product=_back, by_weight=False)
    return found, slopes


def _product(matrix: Matrix, weight: NDArray[Any], bias: NDArray[Any] | None = None) -> Matrix:
    """Multiply by weights that are exact; any order of the sum is allowed for, as in `total`.

    Numbers of 80 digits are slow, so whole multiples of 2**-400 are multiplied. Of the scales,
    six digits are written, so double precision will do.
    """
    values = np.array([[_whole(n.value, 400) for n in row] for row in matrix], dtype=object)
    sizes = np.array([[abs(float(n.value)) for n in row] for row in matrix])
    scales = np.array([[float(n.scale) for n in row] for row in matrix])
    of_weight = np.abs(weight).astype(float)
    found, size, additions = values @ weight, sizes @ of_weight, len(weight) - 1
    scale = scales @ of_weight + size
    if bias is not None:
        found, size, additions = found + bias * 2**400, size + abs(bias).astype(float), len(weight)
    scale += additions * size
    return [
        [Rounded(_real(v, 400) / GRAIN, s / GRAIN) for v, s in zip(*rows, strict=True)]
        for rows in zip(found, scale, strict=True)
    ]


def _layer(x: Matrix, weight: Any, bias: Any) -> Matrix:
    return _product(x, weight.T, bias)


def _back(slope: Matrix, weight: Any) -> Matrix:
    return _product(slope, weight)


# The other way: whole numbers, other formulas, and a difference in the place of the chain rule.

_BITS = 1200
"""All numbers are multiples of 2**-1200."""
_STEP = 300
"""The biases are moved by 2**-300; the error of the difference is about the square of that."""


def answers_again(given: Given, slopes: Numbers) -> tuple[dict[str, list[Any]], tuple[Any, Any]]:
    """Return the values of a step by another way.

    Also return the slope of the loss in a direction in which every bias changes by 1, up or down:
    as the numbers ``slopes`` say, and as a difference of two losses says.
    """
    rng = random.Random("direction")
    signs = {name: [rng.choice((-1, 1)) for _ in rows[0]] for name, rows in slopes.items()}
    with mpmath.workprec(_BITS + 100):
        values = _values(given)
        above, below = (
            _values(given, {n: [s * side << _BITS - _STEP for s in d] for n, d in signs.items()})
            for side in (1, -1)
        )
        difference = (above["loss"][0] - below["loss"][0]) * mpmath.mpf(2) ** (_STEP - 1)
        due = mpmath.fsum(
            sign * slope.value
            for name, rows in slopes.items()
            for sign, slope in zip(signs[name], rows[0], strict=True)
        )
        return values, (number(due), difference)


def _values(given: Given, moved: Mapping[str, list[int]] | None = None) -> dict[str, list[Any]]:
    weights = read_weights()

    def real(number: int) -> Any:
        return _real(number, _BITS)

    def layer(name: str, inputs: Any) -> Any:
        bias = weights[f"{name}.bias"] * (2**_BITS // GRAIN)
        if moved:
            bias = bias + np.array(moved[f"{name}.bias"], dtype=object)
        return (inputs @ weights[f"{name}.weight"].T) // GRAIN + bias

    wholes = np.vectorize(lambda n: _whole(n, _BITS), otypes=[object])
    x, eps = (wholes(np.array(given[name])) for name in ("x", "eps"))
    encoder, mu, logvar, decoder, output = LAYERS
    h = np.maximum(layer(encoder, x), 0)
    m, v = layer(mu, h), layer(logvar, h)
    sigma = wholes(np.vectorize(lambda n: mpmath.sqrt(mpmath.exp(real(n))), otypes=[object])(v))
    z = m + (eps * sigma >> _BITS)
    logits = layer(output, np.maximum(layer(decoder, z), 0))

    def bernoulli(logit: int, shade: float) -> Any:
        p = 1 / (1 + mpmath.exp(-real(logit)))
        return -shade * mpmath.log(p) - (1 - shade) * mpmath.log(1 - p)

    def cross_entropy_less_entropy(mean: int, spread: int) -> Any:
        log_2_pi = mpmath.log(2 * mpmath.pi)
        cross = (log_2_pi + real(mean) ** 2 + real(spread) ** 2) / 2
        return cross - (log_2_pi + 1) / 2 - mpmath.log(real(spread))

    terms = [
        [mpmath.fsum(map(f, *rows)) for rows in zip(*arrays, strict=True)]
        for f, arrays in (
            (bernoulli, (logits, given["x"])),
            (cross_entropy_less_entropy, (m, sigma)),
        )
    ]
    named = {"mu": m, "logvar": v, "z": z}
    codes = {name: [real(n) for n in array.flatten()] for name, array in named.items()}
    loss = mpmath.fsum(terms[0] + terms[1]) / len(given["x"])
    return codes | {"reconstruction": terms[0], "kl": terms[1], "loss": [loss]}
