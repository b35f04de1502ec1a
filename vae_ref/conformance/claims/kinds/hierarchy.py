"""Claims about the divergences of a VAE with levels: each in its place, and none twice."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vae_ref.conformance.answers.comparison import require_agreement
from vae_ref.conformance.claims import registry
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.probe.terms import batch_reduction
from vae_ref.conformance.records import Finding, NotApplicable, Violation

_TERMS = "32 roundings of the sum of the terms' absolute values"
_RESIDUAL = ("hierarchy/residual-kl",)
_LEVELS = ("hierarchy/kl-of-levels",)
_NVAE = "Vahdat and Kautz 2020"

of_residual = partial(
    registry.claim,
    slot="kl_residual",
    source=f"{_NVAE}, equation 2",
    needs=("kl_residual",),
    tolerance=_TERMS,
)
of_levels = partial(
    registry.claim,
    slot="kl_levels",
    source=f"{_NVAE}, equation 1",
    needs=("kl_levels",),
    tolerance=_TERMS,
)

Tensors = Sequence[Tensor]
"""Per level a posterior and its prior: ``mu, logvar, mu_p, logvar_p``, top first."""


def _exact(mu: Tensor, logvar: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    """Return the KL of two Gaussians, one number per example."""
    ratio = logvar - logvar_p
    terms = torch.expm1(ratio) - ratio + (mu - mu_p).square() * torch.exp(-logvar_p)
    return 0.5 * terms.sum(1)


def _scale(mu: Tensor, logvar: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    """Return the size of what adds up to the KL, with the parameters relative or not."""
    logs = 1 + logvar.abs() + logvar_p.abs()
    distance = (mu.abs() + mu_p.abs()).square() * torch.exp(-logvar_p)
    return 0.5 * (logs * (1 + torch.exp(logvar - logvar_p) + distance)).sum(1)


def _over(levels: Callable[..., Tensor], tensors: Tensors) -> Tensor:
    """Add up a function of posterior and prior over the levels."""
    wide = [tensor.double() for tensor in tensors]
    return torch.stack([levels(*wide[i : i + 4]) for i in range(0, len(wide), 4)]).sum(0)


def _pair(probe: Probe, mu: Tensor, logvar: Tensor) -> Any:
    """Return a Gaussian in the subject's convention: a pair, or a distribution."""
    pair = probe.posterior(mu, logvar)
    return pair if len(pair) == 2 else pair[0]


def _levels(probe: Probe, *tensors: Tensor) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    pairs = [_pair(probe, *tensors[i : i + 2]) for i in range(0, len(tensors), 2)]
    return tuple(pairs[::2]), tuple(pairs[1::2])


def _relative(probe: Probe, *tensors: Tensor) -> tuple[Any, ...]:
    """Return what a residual KL takes, of a shift, a logarithm of a factor, and the prior."""
    delta_mu, delta, mu_p, logvar_p = tensors
    of_mean = probe.fields.residual == "mean"
    second = delta + logvar_p if of_mean else delta
    return *probe.posterior(delta_mu, second), *probe.posterior(mu_p, logvar_p)


def _gaussians(probe: Probe, name: str, examples: int, counts: Sequence[int]) -> list[Tensor]:
    """Draw a posterior and a prior for every level."""
    unit = probe.latents[-1]
    parts = ("mu", "logvar", "mu_p", "logvar_p")
    return [
        probe.normal(f"{name} {part} {level} {examples}", examples, count * unit)
        for level, count in enumerate(counts)
        for part in parts
    ]


def _of_levels(probe: Probe, name: str, examples: int, counts: Sequence[int]) -> list[Tensor]:
    """Draw them for the levels of a hierarchy, whose top may have N(0, I) as its prior."""
    tensors = _gaussians(probe, name, examples, counts)
    if probe.fields.top_prior == "standard":
        tensors[2:4] = (torch.zeros_like(tensor) for tensor in tensors[2:4])
    return tensors


def _counts(probe: Probe) -> tuple[int, ...]:
    """Return numbers of latents: they differ, unless the levels are put into one tensor."""
    levels: int = probe.fields.levels
    differ = tuple(2 + (3 * level + 3) % 5 for level in range(levels))

    def find() -> tuple[int, ...]:
        try:
            _kl(probe, _of_levels(probe, "counts", 2, differ))
        except (RuntimeError, ValueError):
            return (3,) * levels
        return differ

    return probe.once("counts of levels", find)


def _kl(probe: Probe, tensors: Tensors, part: str = "kl_levels") -> Tensor:
    """Call a KL of all levels, one number per example."""
    if probe.fields.kl_levels is None and part == "kl_levels":
        part = "kl_with_free_nats"
    return probe.each(part, *tensors, arranged=partial(_levels, probe))


def _residual(probe: Probe, *given: Tensor) -> Tensor:
    return probe.each("kl_residual", *given, arranged=partial(_relative, probe))


def _as_absolute(delta_mu: Tensor, delta: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensors:
    return mu_p + delta_mu, logvar_p + delta, mu_p, logvar_p


_NAMES = ("delta_mu", "delta_logvar", "mu_p", "logvar_p")


def _require_residual(probe: Probe, given: Tensors, what: str = "the KL") -> None:
    absolute = _as_absolute(*(tensor.double() for tensor in given))
    delta_mu, delta, _, logvar_p = (tensor.double() for tensor in given)
    zero = torch.zeros_like(delta)
    require_agreement(
        what,
        _residual(probe, *given),
        _exact(delta_mu, delta + logvar_p, zero, logvar_p),
        scale=_scale(*absolute),
        dtype=probe.dtype,
        inputs=dict(zip(_NAMES, given, strict=True)),
    )


def _deltas(probe: Probe, name: str, examples: int = 3, count: int = 5) -> list[Tensor]:
    delta_mu, delta, mu_p, logvar_p = _gaussians(probe, name, examples, (count,))
    return [delta_mu, delta, 1.5 * mu_p, logvar_p]


@of_residual(
    "hierarchy/residual-kl",
    statement="The KL divergence of a posterior that is relative to its prior has this value.",
    formula=r"\mathrm{KL} = \tfrac12 \sum_d \Big(\frac{\Delta\mu_d^2}{\sigma_{p,d}^2} + "
    r"\Delta\sigma_d^2 - \log\Delta\sigma_d^2 - 1\Big)",
    kind="exact",
    kills=(
        "residual-kl-without-half",
        "residual-kl-prior-mean-subtracted",
        "residual-kl-shift-not-scaled",
        "residual-kl-shift-over-sigma",
        "residual-kl-log-sigma",
        "residual-kl-scale-added",
        "residual-kl-scale-absolute",
        "residual-kl-mean-over-latents",
    ),
)
def residual_kl(probe: Probe) -> None:
    for examples, count in ((1, 1), (3, 5), (4, 2)):
        _require_residual(probe, _deltas(probe, "residual", examples, count))


@of_residual(
    "hierarchy/residual-kl-zero",
    statement="The KL divergence is zero without a shift and with the factor 1.",
    formula=r"\Delta\mu = 0,\ \Delta\sigma = 1:\quad \mathrm{KL} = 0",
    kind="exact",
    kills=("residual-kl-prior-mean-subtracted", "residual-kl-scale-absolute"),
    builds_on=_RESIDUAL,
)
def residual_kl_zero(probe: Probe) -> None:
    _, _, mu_p, logvar_p = _deltas(probe, "zero")
    zero = torch.zeros_like(mu_p)
    _require_residual(probe, [zero, zero, mu_p, logvar_p], "the KL of a posterior at its prior")


@of_residual(
    "hierarchy/residual-kl-relative",
    statement="The KL divergence does not change if the mean of the prior is shifted, or if its "
    "standard deviation and the shift of the posterior are scaled together.",
    formula=r"\mathrm{KL}(b\,\Delta\mu, \Delta\sigma;\, \mu_p + a, b\,\sigma_p) = "
    r"\mathrm{KL}(\Delta\mu, \Delta\sigma;\, \mu_p, \sigma_p)",
    kind="metamorphic",
    kills=("residual-kl-prior-mean-subtracted", "residual-kl-shift-not-scaled"),
    builds_on=_RESIDUAL,
)
def residual_kl_relative(probe: Probe) -> None:
    delta_mu, delta, mu_p, logvar_p = _deltas(probe, "relative")
    a, log_b2 = probe.normal("a", *mu_p.shape), probe.normal("b", *mu_p.shape)
    moved = [torch.exp(log_b2 / 2) * delta_mu, delta, mu_p + a, logvar_p + log_b2]
    plain = [delta_mu, delta, mu_p, logvar_p]
    require_agreement(
        "the KL with a prior that was moved and stretched, and a shift that was stretched,",
        _residual(probe, *moved),
        _residual(probe, *plain),
        scale=sum(_scale(*_as_absolute(*(t.double() for t in each))) for each in (moved, plain)),
        dtype=probe.dtype,
        inputs=dict(zip(_NAMES, moved, strict=True)),
    )


@of_residual(
    "hierarchy/residual-kl-slopes",
    statement="The derivatives of the KL divergence are these: prior and posterior learn from it.",
    formula=r"\frac{\partial\mathrm{KL}}{\partial\Delta\mu} = \frac{\Delta\mu}{\sigma_p^2}, \quad"
    r"\frac{\partial\mathrm{KL}}{\partial\log\Delta\sigma^2} = \tfrac12(\Delta\sigma^2 - 1), "
    r"\quad \frac{\partial\mathrm{KL}}{\partial\mu_p} = 0, \quad "
    r"\frac{\partial\mathrm{KL}}{\partial\log\sigma_p^2} = "
    r"-\tfrac12 \frac{\Delta\mu^2}{\sigma_p^2}",
    kind="gradient",
    kills=("residual-kl-detached-prior", "residual-kl-detached-posterior"),
    builds_on=_RESIDUAL,
)
def residual_kl_slopes(probe: Probe) -> None:
    probe.require_gradient("kl_residual")
    given = _deltas(probe, "slopes")
    found = probe.gradient(partial(_residual, probe), *given)
    delta_mu, delta, mu_p, logvar_p = (tensor.double() for tensor in given)
    precision = torch.exp(-logvar_p)
    exact = (
        delta_mu * precision,
        0.5 * torch.expm1(delta),
        torch.zeros_like(mu_p),
        -0.5 * delta_mu.square() * precision,
    )
    sizes = 1 + delta_mu.abs() + mu_p.abs()
    scale = 2 * (1 + delta.exp() + sizes.square() * precision)
    _require_slopes(probe, _NAMES, found, exact, scales=[scale] * 4, given=given, unused=(2,))


def _require_slopes(
    probe: Probe,
    names: Sequence[str],
    found: Tensors,
    exact: Tensors,
    *,
    scales: Tensors,
    given: Tensors,
    unused: Sequence[int] = (),
    fixed: Sequence[int] = (),
) -> None:
    """Compare slopes, after those that are missing; of what is fixed there need be none."""
    may_lack = {*unused, *fixed}
    lack = [n for i, n in enumerate(names) if i not in may_lack and not bool(found[i].any())]
    if lack:
        raise Violation(
            f"the KL has no gradient with respect to {', '.join(lack)}",
            symptom=f"no gradient by {', '.join(lack)}",
        )
    slopes = list(zip(names, found, exact, scales, strict=True))
    for name, got, right, scale in (s for i, s in enumerate(slopes) if i not in fixed):
        require_agreement(
            f"the derivative of the KL with respect to {name}",
            got,
            right,
            scale=scale,
            dtype=probe.dtype,
            inputs=dict(zip(names, given, strict=True)),
        )


class _Linear(NamedTuple):
    """The linear model of some levels, with its true posterior factored from the top down.

    Attributes:
        points: Two times posteriors and priors, whose KL has the mean over the codes above as
            its mean, since it is quadratic in them.
        reconstruction: The mean of -log p(x|z_L), per example.
        exact: -log p(x), per example.
    """

    points: tuple[list[Tensor], list[Tensor]]
    reconstruction: Tensor
    exact: Tensor


def _linear(probe: Probe, levels: int) -> _Linear:
    """Make z_l ~ N(a_l z_{l-1}, v_l), and x ~ N(w z_L, s2); every latent has its own pixel.

    The lists begin with the last level, L: the codes are integrated out from the bottom up.
    """
    shape, s2 = (3, 2 * probe.latents[-1]), 0.5
    a = [probe.normal(f"a {n}", *shape).double() for n in range(levels - 1)]
    v = [torch.exp(probe.normal(f"v {n}", *shape).double()) for n in range(levels - 1)]
    x, one = probe.normal("x", *shape).double(), torch.ones(shape, dtype=torch.float64)
    c, r = [1 + probe.uniform("w", *shape).double()], [s2 * one]  # x ~ N(c_l z_l, r_l)
    for a_l, v_l in zip(a, v, strict=True):
        r.append(c[-1].square() * v_l + r[-1])
        c.append(c[-1] * a_l)
    mean, variance = torch.zeros_like(one), torch.zeros_like(one)  # of the code above
    high: list[Tensor] = []
    low: list[Tensor] = []
    for a_l, v_l, c_l, r_l in reversed(
        list(zip([*a, torch.zeros_like(one)], [*v, one], c, r, strict=True))
    ):
        s = 1 / (1 / v_l + c_l.square() / r_l)
        for point, sign in ((high, 1), (low, -1)):
            above = a_l * (mean + sign * variance.sqrt())
            point += [s * (above / v_l + c_l * x / r_l), s.log(), above, v_l.log()]
        mean = s * (a_l * mean / v_l + c_l * x / r_l)
        variance = s + (s * a_l / v_l).square() * variance
    error = (x - c[0] * mean).square() + c[0].square() * variance
    reconstruction = (error / s2 + math.log(2 * math.pi * s2)) / 2
    of_x = c[-1].square() + r[-1]
    exact = (x.square() / of_x + torch.log(2 * math.pi * of_x)) / 2
    return _Linear((high, low), reconstruction.sum(1), exact.sum(1))


def _require_evidence(
    probe: Probe, model: _Linear, kl: Callable[[Tensors], Tensor], also: Tensor, scale: Tensor
) -> None:
    points = [[tensor.to(probe.dtype) for tensor in point] for point in model.points]
    found = torch.stack([kl(point).double() for point in points]).mean(0)
    require_agreement(
        "the negative ELBO of the linear model with its true posterior",
        found + also + model.reconstruction,
        model.exact,
        scale=scale + model.reconstruction.abs() + model.exact.abs(),
        dtype=probe.dtype,
        inputs={"the tensors of the KL, twice": torch.stack(points[0]).tolist()},
    )


@of_residual(
    "hierarchy/residual-evidence",
    statement="In the linear model of two levels, with the true posterior relative to the prior, "
    "reconstruction and KL divergences add up to -log p(x).",
    formula=r"z_1 \sim N(0, 1),\ z_2 \sim N(a z_1, \sigma_2^2),\ x \sim N(w z_2, s^2):\quad "
    r"E_q[-\log p(x \mid z_2)] + \mathrm{KL}_1 + E_{q(z_1)}[\mathrm{KL}_2] = -\log p(x)",
    kind="identity",
    kills=("residual-kl-without-half", "residual-kl-scale-absolute"),
    builds_on=_RESIDUAL,
)
def residual_evidence(probe: Probe) -> None:
    model = _linear(probe, 2)

    def kl(tensors: Tensors) -> Tensor:
        mu, logvar, mu_p, logvar_p = tensors[4:]
        return _residual(probe, mu - mu_p, logvar - logvar_p, mu_p, logvar_p)

    scale = _over(_scale, [*model.points[0], *model.points[1]])
    _require_evidence(probe, model, kl, _exact(*model.points[0][:4]), scale)


def _require_levels(probe: Probe, tensors: Tensors, what: str = "the KL of all levels") -> None:
    require_agreement(
        what,
        _kl(probe, tensors),
        _over(_exact, tensors),
        scale=_over(_scale, tensors),
        dtype=probe.dtype,
        inputs=_named(tensors),
    )


def _named(tensors: Tensors) -> dict[str, Tensor]:
    parts = ("mu", "logvar", "mu_p", "logvar_p")
    return {f"{parts[i % 4]} {i // 4 + 1}": tensor for i, tensor in enumerate(tensors)}


@of_levels(
    "hierarchy/kl-of-levels",
    statement="The KL divergences of all levels are added up, each once, from its own prior.",
    formula=r"\sum_l \mathrm{KL}\big(N(\mu_l, \sigma_l^2)\,\|\,N(\mu_{p,l}, \sigma_{p,l}^2)\big)",
    kind="exact",
    kills=(
        "levels-without-top",
        "levels-top-twice",
        "levels-last-alone",
        "levels-averaged",
        "levels-swapped",
        "levels-standard-prior",
        "levels-prior-of-another-level",
        "levels-constant-once",
        "levels-log-sigma",
    ),
)
def kl_of_levels(probe: Probe) -> None:
    for examples in (1, 3, 4):
        _require_levels(probe, _of_levels(probe, "levels", examples, _counts(probe)))


@of_levels(
    "hierarchy/kl-of-levels-zero",
    statement="The KL divergence is zero if every level has its prior as posterior.",
    formula=r"q = p:\quad \sum_l \mathrm{KL}_l = 0",
    kind="exact",
    kills=("levels-standard-prior", "levels-prior-of-another-level"),
    builds_on=_LEVELS,
)
def kl_of_levels_zero(probe: Probe) -> None:
    tensors = _of_levels(probe, "zero", 3, _counts(probe))
    same = [tensors[i + 2 - i % 4 // 2 * 2] for i in range(len(tensors))]
    _require_levels(probe, same, "the KL of all levels at their priors")


@of_levels(
    "hierarchy/kl-of-the-joint",
    statement="The sum of the levels' KL divergences, averaged over the codes above, is the KL "
    "divergence of the joint posterior from the joint prior, computed from their full "
    "covariances.",
    formula=r"\sum_l E_{q(z_{<l})}[\mathrm{KL}_l] = "
    r"\mathrm{KL}\big(N(m, S)\,\|\,N(m_p, S_p)\big)",
    kind="exact",
    kills=("levels-without-top", "levels-averaged"),
    builds_on=_LEVELS,
)
def kl_of_the_joint(probe: Probe) -> None:
    """Levels are z_l ~ N(a z_{l-1} + b, v), with other numbers for posterior and prior."""
    levels, shape = probe.fields.levels, (3, 2 * probe.latents[-1])
    q, p = (
        [tuple(probe.normal(f"{who} {n} {level}", *shape).double() for n in "abv")
         for level in range(levels)]
        for who in "qp"
    )  # fmt: skip
    if probe.fields.top_prior == "standard":
        p[0] = tuple(torch.zeros(shape).double() for _ in "abv")
    mean, variance = torch.zeros(shape).double(), torch.zeros(shape).double()
    high: list[Tensor] = []
    low: list[Tensor] = []
    for (a, b, v), (a_p, b_p, v_p) in zip(q, p, strict=True):
        for point, sign in ((high, 1), (low, -1)):
            above = mean + sign * variance.sqrt()
            point += [a * above + b, v, a_p * above + b_p, v_p]
        mean, variance = a * mean + b, a.square() * variance + v.exp()
    (m, s), (m_p, s_p) = _joint(q), _joint(p)
    far = (m_p - m).unsqueeze(-1)
    distance = (far * torch.linalg.solve(s_p, far)).sum((-2, -1))
    trace = torch.linalg.solve(s_p, s).diagonal(dim1=-2, dim2=-1).sum(-1)
    logs = torch.logdet(s_p) - torch.logdet(s)
    exact = 0.5 * (distance + trace - levels + logs).sum(1)
    points = [[tensor.to(probe.dtype) for tensor in point] for point in (high, low)]
    require_agreement(
        "the mean KL of the levels of a joint Gaussian",
        torch.stack([_kl(probe, point).double() for point in points]).mean(0),
        exact,
        scale=_over(_scale, [*high, *low]) + (distance + trace).sum(1),
        dtype=probe.dtype,
        inputs=_named(points[0]),
    )


def _joint(levels: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, Tensor]:
    """Return mean and covariance of the codes of all levels, per latent."""
    a, b, v = (torch.stack(parts, -1) for parts in zip(*levels, strict=True))
    inverse = torch.eye(len(levels), dtype=torch.float64) - torch.diag_embed(a[..., 1:], -1)
    root = torch.linalg.inv(inverse)
    return (root @ b.unsqueeze(-1)).squeeze(-1), (root * v.exp().unsqueeze(-2)) @ root.mT


@of_levels(
    "hierarchy/evidence",
    statement="In the linear model, with the true posterior factored from the top down, "
    "reconstruction and KL divergences add up to -log p(x).",
    formula=r"E_q\Big[-\log p(x \mid z_L) + \sum_{l=1}^L \mathrm{KL}_l\Big] = -\log p(x)",
    kind="identity",
    kills=("levels-without-top", "levels-swapped"),
    builds_on=_LEVELS,
)
def evidence(probe: Probe) -> None:
    model = _linear(probe, probe.fields.levels)
    scale = _over(_scale, [*model.points[0], *model.points[1]])
    _require_evidence(probe, model, partial(_kl, probe), torch.zeros(3).double(), scale)


@of_levels(
    "hierarchy/kl-of-levels-slopes",
    statement="Every level's posterior and prior gets its gradient from the KL divergence.",
    formula=r"\frac{\partial\mathrm{KL}}{\partial\mu_l} = "
    r"-\frac{\partial\mathrm{KL}}{\partial\mu_{p,l}} = \frac{\mu_l - \mu_{p,l}}{\sigma_{p,l}^2},"
    r"\quad \frac{\partial\mathrm{KL}}{\partial\log\sigma_l^2} = "
    r"\tfrac12\Big(\frac{\sigma_l^2}{\sigma_{p,l}^2} - 1\Big), \quad "
    r"\frac{\partial\mathrm{KL}}{\partial\log\sigma_{p,l}^2} = "
    r"\tfrac12\Big(1 - \frac{\sigma_l^2 + (\mu_l - \mu_{p,l})^2}{\sigma_{p,l}^2}\Big)",
    kind="gradient",
    kills=("levels-detached-prior", "levels-detached-posterior"),
    builds_on=_LEVELS,
)
def kl_of_levels_slopes(probe: Probe) -> None:
    probe.require_gradient("kl_levels")
    tensors = _of_levels(probe, "slopes", 3, _counts(probe))
    found = probe.gradient(lambda *given: _kl(probe, given), *tensors)
    leaves = [tensor.double().requires_grad_() for tensor in tensors]
    exact = torch.autograd.grad(_over(_exact, leaves).sum(), leaves)
    scales = [
        2 + (logvar - logvar_p).exp() + (1 + mu.abs() + mu_p.abs()).square() * (-logvar_p).exp()
        for i in range(0, len(tensors), 4)
        for mu, logvar, mu_p, logvar_p in [[t.double() for t in tensors[i : i + 4]]] * 4
    ]
    fixed = (2, 3) if probe.fields.top_prior == "standard" else ()
    names = list(_named(tensors))
    _require_slopes(probe, names, found, exact, scales=scales, given=tensors, fixed=fixed)


@of_levels(
    "hierarchy/one-reduction-of-levels",
    statement="The KL divergences of all levels are reduced over the batch in the same way.",
    formula=r"\sum_n \sum_l \mathrm{KL}_{l,n} \quad (\text{or the mean over } n)",
    kind="metamorphic",
    tolerance="a batch given twice has twice the KL, or the same KL, to 1e-5",
    kills=("levels-mixed-reduction",),
    builds_on=_LEVELS,
)
def one_reduction_of_levels(probe: Probe) -> Finding:
    tensors, levels = _of_levels(probe, "reduction", 3, _counts(probe)), probe.fields.levels
    whole = partial(probe.whole, "kl_levels", arranged=partial(_levels, probe))
    found = []
    for level in range(levels):
        alone = list(tensors)
        for other in set(range(levels)) - {level}:
            alone[4 * other : 4 * other + 2] = alone[4 * other + 2 : 4 * other + 4]
        found.append(batch_reduction(whole, *alone))
    if len(set(found)) > 1 or found[0] == "neither":
        change = {
            "sum": "doubled",
            "mean": "unchanged",
            "neither": "neither doubled nor unchanged",
        }
        each = ", ".join(f"of level {level} {change[how]}" for level, how in enumerate(found, 1))
        raise Violation(
            f"a batch given twice has the KL {each}: what a level counts for depends on the batch "
            "size",
            symptom="-".join(found),
        )
    words = {"sum": "summed over the batch", "mean": "averaged over the batch"}
    return Finding(facts={"KL of the levels": words[found[0]]})


@registry.claim(
    "hierarchy/free-nats",
    statement="The KL divergence of each level, summed over its latents, counts as at least the "
    "free nats.",
    formula=r"\sum_l \max(\lambda, \mathrm{KL}_l)",
    source="Kingma et al. 2016, appendix C.8",
    slot="kl_with_free_nats",
    needs=("kl_with_free_nats",),
    kind="exact",
    tolerance=_TERMS,
    kills=("free-nats-after-mean", "free-nats-of-the-sum", "free-nats-cap", "free-nats-added"),
)
def free_nats(probe: Probe) -> None:
    free, counts = probe.fields.free_nats, _counts(probe)
    if not free > 0:
        raise NotApplicable("the free nats are not known; declare them as free_nats")
    for shift in (0, 1):
        tensors = _of_levels(probe, f"free {shift}", 3, counts)
        expected = torch.zeros(3).double()
        for level in range(len(counts)):
            kl = (0.25, 3.0)[(level + shift) % 2]
            _, _, mu_p, logvar_p = part = tensors[4 * level : 4 * level + 4]
            step = math.sqrt(2 * kl * free / mu_p.shape[1])
            part[:2] = mu_p + step * torch.exp(logvar_p / 2), logvar_p
            tensors[4 * level : 4 * level + 4] = part
            expected += max(kl, 1.0)
        require_agreement(
            "the KL of all levels, over the free nats,",
            _kl(probe, tensors, "kl_with_free_nats") / free,
            expected,
            scale=_over(_scale, tensors) / free + expected,
            dtype=probe.dtype,
            inputs=_named(tensors),
        )


@registry.claim(
    "hierarchy/negative-elbo",
    statement="The loss is reconstruction plus the KL divergences of all levels, with the same "
    "reduction over the batch and the weight that is declared.",
    formula=r"\sum_n \Big(\mathrm{NLL}_n + \beta \sum_l \mathrm{KL}_{l,n}\Big), "
    r"\text{ or a multiple of it}",
    source=f"{_NVAE}, equation 1",
    slot="negative_elbo_of_levels",
    needs=("negative_elbo_of_levels",),
    kind="exact",
    tolerance="32 roundings of four times the sum of the terms' absolute values",
    kills=(
        "levels-loss-mixed-reduction",
        "levels-loss-without-top",
        "levels-loss-kl-subtracted",
        "levels-loss-averaged",
        "levels-loss-negated",
    ),
)
def negative_elbo(probe: Probe) -> None:
    counts = (3,) * probe.fields.levels
    for examples in (1, 3, 4):
        tensors = _of_levels(probe, "loss", examples, counts)
        nll = 10 + 5 * probe.uniform(f"nll {examples}", examples)
        kl = probe.conventions.beta * _over(_exact, tensors)
        size = nll.double().abs().sum() + _over(_scale, tensors).sum()
        step = nll + size.to(nll)
        low, high = (
            probe.whole(
                "negative_elbo_of_levels",
                given,
                *tensors,
                arranged=lambda first, *rest: (first, *_levels(probe, *rest)),
            )
            .double()
            .sum()
            for given in (nll, step)
        )
        factor = (high - low) / (step.double() - nll.double()).sum()
        if not factor > 0:
            raise Violation(
                f"the loss changes by {factor:.4g} times what the reconstruction term changes "
                "by: it has to grow with it",
                symptom="sign",
            )
        require_agreement(
            f"what the loss of {examples} examples adds to the reconstruction terms, in all,",
            low / factor - nll.double().sum(),
            kl.sum(),
            scale=4 * size,
            dtype=probe.dtype,
            inputs={"nll": nll, **_named(tensors)},
        )
