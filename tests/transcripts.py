"""What the documentation shows of a session, and what the session gives.

Files are the blocks that begin with a comment of their name; sessions are the console
blocks. A page may use the files of all others. An answer that ends in ``...`` goes on. `python -m
tests.transcripts` writes anew the answers that have changed, and the drawing of an audit.
"""

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS, README = ROOT / "docs", ROOT / "README.md"
FRONT, CHINESE_FRONT = DOCS / "index.md", DOCS / "zh" / "index.md"
DRAWING = DOCS / "images" / "audit.svg"
SPOKEN = {"PYTHONIOENCODING": "utf-8", "LANGUAGE": "en"}


@dataclass(frozen=True)
class Step:
    """A command and the lines that it answers."""

    command: str
    answer: str


def pages() -> list[Path]:
    return [page for page in (README, *sorted(DOCS.rglob("*.md"))) if _blocks(page)]


def files() -> dict[str, str]:
    """Return the files of all pages; those of one name have to be one file."""
    found: dict[str, str] = {}
    for page in pages():
        for name, text in _blocks(page):
            if name and found.setdefault(name, text) != text:
                raise ValueError(f"{page}: {name} is another file on another page")
    return found


def with_sessions() -> list[Path]:
    return [page for page in pages() if sessions(page)]


def sessions(page: Path) -> list[str]:
    return [text for name, text in _blocks(page) if not name]


def _blocks(page: Path) -> list[tuple[str, str]]:
    """Return the files of a page by name, and its sessions without one, in their order."""
    pattern = r"^```(?:(?:python|text)\n(?=# (\S+\.\w+)\n)|console\n)(.*?)^```"
    return re.findall(pattern, page.read_text(), re.MULTILINE | re.DOTALL)


def steps(session: str) -> list[Step]:
    found = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", session, re.MULTILINE)
    return [Step(command, answer) for command, answer in found]


def run(page: Path, directory: Path) -> list[list[Step]]:
    """Follow a page, with the files of all others: write its own, and run its sessions."""
    own, answers = _blocks(page), []
    others = files().items() - {block for block in own if block[0]}
    for name, text in [*others, *own]:
        if name:
            (directory / name).write_text(text)
        else:
            answers.append(_run(steps(text), directory))
    return answers


def _run(session: list[Step], directory: Path) -> list[Step]:
    end = "{ status=$?; printf '\\0'; (exit $status); }"  # $? outlives it
    script = "\n".join(f"{step.command}\n{end}" for step in session)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | SPOKEN | {"PATH": path, "COLUMNS": "80"}
    environment["PYTEST_ADDOPTS"] = "-p no:randomly"  # which would show the tests in another order
    answer = subprocess.run(
        ["bash", "-c", script],
        check=False,
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ).stdout
    texts = answer.split("\0")[:-1]
    return [Step(step.command, text) for step, text in zip(session, texts, strict=True)]


def drawing() -> str:
    """Draw the VAE of train.py, as an audit finds it."""
    code = (
        "import train; from vae_ref.conformance import audit_step;"
        "from vae_ref.conformance.reports.drawing import drawing;"
        "report = audit_step(train.step, *train.batch()).report;"
        "print(drawing(report, alone=True), end='')"
    )
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "train.py").write_text(files()["train.py"])
        environment = os.environ | SPOKEN
        return subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            cwd=directory,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout


def shortened(answer: str, shown: str) -> str:
    """Cut an answer where the one that is shown is cut."""
    text = re.sub(r"[ \t]+$", "", answer, flags=re.MULTILINE)
    if not shown.endswith("...\n"):
        return text
    return "".join(text.splitlines(keepends=True)[: shown.count("\n") - 1]) + "...\n"


def comparable(answer: str) -> str:
    """Hide what differs from run to run and from machine to machine: times, and rounding."""
    text = re.sub(r"\b\d+\.\d+ ?s\b", "TIME", answer)
    return re.sub(r"\b\d(\.\d)?e-\d\d\b", "ROUNDING", text)


def main() -> None:
    for page in with_sessions():
        print(f"{page.name} ...", flush=True)
        text = page.read_text()
        with tempfile.TemporaryDirectory() as directory:
            answers = run(page, Path(directory))
        for session, answered in zip(sessions(page), answers, strict=True):
            pairs = zip(steps(session), answered, strict=True)
            anew = "".join(f"$ {shown.command}\n{_anew(shown, found)}" for shown, found in pairs)
            text = text.replace(f"```console\n{session}```", f"```console\n{anew}```")
        page.write_text(text)
    DRAWING.write_text(drawing())


def _anew(shown: Step, found: Step) -> str:
    """Return an answer as it is found now, unless what differs is not compared."""
    answer = shortened(found.answer, shown.answer)
    return shown.answer if comparable(answer) == comparable(shown.answer) else answer


if __name__ == "__main__":
    main()
