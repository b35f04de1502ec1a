"""The page of every float: tables of benchmarks/results/every_float.json."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.every_float.exact import FUNCTIONS

__all__ = ["substitutions"]

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "every_float.json"
REFERENCE = "vae_ref"

NAMES = {
    "kl_by_logvar": "KL divergence at mu = 0, by logvar",
    "kl_by_mu": "KL divergence at logvar = 0, by mu",
    "bernoulli_0_by_logit": "Bernoulli at 0, by logit: softplus",
    "bernoulli_1_by_logit": "Bernoulli at 1, by logit",
    "bernoulli_0_by_probability": "Bernoulli at 0, by probability",
    "bernoulli_1_by_probability": "Bernoulli at 1, by probability",
    "log_normaliser": "Log normaliser of the continuous Bernoulli",
    "sigma_by_logvar": "Standard deviation, by logvar",
}
HEAD = "largest error, ulp | at x = | over 1 ulp | not correctly rounded | exceptional, first"


def substitutions() -> dict[str, str]:
    """Return what the page takes from the result file, as Markdown."""
    if not RESULTS.exists():
        missing = "Not measured; `python -m benchmarks.every_float` would."
        return {"every_float_reference": missing, "every_float": missing}
    content = json.loads(RESULTS.read_text())
    return {
        "every_float_reference": "\n".join([*_overview(content), "", _source(content)]),
        "every_float": "\n".join(line for name in FUNCTIONS for line in _section(content, name)),
    }


def _overview(content: dict[str, Any]) -> Iterator[str]:
    yield f"| | | {HEAD} |"
    yield "|---|---|--:|--:|--:|--:|--:|"
    for name, title in NAMES.items():
        label = f"[{title}](#float-{name.replace('_', '-')})"
        for order, tally in content["functions"][name][REFERENCE].items():
            yield f"| {label} | {order} | {_cells(tally)} |"
            label = ""


def _section(content: dict[str, Any], name: str) -> Iterator[str]:
    formula, derivative, _ = FUNCTIONS[name]
    contestants = content["functions"][name]
    inputs = contestants[REFERENCE]["value"]["inputs"]
    yield from (f"(float-{name.replace('_', '-')})=", f"### {NAMES[name]}", "")
    of_others = min(orders["value"]["inputs"] for orders in contestants.values())
    counted = f"{inputs:,} inputs"
    if of_others < inputs:
        counted += f" for the reference, and {of_others:,} for the others"
    yield f"$f(x) = {formula}$, $f'(x) = {derivative}$; {counted}."
    yield from ("", f"| | | {HEAD} |", "|---|---|--:|--:|--:|--:|--:|")
    for who, orders in contestants.items():
        label = who if who == REFERENCE else f"`{who}`"
        for order, tally in orders.items():
            yield f"| {label} | {order} | {_cells(tally)} |"
            label = ""
    yield ""


def _cells(tally: dict[str, Any]) -> str:
    worst, exceptional = tally["worst"], tally["exceptional"]
    cells = [
        f"{worst:.3f}" if worst < 100 else f"{worst:.1e}",
        _input(tally["worst_at"]),
        f"{tally['over_1_ulp']:,}",
        f"{tally['not_rounded']:,}",
        f"{exceptional:,}, {_input(tally['exceptional_at'])}" if exceptional else "0",
    ]
    return " | ".join(cells)


def _input(number: str | None) -> str:
    """Write a float with as many digits as tell it from all others."""
    return "–" if number is None else f"{float.fromhex(number):.9g}"


def _source(content: dict[str, Any]) -> str:
    on, stride = content["environment"], content["stride"]
    which = "Every float" if stride == 1 else f"Only one of {stride:,} floats"
    if content["others"] > 1:
        which += f" for the reference, and one of {stride * content['others']:,} for the others"
    return (
        f"*{which}. {on.get('processor', 'unknown processor')}, torch {on['torch']} with "
        f"{on.get('vectors', 'no')} vectors, Python {on['python']}, vae_ref {on['vae_ref']}, "
        f"commit {on.get('commit', 'unknown')}, {on['date']}. "
        f"From `benchmarks/results/{RESULTS.name}`.*"
    )
