"""Make a notebook of every chapter of the guide, in both languages.

Building the documentation writes them, and its pages offer them. This draws the pictures that the
sessions of the chapters show, docs/images/guide_*.png:

    python docs/notebooks.py
"""

import ast
import base64
import os
import re
from collections.abc import Iterable, Iterator
from doctest import DocTestParser
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

__all__ = ["chapters", "notebook", "run", "write"]

DOCS = Path(__file__).parent
GUIDE = DOCS / "guide"
SESSION = re.compile(r"^```python\n(>>> .*?)^```\n", re.MULTILINE | re.DOTALL)
PICTURE = re.compile(r"!\[([^\]]*)\]\((\S+/(\w+\.png))\)$", re.MULTILINE)
FIRST = {
    "en": "This notebook is a chapter of [Understand a VAE]({page}). It needs `vae_ref`: run "
    "`pip install -e .` in a copy of the repository, with the Python that runs the notebook.",
    "zh": "这个笔记本是[《理解变分自编码器》]({page})的一章。运行它需要 `vae_ref`："
    "用运行笔记本的 Python，在代码仓库的目录中执行 `pip install -e .`。",
}


def chapters() -> list[Path]:
    """Return the pages that offer a notebook, the English ones first."""
    pages = [*sorted(GUIDE.glob("*.md")), *sorted(GUIDE.glob("zh/*.md"))]
    return [page for page in pages if f"/{page.stem}.ipynb)" in page.read_text()]


def notebook(page: Path, figures: dict[str, str], site: str) -> NotebookNode:
    """Make the notebook of a page.

    Args:
        page: A chapter.
        figures: The substitutions of the documentation.
        site: Where the documentation is, for links: an address, or a path that ends in a slash.
    """
    title, _, text = page.read_text().split("\n\n", 2)  # without the links to notebook and twin
    language = "zh" if page.parent.name == "zh" else "en"
    here = page.relative_to(DOCS).with_suffix(".html")
    cells = [new_markdown_cell(f"{title}\n\n{FIRST[language].format(page=f'{site}{here}')}")]
    for number, part in enumerate(SESSION.split(text)):
        if number % 2:
            cells.extend(_code(part))
            continue
        prose = part.strip()
        drawn = PICTURE.match(prose)
        if drawn and drawn[3].startswith("guide_"):  # the session above draws it
            cells[-1].outputs = [_output(_png(page.parent / drawn[2]))]
            prose = prose[drawn.end() :].strip()
        if prose:
            cells.append(_prose(prose, page, figures, site))
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"  # of itself it is random
    return new_notebook(
        cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    )


def _prose(text: str, page: Path, figures: dict[str, str], site: str) -> NotebookNode:
    """Return Markdown that needs no other file: figures and pictures are in it."""

    def link(found: re.Match[str]) -> str:
        place, _, anchor = found[1].partition("#")
        path = os.path.relpath(page.parent / place, DOCS) if place else page.relative_to(DOCS)
        return f"]({site}{Path(path).with_suffix('.html')}{anchor and '#'}{anchor})"

    pictures = {name: page.parent / path for _, path, name in PICTURE.findall(text)}
    text = re.sub(r"\{\{ *(\w+) *\}\}", lambda found: figures[found[1]], text)
    text = re.sub(r"\]\(([^)\s:]*\.md[^)\s]*|#[^)\s]*)\)", link, text)
    cell = new_markdown_cell(PICTURE.sub(r"![\1](attachment:\3)", text))
    if pictures:
        cell.attachments = {name: _png(path) for name, path in pictures.items()}
    return cell


def _code(session: str) -> Iterator[NotebookNode]:
    """Yield the cells of a session: each ends where the session shows a value."""
    lines: list[str] = []
    for example in DocTestParser().get_examples(session):
        lines.append(example.source.rstrip("\n"))
        if example.want:
            shown = _output({"text/plain": example.want.rstrip("\n")})
            yield new_code_cell("\n".join(lines), outputs=[shown])
            lines = []
    if lines:
        yield new_code_cell("\n".join(lines))


def _output(data: dict[str, str]) -> NotebookNode:
    return new_output("execute_result", data, execution_count=None)


def _png(path: Path) -> dict[str, str]:
    return {"image/png": base64.b64encode(path.read_bytes()).decode()}


def run(cells: Iterable[NotebookNode]) -> Iterator[Any]:
    """Run cells of code one after the other; yield the value of the last line of each."""
    names: dict[str, Any] = {}
    for cell in cells:
        *statements, last = ast.parse(cell.source).body
        if not isinstance(last, ast.Expr):
            statements, last = [*statements, last], ast.Expr(ast.Constant(None))
        exec(compile(ast.Module(statements, []), "<cell>", "exec"), names)
        yield eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)


def write(directory: Path, figures: dict[str, str], site: str) -> None:
    """Write all notebooks, the Chinese ones into a folder of their own."""
    for page in chapters():
        path = directory / page.relative_to(GUIDE).with_suffix(".ipynb")
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook(page, figures, site), path)


def _draw() -> None:
    for page in chapters():
        text = page.read_text()
        values = run(cell for session in SESSION.findall(text) for cell in _code(session))
        drawn = [value for value in values if hasattr(value, "save")]
        for picture, name in zip(drawn, re.findall(r"images/(guide_\w+\.png)", text), strict=True):
            picture.save(DOCS / "images" / name)


if __name__ == "__main__":
    _draw()
