"""Claims about priors that are not standard normal: mixtures, the VampPrior, other densities."""

import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special
from torch import Tensor

from vae_ref.conformance.answers import statistics
from vae_ref.conformance.answers.comparison import require_agreement, tolerance
from vae_ref.conformance.claims import registry
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import NotApplicable, Violation

_SOURCE = "Tomczak and Welling 2018, equations 6 and 9"
_VALUE = ("flows/prior-of-its-components",)
_MASS = ("flows/prior-mass",)
_DRAWS = 10_000
_POINTS = 400  # of a grid, along each of two axes

of_prior = partial(registry.claim, slot="log_flexible_prior", source=_SOURCE)

Sample = NDArray[np.float64]


def _components(probe: Probe) -> tuple[Tensor, Tensor, Tensor]:
    """Return the log weights, means and log variances of the components."""
    weights, mu, logvar = probe.fields.prior_components()
    mu = torch.as_tensor(mu).detach().double().flatten(1)
    logvar = torch.as_tensor(logvar).detach().double().reshape(mu.shape)
    if weights is None:
        log_weights = mu.new_full((len(mu),), -math.log(len(mu)))
    else:
        log_weights = torch.as_tensor(weights).detach().double().flatten().log()
    if not abs(float(log_weights.exp().sum()) - 1) < 1e-3:
        raise NotApplicable("the weights of the components do not add up to 1")
    return log_weights, mu, logvar


def _codes(probe: Probe, name: str, examples: int) -> Tensor:
    """Return codes where the components are, if they are known, and some others."""
    z = probe.normal(name, examples, probe.fields.prior_dim)
    if probe.fields.prior_components is None:
        return z
    _, mu, logvar = _components(probe)
    k = torch.arange(examples) % len(mu)
    return (mu[k] + 1.5 * torch.exp(logvar[k] / 2) * z.double()).to(probe.dtype)


def _parts(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Return log N(z; mu_k, sigma_k^2) per example, component and coordinate."""
    square = (z[:, None] - mu) ** 2 / logvar.exp()
    return -0.5 * (math.log(2 * math.pi) + logvar + square)


def _mixture(z: Tensor, log_weights: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return torch.logsumexp(_parts(z, mu, logvar).sum(2) + log_weights, 1)


def _size(z: Tensor, log_weights: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Return the size of what the nearest components add up, with what rounding z does to it."""
    terms = 1 + logvar.abs() + (z[:, None].abs() + mu.abs()) ** 2 / logvar.exp()
    near = torch.softmax(_parts(z, mu, logvar).sum(2) + log_weights, 1)
    return (near * (terms.sum(2) - log_weights)).sum(1) + 5


@of_prior(
    "flows/prior-of-its-components",
    statement="The log density of a mixture is the logarithm of the weighted sum of its "
    "components' densities.",
    formula=r"\log p(z) = \log \sum_k w_k \prod_d N(z_d; \mu_{kd}, \sigma_{kd}^2)",
    needs=("log_flexible_prior", "prior_components"),
    kind="exact",
    tolerance="32 roundings of the terms of the nearest components",
    kills=(
        "mixture-without-weights",
        "mixture-logits-for-log-weights",
        "mixture-of-every-coordinate",
        "mixture-of-logs",
        "mixture-weights-added",
        "mixture-of-batch",
        "mixture-log-variance-halved",
    ),
)
def prior_of_its_components(probe: Probe) -> None:
    given = _components(probe)
    z = _codes(probe, "components", 12)
    wide = z.double()
    right, size = _mixture(wide, *given), _size(wide, *given)
    found = probe.each("log_flexible_prior", z).detach().double()
    allowed = tolerance(probe.dtype, size)
    if not bool(((found - right).abs() <= allowed).all()):
        for symptom, answer, words in _mistakes(wide, *given):
            if bool(((found - answer).abs() <= 4 * allowed * (1 + answer.abs())).all()):
                raise Violation(
                    f"log p(z) is {found[0]:.9g}, not {right[0]:.9g}: {words}", symptom=symptom
                )
        shift = found - right
        if bool(((shift - shift.mean()).abs() <= 4 * allowed).all()):
            raise Violation(
                f"log p(z) is too large by {shift.mean():.9g} everywhere: the weights are not "
                "normalised, or a constant is wrong",
                symptom="constant",
            )
    require_agreement("log p(z)", found, right, scale=size, dtype=probe.dtype, inputs={"z": z})


def _mistakes(
    z: Tensor, log_weights: Tensor, mu: Tensor, logvar: Tensor
) -> Iterator[tuple[str, Tensor, str]]:
    """Yield what a mixture is often taken for."""
    parts = _parts(z, mu, logvar)
    whole = parts.sum(2)
    right = torch.logsumexp(whole + log_weights, 1)
    yield "weights", torch.logsumexp(whole, 1), "the weights of the components are missing"
    every = torch.logsumexp(parts + log_weights[:, None], 1).sum(1)
    yield "coordinates", every, "every coordinate is mixed on its own"
    logs = whole @ log_weights.exp()
    yield "logs", logs, "the log densities are averaged, not the densities"
    added = torch.log((whole.exp() + log_weights.exp()).sum(1))
    yield "added", added, "the weights are added, not multiplied"
    yield "batch", torch.logsumexp(right, 0).expand(len(z)), "the batch is summed over"
    wide = torch.logsumexp(_parts(z, mu, 2 * logvar).sum(2) + log_weights, 1)
    yield "sigma", wide, "the log variances are taken for log standard deviations"


@of_prior(
    "flows/prior-for-each-example",
    statement="The log density of a code does not depend on the other codes of the batch.",
    formula=r"\log p(z_n)",
    needs=("log_flexible_prior",),
    kind="metamorphic",
    tolerance="1e-6 of the largest, or 1e-3 in single precision",
    kills=("mixture-of-batch",),
    builds_on=_VALUE,
)
def prior_for_each_example(probe: Probe) -> None:
    z = _codes(probe, "batch", 4)
    whole = probe.each("log_flexible_prior", z).detach().double()
    alone = torch.cat([probe.each("log_flexible_prior", row) for row in z.split(1)])
    rounding = 1e-6 if probe.dtype == torch.float64 else 1e-3
    require_agreement(
        "log p(z) in a batch of four",
        whole,
        alone,
        scale=(1 + alone.detach().double().abs().max())
        * rounding
        / (32 * torch.finfo(probe.dtype).eps),
        dtype=probe.dtype,
        inputs={"z": z},
    )


def _density(probe: Probe, z: Tensor) -> Tensor:
    """Evaluate the density at many points, a few thousand at a time."""
    chunks = z.to(probe.dtype).split(4096)
    log = torch.cat([probe.each("log_flexible_prior", chunk).detach() for chunk in chunks])
    return log.double().exp()


def _require_plane(probe: Probe) -> int:
    dim: int = probe.fields.prior_dim
    if dim > 2:
        raise NotApplicable(
            f"a prior of {dim} coordinates; give one of 1 or 2, or prior_components"
        )
    return dim


@of_prior(
    "flows/prior-mass",
    statement="The density of the prior integrates to 1. Only priors of 1 or 2 coordinates are "
    "judged.",
    formula=r"\int p(z)\,dz = 1",
    needs=("log_flexible_prior",),
    kind="identity",
    tolerance="what half of the grid changes, and 1e-6 (1e-4 in single precision)",
    kills=("mixture-without-weights", "mixture-logits-for-log-weights", "mixture-weights-added"),
    builds_on=("flows/prior-of-its-components", "flows/prior-for-each-example"),
)
def prior_mass(probe: Probe) -> None:
    """On a grid that is finer near the middle: z = sinh(t)."""
    dim = _require_plane(probe)
    t = torch.linspace(-4.5, 4.5, (6000 if dim == 1 else _POINTS) + 1, dtype=torch.float64)
    axis, width = torch.sinh(t), torch.cosh(t) * (t[1] - t[0])
    z = torch.cartesian_prod(*[axis] * dim).reshape(-1, dim)
    volume = torch.cartesian_prod(*[width] * dim).reshape(-1, dim).prod(1)
    terms = (_density(probe, z) * volume).reshape((len(t),) * dim)
    half = terms[(slice(None, None, 2),) * dim]
    mass, coarse = float(terms.sum()), 2**dim * float(half.sum())
    edge = max(
        float(side.sum())
        for axis in range(dim)
        for side in (terms.select(axis, 0), terms.select(axis, -1))
    )
    if edge > 1e-7 or not math.isfinite(mass):
        raise Violation(
            "the prior does not vanish far from the origin, or is not finite: it adds up to "
            f"{mass:.6g} over |z| < {float(axis[-1]):.0f}",
            symptom="infinite",
        )
    if abs(mass - coarse) > 1e-3:
        raise NotApplicable("the prior is too narrow for the grid on which it is added up")
    rounding = 1e-6 if probe.dtype == torch.float64 else 1e-4
    if not abs(mass - 1) <= rounding + abs(mass - coarse):
        raise Violation(
            f"the prior adds up to {mass:.6g}, not to 1",
            symptom="mass",
            counterexample={"expected": 1.0, "got": mass},
        )


@of_prior(
    "flows/prior-slopes",
    statement="The gradient of log p(z) with respect to the code is this: the encoder learns from "
    "it.",
    formula=r"\frac{\partial}{\partial z} \log \sum_k w_k N(z; \mu_k, \sigma_k^2)",
    needs=("log_flexible_prior", "prior_components"),
    kind="gradient",
    tolerance="32 roundings of the terms of the nearest components",
    kills=("mixture-detached-code",),
    builds_on=_VALUE,
)
def prior_slopes(probe: Probe) -> None:
    probe.require_gradient("log_flexible_prior")
    given = _components(probe)
    z = _codes(probe, "slopes", 12)
    (found,) = probe.gradient(lambda z: probe.each("log_flexible_prior", z), z)
    leaf = z.double().requires_grad_()
    (exact,) = torch.autograd.grad(_mixture(leaf, *given).sum(), leaf)
    steep = ((z.double()[:, None].abs() + given[1].abs() + 1) / given[2].exp()).amax((1, 2))
    require_agreement(
        "the slope of log p(z) by z",
        found,
        exact,
        scale=(steep * _size(z.double(), *given))[:, None],
        dtype=probe.dtype,
        inputs={"z": z},
        symptom="" if bool(found.any()) else "no-gradient",
    )


@of_prior(
    "flows/prior-learns",
    statement="The gradient of log p(z) with respect to the parameters of the prior agrees with "
    "differences of its values: pseudo-inputs and components learn.",
    formula=r"\frac{\partial}{\partial\lambda} \log p_\lambda(z)",
    needs=("log_flexible_prior", "prior_parameters"),
    kind="gradient",
    tolerance="1e-5 of the slope (1e-2 in single precision), against differences",
    kills=("mixture-detached-parameters",),
    builds_on=(*_VALUE, *_MASS),
)
def prior_learns(probe: Probe) -> None:
    probe.require_gradient("log_flexible_prior")
    parameters = [p for p in probe.fields.prior_parameters if p.requires_grad]
    if not parameters:
        raise NotApplicable("none of the prior's parameters requires a gradient")
    z = _codes(probe, "learns", 12)
    lines = [
        probe.normal(f"line {i}", p.numel()).reshape(p.shape).to(p)
        for i, p in enumerate(parameters)
    ]
    value = probe.each("log_flexible_prior", z).sum()
    if not torch.equal(value, probe.each("log_flexible_prior", z).sum()):
        raise NotApplicable("the prior is random; give its parts in evaluation mode")
    found: list[Tensor | None] = [None] * len(parameters)
    if value.requires_grad:
        found = list(torch.autograd.grad(value, parameters, allow_unused=True))
    own: float = sum(
        float((g.double() * e.double()).sum())
        for g, e in zip(found, lines, strict=True)
        if g is not None
    )
    single = torch.float32 in {probe.dtype, *(p.dtype for p in parameters)}
    size = max(1.0, sum(float(e.double().square().sum()) for e in lines) ** 0.5)
    h = (2e-2 if single else 1e-3) / size
    wide, narrow = (_difference(probe, z, parameters, lines, step) for step in (h, h / 2))
    allowed = (1e-2 if single else 1e-5) * (size + abs(narrow))
    if abs(wide - narrow) > 0.1 * allowed:
        raise NotApplicable("log p(z) is not smooth in the parameters of the prior")
    if not abs(own - narrow) <= allowed:
        missing = not any(g is not None and bool(g.any()) for g in found)
        raise Violation(
            f"the slope of log p(z) by the parameters of the prior is {own:.6g} by its gradient, "
            f"but {narrow:.6g} by its values"
            + (": no gradient reaches them, so they never learn" if missing else ""),
            symptom="no-gradient" if missing else "slope",
        )


def _difference(
    probe: Probe, z: Tensor, parameters: list[Tensor], lines: list[Tensor], h: float
) -> float:
    """Differentiate along a line of parameters by differences, and put them back."""
    before = [p.detach().clone() for p in parameters]

    def at(step: float) -> float:
        with torch.no_grad():
            for p, was, e in zip(parameters, before, lines, strict=True):
                p.copy_(was + step * e)
        return float(probe.each("log_flexible_prior", z).detach().double().sum())

    try:
        return (8 * (at(h) - at(-h)) - at(2 * h) + at(-2 * h)) / (12 * h)
    finally:
        with torch.no_grad():
            for p, was in zip(parameters, before, strict=True):
                p.copy_(was)


Cdf = Callable[[Sample], Sample]


@registry.claim(
    "flows/prior-draws",
    statement="New codes are drawn from the prior whose density is given, not from another one.",
    formula=r"z \sim p(z)",
    source=_SOURCE,
    slot="draw_flexible_prior",
    needs=("draw_flexible_prior", "log_flexible_prior|prior_components"),
    kind="statistical",
    tolerance="a distribution function along an axis or a diagonal off by 0.06 is found",
    kills=(
        "mixture-drawn-from-standard-normal",
        "mixture-drawn-without-noise",
        "mixture-drawn-without-weights",
        "mixture-drawn-from-one-component",
        "mixture-drawn-from-average",
        "mixture-drawn-with-variance",
    ),
    builds_on=(*_VALUE, "flows/prior-for-each-example", *_MASS),
)
def prior_draws(probe: Probe) -> None:
    subject = probe.fields
    dim = subject.prior_dim
    known = subject.prior_components is not None
    if not known:
        _require_plane(probe)
    subject.seed(probe.number("draws"))
    z = subject.draw_flexible_prior(_DRAWS).detach().double()
    if z.numel() != _DRAWS * dim:
        raise Violation(
            f"{_DRAWS} draws have the shape {tuple(z.shape)}, not {(_DRAWS, dim)}", symptom="shape"
        )
    z = z.reshape(_DRAWS, dim)
    if not bool(torch.isfinite(z).all()):
        raise Violation("some draws are not finite", symptom="not-finite")
    distinct = len(torch.unique(z, dim=0))
    if distinct < _DRAWS // 10:
        raise Violation(
            f"{_DRAWS} draws have {distinct} values: no noise is added", symptom="noise"
        )
    lines = _directions(probe, dim)
    along = [(z @ a).numpy() for a in lines]
    if known:
        given = _components(probe)
        cdfs = [_cdf_of_mixture(a, *given) for a in lines]
    else:
        cdfs = [_cdf_on_a_grid(probe, a, z) for a in lines]
    for a, values, cdf in zip(lines, along, cdfs, strict=True):
        p = statistics.uniform(cdf(values))
        if not p >= probe.alpha / len(lines):
            symptom = next(
                (s for s, other in _others(probe, known) if _are_from(along, lines, other)),
                "another",
            )
            raise Violation(
                f"{_DRAWS:,} draws are not distributed as the prior says, along the direction "
                f"{[round(float(x), 3) for x in a]} (p = {p:.1g})",
                symptom=symptom,
            )


def _directions(probe: Probe, dim: int) -> list[Tensor]:
    """Return up to four axes and two more directions."""
    axes = list(torch.eye(dim, dtype=torch.float64)[:4])
    more = probe.normal("directions", 2, dim).double() if dim > 1 else torch.zeros(0, dim)
    return axes + [line / line.norm() for line in more]


def _cdf_of_mixture(a: Tensor, log_weights: Tensor, mu: Tensor, logvar: Tensor) -> Cdf:
    """Return the distribution function of a'z, a mixture of Gaussians too."""
    weights, centres = log_weights.exp().numpy(), (mu @ a).numpy()
    widths = (logvar.exp() @ a.square()).sqrt().numpy()

    def cdf(x: Sample) -> Sample:
        return np.asarray(special.ndtr((x[:, None] - centres) / widths) @ weights)

    return cdf


def _cdf_on_a_grid(probe: Probe, a: Tensor, z: Tensor) -> Cdf:
    """Return the distribution function of a'z, by quadrature of the density around the draws."""
    dim = len(a)
    middle = z.median(0).values
    reach = 8 * float((z - middle).abs().quantile(0.7, 0).max()) + 1e-6
    t = torch.linspace(-reach, reach, (4000 if dim == 1 else _POINTS) + 1, dtype=torch.float64)
    if dim == 1:
        density = _density(probe, middle + t[:, None] * a)
    else:
        across = torch.stack([-a[1], a[0]])
        points = middle + t[:, None, None] * a + t[None, :, None] * across
        rows = _density(probe, points.reshape(-1, 2)).reshape(len(t), len(t))
        density = rows.sum(1) * (t[1] - t[0])
    steps = (density[1:] + density[:-1]) / 2 * (t[1] - t[0])
    cumulative = torch.cat([torch.zeros(1).double(), steps.cumsum(0)]).numpy()
    if abs(cumulative[-1] - 1) > 5e-3:
        raise NotApplicable(
            "the density could not be added up around the draws; give prior_components"
        )
    places = (t + middle @ a).numpy()
    return lambda x: np.interp(x, places, cumulative)


def _others(probe: Probe, known: bool) -> Iterator[tuple[str, tuple[Tensor, Tensor, Tensor]]]:
    """Yield priors that draws often come from instead."""
    dim = probe.fields.prior_dim
    zero = torch.zeros(1, dim, dtype=torch.float64)
    yield "standard-normal", (zero[:, 0], zero, zero)
    if not known:
        return
    log_weights, mu, logvar = _components(probe)
    weights = log_weights.exp()[:, None]
    equal = torch.full_like(log_weights, -math.log(len(mu)))
    yield "weights", (equal, mu, logvar)
    sigma = (weights * torch.exp(logvar / 2)).sum(0, keepdim=True)
    yield "average", (zero[:, 0], (weights * mu).sum(0, keepdim=True), 2 * sigma.log())
    yield "variance", (log_weights, mu, 2 * logvar)
    for k in range(min(len(mu), 50)):
        yield "one", (zero[:, 0], mu[k : k + 1], logvar[k : k + 1])


def _are_from(
    along: list[Sample], lines: list[Tensor], given: tuple[Tensor, Tensor, Tensor]
) -> bool:
    pairs = zip(along, lines, strict=True)
    return all(
        statistics.uniform(_cdf_of_mixture(a, *given)(values)) > 1e-4 for values, a in pairs
    )
