"""The badge: what a report says, in a picture for a README."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from vae_ref.conformance.reports.badge import BadgeError, badge, read

DOCS = Path(__file__).parents[2] / "docs"
SVG = "{http://www.w3.org/2000/svg}"
GREEN, RED, GREY = "#1a7f37", "#b42318", "#59636e"


def report(**changed):
    """A report as `vae-ref verify --json` writes it, without what no badge needs."""
    return {
        "schema_version": 2,
        "subject": "mine",
        "verdict": "partial",
        "broken": "",
        "level": "standard",
        "edition": 1,
        "counts": {"pass": 63, "not-applicable": 6},
        "versions": {"vae_ref": "0.1.0"},
        "declared": {},
    } | changed


def texts(svg):
    return [element.text for element in ET.fromstring(svg).iter(f"{SVG}text")]


def colours(svg):
    return {element.get("fill") for element in ET.fromstring(svg).iter(f"{SVG}rect")}


def written(folder, content):
    path = folder / "report.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_claims_that_hold_are_green():
    svg = badge(report())
    assert texts(svg) == ["VAE", "63 claims hold", "vae_ref 0.1.0, edition 1"]
    assert GREEN in colours(svg)


@pytest.mark.parametrize(
    ("changed", "text", "colour"),
    [
        ({"verdict": "conformant", "counts": {"pass": 1}}, "1 claim holds", GREEN),
        ({"verdict": "violated", "counts": {"pass": 60, "fail": 1}}, "1 claim violated", RED),
        (
            {"verdict": "violated", "counts": {"fail": 1, "error": 2, "unexpected-pass": 1}},
            "4 claims violated",
            RED,
        ),
        ({"verdict": "violated", "broken": "exit status 3"}, "the run broke off", RED),
        ({"verdict": "undecided", "counts": {"not-applicable": 69}}, "nothing judged", GREY),
        ({"verdict": "undecided", "counts": {}}, "nothing judged", GREY),
        (
            {"verdict": "undecided", "counts": {"pass": 60, "inconclusive": 2}},
            "60 claims hold, 2 undecided",
            GREY,
        ),
        ({"verdict": "undecided"}, "63 claims hold, undecided as a whole", GREY),
        (
            {"counts": {"pass": 14, "expected-failure": 1}},
            "14 claims hold, 1 known failure",
            GREY,
        ),
    ],
)
def test_what_is_less_than_that_is_said_and_not_green(changed, text, colour):
    svg = badge(report(**changed))
    assert texts(svg)[1] == text
    assert colour in colours(svg)
    assert colour == GREEN or GREEN not in colours(svg)


def test_what_was_declared_is_in_the_title_and_told_to_those_who_cannot_see():
    svg = ET.fromstring(badge(report(declared={"beta": 4.0, "likelihood": "gaussian"})))
    title = svg.find(f"{SVG}title").text
    assert title == (
        "VAE: 63 claims hold, as declared: beta = 4, likelihood = gaussian. "
        "vae_ref 0.1.0, edition 1"
    )
    assert svg.get("aria-label") == title
    assert svg.get("role") == "img"


def test_texts_are_escaped_and_short():
    versions = {"vae_ref": '<script>"&\x1b' + "x" * 1000}
    svg = badge(report(versions=versions, declared={"</title><script>": "\x00&"}))
    ET.fromstring(svg)
    assert "<script" not in svg
    assert len(texts(svg)[2]) < 60


def test_the_parts_do_not_overlap_and_hold_their_texts():
    svg = ET.fromstring(badge(report()))
    boxes = list(svg.iter(f"{SVG}rect"))
    right = 0.0
    for box, text in zip(boxes, svg.iter(f"{SVG}text"), strict=True):
        left, width = float(box.get("x")), float(box.get("width"))
        assert left == right
        assert float(text.get("textLength")) < width
        right = left + width
    assert float(svg.get("width")) == right


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("", "be JSON"),
        ("[" * 100_000, "be JSON"),
        ('{"counts": NaN}', "be JSON"),
        ("[]", "be an object"),
        ("{}", "schema_version"),
        (report(schema_version=1), "schema_version"),
        (report(verdict="fine"), "verdict"),
        (report(verdict=[]), "verdict"),
        (report(broken=None), "broken"),
        (report(counts=[63]), "counts"),
        (report(counts={"pass": "63"}), "counts"),
        (report(counts={"pass": True}), "counts"),
        (report(counts={"pass": -1}), "counts"),
        (report(counts={"pass": 10**9}), "counts"),
        (report(counts={"held": 63}), "counts"),
        (report(counts={"pass": 60, "fail": 3}), "verdict"),
        (report(versions={}), "versions"),
        (report(versions={"vae_ref": 1}), "versions"),
        (report(declared=[]), "declared"),
    ],
)
def test_a_malformed_report_is_refused_with_one_line(content, rule, tmp_path):
    with pytest.raises(BadgeError, match=rule) as caught:
        read(written(tmp_path, content))
    assert "\n" not in str(caught.value)
    assert "report.json" in str(caught.value)


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "report.json"
    with path.open("wb") as file:
        file.truncate(65 << 20)
    with pytest.raises(BadgeError, match="64 MiB"):
        read(path)


def test_the_badge_of_the_guide_is_made_like_all_others():
    """If it rightly changes, print it anew: vae-ref badge report.json > docs/images/badge.svg."""
    found = badge(report(counts={"pass": 64, "not-applicable": 5}))
    assert (DOCS / "images" / "badge.svg").read_text() == found
    assert "![VAE: 64 claims hold](../images/badge.svg)" in (DOCS / "howto/ci.md").read_text()


def test_the_command_prints_the_badge_of_what_verify_wrote(vae_ref_command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "from vae_ref.conformance import Subject\n"
        "subject = Subject(name='mine', kl=lambda mu, s: 0.5 * (mu**2 + s.exp() - 1 - s).sum(1))\n"
    )
    only = ("--only", "kl/closed-form")
    assert vae_ref_command("verify", "mine.py", *only, "--json", "report.json")[0] == 0
    status, output, errors = vae_ref_command("badge", "report.json")
    assert (status, errors) == (0, "")
    assert texts(output)[1] == "1 claim holds"


def test_the_command_answers_what_is_no_report_with_one_line(vae_ref_command, tmp_path):
    for path in (written(tmp_path, "{"), tmp_path / "none.json", tmp_path):
        status, output, errors = vae_ref_command("badge", path)
        assert (status, output) == (2, "")
        assert errors.count("\n") == 1
