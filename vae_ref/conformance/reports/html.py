"""Write a report as one HTML file, which needs no network, no script and no other file."""

from collections.abc import Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined

from vae_ref.conformance.records import Report
from vae_ref.conformance.reports import wording
from vae_ref.conformance.reports.drawing import drawing
from vae_ref.conformance.reports.picture import Picture

__all__ = ["as_html"]


def as_html(report: Report, pictures: Sequence[Picture] = ()) -> str:
    """Return a report as a page, with pictures of the subject's answers beside the right ones.

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
    source = resources.files("vae_ref.conformance.reports").joinpath("report.html.jinja")
    return environment.from_string(source.read_text(encoding="utf-8")).render(
        report=report,
        words=wording,
        others=wording.folded(report),
        pictures=pictures,
        drawing=drawing(report),
    )


def _literal(value: Any) -> Any:
    """Spell out the control characters in all that the template shows, except in HTML."""
    return value if hasattr(value, "__html__") else wording.printable(str(value))
