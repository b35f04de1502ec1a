"""Draw a subject's answers beside the right ones, as SVG for a page."""

import functools
import io
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vae_ref.conformance import guards
from vae_ref.conformance.answers import oracles
from vae_ref.conformance.claims import all_claims
from vae_ref.conformance.probe import draws
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import BAD, Inconclusive, NotApplicable, Report, Violation
from vae_ref.conformance.reports.picture import Picture, Width

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["KILL_MATRIX", "pictures"]

KILL_MATRIX = Path(__file__).parents[1] / "diagnosis" / "kill_matrix.json"
"""The file that says which claims notice which bugs of the bank."""

_SECONDS = 15.0  # of CPU time for one picture, with the calls of the subject
_DRAWS = 100_000
_STANDARD_ERRORS = 3  # the width of a band to either side

# Colours of the figure, each of which the page replaces by one of its own, light or dark.
_INK, _FOUND, _RIGHT, _WRONG, _QUIET = "#000001", "#000002", "#000003", "#000004", "#000005"
_COLOURS = {
    "#000000": "currentColor",
    _INK: "currentColor",
    _FOUND: "var(--blue)",
    _RIGHT: "var(--green)",
    _WRONG: "var(--red)",
    _QUIET: "var(--quiet)",
}
# What matplotlib writes for a file and a page does not need: metadata, a style that would apply
# to the whole page, namespaces, ids that would not be unique, fonts.
_SUPERFLUOUS = [
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"<metadata>.*?</metadata>\s*",
        r"<defs>\s*<style.*?</style>\s*</defs>\s*",
        r' xmlns(:\w+)?="[^"]*"',
        r'(?<=<g) id="[^"]*"',
        r" font-family: [^;\"]*;",
    )
]


def pictures(report: Report, probe: Probe) -> list[Picture]:
    """Return the pictures that help to understand a report.

    Args:
        report: The report of a run on the subject.
        probe: The subject; its functions are called again, with the seed of the probe.

    Returns:
        The pictures in reading order. If a picture is missing, because the subject lacks what it
        needs or raises, its caption says so.
    """
    kl, z = "kl|loss", "reparameterize"
    by_mu, by_logvar = (functools.partial(_kl_gradient, which) for which in (0, 1))
    drawn = [
        _picture("The noise of the sampler", "half", probe, z, _noise),
        _picture("The KL divergence, by Monte Carlo", "half", probe, kl, _monte_carlo),
        _picture("dKL/dmu", "third", probe, kl, by_mu),
        _picture("dKL/dlogvar", "third", probe, kl, by_logvar),
        _picture("dz/dsigma", "third", probe, z, _z_gradient),
    ]
    if KILL_MATRIX.exists():
        matrix = json.loads(KILL_MATRIX.read_text(encoding="utf-8"))
        draw = functools.partial(_kill_matrix, matrix, report)
        drawn.append(_picture("The bank of bugs", "whole", probe, "name", draw))
    return drawn


def _picture(
    title: str, width: Width, probe: Probe, needs: str, draw: "Callable[[Probe, Figure], str]"
) -> Picture:
    from matplotlib.figure import Figure

    if not probe.subject.has(needs):
        return Picture(title, f"the subject has no {needs.replace('|', ' or ')}.", "", width)
    figure = Figure((3.4, 3.2) if width == "third" else (5.2, 3.2), layout="constrained")
    try:
        with guards.global_state_kept(), guards.quiet(), torch.enable_grad():
            with guards.time_limit(_SECONDS):
                caption = draw(probe, figure)
            return Picture(title, caption, _svg(figure, title), width)
    except (Violation, NotApplicable, Inconclusive) as reason:
        why = str(reason)
    except guards.TimeLimit:
        why = f"no answer within {_SECONDS:g} s of CPU time"
    except (Exception, SystemExit) as error:  # a stranger's code may raise whatever it likes
        why = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
    return Picture(title, f"not drawn, {why}.", "", width)


def _noise(probe: Probe, figure: "Figure") -> str:
    axes = figure.add_subplot()
    sample = draws.draws(probe).first.ravel()
    finite = sample[np.isfinite(sample)]
    if not finite.size:
        raise NotApplicable("no draw is a finite number")
    edges = np.linspace(-5, 5, 81)
    counts, _ = np.histogram(finite, edges)
    axes.stairs(counts / (sample.size * 0.125), edges, fill=True, color=_FOUND, alpha=0.55)
    grid = np.linspace(-5, 5, 201)
    axes.plot(grid, np.exp(-0.5 * grid**2) / math.sqrt(2 * math.pi), color=_INK, lw=1.4)
    axes.set(xlabel="(z - mu) / sigma", ylabel="density", xlim=(-5, 5))
    outside = 1 - counts.sum() / sample.size
    return (
        f"{sample.size:,} draws, standardised, and the density of N(0, 1) as a line. Their mean "
        f"is {finite.mean():.4f}, their deviation {finite.std():.4f}; {outside:.2%} lie outside."
    )


def _monte_carlo(probe: Probe, figure: "Figure") -> str:
    """Draw a case of the claim kl/monte-carlo, with its noise."""
    axes = figure.add_subplot()
    mu = probe.normal("monte-carlo", 1, probe.latents[0])
    logvar = torch.full_like(mu, -1.0)
    value = float(probe.kl(mu, logvar))
    m, s = mu.double(), logvar.double()
    exact, sigma = float(oracles.kl(m, s).sum()), torch.exp(s / 2)
    noise = torch.randn(
        (_DRAWS, mu.numel()), generator=probe.generator("noise -1.0"), dtype=torch.float64
    )
    ratio = (sigma**2 - 1) / 2 * noise**2 + m * sigma * noise + m**2 / 2 - s / 2
    count = np.unique(np.geomspace(10, _DRAWS, 240).astype(int))
    mean = (ratio.sum(1).cumsum(0).numpy())[count - 1] / count
    # The variance of one draw of log q - log p, exactly.
    variance = float(((sigma**2 - 1) ** 2 / 2 + m**2 * sigma**2).sum())
    error = _STANDARD_ERRORS * math.sqrt(variance) / np.sqrt(count)
    axes.fill_between(count, exact - error, exact + error, color=_QUIET, alpha=0.3, lw=0)
    axes.plot(count, mean, color=_INK, lw=1.2, label="mean of log q - log p")
    agrees = abs(value - exact) <= error[-1]
    colour = _RIGHT if agrees else _WRONG
    axes.axhline(value, color=colour, lw=1.6, ls="--", label="the subject's KL")
    axes.set(xscale="log", xlabel="draws", ylabel="nats", xlim=(10, _DRAWS))
    axes.legend(frameon=False, labelcolor=_INK, fontsize=9)
    return (
        f"The mean over the kit's own draws converges to {mean[-1]:.4f}; the band is three "
        f"standard errors around the exact value, {exact:.4f}. The subject's KL is {value:.4f}, "
        f"{'within' if agrees else 'outside'} the band at its end."
    )


def _kl_gradient(which: int, probe: Probe, figure: "Figure") -> str:
    shape = (8, probe.latents[0])
    mu, logvar = probe.normal("picture mu", *shape), probe.normal("picture logvar", *shape)
    got = probe.gradient(probe.kl, mu, logvar)[which]
    exact = (mu, logvar.double().expm1() / 2)[which]
    return _scatter(figure, got, exact, ("mu", "(sigma^2 - 1) / 2")[which])


def _z_gradient(probe: Probe, figure: "Figure") -> str:
    shape, seed = (8, probe.latents[0]), probe.number("picture")
    mu, logvar = probe.normal("picture mu", *shape), probe.normal("picture logvar", *shape)
    eps = probe.eps(shape, seed)
    by_logvar = probe.gradient(probe.sampler(seed, torch.ones_like(mu)), mu, logvar)[1]
    return _scatter(figure, by_logvar.double() * 2 / torch.exp(logvar.double() / 2), eps, "eps")


def _scatter(figure: "Figure", got: torch.Tensor, exact: torch.Tensor, formula: str) -> str:
    axes = figure.add_subplot()
    x, y = exact.double().flatten().numpy(), got.detach().double().flatten().numpy()
    same = np.isclose(y, x, rtol=1e-4, atol=1e-6)
    axes.axline((0, 0), slope=1, color=_QUIET, lw=1)
    for where, colour in ((same, _RIGHT), (~same, _WRONG)):
        axes.plot(x[where], y[where], "o", ms=4, mew=0, color=colour, alpha=0.75)
    axes.set(xlabel=f"right: {formula}", ylabel="the subject's")
    if same.all():
        return f"All {same.size} elements lie on the diagonal."
    return f"{(~same).sum()} of {same.size} elements are off the diagonal."


def _kill_matrix(matrix: dict[str, Any], report: Report, probe: Probe, figure: "Figure") -> str:
    about = {claim.id for claim in all_claims(probe.subject.parts)}
    claims = [claim for claim in matrix["claims"] if claim in about]
    mutants = {bug: found for bug, found in matrix["mutants"].items() if about.intersection(found)}
    column = {claim: i for i, claim in enumerate(claims)}
    failed = [r.claim.id for r in report.results if r.status in BAD and r.claim.id in column]
    named = [r.diagnosis.bug for r in report.results if r.diagnosis]
    cells = [
        (column[c], i) for i, found in enumerate(mutants.values(), 2) for c in found if c in column
    ]
    figure.set_size_inches(2.4 + 0.12 * len(claims), 2.6 + 0.14 * len(mutants))
    axes = figure.add_subplot()
    axes.plot(*np.array(cells, int).reshape(-1, 2).T, "s", ms=4.5, mew=0, color=_QUIET)
    axes.plot([column[c] for c in failed], [0] * len(failed), "s", ms=6, mew=0, color=_WRONG)
    axes.set(xlim=(-1, len(claims)), ylim=(len(mutants) + 1.5, -1))
    axes.set_xticks(range(len(claims)), claims, rotation=90)
    axes.set_yticks([0, *range(2, len(mutants) + 2)], ["this subject", *mutants])
    axes.tick_params(labelsize=7, length=0, labeltop=True, labelbottom=False)
    axes.grid(color=_QUIET, alpha=0.25, lw=0.5)
    for label in (*axes.get_yticklabels(), *axes.get_xticklabels()):
        if label.get_text() in {*failed, *named, "this subject"}:
            label.set(color=_WRONG if failed else _INK, fontweight="bold")
    return (
        "Every row is a bug of such a VAE, and every square is a claim that notices it. The first "
        "row is the subject. The claims that it violates, and the bugs that explain this, are in "
        "bold."
    )


def _svg(figure: "Figure", name: str) -> str:
    """Return a figure as an SVG element, which takes its colours and fonts from the page."""
    from matplotlib import rc_context

    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.StringIO()
    # Text stays text, equal runs give equal bytes, and no two pictures of a page share an id.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace("xlink:href", "href")
    for superfluous in _SUPERFLUOUS:
        svg = superfluous.sub("", svg)
    for stand_in, colour in _COLOURS.items():
        svg = svg.replace(stand_in, colour)
    return svg
