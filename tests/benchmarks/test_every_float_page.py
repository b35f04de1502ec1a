"""The page of every float shows the result file, and says how many floats it is about."""

import importlib.util
import json
from pathlib import Path

import pytest

from benchmarks.every_float import __main__ as command
from benchmarks.every_float.contestants import CONTESTANTS
from benchmarks.every_float.exact import FUNCTIONS
from benchmarks.every_float.judging import ORDERS

DOCS = Path(__file__).parents[2] / "docs"
RIGHT = {"inputs": 1000, "not_rounded": 7, "over_1_ulp": 3, "exceptional": 0}
RIGHT |= {"worst": 1.25, "worst_at": (0.1).hex(), "exceptional_at": None}
WRONG = RIGHT | {"worst": 16_777_216.0, "exceptional": 2000, "exceptional_at": "nan"}


@pytest.fixture
def page(monkeypatch, tmp_path):
    """The module of the page, with the result file in an empty directory."""
    spec = importlib.util.spec_from_file_location("every_float_page", DOCS / "every_float.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RESULTS", tmp_path / "every_float.json")
    return module


def test_without_results_the_page_names_the_command(page):
    assert {"Not measured; `python -m benchmarks.every_float` would."} == set(
        page.substitutions().values()
    )


@pytest.mark.parametrize(
    ("stride", "others", "words"),
    [
        (1, 1, "*Every float."),
        (4097, 1, "*Only one of 4,097 floats."),
        (1, 16, "*Every float for the reference, and one of 16 for the others."),
    ],
)
def test_all_contestants_are_shown(page, stride, others, words):
    state = command.begin(stride, others)
    for contestants in state["functions"].values():
        for who in contestants:
            contestants[who] = dict(zip(ORDERS, (RIGHT, WRONG), strict=True))
    page.RESULTS.write_text(json.dumps(state))
    found = page.substitutions()
    assert words in found["every_float_reference"]
    assert found["every_float_reference"].count("| value | 1.250 | 0.1 | 3 | 7 | 0 |") == 8
    assert found["every_float"].count(
        "| derivative | 1.7e+07 | 0.1 | 3 | 7 | 2,000, nan |"
    ) == sum(map(len, CONTESTANTS.values()))
    assert page.NAMES.keys() == FUNCTIONS.keys()
    for name in FUNCTIONS:
        anchor = f"float-{name.replace('_', '-')}"
        assert f"](#{anchor})" in found["every_float_reference"]
        assert f"({anchor})=" in found["every_float"]
