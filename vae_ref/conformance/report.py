"""A report as data: JSON with a schema, and JUnit."""

import contextlib
import dataclasses
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from vae_ref.conformance.records import Report, Result, Status
from vae_ref.conformance.wording import example, printable, ran

__all__ = ["SCHEMA_VERSION", "as_json", "as_junit", "write"]

SCHEMA_VERSION = 1
"""Of report.schema.json; a key that is removed or changes its meaning raises it."""

_JUNIT: dict[Status, str] = {
    "fail": "failure",
    "unexpected-pass": "failure",
    "error": "error",
    "timeout": "error",
    "expected-failure": "skipped",
    "not-applicable": "skipped",
    "inconclusive": "skipped",
}


def as_json(report: Report) -> dict[str, Any]:
    """Return a report as data for strict JSON, as report.schema.json describes it.

    NaN and the infinities, which JSON has no numbers for, are the strings ``nan``, ``inf`` and
    ``-inf``.
    """
    data: dict[str, Any] = _plain(
        {
            "schema_version": SCHEMA_VERSION,
            "subject": report.subject,
            "verdict": report.verdict,
            "level": report.level,
            "seed": report.seed,
            "in_level": report.in_level,
            "ran": ran(report),
            "counts": report.counts,
            "budget": report.budget,
            "seconds": report.seconds,
            "versions": report.versions,
            "declared": report.declared,
            "facts": report.facts,
            "measured": {name: m._asdict() for name, m in report.measured.items()},
            "notes": [dataclasses.asdict(note) for note in report.notes],
            "claims": [_claim(result) for result in report.results],
        }
    )
    return data


def as_junit(report: Report) -> str:
    """Return a report as JUnit XML, one test case per claim that was selected."""
    outcomes = Counter(_JUNIT.get(result.status) for result in report.results)
    suites = ElementTree.Element("testsuites", name="vae-ref verify")
    suite = ElementTree.SubElement(
        suites,
        "testsuite",
        name=printable(report.subject),
        tests=str(len(report.results)),
        failures=str(outcomes["failure"]),
        errors=str(outcomes["error"]),
        skipped=str(outcomes["skipped"]),
        time=f"{report.seconds:.3f}",
    )
    properties = ElementTree.SubElement(suite, "properties")
    facts = {"verdict": report.verdict, "level": report.level, "seed": report.seed}
    for name, value in {**facts, **report.versions}.items():
        ElementTree.SubElement(properties, "property", name=name, value=printable(str(value)))
    for result in report.results:
        suite.append(_testcase(result))
    ElementTree.indent(suites)
    text: bytes = ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)
    return text.decode() + "\n"


def write(path: Path, text: str) -> None:
    """Replace a file whole or not at all.

    Args:
        path: The file to create or replace; its directory must exist. A device or a pipe, such as
            ``/dev/stdout``, is written to and not replaced.
        text: What it is to hold, in UTF-8.

    Raises:
        OSError: If it cannot be written; the error names ``path``.
    """
    direct = path.exists() and not path.is_file()
    target = path if direct else path.with_name(f".{path.name}.unfinished")
    try:
        target.write_text(text, encoding="utf-8", newline="\n")
        if not direct:
            os.replace(target, path)
    except BaseException as error:
        if not direct:
            with contextlib.suppress(OSError):
                target.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def _claim(result: Result) -> dict[str, Any]:
    claim, diagnosis = result.claim, result.diagnosis
    return {
        "id": claim.id,
        "part": claim.part,
        "statement": claim.statement,
        "kind": claim.kind,
        "status": result.status,
        "message": result.message,
        "seconds": result.seconds,
        "explained_by": result.explained_by,
        "diagnosis": None if diagnosis is None else dataclasses.asdict(diagnosis),
        "counterexample": result.counterexample,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_plain(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, str):  # half of a surrogate pair is no text; parsers refuse it
        return value.encode("utf-8", "backslashreplace").decode()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Sequence):
        return [_plain(item) for item in value]
    return _plain(value.tolist() if hasattr(value, "tolist") else str(value))


def _testcase(result: Result) -> ElementTree.Element:
    claim = result.claim
    case = ElementTree.Element(
        "testcase",
        classname=f"vae_ref.{claim.part}",
        name=claim.id,
        time=f"{result.seconds:.3f}",
    )
    if outcome := _JUNIT.get(result.status):
        message = printable(result.message)
        element = ElementTree.SubElement(case, outcome, type=result.status, message=message)
        if outcome != "skipped":
            element.text = printable("\n".join(_details(result)))
    return case


def _details(result: Result) -> list[str]:
    lines = [result.claim.statement, result.message]
    if result.counterexample:
        lines.append(example(result.counterexample))
    if result.explained_by:
        lines.append(f"explained by {result.explained_by}")
    if diagnosis := result.diagnosis:
        lines += [f"{diagnosis.bug}: {diagnosis.explanation}"]
        formulas = (("yours", diagnosis.yours), ("right", diagnosis.right))
        lines += [f"{name}: {formula}" for name, formula in formulas if formula]
        lines += [diagnosis.reproduction, *diagnosis.links]
    return [line for line in lines if line]
