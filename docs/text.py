"""Make the page of the guide's claims from the registry and the stored intervals."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vae_ref import Recipe
from vae_ref.conformance.answers.intervals import COUNTED, interval
from vae_ref.conformance.claims import all_claims, significance
from vae_ref.conformance.records import Claim

__all__ = ["substitutions"]

HERE = Path(__file__).parent
FILE = HERE.parent / "vae_ref" / "conformance" / "answers" / "intervals.json"
COURSES = ("mnist", "glyphs")

HEADINGS = {
    "training/aggregate-posterior": "All codes together are near the prior, but not equal to it",
    "training/autoencoder-copies": "The autoencoder copies better",
    "training/blur": "The VAE's images are blurrier than the data",
    "training/clouds-overlap": "The clouds of one class overlap more, if not much",
    "training/empty-volume": "More of the autoencoder's latent space is empty",
    "training/holes": "Draws from the prior: digits from the VAE, blots from the autoencoder",
    "training/importance-weighted": "The bound rises with the number of samples",
    "training/interpolation": "Half-way between two images, the VAE is no more plausible",
    "training/kl-alone": "Trained with the KL alone, every cloud becomes the prior",
    "training/loss": "The loss after each number of epochs",
    "training/prior-takes-over": "With a very large beta, every code decodes to the mean image",
    "training/rate-distortion": "The two terms pull against each other",
    "training/score-function": "The score function gives a far noisier gradient",
    "training/sigma-collapses": "Without the KL, sigma collapses",
}
"""What the claims say, in a few words."""

NEVER_NEGATIVE = re.compile(r"(test )?KL\b|(.*, )?rms\b")
"""Measures whose interval has no room below 0."""


def substitutions() -> dict[str, str]:
    """Return the parts of the pages that are made from the intervals, as Markdown."""
    stored = json.loads(FILE.read_text())
    measured = {name.partition(": ")[0] for name in stored["mnist"]["measures"]}
    claims = [claim for claim in all_claims() if claim.id in measured]
    others = [c for c in all_claims() if c.level == "trained" and c.id not in measured]
    return {
        "text_claims": "\n".join(line for claim in claims for line in _claim(claim, stored)),
        "text_exact": "\n".join(_without_intervals(others)),
        "text_sources": "\n".join(_sources(stored)),
        "text_published": _published(stored),
        "figures_seeds": str(_seeds(stored["mnist"])),
        **dict(_figures(stored)),
    }


def _claim(claim: Claim, stored: dict[str, Any]) -> Iterator[str]:
    name = claim.id.partition("/")[2]
    yield from (f"### {HEADINGS[claim.id]}", "", claim.statement, "")
    yield from ("$$", claim.formula, "$$", "")
    picture = f"images/text_{name.replace('-', '_')}.png"
    if (HERE / picture).exists():
        yield from (f"```{{image}} {picture}", f":alt: {claim.id}, on MNIST", "```", "")
    prefix = f"{claim.id}: "
    names = [key for key in stored["mnist"]["measures"] if key.startswith(prefix)]
    names += [
        key for key in stored["glyphs"]["measures"] if key.startswith(prefix) and key not in names
    ]
    yield f"| {claim.id} | MNIST | interval | glyphs | interval |"
    yield "|---|--:|:-:|--:|:-:|"
    counts = {course: _count(stored, course, prefix) for course in COURSES}
    for key in names:
        cells = [cell for c in COURSES for cell in _cells(stored, c, key, counts[c])]
        yield f"| {key.removeprefix(prefix)} | {' | '.join(cells)} |"
    yield ""


def _count(stored: dict[str, Any], course: str, prefix: str) -> int:
    return sum(key.startswith(prefix) for key in stored[course]["measures"])


def _cells(stored: dict[str, Any], course: str, key: str, count: int) -> tuple[str, str]:
    row = stored[course]["measures"].get(key)
    if row is None:
        return "", ""
    low, high = interval(course, key, significance() / count)
    if NEVER_NEGATIVE.match(key.partition(": ")[2]):
        low = max(low, 0.0)
    if COUNTED in key:
        high = min(high, Recipe().latent_dim)
    mean, deviation = _rounded(row["mean"], row["deviation"]), row["deviation"]
    digits = len(mean.partition(".")[2])
    scale = 10**digits
    ends = math.floor(low * scale) / scale, math.ceil(high * scale) / scale
    shown = _fixed(deviation, digits) if deviation * scale >= 0.5 else f"{deviation:.1g}"
    reach = " to ".join(_fixed(end, digits) if end else "0" for end in ends)
    return _unbroken(f"{mean} ± {shown}"), _unbroken(reach)


def _unbroken(cell: str) -> str:
    return cell.replace(" ", "\N{NO-BREAK SPACE}")


def _without_intervals(claims: list[Claim]) -> Iterator[str]:
    yield "| claim | tolerance |"
    yield "|---|---|"
    for claim in claims:
        link = f"[{claim.id}](claims/{claim.part}.md#{claim.id.replace('/', '-')})"
        yield f"| {link}: {claim.statement} | {claim.tolerance} |"


def _sources(stored: dict[str, Any]) -> Iterator[str]:
    yield "| {term}`course` | seeds | made by | torch | processor | threads |"
    yield "|---|--:|---|---|---|--:|"
    for course in COURSES:
        found = stored[course]
        cells = (
            course,
            _seeds(found),
            f"`{found['command']}`",
            found["torch"],
            found["processor"],
        )
        yield f"| {' | '.join(map(str, cells))} | {found['threads']} |"


def _published(stored: dict[str, Any]) -> str:
    published = {1: 127.30, 2: 115.79, 5: 108.54, 10: 105.56}
    lines = ["| epoch | published | mean ± deviation | interval |", "|--:|--:|--:|:-:|"]
    count = _count(stored, "mnist", "training/loss: ")
    for epoch, loss in published.items():
        key = f"training/loss: test loss after {epoch}"
        value, reach = _cells(stored, "mnist", key, count)
        lines.append(f"| {epoch} | {loss:.2f} | {value} | {reach} |")
    return "\n".join(lines)


def _seeds(found: dict[str, Any]) -> int:
    return int(next(iter(found["measures"].values()))["count"])


def _figures(stored: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield every mean under a name, with no more digits than its deviation leaves.

    `mnist_blur_data` is the measure `training/blur: data` on MNIST. A logarithm also gives its
    factor: `mnist_..._factor` is 10 to its absolute value.
    """
    for course in COURSES:
        for key, row in stored[course]["measures"].items():
            name = re.sub(r"\W+", "_", f"{course} {key.removeprefix('training/')}").strip("_")
            mean, deviation = row["mean"], row["deviation"]
            yield name.lower(), _rounded(mean, deviation)
            if "log10" in key:
                factor = 10 ** abs(mean)
                yield f"{name}_factor".lower(), _rounded(factor, factor * deviation * math.log(10))


def _rounded(mean: float, deviation: float) -> str:
    """Round to the first digit of the deviation, or to three digits if these are fewer."""
    if not deviation:
        return f"{mean:.3g}"
    place, most = (math.floor(math.log10(size)) for size in (deviation, abs(mean)))
    digits = min(-place, max(2 - most, 1))
    return _fixed(round(mean, digits), max(digits, 0))


def _fixed(number: float, digits: int) -> str:
    return f"{number:,.{digits}f}".replace("-", "−")
