"""Claims about likelihoods beyond the textbook's: densities and probabilities of a decoder."""

import math
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import special
from torch import Tensor

from vae_ref.conformance.answers import densities, statistics
from vae_ref.conformance.answers.comparison import require_agreement
from vae_ref.conformance.answers.densities import Array
from vae_ref.conformance.answers.families import CLASSES
from vae_ref.conformance.claims import registry
from vae_ref.conformance.probe import families
from vae_ref.conformance.probe.families import Form, Parameters, ask, known_form
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import Finding, NotApplicable, Violation

_TERMS = "1e-7 of the sum of the terms' absolute values; of float32 32 roundings"
_MASS = ("families/total-mass",)
_VALUE = ("families/value", *_MASS)
_ROWS = 3  # parameters at which a likelihood is summed over all x
_FAR = 1e-6  # how far a total mass of float64 may be from 1
_DRAWS = 10_000  # of two pixels: a distribution function wrong by 0.06 is found

claim = partial(registry.claim, slot="score", needs=("score",))


def _require(
    probe: Probe,
    what: str,
    got: Tensor,
    exact: Array,
    size: Array,
    *,
    inputs: dict[str, Any],
    **rest: Any,
) -> None:
    dtype = families.precision(probe, got)
    require_agreement(
        what,
        got,
        torch.from_numpy(np.asarray(exact)),
        scale=torch.from_numpy(np.asarray(size)) * families.scale_factor(dtype),
        dtype=dtype,
        inputs=inputs,
        **rest,
    )


class _Row(NamedTuple):
    """One setting of the parameters, and what is needed to sum over all x.

    Attributes:
        nll: The score of the x of an index, one number each.
        weights: The weight of each x in the sum.
        leaves: The parameters.
        words: The parameters as text.
    """

    nll: Callable[[Parameters, Tensor], Tensor]
    weights: Tensor
    leaves: Parameters
    words: str


def _nodes(centre: float, scale: float, count: int = 85) -> tuple[Array, Array]:
    """Return points and weights that integrate over the real line, whatever happens at centre.

    By x = centre ± scale exp(pi/2 sinh t), which takes any decay to one of double exponentials.
    """
    t = np.linspace(-3.5, 3.5, count)
    distance = scale * np.exp(math.pi / 2 * np.sinh(t))
    weights = distance * math.pi / 2 * np.cosh(t) * (t[1] - t[0])
    x = np.concatenate([centre - distance[::-1], centre + distance])
    return x, np.concatenate([weights[::-1], weights])


def _support(probe: Probe, form: Form, row: Parameters) -> tuple[Array, Array]:
    """Return all values of a pixel, or those that matter, and their weights."""
    if form.family.whole:
        x = np.array([c for c in product(range(5), repeat=CLASSES) if sum(c) == 4], dtype=float)
        return x, np.ones(len(x))
    if form.family.support == "real":
        return _nodes(float(row["mean"]), float(row[form.family.scale]))
    if form.family.support == "unit levels":
        x = np.linspace(form.low, form.high, form.levels)
    else:
        x = np.arange(CLASSES if form.family.support == "classes" else 260.0)
    return x, np.ones(len(x))


def _rows(probe: Probe, form: Form) -> list[_Row]:
    return [_row(probe, form, n) for n in range(_ROWS)]


def _row(probe: Probe, form: Form, n: int) -> _Row:
    drawn = form.draw(probe, f"mass {n}", 2, 1)
    leaves = {
        name: value[0] if form.family.whole else value[0, 0] for name, value in drawn.items()
    }
    points, weights = _support(probe, form, leaves)
    pixels = families.pixels_of(probe, form)[-1]
    points = points if form.family.whole else np.repeat(points[:, None], pixels, 1)
    x, repeats = torch.from_numpy(points), 1 if form.family.whole else pixels

    def nll(values: Parameters, index: Tensor) -> Tensor:
        spread, m = {}, len(index)
        for name, value in values.items():
            scale = name == form.family.scale and name not in form.family.lists
            rows = 1 if scale and form.scale_per in ("column", "all") else m
            columns = 1 if scale and form.scale_per in ("example", "all") else pixels
            shape = (rows, CLASSES) if form.family.whole else (rows, columns, *value.shape)
            spread[name] = value.expand(shape)
        found = ask(probe, form, x[index], spread)
        if form.left_out:
            found = found + torch.from_numpy(form.left_out[1](x[index].numpy()))
        return found / repeats

    words = ", ".join(f"{name} {value:.4g}" for name, value in leaves.items() if not value.ndim)
    return _Row(nll, torch.from_numpy(weights), leaves, words or f"parameters {n}")


def _own_rows(probe: Probe) -> list[_Row]:
    """Return the parameters that the subject gives, for a family that is not known here."""
    subject: Any = probe.subject
    if subject.parameters is None or subject.support is None:
        known_form(probe)
    rows = []
    given = [torch.as_tensor(value) for value in subject.parameters(_ROWS)]
    for n in range(_ROWS):
        rowwise = [v.ndim > 0 and len(v) == _ROWS for v in given]
        own = [v[n : n + 1] if per_row else v for v, per_row in zip(given, rowwise, strict=True)]
        points, weights = _own_support(subject, own)
        x = torch.from_numpy(points)[:, None]
        x = x.long() if subject.support == "classes" else x.to(probe.dtype)
        leaves = {str(i): value.detach() for i, value in enumerate(own)}

        def nll(
            values: Parameters, index: Tensor, x: Tensor = x, rowwise: list[bool] = rowwise
        ) -> Tensor:
            pairs = zip(values.values(), rowwise, strict=True)
            spread = [(v.expand(len(index), *v.shape[1:]) if r else v, r) for v, r in pairs]
            return families.scored(probe, x[index], spread)

        rows.append(_Row(nll, torch.from_numpy(weights), leaves, f"parameters {n}"))
    return rows


def _own_support(subject: Any, given: list[Tensor]) -> tuple[Array, Array]:
    if subject.support == "real":
        centre = float(given[0]) if given[0].numel() == 1 else 0.0
        return _nodes(centre, 1.0, 169)
    if subject.support == "unit levels":
        low, high = subject.level_range or (0.0, 1.0)
        x = np.linspace(low, high, int(subject.levels))
    else:
        x = np.arange(given[0].shape[-1] if subject.support == "classes" else 1000.0)
    return x, np.ones(len(x))


def _form_or_rows(probe: Probe) -> tuple[Form | None, list[_Row]]:
    form = families.form_of(probe)
    return form, _rows(probe, form) if form else _own_rows(probe)


def _probabilities(row: _Row) -> tuple[Tensor, torch.dtype]:
    """Return what each x has, which adds up to the total mass."""
    nll = row.nll(row.leaves, torch.arange(len(row.weights))).detach()
    return torch.exp(-nll.double()) * row.weights, nll.dtype


def _summed(probe: Probe, form: Form | None, rows: list[_Row]) -> tuple[list[float], torch.dtype]:
    """Return the total mass at each setting of the parameters, if it can be computed."""
    subject: Any = probe.subject
    found = [_probabilities(row) for row in rows]
    for p, _ in found if form is None and subject.support in ("real", "counts") else ():
        for step in (2, 3):  # fewer nodes, or fewer terms, give the same if there are enough
            rough = step * p[::step] if subject.support == "real" else p[: len(p) // step]
            if not abs(float(rough.sum() / p.sum()) - 1) <= 1e-4:
                raise NotApplicable(
                    "the score could not be summed over all x; parameters of which x is about 1 "
                    "would help"
                )
    return [float(p.sum()) for p, _ in found], found[0][1]


@claim(
    "families/total-mass",
    statement="Whatever the parameters, the probabilities of all x add up to 1, or the density "
    "integrates to 1.",
    formula=r"\int e^{-\mathrm{score}(x, \theta)}\,dx = 1, \qquad "
    r"\sum_x e^{-\mathrm{score}(x, \theta)} = 1",
    source="Bishop 2006, section 1.2.1 and equation 1.26",
    kind="identity",
    tolerance="1e-6; of float32 1e-4",
    kills=(
        "gaussian-without-log-sigma",
        "gaussian-divided-by-sigma",
        "gaussian-halved-log-variance",
        "gaussian-sigma-for-its-logarithm",
        "laplace-without-log-scale",
        "laplace-half-missing",
        "student-without-scale",
        "student-power",
        "levels-without-edges",
        "levels-narrow-bins",
        "levels-density-at-the-centre",
        "mixture-weights-not-normalised",
        "mixture-components-added",
        "mixture-of-logarithms",
        "poisson-stirling",
        "poisson-zeros-ignored",
        "poisson-arguments-swapped",
        "poisson-factorial-missing",
        "nb-without-coefficient",
        "zinb-zeros-not-mixed",
        "zinb-log-of-zeros-missing",
        "zinb-counts-not-scaled",
        "categorical-without-softmax",
        "categorical-softmax-over-pixels",
        "multinomial-without-coefficient",
    ),
)
def total_mass(probe: Probe) -> None:
    subject: Any = probe.subject
    form, rows = _form_or_rows(probe)
    masses, dtype = _summed(probe, form, rows)
    far = _FAR if dtype == torch.float64 == probe.dtype else 100 * _FAR
    far = far if form else 1000 * _FAR
    if form and form.left_out and subject.up_to_constant is not True:
        _left_out(form, subject.up_to_constant)
    if all(abs(mass - 1) <= far for mass in masses):
        return
    worst = int(np.argmax([abs(m - 1) if math.isfinite(m) else math.inf for m in masses]))
    factor = _factor(form, rows, masses) if form else ""
    one = all(abs(mass - masses[0]) <= far * masses[0] for mass in masses)
    if one and subject.up_to_constant:
        return
    if one:
        factor = "; it is the same for all parameters, so a constant is wrong or missing"
    raise Violation(
        f"the total mass is {masses[worst]:.6g} at {rows[worst].words}, not 1{factor}",
        symptom="constant" if one else "mass",
        counterexample={
            "inputs": {name: value.tolist() for name, value in rows[worst].leaves.items()},
            "expected": 1.0,
            "got": masses[worst],
            "tolerance": far,
        },
    )


def _left_out(form: Form, whole: bool | None) -> None:
    """Object to what is left out, if it was declared that nothing is; else do not judge."""
    name = form.left_out[0] if form.left_out else ""
    if whole is None:
        raise NotApplicable(
            f"the score leaves out {name}, which depends on no parameter, so its total mass is "
            "not 1; declare up_to_constant=True if that is meant, or False to be held to it"
        )
    raise Violation(
        f"the score leaves out {name}, so its total mass is not 1; declare up_to_constant=True "
        "if that is meant",
        symptom=f"left out {name}",
    )


def _factor(form: Form, rows: list[_Row], masses: list[float]) -> str:
    """Say of which power of the scale the mass is, if it is one."""
    name = form.family.scale
    if not form.scaled or not name or min(masses) <= 0 or not math.isfinite(sum(masses)):
        return ""
    scales = np.log([float(row.leaves[name]) for row in rows if not row.leaves[name].ndim])
    if len(scales) < len(rows):
        return ""
    power, constant = np.polyfit(scales, np.log(masses), 1)
    if np.abs(power * scales + constant - np.log(masses)).max() > 1e-4:
        return ""
    factor = "" if abs(constant) < 1e-4 else f"{math.exp(constant):.4g} · "
    return f": it is {factor}{name}^{power:.4g}, which the normaliser lacks"


def _some(probe: Probe, form: Form, name: str, n: int, pixels: int) -> tuple[Tensor, Parameters]:
    parameters = form.draw(probe, name, n, pixels)
    return form.data(probe, name, parameters), parameters


def _named(x: Tensor, parameters: Parameters) -> dict[str, Tensor]:
    return {"x": x, **parameters}


@claim(
    "families/pixels-add-up",
    statement="Pixels are independent given the code, so their terms are added, not averaged.",
    formula=r"\mathrm{score}\big((x, x'), (\theta, \theta')\big) = "
    r"\mathrm{score}(x, \theta) + \mathrm{score}(x', \theta')",
    source="Kingma and Welling 2014, appendix C",
    kind="metamorphic",
    tolerance=_TERMS,
    kills=("family-mean-over-pixels", "scale-averaged-over-pixels"),
    builds_on=_MASS,
)
def pixels_add_up(probe: Probe) -> None:
    form = known_form(probe)
    first, second, _ = families.pixels_of(probe, form)
    if first == second:
        raise NotApplicable("the score takes one number of pixels only")
    a, b = (_some(probe, form, f"add {count}", 3, count) for count in (first, second))
    together: Parameters = {}
    for name in a[1]:
        shared = a[1][name].shape[1] == 1 < first
        together[name] = a[1][name] if shared else torch.cat([a[1][name], b[1][name]], 1)
        b[1][name] = a[1][name] if shared else b[1][name]
    x = torch.cat([a[0], b[0]], 1)
    parts = [ask(probe, form, *pair).detach().double().numpy() for pair in (a, b)]
    _require(
        probe,
        "the score of two sets of pixels together",
        ask(probe, form, x, together).detach(),
        parts[0] + parts[1],
        form.size(x, together),
        inputs=_named(x, together),
    )


@claim(
    "families/value",
    statement="The score is the negative log-likelihood of its family, of parameters with the "
    "declared or inferred meaning.",
    formula=r"\mathrm{score}(x, \theta) = -\sum_i \log p(x_i \mid \theta_i)",
    source="Rybkin, Daniilidis and Levine 2021, equation 3; Salimans et al. 2017, equation 2; "
    "Lopez et al. 2018, supplementary note 4",
    kind="exact",
    tolerance=_TERMS,
    kills=(
        "gaussian-without-log-sigma",
        "gaussian-divided-by-sigma",
        "gaussian-halved-log-variance",
        "gaussian-sigma-for-its-logarithm",
        "gaussian-sigma-as-variance",
        "family-mean-over-pixels",
        "scale-averaged-over-batch",
        "laplace-as-gaussian",
        "laplace-without-log-scale",
        "student-without-scale",
        "student-power",
        "levels-without-edges",
        "levels-narrow-bins",
        "mixture-weights-not-normalised",
        "mixture-components-added",
        "mixture-of-logarithms",
        "poisson-exponential-twice",
        "poisson-stirling",
        "nb-probability-swapped",
        "nb-dispersion-inverted",
        "nb-without-coefficient",
        "zinb-zeros-not-mixed",
        "zinb-log-of-zeros-missing",
        "zinb-counts-not-scaled",
        "zinb-gate-swapped",
        "categorical-without-softmax",
        "categorical-softmax-twice",
        "categorical-softmax-over-pixels",
    ),
    builds_on=(*_MASS, "families/pixels-add-up"),
)
def value(probe: Probe) -> Finding:
    form = known_form(probe)
    first, second, _ = families.pixels_of(probe, form)
    for examples, pixels in ((3, first), (2, second)):
        x, parameters = _some(probe, form, f"value {examples}", examples, pixels)
        got = ask(probe, form, x, parameters).detach()
        exact, size = form.nll(x, parameters), form.size(x, parameters)
        _require(probe, "the score", got, exact, size, inputs=_named(x, parameters))
    facts = {"likelihood": str(form)}
    if form.fixed is not None:
        facts["scale of the likelihood"] = f"{form.family.scale} = {form.fixed:.6g}, fixed"
    if form.left_out:
        facts["left out of the likelihood"] = form.left_out[0]
    return Finding(facts=facts)


def _gradient(
    probe: Probe, form: Form, x: Tensor, parameters: Parameters
) -> tuple[list[str], list[Tensor]]:
    """Return the parameters that the program takes, and the slopes of the whole score by them."""
    names = [n for n in parameters if form.fixed is None or n != form.family.scale]
    fixed = {n: v for n, v in parameters.items() if n not in names}

    def total(*values: Tensor) -> Tensor:
        return ask(probe, form, x, dict(zip(names, values, strict=True)) | fixed)

    return names, probe.gradient(total, *(parameters[name] for name in names))


@claim(
    "families/slopes",
    statement="The derivatives with respect to every parameter are those of the negative "
    "log-likelihood.",
    formula=r"\partial\,\mathrm{score} / \partial\theta = -\partial \log p(x \mid \theta) / "
    r"\partial\theta",
    source="Kingma and Welling 2014, appendix C",
    kind="gradient",
    tolerance="1e-7 of the terms of the derivative, of levels 1e-4; of float32 32 roundings",
    kills=("scale-detached", "zinb-zeros-detached", "family-no-grad"),
    builds_on=_VALUE,
)
def slopes(probe: Probe) -> None:
    probe.require_gradient("score")
    form = known_form(probe)
    x, parameters = _some(probe, form, "slopes", 3, families.pixels_of(probe, form)[0])
    given = form.arrays(parameters)
    exact = _slopes(form, x, given)
    names, found = _gradient(probe, form, x, parameters)
    dtype = families.precision(probe, ask(probe, form, x, parameters).detach())
    for name, got in zip(names, found, strict=True):
        right = -exact[list(parameters).index(name)]
        size = 2 * _size_of_slopes(form, x, given, list(parameters).index(name))
        if form.family.support == "unit levels":  # of which rare ones are often approximated
            size = 1000 * size
        words = f"the slope of the score by {name}"
        dead = bool(right.any()) and not bool(got.any())
        _require(
            probe,
            f"{words} is 0 everywhere, so nothing is learned: it" if dead else words,
            got.to(dtype),
            right,
            size,
            inputs=_named(x, parameters),
            symptom=f"no-gradient of {name}" if dead else "",
        )


def _slopes(form: Form, x: Tensor, given: list[Array]) -> list[Array]:
    return densities.slopes(form.density, x.numpy(), given, whole=form.family.whole)


def _size_of_slopes(form: Form, x: Tensor, given: list[Array], index: int) -> Array:
    """Return the size of the slopes, and their change if a parameter or x moves by its size."""
    base = _slopes(form, x, given)[index]
    size: Array = 1 + np.abs(base) + np.abs(base).max()
    for other in range(len(given)):
        moved = [v * (1 + 1e-6 * (i == other)) for i, v in enumerate(given)]
        change = _slopes(form, x, moved)[index] - base
        size = size + np.abs(change).max() * 1e6
    return size


@claim(
    "families/mean-slope-is-zero",
    statement="Averaged over x from the likelihood itself, the derivative of the score with "
    "respect to every parameter is zero.",
    formula=r"E_{x \sim p(x \mid \theta)}\big[\partial \log p(x \mid \theta) / "
    r"\partial\theta\big] = 0",
    source="Lehmann and Casella 1998, section 2.5",
    kind="identity",
    tolerance="1e-6; of float32, or of levels, of which rare ones are often approximated, 1e-3",
    kills=("scale-half-detached", "gaussian-without-log-sigma", "poisson-rate-detached"),
    builds_on=("families/slopes", *_VALUE),
)
def mean_slope_is_zero(probe: Probe) -> None:
    probe.require_gradient("score")
    form, rows = _form_or_rows(probe)
    rough = form is None or form.family.support == "unit levels"
    _summed(probe, form, rows)
    for row in rows:
        p, dtype = _probabilities(row)
        index = (p > 0).nonzero()[:, 0]  # elsewhere, slopes may be infinite
        names = [name for name, value in row.leaves.items() if value.is_floating_point()]
        if form and form.fixed is not None:
            names.remove(form.family.scale)

        def mean(
            *values: Tensor,
            row: _Row = row,
            names: list[str] = names,
            index: Tensor = index,
            p: Tensor = p,
        ) -> Tensor:
            moved = row.leaves | dict(zip(names, values, strict=True))
            return (row.nll(moved, index) * p[index]).sum()

        allowed = 1e-3 if torch.float32 in (dtype, probe.dtype) or rough else 1e-6
        for name, slope in zip(
            names, probe.gradient(mean, *(row.leaves[name] for name in names)), strict=True
        ):
            worst = float(slope.abs().max())
            if not worst <= allowed:
                raise Violation(
                    f"at {row.words}, the mean slope of the score by {name} is {worst:.4g}, not 0",
                    symptom=f"mean slope of {name}",
                    counterexample={
                        "inputs": {n: v.tolist() for n, v in row.leaves.items()},
                        "expected": 0.0,
                        "got": worst,
                    },
                )


@claim(
    "families/units",
    statement="In other units, such as pixels from 0 to 255 for pixels from 0 to 1, a density is "
    "divided by the ratio of the units.",
    formula=r"\mathrm{score}(a + bx, a + b\mu, b\sigma) = \mathrm{score}(x, \mu, \sigma) + "
    r"D \log b",
    source="Bishop 2006, equation 1.27",
    kind="metamorphic",
    tolerance=_TERMS,
    kills=(
        "gaussian-without-log-sigma",
        "gaussian-divided-by-sigma",
        "laplace-without-log-scale",
        "student-without-scale",
    ),
    builds_on=_VALUE,
)
def units(probe: Probe) -> None:
    form = known_form(probe)
    if form.family.support != "real" or not form.scaled:
        raise NotApplicable("the likelihood is not one of real numbers with a scale")
    x, parameters = _some(probe, form, "units", 3, families.pixels_of(probe, form)[0])
    b, scale = 1.75, form.family.scale
    moved = parameters | {"mean": 0.5 + b * parameters["mean"], scale: b * parameters[scale]}
    _require(
        probe,
        f"the score in units that are {b} times as small",
        ask(probe, form, 0.5 + b * x, moved).detach(),
        ask(probe, form, x, parameters).detach().double().numpy() + x[0].numel() * math.log(b),
        form.size(x, parameters) + form.size(0.5 + b * x, moved),
        inputs=_named(x, parameters),
    )


def _extremes(probe: Probe, form: Form) -> list[tuple[Tensor, Parameters]]:
    """Return data and parameters at the ends of what a program meets."""
    pixels, family = families.pixels_of(probe, form)[0], form.family
    x, parameters = _some(probe, form, "extremes", 3, pixels)
    scale = family.scale or "scale"
    if family.support in ("real", "unit levels"):
        cases = []
        narrow, broad = (1e-2, 1e2) if family.support == "real" else (0.05, 60.0)
        if family.lists:  # components without probability are often approximated
            narrow = 0.5
        for factor in (narrow, broad):
            wide = parameters | {scale: factor * parameters[scale]}
            if form.fixed is not None:
                wide = parameters | {"mean": factor * parameters["mean"]}
            far = form.data(probe, "extremes", wide)
            if family.support == "unit levels":  # a level where there is some probability
                mean = wide["mean"][..., 0] if wide["mean"].ndim > 2 else wide["mean"]
                far = form.to_levels(mean) if factor < 1 else far
            cases.append((far, wide))
        if "degrees" in parameters:
            cases += [
                (x, parameters | {"degrees": parameters["degrees"] * 0 + d}) for d in (1, 200)
            ]
            cases.append((x + 1e3, parameters))
        return cases
    if family.support == "counts" and not family.whole:
        rate = next(iter(parameters))
        rare = parameters | {rate: 0.1 * parameters[rate]}
        many = parameters | {rate: 100 * parameters[rate]}
        return [((x > 3).double(), rare), (form.data(probe, "many", many), many)]
    if family.whole:
        return [(40 * x, parameters)]
    return [(x, {name: 2.5 * value for name, value in parameters.items()})]


@claim(
    "families/extremes",
    statement="The score is right for narrow and wide scales, heavy tails, the first and last "
    "levels, and rare and large counts too.",
    formula=r"\sigma \in [10^{-2}, 10^2], \quad x \le 10^3",
    source="Salimans et al. 2017, section 2.1; Rybkin, Daniilidis and Levine 2021, section 3",
    kind="exact",
    tolerance=_TERMS,
    kills=("family-scale-clamped", "poisson-factorial-overflows"),
    builds_on=_VALUE,
)
def extremes(probe: Probe) -> None:
    form = known_form(probe)
    for x, parameters in _extremes(probe, form):
        got = ask(probe, form, x, parameters).detach()
        exact, size = form.nll(x, parameters), form.size(x, parameters)
        _require(probe, "the score of an extreme", got, exact, size, inputs=_named(x, parameters))


of_draws = partial(
    registry.claim, source="Devroye 1986, section II.2 and chapter X", needs=("draw_pixels",)
)


def _tensors(probe: Probe, form: Form, parameters: Parameters, n: int) -> list[Tensor]:
    return [value.clone() for value, _ in form.given(probe, parameters, n)]


@registry.claim(
    "families/mean",
    statement="The mean is that of the likelihood: for a negative binomial with excess zeros (1 - "
    "gate) mu, for levels the sum over all of them.",
    formula=r"E[x] = \sum_x x\, p(x \mid \theta)",
    source="Lopez et al. 2018, supplementary note 4",
    slot="mean_of",
    needs=("mean_of",),
    kind="exact",
    tolerance="1e-7 of the mean and its parameters; of float32 32 roundings",
    kills=("nb-mean-inverted", "zinb-mean-without-gate", "poisson-mean-is-its-logarithm"),
)
def mean(probe: Probe) -> None:
    subject: Any = probe.subject
    form = known_form(probe)
    parameters = form.draw(probe, "mean", 3, families.pixels_of(probe, form)[0])
    with probe.calling():
        got = subject.mean_of(*_tensors(probe, form, parameters, 3)).detach()
    exact = form.mean(*form.arrays(parameters))
    if form.family.lists == ("logits",) and form.axis == 1:
        exact = np.moveaxis(exact, -1, 1)
    if got.numel() == exact.size:
        got = got.reshape(exact.shape)
    size = np.abs(exact) + sum(float(v.abs().max()) for v in parameters.values())
    if form.family.name == "discretised-logistic":
        location = parameters["mean"].to(got.dtype)
        if got.shape == location.shape and torch.allclose(got, location, rtol=1e-5):
            raise NotApplicable("it is the location, which is the mean far from the edges only")
    if form.family.whole and got.shape == exact.shape:
        total = got.double().sum(-1, keepdim=True)
        got = got / total  # of any total
    inputs: dict[str, Any] = dict(parameters)
    _require(probe, "the mean", got, exact, size, inputs=inputs)


def _as_normal(probe: Probe, form: Form, x: Array, parameters: Parameters) -> Array:
    """Turn draws into standard normal numbers: exactly so, if they have their distribution.

    What the distribution function jumps by at x is spread evenly by noise of the probe's own.
    """
    given = form.arrays(parameters)
    if form.family.whole:
        given.append(x.sum(-1, keepdims=True))
    upper = form.cdf(x, *given)
    if form.family.support != "real":
        step = (form.high - form.low) / (form.levels - 1)
        step = step if form.family.support == "unit levels" else 1.0
        lower = np.where(x <= form.low + step / 2, 0.0, form.cdf(x - step, *given))
        noise = probe.uniform("spread", *x.shape).double().numpy()
        upper = lower + noise * (upper - lower)
    normal: Array = special.ndtri(np.clip(upper, 1e-300, 1 - 1e-16))
    return normal


def _drawn(probe: Probe, form: Form) -> tuple[Array, Parameters]:
    """Return draws of two pixels in many examples with the same parameters, as numbers."""
    subject: Any = probe.subject
    pixels = 2 if probe.conventions.pixel_shape is None else families.pixels_of(probe, form)[0]
    one = form.draw(probe, "draws", 2, pixels)
    parameters = {
        name: value if len(value) == 1 else value[:1].expand(_DRAWS, *value.shape[1:])
        for name, value in one.items()
    }
    given = _tensors(probe, form, parameters, _DRAWS)
    subject.seed(probe.number("draws"))
    with probe.calling():
        first = subject.draw_pixels(*(value.clone() for value in given)).detach().double()
        again = subject.draw_pixels(*given).detach().double()
    count = CLASSES if form.family.whole else pixels
    if first.numel() != _DRAWS * count:
        right = (_DRAWS, count)
        raise Violation(
            f"a draw has shape {tuple(first.shape)}, not {right}: one number for each pixel",
            symptom="shape",
        )
    if torch.equal(first, again):
        raise Violation("two draws with the same parameters are the same", symptom="frozen")
    x = first.reshape(_DRAWS, count)
    if form.family.support == "unit levels":
        if bool((x < form.low).any() or (x > form.high).any()):
            raise Violation("a draw is outside of the levels", symptom="support")
        x = form.to_levels(x)
    elif form.family.support != "real" and bool(((x != x.round()) | (x < 0)).any()):
        raise Violation("a draw is no count and no class", symptom="support")
    return x.numpy(), parameters


def _known_draws(probe: Probe) -> tuple[Form, Array, Parameters]:
    form = known_form(probe)
    return form, *probe.once("draws of pixels", lambda: _drawn(probe, form))


def _law(sample: Array) -> str:
    """Describe numbers that are not standard normal, so roughly that noise does not change it."""
    mean, deviation = round(2 * sample.mean()) / 2, round(4 * sample.std()) / 4
    return f"mean {mean:g}, deviation {deviation:g}" if deviation else "constant"


@of_draws(
    "families/draws",
    statement="Draws of a pixel have the distribution by which it is scored.",
    formula=r"x \sim p(x \mid \theta) \;\Rightarrow\; F(x^-) + u\,p(x) \sim U(0, 1)",
    slot="draw_pixels",
    kind="statistical",
    tolerance="a distribution function wrong by 0.06, or a mean or deviation wrong by a tenth of "
    "the deviation, is found",
    kills=(
        "gaussian-drawn-with-variance",
        "laplace-drawn-on-one-side",
        "student-drawn-without-degrees",
        "nb-drawn-with-rate-for-scale",
        "nb-drawn-with-parameters-swapped",
        "zinb-drawn-without-zeros",
        "family-draws-without-noise",
        "levels-drawn-outside",
        "levels-mixture-drawn-from-average",
    ),
)
def draws(probe: Probe) -> None:
    form, x, parameters = _known_draws(probe)
    normal = _as_normal(probe, form, x, parameters)[:, :2]
    alpha = probe.alpha / (3 * normal.shape[1])
    for index, sample in enumerate(normal.T):
        for what, p in (
            ("distribution function", statistics.kolmogorov_smirnov(sample)),
            ("mean", statistics.mean(sample)),
            ("deviation", statistics.chi_square(sample)),
        ):
            if not p >= alpha:  # true for NaN too
                raise Violation(
                    f"the {what} of {_DRAWS:,} draws of pixel {index} is not that of the "
                    f"{form.family.name} likelihood: the mean draw is {x[:, index].mean():.4g} "
                    f"(p = {p:.1g})",
                    symptom=f"{form.family.name}: {'; '.join(map(_law, normal.T))}",
                )


@of_draws(
    "families/draws-apart",
    statement="Pixels and examples are drawn independently of each other.",
    formula=r"x_i \perp x_j \mid \theta",
    slot="draw_pixels",
    kind="statistical",
    tolerance="correlations of 0.15 are found",
    kills=("noise-shared-between-pixels", "noise-shared-over-batch"),
    builds_on=("families/draws",),
)
def draws_apart(probe: Probe) -> None:
    form, x, parameters = _known_draws(probe)
    if form.family.whole:
        raise NotApplicable("the counts of a multinomial distribution depend on each other")
    normal = _as_normal(probe, form, x, parameters)
    pairs = {
        "examples": (normal[::2, 0], normal[1::2, 0]),
        "pixels": (normal[:, 0], normal[:, 1]),
    }
    for what, (a, b) in pairs.items():
        if not statistics.correlation(a, b) >= probe.alpha / len(pairs):
            r = float(np.corrcoef(a, b)[0, 1])
            raise Violation(f"draws of two {what} have the correlation {r:.4g}", symptom=what)
