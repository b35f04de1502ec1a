"""Fingerprints tell bugs apart: values and gradients of a function at a few fixed points."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vae_ref.conformance.answers import statistics
from vae_ref.conformance.probe import terms
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import Slot

__all__ = ["Mark", "Sizes", "fingerprint", "similarity"]

_DIGITS = 14
"""How many digits count; a difference in later digits is rounding."""

_SCALED_DIGITS = 10
"""How many digits are left of a number that a gradient was divided by."""

_ZERO = 1e-12
"""The size of a number below which it is 0, up to rounding."""

_ZERO_INTERCEPT = 1e-9
"""The same for an intercept, which adds up the rounding of many numbers."""

_DECADES = 1.5
"""By how many powers of ten a difference has to exceed a tolerance to be a difference in full."""

_DRAWS = 20_000
"""The examples whose noise is drawn for its moments and correlations."""


@dataclass(frozen=True)
class Mark:
    """One number of a fingerprint; a statistical one is known only up to its ``tolerance``."""

    value: float
    tolerance: float = 0.0

    def distance(self, other: "Mark") -> float:
        """Return 0 for equal, 1 for different numbers; in between, the share of wrong digits."""
        a, b = self.value, other.value
        if not (math.isfinite(a) and math.isfinite(b)):
            return float(repr(a) != repr(b))
        if self.tolerance:
            ratio = abs(a - b) / self.tolerance
            return min(1.0, math.log10(max(ratio, 1.0)) / _DECADES)
        size = max(abs(a), abs(b))
        relative = abs(a - b) / size if size > _ZERO else 0.0
        return min(1.0, max(0.0, (math.log10(relative) if relative else -99) / _DIGITS + 1))


@dataclass(frozen=True)
class Sizes:
    """The numbers of latents, pixels and examples at which a subject is compared with mutants.

    Attributes:
        examples: Those of the cases whose examples differ.
        alike: The number of examples where all are the same.
        scaled: Whether weights and constants do not count, since an audit cannot know those of a
            term that is wrong.
    """

    latents: tuple[int, ...]
    pixels: tuple[int, ...]
    examples: tuple[int, int] = (3, 4)
    alike: int = 1
    scaled: bool = False


def similarity(a: Sequence[Mark], b: Sequence[Mark]) -> float:
    """Return the share of two fingerprints that agrees, from 0 to 1."""
    if len(a) != len(b):
        return 0.0
    return 1 - sum(x.distance(y) for x, y in zip(a, b, strict=True)) / len(a)


def fingerprint(probe: Probe, slot: Slot, sizes: Sizes) -> list[Mark]:
    """Return the fingerprint of a subject's function; a number that raises is NaN."""
    makers: dict[Slot, Callable[[Probe, Sizes], Iterator[Mark]]] = {
        "kl": _kl,
        "nll": _nll,
        "loss": _loss,
        "sample": _sample,
        "bound": _bound,
    }
    marks = list(makers[slot](probe, sizes))
    return (
        [Mark(float(f"{mark.value:.{_SCALED_DIGITS}g}")) for mark in marks]
        if sizes.scaled
        else marks
    )


_REDUCTIONS = {"sum": 0.0, "mean": 1.0, "neither": 2.0}


def _scaled(
    probe: Probe, function: Callable[..., Tensor], *point: Tensor, rest: tuple[Tensor, ...] = ()
) -> Callable[..., Tensor]:
    """Return a function less its value at a point, over the size of its gradient there."""
    value = function(*point, *rest).detach().double().sum()
    slopes = list[Tensor]()
    with contextlib.suppress(Exception):
        slopes = probe.gradient(lambda *point: function(*point, *rest), *point)
    size = math.sqrt(sum(float(slope.double().square().sum()) for slope in slopes)) or 1.0
    return lambda *inputs: (function(*inputs).double().sum() - value) / size


def _value(function: Callable[..., Tensor], *inputs: Tensor) -> Mark:
    with contextlib.suppress(Exception):
        return Mark(float(function(*inputs).detach().double().sum()))
    return Mark(math.nan)


def _gradients(probe: Probe, function: Callable[..., Tensor], *inputs: Tensor) -> Iterator[Mark]:
    """Yield the gradient with respect to each input, in a fixed direction."""
    try:
        gradients = probe.gradient(function, *inputs)
    except Exception:
        yield from (Mark(math.nan) for _ in inputs)
        return
    for gradient in gradients:
        weights = 1 + torch.arange(gradient.numel(), dtype=torch.float64) % 7
        yield Mark(float((gradient.double().flatten() * weights).sum()))


def _posterior(probe: Probe, examples: int, latents: int) -> tuple[Tensor, Tensor]:
    name = f"fingerprint {examples}"
    return (
        probe.normal(f"{name} mu", examples, latents),
        probe.normal(f"{name} logvar", examples, latents),
    )


def _kl(probe: Probe, sizes: Sizes) -> Iterator[Mark]:
    """Yield the marks of a KL less its value at the prior, which a loss does not give."""
    raw = probe.kl_as_is if probe.subject.kl is not None else probe.in_loss[1].raw
    unit, (first, second) = sizes.latents[-1], sizes.examples
    batch = terms.batch_reduction(raw, *_posterior(probe, first, sizes.latents[0]))
    if sizes.scaled:
        raw, batch = _scaled(probe, raw, *_posterior(probe, first, unit)), "sum"
    yield Mark(_REDUCTIONS[batch])

    def total(mu: Tensor, logvar: Tensor) -> Tensor:
        value = raw(mu, logvar).sum() * (len(mu) if batch == "mean" else 1)
        return value - raw(0 * mu, 0 * mu).detach().sum() * (len(mu) if batch == "mean" else 1)

    for examples, latents in ((first, sizes.latents[0]), (second, sizes.latents[1])):
        point = _posterior(probe, examples, latents)
        yield _value(total, *point)
        yield from _gradients(probe, total, *point)
    for mu, logvar in ((1.0, 0.0), (0.0, 1.0), (0.5, -2.0), (0.0, 25.0), (0.0, -25.0), (0.0, -38)):
        shape = (sizes.alike, unit)
        point = tuple(torch.full(shape, float(v), dtype=probe.dtype) for v in (mu, logvar))  # type: ignore[assignment]
        yield _value(total, *point)
        yield from _gradients(probe, total, *point)
    if probe.subject.kl is not None and not sizes.scaled:
        zero = torch.zeros(1, unit, dtype=probe.dtype)
        yield _value(raw, zero, zero)


def _nll(probe: Probe, sizes: Sizes) -> Iterator[Mark]:
    """Yield the marks of a reconstruction term, of probabilities even if it takes logits."""
    raw = probe.nll_as_is if probe.subject.nll is not None else probe.in_loss[0].raw
    logits = probe.conventions.likelihood in ("bernoulli-logits", "continuous-bernoulli-logits")

    def of_outputs(outputs: Tensor, x: Tensor) -> Tensor:
        return raw(torch.logit(outputs) if logits else outputs, x)

    def point(examples: int, pixels: int) -> tuple[Tensor, Tensor]:
        name = f"fingerprint {examples} {pixels}"
        return (
            0.05 + 0.9 * probe.uniform(f"{name} outputs", examples, pixels),
            0.02 + 0.96 * probe.uniform(f"{name} x", examples, pixels),
        )

    first, second = sizes.examples
    function, batch = of_outputs, terms.batch_reduction(of_outputs, *point(first, sizes.pixels[0]))
    if sizes.scaled:
        outputs, x = point(first, sizes.pixels[0])
        function, batch = _scaled(probe, of_outputs, outputs, rest=(x,)), "sum"
    yield Mark(_REDUCTIONS[batch])

    def total(outputs: Tensor, x: Tensor) -> Tensor:
        return function(outputs, x).sum() * (len(x) if batch == "mean" else 1)

    for examples, pixels in ((first, sizes.pixels[0]), (second, sizes.pixels[-1])):
        outputs, x = point(examples, pixels)
        yield _value(total, outputs, x)
        yield from _gradients(probe, lambda o, x=x: total(o, x), outputs)
    x = torch.full((sizes.alike, sizes.pixels[0]), 0.3, dtype=probe.dtype)
    for probability in (0.5, 0.3, 1e-4, 0.999):
        outputs = torch.full_like(x, probability)
        yield _value(total, outputs, x)
        yield from _gradients(probe, lambda o: total(o, x), outputs)


def _loss(probe: Probe, sizes: Sizes) -> Iterator[Mark]:
    """Yield the marks of a loss, away from the prior and near it."""
    for examples, i in zip(sizes.examples, (0, -1), strict=True):
        pixels, name = sizes.pixels[i], f"fingerprint loss {examples}"
        outputs = 0.05 + 0.9 * probe.uniform(f"{name} outputs", examples, pixels)
        x = probe.uniform(f"{name} x", examples, pixels)
        posterior = _posterior(probe, examples, sizes.latents[0 if i == 0 else 1])

        def whole(o: Tensor, mu: Tensor, logvar: Tensor, x: Tensor = x) -> Tensor:
            return probe.loss_as_is(o, x, mu, logvar).sum()

        yield _value(whole, outputs, *posterior)
        yield from _gradients(probe, whole, outputs, *posterior)
        yield _value(whole, outputs, *(0 * p for p in posterior))
        yield from _gradients(probe, whole, outputs, *(0.1 * p for p in posterior))


def _bound(probe: Probe, sizes: Sizes) -> Iterator[Mark]:
    """Yield the marks of an importance-weighted bound."""
    for examples, samples in ((1, 1), (1, 2), (3, 5)):
        log_w = 2 * probe.normal(f"fingerprint {samples}", examples, samples) - 3
        yield _value(probe.bound, log_w)
        yield from _gradients(probe, probe.bound, log_w)
    yield _value(probe.bound, log_w - 1000)
    yield _value(probe.bound, log_w + 1000)


def _sample(probe: Probe, sizes: Sizes) -> Iterator[Mark]:
    """Yield the marks of a sampler: how it is seeded, its formula, and its noise.

    For the formula, z and its gradients are regressed on the noise: then intercept and slope are
    the same for any noise.
    """
    shape, seed = (30, sizes.latents[0]), probe.number("fingerprint")
    zero = torch.zeros(shape, dtype=probe.dtype)
    eps, again = probe.z(zero, zero, seed).detach(), probe.z(zero, zero, seed).detach()
    state = torch.get_rng_state()
    other = probe.z(zero, zero, seed + 1).detach()
    yield Mark(float(torch.equal(eps, again)))
    yield Mark(float(torch.equal(eps, other)))
    yield Mark(float(torch.equal(state, torch.get_rng_state())))
    with probe.mode(training=False):
        z = probe.z(zero, zero).detach()
    yield Mark(1.0 if not z.any() else 2.0 if (z == z.flatten()[0]).all() else 0.0)
    for m, s in ((1.0, 0.0), (0.0, 1.0), (0.5, -2.0), (0.0, 12.0), (0.0, -16.0)):
        mu, logvar = zero + m, zero + s
        if not torch.equal(eps, again):  # the noise is not known
            yield from (Mark(math.nan) for _ in range(6))
            continue
        yield from _regress(eps, probe.z(mu, logvar, seed).detach())
        try:
            gradients = probe.gradient(lambda mu, logvar: probe.z(mu, logvar, seed), mu, logvar)
        except Exception:
            yield from (Mark(math.nan) for _ in range(4))
            continue
        for gradient in gradients:
            yield from _regress(eps, gradient)
    yield from _noise(probe, 6 * sizes.latents[-1])


def _regress(eps: Tensor, values: Tensor) -> Iterator[Mark]:
    """Yield the intercept and the slope of values over the noise."""
    e, v = eps.double().flatten(), values.double().flatten()
    centred = e - e.mean()
    slope = float((centred * v).sum() / (centred**2).sum()) if centred.any() else 0.0
    intercept = float(v.mean() - slope * e.mean())
    yield Mark(intercept if abs(intercept) > _ZERO_INTERCEPT else 0.0)
    yield Mark(slope if abs(slope) > _ZERO else 0.0)


def _noise(probe: Probe, latents: int) -> Iterator[Mark]:
    """Yield moments and correlations of the noise; the tolerance is a few standard errors."""
    zero, n = torch.zeros(_DRAWS, latents, dtype=probe.dtype), _DRAWS * latents
    probe.subject.seed(probe.number("law"))
    eps, second = (probe.z(zero, zero).detach().double().numpy() for _ in range(2))
    error, half = 4 / math.sqrt(n), len(eps) // 2
    scale = float(np.sqrt((eps**2).mean()))
    yield Mark(float(eps.mean()), error)
    yield Mark(scale, error)
    standard = eps / scale if scale else eps
    yield Mark(float(statistics.legendre(standard, 3).mean()), error)
    yield Mark(float(statistics.legendre(standard, 4).mean()), error)
    # Clipped noise has nothing out there. The share varies less than a mean.
    yield Mark(float((abs(standard) > 2.95).mean()), 0.1 * error)
    yield Mark(float(len(np.unique(standard[:500])) > 100))  # few values: the noise is rounded
    for a, b in (
        (eps[0::2], eps[1::2]),
        (eps[:half], eps[half:]),
        (eps[:, 0::2], eps[:, 1::2]),
        (eps, second),
    ):
        size = float(np.sqrt((a**2).mean() * (b**2).mean()))
        yield Mark(float((a * b).mean()) / size if size else 0.0, 2 * error)
