"""The guide says the same in English and in Chinese, and nothing that is not measured."""

import importlib.util
import math
import os
import re
from collections import Counter
from functools import partial
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

SAYS = re.compile(  # a number, a cause, or a comparison
    r"\d|\b(?:half|twice|times as"
    r"|because|so|mak(?:es?|ing)|made|causes?|therefore|thus|hence|since|leads? to|due to"
    r"|forc(?:es?|ed|ing)|keeps?|pulls?|push(?:es)?|changes?|rises?|falls?"
    r"|more|most|less|least|fewer|better|best|worse|worst|than"
    r"|lower|higher|smaller|larger|narrower|wider|nearer|farther|closer|shorter|(?<!no )longer"
    r"|easier|harder|sharper|blurrier|smoother)\b"
    r"|一半|倍|因为|所以|因此|由于|使(?!用)|让|导致|造成|从而|引起|于是|迫使|改变|上升|下降"
    r"|更|比(?!较)|越|不如|最好|容易",
    re.IGNORECASE,
)
REPORTED = re.compile(r'It is often said|常有人说|["“][^"”]+["”]$')  # what others say
YEAR = re.compile(r"(?:(?<=[a-z] )|(?<=等 ))(?:19|20)\d\d\b")
HAN = "[\u4e00-\u9fff]"
HALF_WIDTH = re.compile(rf"""{HAN} *[,.;:?!()"]|[,.;:?!()"] *{HAN}""")
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]*)\)")
FIGURE = re.compile(r"\{\{ *(\w+) *\}\}")
MATH = re.compile(r"\$[^$]+\$")
CODE = re.compile(r"`[^`]+`")
LABEL = re.compile(r'(?<! class)(?<! data-live)="([^"]*)"')
CHAPTER = re.compile(r"\[[^\]]*\]\([^/)]*\)")  # a link to another page of the guide
ATOM = re.compile("|".join(p.pattern for p in (CODE, MATH, FIGURE, LINK)))
STOP = re.compile(
    r'(?<=[.?!])\s+|(?<=[.?!]["*)])\s+|(?<=[。！？])(?![”*）])|(?<=[。！？][”*）])|\n'
)
PROOF = re.compile(
    r"(?:\.\./)+(?:claims/\w+\.md#|kinds/|benchmarks/results/|(?:bugs|text|results|derivation|(?:zh/)?zoo)\.md)"
)
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
    if path.parent.name == "zh":
        path = path.parent.parent / path.name
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
        found.update(re.findall(r"\d+(?:,\d{3})*", words(block)))
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


def sentences(block):
    """Split prose after its full stops; an item of a list and a row of a table end one too."""
    atoms = []

    def hide(found):  # what a stop may be part of
        atoms.append(found[0])
        return chr(0xE000 + len(atoms) - 1)

    text = re.sub(r"\n(?!- |\|) *", " ", ATOM.sub(hide, block.text))
    for sentence in filter(None, map(str.strip, STOP.split(text))):
        yield re.sub("[\ue000-\uf8ff]", lambda at: atoms[ord(at[0]) - 0xE000], sentence)


def unproved(text):
    """Return the sentences that give a number, a cause or a comparison, and nothing shows it.

    What shows it is one of these:

    - a link in the sentence to a claim, a result or a derivation;
    - a figure, which is made from what was measured, if the paragraph links the claim or the
      result file; for a table, the paragraph before it;
    - the formula or the code that follows the colon with which the paragraph ends;
    - for what is only reported, in quotation marks or as often said, a proof in a later sentence
      of the paragraph.
    """
    page = blocks(text)
    for before, block, after in zip([NOTHING, *page], page, [*page[1:], NOTHING], strict=False):
        if block.kind not in PROSE:
            continue
        near = before.text + block.text if block.kind == "table" else block.text
        linked = [link for _, link in LINK.findall(near)]
        reported = []
        for sentence in sentences(block):
            figures = FIGURE.findall(sentence)
            if any(not any(map(partial(_is_of, name), linked)) for name in figures):
                yield sentence
            elif figures or any(PROOF.match(link) for _, link in LINK.findall(sentence)):
                reported.clear()
            elif SAYS.search(words(Block("", CHAPTER.sub("", _without_years(sentence))))):
                shown = sentence.endswith((":", "：")) and after.kind in ("formula", "fence")
                if REPORTED.match(sentence):
                    reported.append(sentence)
                elif not shown:
                    yield sentence
        yield from reported


def _without_years(sentence):
    """Remove the years of what a sentence only cites."""
    return YEAR.sub("", sentence) if sentence.startswith(("Sources: ", "出处：")) else sentence


def _is_of(figure, link):
    """Say whether a link leads to the claim, or to the results, that a figure is from."""
    if link.endswith("/text.md"):
        return figure == "figures_seeds"
    source = re.search(r"#training-([\w-]+)$|benchmarks/results/(\w+)\.json$", link)
    name = source and (source[1] or source[2]).replace("-", "_")
    return bool(name and re.match(rf"((mnist|glyphs)_)?{name}(_|$)", figure))


def typed(text):
    """Return the prose with a decimal number: what is measured comes from files."""
    for block in blocks(text):
        if block.kind in PROSE and re.search(r"\d\.\d", words(block)):
            yield block.text


def without_command(text):
    """Return the pictures whose caption has no command that draws them, nor the code above."""
    page = blocks(text)
    for before, block, caption in zip([NOTHING, *page], page, [*page[1:], NOTHING], strict=False):
        if block.kind == "image":
            name = re.search(r"/(\w+)\.png", block.text)[1]
            claim = name.removeprefix("text_")
            if name.startswith("guide_"):
                drawn = before.text.split("\n")[-3].startswith("<PIL.Image.Image ")
                command = "上面的代码" if re.search(HAN, caption.text) else "The code above"
            elif claim != name:
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
    ours, theirs = f"[中文](zh/{name})", f"[English](../{name})"
    if (notebook := f"{Path(name).stem}.ipynb") in english:
        ours += f" | [this chapter as a notebook](../_generated/{notebook})"
        theirs += f" | [本章的笔记本](../../_generated/zh/{notebook})"
    assert [blocks(page)[1].text for page in (english, chinese)] == [ours, theirs]
    for theirs in blocks(chinese)[2:]:
        assert theirs.kind not in PROSE or re.search(HAN, words(theirs)), theirs.text
        if theirs.kind == "html":
            assert all(re.search(HAN, label) for label in LABEL.findall(theirs.text)), theirs.text
    assert not re.search(HAN, english.replace("[中文]", "", 1))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ENGLISH)))
def test_nothing_is_said_that_nothing_shows(page):
    """Where prose has a digit or a causal word, the page shows what measures or proves it."""
    text = page.read_text()
    assert list(unproved(text)) == []
    assert list(typed(text)) == []
    assert list(without_command(text)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ENGLISH)))
def test_links_and_figures_exist(page):
    text = page.read_text()
    claims = {f"docs/claims/{c.part}.md#{c.id.replace('/', '-')}" for c in all_claims()}
    for _, link in LINK.findall(text.split("\n\n", 2)[2]):
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
        ("。坐标的方差", "。\n\n坐标的方差"),  # a paragraph more
        ("{{ mnist_empty_volume_vae }}", "{{ mnist_empty_volume_autoencoder }}"),
        ("#training-empty-volume", "#training-holes"),
        ("losses[0] / 4", "losses[0] / 3"),
        (r"\hat x = ", r"\tilde x = "),
        ("text_holes.png", "text_blur.png"),
        ("200 步", "300 步"),
        ("$N(0, I)$", "$N(0, 1)$"),
        ("## 它擅长复制", "### 它擅长复制"),
    ],
)
def test_twins_that_differ_are_found(old, new):
    assert old in TWIN
    assert list(differences(PAGE, TWIN.replace(old, new, 1), "copier.md"))


def test_sentences_end_where_a_reader_ends_them():
    text = """*A picture of $x!$ ["all." of it](a.md). `b. c` draws it, 3 times.* "So?" Yes: it
does!"""
    assert [*sentences(Block("paragraph", text))] == [
        '*A picture of $x!$ ["all." of it](a.md).',
        "`b. c` draws it, 3 times.*",
        '"So?"',
        "Yes: it does!",
    ]
    assert [*sentences(Block("paragraph", "“模糊。”是吗？是，$d。$ 很大。"))] == [
        "“模糊。”",
        "是吗？",
        "是，$d。$ 很大。",
    ]
    assert [*sentences(Block("list", "- one\n  and more;\n- two."))] == [
        "- one and more;",
        "- two.",
    ]


@pytest.mark.parametrize(
    "claimed",
    [
        "It is 3 times as sharp.",
        "Noise makes it blurry.",
        "It is sharper without noise.",
        "因为有噪声，图像模糊。",
        "它比数据模糊。",
        "- noise makes it blurry;",
        "| images | 3 |",
    ],
)
def test_a_sentence_that_nothing_shows_is_found(claimed):
    page = "[Before](../claims/training.md#training-blur).\n\n## Heading\n\n{}\n\n$$\nx\n$$\n"
    end, stop = claimed[:-1], claimed[-1]
    measured, derived, elsewhere, said = (
        f"{end} [so]({link}){stop}"
        for link in (
            "../claims/training.md#training-blur",
            "../../derivation.md",
            "blur.md",
            "../start.md",
        )
    )
    assert list(unproved(page.format(claimed))) == [claimed]
    for proved in (f"{end}:", measured, derived):
        assert list(unproved(page.format(proved))) == []
    for unshown in (elsewhere, said):
        assert list(unproved(page.format(unshown))) == [unshown]
    if stop in ".。":
        for paragraph in (f"{claimed} {measured}", f"{measured} {claimed}"):
            assert list(unproved(page.format(paragraph))) == [claimed]


def test_a_figure_needs_its_own_claim_in_the_paragraph():
    figure, blur, holes = (
        "It is {{ mnist_blur_data }}.",
        "[Measured](../claims/training.md#training-blur).",
        "[Measured](../claims/training.md#training-holes).",
    )
    for wrong in (figure, f"{holes} {figure}", f"{blur}\n\n{figure}"):
        assert list(unproved(wrong)) == [figure]
    for right in (f"{figure} {blur}", f"{blur} {figure}"):
        assert list(unproved(right)) == []
    assert list(unproved(f"{blur} It is so. {figure}")) == ["It is so."]
    live = "[{{ live_x }}](../../benchmarks/results/live.json), not [{{ live_y }}](blur.md)."
    assert list(unproved(live)) == []
    assert list(unproved(live.replace("live.json", "course.json")))
    row = "| images | {{ mnist_blur_data }} |"
    assert list(unproved(f"{blur}\n\n{row}")) == []
    assert list(unproved(f"{blur}\n\n## Heading\n\n{row}")) == [row]


@pytest.mark.parametrize(
    "said",
    ["It is often said that noise makes it blurry.", '"It is the noise, so."', "“噪声造成的。”"],
)
def test_what_others_say_needs_an_answer_after_it(said):
    answer = "[It is not](../claims/training.md#training-blur)."
    assert list(unproved(f"{said} {answer}")) == []
    for unanswered in (said, f"{answer} {said}", f"{said}\n\n{answer}"):
        assert list(unproved(unanswered)) == [said]


@pytest.mark.parametrize(
    ("cited", "claimed", "elsewhere"),
    [
        ("Sources: Welling 2014; Ghosh and others 2020.", "3 times", "By"),
        ("出处：Welling 2014；Ghosh 等 2020。", "3 倍", "见："),
    ],
)
def test_sources_may_have_years_and_nothing_else(cited, claimed, elsewhere):
    assert list(unproved(cited)) == []
    for unshown in (
        cited.replace("2020", claimed),
        re.sub(r"^(Sources:|出处：)", elsewhere, cited),
    ):
        assert list(unproved(unshown)) == [unshown]


def test_typed_numbers_missing_commands_and_half_width_are_found():
    assert list(typed(f"{PAGE}\n\nIt is 0.71.\n")) == ["It is 0.71."]
    bare = PAGE.replace("`python -m benchmarks.text_pictures mnist --data DIR`", "It", 1)
    assert list(without_command(bare)) == ["text_autoencoder_copies"]
    assert list(half_width("它模糊,也平滑。")) == ["它模糊,也平滑。"]
    assert list(half_width("它模糊，\n也平滑。"))
