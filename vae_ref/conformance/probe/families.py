"""Ask a likelihood: find out which family it is, what its parameters mean, and how it answers."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vae_ref.conformance.answers import densities
from vae_ref.conformance.answers.comparison import ROUNDINGS
from vae_ref.conformance.answers.densities import Array
from vae_ref.conformance.answers.families import CLASSES, FAMILIES, LEFT_OUT, Family
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import NotApplicable, Violation

__all__ = ["HARMLESS", "Form", "Parameters", "ask", "form_of", "known_form"]

HARMLESS = 1e-7
"""How far an answer may be away, of the size of what it adds up.

Many add a number such as 1e-8 to what they take a logarithm of, which does no harm.
"""

Parameters = dict[str, Tensor]

_UNITS = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))


@dataclass(frozen=True, kw_only=True)
class Form:
    """A family, and how a program takes its parameters.

    Attributes:
        family: The family.
        takes: What the program takes, in its order.
        scale_per: Whether the scale is one per pixel, column, example, or for all.
        axis: The axis of classes or components.
        low: The value of the first level.
        high: That of the last.
        levels: How many there are.
        fixed: The scale, if the program does not take it.
        left_out: What the score leaves out, and its value from x, per example.
        declared: Whether the program is held to it.
        agrees: Whether the score agrees with it.
    """

    family: Family
    takes: tuple[str, ...]
    scale_per: str = "pixel"
    axis: int = -1
    low: float = 0.0
    high: float = 1.0
    levels: int = 256
    fixed: float | None = None
    left_out: tuple[str, Callable[[Array], Array]] | None = None
    declared: bool = False
    agrees: bool = False

    def __str__(self) -> str:
        words = [f"{self.family.name}, which takes {', '.join(self.takes)}"]
        if self.scale_per != "pixel":
            per = {"column": "a pixel", "example": "an example", "all": "all"}[self.scale_per]
            words.append(f"with one {self.family.scale} for {per}")
        if self.family.support == "unit levels":
            words.append(f"of {self.levels} levels from {self.low:g} to {self.high:g}")
        return " ".join(words)

    @property
    def scaled(self) -> bool:
        """Whether the program takes a scale."""
        return self.fixed is None and bool(self.family.scale)

    @property
    def density(self) -> Callable[..., densities.Terms]:
        """The terms of the log density, of arrays."""
        return self._of_levels(self.family.density)

    @property
    def cdf(self) -> Callable[..., Array]:
        """The distribution function."""
        return self._of_levels(self.family.cdf)

    @property
    def mean(self) -> Callable[..., Array]:
        """The mean."""
        return self._of_levels(self.family.mean)

    def _of_levels(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if self.family.support != "unit levels":
            return function
        return partial(function, low=self.low, high=self.high, levels=self.levels)

    # Parameters are made in the shape that the program shares them in: (1, pixels) for columns.

    def draw(self, probe: Probe, name: str, n: int, pixels: int) -> Parameters:
        """Draw parameters."""
        drawn = {}
        for parameter, range_ in self.family.parameters.items():
            shape = [n, CLASSES if self.family.whole else pixels]
            if parameter == self.family.scale and parameter not in self.family.lists:
                shape[0] = 1 if self.scale_per in ("column", "all") else n
                shape[1] = 1 if self.scale_per in ("example", "all") else shape[1]
            if parameter in self.family.lists:
                shape.append(CLASSES)
            value = range_(probe.uniform(f"{name} {parameter}", *shape).double())
            drawn[parameter] = self.in_units(parameter, value)
        return drawn

    def in_units(self, parameter: str, value: Tensor) -> Tensor:
        """Convert a parameter of levels from 0 to 1, or one that the program has fixed."""
        if parameter == self.family.scale and self.fixed is not None:
            return torch.full_like(value, self.fixed)
        if self.family.support != "unit levels" or parameter not in ("mean", "scale"):
            return value
        return (self.low if parameter == "mean" else 0) + (self.high - self.low) * value

    def data(self, probe: Probe, name: str, parameters: Parameters) -> Tensor:
        """Draw data that are likely; the first are at the edges of what there is."""
        first = next(iter(self.family.parameters))
        n, pixels = parameters[first].shape[:2]
        u = probe.uniform(f"{name} x", n, pixels).double()
        if self.family.support == "classes":
            return (CLASSES * u).floor()
        if self.family.whole:
            return (6 * u).floor()
        if self.family.support == "counts":
            x = (2.5 * u * parameters[first]).floor()
            x[0, 0] = 0
            return x
        mean, scale = parameters["mean"], parameters[self.family.scale or "scale"]
        if mean.ndim > 2:
            mean, scale = mean[..., 0], scale[..., 0]
        x = mean + 6 * (u - 0.5) * scale
        if self.family.support == "real":
            return x
        x[0, 0], x[0, -1] = self.low, self.high
        return self.to_levels(x)

    def to_levels(self, x: Tensor) -> Tensor:
        """Return the nearest levels."""
        step = (self.high - self.low) / (self.levels - 1)
        return self.low + step * ((x - self.low) / step).round().clamp(0, self.levels - 1)

    def given(self, probe: Probe, parameters: Parameters, n: int) -> list[tuple[Tensor, bool]]:
        """Return what the program takes, and of each whether it has a row for every example."""
        shape = probe.conventions.pixel_shape
        out = []
        for name in self.takes:
            value = self.family.spelled[name](parameters).to(probe.dtype)
            rows = len(value) == n or self.scale_per not in ("column", "all")
            tail = (-1,) if shape is None or self.family.whole else shape
            if value.ndim > 2:
                value = value.reshape(len(value), *tail, CLASSES)
                value = value.movedim(-1, self.axis)
            elif rows and value.shape[1] == 1 and self.scale_per == "example":
                value = value.reshape(n, *(1 for _ in tail))
            elif rows:
                value = value.reshape(len(value), *tail)
            else:
                value = value.reshape(() if self.scale_per == "all" else tail)
            out.append((value, rows))
        return out

    def arrays(self, parameters: Parameters) -> list[Array]:
        """Return the parameters of the density."""
        return [parameters[name].detach().numpy() for name in self.family.parameters]

    def nll(self, x: Tensor, parameters: Parameters) -> Array:
        """Return the negative log-likelihood, without what the program leaves out."""
        array = x.numpy()
        whole = -_per_example(sum(self.density(array, *self.arrays(parameters))), len(x))
        return whole - self.left_out[1](array) if self.left_out else whole

    def size(self, x: Tensor, parameters: Parameters) -> Array:
        """Return the size of what is added up, for the tolerance."""
        array, given = x.numpy(), self.arrays(parameters)
        size: Array = densities.size(self.density, array, given) + np.zeros(len(x))
        if self.family.support == "real":
            slopes = densities.slopes(self.density, array, given, whole=False)
            name = list(self.family.parameters).index("mean")
            size = size + _per_example(np.abs(x.numpy() * slopes[name]), len(x))
        if self.family.support == "unit levels":  # a difference of two sigmoids
            size = size + _per_example(np.exp(-sum(self.density(array, *given))), len(x))
        if "logits" in self.family.parameters and self.family.support != "unit levels":
            size = size + np.exp(-densities.log_softmax(given[0])).reshape(len(x), -1).sum(1)
        return size


def _per_example(a: Any, n: int) -> Array:
    total: Array = np.broadcast_to(a, (n, *a.shape[1:])).reshape(n, -1).sum(1)
    return total


def to_data(probe: Probe, form: Form, x: Tensor) -> Tensor:
    """Return data as the program takes them."""
    x = x.long() if form.family.support == "classes" else x.to(probe.dtype)
    return x.clone() if form.family.whole else probe.as_pixels(x)


def ask(probe: Probe, form: Form, x: Tensor, parameters: Parameters) -> Tensor:
    """Return the score, one number per example, whatever its reduction over the batch."""
    return scored(probe, to_data(probe, form, x), form.given(probe, parameters, len(x)))


def scored(probe: Probe, x: Tensor, given: list[tuple[Tensor, bool]]) -> Tensor:
    """Return the score of data and parameters, some of which have a row for every example."""
    factor = x[0].numel() if probe.conventions.nll_reduction == "mean" else 1
    answer = _call(probe, x, [value for value, _ in given])
    if answer.numel() == len(x):
        return factor * answer.reshape(len(x))
    rows = [
        _call(probe, x[i : i + 1], [t[i : i + 1] if per_row else t for t, per_row in given]).sum()
        for i in range(len(x))
    ]
    return factor * torch.stack(rows)


def _call(probe: Probe, x: Tensor, given: list[Tensor]) -> Tensor:
    subject: Any = probe.subject
    with probe.calling():
        answer = subject.score(x.clone(), *(value.clone() for value in given))
    if not isinstance(answer, Tensor) or not answer.is_floating_point():
        kind = answer.dtype if isinstance(answer, Tensor) else type(answer).__name__
        raise Violation(
            f"score returned {kind}, not a tensor of real numbers; wrap functions of other "
            "libraries with from_numpy or from_jax",
            symptom="no-tensor",
        )
    return answer


def precision(probe: Probe, answer: Tensor) -> torch.dtype:
    """Return the coarser of the precisions of an answer and of the probe."""
    own: torch.dtype = probe.dtype
    return answer.dtype if torch.finfo(answer.dtype).eps > torch.finfo(own).eps else own


def scale_factor(dtype: torch.dtype) -> float:
    """Return how many times the roundings of a precision are tolerated."""
    return max(1.0, HARMLESS / (ROUNDINGS * torch.finfo(dtype).eps))


def form_of(probe: Probe) -> Form | None:
    """Return the form that the score has or is held to, or None if it is not known."""
    return probe.once("form of the likelihood", lambda: _find(probe))


def known_form(probe: Probe) -> Form:
    """Return the form that the score has, or is held to.

    Raises:
        NotApplicable: If it is not known.
    """
    form = form_of(probe)
    if form is None or not (form.agrees or form.declared):
        raise NotApplicable(
            "the score agrees with no family that is known here; declare family and takes, if it "
            "is one of them"
        )
    return form


def _find(probe: Probe) -> Form | None:
    subject: Any = probe.subject
    fallback = first = None
    for form in _forms(subject):
        first = first or form
        if subject.score is None:
            return form if form.declared else None
        try:
            found = _fitted(probe, form)
        except Violation:
            raise
        except Exception:  # of a form that the program does not have
            continue
        if found.agrees:
            return found
        fallback = fallback or found
    return (fallback or first) if subject.family else None


def _forms(subject: Any) -> Iterator[Form]:
    if subject.family is not None and subject.family not in FAMILIES:
        raise NotApplicable(
            f"there is no family called {str(subject.family)[:40]!r} here; there are "
            f"{', '.join(FAMILIES)}"
        )
    for family in FAMILIES.values():
        if subject.family not in (None, family.name):
            continue
        if subject.support not in (None, family.support):
            continue
        choices = family.tried
        if subject.takes is not None:
            choices = (tuple(subject.takes),)
            if unknown := [name for name in subject.takes if name not in family.spelled]:
                if subject.family:
                    raise NotApplicable(
                        f"a {family.name} likelihood takes no {str(unknown[0])[:40]!r}; it takes "
                        f"some of {', '.join(family.spelled)}"
                    )
                continue
        declared = subject.family is not None and subject.takes is not None
        alone = family.scale in family.lists or not family.scale
        per = (subject.scale_per,) if subject.scale_per else ("pixel", "column", "example", "all")
        axes = (subject.axis,) if subject.axis else (-1, 1)
        units = (tuple(subject.level_range),) if subject.level_range else _UNITS
        for takes, each, axis, (low, high) in product(
            choices,
            ("pixel",) if alone or takes_none(choices, family) else per,
            axes if family.lists else (-1,),
            units if family.support == "unit levels" else _UNITS[:1],
        ):
            if takes == ("mean",) and each != per[0]:
                continue
            yield Form(
                family=family,
                takes=takes,
                scale_per="pixel" if takes == ("mean",) else each,
                axis=axis,
                low=low,
                high=high,
                levels=subject.levels,
                declared=declared,
                fixed=math.nan if takes == ("mean",) and family.scale else None,
            )


def takes_none(choices: tuple[tuple[str, ...], ...], family: Family) -> bool:
    """Whether the scale is not taken in any choice."""
    return all(takes == ("mean",) for takes in choices) and bool(family.scale)


def _fitted(probe: Probe, form: Form) -> Form:
    """Return the form with a scale that the program has fixed, and what it leaves out."""
    if form.fixed is not None:
        form = replace(form, fixed=_fixed(probe, form))
    tried = [_compared(probe, form, f"form {n}") for n in range(2)]
    options = {"": lambda x: np.zeros(len(x)), **form.family.left_out}
    for name, function in options.items():
        if all((np.abs(t.missing - function(t.x)) <= t.allowed).all() for t in tried):
            return replace(form, left_out=(name, function) if name else None, agrees=True)
    missing = np.concatenate([t.missing for t in tried])
    allowed = np.concatenate([t.allowed for t in tried])
    per_pixel = float(missing.mean()) / tried[0].x[0].size
    if form.family.support == "real" and bool((np.ptp(missing) <= 2 * allowed).all()):
        name = next((n for v, n in LEFT_OUT.items() if abs(v - per_pixel) < 1e-6), "")

        def constant(x: Array) -> Array:
            return np.full(len(x), per_pixel * x[0].size)

        return replace(
            form, left_out=(name or f"{per_pixel:.6g} nats per pixel", constant), agrees=True
        )
    return form


class _Compared(NamedTuple):
    """What the score lacks, and how much of that may be rounding."""

    x: Array
    missing: Array
    allowed: Array


def _compared(probe: Probe, form: Form, name: str) -> _Compared:
    parameters = form.draw(probe, name, 4, pixels_of(probe, form)[0])
    x = form.data(probe, name, parameters)
    answer = ask(probe, form, x, parameters).detach()
    dtype = precision(probe, answer)
    rounding = ROUNDINGS * torch.finfo(dtype).eps * scale_factor(dtype)
    missing = form.nll(x, parameters) - answer.double().numpy()
    return _Compared(x.numpy(), missing, form.size(x, parameters) * rounding)


def _fixed(probe: Probe, form: Form) -> float:
    """Return the scale of which the score of a distance of 2 is so much larger than that of 1."""
    pixels = pixels_of(probe, form)[-1]
    x = torch.tensor([[1.0], [2.0]], dtype=torch.float64).expand(2, pixels)
    parameters = {"mean": torch.zeros_like(x), form.family.scale: torch.ones_like(x)}
    near, far = ask(probe, form, x, parameters).detach().double().tolist()
    rise = (far - near) / pixels
    if not rise > 0:
        return math.nan
    return math.sqrt(1.5 / rise) if form.family.name == "gaussian" else 1 / rise


def pixels_of(probe: Probe, form: Form | None = None) -> tuple[int, int, int]:
    """Return the numbers of pixels that are tried; the last is that of the smallest images."""
    if form is not None and form.family.whole:
        return (CLASSES, CLASSES, CLASSES)
    shape = probe.conventions.pixel_shape
    return (math.prod(shape),) * 3 if shape else (5, 7, 1)
