"""What is judged, and what was found out about it by hand: the table in packages.toml."""

import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

__all__ = ["RESULTS", "SUBJECTS", "Finding", "Package", "Subject", "packages", "result"]

HERE = Path(__file__).parent
SUBJECTS = HERE / "subjects"
RESULTS = HERE.parent / "results" / "field"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One part of a package that is judged.

    Args:
        name: What the report calls it.
        target: What `vae-ref verify` is given, in the folder of the subjects.
        batch: The function in that file that makes the input of a step.
        declare: Conventions of a step, as for ``--declare``.
        run: Whether the target is a script for `vae-ref run`.
    """

    name: str
    target: str
    batch: str | None = None
    declare: list[str] = field(default_factory=list)
    run: bool = False


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A violation that was confirmed by hand.

    Args:
        title: What it is, in a few words.
        targets: The subjects that show it.
        claims: The claims that it violates.
        kind: ``fault``, or ``design`` if the authors chose it and say so, or ``limit`` if only
            extreme inputs are concerned.
        reason: What the source does, and what follows.
        file: The package's file that does it, as it is installed.
        code: A part of the line that does it.
        script: A program that shows it without the kit.
    """

    title: str
    targets: list[str]
    claims: list[str]
    kind: Literal["fault", "design", "limit"]
    reason: str
    file: str
    code: str
    script: str


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package that a user installs.

    Args:
        name: Its name at PyPI.
        requires: What else its subjects need.
        home: Where it lives.
        modules: What it is imported as, if that is not its name.
        note: What a reader has to know of it.
        subjects: What is judged.
        findings: What was confirmed.
    """

    name: str
    home: str
    subjects: list[Subject]
    requires: list[str] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)
    note: str = ""
    findings: list[Finding] = field(default_factory=list)


def packages() -> list[Package]:
    """Read the table."""
    table = tomllib.loads((HERE / "packages.toml").read_text())
    return [
        Package(
            subjects=[Subject(**one) for one in entry.pop("subject")],
            findings=[Finding(**one) for one in entry.pop("finding", [])],
            **entry,
        )
        for entry in table["package"]
    ]


def result(package: Package) -> dict[str, Any] | None:
    """Read what was stored of a package, if it was judged."""
    file = RESULTS / f"{package.name}.json"
    return json.loads(file.read_text()) if file.exists() else None
