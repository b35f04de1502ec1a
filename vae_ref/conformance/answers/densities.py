"""Log densities of likelihood families, as terms to be added up, in NumPy and SciPy.

They are analytic in the parameters, so that a step along the imaginary axis differentiates them
without cancellation: f'(t) = Im f(t + ih) / h. The shapes are those of x, ``(..., pixels)``;
where there are classes or components, parameters have one more axis, the last.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

__all__ = [
    "Array",
    "Terms",
    "categorical",
    "gaussian",
    "laplace",
    "log_softmax",
    "logistic",
    "mixture",
    "multinomial",
    "negative_binomial",
    "poisson",
    "size",
    "slopes",
    "student",
    "zero_inflated",
]

Array = NDArray[Any]
Terms = tuple[Array, ...]

_lgamma = special.loggamma  # which takes complex numbers too


def gaussian(x: Array, mean: Array, sigma: Array) -> Terms:
    """Return the terms of log N(x; mean, sigma^2)."""
    constant = np.full(x.shape, -0.5 * math.log(2 * math.pi))
    return constant, -np.log(sigma), -0.5 * np.square((x - mean) / sigma)


def laplace(x: Array, mean: Array, scale: Array) -> Terms:
    """Return the terms of the log density of a Laplace distribution."""
    d = x - mean
    return -np.log(2 * scale), -np.where(d.real < 0, -d, d) / scale


def student(x: Array, mean: Array, scale: Array, degrees: Array) -> Terms:
    """Return the terms of the log density of Student's t, moved and stretched."""
    half = degrees / 2
    power = -(half + 0.5) * np.log1p(np.square((x - mean) / scale) / degrees)
    constant = -0.5 * np.log(math.pi * degrees)
    return _lgamma(half + 0.5), -_lgamma(half), constant, -np.log(scale), power


def _log_sigmoid(t: Array) -> Array:
    negative = t.real < 0
    return np.where(negative, t, 0) - np.log1p(np.exp(np.where(negative, t, -t)))


def logistic(
    x: Array, mean: Array, scale: Array, *, low: float, high: float, levels: int
) -> Terms:
    """Return the log probability of a level: what a logistic distribution has around it.

    sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)), which does not cancel. The
    first and the last level have all that is beyond.
    """
    half = (high - low) / (levels - 1) / 2
    above, below = (x + half - mean) / scale, (x - half - mean) / scale
    width = np.log(-np.expm1(-2 * half / scale)) + 0 * above
    first, last = x.real < low + half, x.real > high - half
    return (
        np.where(last, 0, _log_sigmoid(above)),
        np.where(first, 0, _log_sigmoid(-below)),
        np.where(first | last, 0, width),
    )


def _log_sum_exp(a: Array) -> Array:
    largest = a.real.max(-1, keepdims=True)
    total: Array = np.log(np.exp(a - largest).sum(-1)) + largest[..., 0]
    return total


def log_softmax(a: Array) -> Array:
    """Return the logarithms of the softmax over the last axis."""
    return a - _log_sum_exp(a)[..., None]


def mixture(x: Array, logits: Array, mean: Array, scale: Array, **levels: Any) -> Terms:
    """Return the log probability of a level under a mixture of `logistic` distributions."""
    components = sum(logistic(x[..., None], mean, scale, **levels))
    return (_log_sum_exp(log_softmax(logits) + components),)


def poisson(x: Array, rate: Array) -> Terms:
    """Return the terms of the log probability of a count."""
    return x * np.log(rate), -rate + 0 * x, -_lgamma(x + 1)


def negative_binomial(x: Array, mean: Array, theta: Array) -> Terms:
    """Return the terms for a mean and an inverse dispersion: the variance is mean + mean^2/theta.

    It is Poisson's, with a rate that is drawn from a Gamma distribution of shape theta.
    """
    coefficient = _lgamma(x + theta), -_lgamma(theta) + 0 * x, -_lgamma(x + 1)
    zero = -theta * np.log1p(mean / theta)
    return *coefficient, zero, x * (np.log(mean) - np.log(theta + mean))


def zero_inflated(x: Array, mean: Array, theta: Array, gate: Array) -> Terms:
    """Return the terms for a count that is 0 by itself with probability ``gate``."""
    zero = np.log(gate + (1 - gate) * np.exp(-theta * np.log1p(mean / theta)))
    own = x.real == 0
    terms = negative_binomial(x, mean, theta)
    return np.where(own, zero, np.log(1 - gate)), *(np.where(own, 0, term) for term in terms)


def categorical(x: Array, logits: Array) -> Terms:
    """Return the log probability of a class."""
    labels = x.real.astype(int)[..., None]
    return (np.take_along_axis(log_softmax(logits), labels, -1)[..., 0],)


def multinomial(x: Array, logits: Array) -> Terms:
    """Return the terms of the log probability of counts of classes, which are the last axis."""
    total = np.zeros(x.shape)
    total[..., 0] = special.gammaln(x.sum(-1) + 1)
    return total, -_lgamma(x + 1), x * log_softmax(logits)


def slopes(density: Any, x: Array, parameters: Sequence[Array], *, whole: bool) -> list[Array]:
    """Return the derivatives of the log density by every number of every parameter.

    A number that pixels or examples share gets the sum over them.

    Args:
        density: The terms of the log density.
        x: The data.
        parameters: The parameters.
        whole: Whether the numbers of an example are one draw, not independent pixels.
    """
    found = []
    for index, parameter in enumerate(parameters):
        listed = whole or parameter.ndim > x.ndim
        columns = range(parameter.shape[-1]) if listed else [slice(None)]
        slope = np.zeros(parameter.shape)
        for column in columns:
            moved = parameter.astype(complex)
            moved[..., column] += 1e-30j
            given = [*parameters[:index], moved, *parameters[index + 1 :]]
            each = sum(density(x, *given)).imag * 1e30
            each = each.sum(-1) if whole else np.broadcast_to(each, x.shape)
            shape = parameter.shape[:-1] if listed else parameter.shape
            shared = tuple(a for a, size in enumerate(shape) if size < each.shape[a])
            slope[..., column] = each.sum(shared, keepdims=True)
        found.append(slope)
    return found


def size(density: Any, x: Array, parameters: Sequence[Array]) -> Array:
    """Return the size of what is added up, per example, and its change if an input is rounded."""
    terms = density(x, *parameters)
    total: Array = np.ones(len(x))
    for term in terms:
        total = total + _per_example(np.abs(term))
    for index, parameter in enumerate(parameters):
        moved = parameter * (1 + 1e-30j)
        given = [*parameters[:index], moved, *parameters[index + 1 :]]
        for term in density(x, *given):
            total = total + _per_example(np.abs(term.imag)) * 1e30
    return total


def _per_example(a: Array) -> Array:
    total: Array = a.reshape(len(a), -1).sum(1)
    return total
