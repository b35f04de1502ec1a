"""A report as one HTML file that needs nothing else: no network, no script, no picture beside."""

from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined

from vae_ref.conformance import charts, wording
from vae_ref.conformance.bench import Bench
from vae_ref.conformance.records import Report

__all__ = ["as_html"]


def as_html(report: Report, bench: Bench) -> str:
    """Return a report as a page, with pictures of the subject against its oracles.

    Args:
        report: The report of a run.
        bench: The subject, to draw the pictures; it need not be the bench of the run.

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
    source = resources.files("vae_ref.conformance").joinpath("report.html.jinja")
    return environment.from_string(source.read_text(encoding="utf-8")).render(
        report=report,
        words=wording,
        others=wording.folded(report),
        pictures=charts.pictures(report, bench),
    )


def _literal(value: Any) -> Any:
    """Spell out control characters in whatever the template shows, but for what is HTML."""
    return value if hasattr(value, "__html__") else wording.printable(str(value))
