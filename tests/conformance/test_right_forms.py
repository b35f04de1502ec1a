"""No correct variant is accused in a form that training steps have."""

import pytest
import torch

from tests.conformance.right_forms import FORMS, audited
from tests.conformance.variants import VARIANTS

pytestmark = [pytest.mark.usefixtures("user"), pytest.mark.slow]

PAIRS = [(form, make) for make in VARIANTS for form in FORMS]


@pytest.mark.parametrize(
    ("form", "make"),
    [pytest.param(form, make, id=f"{form}-{make.__name__}") for form, make in PAIRS[::20]],
)
def test_no_right_variant_is_accused(form, make):
    """All of them, with many seeds: python -m tests.conformance.right_forms."""
    torch.set_default_dtype(torch.float32)
    found = audited(form, make, seed=0)
    accused = found is not None and found.subject is not None and found.report.failures
    assert not accused, [(r.claim.id, r.message) for r in accused]


def test_nearly_all_variants_have_a_form():
    torch.set_default_dtype(torch.float32)
    without = [make.__name__ for make in VARIANTS if audited("textbook", make, seed=0) is None]
    assert len(without) < 8, without
