"""Say which term of a KL has a wrong coefficient: fit it in mu^2, sigma^2, log sigma^2 and 1."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.probe.terms import ratio_tolerance
from vae_ref.conformance.records import Diagnosis

__all__ = ["explain"]


class _Term(NamedTuple):
    """A function of mu and log sigma^2 that is summed, with its coefficient in the right KL."""

    symbol: str
    name: str
    of: Callable[[Tensor, Tensor], Tensor]
    right: float = 0.0


_TERMS = (
    _Term("μ²", "mu-squared", lambda m, _: m**2, 0.5),
    _Term("σ²", "variance", lambda _, s: s.exp(), 0.5),
    _Term("log σ²", "log-variance", lambda _, s: s, -0.5),
    _Term("1", "one", lambda m, _: torch.ones_like(m), -0.5),
)
_OTHERS = (
    _Term("μ", "mu", lambda m, _: m),
    _Term("|μ|", "absolute-mu", lambda m, _: m.abs()),
    _Term("σ", "sigma", lambda _, s: (s / 2).exp()),
    _Term("σ⁴", "squared-variance", lambda _, s: (2 * s).exp()),
    _Term("1/σ²", "precision", lambda _, s: (-s).exp()),
    _Term("(log σ²)²", "squared-log-variance", lambda _, s: s**2),
    _Term("μσ", "mu-sigma", lambda m, s: m * (s / 2).exp()),
    _Term("μ²σ²", "mu-squared-variance", lambda m, s: m**2 * s.exp()),
    _Term("μ²/σ²", "mu-squared-precision", lambda m, s: m**2 * (-s).exp()),
)
"""What a slip of the pen puts in the place of a term."""

_CASES = 16
"""How many batches are fitted: three times the five coefficients, so that a fit shows it."""

_LARGEST_DENOMINATOR, _CLOSE = 8, 1e-3
"""Up to which denominator a number is a fraction, and how far it may be from it, relatively."""

_SYMBOLS = {"1/2": "½", "1/4": "¼", "3/4": "¾"}


def explain(probe: Probe, right: str) -> Diagnosis | None:
    """Name the terms of a KL that have another coefficient than they should.

    The KL is fitted by the terms of the right one and, if that is not exact, by one more.
    An audited KL is known up to a factor and a constant: then two terms that agree are right.
    """
    for terms in (_TERMS, *((*_TERMS, other) for other in _OTHERS)):
        found = _fitted(probe, terms)
        if found is not None:
            return _said(terms, found, bool(probe.subject.weights), right)
    return None


def _fitted(probe: Probe, terms: tuple[_Term, ...]) -> list[float] | None:
    """Return the coefficients with which the sums of the terms are the KL, if there are such."""
    sums, answers, sizes = [], [], []
    allowed = ratio_tolerance(probe.dtype)
    for case in range(_CASES):
        n, d = 2 + case % 3, probe.latents[case % 2]
        m, s = probe.normal(f"c mu {case}", n, d), probe.normal(f"c logvar {case}", n, d)
        parts = [term.of(m.double(), s.double()) for term in terms]
        sums.append(torch.stack([part.sum() for part in parts]))
        sizes.append(sum(part.abs().sum() for part in parts))
        answers.append(float(probe.kl(m, s)))
    matrix, values = torch.stack(sums), torch.tensor(answers, dtype=torch.float64)
    if not values.isfinite().all():
        return None
    found = torch.linalg.lstsq(matrix, values).solution
    if not ((matrix @ found - values).abs() <= allowed * torch.tensor(sizes)).all():
        return None
    return [0.0 if abs(c) < allowed else float(c) for c in found]


def _said(
    terms: tuple[_Term, ...], found: list[float], is_scaled: bool, right: str
) -> Diagnosis | None:
    """Put the coefficients that are wrong into words: first a term that should not be there."""
    pairs = list(zip(terms, found, strict=True))
    width = _width_of_prior(found)
    if width:
        return Diagnosis(
            bug="kl-prior-of-other-width",
            explanation="your KL is the one from a prior with the standard deviation "
            f"{width:.4g}, not 1",
            score=1.0,
            yours=_formula(pairs),
            right=right,
        )
    if is_scaled:
        _, scale, _ = sorted(coefficient / term.right for term, coefficient in pairs[:3])
        pairs = [(term, c / scale) for term, c in pairs if term.symbol != "1"] if scale else []
        if sum(_is_close(coefficient, term.right) for term, coefficient in pairs[:3]) < 2:
            return None
    wrong = [(term, c) for term, c in pairs if not _is_close(c, term.right)]
    wrong.sort(key=lambda pair: pair[0].right != 0)
    if not wrong:
        return None
    names, phrases = zip(*(_phrase(*pair) for pair in wrong), strict=True)
    words = [phrase.format("your KL" if n == 0 else "it") for n, phrase in enumerate(phrases)]
    return Diagnosis(
        bug="kl-coefficients" if len(names) > 1 and wrong[0][0].right else names[0],
        explanation=", and ".join(words),
        score=1.0,
        yours=_formula(pairs),
        right=right,
    )


def _width_of_prior(found: list[float]) -> float:
    """Return w if this is the KL from N(0, w^2), or 0.

    Of Σ ½ ((μ² + σ²) / w² − log σ² − (1 − log w²)) the last term tells it from a wrong weight.
    """
    square, variance, log, one, *_ = found
    if len(found) > len(_TERMS) or not square or not log or not _is_close(variance, square):
        return 0.0
    ratio = -log / square
    is_one = ratio > 0 and _is_close(one, log * (1 - math.log(ratio)))
    return math.sqrt(ratio) if is_one and not _is_close(ratio, 1) else 0.0


def _phrase(term: _Term, coefficient: float) -> tuple[str, str]:
    """Return a name for a wrong coefficient, and what is wrong with it."""
    if not term.right:
        return f"kl-with-{term.name}", f"{{}} contains {term.symbol}, and should not"
    if not coefficient:
        return f"kl-{term.name}-missing", f"{term.symbol} is missing from {{}}"
    factor = coefficient / term.right
    if _is_close(factor, -1):
        return f"kl-{term.name}-negated", f"{term.symbol} enters {{}} with the wrong sign"
    number = _number(factor)
    times = f"{number} of" if abs(factor) < 1 else f"{number} times"
    return (
        f"kl-{term.name}-times-{number}",
        f"{term.symbol} enters {{}} with {times} its weight",
    )


def _formula(pairs: list[tuple[_Term, float]]) -> str:
    """Write the sum that was found."""
    text = ""
    for term, coefficient in pairs:
        if coefficient:
            number = _number(abs(coefficient))
            number = _SYMBOLS.get(number, number)
            factor = number if term.symbol == "1" else f"{number} {term.symbol}".removeprefix("1 ")
            text += f" {'−' if coefficient < 0 else '+'} {factor}"
    return f"Σ_d ({text.removeprefix(' + ').strip()})"


def _number(value: float) -> str:
    """Write a number as a simple fraction, if it is one."""
    fraction = Fraction(value).limit_denominator(_LARGEST_DENOMINATOR)
    return str(fraction) if _is_close(float(fraction), value) else f"{value:.4g}"


def _is_close(a: float, b: float) -> bool:
    return abs(a - b) <= _CLOSE * abs(b)
