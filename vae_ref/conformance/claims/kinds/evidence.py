"""Claims about estimators of the evidence: bounds of log p(x) from below and from above.

A weight is not negative and has a known expectation. So Markov's inequality, and Chernoff's where
a weight is bounded, hold whatever the chains do: the tests need no assumption about them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vae_ref.conformance.answers import statistics
from vae_ref.conformance.answers.comparison import require_agreement
from vae_ref.conformance.claims import registry
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import Finding, NotApplicable, Violation

_AIS = "Neal 2001, Annealed Importance Sampling, equations 10 and 11"
_BDMC = "Grosse, Ghahramani and Adams 2015, Sandwiching the Marginal Likelihood, section 3"
_HMC = "Neal 2011, MCMC Using Hamiltonian Dynamics, sections 2.3 and 3.2"
_CHAINS, _BOUNDED, _SHARP = 3, 10_000, 200  # examples of the bounded and of the sharp model
_MOVED, _SCALES = 10_000, (0.1, 0.2, 0.4, 0.8, 1.5, 3.0)
_LEAST = math.exp(-2.0)  # of the bounded likelihood; the most is 1
_STEEP = 3.0

of_lower = partial(registry.claim, slot="log_evidence_lower", needs=("log_evidence_lower",))
of_upper = partial(registry.claim, slot="log_evidence_upper", needs=("log_evidence_upper",))
of_leapfrog = partial(registry.claim, source=_HMC, slot="leapfrog", needs=("leapfrog",))

Likelihood = Callable[[Tensor], Tensor]


def _log_prior(z: Tensor) -> Tensor:
    return -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)


def _likelihood(examples: int, values: Callable[[Tensor], Tensor]) -> Likelihood:
    """Return a likelihood of codes whose first axes may be joined."""

    def log_likelihood(z: Tensor) -> Tensor:
        return values(z.reshape(-1, examples, z.shape[-1])).reshape(z.shape[:-1])

    return log_likelihood


@dataclass(frozen=True)
class _Model:
    """A model, its evidence for each example, and draws from its prior or its posterior."""

    log_likelihood: Likelihood
    evidence: Tensor
    prior: Tensor
    posterior: Tensor


def _flat(probe: Probe) -> _Model:
    """Of a likelihood that does not depend on the code: it is the evidence."""
    c = 5 * probe.normal("flat", 5)
    z, other = (probe.normal(f"flat {name}", _CHAINS, 5, 2) for name in ("z", "posterior"))
    return _Model(_likelihood(5, lambda z: c.to(z) + 0 * z.sum(-1)), c, z, other)


def _bounded(probe: Probe) -> _Model:
    r"""Of the likelihood m + (1 - m) Phi(a z_1 + b), whose evidence is m + (1 - m) Phi(b / s)."""
    b = 1.5 * probe.normal("b", _BOUNDED) - 1.5

    def values(z: Tensor) -> Tensor:
        step = torch.special.ndtr(_STEEP * z[..., 0] + b.to(z))
        return torch.log(_LEAST + (1 - _LEAST) * step)

    p = torch.special.ndtr(b.double() / math.sqrt(1 + _STEEP**2))
    prior = probe.normal("bounded prior", _CHAINS, _BOUNDED, 2)
    generator = probe.generator("bounded posterior")
    posterior = torch.full_like(prior, math.nan)
    while bool((left := posterior[..., 0].isnan()).any()):  # by rejection
        z = torch.randn(prior.shape, generator=generator, dtype=torch.float64).to(prior)
        u = torch.rand(left.shape, generator=generator, dtype=torch.float64).to(prior)
        posterior = torch.where((left & (u.log() < values(z)))[..., None], z, posterior)
    likelihood = _likelihood(_BOUNDED, values)
    return _Model(likelihood, torch.log(_LEAST + (1 - _LEAST) * p), prior, posterior)


def _sharp(probe: Probe) -> _Model:
    """Of the linear model x_d = z_d + e, whose posterior has a third of the prior's variance."""
    s2, latents = 0.5, 8
    z0, noise = (probe.normal(f"sharp {n}", _SHARP, latents) for n in ("code", "noise"))
    x = z0 + math.sqrt(s2) * noise

    def values(z: Tensor) -> Tensor:
        return -0.5 * ((x.to(z) - z).square() / s2 + math.log(2 * math.pi * s2)).sum(-1)

    spread = 1 + s2
    squares = x.double().square() / spread + math.log(2 * math.pi * spread)
    prior, eps = (probe.normal(f"sharp {n}", 1, _SHARP, latents) for n in ("prior", "eps"))
    posterior = x / spread + math.sqrt(s2 / spread) * eps
    return _Model(_likelihood(_SHARP, values), -0.5 * squares.sum(-1), prior, posterior)


def _estimates(probe: Probe, part: str, model: _Model, steps: int) -> Tensor:
    """Ask for the estimates of the examples; average the weights if each chain has its own."""
    upper = part == "log_evidence_upper"
    z = model.posterior if upper else model.prior
    betas = torch.linspace(0, 1, steps + 1, dtype=probe.dtype)
    subject: Any = probe.subject
    subject.seed(probe.number(f"{part} {steps} {z.shape}"))
    with probe.calling():
        answer = getattr(subject, part)(
            _log_prior, model.log_likelihood, z.clone(), betas.flip(0) if upper else betas
        )
    found: Tensor = answer.detach().double()
    if found.shape == z.shape[:-1] and len(z) > 1:
        sign = -1 if upper else 1
        return sign * ((sign * found).logsumexp(0) - math.log(len(z)))
    if found.numel() != len(model.evidence):
        raise NotApplicable(
            f"{part} returned the shape {tuple(found.shape)} for {len(model.evidence)} examples: "
            "return one estimate for each example"
        )
    return found.flatten()


def _require_flat(probe: Probe, part: str) -> None:
    model = _flat(probe)
    require_agreement(
        "the estimate of log p(x), where the likelihood is the same for all codes,",
        _estimates(probe, part, model, 4),
        model.evidence,
        scale=16 * (1 + model.evidence.double().abs() + _log_prior(model.prior).abs().amax(0)),
        dtype=probe.dtype,
        inputs={"log_likelihood": model.evidence},
    )


@of_lower(
    "evidence/flat-likelihood",
    statement="If all codes explain x equally well, the lower estimate is the log of their "
    "likelihood.",
    formula=r"p(x \mid z) = c \quad\Rightarrow\quad \log\tfrac1K\textstyle\sum_k w_k = \log c",
    source=_AIS,
    kind="exact",
    tolerance="512 roundings of the terms of a weight",
    kills=(
        "ais-without-log-k",
        "ais-averaged-over-temperatures",
        "ais-schedule-reversed",
        "ais-last-temperature-left-out",
        "ais-prior-in-the-weights",
    ),
)
def flat_likelihood(probe: Probe) -> None:
    _require_flat(probe, "log_evidence_lower")


@of_upper(
    "evidence/flat-likelihood-from-above",
    statement="If all codes explain x equally well, the upper estimate is the log of their "
    "likelihood.",
    formula=r"p(x \mid z) = c \quad\Rightarrow\quad -\log\tfrac1K\textstyle\sum_k w_k = \log c",
    source=_BDMC,
    kind="exact",
    tolerance="512 roundings of the terms of a weight",
    kills=("reverse-without-log-k", "reverse-not-negated"),
)
def flat_likelihood_from_above(probe: Probe) -> None:
    _require_flat(probe, "log_evidence_upper")


def _chernoff(share: float, mean: float, n: int) -> float:
    """Bound the probability that n numbers in [0, 1] of a known mean have so extreme an average.

    P(average >= a) <= exp(-n kl(a || mean)): Hoeffding 1963, theorem 1.
    """
    if not 0 <= share <= 1:
        return 0.0
    pairs = ((share, mean), (1 - share, 1 - mean))
    return min(1.0, 2 * math.exp(-n * sum(a * math.log(a / q) for a, q in pairs if a > 0)))


def _require_unbiased(probe: Probe, part: str) -> None:
    """Where w lies in [m, 1], the average of exp(estimate) does, and its distance is bounded."""
    model = _bounded(probe)
    sign, least, most = (1, _LEAST, 1.0) if part == "log_evidence_lower" else (-1, 1.0, 1 / _LEAST)
    found = _estimates(probe, part, model, 3)
    weights, expected = (torch.exp(sign * t) for t in (found, model.evidence))
    rounding = 1e-3 * least  # a weight on the edge may be outside by rounding
    outside = ~((weights >= least - rounding) & (weights <= most + rounding))
    if bool(outside.any()):
        worst = float(found[int(outside.double().argmax())])
        low, high = sorted((sign * math.log(least), sign * math.log(most)))
        raise Violation(
            f"an estimate of log p(x) is {worst:.4g}, though log p(x|z) lies in [{low:g}, "
            f"{high:g}] for all codes",
            symptom="outside",
            counterexample={"got": float(found.mean())},
        )
    share, mean = (
        float(((t.clamp(least, most) - least) / (most - least)).mean())
        for t in (weights, expected)
    )
    p = _chernoff(share, mean, len(found))
    if not p >= probe.alpha:
        of = "p(x)" if sign == 1 else "1 / p(x)"
        ratio = float(weights.mean() / expected.mean())
        raise Violation(
            f"the exponential of {'the' if sign == 1 else 'minus the'} estimate is {ratio:.4g} of "
            f"{of}, on average over {len(found):,} examples (p < {p:.1g})",
            symptom="too-large" if ratio > 1 else "too-small",
            counterexample={"got": ratio, "expected": 1.0},
        )


@of_lower(
    "evidence/lower-unbiased",
    statement="The exponential of the lower estimate is p(x) in expectation, for any number of "
    "chains and temperatures.",
    formula=r"E\Big[\tfrac1K\textstyle\sum_k w_k\Big] = p(x)",
    source=_AIS,
    kind="statistical",
    tolerance="an average that is wrong by 7 %, by Chernoff's bound",
    kills=(
        "ais-mean-of-logs",
        "ais-weights-of-new-states",
        "ais-moves-to-another-target",
        "ais-moves-without-prior",
        "ais-resampled-and-weighed-again",
    ),
    builds_on=("evidence/flat-likelihood",),
)
def lower_unbiased(probe: Probe) -> None:
    _require_unbiased(probe, "log_evidence_lower")


@of_upper(
    "evidence/upper-unbiased",
    statement="The exponential of minus the upper estimate is 1/p(x) in expectation, if the "
    "chains start at draws from the true posterior.",
    formula=r"E\Big[\tfrac1K\textstyle\sum_k w_k\Big] = \frac1{p(x)}",
    source=_BDMC,
    kind="statistical",
    tolerance="an average that is wrong by 10 %, by Chernoff's bound",
    kills=("reverse-weights-of-new-states", "reverse-averaged-inverse"),
    builds_on=("evidence/flat-likelihood-from-above",),
)
def upper_unbiased(probe: Probe) -> None:
    _require_unbiased(probe, "log_evidence_upper")


def _require_bound(probe: Probe, excess: Tensor, what: str) -> None:
    """Raise if the sum of what E[exp(excess)] <= 1 was derived for is too large (Markov)."""
    total = float(excess.sum())
    limit = math.log(1 / probe.alpha)
    if not total <= limit:
        raise Violation(
            f"{what} by {total / len(excess):.4g} nats, on average over {len(excess)} examples; "
            f"more than {limit / len(excess):.2g} has a probability below {probe.alpha:.1g}, "
            "however bad the chains are",
            symptom="crosses",
            counterexample={"got": total / len(excess), "expected": 0.0},
        )


@of_lower(
    "evidence/lower-never-above",
    statement="The lower estimate is above log p(x) by more than t with a probability of at most "
    "e^-t, even if the posterior is narrow and the temperatures are few.",
    formula=r"P\Big(\textstyle\sum_n \log w_n > \sum_n \log p(x_n) + t\Big) \le e^{-t}",
    source="Grosse, Ghahramani and Adams 2015, section 2.1 (Markov's inequality)",
    kind="statistical",
    tolerance="estimates that are 0.1 nats above log p(x) on average",
    kills=("ais-weights-of-new-states", "ais-moves-to-another-target"),
    builds_on=("evidence/flat-likelihood", "evidence/lower-unbiased"),
)
def lower_never_above(probe: Probe) -> None:
    model = _sharp(probe)
    found = _estimates(probe, "log_evidence_lower", model, 8)
    _require_bound(probe, found - model.evidence, "the lower estimate is above log p(x)")


@of_upper(
    "evidence/upper-never-below",
    statement="The upper estimate is below log p(x) by more than t with a probability of at most "
    "e^-t, even if the posterior is narrow and the temperatures are few.",
    formula=r"P\Big(\textstyle\sum_n -\log w_n < \sum_n \log p(x_n) - t\Big) \le e^{-t}",
    source="Grosse, Ghahramani and Adams 2015, section 3 (Markov's inequality)",
    kind="statistical",
    tolerance="estimates that are 0.1 nats below log p(x) on average",
    kills=("reverse-weights-of-new-states",),
    builds_on=("evidence/flat-likelihood-from-above", "evidence/upper-unbiased"),
)
def upper_never_below(probe: Probe) -> Finding:
    model = _sharp(probe)
    found = _estimates(probe, "log_evidence_upper", model, 8)
    _require_bound(probe, model.evidence - found, "the upper estimate is below log p(x)")
    gaps = {}
    if probe.subject.has("log_evidence_lower"):
        for steps in (8, 64):
            ends = [
                _estimates(probe, f"log_evidence_{side}", model, steps).mean()
                for side in ("lower", "upper")
            ]
            gaps[f"gap at {steps} temperatures"] = f"{float(ends[1] - ends[0]):.3g} nats"
    return Finding(facts=gaps)


@registry.claim(
    "evidence/path-ends",
    statement="The annealed density is the prior at temperature 0 and the joint density at 1.",
    formula=r"f_0(z) \propto p(z), \qquad f_1(z) \propto p(x, z)",
    source=_AIS,
    slot="log_annealed",
    needs=("log_annealed",),
    kind="exact",
    tolerance="64 roundings of the terms of the log densities",
    kills=("annealed-prior-too", "annealed-from-the-wrong-end"),
)
def path_ends(probe: Probe) -> None:
    model = _sharp(probe)
    log_annealed: Any = probe.fields.log_annealed
    z = probe.normal("path", 4, _SHARP, 8)
    wide, size = z.double(), _log_prior(z.double()).abs()
    likelihood = model.log_likelihood(wide)
    for beta in (0.0, 1.0):
        right = _log_prior(wide) + beta * likelihood
        found = log_annealed(_log_prior, model.log_likelihood, z.clone(), beta)
        found = found.detach().double().reshape(right.shape)
        require_agreement(
            f"the log density at temperature {beta:g}, less that of another code,",
            found[1:] - found[:1],
            right[1:] - right[:1],
            scale=2 * (size + likelihood.abs()).amax(0) * 2,
            dtype=probe.dtype,
            inputs={"beta": beta},
        )


def _gaussian(z: Tensor) -> Tensor:
    """Return the log density of N(0, diag(1, 1/4)), up to a constant."""
    return -0.5 * (z[..., 0].square() + 4 * z[..., 1].square())


def _quartic(z: Tensor) -> Tensor:
    return -0.25 * z.pow(4).sum(-1) - 0.5 * (z[..., 0] * z[..., 1]).square()


def _motion(precision: float, step: float, steps: int, *, codes_first: bool) -> Tensor:
    """Return the matrix by which leapfrog steps move (z, v) of one Gaussian latent."""
    eye = torch.eye(2, dtype=torch.float64)
    drift, kick = eye.clone(), eye.clone()
    drift[0, 1], kick[1, 0] = step, -step * precision
    outer, inner = (drift, kick) if codes_first else (kick, drift)
    half = (outer + eye) / 2
    moved: Tensor = torch.linalg.matrix_power(half @ inner @ half, steps)
    return moved


def _leap(probe: Probe, *arguments: Any) -> tuple[Tensor, Tensor]:
    leapfrog: Any = probe.fields.leapfrog
    z, v = leapfrog(*arguments)
    return z.detach(), v.detach()


@of_leapfrog(
    "evidence/leapfrog-on-a-gaussian",
    statement="On a Gaussian, leapfrog steps are this product of linear half and whole steps.",
    formula=r"\begin{pmatrix} z \\ v \end{pmatrix} \leftarrow "
    r"\Big(K_{\epsilon/2}\, D_\epsilon\, K_{\epsilon/2}\Big)^L "
    r"\begin{pmatrix} z \\ v \end{pmatrix}, \quad "
    r"D_\epsilon = \begin{pmatrix} 1 & \epsilon \\ 0 & 1 \end{pmatrix},\ "
    r"K_\epsilon = \begin{pmatrix} 1 & 0 \\ -\epsilon/\sigma^2 & 1 \end{pmatrix}",
    kind="exact",
    tolerance="32 roundings of the largest number on the way, for each step",
    kills=(
        "leapfrog-without-half-steps",
        "leapfrog-half-as-far",
        "leapfrog-without-the-last-half-step",
        "leapfrog-uphill",
    ),
)
def leapfrog_on_a_gaussian(probe: Probe) -> None:
    """Half steps may be those of the codes or of the momenta: both are called leapfrog."""
    z, v = (probe.normal(f"leap {name}", 3, 2) for name in ("z", "v"))
    for step, steps in ((0.25, 1), (0.25, 4), (0.75, 2)):  # exact in single precision, too
        found = _leap(probe, _gaussian, z.clone(), v.clone(), step, steps)
        got = torch.stack([tensor.double() for tensor in found])
        answers = []
        for codes_first in (False, True):
            moved = [
                _motion(c, step, steps, codes_first=codes_first)
                @ torch.stack([z[:, d], v[:, d]]).double()
                for d, c in enumerate((1.0, 4.0))
            ]
            answers.append(torch.stack(moved, dim=-1))
        right = min(answers, key=lambda answer: float((answer - got).abs()[0].sum()))
        if bool(((got[1] + right[1]).abs() < (got[1] - right[1]).abs()).all()):
            got[1] = -got[1]
        require_agreement(
            f"(z, v) after {steps} leapfrog steps of {step:g}",
            got,
            right,
            scale=4 * steps * (z.abs().max() + v.abs().max()),
            dtype=probe.dtype,
            inputs={"z": z, "v": v, "step": step, "steps": steps},
        )


@of_leapfrog(
    "evidence/leapfrog-goes-back",
    statement="Leapfrog steps with the momenta reversed lead back to the start.",
    formula=r"(z, v) \mapsto (z', v') \quad\Rightarrow\quad (z', -v') \mapsto (z, -v)",
    kind="metamorphic",
    tolerance="320 roundings of the largest number on the way, for each step",
    kills=("leapfrog-without-half-steps", "leapfrog-without-the-last-half-step"),
    builds_on=("evidence/leapfrog-on-a-gaussian",),
)
def leapfrog_goes_back(probe: Probe) -> None:
    z, v = (0.5 * probe.normal(f"back {name}", 3, 2) for name in ("z", "v"))
    turned = float(_leap(probe, _gaussian, z.clone(), v.clone(), 1e-3, 1)[1].mul(v).sum()) < 0
    there, end = _leap(probe, _quartic, z.clone(), v.clone(), 0.125, 5)
    back, _ = _leap(probe, _quartic, there.clone(), end if turned else -end, 0.125, 5)
    require_agreement(
        "z after the way there and back",
        back,
        z,
        scale=50 * (z.abs().max() + v.abs().max()),
        dtype=probe.dtype,
        inputs={"z": z, "v": v},
    )


@registry.claim(
    "evidence/metropolis",
    statement="A proposal is accepted with the Metropolis probability.",
    formula=r"\min\big(1, e^{H - H'}\big)",
    source=_HMC,
    slot="acceptance",
    needs=("acceptance",),
    kind="exact",
    tolerance="64 roundings of the energies",
    kills=("acceptance-reversed", "acceptance-ratio-of-energies"),
)
def metropolis(probe: Probe) -> None:
    before, after = (10 + 2 * probe.normal(f"energy {name}", 8) for name in ("before", "after"))
    accept: Any = probe.fields.acceptance
    found = accept(before.clone(), after.clone()).detach()
    require_agreement(
        "the probability to accept",
        found.clamp(max=1.0).flatten(),
        torch.exp(before.double() - after.double()).clamp(max=1.0),
        scale=2 * (1 + before.abs() + after.abs()),
        dtype=probe.dtype,
        inputs={"before": before, "after": after},
    )


@registry.claim(
    "evidence/move-leaves-the-target",
    statement="Codes that are drawn from a density are still draws from it after a move.",
    formula=r"z \sim f,\ z' \sim T(z' \mid z) \quad\Rightarrow\quad z' \sim f",
    source=_HMC,
    slot="hmc_step",
    needs=("hmc_step",),
    kind="statistical",
    tolerance="a mean that is wrong by 0.12 sigma, a sigma that is wrong by 8 %",
    kills=(
        "hmc-always-accepts",
        "hmc-energy-of-the-old-momentum",
        "hmc-kinetic-energy-of-the-codes",
        "hmc-keeps-accepted-only",
        "hmc-momentum-shared",
    ),
)
def move_leaves_the_target(probe: Probe) -> Finding:
    """Gaussians that are narrower, as wide and wider than a step, with a correlation of 0.6."""
    subject: Any = probe.subject
    alpha = probe.alpha / (5 * len(_SCALES))
    shares = []
    for scale in _SCALES:
        mean = torch.tensor([1.0, -2.0], dtype=probe.dtype)
        root = scale * torch.tensor([[1.0, 0.0], [0.6, 0.8]], dtype=probe.dtype)
        back = torch.linalg.inv(root)

        def log_density(z: Tensor, mean: Tensor = mean, back: Tensor = back) -> Tensor:
            return -0.5 * ((z - mean.to(z)) @ back.T.to(z)).square().sum(-1)

        start = mean + probe.normal(f"start {scale}", _MOVED, 2) @ root.T
        z = start
        subject.seed(probe.number(f"moves {scale}"))
        for _ in range(3):
            with probe.calling():
                z = subject.hmc_step(log_density, z.clone()).detach()
        shares.append(f"{float((z != start).any(-1).double().mean()):.0%} at {scale:g}")
        eps = ((z.double() - mean.double()) @ back.T.double()).numpy()
        found = []
        for column in eps.T:
            found.append(("mean", statistics.mean(column), column.mean()))
            size = (column**2).mean() ** 0.5
            found.append(("deviation", statistics.chi_square(column), size))
        r = statistics.correlation(eps[:, 0], eps[:, 1])
        for what, p, value in [*found, ("correlation", r, (eps[:, 0] * eps[:, 1]).mean())]:
            if not p >= alpha:
                raise Violation(
                    f"after three moves from draws of a Gaussian of the scale {scale:g}, their "
                    f"standardised {what} is {value:.4g} (p = {p:.1g})",
                    symptom=what,
                    counterexample={"got": float(value), "scale": scale},
                )
    return Finding(facts={"codes that move, by scale": ", ".join(shares)})
