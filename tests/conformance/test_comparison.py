"""The one comparison: it refuses what is a little off, NaN, and other shapes."""

import pytest
import torch

from vae_ref.conformance.answers.comparison import ROUNDINGS, require_agreement
from vae_ref.conformance.records import Violation

EPS = torch.finfo(torch.float64).eps


def compare(got, expected, scale=1.0, dtype=torch.float64):
    require_agreement("it", got, expected, scale=scale, dtype=dtype, inputs={"mu": torch.zeros(1)})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_the_tolerance_is_thirty_two_roundings_of_the_scale(dtype, scale):
    assert ROUNDINGS == 32
    eps = torch.finfo(dtype).eps
    exact = torch.zeros(3)
    compare(exact + 31 * eps * scale, exact, scale, dtype)
    compare(exact - 31 * eps * scale, exact, scale, dtype)
    for sign in (1, -1):
        with pytest.raises(Violation):
            compare(exact + sign * 33 * eps * scale, exact, scale, dtype)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_refused(bad):
    got = torch.tensor([0.0, bad])
    with pytest.raises(Violation) as caught:
        compare(got, torch.zeros(2))
    assert caught.value.symptom == "not-finite"


def test_other_shapes_are_refused():
    with pytest.raises(Violation, match=r"shape \(2,\), not \(3,\)"):
        compare(torch.zeros(2), torch.zeros(3))


def test_an_exact_comparison_allows_nothing():
    compare(torch.tensor(0.0), torch.tensor(0.0), 0.0)
    with pytest.raises(Violation):
        compare(torch.tensor(5e-324), torch.tensor(0.0), 0.0)


def test_the_worst_element_is_the_counterexample():
    got, exact = torch.tensor([[0.0, 1.0], [3.0, 0.0]]), torch.zeros(2, 2)
    with pytest.raises(Violation, match=r"it is 3 at \[1, 0\], not 0") as caught:
        compare(got, exact)
    counterexample = caught.value.counterexample
    assert counterexample["index"] == [1, 0]
    assert (counterexample["got"], counterexample["expected"]) == (3.0, 0.0)
    assert counterexample["inputs"] == {"mu": [0.0]}
    assert counterexample["tolerance"] == 32 * EPS
