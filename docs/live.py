"""The figures of the live page, from benchmarks/results/live.json."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["substitutions"]

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "live.json"


def substitutions() -> dict[str, str]:
    """Return the figures by name; `live_kl_at_0_3` is the KL divergence at the weight 0.3."""
    return dict(_figures(json.loads(RESULTS.read_text())))


def _figures(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key in ("hidden", "epochs", "seeds", "codes"):
        yield f"live_{key}", str(found[key])
    cost = max(abs(row["copies_in_8_bits"] - row["copies"]) for row in found["models"])
    yield "live_cost_of_8_bits", f"{cost:.2f}"
    for row in found["models"]:
        end = "autoencoder" if row["model"] == "autoencoder" else f"{row['beta']:g}"
        end = f"at_{end}".replace(".", "_")
        for key in ("reconstruction", "kl"):
            yield f"live_{key}_{end}", f"{row[key]['mean']:.1f} ± {row[key]['deviation']:.1f}"
        for key in ("spread", "sigma"):
            yield f"live_{key}_{end}", f"{row[key]:.2g}"
