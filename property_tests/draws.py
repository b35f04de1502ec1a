"""What Hypothesis draws: numbers of at most nine decimals, so no subnormal ones, unless asked."""

from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp


def reals(low: float, high: float) -> st.SearchStrategy:
    return st.floats(low, high).map(lambda number: round(number, 9))


def arrays(shape: tuple[int, ...], low: float, high: float) -> st.SearchStrategy:
    return hnp.arrays(float, shape, elements=reals(low, high))
