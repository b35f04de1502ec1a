"""Make the table of the cheaters from their bank, and from what became of each."""

import json

from tests.conformance.cheaters import CHEATERS, RESULTS

__all__ = ["substitutions"]

ENDS = {
    0: "**passes**",
    1: "violated",
    2: "not loaded",
    3: "undecided",
    70: "internal error",
    130: "stopped",
}


def substitutions() -> dict[str, str]:
    """Return the parts of the page, as Markdown."""
    found = json.loads(RESULTS.read_text())
    rows = ["| file | what it does | in the process | isolated |", "|---|---|---|---|"]
    for name, cheater in CHEATERS.items():
        plain, isolated = (_end(found[name].get(way)) for way in ("plain", "isolated"))
        rows.append(f"| `{name}` | {cheater.what} | {plain} | {isolated} |")
    passing = {
        way: sum(found[name].get(way) == 0 for name in CHEATERS) for way in ("plain", "isolated")
    }
    return {
        "cheaters": "\n".join(rows),
        "cheaters_count": str(len(CHEATERS)),
        "cheaters_plain": str(passing["plain"]),
        "cheaters_isolated": str(passing["isolated"] or "none"),
    }


def _end(status: int | None) -> str:
    if status is None:
        return "not measured"
    return ENDS.get(status) or f"killed ({status})"
