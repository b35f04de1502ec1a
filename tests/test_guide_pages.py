"""The guide says the same in English and in Chinese, and nothing that is not measured."""

import importlib.util
import math
import os
import re
from collections import Counter
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import pytest

from vae_ref.conformance.answers.intervals import measured
from vae_ref.conformance.claims import all_claims
from vae_ref.running import pictures

ROOT = Path(__file__).parents[1]
ENGLISH = ROOT / "docs" / "guide"
CHINESE = ENGLISH / "zh"
NAMES = sorted(page.name for page in ENGLISH.glob("*.md"))
PAGES = [folder / name for folder in (ENGLISH, CHINESE) for name in NAMES]

CAUSAL = re.compile(
    r"\b(?:because|so|makes?|made|causes?|therefore|thus|hence|since|leads? to)\b"
    r"|因为|所以|因此|由于|使|导致|造成|从而|引起",
    re.IGNORECASE,
)
HAN = "[\u4e00-\u9fff]"
HALF_WIDTH = re.compile(rf"""{HAN} *[,.;:?!()"]|[,.;:?!()"] *{HAN}""")
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]*)\)")
FIGURE = re.compile(r"\{\{ *(\w+) *\}\}")
MATH = re.compile(r"\$[^$]+\$")
CODE = re.compile(r"`[^`]+`")
LABEL = re.compile(r'(?<! class)(?<! data-live)="([^"]*)"')
PROSE = ("paragraph", "list", "table")


class Block(NamedTuple):
    """What is between two blank lines of a page, or a whole fence."""

    kind: str
    text: str


NOTHING = Block("nothing", "")


def blocks(text):
    found, lines = [], text.splitlines()
    while lines:
        taken = [lines.pop(0)]
        if not taken[0].strip():
            continue
        fence = re.match(r"```|\$\$", taken[0])
        while lines and (fence or lines[0].strip()):
            taken.append(lines.pop(0))
            if fence and taken[-1] == fence[0]:
                break
        found.append(Block(_kind(taken[0], len(taken)), "\n".join(taken)))
    return found


def _kind(first, count):
    if heading := re.match(r"(#+) ", first):
        return f"heading {len(heading[1])}"
    if count == 1 and re.fullmatch(r"!\[[^\]]*\]\([^)]*\)", first):
        return "image"
    starts = {"```": "fence", "$$": "formula", "|": "table", "- ": "list", "<": "html"}
    return next((kind for start, kind in starts.items() if first.startswith(start)), "paragraph")


def target(page, link):
    """Return what a link of a page leads to, with a page of the guide in English."""
    place, _, anchor = link.partition("#")
    path = Path(os.path.normpath(page.parent / place)) if place else page
    if path.parent == CHINESE:
        path = ENGLISH / path.name
    return f"{path.relative_to(ROOT)}#{anchor}"


def words(block):
    """Return what a reader reads of prose, without mathematics, code and figures."""
    text = LINK.sub(r"\1", block.text)
    for pattern in (FIGURE, CODE, MATH):
        text = pattern.sub("x", text)
    return text


def content(page, block):
    """Return what has to be the same in both languages."""
    if block.kind == "formula" or block.text.startswith("```python"):
        return block.text
    if block.kind == "fence":
        return block.text.replace("\nglossary\n", "\n")
    if block.kind == "html":
        return LABEL.sub('=""', block.text)
    found = Counter(FIGURE.findall(block.text))
    found.update(target(page, link) for _, link in LINK.findall(block.text))
    if block.kind in PROSE:
        found.update([*MATH.findall(block.text), *CODE.findall(FIGURE.sub("", block.text))])
        found.update(re.findall(r"\d[\d,]*", words(block)))
    return found


def differences(english, chinese, name):
    """Name the blocks that have no twin of the same kind and content."""
    pairs = zip_longest(blocks(english), blocks(chinese), fillvalue=NOTHING)
    pages = ENGLISH / name, CHINESE / name
    for number, pair in enumerate(pairs, start=1):
        kinds = [block.kind for block in pair]
        if kinds[0] != kinds[1]:
            yield f"{name}, block {number}: {kinds[0]} and {kinds[1]}"
            return
        if number == 2:  # leads to the other language
            continue
        ours, theirs = (content(page, block) for page, block in zip(pages, pair, strict=True))
        if ours != theirs:
            yield f"{name}, block {number}: {ours} and {theirs}"


def unproved(text):
    """Return the prose that gives a number or a cause and nothing that shows it.

    Prose with a digit, a figure or a causal word links to a page out of the guide, such as that
    of the claims, or ends with a colon before the formula or the code that shows it; the link of
    a table may be in the paragraph before it.
    """
    page = blocks(text)
    for before, block, after in zip([NOTHING, *page], page, [*page[1:], NOTHING], strict=False):
        read = words(block)
        says = re.search(r"\d", read) or CAUSAL.search(read) or FIGURE.search(block.text)
        if block.kind not in PROSE or not says:
            continue
        shown = block.text.endswith((":", "：")) and after.kind in ("formula", "fence")
        if not (shown or _leaves(block) or (block.kind == "table" and _leaves(before))):
            yield block.text


def _leaves(block):
    return any(link.startswith("../") for _, link in LINK.findall(block.text))


def typed(text):
    """Return the prose with a decimal number: what is measured comes from files."""
    for block in blocks(text):
        if block.kind in PROSE and re.search(r"\d\.\d", words(block)):
            yield block.text


def without_command(text):
    """Return the pictures whose caption has no command that draws them."""
    page = blocks(text)
    for block, caption in zip(page, [*page[1:], NOTHING], strict=True):
        if block.kind == "image":
            name = re.search(r"/(\w+)\.png", block.text)[1]
            claim = name.removeprefix("text_")
            if claim != name:
                source = (ROOT / "benchmarks" / "text_pictures.py").read_text()
                drawn = f"\ndef {claim}(" in source
                command = "`python -m benchmarks.text_pictures mnist --data DIR`"
            else:
                plain = re.sub(r"_\d+$", "", name)
                drawn = any(known.startswith(plain) for known in pictures.__all__)
                command = "`vae-ref train "
            if not (drawn and caption.text.startswith("*") and command in caption.text):
                yield name


def half_width(text):
    """Return the Chinese prose with half-width punctuation, or with a break within a paragraph."""
    for block in blocks(text):
        if block.kind in PROSE or block.kind.startswith("heading"):
            read = re.sub(r"^#+ \d+\. ", "", words(block))
            if HALF_WIDTH.search(read) or (block.kind == "paragraph" and "\n" in read):
                yield block.text


def test_every_page_is_there_in_both_languages():
    assert {page.name for page in CHINESE.glob("*.md")} == {*NAMES, "glossary.md"}
    assert "index.md" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_block_has_a_twin(name):
    english, chinese = ((folder / name).read_text() for folder in (ENGLISH, CHINESE))
    assert list(differences(english, chinese, name)) == []
    assert blocks(english)[1].text == f"[中文](zh/{name})"
    assert blocks(chinese)[1].text == f"[English](../{name})"
    for theirs in blocks(chinese)[2:]:
        assert theirs.kind not in PROSE or re.search(HAN, words(theirs)), theirs.text
        if theirs.kind == "html":
            assert all(re.search(HAN, label) for label in LABEL.findall(theirs.text)), theirs.text
    assert not re.search(HAN, english.replace("[中文]", "", 1))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ENGLISH)))
def test_nothing_is_said_that_nothing_shows(page):
    """Where prose has a digit or a causal word, the page shows what measures or proves it."""
    text = page.read_text()
    flat = text.replace("](../../", "](../") if page.parent == CHINESE else text
    assert list(unproved(flat)) == []
    assert list(typed(text)) == []
    assert list(without_command(text)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ENGLISH)))
def test_links_and_figures_exist(page):
    text = page.read_text()
    claims = {f"docs/claims/{c.part}.md#{c.id.replace('/', '-')}" for c in all_claims()}
    for _, link in LINK.findall(text):
        path, _, anchor = target(page, link).partition("#")
        assert (ROOT / path).exists(), link
        assert not anchor or f"{path}#{anchor}" in claims, link
    assert set(FIGURE.findall(text)) <= figures().keys()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ENGLISH)))
def test_every_fence_runs(page):
    for block in blocks(page.read_text()):
        if block.kind == "fence":
            is_session = re.fullmatch(r"```python\n>>> .*\n\n```", block.text, re.DOTALL)
            assert is_session or block.text.startswith("```{toctree}\n"), block.text


@pytest.mark.parametrize("page", sorted(CHINESE.glob("*.md")), ids=lambda page: page.name)
def test_chinese_has_chinese_punctuation(page):
    assert list(half_width(page.read_text())) == []


def figures():
    return {**of_page("text"), **of_page("live")}


def of_page(name):
    """Return what a module of the documentation measures for the pages."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.substitutions()


def test_figures_are_the_measures_up_to_half_a_deviation_or_half_a_percent():
    shown, count = figures(), 0
    for course in ("mnist", "glyphs"):
        for key, row in measured()[course]["measures"].items():
            name = re.sub(r"\W+", "_", f"{course} {key.removeprefix('training/')}").strip("_")
            number = float(shown[name.lower()].replace("−", "-").replace(",", ""))
            reach = max(row["deviation"] / 2, 5e-3 * abs(row["mean"]))
            assert abs(number - row["mean"]) <= reach * (1 + 1e-9), key
            if "log10" in key:
                factor = float(shown[f"{name.lower()}_factor"].replace(",", ""))
                exact = 10 ** abs(row["mean"])
                reach = max(math.log(10) * row["deviation"] / 2, 5e-3)
                assert abs(factor - exact) <= exact * reach, key
            count += 1
    assert count > 150


def test_html_that_differs_is_found():
    """The words of a live figure differ between the languages, and nothing else."""
    english = '<div class="live" data-live="walk" data-plane="Plane" data-nats="nats"></div>'
    chinese = english.replace("Plane", "平面").replace('"nats"', '"奈特"')
    assert list(differences(english, chinese, "live.md")) == []
    for old, new in (('"walk"', '"both"'), ("data-nats", "data-bits"), ('"live"', '"dead"')):
        assert list(differences(english, chinese.replace(old, new), "live.md")), old


PAGE = (ENGLISH / "copier.md").read_text()
TWIN = (CHINESE / "copier.md").read_text()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("。[它的编码", "。\n\n[它的编码"),  # a paragraph more
        ("{{ mnist_empty_volume_vae }}", "{{ mnist_empty_volume_autoencoder }}"),
        ("#training-empty-volume", "#training-holes"),
        ("losses[0] / 2", "losses[0] / 3"),
        (r"\hat x = ", r"\tilde x = "),
        ("text_holes.png", "text_blur.png"),
        ("40 步", "50 步"),
        ("$N(0, I)$", "$N(0, 1)$"),
        ("## 它擅长复制", "### 它擅长复制"),
    ],
)
def test_twins_that_differ_are_found(old, new):
    assert old in TWIN
    assert list(differences(PAGE, TWIN.replace(old, new, 1), "copier.md"))


@pytest.mark.parametrize(
    "claimed",
    [
        "It is 3 times as sharp.",
        "It is {{ mnist_blur_data }}.",
        "Noise makes it blurry.",
        "因为有噪声，所以模糊。",
        "- noise makes it blurry;",
        "| images | 3 |",
    ],
)
def test_what_nothing_shows_is_found(claimed):
    page = f"{PAGE}\nBefore.\n\n{claimed}\n\n$$\nx\n$$\n"
    assert list(unproved(page)) == [claimed]
    assert list(unproved(page.replace(claimed, f"{claimed[:-1]}:"))) == []
    linked = f"{claimed} [Measured](../claims/training.md#training-blur)."
    assert list(unproved(page.replace(claimed, linked))) == []
    elsewhere = f"{claimed} [Said](blur.md)."
    assert list(unproved(page.replace(claimed, elsewhere))) == [elsewhere]


def test_typed_numbers_missing_commands_and_half_width_are_found():
    assert list(typed(f"{PAGE}\n\nIt is 0.71.\n")) == ["It is 0.71."]
    bare = PAGE.replace("`python -m benchmarks.text_pictures mnist --data DIR`", "It", 1)
    assert list(without_command(bare)) == ["text_autoencoder_copies"]
    assert list(half_width("它模糊,也平滑。")) == ["它模糊,也平滑。"]
    assert list(half_width("它模糊，\n也平滑。"))
