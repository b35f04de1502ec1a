"""Draw a subject's answers beside the right ones, as SVG for a page."""

import functools
import io
import math
import re
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import torch

from vae_ref.conformance import guards
from vae_ref.conformance.answers import oracles
from vae_ref.conformance.probe import draws
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import Inconclusive, NotApplicable, Violation
from vae_ref.conformance.reports.picture import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["pictures"]

_SECONDS = 15.0  # of CPU time for one picture, with the calls of the subject
_SIZE = (3.6, 2.7)  # inches, of which a phone's screen has as many
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


def pictures(probe: Probe) -> list[Picture]:
    """Return the pictures that help to understand a report.

    Args:
        probe: The subject; its functions are called again, with the seed of the probe.

    Returns:
        The pictures in reading order. If a picture is missing, because the subject lacks what it
        needs or raises, its caption says so.
    """
    kl, z = "kl|loss", "reparameterize"
    by_mu, by_logvar = (functools.partial(_kl_gradient, which) for which in (0, 1))
    return [
        _picture("The noise of the sampler", probe, z, _noise),
        _picture("The KL divergence, by Monte Carlo", probe, kl, _monte_carlo),
        _picture("dKL/dmu", probe, kl, by_mu),
        _picture("dKL/dlogvar", probe, kl, by_logvar),
        _picture("dz/dsigma", probe, z, _z_gradient),
    ]


def _picture(
    title: str, probe: Probe, needs: str, draw: "Callable[[Probe, Figure], str]"
) -> Picture:
    from matplotlib.figure import Figure

    if not probe.subject.has(needs):
        return Picture(title, f"the subject has no {needs.replace('|', ' or ')}.", "")
    figure = Figure(_SIZE, layout="constrained")
    try:
        with guards.global_state_kept(), guards.quiet(), torch.enable_grad():
            with guards.time_limit(_SECONDS):
                caption = draw(probe, figure)
            return Picture(title, caption, _svg(figure, title, caption))
    except (Violation, NotApplicable, Inconclusive) as reason:
        why = str(reason)
    except guards.TimeLimit:
        why = f"no answer within {_SECONDS:g} s of CPU time"
    except (Exception, SystemExit) as error:  # a stranger's code may raise whatever it likes
        why = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
    return Picture(title, f"not drawn, {why}.", "")


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


def _svg(figure: "Figure", name: str, caption: str) -> str:
    """Return a figure as an SVG element, which takes its colours and fonts from the page.

    Args:
        figure: The figure.
        name: What no other figure of the page is called.
        caption: What can be seen, for those who cannot see it.
    """
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
    described = f'<svg role="img" aria-label="{escape(f"{name}. {caption}")}"'
    svg = svg[svg.index("<svg") :].replace("xlink:href", "href").replace("<svg", described, 1)
    for superfluous in _SUPERFLUOUS:
        svg = superfluous.sub("", svg)
    for stand_in, colour in _COLOURS.items():
        svg = svg.replace(stand_in, colour)
    return svg
