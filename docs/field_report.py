"""The field report: what the stored results say of each package."""

from collections.abc import Iterable, Iterator
from html import escape
from itertools import groupby
from typing import Any

from claims import link, text

from benchmarks.field.table import Finding, Package, packages, result
from vae_ref.conformance.reports.wording import STATUS, example

__all__ = ["substitutions"]

CHOSEN = ("kl_reduction", "nll_reduction", "beta", "variance", "evaluation", "seeded")
"""The conventions that change what is claimed; the others say how to read the subject."""
KINDS = {"fault": "Faults", "design": "By design", "limit": "At the limits"}
WORDS = {"violated": "violated", "undecided": "beyond"}


def substitutions() -> dict[str, str]:
    """Return the parts of the page, as Markdown."""
    known = [(package, result(package)) for package in packages()]
    table = [(package, found) for package, found in known if found]
    missing = ", ".join(package.name for package, found in known if not found)
    subjects = [subject for _, found in table for subject in found["subjects"]]
    words = [subject["verdict"] for subject in subjects]
    count = {word: words.count(word) for word in WORDS}
    count["holds"] = len(words) - sum(count.values())
    return {
        "field_counts": (
            f"Of {len(subjects)} subjects from {len(table)} packages, {count['holds']} hold all "
            f"claims that apply, {count['violated']} violate one, and {count['undecided']} are "
            "beyond what the claims decide."
            + (f" In the table, but not judged yet: {missing}." if missing else "")
        ),
        "field_overview": "\n".join(_overview(table)),
        "field_findings": "\n".join(_findings(table)),
        "field_packages": "\n".join(line for entry in table for line in _package(*entry)),
    }


def _word(subject: dict[str, Any]) -> str:
    chosen = any(name in CHOSEN for name in subject["declared"])
    return WORDS.get(subject["verdict"], "holds as declared" if chosen else "holds")


def _overview(table: list[tuple[Package, dict[str, Any]]]) -> Iterator[str]:
    yield "| package | version | what was judged | verdict | hold | violated | do not apply |"
    yield "|---|---|---|---|--:|--:|--:|"
    for package, found in table:
        name, version = f"[{package.name}](#{_anchor(package)})", found["versions"][package.name]
        for subject in found["subjects"]:
            statuses = list(subject["claims"].values())
            hold, out = statuses.count("pass"), statuses.count("not-applicable")
            cells = [name, version, text(subject["name"]), _word(subject)]
            yield f"| {' | '.join(cells)} | {hold} | {len(subject['violated'])} | {out} |"
            name = version = ""


def _anchor(package: Package) -> str:
    return f"field-{package.name.lower()}"


def _findings(table: list[tuple[Package, dict[str, Any]]]) -> Iterator[str]:
    for kind, title in KINDS.items():
        of_kind = [
            (package, found, finding, confirmed)
            for package, found in table
            for finding, confirmed in zip(package.findings, found["findings"], strict=True)
            if finding.kind == kind
        ]
        if of_kind:
            yield from (f"### {title}", "")
        for entry in of_kind:
            yield from _finding(*entry)


def _finding(
    package: Package, found: dict[str, Any], finding: Finding, confirmed: dict[str, str]
) -> Iterator[str]:
    version = found["versions"][package.name]
    yield from (f"#### {package.name} {version}: {text(finding.title)}", "")
    yield from (f"{finding.reason} The line is `{confirmed['place']}`.", "")
    for claim in finding.claims:
        stored = _violation(found, finding.targets, claim)
        yield f"- {link(claim)}: {text(stored['message'])}"
        if stored["counterexample"] and stored["counterexample"].get("inputs"):
            yield f"  For example, `{example(stored['counterexample'])}`."
    yield from ("", "Without the kit,", "", "```python", finding.script.strip(), "```", "")
    yield from ("prints", "", "```text", confirmed["printed"], "```", "")
    stored = _violation(found, finding.targets, finding.claims[0])
    if reproduction := (stored["diagnosis"] or {}).get("reproduction"):
        yield from (
            "The kit's own reproduction:",
            "",
            "```python",
            reproduction.strip(),
            "```",
            "",
        )


def _violation(found: dict[str, Any], targets: Iterable[str], claim: str) -> dict[str, Any]:
    violations: Iterator[dict[str, Any]] = (
        violation
        for subject in found["subjects"]
        if subject["target"] in targets
        for violation in subject["violated"]
        if violation["id"] == claim
    )
    return next(violations)


def _package(package: Package, found: dict[str, Any]) -> Iterator[str]:
    yield from (f"({_anchor(package)})=", f"### {package.name}", "")
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    yield from (f"[{package.home}]({package.home}). {package.note}".strip(), "")
    made = f"Python {found['python']}, commit {found['commit']}, {found['date']}"
    yield from (
        f"*{text(versions)}, {made}. From `benchmarks/results/field/{package.name}.json`.*",
        "",
    )
    for subject in found["subjects"]:
        yield from _subject(subject)


def _subject(subject: dict[str, Any]) -> Iterator[str]:
    yield from (f"**{text(subject['name'])}** (`{subject['target']}`)", "")
    yield from (f"{text(subject['summary'])}.", "")
    if subject["declared"]:
        declared = ", ".join(f"{name} = {value}" for name, value in subject["declared"].items())
        yield from (f"Declared: {text(declared)}.", "")
    yield "<details><summary>Every claim</summary>"
    yield "<dl>"
    for status, claims in _by_status(subject):
        word = STATUS[status]
        yield f"<dt>{escape(word)}</dt><dd>{escape(', '.join(claims))}</dd>"
    for reason, claims in _by_reason(subject):
        yield f"<dt>{escape(reason)}</dt><dd>{escape(', '.join(claims))}</dd>"
    yield from ("</dl>", "</details>", "")


def _by_status(subject: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    decided = {c: s for c, s in subject["claims"].items() if c not in subject["why"]}
    ranked = sorted(decided.items(), key=lambda item: item[1])
    for status, items in groupby(ranked, key=lambda item: item[1]):
        yield status, [claim for claim, _ in items]


def _by_reason(subject: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    ranked = sorted(subject["why"].items(), key=lambda item: (item[1], item[0]))
    for reason, items in groupby(ranked, key=lambda item: item[1]):
        claims = [claim for claim, _ in items]
        yield f"{STATUS[subject['claims'][claims[0]]]}: {reason}", claims
