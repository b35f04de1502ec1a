"""Claims about KL(N(mu, sigma^2) || N(0, I))."""

from collections.abc import Iterable, Iterator
from functools import partial

import torch
from torch import Tensor

from vae_ref.conformance.answers import oracles, statistics
from vae_ref.conformance.answers.comparison import ROUNDINGS, require_agreement
from vae_ref.conformance.claims import registry
from vae_ref.conformance.guards import kind_and_message
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import Finding, Violation

claim = partial(registry.claim, slot="kl")

_NEEDS = ("kl|loss",)
_SOURCE = "Kingma and Welling 2014, appendix B"
_TERMS = "32 roundings of the sum of the terms' absolute values"
_VALUE = ("kl/closed-form",)

_UNDERFLOW = -104.0
"""A logvar whose exponential is 0 in single precision, denormal numbers included."""

_QUADRATURE = 1e-9
"""The relative accuracy that is asked of quadrature; test_oracles.py finds 1e-11."""

_SHIFT = 0.02
"""How many standard deviations of log q - log p a KL may be wrong before it has to be noticed."""

_SIMPLE = (
    ((1.0,), (0.0,)),
    ((0.0,), (1.0,)),
    ((1.0, 2.0), (0.0, 0.0)),
    ((0.0, 0.0), (1.0, -1.0)),
    ((-1.5, 0.5), (-2.0, 0.5)),
)


def _cases(probe: Probe, name: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (mu, logvar), from the simplest inputs to batches of random numbers."""
    unit = probe.latents[-1]
    for pair in _SIMPLE:
        mu, logvar = (torch.tensor([row * unit], dtype=probe.dtype) for row in pair)
        yield mu, logvar
    for examples, latents in ((3, probe.latents[0]), (4, probe.latents[1])):
        mu = 1.5 * probe.normal(f"{name} mu {examples}", examples, latents)
        yield mu, 1.5 * probe.normal(f"{name} logvar {examples}", examples, latents)


def _require_kl(probe: Probe, mu: Tensor, logvar: Tensor, expected: Tensor | None = None) -> None:
    """Raise `Violation` unless the KL has the expected value: by default, the closed form."""
    m, s = mu.double(), logvar.double()
    require_agreement(
        "the KL",
        probe.kl(mu, logvar),
        oracles.kl(m, s).sum() if expected is None else expected,
        scale=probe.kl_rounding(oracles.kl_scale(m, s)),
        dtype=probe.dtype,
        inputs={"mu": mu, "logvar": logvar},
    )


@claim(
    "kl/closed-form",
    statement="The KL divergence of a diagonal Gaussian from the standard normal has this value.",
    formula=r"\mathrm{KL} = \tfrac12 \sum_d (\mu_d^2 + \sigma_d^2 - \log\sigma_d^2 - 1)",
    source=_SOURCE,
    needs=_NEEDS,
    kind="exact",
    tolerance=_TERMS,
    kills=(
        "kl-no-half",
        "kl-mean-over-latents",
        "kl-mean-over-everything",
        "kl-logvar-as-log-sigma",
        "kl-sigma-for-variance",
        "kl-no-mu",
        "kl-reversed",
        "kl-nominal-batch-size",
    ),
)
def closed_form(probe: Probe) -> None:
    for mu, logvar in _cases(probe, "closed-form"):
        _require_kl(probe, mu, logvar)


@claim(
    "kl/quadrature",
    statement="The KL divergence equals the integral that defines it.",
    formula=r"\mathrm{KL} = \int q(z) \log\frac{q(z)}{p(z)}\,dz",
    source="Kullback and Leibler 1951",
    needs=_NEEDS,
    kind="identity",
    tolerance="1e-9 of the sum of the terms' absolute values, the accuracy of the quadrature",
    kills=("kl-no-half", "kl-negated", "kl-no-one"),
    builds_on=_VALUE,
)
def quadrature(probe: Probe) -> None:
    unit = probe.latents[-1]
    for point in ((0.7, -1.2), (-1.1, 0.8)):
        mu, logvar = (torch.full((1, unit), v, dtype=probe.dtype) for v in point)
        m, s = float(mu[0, 0]), float(logvar[0, 0])
        roundings = _QUADRATURE / (ROUNDINGS * torch.finfo(probe.dtype).eps)
        exact = torch.tensor(unit * oracles.kl_by_quadrature(m, s), dtype=torch.float64)
        require_agreement(
            "the KL",
            probe.kl(mu, logvar),
            exact,
            scale=probe.kl_rounding(max(1.0, roundings) * oracles.kl_scale(mu, logvar)),
            dtype=probe.dtype,
            inputs={"mu": mu, "logvar": logvar},
        )


@claim(
    "kl/fifty-digits",
    statement="The KL divergence agrees with a computation in 50 digits.",
    formula=r"\mathrm{KL} = \tfrac12 (\mu^2 + e^s - 1 - s), \quad s = \log\sigma^2",
    source=_SOURCE,
    needs=_NEEDS,
    kind="exact",
    tolerance=_TERMS,
    kills=("kl-no-half", "kl-single-precision", "kl-jitter-in-log"),
    builds_on=_VALUE,
)
def fifty_digits(probe: Probe) -> None:
    unit = probe.latents[-1]
    draws = probe.normal("fifty-digits", 6, 2)
    for mu, logvar in zip(*(draws[:, i : i + 1].expand(-1, unit) for i in (0, 1)), strict=True):
        exact = unit * oracles.kl_in_fifty_digits(float(mu[0]), float(logvar[0]))
        _require_kl(probe, mu[None], logvar[None], torch.tensor(exact, dtype=torch.float64))


@claim(
    "kl/monte-carlo",
    statement="The KL divergence is the mean of log q(z) - log p(z) over draws from q.",
    formula=r"\mathrm{KL} = E_{z \sim q}[\log q(z) - \log p(z)]",
    source="Kingma and Welling 2014, equation 3",
    needs=_NEEDS,
    kind="statistical",
    tolerance="an error of 0.02 standard deviations of log q - log p is found",
    kills=("kl-no-half", "kl-negated", "kl-mean-over-everything", "kl-logvar-as-log-sigma"),
    builds_on=_VALUE,
)
def monte_carlo(probe: Probe) -> None:
    """With one sigma for all latents, the distribution of the mean is known exactly."""
    latents = probe.latents[0]
    mu = probe.normal("monte-carlo", 1, latents)
    alpha = probe.alpha / 2
    for s in (-1.0, 0.7):
        logvar = torch.full_like(mu, s)
        n = statistics.draws_for_mean(_SHIFT, alpha)
        p, estimate = statistics.kl_monte_carlo(
            mu[0].double().numpy(),
            s,
            float(probe.kl(mu, logvar)),
            n,
            probe.generator(f"noise {s}"),
        )
        if not p >= alpha:  # true for nan too
            found = float(probe.kl(mu, logvar))
            raise Violation(
                f"the KL is {found:.5g}, but log q - log p has the mean {estimate:.5g} over {n:,} "
                f"draws (p = {p:.1g})",
                counterexample={
                    "inputs": {"mu": mu.tolist(), "logvar": logvar.tolist()},
                    "expected": estimate,
                    "got": found,
                },
            )


@claim(
    "kl/zero-at-prior",
    statement="The KL divergence of the prior from itself is zero, exactly.",
    formula=r"\mathrm{KL}(N(0, I)\,\|\,N(0, I)) = 0",
    source="Gibbs' inequality, the case of equality",
    needs=("kl",),
    kind="exact",
    tolerance="none: 0 is represented exactly; rounding if the KL is found in a step",
    kills=("kl-no-one", "kl-jitter-in-log"),
)
def zero_at_prior(probe: Probe) -> None:
    for examples, latents in ((1, probe.latents[-1]), (3, probe.latents[0])):
        zero = torch.zeros(examples, latents, dtype=probe.dtype)
        require_agreement(
            "the KL at mu = 0, logvar = 0",
            probe.kl(zero, zero),
            torch.tensor(0.0),
            scale=probe.kl_rounding(torch.tensor(0.0)),
            dtype=probe.dtype,
            inputs={"mu": zero, "logvar": zero},
        )


@claim(
    "kl/positive-elsewhere",
    statement="The KL divergence is positive everywhere except at the prior.",
    formula=r"(\mu, \log\sigma^2) \ne 0 \;\Rightarrow\; \mathrm{KL} > 0",
    source="Gibbs' inequality",
    needs=_NEEDS,
    kind="identity",
    tolerance="none: at the points that are tried, the KL exceeds 64 roundings of its terms",
    kills=("kl-negated", "kl-no-mu"),
    builds_on=_VALUE,
)
def positive_elsewhere(probe: Probe) -> None:
    unit, step = probe.latents[-1], 0.01
    zero = torch.zeros(1, unit, dtype=probe.dtype)
    deviations = [(d, 0.0) for d in (step, -step, 1.0)] + [(0.0, d) for d in (step, -step, 1.0)]
    for d_mu, d_logvar in deviations:
        mu, logvar = zero + d_mu, zero + d_logvar
        if not float(probe.kl(mu, logvar)) > 0:
            value = float(probe.kl(mu, logvar))
            raise Violation(
                f"the KL is {value:.6g}, not positive, at mu = {d_mu:g}, logvar = {d_logvar:g}",
                symptom="not-positive",
                counterexample={
                    "inputs": {"mu": mu.tolist(), "logvar": logvar.tolist()},
                    "expected": float(oracles.kl(mu.double(), logvar.double()).sum()),
                    "got": value,
                },
            )


def _require_gradient(probe: Probe, which: int, name: str) -> None:
    """Raise `Violation` unless the gradient in mu (0) or in logvar (1) is right."""
    for mu, logvar in _cases(probe, name):
        got = probe.gradient(probe.kl, mu, logvar)[which]
        m, s = mu.double(), logvar.double()
        exact, scale = (m, m.abs() + 1) if which == 0 else (s.expm1() / 2, (s.exp() + 1) / 2)
        require_agreement(
            f"dKL/d{'mu' if which == 0 else 'logvar'}",
            got,
            exact,
            scale=probe.kl_rounding(scale),
            dtype=probe.dtype,
            inputs={"mu": mu, "logvar": logvar},
        )


@claim(
    "kl/gradient-mu",
    statement="The gradient of the KL divergence with respect to mu is mu.",
    formula=r"\partial \mathrm{KL} / \partial \mu = \mu",
    source=_SOURCE,
    needs=_NEEDS,
    kind="gradient",
    tolerance="32 roundings of |mu| + 1",
    kills=("kl-detached-mu", "kl-no-grad", "kl-no-half"),
    builds_on=_VALUE,
)
def gradient_mu(probe: Probe) -> None:
    _require_gradient(probe, 0, "gradient")


@claim(
    "kl/gradient-logvar",
    statement="The gradient of the KL divergence with respect to logvar is (sigma^2 - 1) / 2.",
    formula=r"\partial \mathrm{KL} / \partial \log\sigma^2 = \tfrac12 (e^{\log\sigma^2} - 1)",
    source=_SOURCE,
    needs=_NEEDS,
    kind="gradient",
    tolerance="32 roundings of (sigma^2 + 1) / 2",
    kills=("kl-detached-logvar", "kl-no-grad", "kl-straight-through"),
    builds_on=_VALUE,
)
def gradient_logvar(probe: Probe) -> None:
    _require_gradient(probe, 1, "gradient")


def _batch(probe: Probe, name: str) -> tuple[Tensor, Tensor]:
    """Draw (mu, logvar) of three examples."""
    shape = (3, probe.latents[0])
    return probe.normal(f"{name} mu", *shape), probe.normal(f"{name} logvar", *shape)


def _sum(values: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(values)).sum()


@claim(
    "kl/sum-over-latents",
    statement="The KL divergence of independent latents is the sum of their divergences.",
    formula=r"\mathrm{KL}(q_1 q_2\,\|\,p_1 p_2) = \mathrm{KL}(q_1\,\|\,p_1)"
    r" + \mathrm{KL}(q_2\,\|\,p_2)",
    source="Cover and Thomas 2006, theorem 2.5.3",
    needs=_NEEDS,
    kind="metamorphic",
    tolerance=_TERMS,
    kills=("kl-mean-over-latents", "kl-max-over-latents", "kl-first-latent-only"),
)
def sum_over_latents(probe: Probe) -> None:
    mu, logvar = _batch(probe, "latents")
    parts = [slice(0, probe.latents[1]), slice(probe.latents[1], None)]
    _require_kl(probe, mu, logvar, _sum(probe.kl(mu[:, part], logvar[:, part]) for part in parts))


@claim(
    "kl/additive-over-examples",
    statement="The KL divergence of a batch is the sum, or the mean, of those of its examples.",
    formula=r"\mathrm{KL}_{\mathrm{batch}} = \sum_n \mathrm{KL}_n \quad (\text{or their mean})",
    source="Kingma and Welling 2014, equation 8",
    needs=_NEEDS,
    kind="metamorphic",
    tolerance=_TERMS,
    kills=("kl-first-example-only", "kl-batch-mean-of-mu"),
)
def additive_over_examples(probe: Probe) -> None:
    mu, logvar = _batch(probe, "examples")
    rows = zip(mu.split(1), logvar.split(1), strict=True)
    _require_kl(probe, mu, logvar, _sum(probe.kl(*row) for row in rows))


def _require_same_when_reversed(probe: Probe, axis: int, name: str) -> None:
    """Raise `Violation` if the KL depends on the order of the latents or of the examples."""
    mu, logvar = _batch(probe, name)
    _require_kl(probe, mu.flip(axis), logvar.flip(axis), probe.kl(mu, logvar))


@claim(
    "kl/order-of-latents",
    statement="The KL divergence does not depend on the order of the latents.",
    formula=r"\mathrm{KL}(\mu_\pi, \sigma_\pi) = \mathrm{KL}(\mu, \sigma)",
    source="the prior is exchangeable",
    needs=_NEEDS,
    kind="metamorphic",
    tolerance=_TERMS,
    kills=("kl-first-latent-only", "kl-latents-weighted"),
)
def order_of_latents(probe: Probe) -> None:
    _require_same_when_reversed(probe, 1, "order-of-latents")


@claim(
    "kl/order-of-examples",
    statement="The KL divergence of a batch does not depend on the order of its examples.",
    formula=r"\sum_n \mathrm{KL}_{\pi(n)} = \sum_n \mathrm{KL}_n",
    source="examples are independent",
    needs=_NEEDS,
    kind="metamorphic",
    tolerance=_TERMS,
    kills=("kl-first-example-only",),
)
def order_of_examples(probe: Probe) -> None:
    _require_same_when_reversed(probe, 0, "order-of-examples")


@claim(
    "kl/large-logvar",
    statement="The KL divergence and its gradient are right far from the prior too.",
    formula=r"\mathrm{KL}(0, s) = \tfrac12(e^s - 1 - s), \quad |s| \le 40",
    source=_SOURCE,
    needs=_NEEDS,
    kind="exact",
    tolerance=_TERMS,
    kills=("kl-clamped", "kl-jitter-in-log", "kl-of-full-covariances"),
    builds_on=_VALUE,
)
def large_logvar(probe: Probe) -> None:
    unit = probe.latents[-1]
    for s in (-8.0, 8.0, -12.0, 12.0, -25.0, 25.0, -40.0, 40.0):
        mu = torch.full((1, unit), 0.5, dtype=probe.dtype)
        logvar = torch.full((1, unit), s, dtype=probe.dtype)
        _require_kl(probe, mu, logvar)
        if getattr(probe.kl, "differentiable", True):
            got = probe.gradient(probe.kl, mu, logvar)[1]
            require_agreement(
                "dKL/dlogvar",
                got,
                logvar.double().expm1() / 2,
                scale=probe.kl_rounding((logvar.double().exp() + 1) / 2),
                dtype=probe.dtype,
                inputs={"mu": mu, "logvar": logvar},
                symptom="clamped" if not got.any() else "",
            )
    if probe.conventions.spread in ("logvar", "log_sigma") and not probe.subject.weights:
        _require_answer(probe, _UNDERFLOW)


def _require_answer(probe: Probe, s: float) -> None:
    """Raise `Violation` if the KL refuses a logvar whose variance is 0 in single precision."""
    shape = (2, probe.latents[-1])
    mu, logvar = (torch.full(shape, value, dtype=torch.float32) for value in (0.5, s))
    try:
        probe.kl(mu, logvar)
    except Violation:
        raise
    except Exception as error:
        raise Violation(
            f"in single precision it raises {kind_and_message(error)} at logvar = {s:g}, where "
            "sigma^2 is 0 and the formula still has a value: a training may end there",
            symptom="raises",
        ) from error


@claim(
    "kl/near-prior",
    statement="The KL divergence is right next to the prior too, where its terms cancel.",
    formula=r"\mathrm{KL}(\mu, s) \approx \tfrac12 \mu^2 + \tfrac14 s^2",
    source=_SOURCE,
    needs=_NEEDS,
    kind="exact",
    tolerance=_TERMS,
    kills=("kl-jitter-in-log", "kl-free-bits"),
    builds_on=_VALUE,
)
def near_prior(probe: Probe) -> Finding:
    unit = probe.latents[-1]
    for d in (1e-2, -1e-2, 1e-4, 1e-6):
        mu = torch.full((1, unit), d, dtype=probe.dtype)
        _require_kl(probe, mu, torch.full_like(mu, -d))
    tiny = torch.full((1, unit), 1e-6, dtype=probe.dtype)
    exact = float(oracles.kl(tiny.double(), tiny.double()).sum())
    error = abs(float(probe.kl(tiny, tiny)) - exact) / exact
    return Finding(
        facts={"KL next to the prior": f"relative error {error:.0e} at mu = logvar = 1e-6"}
    )


@claim(
    "kl/single-precision",
    statement="In single precision the KL divergence is the same up to rounding.",
    formula=r"|\mathrm{KL}_{32} - \mathrm{KL}_{64}| \le 32\,\epsilon_{32} \sum |\text{terms}|",
    source="Higham 2002, section 3.1",
    needs=_NEEDS,
    kind="exact",
    tolerance=_TERMS,
    kills=("kl-half-precision", "kl-no-half"),
    builds_on=_VALUE,
)
def single_precision(probe: Probe) -> None:
    mu, logvar = (t.float() for t in _batch(probe, "single"))
    exact = oracles.kl(mu.double(), logvar.double()).sum()
    require_agreement(
        "the KL in single precision",
        probe.kl(mu, logvar),
        exact,
        scale=probe.kl_rounding(oracles.kl_scale(mu.double(), logvar.double())),
        dtype=torch.float32,
        inputs={"mu": mu, "logvar": logvar},
    )
