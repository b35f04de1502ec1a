"""Draw a history as a page of its own, which needs nothing from elsewhere."""

import io
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from vae_ref.gate.history import Series

__all__ = ["changes", "page"]

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; background: Canvas; color: CanvasText; }
body { font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
.wide { overflow-x: auto; }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #8886; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.worse { color: #c22; } .better { color: #183; }
@media (prefers-color-scheme: dark) { .worse { color: #f77; } .better { color: #6d8; } }
svg { max-width: 100%; height: auto; }
code { font-size: .9em; }
</style>
<h1>{{ title }}</h1>
<p>{{ count }} commits, from {{ first.date[:10] }} to {{ last.date[:10] }}. Counts are exact. Times
are relative to those of a reference commit, which was timed in turns with each of them.</p>
{% for machine, rows, charts in machines %}
<h2>{{ machine }}</h2>
<h3>What changed</h3>
<div class="wide"><table>
<tr><th>what</th><th>from</th><th>to</th><th>change</th><th>commit</th></tr>
{% for row in rows %}
<tr><td>{{ row.name }}</td><td class="number">{{ row.before }}</td>
<td class="number">{{ row.after }}</td>
<td class="number {{ 'worse' if row.worse else 'better' }}">{{ row.change }}</td>
<td><code>{{ row.commit[:10] }}</code> {{ row.date[:10] }}
{{ row.subject }}{{ row.among }}</td></tr>
{% else %}
<tr><td colspan="5">Nothing.</td></tr>
{% endfor %}
</table></div>
{% for name, chart in charts %}
<h3 id="{{ name }}">{{ name }}</h3>
{{ chart | safe }}
{% endfor %}
{% endfor %}
</html>
"""


def page(found: Sequence[Series], order: Sequence[str], title: str) -> str:
    """Return the page.

    Args:
        found: The counts and times.
        order: All commits, the oldest first.
        title: The name of the page.
    """
    from jinja2 import Environment

    lines = sorted(
        (line for series in found for line in series.lines),
        key=lambda line: order.index(line["commit"]),
    )
    machines = []
    for machine, some in groupby(found, key=lambda series: series.machine):
        of_machine = list(some)
        workloads = [
            (name, _chart(list(group)))
            for name, group in groupby(of_machine, key=lambda s: s.name.rpartition("/")[0])
        ]
        machines.append((machine, changes(of_machine, order), workloads))
    template = Environment(autoescape=True, trim_blocks=True).from_string(PAGE)
    return template.render(
        title=title,
        count=len({line["commit"] for line in lines}),
        first=lines[0],
        last=lines[-1],
        machines=machines,
    )


def changes(found: Sequence[Series], order: Sequence[str]) -> list[dict[str, Any]]:
    """List where the counts and times changed, the latest first.

    Args:
        found: The counts and times.
        order: All commits, the oldest first.

    Returns:
        Rows with ``name``, ``before``, ``after``, ``change``, ``worse``, ``commit``, ``date``,
        ``subject``, ``among``, which says how many commits before it were not recorded, and
        ``at``, its place in the order.
    """
    rows = []
    for series in found:
        timed = series.name.endswith("/time")
        for step in series.steps:
            line, before = series.lines[step.at], series.lines[step.at - 1]
            at = order.index(line["commit"])
            between = at - order.index(before["commit"]) - 1
            rows.append(
                {
                    "at": at,
                    "name": series.name,
                    "before": f"{step.before:.3f}" if timed else f"{step.before:,}",
                    "after": f"{step.after:.3f}" if timed else f"{step.after:,}",
                    "change": f"{step.after / step.before - 1:+.1%}" if step.before else "new",
                    "worse": step.after > step.before,
                    "among": f", or one of {between} commits before it" if between else "",
                    **{key: line[key] for key in ("commit", "date", "subject")},
                }
            )
    return sorted(rows, key=lambda row: (-row["at"], row["name"]))


def _chart(found: list[Series]) -> str:
    """Draw the series of a workload, one below the other."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.1 * len(found) + 0.4), layout="constrained")
    grid = figure.subplots(len(found), 1, sharex=False, squeeze=False)
    for series, axis in zip(found, grid[:, 0], strict=True):
        numbers = range(len(series.values))
        axis.plot(numbers, series.values, ".-", color="#3b7dd8", linewidth=1, markersize=4)
        for step in series.steps:
            axis.axvline(step.at - 0.5, color="#c2410c", linewidth=0.8, linestyle=":")
        low, high = min(series.values), max(series.values)
        room = 0.1 * (high - low) or 0.1 * max(abs(high), 1)
        axis.set_ylim(low - room, high + room)
        axis.set_ylabel(series.name.rpartition("/")[2], rotation=0, ha="right", va="center")
        axis.set_xticks([])
        axis.tick_params(colors="#888888", labelsize=8)
        axis.yaxis.label.set_color("#888888")
        axis.patch.set_alpha(0)
        for side, spine in axis.spines.items():
            spine.set_visible(side == "left")
            spine.set_color("#888888")
        axis.yaxis.get_major_locator().set_params(nbins=3)
    figure.patch.set_alpha(0)
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    name = found[0].name.rpartition("/")[0]
    label = f'<svg role="img" aria-label="The history of {name}"'
    return label + out.getvalue().partition("<svg")[2]
