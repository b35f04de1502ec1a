"""The notebooks of the guide say what its pages say, and show what their cells compute."""

import base64
import importlib.util
import io
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

DOCS = Path(__file__).parents[1] / "docs"
SITE = "https://vae-ref.example/"


def _load(name):
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


notebooks = _load("notebooks")
FIGURES = _load("text").substitutions()
CHAPTERS = notebooks.chapters()
ENGLISH = [page for page in CHAPTERS if page.parent.name == "guide"]
named = pytest.mark.parametrize("page", CHAPTERS, ids=lambda p: f"{p.parent.name}/{p.stem}")
english = pytest.mark.parametrize("page", ENGLISH, ids=lambda page: page.stem)


def made(page):
    return notebooks.notebook(page, FIGURES, SITE)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook):
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def grey(png):
    return np.array(Image.open(io.BytesIO(base64.b64decode(png))).convert("L")).astype(float)


def agrees(outputs, shown):
    """Say whether a cell gave what its notebook shows; a picture may differ by rounding."""
    if not (outputs and shown):
        return outputs == shown
    kind = "image/png" if "image/png" in shown[0].data else "text/plain"
    found, expected = (each[0].data.get(kind) for each in (outputs, shown))
    if kind == "text/plain" or found is None:
        return found == expected
    pixels, others = grey(found), grey(expected)
    return pixels.shape == others.shape and np.abs(pixels - others).mean() < 2


def as_outputs(value):
    if value is None:
        return []
    if isinstance(value, Image.Image):
        file = io.BytesIO()
        value.save(file, format="PNG")
        data = {"image/png": base64.b64encode(file.getvalue()).decode()}
    else:
        data = {"text/plain": repr(value)}
    return [nbformat.v4.new_output("execute_result", data)]


def wrong_cells(notebook):
    """Run the cells in this process; name those that do not give what they show."""
    cells = code(notebook)
    for cell, value in zip(cells, notebooks.run(cells), strict=True):
        if not agrees(as_outputs(value), cell.outputs):
            yield cell.source


def test_every_chapter_has_a_notebook_in_both_languages(tmp_path):
    notebooks.write(tmp_path, FIGURES, SITE)
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.ipynb")}
    names = [page.stem for page in ENGLISH]
    assert len(names) >= 8
    assert written == {f"{folder}{name}.ipynb" for folder in ("", "zh/") for name in names}
    for path in tmp_path.rglob("*.ipynb"):
        nbformat.validate(nbformat.read(path, 4))


@named
def test_a_notebook_is_the_page(page):
    """All prose is there, and nothing that needs Sphinx or another file."""
    text, notebook = page.read_text(), made(page)
    assert made(page) == notebook
    assert re.findall(r"^#+ .*", prose(notebook), re.MULTILINE) == re.findall(
        r"^#+ .*", text, re.MULTILINE
    )
    assert "pip install" in notebook.cells[0].source
    assert not re.search(r"\{\{|```|\]\(\.|_generated", prose(notebook))
    for figure in re.findall(r"\{\{ *(\w+)", text):
        assert FIGURES[figure] in prose(notebook)
    shown = [name for cell in notebook.cells for name in cell.get("attachments", {})]
    outputs = [output.data for cell in code(notebook) for output in cell.outputs]
    drawn = [data for data in outputs if "image/png" in data]
    assert re.findall(r"attachment:([\w.]+)", prose(notebook)) == shown
    assert len(shown) + len(drawn) == text.count("![")


@named
def test_links_lead_to_pages(page):
    links = re.findall(r"(?<!!)\]\(([^)\s]+)\)", re.sub(r"!\[[^\]]*\]\S+", "", prose(made(page))))
    assert len(links) > 2
    for link in links:
        assert link.startswith(SITE)
        path = link.removeprefix(SITE).partition("#")[0]
        assert (DOCS / path).with_suffix(".md").exists(), link


@english
@pytest.mark.usefixtures("single_precision", "user")
def test_cells_give_what_they_show(page):
    """If a picture rightly changes, run `python docs/notebooks.py`."""
    notebook = made(page)
    assert list(wrong_cells(notebook)) == []
    if code(notebook):
        assert any(cell.outputs for cell in code(notebook))


@english
def test_the_code_is_the_same_in_chinese(page):
    twin = made(page.parent / "zh" / page.name)
    assert [(c.source, c.outputs) for c in code(twin)] == [
        (c.source, c.outputs) for c in code(made(page))
    ]


def test_a_wrong_value_and_a_wrong_picture_are_found():
    cells = code(made(DOCS / "guide" / "blur.md"))
    cells[-2].outputs[0].data["text/plain"] = "False"
    other = Image.open(DOCS / "images" / "guide_train.png")
    cells[-1].outputs = as_outputs(other)
    assert [*wrong_cells(nbformat.v4.new_notebook(cells=cells))] == [c.source for c in cells[-2:]]


@pytest.mark.slow
@pytest.mark.sampled(4)  # the default tests run every cell without a kernel
@english
def test_a_kernel_gives_what_the_cells_show(page, tmp_path):
    notebook = made(page)
    shown = [cell.outputs for cell in code(notebook)]
    NotebookClient(notebook, resources={"metadata": {"path": tmp_path}}).execute()
    for cell, outputs in zip(code(notebook), shown, strict=True):
        assert agrees(cell.outputs, outputs), cell.source
