"""Configure the documentation, which can be read without a network.

Its numbers come from result files.
"""

import dataclasses
import inspect
import itertools
import json
import re
import statistics
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from PIL import Image

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

project = "vae_ref"
author = "The vae_ref authors"
copyright = "2026, The vae_ref authors"
release = metadata.version("vae_ref")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",
    "sphinx_design",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "vae_ref"
html_show_sourcelink = False
html_search_language = "en-zh"  # of `_search_chinese`
html_static_path = ["_static"]
html_extra_path = ["_generated/history.html"]
html_css_files = ["claims.css", "pages.css", "reading.css", "zoo.css"]
highlight_options = {"python": {"stripnl": True}}  # the empty line that ends a doctest

myst_enable_extensions = [
    "amsmath",
    "attrs_inline",
    "colon_fence",
    "deflist",
    "dollarmath",
    "fieldlist",
    "substitution",
]
myst_heading_anchors = 3

default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the description of an argument states its shape
napoleon_attr_annotations = False
napoleon_custom_sections = [("Yields", "returns_style")]
napoleon_use_ivar = True
nitpick_ignore_regex = [
    (r"py:.*", r"(torch|jaxtyping|typing|collections|pathlib|abc|enum)\b.*"),
    (
        r"py:.*",
        r"(Literal|Path|OSError|NamedTuple|ABC|Module|Protocol|MarkDecorator|Probe)",
    ),
]


WIDE = 900  # pixels, of a plot
_CHINESE = {
    "Back to top": "回到顶部",
    "Home": "首页",
    "Next": "下一页",
    "On this page": "本页内容",
    "Previous": "上一页",
    "Search": "搜索",
}


def _seeds_table() -> str:
    """Summarise benchmarks/results/mnist_seeds.jsonl: mean and deviation over its seeds."""
    from vae_ref.support import provenance

    path = Path(__file__).parents[1] / "benchmarks" / "results" / "mnist_seeds.jsonl"
    results = [json.loads(line) for line in path.read_text().splitlines()]
    columns = {
        "train loss": "train_loss",
        "test loss": "test_loss",
        "reconstruction": "test_reconstruction",
        "KL": "test_kl",
    }
    rows = [f"| epoch | {' | '.join(columns)} |", "|--:" * (1 + len(columns)) + "|"]
    for epoch in (1, 2, 5, 10, 20):
        cells = []
        for key in columns.values():
            values = [result[key][epoch - 1] for result in results]
            cells.append(f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}")
        rows.append(f"| {epoch} | {' | '.join(cells)} |")
    made = provenance.merge(results)
    seconds = statistics.median(result["seconds"] for result in results)
    return (
        "\n".join(rows)
        + f"\n\nMean and standard deviation over {len(results)} seeds, torch {made['torch']}, "
        f"{made['processor']}, {made['threads']} threads. "
        f"Training took {seconds:.0f} s per seed (median, evaluation not included)."
    )


def _attributes(record: Any) -> dict[str, str]:
    """Return the section Attributes of a docstring."""
    section = inspect.getdoc(record).partition("Attributes:\n")[2].partition("\n\n")[0]
    texts = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in texts}


def _subject_table() -> str:
    from vae_ref.conformance import Subject

    rows = [f"| `{name}` | {text} |" for name, text in _attributes(Subject).items()]
    return "\n".join(["| part | what it is |", "|---|---|", *rows])


def _conventions_table() -> str:
    """Tabulate the conventions with their values, the default first."""
    from vae_ref.conformance import Conventions

    texts = _attributes(Conventions)
    rows = ["| convention | values | meaning |", "|---|---|---|"]
    for field in dataclasses.fields(Conventions):
        kinds = (field.type, *get_args(field.type))
        choices = [get_args(kind) for kind in kinds if get_origin(kind) is Literal]
        values = dict.fromkeys([field.default, *itertools.chain(*choices)])
        names = ", ".join(f"`{value}`" for value in values)
        rows.append(f"| `{field.name}` | {names} | {texts[field.name]} |")
    return "\n".join(rows)


def _substitute(app: Any, config: Any) -> None:
    import claims
    import every_float
    import evidence_table
    import field_report
    import isolated
    import live
    import notebooks
    import performance
    import text
    import zoo

    config.myst_substitutions = {
        "mnist_seeds": _seeds_table(),
        "conventions": _conventions_table(),
        "subject": _subject_table(),
        **claims.substitutions(),
        **isolated.substitutions(),
        **field_report.substitutions(),
        **text.substitutions(),
        **zoo.substitutions(),
        **live.substitutions(),
        **performance.substitutions(),
        **every_float.substitutions(),
        **evidence_table.substitutions(),
    }
    site = config.html_baseurl.rstrip("/") or "../.."  # from where Sphinx puts downloads
    notebooks.write(Path(app.srcdir) / "_generated", config.myst_substitutions, f"{site}/")


def _by_last_name(app: Any, env: Any, node: Any, content: Any) -> Any:
    """Resolve the bare name of an object in a docstring, whatever module the object is in."""
    if node.get("refdomain") != "py":
        return None
    node["refspecific"] = True
    found = node["refdoc"], app.builder, node["reftype"], node["reftarget"], node, content
    return env.domains.python_domain.resolve_xref(env, *found)


def _see_pictures(app: Any, tree: Any) -> None:
    """Mark the plots, which Matplotlib draws on white paper, and those too wide for phones.

    Not every white picture is a plot: what some bugs draw is white, and has to be seen so.
    """
    from docutils import nodes  # tests import this file without Sphinx

    for node in tree.findall(nodes.image):
        path = Path(app.srcdir) / node["uri"]
        if path.suffix == ".svg":
            maker = path.read_text()
            points = re.search(r'width="([\d.]+)pt"', maker)
            width = float(points[1]) * 96 / 72 if points else 0
        else:
            with Image.open(path) as image:
                maker, width = image.info.get("Software", ""), image.width
        if "Matplotlib" in maker:
            node["classes"].append("on-paper")
            node.parent["classes"] += ["wide-plot"] * (width > WIDE)


def _let_formulas_wrap(app: Any, tree: Any) -> None:
    """Let a narrow page break a formula at its widest spaces, which MathJax 3 does not do."""
    from docutils import nodes

    for block in list(tree.findall(nodes.math_block)):
        parts = re.split(r"\\qquad", block.astext())
        whole = all(part.count("{") == part.count("}") for part in parts)
        if len(parts) > 1 and whole and r"\begin" not in block.astext() and not block.get("label"):
            row = nodes.container(classes=["formulas"])
            for part in parts:
                row += nodes.math("", rf"\displaystyle {part.strip()}")
            block.replace_self(row)


def _translated(text: str, **values: str) -> str:
    chinese = _CHINESE.get(text, text)
    return chinese % values if values else chinese


def _speak(app: Any, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Say which pages are in Chinese, so that browsers take its fonts and voices.

    The theme's own words are translated there too.
    """
    if page.startswith(("guide/zh/", "zh/")):
        context["language"] = "zh-CN"
        context["_"] = context["gettext"] = _translated


def _enliven(app: Any, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Give the live page its models; no other page loads them."""
    if page in ("guide/live", "guide/zh/live"):
        app.add_css_file("live.css")
        app.add_js_file("live_data.js", loading_method="defer")
        app.add_js_file("live.js", loading_method="defer")


def _search_chinese() -> None:
    """Let the search find Chinese words; Sphinx splits a text where there are spaces.

    The page of the search finds a word of three letters or more anywhere inside what is indexed:
    so whole clauses are indexed, and pairs of characters for words of two.
    """
    from sphinx import search
    from sphinx.search.en import SearchEnglish

    class SearchBoth(SearchEnglish):
        lang = "en-zh"

        def split(self, input: str) -> list[str]:
            clauses = re.findall(r"[\u3400-\u9fff]{2,}", input)
            pairs = [a + b for clause in clauses for a, b in itertools.pairwise(clause)]
            return [*super().split(input), *clauses, *pairs]

    search.languages[SearchBoth.lang] = SearchBoth


def setup(app: Any) -> None:
    _search_chinese()
    app.connect("html-page-context", _enliven)
    app.connect("doctree-read", _see_pictures)
    app.connect("doctree-read", _let_formulas_wrap)
    app.connect("html-page-context", _speak)
    app.connect("missing-reference", _by_last_name)
    app.connect("config-inited", _substitute)
