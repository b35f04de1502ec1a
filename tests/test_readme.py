"""What the README shows is what CI runs, and it works as it stands."""

import re
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


def test_the_pictures_are_there():
    for picture in re.findall(r"!\[.*\]\((.*)\)", README):
        assert (ROOT / picture).is_file()
