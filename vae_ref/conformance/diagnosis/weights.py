"""Say where the weights of a step's two terms come from: what they are averaged over."""

import math
from collections.abc import Collection, Iterator
from typing import NamedTuple

from vae_ref.conformance.mutants import BANK
from vae_ref.conformance.records import Diagnosis
from vae_ref.conformance.subject import Weights

__all__ = ["explain", "explain_reductions"]

_SAME = 1e-6
"""How far two weights may differ, relatively, and be the same."""


class _Factor(NamedTuple):
    """Why a term has a weight.

    Attributes:
        key: A word for it.
        value: The weight.
        cost: How unlikely it is as an explanation.
        text: What the term is, in words.
        remedy: What to do, in words.
    """

    key: str
    value: float
    cost: float
    text: str
    remedy: str


def _factors(examples: int, features: int, name: str) -> Iterator[_Factor]:
    over = f"over the {name} ({features} for each example)"
    yield _Factor("", 1.0, 0, "", "")
    mean = f"averaged {over}"
    yield _Factor("mean", 1 / features, 1, mean, f"sum over the {name}")
    both = f"averaged over the batch and {over}"
    total = 1 / (examples * features)
    yield _Factor("everything", total, 1.5, both, f"sum over the {name}")
    batch = f"averaged over the batch ({examples} examples), and the other term is not"
    yield _Factor("batch", 1 / examples, 1, batch, "average both over the batch, or neither")
    twice = f"divided by the batch size ({examples}) twice"
    yield _Factor("batch-twice", examples**-2, 1.6, twice, "divide once")
    yield _Factor("negated", -1.0, 1, "subtracted", "add it")
    yield _Factor("twice", 2.0, 1.2, "twice what it should be", "halve it")
    yield _Factor("half", 0.5, 1.2, "half of what it should be", "double it")
    bits = 1 / math.log(2)
    yield _Factor("bits", bits, 1.4, "in bits", "use natural logarithms")


_BUGS = {
    ("kl", "mean"): "kl-mean-over-latents",
    ("kl", "everything"): "kl-mean-over-everything",
    ("kl", "batch"): "loss-sum-plus-batch-mean",
    ("kl", "negated"): "kl-negated",
    ("kl", "twice"): "kl-no-half",
    ("kl", "half"): "loss-kl-halved",
    ("kl", "bits"): "kl-in-bits",
    ("kl", "nominal-batch-size"): "loss-nominal-batch-size",
    ("nll", "mean"): "nll-mean-over-pixels",
    ("nll", "everything"): "nll-mean-over-everything",
    ("nll", "batch"): "loss-batch-mean-plus-sum",
    ("nll", "batch-twice"): "nll-divided-twice",
    ("nll", "negated"): "nll-negated",
    ("nll", "half"): "nll-half",
    ("nll", "bits"): "nll-in-bits",
}

_NOMINAL = {*(2**power for power in range(4, 13)), 100, 200, 500, 1000, 50_000, 60_000}
"""Usual sizes of a batch or a data set, by which a term is divided in place of its own size."""

_NUMBERS = {
    ("kl", 4.0): "loss-beta-4",
    ("kl", 1e-6): "loss-kl-weight-1e-6",
    ("kl", 1.01): "kl-one-per-cent",
    ("nll", 1 / 3): "nll-channel-mean",
    ("kl", 1 / 128): "kl-nominal-batch-size",
    ("nll", 1 / 128): "nll-nominal-batch-size",
}


def _same(a: float, b: float) -> bool:
    return abs(a - b) <= _SAME * abs(b)


def _factor(value: float, examples: int, features: int, name: str, scale: float) -> _Factor:
    for factor in _factors(examples, features, name):
        if _same(value, factor.value):
            return factor
    nominal = 1 / (value * scale)
    is_plain = _same(value, float(f"{value:.2g}"))
    if scale < 1 and not is_plain and any(_same(nominal, n) for n in _NOMINAL):
        text = f"divided by {nominal:.6g} in place of the number of examples ({examples})"
        return _Factor("nominal-batch-size", value, 1.8, text, "divide both by the latter")
    return _Factor(f"times-{value:.6g}", value, 3, f"multiplied by {value:.6g}", "")


def explain(weights: Weights, *, scaled: bool = False) -> Diagnosis | None:
    """Name the reason why the KL has another weight than the reconstruction.

    Args:
        weights: The weights of both terms.
        scaled: Whether the likelihood has a scale that is free, such as a squared error: then the
            weights may have any ratio that is positive.
    """
    a, b = weights.nll, weights.kl
    if not a or not b:
        return None
    if scaled:
        a, b = math.copysign(1, a), math.copysign(1, b)
    found: list[tuple[float, _Factor, _Factor]] = []
    for scale in (1.0, 1.0 / weights.examples):
        nll = _factor(a / scale, weights.examples, weights.pixels, "pixels", scale)
        kl = _factor(b / scale, weights.examples, weights.latents, "latents", scale)
        found.append((nll.cost + kl.cost, nll, kl))
    _, nll, kl = min(found, key=lambda item: item[0])
    if not nll.key and not kl.key:
        return None
    beta = b / a
    reasons = []
    for term, factor, place in (
        ("your reconstruction term", nll, weights.nll_place),
        ("your KL", kl, weights.kl_place),
    ):
        if factor.key:
            remedy = f": {factor.remedy}" if factor.remedy else ""
            reasons.append(f"{term} is {factor.text}{remedy} ({place})")
    explanation = f"{' and '.join(reasons)}. {_effect(beta, weights)}"
    name = _name(nll, kl)
    known = BANK.get(name)
    return Diagnosis(
        bug=name,
        explanation=explanation,
        score=1.0,
        yours=_sum(a, b),
        right="NLL + KL, or the mean over n of both",
        links=known.links if known else (),
    )


_REDUCTIONS = {
    "mean-sum": ("loss-batch-mean-plus-sum", "averaged", "summed", "in proportion to"),
    "sum-mean": ("loss-sum-plus-batch-mean", "summed", "averaged", "inversely to"),
}


def explain_reductions(weights: Weights, symptoms: Collection[str]) -> Diagnosis | None:
    """Name the bug of a step that sums one term over the batch and averages the other."""
    for symptom, (name, nll, kl, law) in _REDUCTIONS.items():
        if symptom in symptoms:
            return Diagnosis(
                bug=name,
                explanation=f"your reconstruction term is {nll} over the batch "
                f"({weights.nll_place}), and your KL is {kl} ({weights.kl_place}), so its weight "
                f"changes {law} the batch size: sum both, or average both",
                score=1.0,
                yours=_sum(weights.nll or 0.0, weights.kl or 0.0),
                right="NLL + KL, or the mean over n of both",
                links=BANK[name].links,
            )
    return None


def _sum(nll: float, kl: float) -> str:
    terms = ((abs(nll), "NLL"), (abs(kl), "KL"))
    first, second = (name if size == 1 else f"{size:.6g} {name}" for size, name in terms)
    return f"{'−' if nll < 0 else ''}{first} {'−' if kl < 0 else '+'} {second}"


def _name(nll: _Factor, kl: _Factor) -> str:
    if nll.key and kl.key:
        return "loss-weights"
    term, factor = ("kl", kl) if kl.key else ("nll", nll)
    for (part, number), bug in _NUMBERS.items():
        if part == term and _same(factor.value, number):
            return bug
    return _BUGS.get((term, factor.key), f"{term}-{factor.key}")


def _effect(beta: float, weights: Weights) -> str:
    """Say what a weight of the KL does, at the sizes of the step."""
    sizes = f"At {weights.pixels} pixels and {weights.latents} latents"
    if beta < 0:
        return "The codes are driven from the prior, and the loss falls without end"
    if beta < 1:
        return (
            f"{sizes} you train with beta {beta:.4g}: the KL is {1 / beta:.4g} times too weak, so "
            "the codes need not be like the prior, and draws from it decode badly"
        )
    return (
        f"{sizes} you train with beta {beta:.4g}: the KL is {beta:.4g} times too strong, so the "
        "codes say less of the image, and reconstructions are blurred"
    )
