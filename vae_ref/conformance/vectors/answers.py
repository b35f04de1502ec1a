"""The answers to the questions, by both ways."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import mpmath

from vae_ref.conformance.vectors import quantities
from vae_ref.conformance.vectors.cases import Case
from vae_ref.conformance.vectors.quantities import QUANTITIES, Term
from vae_ref.conformance.vectors.rounded import DIGITS, Rounded, number, total

__all__ = ["Answer", "agreement", "answered", "answered_again"]

_MORE = 3
"""How many times the digits a numerical derivative is computed with."""

_NOTHING = 30
"""A number counts as 0 from so many digits below what it is computed from."""

_LEAST = 60
"""So it does below 1e-60: a numerical derivative shows no weight of exp(-800)."""


class Answer(NamedTuple):
    """The value of a quantity, and its slopes.

    Attributes:
        shape: The shape of the value.
        value: The value, one number for each example or each place.
        slopes: The derivatives of the sum of all values, by input, in the shape of the input.
    """

    shape: tuple[int, ...]
    value: list[Any]
    slopes: dict[str, list[Any]]


def _places(case: Case, term: Term) -> list[tuple[float, ...]]:
    """Return the numbers of a term's inputs, place by place."""
    return list(zip(*(case.inputs[name].numbers for name in term.inputs), strict=True))


def _by(
    case: Case,
    value: Callable[[Term, tuple[float, ...]], Any],
    add: Callable[[Sequence[Any]], Any],
) -> tuple[tuple[int, ...], list[Any]]:
    """Return the shape and the numbers of the value, summed over the last axis if it is a sum."""
    quantity = QUANTITIES[case.quantity]
    shape = next(iter(case.inputs.values())).shape
    if not quantity.is_summed:
        (term,) = quantity.terms
        return shape, [value(term, place) for place in _places(case, term)]
    rows: list[list[Any]] = [[] for _ in range(shape[0])]
    for term in quantity.terms:
        width = case.inputs[term.inputs[0]].shape[1]
        for index, place in enumerate(_places(case, term)):
            rows[index // width].append(value(term, place))
    return shape[:1], [add(row) for row in rows]


def answered(case: Case) -> Answer:
    """Answer by the closed forms, with the rounding errors of the textbook's formulas."""
    with mpmath.workdps(DIGITS):
        if case.quantity == "importance-weighted-bound":
            rows = [[number(w) for w in row] for row in case.inputs["log_w"].rows]
            slopes = [slope for row in rows for slope in quantities.bound_slopes(row)]
            return Answer((len(rows),), [quantities.bound(r) for r in rows], {"log_w": slopes})
        shape, value = _by(case, lambda term, place: term.value(*map(number, place)), total)
        found: dict[str, list[Any]] = {}
        for term in QUANTITIES[case.quantity].terms:
            for name, slope in term.slopes.items():
                found[name] = [slope(*map(number, place)) for place in _places(case, term)]
        return Answer(shape, value, found)


def answered_again(case: Case) -> Answer:
    """Answer by the second way; slopes by numerical derivatives of the value."""
    with mpmath.workdps(DIGITS):
        if case.quantity == "importance-weighted-bound":
            rows = [[mpmath.mpf(w) for w in row] for row in case.inputs["log_w"].rows]
            value = [quantities.bound_by_pairs(row) for row in rows]
            slopes = [_slope(_bound, row, i) for row in rows for i in range(len(row))]
            return Answer((len(rows),), value, {"log_w": slopes})

        def second(term: Term, place: tuple[float, ...]) -> Any:
            return term.second(*map(mpmath.mpf, place))

        shape, value = _by(case, second, mpmath.fsum)
        found: dict[str, list[Any]] = {}
        for term in QUANTITIES[case.quantity].terms:
            for name in term.slopes:
                index = term.inputs.index(name)
                found[name] = [
                    _slope(lambda *a, t=term: t.value(*map(number, a)).value, place, index)
                    for place in _places(case, term)
                ]
        return Answer(shape, value, found)


def _bound(*row: Any) -> Any:
    return quantities.bound([number(w) for w in row]).value


def _slope(f: Callable[..., Any], at: Sequence[float], index: int) -> Any:
    """Return a partial derivative as the quotient of a central difference, with many digits.

    Its step h is 1e-80, so its error is about h^2 and the digits that the difference loses.
    """
    with mpmath.workdps(_MORE * DIGITS):
        h = mpmath.mpf(10) ** -DIGITS
        low, high = list(map(mpmath.mpf, at)), list(map(mpmath.mpf, at))
        low[index] -= h
        high[index] += h
        return (f(*high) - f(*low)) / (2 * h)


def agreement(first: Answer, second: Answer) -> float:
    """Return to how many digits two answers agree, at the worst number."""
    worst = mpmath.mpf(0)
    pairs = [(first.value, second.value)]
    pairs += [(first.slopes[name], second.slopes[name]) for name in first.slopes]
    with mpmath.workdps(DIGITS):
        for a, b in ((x, y) for one, other in pairs for x, y in zip(one, other, strict=True)):
            exact: Rounded = a
            least = max(exact.scale * mpmath.mpf(10) ** -_NOTHING, mpmath.mpf(10) ** -_LEAST)
            size = max(abs(exact.value), least)
            worst = max(worst, abs(exact.value - b) / size)
        return float(-mpmath.log10(worst)) if worst else float(DIGITS)
