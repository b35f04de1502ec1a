"""Claims about Gaussians of full covariance: q(z|x) = N(mu, L L^T)."""

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_ref.conformance.answers import statistics
from vae_ref.conformance.answers.comparison import require_agreement
from vae_ref.conformance.claims import registry
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import Violation

_SOURCE = "Kingma and Welling 2019, section 2.5.1; Rezende, Mohamed and Wierstra 2014, section 4"
_TERMS = "32 roundings of the sum of the terms' absolute values and the covariance's condition"
_DRAWS = 4_000  # for each of two examples, of 3 latents
_VALUE, _DRAW = ("flows/full-kl",), ("flows/full-draw",)

of_kl = partial(
    registry.claim, slot="kl_full", source=_SOURCE, needs=("kl_full",), tolerance=_TERMS
)
of_draw = partial(
    registry.claim, slot="draw_full", source=_SOURCE, needs=("draw_full",), tolerance=_TERMS
)


def _as_given(probe: Probe, lower: Tensor, noise: Tensor) -> Tensor:
    """Return a Cholesky factor as the subject takes it; noise fills what is not to be used."""
    diagonal = torch.diagonal(lower, dim1=-2, dim2=-1)
    declared = probe.fields.factor
    if declared == "cholesky":
        given = lower
    elif declared == "covariance":
        given = lower @ lower.mT
    else:
        log = diagonal.log()
        raw = log if declared == "log-diagonal" else torch.log(torch.expm1(diagonal))
        given = lower.tril(-1) + torch.diag_embed(raw) + noise.triu(1)
    return given.to(probe.dtype)


def _factor(probe: Probe, given: Tensor) -> Tensor:
    """Return the Cholesky factor that something given stands for, in double precision."""
    given, declared = given.double(), probe.fields.factor
    if declared == "covariance":
        root: Tensor = torch.linalg.cholesky(given)
        return root
    if declared == "cholesky":
        return given.tril()
    diagonal = torch.diagonal(given, dim1=-2, dim2=-1)
    positive = torch.exp(diagonal) if declared == "log-diagonal" else F.softplus(diagonal)
    return given.tril(-1) + torch.diag_embed(positive)


def _posterior(probe: Probe, name: str, examples: int, latents: int) -> tuple[Tensor, Tensor]:
    """Return means, and the factor as the subject takes it."""
    shape = (examples, latents, latents)
    lower = 0.6 * probe.normal(f"{name} L {examples}", *shape).double().tril(-1)
    diagonal = torch.exp(0.5 * probe.normal(f"{name} diagonal {examples}", *shape[:2]).double())
    noise = probe.normal(f"{name} noise {examples}", *shape).double()
    given = _as_given(probe, lower + torch.diag_embed(diagonal), noise)
    return probe.normal(f"{name} mu {examples}", examples, latents), given


def _exact(mu: Tensor, factor: Tensor) -> Tensor:
    """Return the KL from N(0, I) by the singular values of L: the roots of the eigenvalues."""
    s: Tensor = torch.linalg.svdvals(factor)
    return 0.5 * (mu.square().sum(-1) + (s.square() - 1 - 2 * s.log()).sum(-1))


def _scale(mu: Tensor, factor: Tensor) -> Tensor:
    s: Tensor = torch.linalg.svdvals(factor.detach())
    terms = mu.square().sum(-1) + (s.square() + 1 + 2 * s.log().abs()).sum(-1)
    return terms + mu.shape[-1] * _condition(factor)


def _condition(factor: Tensor) -> Tensor:
    s: Tensor = torch.linalg.svdvals(factor.detach())
    return (s.amax(-1) / s.amin(-1)).square()


def _require_kl(probe: Probe, mu: Tensor, given: Tensor, what: str = "the KL") -> None:
    factor = _factor(probe, given)
    require_agreement(
        what,
        probe.each("kl_full", mu, given),
        _exact(mu.double(), factor),
        scale=_scale(mu.double(), factor),
        dtype=probe.dtype,
        inputs={"mu": mu, "L": given},
    )


@of_kl(
    "flows/full-kl",
    statement="The KL divergence of a Gaussian of full covariance from N(0, I) has this value.",
    formula=r"\mathrm{KL} = \tfrac12\Big(\|\mu\|^2 + \sum_{ij} L_{ij}^2 - D\Big) - "
    r"\sum_i \log L_{ii}",
    kind="exact",
    kills=(
        "full-kl-log-det-halved",
        "full-kl-log-det-doubled",
        "full-kl-log-det-added",
        "full-kl-diagonal-only",
        "full-kl-factor-for-covariance",
        "full-kl-without-dimension",
        "full-kl-log-det-of-batch",
        "full-kl-upper-not-masked",
        "full-kl-diagonal-without-exp",
    ),
)
def full_kl(probe: Probe) -> None:
    for examples, latents in ((1, 1), (3, 5), (4, 2)):
        _require_kl(probe, *_posterior(probe, "value", examples, latents))


@of_kl(
    "flows/full-kl-at-the-prior",
    statement="The KL divergence of the prior from itself is zero.",
    formula=r"\mu = 0,\ L = I:\quad \mathrm{KL} = 0",
    kind="exact",
    kills=("full-kl-without-dimension",),
    builds_on=_VALUE,
)
def full_kl_at_the_prior(probe: Probe) -> None:
    noise = probe.normal("noise", 3, 4, 4).double()
    identity = torch.eye(4, dtype=torch.float64).expand(3, 4, 4)
    zero = torch.zeros(3, 4, dtype=probe.dtype)
    _require_kl(probe, zero, _as_given(probe, identity, noise), "the KL of the prior")


@of_kl(
    "flows/full-kl-of-a-diagonal",
    statement="For a diagonal covariance it is the KL of the textbook.",
    formula=r"L = \operatorname{diag}\sigma:\quad \mathrm{KL} = "
    r"\tfrac12 \sum_d (\mu_d^2 + \sigma_d^2 - 1 - \log\sigma_d^2)",
    kind="exact",
    kills=("full-kl-log-det-halved", "full-kl-log-det-added"),
    builds_on=_VALUE,
)
def full_kl_of_a_diagonal(probe: Probe) -> None:
    noise = probe.normal("noise", 3, 4, 4).double()
    sigma = torch.exp(probe.normal("log sigma", 3, 4).double())
    given = _as_given(probe, torch.diag_embed(sigma), noise)
    _require_kl(probe, probe.normal("mu", 3, 4), given, "the KL of a diagonal Gaussian")


@of_kl(
    "flows/full-kl-turned",
    statement="The KL divergence does not change if the posterior is rotated, since N(0, I) does "
    "not change either.",
    formula=r"\mathrm{KL}\big(N(Q\mu, Q L L^\top Q^\top)\,\|\,N(0, I)\big) = "
    r"\mathrm{KL}\big(N(\mu, L L^\top)\,\|\,N(0, I)\big), \quad Q^\top Q = I",
    kind="metamorphic",
    kills=("full-kl-diagonal-only", "full-kl-factor-for-covariance"),
    builds_on=_VALUE,
)
def full_kl_turned(probe: Probe) -> None:
    mu, given = _posterior(probe, "turned", 3, 4)
    factor = _factor(probe, given)
    turn = torch.linalg.qr(probe.normal("turn", 3, 4, 4).double())[0]
    turned = torch.linalg.cholesky(turn @ factor @ factor.mT @ turn.mT)
    mu_turned = (turn @ mu.double()[..., None])[..., 0].to(probe.dtype)
    require_agreement(
        "the KL of a posterior that was turned",
        probe.each("kl_full", mu_turned, _as_given(probe, turned, turn)),
        probe.each("kl_full", mu, given),
        scale=4 * _scale(mu.double(), factor),
        dtype=probe.dtype,
        inputs={"mu": mu, "L": given},
    )


@of_kl(
    "flows/full-kl-slopes",
    statement="The derivatives of the KL with respect to the mean and the factor are these.",
    formula=r"\frac{\partial\mathrm{KL}}{\partial\mu} = \mu, \qquad "
    r"\frac{\partial\mathrm{KL}}{\partial L_{ij}} = L_{ij} - \frac{[i = j]}{L_{ii}}",
    kind="gradient",
    kills=("full-kl-detached-factor",),
    builds_on=_VALUE,
)
def full_kl_slopes(probe: Probe) -> None:
    probe.require_gradient("kl_full")
    mu, given = _posterior(probe, "slopes", 3, 4)
    found = probe.gradient(lambda *pair: probe.each("kl_full", *pair), mu, given)
    leaves = (mu.double().requires_grad_(), given.double().requires_grad_())
    value = _exact(leaves[0], _factor(probe, leaves[1])).sum()
    exact = torch.autograd.grad(value, leaves)
    scale = 4 * _scale(mu.double(), _factor(probe, given))
    _require_slopes(probe, "the KL", found, exact, scale=scale, inputs={"mu": mu, "L": given})


def _require_slopes(
    probe: Probe,
    what: str,
    found: Any,
    exact: Any,
    *,
    scale: Tensor,
    inputs: dict[str, Tensor],
) -> None:
    """Compare slopes by mu and L; of a covariance, only the symmetric part has a meaning."""
    for name, own, right in zip(("mu", "L"), found, exact, strict=True):
        both = (own, right)
        if name == "L":
            both = tuple(
                t + t.mT if probe.fields.factor == "covariance" else t.tril() for t in both
            )
        require_agreement(
            f"the derivative of {what} with respect to {name}",
            both[0].flatten(1),
            both[1].flatten(1),
            scale=scale[:, None],
            dtype=probe.dtype,
            inputs=inputs,
            symptom="" if bool(both[0].any()) else "no-gradient",
        )


@of_kl(
    "flows/full-evidence",
    statement="In the linear model, whose true posterior has a full covariance, reconstruction "
    "and KL add up to -log p(x).",
    formula=r"z \sim N(0, I),\ x \mid z \sim N(Wz, s^2 I),\ S = (I + W^\top W/s^2)^{-1}:\quad "
    r"E_q[-\log p(x \mid z)] + \mathrm{KL} = -\log N(x; 0, W W^\top + s^2 I)",
    kind="identity",
    kills=("full-kl-log-det-halved", "full-kl-diagonal-only"),
    builds_on=_VALUE,
)
def full_evidence(probe: Probe) -> None:
    latents, pixels, s2 = 3, 5, 0.5
    w, x = probe.normal("W", pixels, latents).double(), probe.normal("x", 2, pixels).double()
    identity = torch.eye(latents, dtype=torch.float64)
    covariance = torch.linalg.inv(identity + w.T @ w / s2)
    mu = (x @ w @ covariance / s2).to(probe.dtype)
    lower = torch.linalg.cholesky(covariance).expand(2, -1, -1)
    given = _as_given(probe, lower, probe.normal("noise", 2, latents, latents).double())
    wide, factor = mu.double(), _factor(probe, given)
    square = (x - wide @ w.T).square().sum(1) + (w @ factor).square().sum((1, 2))
    reconstruction = 0.5 * (square / s2 + pixels * math.log(2 * math.pi * s2))
    marginal = w @ w.T + s2 * torch.eye(pixels, dtype=torch.float64)
    distance = (x * torch.linalg.solve(marginal, x.T).T).sum(1)
    surprise = 0.5 * (distance + torch.logdet(2 * math.pi * marginal))
    require_agreement(
        "the negative ELBO of the linear model with its true posterior",
        probe.each("kl_full", mu, given).double() + reconstruction,
        surprise,
        scale=_scale(wide, factor) + 2 * square / s2 + pixels,
        dtype=probe.dtype,
        inputs={"mu": mu, "L": given},
    )


def _draw(probe: Probe, mu: Tensor, given: Tensor, eps: Tensor) -> Tensor:
    z: Tensor = probe.fields.draw_full(mu.clone(), given.clone(), eps.clone())
    if z.numel() != mu.numel():
        found, expected = tuple(z.shape), tuple(mu.shape)
        raise Violation(f"z has shape {found} for mu of shape {expected}", symptom="shape")
    return z.reshape(mu.shape)


def _matrix(probe: Probe, mu: Tensor, given: Tensor) -> Tensor:
    """Return the matrix that the draws of one example multiply the noise with."""
    latents = len(mu)
    rows = torch.cat([torch.zeros(1, latents), torch.eye(latents)]).to(probe.dtype)
    many = mu.expand(latents + 1, -1), given.expand(latents + 1, -1, -1)
    z = _draw(probe, *many, rows).detach().double()
    return (z[1:] - z[0]).T


@of_draw(
    "flows/full-draw",
    statement="The draw is the mean plus a matrix times the noise, and its covariance is L L^T.",
    formula=r"z = \mu + A\varepsilon, \qquad A A^\top = L L^\top",
    kind="exact",
    kills=(
        "full-draw-transposed",
        "full-draw-diagonal-only",
        "full-draw-covariance-for-factor",
        "full-draw-upper-not-masked",
    ),
)
def full_draw(probe: Probe) -> None:
    for examples, latents in ((1, 1), (3, 4)):
        mu, given = _posterior(probe, "draw", examples, latents)
        eps = probe.normal(f"eps {examples}", examples, latents)
        factor = _factor(probe, given)
        inputs = {"mu": mu, "L": given}
        size = (factor.square().sum((1, 2)) + mu.double().square().sum(1) + 1) * (
            _condition(factor)
        )
        matrix = torch.stack([_matrix(probe, *row) for row in zip(mu, given, strict=True)])
        require_agreement(
            "the covariance of the draws",
            (matrix @ matrix.mT).flatten(1),
            (factor @ factor.mT).flatten(1),
            scale=size[:, None],
            dtype=probe.dtype,
            inputs=inputs,
        )
        moved = (matrix @ eps.double()[..., None])[..., 0]
        require_agreement(
            "the draw less what the matrix makes of the noise",
            _draw(probe, mu, given, eps).detach().double() - moved,
            mu.double(),
            scale=size[:, None] * (1 + eps.double().abs().amax(1, keepdim=True)),
            dtype=probe.dtype,
            inputs=inputs | {"eps": eps},
        )


@of_draw(
    "flows/full-draw-slopes",
    statement="The draw is a differentiable function of the mean and the factor.",
    formula=r"\frac{\partial z}{\partial\mu} = I, \qquad "
    r"\frac{\partial z_i}{\partial L_{ij}} = \varepsilon_j",
    kind="gradient",
    kills=("full-draw-detached-factor",),
    builds_on=_DRAW,
)
def full_draw_slopes(probe: Probe) -> None:
    probe.require_gradient("draw_full")
    mu, given = _posterior(probe, "draw slopes", 3, 4)
    eps, cotangent = probe.normal("eps", 3, 4), probe.normal("cotangent", 3, 4)
    found = probe.gradient(lambda m, given: _draw(probe, m, given, eps) * cotangent, mu, given)
    leaves = (mu.double().requires_grad_(), given.double().requires_grad_())
    lower = _factor(probe, leaves[1])
    moved = leaves[0] + (lower @ eps.double()[..., None])[..., 0]
    exact = list(torch.autograd.grad((moved * cotangent.double()).sum(), leaves))
    matrix = torch.stack([_matrix(probe, *row) for row in zip(mu, given, strict=True)])
    if not torch.allclose(matrix, lower.detach(), atol=1e-3) and bool(found[1].any()):
        exact[1] = found[1].double()  # another root of the covariance has other slopes
    size = (1 + eps.double().abs().sum(1)) * (1 + cotangent.double().abs().sum(1))
    scale = size * _condition(lower) * (1 + lower.detach().square().sum((1, 2)))
    inputs = {"mu": mu, "L": given, "eps": eps}
    _require_slopes(probe, "the draw", found, exact, scale=scale, inputs=inputs)


@registry.claim(
    "flows/full-sample",
    statement="Draws with noise of their own have this mean and this covariance.",
    formula=r"L^{-1}(z - \mu) \sim N(0, I)",
    source=_SOURCE,
    slot="sample_full",
    needs=("sample_full",),
    kind="statistical",
    tolerance="a mean off by 0.17 sigma, a sigma off by 14 %, a correlation of 0.17 are found",
    kills=("full-sample-factor-for-covariance", "full-sample-shared-noise"),
)
def full_sample(probe: Probe) -> None:
    mu, given = _posterior(probe, "sample", 2, 3)
    many = mu.repeat_interleave(_DRAWS, 0), given.repeat_interleave(_DRAWS, 0)
    subject = probe.fields
    subject.seed(probe.number("draws"))
    z = subject.sample_full(*(tensor.clone() for tensor in many)).detach().double()
    if z.numel() != many[0].numel():
        found, expected = tuple(z.shape), tuple(many[0].shape)
        raise Violation(f"z has shape {found} for mu of shape {expected}", symptom="shape")
    distance = (z.reshape(many[0].shape) - many[0].double())[..., None]
    factor = _factor(probe, many[1])
    eps = torch.linalg.solve_triangular(factor, distance, upper=False)[..., 0]
    if bool(((eps - eps[:1]).abs() < 1e-3).all()):
        raise Violation("all draws of a batch have the same noise", symptom="shared")
    alpha = probe.alpha / 18
    for example, rows in enumerate(eps.split(_DRAWS)):
        columns = [column.numpy() for column in rows.T]
        tests = [(f"the mean of latent {i}", statistics.mean(c)) for i, c in enumerate(columns)]
        tests += [
            (f"the deviation of latent {i}", statistics.chi_square(c))
            for i, c in enumerate(columns)
        ]
        tests += [
            (
                f"the correlation of latents {i} and {j}",
                statistics.correlation(columns[i], columns[j]),
            )
            for i, j in ((0, 1), (0, 2), (1, 2))
        ]
        for what, p in tests:
            if not p >= alpha:  # true for NaN too
                raise Violation(
                    f"{what} in L^-1 (z - mu) is not that of N(0, I), over {_DRAWS:,} draws of "
                    f"example {example} (p = {p:.1g})",
                    symptom="covariance",
                )


@registry.claim(
    "flows/full-density",
    statement="The log density of a Gaussian of full covariance has this value.",
    formula=r"\log N(z; \mu, L L^\top) = -\tfrac D2 \log 2\pi - \sum_i \log L_{ii} - "
    r"\tfrac12 \|L^{-1}(z - \mu)\|^2",
    source="Bishop 2006, equation 2.43",
    slot="log_density_full",
    needs=("log_density_full",),
    kind="exact",
    tolerance=_TERMS,
    kills=(
        "full-density-log-det-added",
        "full-density-log-det-doubled",
        "full-density-transposed",
        "full-density-without-constant",
    ),
)
def full_density(probe: Probe) -> None:
    for examples, latents in ((1, 1), (3, 5), (4, 2)):
        mu, given = _posterior(probe, "density", examples, latents)
        z = probe.normal(f"z {examples}", examples, latents)
        factor = _factor(probe, given)
        u, s, _ = torch.linalg.svd(factor)
        scaled = (u.mT @ (z.double() - mu.double())[..., None])[..., 0] / s
        constant = latents * math.log(2 * math.pi)
        exact = -0.5 * (constant + 2 * s.log().sum(1) + scaled.square().sum(1))
        size = (
            constant + 2 * s.log().abs().sum(1) + (1 + scaled.square().sum(1)) * _condition(factor)
        )
        require_agreement(
            "the log density",
            probe.each("log_density_full", z, mu, given),
            exact,
            scale=latents * size,
            dtype=probe.dtype,
            inputs={"z": z, "mu": mu, "L": given},
        )
