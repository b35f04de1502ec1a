"""A small VAE in numbers of 80 digits: forward pass, backward pass, Adam, and a whole training."""

import math
import random
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import mpmath

from vae_ref.conformance.vectors.quantities import half, sigmoid, softplus
from vae_ref.conformance.vectors.rounded import Rounded, exp, number, sqrt, total

__all__ = [
    "ADAM",
    "LAYERS",
    "POINTS",
    "Matrix",
    "Numbers",
    "adam",
    "adam_by_sums",
    "backward",
    "forward",
    "inputs_of_step",
    "inputs_of_training",
    "training",
]

Matrix = list[list[Rounded]]
Numbers = dict[str, Matrix]
"""Matrices by name; a bias is a matrix of one row."""

LAYERS = ("encoder", "mu", "logvar", "decoder", "output")
ADAM = {"rate": "0.001", "beta1": "0.9", "beta2": "0.999", "epsilon": "1e-8"}

POINTS = (1, 2, 3, 5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 400, 500, 600, 700, 800, 900, 1000)
"""The steps of the training whose losses are given."""

EXAMPLES, BATCH, PIXELS, HIDDEN, LATENTS = 32, 4, 7, 6, 2
"""The sizes of the training; a step alone has 3 examples of 5 pixels, and 4 hidden units."""

_GRAIN = 64


def _layer(x: Matrix, weight: Matrix, bias: Matrix) -> Matrix:
    return [
        [
            total([b, *(w * v for w, v in zip(row, one, strict=True))])
            for row, b in zip(weight, bias[0], strict=True)
        ]
        for one in x
    ]


def _each(f: Callable[..., Rounded], *matrices: Matrix) -> Matrix:
    return [
        [f(*place) for place in zip(*rows, strict=True)] for rows in zip(*matrices, strict=True)
    ]


def _relu(x: Rounded) -> Rounded:
    return x if x.value > 0 else number(0)


def forward(
    weights: Numbers,
    x: Matrix,
    eps: Matrix,
    *,
    layer: Callable[[Matrix, Matrix, Matrix], Matrix] = _layer,
) -> Numbers:
    """Return all values of a step, by name, down to the loss: the mean over the examples.

    Args:
        weights: The weights, by name.
        x: The images.
        eps: The noise.
        layer: Computes a layer from its inputs, weights and biases.
    """

    def through(name: str, inputs: Matrix) -> Matrix:
        return layer(inputs, weights[f"{name}.weight"], weights[f"{name}.bias"])

    found = {"hidden": _each(_relu, through("encoder", x))}
    found["mu"] = through("mu", found["hidden"])
    found["logvar"] = through("logvar", found["hidden"])
    found["z"] = _each(lambda m, v, e: m + e * exp(half(v)), found["mu"], found["logvar"], eps)
    found["decoded"] = _each(_relu, through("decoder", found["z"]))
    found["logits"] = through("output", found["decoded"])
    terms = _each(lambda a, b: softplus(a) - b * a, found["logits"], x)
    kls = _each(lambda m, v: half(m * m + exp(v) - 1 - v), found["mu"], found["logvar"])
    found["reconstruction"] = [[total(row) for row in terms]]
    found["kl"] = [[total(row) for row in kls]]
    whole = total([*found["reconstruction"][0], *found["kl"][0]])
    found["loss"] = [[whole / len(x)]]
    return found


def _transposed(a: Matrix) -> Matrix:
    return [list(column) for column in zip(*a, strict=True)]


def _product(a: Matrix, b: Matrix) -> Matrix:
    return [
        [total(x * y for x, y in zip(row, column, strict=True)) for column in zip(*b, strict=True)]
        for row in a
    ]


def backward(
    weights: Numbers,
    x: Matrix,
    eps: Matrix,
    found: Numbers,
    *,
    product: Callable[[Matrix, Matrix], Matrix] = _product,
    by_weight: bool = True,
) -> Numbers:
    """Return the slopes of the loss, by the name of the weight, by the chain rule.

    Args:
        weights: The weights, by name.
        x: The images.
        eps: The noise.
        found: What `forward` returned.
        product: Multiplies slopes by weights.
        by_weight: Whether to return the slopes by the weights, too, and not by the biases alone.
    """
    count, slopes = len(x), Numbers()

    def back(name: str, inputs: Matrix, slope: Matrix) -> Matrix:
        if by_weight:
            slopes[f"{name}.weight"] = _product(_transposed(slope), inputs)
        slopes[f"{name}.bias"] = [[total(column) for column in zip(*slope, strict=True)]]
        return product(slope, weights[f"{name}.weight"])

    def through(values: Matrix, slope: Matrix) -> Matrix:
        return _each(lambda v, s: s if v.value > 0 else number(0), values, slope)

    outputs = _each(lambda a, b: (sigmoid(a) - b) / count, found["logits"], x)
    decoded = through(found["decoded"], back("output", found["decoded"], outputs))
    z = back("decoder", found["z"], decoded)
    mu = _each(lambda s, m: s + m / count, z, found["mu"])
    logvar = _each(
        lambda s, e, v: s * e * exp(half(v)) / 2 + half(exp(v) - 1) / count,
        z,
        eps,
        found["logvar"],
    )
    of_mu, of_logvar = back("mu", found["hidden"], mu), back("logvar", found["hidden"], logvar)
    hidden = through(found["hidden"], _each(lambda a, b: a + b, of_mu, of_logvar))
    back("encoder", x, hidden)
    return slopes


def adam(weights: Numbers) -> Generator[Numbers, Numbers, None]:
    """Take steps of Adam (Kingma and Ba 2015, algorithm 1): send slopes, receive weights."""
    rate, beta1, beta2, epsilon = (Rounded(mpmath.mpf(value)) for value in ADAM.values())
    zero = {name: _each(lambda w: number(0), w) for name, w in weights.items()}
    first, second, step = zero, zero, 0
    slopes = yield weights
    while True:
        step += 1
        bias1, bias2 = 1 - _power(beta1, step), 1 - _power(beta2, step)
        first = _all(lambda m, g: beta1 * m + (1 - beta1) * g, first, slopes)
        second = _all(lambda v, g: beta2 * v + (1 - beta2) * g * g, second, slopes)
        weights = _all(
            lambda w, m, v, a=bias1, b=bias2: w - rate * (m / a) / (sqrt(v / b) + epsilon),
            weights,
            first,
            second,
        )
        slopes = yield weights


def _power(x: Rounded, n: int) -> Rounded:
    return Rounded(x.value**n, 1)


def _all(f: Callable[..., Rounded], *numbers: Numbers) -> Numbers:
    return {name: _each(f, *(part[name] for part in numbers)) for name in numbers[0]}


def adam_by_sums(weights: Numbers, history: Sequence[Numbers]) -> Numbers:
    """Return the weights after the steps of a history; the averages are sums over all of it."""
    rate, beta1, beta2, epsilon = (mpmath.mpf(value) for value in ADAM.values())
    found = {name: [[w.value for w in row] for row in rows] for name, rows in weights.items()}
    for t in range(1, len(history) + 1):
        decay1, decay2 = ([b ** (t - 1 - i) for i in range(t)] for b in (beta1, beta2))
        for name, rows in found.items():
            for i, row in enumerate(rows):
                for j in range(len(row)):
                    g = [slopes[name][i][j].value for slopes in history[:t]]
                    mean = mpmath.fdot(decay1, g) / mpmath.fsum(decay1)
                    square = mpmath.fdot(decay2, [s * s for s in g]) / mpmath.fsum(decay2)
                    row[j] -= rate * mean / (mpmath.sqrt(square) + epsilon)
    return {name: [[number(w) for w in row] for row in rows] for name, rows in found.items()}


# The numbers that are given.


def _grains(rng: random.Random, spread: float, rows: int, columns: int) -> list[list[float]]:
    """Draw normal numbers as multiples of 1/64."""
    return [
        [round(rng.gauss(0, spread) * _GRAIN) / _GRAIN for _ in range(columns)]
        for _ in range(rows)
    ]


Given = dict[str, list[list[float]]]


def _weights(rng: random.Random, pixels: int, hidden: int, latents: int) -> Given:
    sizes = ((hidden, pixels), (latents, hidden), (latents, hidden), (hidden, latents))
    found: Given = {}
    for name, (rows, columns) in zip(LAYERS, (*sizes, (pixels, hidden)), strict=True):
        found[f"{name}.weight"] = _grains(rng, 0.8 / math.sqrt(columns), rows, columns)
        found[f"{name}.bias"] = _grains(rng, 0.2, 1, rows)
    return found


def inputs_of_step() -> Given:
    """Return the weights, the images and the noise of one step."""
    rng, pixels = random.Random("step"), 5
    return {
        **_weights(rng, pixels, 4, LATENTS),
        "x": [[rng.randint(0, _GRAIN) / _GRAIN for _ in range(pixels)] for _ in range(3)],
        "eps": _grains(rng, 1, 3, LATENTS),
    }


def inputs_of_training() -> Given:
    """Return the weights, the images, the order of the examples and the noise of 1,000 steps."""
    rng, steps = random.Random("training"), POINTS[-1]
    found = _weights(rng, PIXELS, HIDDEN, LATENTS)
    shades = [[rng.random() for _ in range(PIXELS)] for _ in range(3)]
    found["images"] = [
        [round(min(1, max(0, s + rng.gauss(0, 0.1))) * _GRAIN) / _GRAIN for s in shades[i % 3]]
        for i in range(EXAMPLES)
    ]
    order: list[list[float]] = []
    while len(order) < steps:
        drawn = rng.sample(range(EXAMPLES), EXAMPLES)
        order += [[float(n) for n in drawn[i : i + BATCH]] for i in range(0, EXAMPLES, BATCH)]
    found["rows"] = order[:steps]
    found["eps"] = _grains(rng, 1, steps * BATCH, LATENTS)
    return found


def as_numbers(given: Given, names: Sequence[str]) -> Numbers:
    """Return given numbers as numbers that are exact."""
    return {name: [[number(n) for n in row] for row in given[name]] for name in names}


def training(given: Given) -> Iterator[tuple[Any, Numbers]]:
    """Train; yield the loss of each step before it, and the weights after it."""
    names = [name for name in given if name.partition(".")[0] in LAYERS]
    weights = as_numbers(given, names)
    images, eps = (as_numbers(given, [name])[name] for name in ("images", "eps"))
    steps = adam(weights)
    next(steps)
    for index, rows in enumerate(given["rows"]):
        x = [images[int(row)] for row in rows]
        noise = eps[index * len(rows) : (index + 1) * len(rows)]
        found = forward(weights, x, noise)
        slopes = backward(weights, x, noise, found)
        weights = _exact(steps.send(slopes))
        yield found["loss"][0][0].value, weights


def _exact(numbers: Numbers) -> Numbers:
    """Forget the rounding errors, which would only grow."""
    return {name: _each(lambda w: number(w.value), rows) for name, rows in numbers.items()}
