"""Write a report as JSON, which has a schema, or as JUnit XML."""

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from vae_ref.conformance.records import Diagram, Report, Result, Status
from vae_ref.conformance.reports.wording import printable, ran, rows
from vae_ref.conformance.transfer import plain
from vae_ref.support.atomic import replacing

__all__ = ["SCHEMA_VERSION", "as_json", "as_junit", "write"]

SCHEMA_VERSION = 2
"""The version of report.schema.json; it rises when a key is removed or changes its meaning."""

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

    JSON has no numbers for NaN and the infinities; they are the strings ``nan``, ``inf``,
    ``-inf``.
    """
    data: dict[str, Any] = plain(
        {
            "schema_version": SCHEMA_VERSION,
            "subject": report.subject,
            "verdict": report.verdict,
            "broken": report.broken,
            "level": report.level,
            "edition": report.edition,
            "seed": report.seed,
            "in_level": report.in_level,
            "ran": ran(report),
            "counts": report.counts,
            "budget": report.budget,
            "seconds": report.seconds,
            "versions": report.versions,
            "declared": report.declared,
            "facts": report.facts,
            "diagram": report.diagram and _diagram(report.diagram),
            "measured": {name: m._asdict() for name, m in report.measured.items()},
            "notes": [dataclasses.asdict(note) for note in report.notes],
            "claims": [_claim(result) for result in report.results],
        }
    )
    return data


def as_junit(report: Report) -> str:
    """Return a report as JUnit XML, with one test case for each claim that was selected."""
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
    facts = {name: getattr(report, name) for name in ("verdict", "level", "edition", "seed")}
    for name, value in {**facts, **report.versions}.items():
        ElementTree.SubElement(properties, "property", name=name, value=printable(str(value)))
    for result in report.results:
        suite.append(_testcase(result))
    ElementTree.indent(suites)
    text: bytes = ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)
    return text.decode() + "\n"


def write(path: Path, text: str) -> None:
    """Write a file as a whole or not at all; see `replacing`.

    Args:
        path: The file to create or replace.
        text: The text to write, in UTF-8.

    Raises:
        OSError: If it cannot be written; the error names ``path``.
    """
    with replacing(path) as file:
        file.write(text.encode())


def _diagram(diagram: Diagram) -> dict[str, Any]:
    return {
        "nodes": [dataclasses.asdict(node) for node in diagram.nodes],
        "edges": [edge._asdict() for edge in diagram.edges],
    }


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
    diagnosis = result.diagnosis
    lines = [diagnosis.explanation] if diagnosis else []
    lines += [f"{label}: {text}" for label, text in rows(result)]
    return lines + ([diagnosis.reproduction] if diagnosis and diagnosis.reproduction else [])
