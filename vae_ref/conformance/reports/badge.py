"""Make a badge of a report, as SVG: what it says in a line, for the README of a project."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args
from xml.sax.saxutils import escape, quoteattr

from vae_ref.conformance.records import BAD, Status, Verdict
from vae_ref.conformance.reports.drawing import share
from vae_ref.conformance.reports.files import SCHEMA_VERSION
from vae_ref.conformance.reports.wording import brief, printable
from vae_ref.support import exchange
from vae_ref.support.errors import UserError
from vae_ref.support.excerpt import excerpt

__all__ = ["BadgeError", "badge", "read"]

_LARGEST = 64 << 20
"""Bytes of a report; one of all claims has less than 1 MiB."""
_MOST = 1_000_000  # claims
_HEIGHT, _SIZE, _PAD = 20, 11, 7  # in pixels
_DARK, _GREEN, _RED, _GREY = "#32383f", "#1a7f37", "#b42318", "#59636e"  # white on them is legible


class BadgeError(UserError):
    """A report is malformed; the message says the file, the rule and the value."""


def read(path: Path) -> dict[str, Any]:
    """Read a report that ``vae-ref verify --json`` has written.

    Raises:
        BadgeError: If the file is no such report.
        OSError: If it cannot be read.
    """

    def require(holds: bool, rule: str, value: object) -> None:
        if not holds:
            remedy = "Write the report with vae-ref verify --json."
            raise BadgeError(f"{path}: {rule}; got {excerpt(value)}. {remedy}")

    with path.open("rb") as file:
        text = file.read(_LARGEST + 1)
    require(len(text) <= _LARGEST, "a report must have at most 64 MiB", "a larger file")
    try:
        report = exchange.parsed(text)
    except ValueError as error:
        require(False, "a report must be JSON", excerpt(str(error).partition("\n")[0]))
    require(isinstance(report, dict), "a report must be an object", report)
    assert isinstance(report, dict)  # noqa: S101
    found: dict[str, Any] = report
    get = found.get
    version = get("schema_version")
    require(version == SCHEMA_VERSION, f"schema_version must be {SCHEMA_VERSION}", version)
    require(get("verdict") in get_args(Verdict), "verdict must be one that exists", get("verdict"))
    require(isinstance(get("broken"), str), "broken must be a text", get("broken"))
    require(_are_counts(get("counts")), "counts must be numbers by status", get("counts"))
    bad = bool(get("broken")) or any(found["counts"].get(status) for status in BAD)
    require(bad == (get("verdict") == "violated"), "verdict must agree with counts", get("counts"))
    require(isinstance(get("declared"), dict), "declared must be an object", get("declared"))
    versions = get("versions")
    edition = get("edition")
    require(_is_number(edition) and edition != 0, "edition must be 1 or more", edition)
    kit = versions.get("vae_ref") if isinstance(versions, dict) else None
    require(isinstance(kit, str), "versions must name that of vae_ref", versions)
    return found


def _are_counts(counts: object) -> bool:
    return isinstance(counts, dict) and all(
        status in get_args(Status) and _is_number(count) for status, count in counts.items()
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST


def badge(report: Mapping[str, Any]) -> str:
    """Return the badge of a report, which `read` or ``as_json`` returned."""
    text, colour = _said(report)
    version = excerpt(printable(report["versions"]["vae_ref"]), 20)
    kit = f"vae_ref {version}, edition {report['edition']}"
    declared = ", ".join(f"{name} = {brief(v)}" for name, v in report["declared"].items())
    title = f"VAE: {text}{declared and ', as declared: '}{declared}. {kit}"
    title = excerpt(printable(title), 500)
    boxes, left = [], 0.0
    for words, fill in (("VAE", _DARK), (text, colour), (kit, _DARK)):
        length = 0.9 * sum(map(share, words)) * _SIZE
        width = round(length + 2 * _PAD)
        boxes += [
            f'<rect x="{left:g}" width="{width}" height="{_HEIGHT}" fill="{fill}"/>',
            f'<text x="{left + width / 2:g}" y="14" textLength="{length:.1f}">'
            f"{escape(words)}</text>",
        ]
        left += width
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{left:g}" height="{_HEIGHT}" '
            f'role="img" aria-label={quoteattr(title)}>',
            f"<title>{escape(title)}</title>",
            f'<g fill="#fff" font-family="Verdana, DejaVu Sans, sans-serif" '
            f'font-size="{_SIZE}" text-anchor="middle">',
            *boxes,
            "</g>",
            "</svg>\n",
        ]
    )


def _said(report: Mapping[str, Any]) -> tuple[str, str]:
    """Return what the badge says of a run, and its colour."""
    counts = report["counts"]
    holding, known, undecided = (
        counts.get(status, 0) for status in ("pass", "expected-failure", "inconclusive")
    )
    if report["broken"]:
        return "the run broke off", _RED
    if bad := sum(counts.get(status, 0) for status in BAD):
        return f"{_claims(bad)} violated", _RED
    if not holding + known + undecided:
        return "nothing judged", _GREY
    said = f"{_claims(holding)} hold{'s' if holding == 1 else ''}"
    if known:
        said += f", {known} known failure{'s' if known > 1 else ''}"
    if undecided:
        said += f", {undecided} undecided"
    elif report["verdict"] == "undecided":
        said += ", undecided as a whole"
    return said, _GREY if known or report["verdict"] == "undecided" else _GREEN


def _claims(count: int) -> str:
    return f"{count} claim{'' if count == 1 else 's'}"
