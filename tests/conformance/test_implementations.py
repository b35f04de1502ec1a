import ast
import inspect

import pytest
import torch
from implementations import IMPLEMENTATIONS

from vae_ref.conformance import verify

HOLDS = ("pass", "not-applicable")

NAMES = [adapter.__name__ for adapter, _ in IMPLEMENTATIONS]


@pytest.mark.sampled(6)
@pytest.mark.parametrize(
    ("adapter", "broken"),
    [
        pytest.param(*pair, id=name, marks=[pytest.mark.slow] * (index % 24 > 0 or name == "flax"))
        for index, (name, pair) in enumerate(zip(NAMES, IMPLEMENTATIONS, strict=True))
    ],  # one in 24 by default
)
def test_the_kit_reports_what_is_wrong_and_nothing_else(adapter, broken, user):
    torch.manual_seed(0)
    report = verify(adapter())
    found = "\n".join(
        f"{r.claim.id}: {r.status}, explained by {r.explained_by}: {r.message}"
        for r in report.results
        if r.status not in HOLDS
    )
    assert {r.claim.id for r in report.failures} == broken, found
    assert report.verdict == ("violated" if broken else "partial"), found


@pytest.mark.parametrize("adapter", [adapter for adapter, _ in IMPLEMENTATIONS], ids=NAMES)
def test_an_adapter_has_at_most_ten_lines(adapter):
    function = ast.parse(inspect.getsource(adapter)).body[0]
    lines = function.end_lineno - function.body[0].lineno + 1
    if ast.get_docstring(function):
        lines -= function.body[0].end_lineno - function.body[0].lineno + 1
    assert lines <= 10
