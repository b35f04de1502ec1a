"""What is true of KL(N(mu, sigma^2) || N(0, I))."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from vae_ref.conformance import oracles, statistics
from vae_ref.conformance.bench import Bench
from vae_ref.conformance.compare import agree
from vae_ref.conformance.records import Violation
from vae_ref.conformance.registry import claim, share

_NEEDS = ("kl|loss",)
_SOURCE = "Kingma and Welling 2014, appendix B"
_TERMS = "32 roundings of the sum of the terms' absolute values"
_VALUE = ("kl/closed-form",)
_FIXED = (
    ((1.0,), (0.0,)),
    ((0.0,), (1.0,)),
    ((1.0, 2.0), (0.0, 0.0)),
    ((0.0, 0.0), (1.0, -1.0)),
    ((-1.5, 0.5), (-2.0, 0.5)),
)


def _cases(bench: Bench, name: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (mu, logvar) from the smallest counterexample to batches of random numbers."""
    unit = bench.latents[-1]
    for pair in _FIXED:
        mu, logvar = (torch.tensor([row * unit], dtype=bench.dtype) for row in pair)
        yield mu, logvar
    for examples, latents in ((3, bench.latents[0]), (4, bench.latents[1])):
        mu = 1.5 * bench.normal(f"{name} mu {examples}", examples, latents)
        yield mu, 1.5 * bench.normal(f"{name} logvar {examples}", examples, latents)


def _holds(bench: Bench, mu: Tensor, logvar: Tensor, expected: Tensor | None = None) -> None:
    """Compare the KL at a point with the closed form, or with what else it has to equal."""
    m, s = mu.double(), logvar.double()
    agree(
        "the KL",
        bench.kl(mu, logvar),
        oracles.kl(m, s).sum() if expected is None else expected,
        scale=bench.rounded(oracles.kl_scale(m, s)),
        dtype=bench.dtype,
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
def closed_form(bench: Bench) -> None:
    for mu, logvar in _cases(bench, "closed-form"):
        _holds(bench, mu, logvar)


@claim(
    "kl/quadrature",
    statement="The KL divergence is the integral of its definition.",
    formula=r"\mathrm{KL} = \int q(z) \log\frac{q(z)}{p(z)}\,dz",
    source="Kullback and Leibler 1951",
    needs=_NEEDS,
    kind="identity",
    tolerance="1e-9 relative to the sum of the terms' absolute values: that of the quadrature",
    kills=("kl-no-half", "kl-negated", "kl-no-one"),
    builds_on=_VALUE,
)
def quadrature(bench: Bench) -> None:
    unit = bench.latents[-1]
    for point in ((0.7, -1.2), (-1.1, 0.8)):
        mu, logvar = (torch.full((1, unit), v, dtype=bench.dtype) for v in point)
        m, s = float(mu[0, 0]), float(logvar[0, 0])
        scale = 1e-9 / (32 * torch.finfo(bench.dtype).eps)
        exact = torch.tensor(unit * oracles.kl_by_quadrature(m, s), dtype=torch.float64)
        agree(
            "the KL",
            bench.kl(mu, logvar),
            exact,
            scale=bench.rounded(max(1.0, scale) * oracles.kl_scale(mu, logvar)),
            dtype=bench.dtype,
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
def fifty_digits(bench: Bench) -> None:
    unit = bench.latents[-1]
    draws = bench.normal("fifty-digits", 6, 2)
    for mu, logvar in zip(*(draws[:, i : i + 1].expand(-1, unit) for i in (0, 1)), strict=True):
        exact = unit * oracles.kl_by_mpmath(float(mu[0]), float(logvar[0]))
        _holds(bench, mu[None], logvar[None], torch.tensor(exact, dtype=torch.float64))


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
def monte_carlo(bench: Bench) -> None:
    """With one sigma for all latents the sum of the log ratios is a shifted, scaled chi-square."""
    latents = bench.latents[0]
    mu = bench.normal("monte-carlo", 1, latents)
    alpha = share() / 2
    for s in (-1.0, 0.7):
        logvar = torch.full_like(mu, s)
        n = statistics.draws_for_mean(0.02, alpha)
        p, estimate = statistics.kl_monte_carlo(
            mu[0].double().numpy(),
            s,
            float(bench.kl(mu, logvar)),
            n,
            bench.generator(f"noise {s}"),
        )
        if not p >= alpha:  # true for nan too
            found = float(bench.kl(mu, logvar))
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
    tolerance="none: 0 is represented exactly",
    kills=("kl-no-one", "kl-jitter-in-log"),
)
def zero_at_prior(bench: Bench) -> None:
    for examples, latents in ((1, bench.latents[-1]), (3, bench.latents[0])):
        zero = torch.zeros(examples, latents, dtype=bench.dtype)
        agree(
            "the KL at mu = 0, logvar = 0",
            bench.kl(zero, zero),
            torch.tensor(0.0),
            scale=0.0,
            dtype=bench.dtype,
            inputs={"mu": zero, "logvar": zero},
        )


@claim(
    "kl/positive-elsewhere",
    statement="The KL divergence is positive everywhere but at the prior.",
    formula=r"(\mu, \log\sigma^2) \ne 0 \;\Rightarrow\; \mathrm{KL} > 0",
    source="Gibbs' inequality",
    needs=_NEEDS,
    kind="identity",
    tolerance="a true KL above 64 roundings of its terms must be positive",
    kills=("kl-negated", "kl-no-mu"),
    builds_on=_VALUE,
)
def positive_elsewhere(bench: Bench) -> None:
    unit, step = bench.latents[-1], 0.01
    zero = torch.zeros(1, unit, dtype=bench.dtype)
    deviations = [(d, 0.0) for d in (step, -step, 1.0)] + [(0.0, d) for d in (step, -step, 1.0)]
    for d_mu, d_logvar in deviations:
        mu, logvar = zero + d_mu, zero + d_logvar
        if not float(bench.kl(mu, logvar)) > 0:
            value = float(bench.kl(mu, logvar))
            raise Violation(
                f"the KL is {value:.6g} at mu = {d_mu:g}, logvar = {d_logvar:g}, not at the prior",
                symptom="not-positive",
                counterexample={
                    "inputs": {"mu": mu.tolist(), "logvar": logvar.tolist()},
                    "expected": float(oracles.kl(mu.double(), logvar.double()).sum()),
                    "got": value,
                },
            )


def _gradient(bench: Bench, which: int, name: str) -> None:
    for mu, logvar in _cases(bench, name):
        got = bench.gradient(bench.kl, mu, logvar)[which]
        m, s = mu.double(), logvar.double()
        exact, scale = (m, m.abs()) if which == 0 else (s.expm1() / 2, (s.exp() + 1) / 2)
        agree(
            f"dKL/d{'mu' if which == 0 else 'logvar'}",
            got,
            exact,
            scale=bench.rounded(scale),
            dtype=bench.dtype,
            inputs={"mu": mu, "logvar": logvar},
        )


@claim(
    "kl/gradient-mu",
    statement="The gradient of the KL divergence with respect to mu is mu.",
    formula=r"\partial \mathrm{KL} / \partial \mu = \mu",
    source=_SOURCE,
    needs=_NEEDS,
    kind="gradient",
    tolerance="32 roundings of |mu|",
    kills=("kl-detached-mu", "kl-no-grad", "kl-no-half"),
    builds_on=_VALUE,
)
def gradient_mu(bench: Bench) -> None:
    _gradient(bench, 0, "gradient")


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
def gradient_logvar(bench: Bench) -> None:
    _gradient(bench, 1, "gradient")


def _apart(bench: Bench, name: str) -> tuple[Tensor, Tensor]:
    shape = (3, bench.latents[0])
    return bench.normal(f"{name} mu", *shape), bench.normal(f"{name} logvar", *shape)


def _total(values: Iterable[Tensor]) -> Tensor:
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
def sum_over_latents(bench: Bench) -> None:
    mu, logvar = _apart(bench, "latents")
    parts = [slice(0, bench.latents[1]), slice(bench.latents[1], None)]
    _holds(bench, mu, logvar, _total(bench.kl(mu[:, part], logvar[:, part]) for part in parts))


@claim(
    "kl/additive-over-examples",
    statement="The KL divergence of a batch is made of those of its examples.",
    formula=r"\mathrm{KL}_{\mathrm{batch}} = \sum_n \mathrm{KL}_n \quad (\text{or their mean})",
    source="Kingma and Welling 2014, equation 8",
    needs=_NEEDS,
    kind="metamorphic",
    tolerance=_TERMS,
    kills=("kl-first-example-only", "kl-batch-mean-of-mu"),
)
def additive_over_examples(bench: Bench) -> None:
    mu, logvar = _apart(bench, "examples")
    rows = zip(mu.split(1), logvar.split(1), strict=True)
    _holds(bench, mu, logvar, _total(bench.kl(*row) for row in rows))


def _permuted(bench: Bench, axis: int, name: str) -> None:
    mu, logvar = _apart(bench, name)
    _holds(bench, mu.flip(axis), logvar.flip(axis), bench.kl(mu, logvar))


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
def order_of_latents(bench: Bench) -> None:
    _permuted(bench, 1, "order-of-latents")


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
def order_of_examples(bench: Bench) -> None:
    _permuted(bench, 0, "order-of-examples")


@claim(
    "kl/large-logvar",
    statement="The KL divergence and its gradient stay right far from the prior.",
    formula=r"\mathrm{KL}(0, s) = \tfrac12(e^s - 1 - s), \quad |s| \le 40",
    source=_SOURCE,
    needs=_NEEDS,
    kind="exact",
    tolerance=_TERMS,
    kills=("kl-clamped", "kl-jitter-in-log"),
    builds_on=_VALUE,
)
def large_logvar(bench: Bench) -> None:
    unit = bench.latents[-1]
    for s in (-8.0, 8.0, -12.0, 12.0, -25.0, 25.0, -40.0, 40.0):
        mu = torch.full((1, unit), 0.5, dtype=bench.dtype)
        logvar = torch.full((1, unit), s, dtype=bench.dtype)
        _holds(bench, mu, logvar)
        if getattr(bench.kl, "differentiable", True):
            got = bench.gradient(bench.kl, mu, logvar)[1]
            agree(
                "dKL/dlogvar",
                got,
                logvar.double().expm1() / 2,
                scale=bench.rounded((logvar.double().exp() + 1) / 2),
                dtype=bench.dtype,
                inputs={"mu": mu, "logvar": logvar},
                symptom="clamped" if not got.any() else "",
            )


@claim(
    "kl/near-prior",
    statement="The KL divergence stays right next to the prior, where its terms cancel.",
    formula=r"\mathrm{KL}(\mu, s) \approx \tfrac12 \mu^2 + \tfrac14 s^2",
    source=_SOURCE,
    needs=_NEEDS,
    kind="exact",
    tolerance=_TERMS,
    kills=("kl-jitter-in-log", "kl-free-bits"),
    builds_on=_VALUE,
)
def near_prior(bench: Bench) -> None:
    unit = bench.latents[-1]
    for d in (1e-2, -1e-2, 1e-4, 1e-6):
        mu = torch.full((1, unit), d, dtype=bench.dtype)
        _holds(bench, mu, torch.full_like(mu, -d))
    tiny = torch.full((1, unit), 1e-6, dtype=bench.dtype)
    exact = float(oracles.kl(tiny.double(), tiny.double()).sum())
    error = abs(float(bench.kl(tiny, tiny)) - exact) / exact
    bench.facts["KL next to the prior"] = f"relative error {error:.0e} at mu = logvar = 1e-6"


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
def single_precision(bench: Bench) -> None:
    mu, logvar = (t.float() for t in _apart(bench, "single"))
    exact = oracles.kl(mu.double(), logvar.double()).sum()
    agree(
        "the KL in single precision",
        bench.kl(mu, logvar),
        exact,
        scale=bench.rounded(oracles.kl_scale(mu.double(), logvar.double())),
        dtype=torch.float32,
        inputs={"mu": mu, "logvar": logvar},
    )
