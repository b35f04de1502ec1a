"""The families of likelihoods beyond the textbook's: what they take, and what is known of each."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from scipy import special
from torch import Tensor

from vae_ref.conformance.answers import densities
from vae_ref.conformance.answers.densities import Array, Terms

__all__ = ["CLASSES", "FAMILIES", "LEFT_OUT", "Family", "Support"]

Support = Literal["real", "unit levels", "counts", "classes"]
Canonical = dict[str, Tensor]

CLASSES = 4
"""The number of classes, or of components of a mixture, that are tried."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of likelihoods.

    Attributes:
        name: What it is called.
        support: The values that it gives probability to.
        density: ``(x, *parameters)`` -> the terms of the log density; for levels also what they
            are.
        parameters: The name of each parameter of the density -> a value of it from a uniform
            number; for levels, of levels from 0 to 1.
        spelled: What a program may take -> its value from the parameters by name.
        tried: What a program takes that declares nothing.
        cdf: ``(x, *parameters)`` -> P(X <= x).
        mean: ``(*parameters)`` -> the mean, where there is a closed form.
        left_out: What a program may leave out -> its value from x, per example.
        lists: The parameters that are a list of numbers for each pixel.
    """

    name: str
    support: Support
    density: Callable[..., Terms]
    parameters: dict[str, Callable[[Tensor], Tensor]]
    spelled: dict[str, Callable[[Canonical], Tensor]]
    tried: tuple[tuple[str, ...], ...]
    cdf: Callable[..., Array]
    mean: Callable[..., Array]
    left_out: Mapping[str, Callable[[Array], Array]] = field(default_factory=dict)
    lists: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether the numbers of an example are one draw, not independent pixels."""
        return self.name == "multinomial"

    @property
    def scale(self) -> str:
        """The parameter that a program may have fixed, or may share between pixels."""
        names = ("sigma", "scale", "theta")
        return next((n for n in names if n in self.parameters and n not in self.lists), "")


def _constant(value: float) -> Callable[[Array], Array]:
    return lambda x: np.full(len(x), value * x[0].size)


def _log_factorial(x: Array) -> Array:
    total: Array = special.gammaln(x + 1).reshape(len(x), -1).sum(1)
    return total


LEFT_OUT = {0.5 * math.log(2 * math.pi): "½ log 2π", math.log(2): "log 2"}
"""The constants of a pixel that have a name."""


def _name(name: str) -> Callable[[Canonical], Tensor]:
    return lambda p: p[name]


def _log(name: str, factor: float = 1.0) -> Callable[[Canonical], Tensor]:
    return lambda p: factor * torch.log(p[name])


def _product(names: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    """Return all choices of one of each."""
    chosen: tuple[tuple[str, ...], ...] = ((),)
    for options in names:
        chosen = tuple((*before, option) for before in chosen for option in options)
    return chosen


def _real(u: Tensor) -> Tensor:
    return 3 * (2 * u - 1)


def _positive(u: Tensor) -> Tensor:
    return torch.exp(1.4 * u - 0.6)


def _rate(u: Tensor) -> Tensor:
    return torch.exp(2.5 * u - 0.6)


_SCALES = {"scale": _name("scale"), "log_scale": _log("scale")}
_LEVELS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda u: u,
    "scale": lambda u: torch.exp(1.5 * u - 3.5),
}
_NB_SPELLED: dict[str, Callable[[Canonical], Tensor]] = {
    "mean": _name("mean"),
    "log_mean": _log("mean"),
    "inverse_dispersion": _name("theta"),
    "log_inverse_dispersion": _log("theta"),
    "dispersion": lambda p: 1 / p["theta"],
    "log_dispersion": _log("theta", -1),
    "total_count": _name("theta"),
    "logits": lambda p: torch.log(p["mean"] / p["theta"]),
    "probs": lambda p: p["mean"] / (p["mean"] + p["theta"]),
    "failure_probs": lambda p: p["theta"] / (p["mean"] + p["theta"]),
}
_GATES: dict[str, Callable[[Canonical], Tensor]] = {
    "gate": _name("gate"),
    "gate_logits": lambda p: torch.logit(p["gate"]),
}
_NB_TRIED = (
    *_product((
        ("mean", "log_mean"),
        ("inverse_dispersion", "log_inverse_dispersion", "dispersion", "log_dispersion"),
    )),
    *_product((("total_count",), ("logits", "probs", "failure_probs"))),
)  # fmt: skip
_SIMPLEX: dict[str, Callable[[Canonical], Tensor]] = {
    "logits": _name("logits"),
    "probabilities": lambda p: torch.softmax(p["logits"], -1),
    "log_probabilities": lambda p: torch.log_softmax(p["logits"], -1),
}
_FACTORIAL = {"log x!": _log_factorial}


def _laplace_cdf(x: Array, mean: Array, scale: Array) -> Array:
    tail = 0.5 * np.exp(-np.abs(x - mean) / scale)
    below: Array = np.where(x < mean, tail, 1 - tail)
    return below


def _logistic_cdf(
    x: Array, mean: Array, scale: Array, *, low: float, high: float, levels: int
) -> Array:
    half = (high - low) / (levels - 1) / 2
    below: Array = np.where(x > high - half, 1.0, special.expit((x + half - mean) / scale))
    return below


def _mixture_cdf(x: Array, logits: Array, mean: Array, scale: Array, **levels: Any) -> Array:
    each = _logistic_cdf(x[..., None], mean, scale, **levels)
    total: Array = (special.softmax(logits, -1) * each).sum(-1)
    return total


def _by_levels(
    cdf: Callable[..., Array], *parameters: Array, low: float, high: float, levels: int
) -> Array:
    """Return the mean of levels: the last, less a step for every level that is not reached."""
    step, total = (high - low) / (levels - 1), np.zeros(parameters[0].shape[:2])
    for level in range(levels - 1):
        x = np.full(parameters[0].shape[:2], low + step * level)
        total = total + cdf(x, *parameters, low=low, high=high, levels=levels)
    return high - step * total


def _nb_cdf(x: Array, mean: Array, theta: Array) -> Array:
    below: Array = special.betainc(theta, np.maximum(x, 0) + 1, theta / (theta + mean))
    return np.where(x < 0, 0.0, below)


def _zinb_cdf(x: Array, mean: Array, theta: Array, gate: Array) -> Array:
    return np.where(x < 0, 0.0, gate + (1 - gate) * _nb_cdf(x, mean, theta))


def _poisson_cdf(x: Array, rate: Array) -> Array:
    return np.where(x < 0, 0.0, special.pdtr(np.maximum(x, 0), rate))


def _categorical_cdf(x: Array, logits: Array) -> Array:
    below = np.cumsum(special.softmax(logits, -1), -1)
    labels = np.clip(x.astype(int), 0, logits.shape[-1] - 1)[..., None]
    return np.where(x < 0, 0.0, np.take_along_axis(below, labels, -1)[..., 0])


def _multinomial_cdf(x: Array, logits: Array, total: Array) -> Array:
    """Return the distribution function of every count by itself, which is binomial."""
    p, k = special.softmax(logits, -1), np.clip(x, 0, total)
    below = special.betainc(np.maximum(total - k, 1), k + 1, 1 - p)
    return np.where(x < 0, 0.0, np.where(k < total, below, 1.0))


def _softmax(logits: Array) -> Array:
    p: Array = special.softmax(logits, -1)
    return p


_KNOWN = (
    Family(
        name="gaussian",
        support="real",
        density=densities.gaussian,
        parameters={"mean": _real, "sigma": _positive},
        spelled={
            "mean": _name("mean"),
            "sigma": _name("sigma"),
            "variance": lambda p: p["sigma"].square(),
            "log_sigma": _log("sigma"),
            "logvar": _log("sigma", 2),
            "precision": lambda p: p["sigma"] ** -2,
            "log_precision": _log("sigma", -2),
        },
        tried=(
            *_product((("mean",), ("log_sigma", "logvar", "sigma", "variance", "precision"))),
            ("mean", "log_precision"),
            ("mean",),
        ),
        cdf=lambda x, mean, sigma: special.ndtr((x - mean) / sigma),
        mean=lambda mean, sigma: mean + 0 * sigma,
        left_out={"½ log 2π": _constant(0.5 * math.log(2 * math.pi))},
    ),
    Family(
        name="laplace",
        support="real",
        density=densities.laplace,
        parameters={"mean": _real, "scale": _positive},
        spelled={"mean": _name("mean"), **_SCALES},
        tried=(("mean", "log_scale"), ("mean", "scale"), ("mean",)),
        cdf=_laplace_cdf,
        mean=lambda mean, scale: mean + 0 * scale,
        left_out={"log 2": _constant(math.log(2))},
    ),
    Family(
        name="student-t",
        support="real",
        density=densities.student,
        parameters={"mean": _real, "scale": _positive, "degrees": lambda u: 1.5 + 4 * u},
        spelled={
            "mean": _name("mean"),
            **_SCALES,
            "degrees": _name("degrees"),
            "log_degrees": _log("degrees"),
        },
        tried=(
            *_product((("mean",), ("scale", "log_scale"), ("degrees", "log_degrees"))),
            ("degrees", "mean", "scale"),
        ),
        cdf=lambda x, mean, scale, degrees: special.stdtr(degrees, (x - mean) / scale),
        mean=lambda mean, scale, degrees: mean + 0 * scale * degrees,
    ),
    Family(
        name="discretised-logistic",
        support="unit levels",
        density=densities.logistic,
        parameters=_LEVELS,
        spelled={"mean": _name("mean"), **_SCALES},
        tried=(("mean", "log_scale"), ("mean", "scale")),
        cdf=_logistic_cdf,
        mean=partial(_by_levels, _logistic_cdf),
    ),
    Family(
        name="logistic-mixture",
        support="unit levels",
        density=densities.mixture,
        parameters={"logits": _real, **_LEVELS},
        spelled={"mean": _name("mean"), **_SCALES, **_SIMPLEX},
        tried=_product((("logits",), ("mean",), ("log_scale", "scale"))),
        cdf=_mixture_cdf,
        mean=partial(_by_levels, _mixture_cdf),
        lists=("logits", "mean", "scale"),
    ),
    Family(
        name="poisson",
        support="counts",
        density=densities.poisson,
        parameters={"rate": _rate},
        spelled={"rate": _name("rate"), "log_rate": _log("rate")},
        tried=(("rate",), ("log_rate",)),
        cdf=_poisson_cdf,
        mean=lambda rate: rate,
        left_out=_FACTORIAL,
    ),
    Family(
        name="negative-binomial",
        support="counts",
        density=densities.negative_binomial,
        parameters={"mean": _rate, "theta": lambda u: 0.6 + 3 * u},
        spelled=_NB_SPELLED,
        tried=_NB_TRIED,
        cdf=_nb_cdf,
        mean=lambda mean, theta: mean + 0 * theta,
        left_out=_FACTORIAL,
    ),
    Family(
        name="zero-inflated-negative-binomial",
        support="counts",
        density=densities.zero_inflated,
        parameters={
            "mean": _rate,
            "theta": lambda u: 0.6 + 3 * u,
            "gate": lambda u: 0.1 + 0.5 * u,
        },
        spelled={**_NB_SPELLED, **_GATES},
        tried=tuple((*nb, gate) for nb in _NB_TRIED for gate in ("gate_logits", "gate")),
        cdf=_zinb_cdf,
        mean=lambda mean, theta, gate: (1 - gate) * mean + 0 * theta,
        left_out=_FACTORIAL,
    ),
    Family(
        name="categorical",
        support="classes",
        density=densities.categorical,
        parameters={"logits": _real},
        spelled=_SIMPLEX,
        tried=(("logits",), ("log_probabilities",), ("probabilities",)),
        cdf=_categorical_cdf,
        mean=_softmax,
        lists=("logits",),
    ),
    Family(
        name="multinomial",
        support="counts",
        density=densities.multinomial,
        parameters={"logits": _real},
        spelled=_SIMPLEX,
        tried=(("logits",), ("log_probabilities",), ("probabilities",)),
        cdf=_multinomial_cdf,
        mean=_softmax,
        left_out={
            "the multinomial coefficient": lambda x: (
                _log_factorial(x) - special.gammaln(x.sum(-1) + 1)
            ),
            **_FACTORIAL,
        },
    ),
)
FAMILIES = {family.name: family for family in _KNOWN}
"""Name of a family -> what is known of it."""
