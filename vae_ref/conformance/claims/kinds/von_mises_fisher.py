"""Claims about von Mises-Fisher distributions: directions around a mean direction, on a sphere."""

import math
from collections.abc import Callable, Sequence
from functools import cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special
from torch import Tensor

from vae_ref.conformance.answers import statistics
from vae_ref.conformance.answers.comparison import require_agreement
from vae_ref.conformance.claims import registry
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import NotApplicable, Violation

_SOURCE = "Davidson et al. 2018, equations 2 and 5"
_TERMS = "32 roundings of the sum of the terms' absolute values"
_NORMALISER, _KL, _DRAW = ("flows/vmf-normaliser",), ("flows/vmf-kl",), ("flows/vmf-draws",)
_USUAL = (0.3, 2.0, 17.0, 150.0)
_EXTREME = (0.01, 800.0, 2500.0)
_DRAWS = 5_000

Sample = NDArray[np.float64]

of_normaliser = partial(
    registry.claim, slot="log_normaliser_vmf", source=_SOURCE, needs=("log_normaliser_vmf",)
)
of_kl = partial(registry.claim, slot="kl_vmf", source=_SOURCE, needs=("kl_vmf",))
of_draw = partial(
    registry.claim,
    slot="draw_vmf",
    source="Davidson et al. 2018, algorithm 1; Wood 1994",
    needs=("draw_vmf",),
    kind="statistical",
)


@cache
def _exact(kappa: float, dim: int) -> tuple[float, float, float, float]:
    """Return log C_m, A_m, KL and dA/dkappa with 40 digits, by hypergeometric series.

    The integral of exp(kappa mu'x) over the sphere is its area times 0F1(m/2; kappa^2/4).
    """
    import mpmath  # a tenth of a second, which other kinds do not need

    with mpmath.workdps(40):
        k, half = mpmath.mpf(kappa), mpmath.mpf(dim) / 2
        series = mpmath.hyp0f1(half, k * k / 4)
        a = k / dim * mpmath.hyp0f1(half + 1, k * k / 4) / series
        log_area = mpmath.log(2 * mpmath.pi**half / mpmath.gamma(half))
        kl = k * a - mpmath.log(series)
        return (
            float(-log_area - mpmath.log(series)),
            float(a),
            float(kl),
            float(1 - a * a - (dim - 1) * a / k),
        )


def _log_terms(kappa: float, dim: int) -> float:
    """Return the size of the logarithms that a normaliser is usually made of."""
    return kappa + dim * (1 + math.log(2 * math.pi) + abs(math.log(kappa)) + math.log(dim))


def _each(probe: Probe, part: str, dim: int) -> Callable[[Tensor], Tensor]:
    """Return a function of kappa, one value per example, whatever its reduction over a batch."""

    def function(kappa: Tensor) -> Tensor:
        def call(rows: Tensor) -> Tensor:
            with probe.calling():
                return torch.as_tensor(getattr(probe.fields, part)(rows.clone(), dim))

        answer = call(kappa)
        if answer.numel() == len(kappa):
            return answer.reshape(len(kappa))
        return torch.stack([call(row).sum() for row in kappa.split(1)])

    return function


def _require(probe: Probe, part: str, index: int, kappas: Sequence[float], what: str) -> None:
    for dim in probe.fields.vmf_dims:
        kappa = torch.tensor(kappas, dtype=probe.dtype)[:, None]
        wide = [float(k) for k in kappa]
        require_agreement(
            f"{what} in {dim} dimensions",
            _each(probe, part, dim)(kappa),
            torch.tensor([_exact(k, dim)[index] for k in wide], dtype=torch.float64),
            scale=torch.tensor([_log_terms(k, dim) for k in wide], dtype=torch.float64),
            dtype=probe.dtype,
            inputs={"kappa": kappa, "m": dim},
        )


def _require_slopes(
    probe: Probe, part: str, what: str, slope: Callable[[float, int], float]
) -> None:
    probe.require_gradient(part)
    if probe.fields.kappa_fixed:
        raise NotApplicable("kappa is declared to be a constant")
    for dim in probe.fields.vmf_dims:
        kappa = torch.tensor(_USUAL, dtype=probe.dtype)[:, None]
        (found,) = probe.gradient(_each(probe, part, dim), kappa)
        wide = [float(k) for k in kappa]
        require_agreement(
            f"the derivative of {what} with respect to kappa in {dim} dimensions",
            found[:, 0],
            torch.tensor([slope(k, dim) for k in wide], dtype=torch.float64),
            scale=torch.tensor([2 * k + dim + dim / k for k in wide], dtype=torch.float64),
            dtype=probe.dtype,
            inputs={"kappa": kappa, "m": dim},
            symptom="" if bool(found.any()) else "no-gradient",
        )


@of_normaliser(
    "flows/vmf-normaliser",
    statement="The log normaliser of a von Mises-Fisher distribution has this value.",
    formula=r"\log C_m(\kappa) = \Big(\frac m2 - 1\Big) \log\kappa - \frac m2 \log 2\pi - "
    r"\log I_{m/2 - 1}(\kappa)",
    kind="exact",
    tolerance=_TERMS,
    kills=(
        "vmf-normaliser-scaled-bessel",
        "vmf-normaliser-sign-of-kappa",
        "vmf-normaliser-inverted",
        "vmf-normaliser-of-another-dimension",
        "vmf-normaliser-power-of-kappa",
    ),
)
def vmf_normaliser(probe: Probe) -> None:
    _require(probe, "log_normaliser_vmf", 0, _USUAL, "log C(kappa)")


@of_normaliser(
    "flows/vmf-normaliser-extremes",
    statement="The log normaliser is right for nearly uniform and very concentrated "
    "distributions too.",
    formula=r"0.01 \le \kappa \le 2500",
    kind="exact",
    tolerance=_TERMS,
    kills=("vmf-normaliser-overflows",),
    builds_on=_NORMALISER,
)
def vmf_normaliser_extremes(probe: Probe) -> None:
    _require(probe, "log_normaliser_vmf", 0, _EXTREME, "log C(kappa)")


@of_normaliser(
    "flows/vmf-normaliser-slope",
    statement="The derivative of the log normaliser is minus the length of the mean.",
    formula=r"\frac{\partial \log C_m}{\partial\kappa} = "
    r"-\frac{I_{m/2}(\kappa)}{I_{m/2 - 1}(\kappa)}",
    kind="gradient",
    tolerance=_TERMS,
    kills=("vmf-normaliser-slope-of-unscaled-bessel",),
    builds_on=_NORMALISER,
)
def vmf_normaliser_slope(probe: Probe) -> None:
    _require_slopes(probe, "log_normaliser_vmf", "log C(kappa)", lambda k, m: -_exact(k, m)[1])


@of_kl(
    "flows/vmf-kl",
    statement="The KL divergence of a von Mises-Fisher distribution from the uniform one has this "
    "value.",
    formula=r"\mathrm{KL} = \kappa \frac{I_{m/2}(\kappa)}{I_{m/2 - 1}(\kappa)} + "
    r"\log C_m(\kappa) + \log\frac{2\pi^{m/2}}{\Gamma(m/2)}",
    kind="exact",
    tolerance=_TERMS,
    kills=(
        "vmf-kl-without-area",
        "vmf-kl-area-of-another-dimension",
        "vmf-kl-area-subtracted",
        "vmf-kl-normaliser-subtracted",
        "vmf-kl-without-mean-length",
        "vmf-kl-scaled-bessel",
    ),
)
def vmf_kl(probe: Probe) -> None:
    _require(probe, "kl_vmf", 2, _USUAL, "the KL")


@of_kl(
    "flows/vmf-kl-extremes",
    statement="The KL is right for nearly uniform and very concentrated distributions too.",
    formula=r"0.01 \le \kappa \le 2500",
    kind="exact",
    tolerance=_TERMS,
    kills=("vmf-kl-without-area", "vmf-kl-overflows"),
    builds_on=_KL,
)
def vmf_kl_extremes(probe: Probe) -> None:
    _require(probe, "kl_vmf", 2, _EXTREME, "the KL")


@of_kl(
    "flows/vmf-kl-slope",
    statement="The derivative of the KL with respect to kappa is this: the concentration learns "
    "from it.",
    formula=r"\frac{\partial\mathrm{KL}}{\partial\kappa} = "
    r"\kappa\Big(1 - A^2 - \frac{m - 1}{\kappa} A\Big), \qquad A = \frac{I_{m/2}}{I_{m/2 - 1}}",
    kind="gradient",
    tolerance=_TERMS,
    kills=("vmf-kl-detached", "vmf-kl-slope-of-mean-length-alone"),
    builds_on=_KL,
)
def vmf_kl_slope(probe: Probe) -> None:
    _require_slopes(probe, "kl_vmf", "the KL", lambda k, m: k * _exact(k, m)[3])


def _cdf_of_angle(kappa: float, dim: int) -> Callable[[Sample], Sample]:
    """Return the distribution function of the angle to the mean, by Simpson's rule."""
    edges = np.linspace(0, math.pi, 20_001)
    middles = (edges[1:] + edges[:-1]) / 2

    def density(angle: Sample) -> Sample:
        tilt = np.exp(kappa * (np.cos(angle) - 1))
        return np.asarray(tilt * np.abs(np.sin(angle)) ** (dim - 2))

    values = density(edges)
    steps = values[1:] + 4 * density(middles) + values[:-1]
    cumulative = np.concatenate([[0.0], np.cumsum(steps)])
    return lambda angle: np.interp(angle, edges, cumulative / cumulative[-1])


def _angle(cosine: Tensor) -> Sample:
    return torch.arccos(cosine.clamp(-1, 1)).numpy()


def _drawn(probe: Probe, mu: Tensor, kappa: float) -> Tensor:
    """Draw around one direction, and require that the draws are on the sphere."""
    many = mu.to(probe.dtype).expand(_DRAWS, -1).clone()
    scale = torch.full((_DRAWS, 1), kappa, dtype=probe.dtype)
    x: Tensor = probe.fields.draw_vmf(many, scale).detach().double()
    if x.numel() != many.numel():
        found, expected = tuple(x.shape), tuple(many.shape)
        raise Violation(f"x has shape {found} for mu of shape {expected}", symptom="shape")
    x = x.reshape(many.shape)
    where = f"around {[round(float(m), 3) for m in mu]}"
    if not bool(torch.isfinite(x).all()):
        raise Violation(f"draws {where} are not finite", symptom="not-finite")
    off = (x.norm(dim=1) - 1).abs()
    if not float(off.quantile(0.99)) < 1e-3:  # noise along mu leaves a direction of few digits
        longest = float(x[off.argmax()].norm())
        raise Violation(
            f"draws {where} are not on the sphere: one has the length {longest:.4g}",
            symptom="off-sphere",
        )
    return x


def _require_draws(probe: Probe, name: str, mu: Tensor, kappa: float, alpha: float) -> None:
    """Test the angle to the mean, and the direction around it."""
    x, dim = _drawn(probe, mu, kappa), len(mu)
    cosine = x @ mu
    cdf = _cdf_of_angle(kappa, dim)
    p = statistics.uniform(cdf(_angle(cosine)))
    if not p >= alpha:
        pole = torch.zeros(dim).double()
        pole[0] = 1
        other = {"opposite": -cosine, "pole": x @ pole}
        symptom = next(
            (s for s, t in other.items() if statistics.uniform(cdf(_angle(t))) > 1e-4), "cosine"
        )
        mean, right = float(cosine.mean()), _exact(kappa, dim)[1]
        raise Violation(
            f"mu'x has the mean {mean:.4f} over {_DRAWS:,} draws with kappa {kappa:g} in {dim} "
            f"dimensions, not {right:.4f}, or another distribution (p = {p:.1g})",
            symptom=symptom,
            counterexample={"expected": round(right, 1), "got": round(mean, 1)}
            if symptom == "cosine"
            else None,
        )
    line = probe.normal(f"{name} line {dim}", dim).double()
    line = line - (line @ mu) * mu
    around = x - cosine[:, None] * mu
    side = (around @ (line / line.norm())) / around.norm(dim=1).clamp_min(1e-300)
    if dim == 2:
        above = int((side > 0).sum())
        p = 2 * float(special.bdtr(min(above, _DRAWS - above), _DRAWS, 0.5))
    else:
        p = statistics.uniform(_cdf_of_angle(0.0, dim - 1)(_angle(side)))
    if not p >= alpha:
        raise Violation(
            f"the draws do not lie evenly around mu in {dim} dimensions (p = {p:.1g})",
            symptom="one-sided",
        )


@of_draw(
    "flows/vmf-draws",
    statement="Draws are on the sphere, their angle to mu has this distribution, and they lie "
    "evenly around it.",
    formula=r"p(\theta) \propto e^{\kappa\cos\theta} \sin^{m-2}\theta, \qquad "
    r"\cos\theta = \mu^\top x",
    tolerance="a distribution function off by 0.08 is found",
    kills=(
        "vmf-drawn-with-wrong-b",
        "vmf-drawn-without-rejection",
        "vmf-drawn-reflected-wrongly",
        "vmf-drawn-around-the-pole",
        "vmf-drawn-off-the-sphere",
        "vmf-drawn-one-sided",
    ),
)
def vmf_draws(probe: Probe) -> None:
    subject = probe.fields
    subject.seed(probe.number("draws"))
    cases = [(dim, kappa) for dim in subject.vmf_dims for kappa in (1.5, 25.0)]
    for dim, kappa in cases:
        mu = probe.normal(f"mu {dim}", dim).double()
        _require_draws(
            probe, f"draws {kappa}", mu / mu.norm(), kappa, probe.alpha / (2 * len(cases))
        )


@of_draw(
    "flows/vmf-draws-at-the-poles",
    statement="Draws have this distribution where mu is the first axis, or opposite to it, too.",
    formula=r"\mu = \pm e_1",
    tolerance="a distribution function off by 0.08 is found",
    kills=("vmf-drawn-not-a-number-at-the-pole",),
    builds_on=_DRAW,
)
def vmf_draws_at_the_poles(probe: Probe) -> None:
    subject = probe.fields
    subject.seed(probe.number("poles"))
    for dim in subject.vmf_dims:
        for sign in (1.0, -1.0):
            mu = torch.zeros(dim, dtype=torch.float64)
            mu[0] = sign
            alpha = probe.alpha / (4 * len(subject.vmf_dims))
            _require_draws(probe, f"pole {sign}", mu, 5.0, alpha)
