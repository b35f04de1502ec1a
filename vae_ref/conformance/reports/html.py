"""Write a report as one HTML file, which needs no network and no other file."""

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined

from vae_ref.conformance.records import BAD, Report, Result
from vae_ref.conformance.reports import mathml, wording
from vae_ref.conformance.reports.drawing import drawing
from vae_ref.conformance.reports.picture import Picture
from vae_ref.conformance.transfer import plain

__all__ = ["as_html"]

_LONGEST = 4000  # characters of a number of a counterexample that is to be copied


def as_html(report: Report, pictures: Sequence[Picture] = ()) -> str:
    """Return a report as a page, with pictures of the subject's answers beside the right ones.

    The page's own script is the only one that its policy of content lets run.

    Args:
        report: The report of a run.
        pictures: What `charts.pictures` drew for it.

    Returns:
        The text of the file.
    """
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_literal,
    )
    script = _read("report.js")
    return environment.from_string(_read("report.html.jinja")).render(
        report=report,
        words=wording,
        mathml=mathml,
        others=wording.folded(report),
        by_id={result.claim.id: result for result in report.results},
        evidence=_evidence(report),
        counterexample=_counterexample,
        to_copy=_to_copy,
        pictures=pictures,
        drawing=drawing(report),
        style=_read("report.css"),
        script=script,
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _read(name: str) -> str:
    return resources.files("vae_ref.conformance.reports").joinpath(name).read_text("utf-8")


def _literal(value: Any) -> Any:
    """Spell out the control characters in all that the template shows, except in HTML."""
    return value if hasattr(value, "__html__") else wording.printable(str(value))


def _evidence(report: Report) -> dict[str, str]:
    """Return, for every bug that was named or came second, how its known symptoms fared here."""
    named = [result.diagnosis for result in report.results if result.diagnosis]
    file = resources.files("vae_ref.conformance.diagnosis") / "kill_matrix.json"
    if not named or report.diagram or not file.is_file():  # a step is known by its weights
        return {}
    matrix = json.loads(file.read_text("utf-8"))["mutants"]
    status = {result.claim.id: result.status for result in report.results}
    found = {}
    for bug in filter(None, (bug for d in named for bug in (d.bug, d.runner_up))):
        if seen := [status.get(claim) for claim in matrix.get(bug, ())]:
            bad, held = sum(s in BAD for s in seen), seen.count("pass")
            others = {"hold": held, "were not judged": len(seen) - bad - held}
            rest = "".join(f", {number} {what}" for what, number in others.items() if number)
            found[bug] = f"{bad} of the {len(seen)} claims that notice {bug} are violated{rest}"
    return found


def _counterexample(result: Result) -> list[tuple[str, str]]:
    """Return the numbers of a counterexample by name: what was given, found and expected."""
    example = result.counterexample or {}
    rows = [(f"input {name}", value) for name, value in example.get("inputs", {}).items()]
    names = {"got": "found", "expected": "expected", "tolerance": "tolerance", "index": "index"}
    rows += [(names[k], example[k]) for k in names if example.get(k) not in (None, [])]
    return [
        (name, f"{float(value):.2g}" if name == "tolerance" else wording.brief(value))
        for name, value in rows
    ]


def _to_copy(report: Report, result: Result) -> tuple[str, str]:
    """Return what repeats a failure, and what it is: a script, its inputs, or the options."""
    if result.diagnosis and result.diagnosis.reproduction:
        return "Reproduction", result.diagnosis.reproduction.strip("\n")
    options = f"--only {result.claim.id} --seed {report.seed}"
    inputs = plain((result.counterexample or {}).get("inputs", {}))
    lines = [f"{name} = {value!r}" for name, value in inputs.items()]
    if not lines or any(len(line) > _LONGEST for line in lines):
        return "This claim alone", options
    expected = [f"# {name}: {value}" for name, value in _counterexample(result)[len(lines) :]]
    return "Inputs", "\n".join([f"# vae-ref verify: {options}", *lines, *expected])
