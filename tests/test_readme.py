"""What the README shows is what CI runs, and it works as it stands."""

import re
import tomllib
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_gate_runs_the_commands():
    """With --out added and pip made quiet, which changes nothing that is installed."""
    gate = (ROOT / ".ci" / "run").read_text().replace(" --quiet", "")
    for command in blocks("sh")[:3]:
        assert command.strip() in gate


def test_the_python_example(capsys):
    torch.set_default_dtype(torch.float32)
    audited, example = blocks("python")
    for block in (audited, example):
        exec(compile(block, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]


def test_the_first_screens_say_which_versions_are_supported():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    python = project["requires-python"].removeprefix(">=")
    torch_version = next(name for name in project["dependencies"] if name.startswith("torch>="))
    for page in ("README.md", "docs/index.md", "docs/zh/index.md"):
        screen = " ".join((ROOT / page).read_text().split())[:2200]
        assert re.search(
            rf"Python {python}\b.* torch {torch_version.removeprefix('torch>=')}\b", screen
        )


def test_the_links_lead_to_files():
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / link).is_file(), link


def test_the_pictures_are_there():
    for picture in re.findall(r"!\[.*\]\((.*)\)", README):
        assert (ROOT / picture).is_file()
