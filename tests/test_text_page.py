"""The page of what the guide says: its headings, and numbers that can be."""

import re
import sys
from pathlib import Path

import pytest

from vae_ref.conformance.answers.intervals import interval, measured
from vae_ref.conformance.claims import significance

DOCS = Path(__file__).parents[1] / "docs"
NUMBER = r"−?[\d,]*\.?\d+(?:e-\d+)?"
CELL = re.compile(rf"\| ({NUMBER})\s±\s({NUMBER}) \| ({NUMBER})\sto\s({NUMBER}) ")


@pytest.fixture(scope="module")
def page():
    sys.path.insert(0, str(DOCS))
    try:
        import text
    finally:
        sys.path.remove(str(DOCS))
    assert {key.partition(": ")[0] for key in measured()["mnist"]["measures"]} == {*text.HEADINGS}
    assert len({*text.HEADINGS.values()}) == len(text.HEADINGS)
    return text.substitutions()["text_claims"]


def number(shown):
    return float(shown.replace("−", "-").replace(",", ""))


def rows(page):
    """Yield the full name of each measure, and what stands beside it on MNIST."""
    for table in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        head, _, *lines = table.splitlines()
        claim = head.split(" | ")[0].removeprefix("| ")
        for line in lines:
            name, _, rest = line.removeprefix("| ").partition(" | ")
            if found := CELL.match(f"| {rest}"):
                unit = 10 ** -len(found[1].partition(".")[2])
                yield f"{claim}: {name}", [*map(number, found.groups()), unit]


def test_the_shown_interval_is_that_which_is_asked_for_rounded_outwards(page):
    found = dict(rows(page))
    stored = measured()["mnist"]["measures"]
    assert len(found) == len(stored)
    for key, (mean, _, low, high, unit) in found.items():
        count = sum(name.startswith(f"{key.partition(': ')[0]}: ") for name in stored)
        ends = interval("mnist", key, significance() / count)
        assert low <= mean <= high, key
        assert low == 0 or ends[0] - unit <= low <= ends[0], key
        assert high == 20 or ends[1] <= high <= ends[1] + unit, key


def test_no_end_is_impossible_and_no_number_has_more_than_four_digits(page):
    for key, (mean, deviation, low, high, _) in rows(page):
        if "log10" not in key and re.search(r": (?:.*, )?(?:test )?(?:KL|rms)\b", key):
            assert low >= 0, key
        if "active latents" in key:
            assert high <= 20
        assert deviation >= 0
        assert len(f"{abs(mean):g}".replace(".", "").lstrip("0")) <= 4, key
