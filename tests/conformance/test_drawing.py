"""The drawing of an audited VAE, as it is seen."""

import re
from dataclasses import replace
from functools import cache
from itertools import combinations
from xml.etree import ElementTree

import pytest
import torch
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from steps import categorical, conditional, masked, mean_for_sum, textbook, with_a_sampled_kl
from test_diagram import (
    conditional_prior,
    hierarchy,
    many_codes,
    two_codes,
    with_a_classifier,
    with_weight_decay,
)
from test_html import Page, made

from vae_ref.conformance import audit_step
from vae_ref.conformance.claims import all_claims
from vae_ref.conformance.records import Diagram, Edge, Node, Result
from vae_ref.conformance.reports.drawing import described, draw, drawing, marks
from vae_ref.conformance.reports.html import as_html

SVG = "{http://www.w3.org/2000/svg}"
CLAIMS = {claim.id: claim for claim in all_claims()}
LONG = "the_name_of_a_thing_that_does_not_end_" * 9
HOSTILE = "</text><script>alert(1)</script> & \x1b[31m\x00 {{ 7 * 7 }} \ud800 \u202e"


@cache
def plain():
    return found(textbook)


@cache
def found(make):
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        return audit_step(make()).diagram
    finally:
        torch.set_default_dtype(default)


def renamed(diagram, **changes):
    return Diagram(tuple(replace(node, **changes) for node in diagram.nodes), diagram.edges)


def backwards():
    """Edges against the order of the nodes, as in a circle."""
    nodes = [Node(id=n, kind="code", name=n, place="a.py:1") for n in "abcd"]
    pairs = [("a", "b"), ("b", "c"), ("c", "a"), ("d", "b"), ("a", "d")]
    return Diagram(tuple(nodes), tuple(Edge(*pair) for pair in pairs))


FORMS = [
    *(textbook, conditional, with_a_sampled_kl, masked, with_a_classifier, with_weight_decay),
    *(two_codes, hierarchy, conditional_prior, many_codes),
]
QUICK = [textbook, hierarchy]
DIAGRAMS = [
    *(
        pytest.param(
            lambda make=make: found(make),
            id=make.__name__,
            marks=[pytest.mark.slow] * (make not in QUICK),
        )
        for make in FORMS
    ),
    pytest.param(
        lambda: renamed(plain(), name=LONG, note=LONG, place=f"{LONG}.py:123"), id="long"
    ),
    pytest.param(lambda: renamed(plain(), name=HOSTILE, note=HOSTILE), id="hostile"),
    pytest.param(
        lambda: renamed(plain(), name="編碼器" * 20, note="W" * 40),
        id="wide",
        marks=pytest.mark.slow,
    ),
    pytest.param(backwards, id="backwards"),
]
EVERY = pytest.mark.parametrize("make", DIAGRAMS)
MARKED = {"loss": ["objective/beta"], "code": ["a/b", "c/d", "e/f", "g/h"]}


def parsed(diagram, marked=None):
    return ElementTree.fromstring(draw(diagram, marked, alone=True))


def boxes(root):
    """The boxes of the nodes in their order: left, top, right, bottom, and the lines inside."""
    for group in root.iter(f"{SVG}g"):
        box = group.find(f"{SVG}rect").attrib
        x, y, w, h = (float(box[name]) for name in ("x", "y", "width", "height"))
        yield (x, y, x + w, y + h), group.findall(f"{SVG}text")


def width_of(line):
    bold = line.get("class") != "small"
    font = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    size = 13 if line.get("class") == "name" else 11.5
    return TextPath((0, 0), line.text.strip(), size, prop=font).get_extents().width


@EVERY
def test_every_node_shows_its_name_and_its_line(make):
    diagram = make()
    drawn = list(boxes(parsed(diagram)))
    assert len(drawn) == len(diagram.nodes)
    for node, (_, lines) in zip(diagram.nodes, drawn, strict=True):
        texts = [line.text for line in lines]
        for text in (node.name, node.place):
            assert any(shown == text or "..." in shown for shown in texts), (text, texts)
        if node.place:
            assert texts[-1].endswith(node.place[-4:])


@EVERY
@pytest.mark.filterwarnings("ignore:Glyph")  # hostile names have characters that no font has
def test_no_text_leaves_its_box(make):
    for (left, top, right, bottom), lines in boxes(parsed(make(), MARKED)):
        for line in lines:
            half = width_of(line) / 2
            assert left + 4 <= float(line.get("x")) - half
            assert float(line.get("x")) + half <= right - 4
            assert top + 12 <= float(line.get("y")) <= bottom - 5


@EVERY
def test_no_boxes_overlap_and_none_is_cut(make):
    root = parsed(make(), MARKED)
    _, _, width, height = map(float, root.get("viewBox").split())
    drawn = [box for box, _ in boxes(root)]
    for left, top, right, bottom in drawn:
        assert left > 2
        assert top > 2
        assert right < width - 2
        assert bottom < height - 2
    for a, b in combinations(drawn, 2):
        assert a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1]


def points_of(path):
    """Points on an edge: of each of its curves, some."""
    numbers = list(map(float, re.findall(r"-?[\d.]+", path)))
    pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
    for i in range(0, len(pairs) - 1, 3):
        for t in (j / 20 for j in range(21)):
            weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3)
            curve = pairs[i : i + 4]
            yield tuple(sum(w * p[k] for w, p in zip(weights, curve, strict=True)) for k in (0, 1))


@EVERY
def test_every_edge_joins_its_boxes_and_passes_the_others_by(make):
    diagram = make()
    root = parsed(diagram, MARKED)
    at = dict(zip((n.id for n in diagram.nodes), (box for box, _ in boxes(root)), strict=True))
    paths = [p.get("d") for p in root.iter(f"{SVG}path") if p.get("class") == "edge"]
    assert len(paths) == len(diagram.edges)
    for (source, target), path in zip(diagram.edges, paths, strict=True):
        points = list(points_of(path))
        for name, near, (x, y) in ((source, 1, points[0]), (target, 8, points[-1])):
            left, top, right, bottom = at[name]
            assert left < x < right
            assert min(abs(y - top), abs(y - bottom)) < near
        for left, top, right, bottom in at.values():
            assert not any(left < x < right and top + 1 < y < bottom - 1 for x, y in points)


def test_a_mark_is_more_than_a_colour():
    drawn = draw(plain(), MARKED)
    assert "violated: objective/beta" in drawn
    assert "and 2 more violated" in drawn
    assert drawn.count('violated">') == 2


def test_what_a_subject_says_is_text():
    drawn = draw(renamed(plain(), name=HOSTILE, note=HOSTILE, place=HOSTILE), alone=True)
    assert "script" not in {element.tag.removeprefix(SVG) for element in parsed(plain()).iter()}
    assert "<script" not in drawn
    drawn.encode()
    assert not set(drawn) & set("\x1b\x00\u202e")


def test_a_drawing_needs_nothing_else_and_is_the_same_again():
    drawn = draw(plain(), alone=True)
    assert drawn == draw(plain(), alone=True)
    assert not re.search(r"href|url\(|@import|<script|<image", drawn)
    assert set(re.findall(r"https?://[^\"]*", drawn)) == {SVG[1:-1]}


def test_a_drawing_says_what_it_shows():
    root = parsed(plain())
    assert root.get("role") == "img"
    named = {element.get("id") for element in root.iter()}
    assert set(root.get("aria-labelledby").split()) <= named
    text = root.find(f"{SVG}desc").text
    assert text == described(plain())
    assert "code, shape (5, 3), mu + sigma * noise, steps.py:" in text
    assert "noise to code" in text


@pytest.mark.parametrize(
    ("claim", "marked"),
    [
        ("kl/closed-form", {"divergence"}),
        ("reparameterization/closed-form", {"code"}),
        ("likelihood/named", {"reconstruction"}),
        ("objective/beta", {"loss"}),
        *((c.id, {"encoder"}) for c in CLAIMS.values() if c.needs == ("encode",)),
        *((c.id, {"decoder"}) for c in CLAIMS.values() if c.needs == ("decode",)),
    ],
)
def test_the_part_that_a_claim_is_about_is_marked(claim, marked):
    known = CLAIMS.get(claim) or next(c for c in CLAIMS.values() if c.slot == "sample")
    report = made(Result(claim=known, status="fail", message="no"), diagram=plain())
    assert marks(report) == {name: [known.id] for name in marked}


def test_what_holds_is_not_marked():
    report = made(Result(claim=CLAIMS["kl/closed-form"], status="pass"), diagram=plain())
    assert marks(report) == {}


# In a page.


def test_a_page_shows_the_vae_first():
    report = made(
        Result(claim=CLAIMS["objective/beta"], status="fail", message="no"),
        diagram=plain(),
        facts={"prior": "standard normal"},
    )
    text = as_html(report)
    page = Page(text)
    assert [tag for tag, _ in page.elements].count("svg") == 1
    assert text.index("The VAE as found") < text.index("standard normal") < text.index("What is")
    assert "violated: objective/beta" in page.text
    identifiers = page.attributes("id")
    assert len(identifiers) == len(set(identifiers))


def test_a_page_without_an_audit_has_no_drawing():
    report = made(Result(claim=CLAIMS["objective/beta"], status="pass"))
    assert drawing(report) == ""
    assert "<svg" not in as_html(report)
    assert "The VAE as found" not in as_html(report)


@pytest.mark.slow
def test_an_audit_writes_its_page(tmp_path):
    torch.set_default_dtype(torch.float32)
    audit = audit_step(mean_for_sum())
    audit.write_html(tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text())
    assert "violated: objective/beta" in page.text
    assert "The noise of the sampler" in page.text


def test_what_cannot_be_judged_is_drawn_too(tmp_path):
    torch.set_default_dtype(torch.float32)
    audit_step(categorical()).write_html(tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text())
    assert "encoder" in page.text
    assert "discrete codes are not judged yet" in page.text
