"""Make the pages of the bug zoo from its programs and benchmarks/results/zoo.jsonl."""

import difflib
import json
import math
import statistics
from collections.abc import Iterator
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from claims import link, text
from zoo_words import CHINESE, ENGLISH, SYMPTOMS, Words

from benchmarks.zoo.bugs import PROGRAM, RIGHT, ZOO, Bug
from vae_ref.conformance.claims import all_claims
from vae_ref.conformance.diagnosis.explain import kill_matrix
from vae_ref.support import provenance

__all__ = ["substitutions"]

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "zoo.jsonl"
WIDTH, HEIGHT = 370, 156
LEFT, END, TOP, BOTTOM = 26, 178, 8, 132  # the edges of the plot
MOST = 300  # nats per image, the upper end of every plot
LINE = 14  # the height of a label

RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")

Rows = list[dict[str, Any]]


def substitutions() -> dict[str, str]:
    """Return the parts of the page, as Markdown."""
    found = _stored()
    rows = [row for trainings in found.values() for row in trainings]
    made, right = provenance.merge(rows), found[RIGHT]
    better = [name for name in ZOO if _looks_better(found[name], right)]
    images = right[0]["images"]
    machine = f"torch {made['torch']}, {made['processor']}"
    return {
        "zoo_count": str(len(ZOO)),
        "zoo_better": str(len(better)),
        "zoo_units": str(len(ENGLISH.units.keys() & better)),
        "zoo_seeds": str(len(right)),
        "zoo_epochs": str(right[0]["epochs"]),
        "zoo_trained": f"{images[0]:,}",
        "zoo_tested": f"{images[1]:,}",
        "zoo_most": str(MOST),
        "zoo_made": f"{machine}, 1 thread",
        "zoo_zh_made": f"{machine.replace(', ', '，')}，1 个线程",
        "zoo_program": f"```python\n{PROGRAM}```",
        **dict(_shown(found, ENGLISH)),
        **dict(_shown(found, CHINESE)),
    }


def _shown(found: dict[str, Rows], words: Words) -> Iterator[tuple[str, str]]:
    """Yield what one of the pages shows."""
    name = words.anchor.replace("-", "_")
    yield f"{name}_symptoms", "\n".join(_symptoms(words))
    yield f"{name}_table", "\n".join(_table(found, words))
    yield f"{name}_right", "\n".join(_pictures(RIGHT, found, words))
    yield name, "\n".join(line for lines in _sections(found, words) for line in lines)


def _stored() -> dict[str, Rows]:
    """Return the trainings of every bug in the order of the page, the right program first."""
    rows = sorted(map(json.loads, RESULTS.read_text().splitlines()), key=lambda row: row["seed"])
    bugs = sorted(ZOO.values(), key=lambda bug: list(ENGLISH.parts).index(bug.mutant.part))
    names = [RIGHT, *(bug.id for bug in bugs)]
    return {name: [row for row in rows if row["bug"] == name] for name in names}


def _reported(rows: Rows) -> list[float]:
    """Return the test losses that the program itself reports at the end."""
    return [row["test"][-1] for row in rows]


def _right(rows: Rows) -> list[float]:
    """Return the right losses of what the program has learned."""
    return [row["reconstruction"][-1] + row["kl"][-1] for row in rows]


def _looks_better(rows: Rows, right: Rows) -> bool:
    return statistics.mean(_reported(rows)) < statistics.mean(_reported(right))


def _value(values: list[float]) -> str:
    """Write a mean and its deviation."""
    mean, deviation = statistics.mean(values), statistics.stdev(values)
    size = math.floor(math.log10(abs(mean))) if mean else 0
    if size < 6:
        return _both(mean, deviation, _digits(mean))
    scaled = _both(mean / 10.0**size, deviation / 10.0**size, 1)
    return f"({scaled}) × 10{str(size).translate(RAISED)}"


def _both(mean: float, deviation: float, digits: int) -> str:
    return f"{_number(mean, digits)} ±\N{NO-BREAK SPACE}{_number(deviation, digits)}"


def _number(value: float, digits: int | None = None) -> str:
    """Write a number with three digits and one decimal at least, or a large one as a power."""
    if abs(value) >= 1e6:
        size = math.floor(math.log10(abs(value)))
        return f"{_number(value / 10.0**size, 0)} × 10{str(size).translate(RAISED)}"
    shown = _digits(value) if digits is None else digits
    return f"{value:,.{shown}f}".replace("-", "−")


def _digits(value: float) -> int:
    return next((n for n in range(1, 4) if abs(value) >= 10.0 ** (2 - n)), 4)


def _claim(bug: str) -> str:
    """Return the claim that exposes a bug: one that no other failure explains."""
    failed = kill_matrix()[bug]
    return next(c.id for c in all_claims() if c.id in failed and not failed.keys() & c.builds_on)


def _symptoms(words: Words) -> Iterator[str]:
    """Yield what one sees, with the bugs that look so."""
    for symptom, seen in words.symptoms.items():
        bugs = words.between.join(_linked(name, words) for name in SYMPTOMS[symptom])
        yield f"- **{seen}**{words.colon}{bugs}"


def _linked(name: str, words: Words) -> str:
    return f"[{words.bugs[name][0]}](#{words.anchor}-{name})"


def _table(found: dict[str, Rows], words: Words) -> Iterator[str]:
    yield from ("````{container} zoo", words.head, "|---|--:|--:|")
    for name, rows in found.items():
        title = _linked(name, words) if name in words.bugs else f"**{words.right}**"
        reported = _value(_reported(rows))
        if _looks_better(rows, found[RIGHT]):
            reported = f"**{reported}**"
        if name in words.units:
            reported += f"<br>{words.units[name]}"
        draws = _picture(name, "samples", words)
        yield f"| {title}<br>{draws} | {reported} | {_value(_right(rows))} |"
    yield "````"


def _sections(found: dict[str, Rows], words: Words) -> Iterator[Iterator[str]]:
    bugs = [ZOO[name] for name in found if name in ZOO]
    for part, group in groupby(bugs, lambda bug: bug.mutant.part):
        yield iter([f"## {words.parts[part]}", ""])
        for bug in group:
            yield _section(bug, found, words)


def _section(bug: Bug, found: dict[str, Rows], words: Words) -> Iterator[str]:
    title, looks = words.bugs[bug.id]
    yield from (f"({words.anchor}-{bug.id})=", f"### {title}", "")
    yield from ("```diff", *_changes(bug), "```", "")
    yield from _pictures(bug.id, found, words)
    said = words.sentences.get(bug.mutant.explanation, bug.mutant.explanation)
    said = text(said[0].upper() + said[1:])
    seen = ""
    if bug.mutant.links:
        places = (f"[{text(_place(address))}]({address})" for address in bug.mutant.links)
        seen = words.seen.format(words.between.join(places))
    yield f"{looks}{words.says.format(said, link(_claim(bug.id)), link(bug.id))}{seen}"
    yield ""


def _place(address: str) -> str:
    return address.removeprefix("https://github.com/").replace("/issues/", "#")


def _changes(bug: Bug) -> Iterator[str]:
    """Yield the wrong lines after a minus, the right ones after a plus."""
    for line in difflib.ndiff(bug.program.splitlines(), PROGRAM.splitlines()):
        if line[0] in "-+":
            yield f"{line[0]} {line[2:].strip()}"


def _pictures(name: str, found: dict[str, Rows], words: Words) -> Iterator[str]:
    plot = _plot(name, found, words)
    yield from ("````{container} specimen", "```{raw} html", plot, "```")
    yield from (_picture(name, what, words) for what in ("digits", "samples"))
    yield from ("````", "")


def _picture(name: str, what: str, words: Words) -> str:
    shown = {"digits": words.digits, "samples": words.draws}[what]
    return f"![{_title(name, words)}{words.colon}{shown}]({words.images}/{name}_{what}.png)"


def _title(name: str, words: Words) -> str:
    return words.bugs[name][0] if name in words.bugs else words.right


def _plot(name: str, found: dict[str, Rows], words: Words) -> str:
    """Draw the losses over the epochs, the mean of the seeds, in the colours of the page."""
    rows, right = found[name], found[RIGHT]
    names = dict(zip(("right", "truth", "reported"), words.curves, strict=True))
    curves = {"right": (names["right"], _curve(right, "test"))}
    if name != RIGHT:
        terms = _curve(rows, "reconstruction"), _curve(rows, "kl")
        curves["truth"] = (names["truth"], [sum(pair) for pair in zip(*terms, strict=True)])
        curves["reported"] = (names["reported"], _curve(rows, "test"))
    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {WIDTH} {HEIGHT}">',
        f"<title>{escape(_title(name, words))}{words.colon}{words.losses}</title>",
    ]
    for nats in range(0, MOST + 1, 100):
        y = _height(nats)
        svg.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{END}"/>')
        svg.append(f'<text x="{LEFT - 4}" y="{y + 4:.1f}" text-anchor="end">{nats}</text>')
    epochs = right[0]["epochs"]
    svg.append(f'<text x="{LEFT}" y="{HEIGHT - 3}">{words.epoch}</text>')
    svg.append(f'<text x="{END}" y="{HEIGHT - 3}" text-anchor="end">{epochs}</text>')
    for kind, (_, values) in curves.items():
        svg.append(f'<polyline class="{kind}" points="{" ".join(_points(values, epochs))}"/>')
    svg += _labels(curves)
    return "\n".join([*svg, "</svg>"])


def _curve(rows: Rows, key: str) -> list[float]:
    """Return the means over the seeds, one for each epoch."""
    return [statistics.mean(values) for values in zip(*(row[key] for row in rows), strict=True)]


def _height(nats: float) -> float:
    return BOTTOM - (BOTTOM - TOP) * min(max(nats / MOST, -0.04), 1.04)


def _points(values: list[float], epochs: int) -> Iterator[str]:
    for i, value in enumerate(values):
        yield f"{LEFT + (END - LEFT) * i / (epochs - 1):.1f},{_height(value):.1f}"


def _labels(curves: dict[str, tuple[str, list[float]]]) -> Iterator[str]:
    """Label the curves at their ends, without overlap."""
    ordered = sorted(curves, key=lambda kind: curves[kind][1][-1], reverse=True)
    places, least = list[float](), 0.0
    for kind in ordered:
        least = max(_height(curves[kind][1][-1]) + 4, least + LINE)
        places.append(least)
    most = HEIGHT - 2.0
    for kind, place in zip(reversed(ordered), reversed(places), strict=True):
        y, (name, values) = min(place, most), curves[kind]
        most = y - LINE
        label = f"{name} {_number(values[-1])}"
        yield f'<text class="{kind}" x="{END + 5}" y="{y:.1f}">{label}</text>'
