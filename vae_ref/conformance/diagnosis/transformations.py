"""Name a bug that is not in the bank by what turns the right answer into the subject's."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vae_ref.conformance.answers import oracles
from vae_ref.conformance.diagnosis import coefficients
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.probe.terms import ratio_tolerance
from vae_ref.conformance.records import Diagnosis, Slot

__all__ = ["explain"]

_SAME = 1e-6
"""How far ratios may differ, relatively: far more than rounding in double precision."""

_SAME_CONSTANT, _NO_CONSTANT = 1e-5, 1e-9
"""How far constants may differ, relatively; and from which size they are constants."""

_IMPRECISE = 0.02
"""The relative error below which a KL is the right one computed imprecisely."""

_CLAMPED = 1e-4
"""The relative error from which a KL is wrong for a logvar."""

_LARGEST_LOGVAR = 40


@dataclass(frozen=True)
class _Point:
    """The sizes of a case, with the subject's answer and the right one.

    The features are latents or pixels.
    """

    examples: int
    features: int
    got: float
    expected: float


def explain(probe: Probe, slot: Slot) -> Diagnosis | None:
    """Look for a factor, a constant, a sign, swapped arguments, a clamp, or a lost gradient."""
    if slot == "kl":
        return _kl(probe)
    if slot == "nll":
        return _nll(probe)
    return None


def _named(name: str, explanation: str, yours: str, right: str) -> Diagnosis:
    return Diagnosis(bug=name, explanation=explanation, score=1.0, yours=yours, right=right)


def _factor(name: str, feature: str, points: list[_Point]) -> tuple[str, str] | None:
    """Return a name and a phrase for the factor that all answers have, if there is one.

    It is a number, or one over a size.
    """
    ratios = [point.got / point.expected for point in points]

    def constant(values: list[float]) -> bool:
        return all(abs(v - values[0]) <= _SAME * abs(values[0]) for v in values)

    scaled: dict[str, list[float]] = {
        f"the number of {feature}": [r * p.features for r, p in zip(ratios, points, strict=True)],
        "the number of examples": [r * p.examples for r, p in zip(ratios, points, strict=True)],
        f"the numbers of examples and {feature}": [
            r * p.features * p.examples for r, p in zip(ratios, points, strict=True)
        ],
    }
    if constant(ratios):
        factor = ratios[0]
        if not factor:
            missing = {"kl": "loss-no-kl", "nll": "loss-no-reconstruction"}
            return missing[name], "is missing"
        if f"{factor:.6g}" == "1":
            return None
        known = {
            2.0: "2",
            0.5: "1/2",
            -1.0: "-1",
            math.log(2): "log 2",
            1 / math.log(2): "1/log 2",
        }
        text = next((t for v, t in known.items() if abs(factor / v - 1) < _SAME), f"{factor:.6g}")
        if abs(factor + 1) < _SAME:
            return f"{name}-negated", "has the wrong sign"
        return f"{name}-times-{text.replace(' ', '-')}", f"is {text} times what it should be"
    for what, values in scaled.items():
        if constant(values):
            times = "" if abs(values[0] - 1) < _SAME else f"multiplied by {values[0]:.6g} and "
            short = what.removeprefix("the ").replace(" ", "-")
            return f"{name}-over-{short}", f"is {times}divided by {what}"
    return None


def _constant(points: list[_Point]) -> str | None:
    """Return a phrase for the constant by which all answers are too large, if there is one."""
    shifts = [p.got - p.expected for p in points]
    for what, values in {
        "": shifts,
        " per example": [s / p.examples for s, p in zip(shifts, points, strict=True)],
        " per element": [
            s / (p.examples * p.features) for s, p in zip(shifts, points, strict=True)
        ],
    }.items():
        allowed = _SAME_CONSTANT * abs(values[0]) + _NO_CONSTANT
        if abs(values[0]) > _NO_CONSTANT and all(abs(v - values[0]) <= allowed for v in values):
            return f"{values[0]:.6g}{what}"
    return None


def _kl(probe: Probe) -> Diagnosis | None:
    right = "½ Σ_d (μ² + σ² − log σ² − 1)"
    cases = [
        (probe.normal(f"t mu {n}", n, d), probe.normal(f"t logvar {n}", n, d))
        for n, d in ((3, probe.latents[0]), (4, probe.latents[1]), (2, probe.latents[0]))
    ]
    points = [
        _Point(len(m), m.shape[1], float(probe.kl(m, s)), float(oracles.kl(m, s).sum()))
        for m, s in cases
    ]
    if factor := _factor("kl", "latents", points):
        return _named(factor[0], f"your KL {factor[1]}", factor[1], right)
    if constant := _constant(points):
        return _named("kl-plus-constant", f"your KL is {constant} too large", "KL + c", right)
    swapped = [float(oracles.kl(s, m).sum()) for m, s in cases]
    if all(abs(p.got - e) <= _SAME * abs(e) for p, e in zip(points, swapped, strict=True)):
        return _named("kl-swapped-arguments", "your KL takes (logvar, mu)", "KL(logvar, μ)", right)
    errors = [abs(p.got / p.expected - 1) for p in points]
    if max(errors) <= _SAME:
        return _clamp(probe, right) or _wrong_gradient(probe, *cases[0], right)
    return coefficients.explain(probe, right) or _imprecise(max(errors), right)


def _imprecise(error: float, right: str) -> Diagnosis | None:
    if not error < _IMPRECISE:
        return None
    return _named(
        "kl-imprecise",
        f"your KL has only {-math.log10(error):.0f} correct digits: it is computed in a lower "
        "precision, or something small is added to it",
        "KL + error",
        right,
    )


def _clamp(probe: Probe, right: str) -> Diagnosis | None:
    """Look for the logvar from which on a KL is wrong that is right elsewhere."""
    for sign in (1.0, -1.0):
        last = 0.0
        for step in range(1, 2 * _LARGEST_LOGVAR + 1):
            s = sign * step / 2
            logvar = torch.full((1, probe.latents[-1]), s, dtype=probe.dtype)
            exact = oracles.kl(0 * logvar, logvar).sum()
            if not abs(float(probe.kl(0 * logvar, logvar) / exact) - 1) <= _CLAMPED:
                return _named(
                    "kl-clamped",
                    f"your KL is right for logvar up to {last:g} and wrong from {s:g} on: it is "
                    "clamped or overflows there",
                    f"KL(μ, clamp(logvar, {last:g}))",
                    right,
                )
            last = s
    return None


def _wrong_gradient(probe: Probe, mu: Tensor, logvar: Tensor, right: str) -> Diagnosis | None:
    """Say which gradient of a KL with the right value is missing or wrong."""
    if not probe.kl.differentiable:
        return None
    gradients, allowed = probe.gradient(probe.kl, mu, logvar), ratio_tolerance(probe.dtype)
    exact = {"mu": mu, "logvar": torch.expm1(logvar) / 2}
    for (name, expected), gradient in zip(exact.items(), gradients, strict=True):
        if not gradient.any():
            return _named(
                f"kl-dead-{name}",
                f"the value of your KL is right, but no gradient reaches {name}",
                f"stop({name})",
                right,
            )
        if not torch.allclose(gradient, expected, rtol=allowed, atol=allowed):
            return _named(
                f"kl-wrong-gradient-{name}",
                f"the value of your KL is right, but the gradient in {name} is not: part of it is "
                "detached or scaled",
                "stop(…)",
                right,
            )
    return None


def _nll(probe: Probe) -> Diagnosis | None:
    right = f"−Σ_i log p(x_i | x̂_i), {probe.likelihood.name}"
    points = []
    for examples, pixels in ((3, probe.pixels[0]), (4, probe.pixels[-1]), (2, probe.pixels[0])):
        outputs = probe.likelihood.outputs(probe.normal(f"t {examples}", examples, pixels))
        x = probe.uniform(f"t x {examples}", examples, pixels)
        exact = float(probe.likelihood.nll(outputs.double(), x.double()).sum())
        points.append(_Point(examples, pixels, float(probe.nll(outputs, x)), exact))
    if factor := _factor("nll", "pixels", points):
        return _named(factor[0], f"your reconstruction term {factor[1]}", factor[1], right)
    if constant := _constant(points):
        explanation = f"your reconstruction term is {constant} too large"
        return _named("nll-plus-constant", explanation, "NLL + c", right)
    return None
