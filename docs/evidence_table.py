"""Make the table of the bounds of log p(x) from benchmarks/results/evidence_mnist.json."""

import json
from pathlib import Path
from typing import Any

__all__ = ["substitutions"]

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "evidence_mnist.json"


def substitutions() -> dict[str, str]:
    """Return the part of the page, as Markdown."""
    made = json.loads(RESULTS.read_text())
    rows = [
        "| images | lower | upper | apart | farthest apart | within 0.2 nats |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, title in (
        ("simulated", "simulated"),
        ("test_binarised", "test images, binarised at random"),
    ):
        if (found := made.get(name)) and "upper" in found:
            rows.append(
                f"| {title} | {_number(found['lower'])} | {_number(found['upper'])} | "
                f"{_number(found['gap'])} | {found['largest_gap']:.2f} | "
                f"{found['images_with_a_gap_below_0.2']:,} of {made['images']:,} |"
            )
        elif found:
            rows.append(f"| {title} | {_number(found['lower'])} | no bound | - | - | - |")
        else:
            rows.append(f"| {title} | not measured | not measured | - | - | - |")
    return {
        "evidence_of_mnist": "\n".join(rows)
        + f"\n\nNats, mean ± standard error over {made['images']:,} images of each kind; "
        f"{made['chains']:,} chains, temperatures above 0: {made['temperatures']}; torch "
        f"{made['torch']}, {made['processor']}."
    }


def _number(found: dict[str, Any]) -> str:
    return f"{found['mean']:.2f} ± {found['standard_error']:.2f}"
