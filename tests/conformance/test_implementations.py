import ast
import inspect

import pytest
import torch
from implementations import IMPLEMENTATIONS

from vae_ref.conformance import verify

FINE = ("pass", "not-applicable")
ADAPTERS = [adapter for adapter, _ in IMPLEMENTATIONS]


def name(value):
    return getattr(value, "__name__", "")


@pytest.mark.parametrize(("adapter", "broken"), IMPLEMENTATIONS, ids=name)
def test_the_kit_reports_what_is_wrong_and_nothing_else(adapter, broken):
    torch.manual_seed(0)
    report = verify(adapter())
    found = "\n".join(
        f"{r.claim.id}: {r.status}, explained by {r.explained_by}: {r.message}"
        for r in report.results
        if r.status not in FINE
    )
    assert {r.claim.id for r in report.failures} == broken, found
    assert report.verdict == ("violated" if broken else "partial"), found


@pytest.mark.parametrize("adapter", ADAPTERS, ids=name)
def test_an_adapter_has_at_most_ten_lines(adapter):
    function = ast.parse(inspect.getsource(adapter)).body[0]
    statements = [
        s for s in function.body if not isinstance(getattr(s, "value", None), ast.Constant)
    ]
    assert sum(s.end_lineno - s.lineno + 1 for s in statements) <= 10
