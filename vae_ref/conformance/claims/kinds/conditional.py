"""Claims about conditional VAEs and learned priors: p(z|c) = N(mu_p(c), sigma_p^2(c))."""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vae_ref.conformance.answers import statistics
from vae_ref.conformance.answers.comparison import require_agreement
from vae_ref.conformance.claims import registry
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import Violation

_SOURCE = "Kingma and Welling 2014, appendix B; Sohn, Lee and Yan 2015, equation 4"
_TERMS = "32 roundings of the sum of the terms' absolute values"
_NEEDS = ("kl_between",)
_VALUE = ("conditional/kl-of-two-gaussians",)
_DRAWS = 4_000  # for each of two examples, of 5 latents: a mean wrong by 0.07 sigma is found

of_kl = partial(registry.claim, slot="kl_between", source=_SOURCE, needs=_NEEDS, tolerance=_TERMS)
of_networks = partial(registry.claim, source="Sohn, Lee and Yan 2015, section 4.1")

Gaussians = tuple[Tensor, Tensor, Tensor, Tensor]


def _exact(mu: Tensor, logvar: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    """Return the KL of two Gaussians per latent, without cancellation where they agree."""
    excess = torch.expm1(logvar - logvar_p) - (logvar - logvar_p)
    return 0.5 * (excess + (mu - mu_p).square() * torch.exp(-logvar_p))


def _scale(mu: Tensor, logvar: Tensor, mu_p: Tensor, logvar_p: Tensor) -> Tensor:
    ratio, distance = torch.exp(logvar - logvar_p), (mu.abs() + mu_p.abs()).square()
    terms = 1 + logvar.abs() + logvar_p.abs() + (1 + logvar.abs() + logvar_p.abs()) * ratio
    return 0.5 * (terms + distance * torch.exp(-logvar_p)).sum(-1)


def _gaussians(probe: Probe, name: str, examples: int, latents: int) -> Gaussians:
    mu, logvar, mu_p, logvar_p = (
        probe.normal(f"{name} {part} {examples}", examples, latents)
        for part in ("mu", "logvar", "mu_p", "logvar_p")
    )
    return mu, logvar, 1.5 * mu_p, logvar_p


def _named(gaussians: Gaussians) -> dict[str, Tensor]:
    return dict(zip(("mu", "logvar", "mu_p", "logvar_p"), gaussians, strict=True))


def _require_kl(probe: Probe, gaussians: Gaussians, what: str = "the KL") -> None:
    mu, logvar, mu_p, logvar_p = (tensor.double() for tensor in gaussians)
    wide = mu, logvar, mu_p, logvar_p
    require_agreement(
        what,
        probe.each("kl_between", *gaussians),
        _exact(*wide).sum(-1),
        scale=_scale(*wide),
        dtype=probe.dtype,
        inputs=_named(gaussians),
    )


@of_kl(
    "conditional/kl-of-two-gaussians",
    statement="The KL divergence of a diagonal Gaussian from the prior of its example has this "
    "value.",
    formula=r"\mathrm{KL} = \tfrac12 \sum_d \Big(\frac{\sigma_d^2 + (\mu_d - \mu_{p,d})^2}"
    r"{\sigma_{p,d}^2} - 1 - \log\frac{\sigma_d^2}{\sigma_{p,d}^2}\Big)",
    kind="exact",
    kills=(
        "prior-kl-reversed",
        "prior-kl-without-half",
        "prior-kl-of-means-without-variance",
        "prior-kl-without-log-ratio",
        "prior-kl-sigma-for-variance",
        "prior-kl-mean-over-latents",
        "prior-ignored",
        "prior-kl-halved-log-ratio",
        "prior-kl-without-prior-mean",
        "prior-kl-variance-divided-twice",
        "prior-shared-over-batch",
    ),
)
def kl_of_two_gaussians(probe: Probe) -> None:
    for examples, latents in ((1, 1), (3, 5), (4, 2)):
        _require_kl(probe, _gaussians(probe, "value", examples, latents))


@of_kl(
    "conditional/kl-from-the-standard-normal",
    statement="For a standard normal prior it is the KL of the textbook.",
    formula=r"\mu_p = 0,\ \sigma_p = 1:\quad \mathrm{KL} = "
    r"\tfrac12 \sum_d (\mu_d^2 + \sigma_d^2 - 1 - \log\sigma_d^2)",
    kind="exact",
    kills=("prior-kl-reversed", "prior-kl-without-half"),
    builds_on=_VALUE,
)
def kl_from_the_standard_normal(probe: Probe) -> None:
    mu, logvar, *_ = _gaussians(probe, "standard", 3, 5)
    zero = torch.zeros_like(mu)
    _require_kl(probe, (mu, logvar, zero, zero), "the KL from the standard normal")


@of_kl(
    "conditional/kl-zero-at-the-prior",
    statement="The KL divergence of a prior from itself is zero.",
    formula=r"\mathrm{KL}(p \,\|\, p) = 0",
    kind="exact",
    kills=("prior-ignored", "prior-kl-without-log-ratio"),
    builds_on=_VALUE,
)
def kl_zero_at_the_prior(probe: Probe) -> None:
    _, _, mu_p, logvar_p = _gaussians(probe, "zero", 3, 5)
    _require_kl(probe, (mu_p, logvar_p, mu_p, logvar_p), "the KL of a prior from itself")


@of_kl(
    "conditional/kl-invariant",
    statement="The KL divergence does not change if posterior and prior are shifted and scaled "
    "together.",
    formula=r"\mathrm{KL}\big(N(a + b\mu, b^2\sigma^2)\,\|\,N(a + b\mu_p, b^2\sigma_p^2)\big) = "
    r"\mathrm{KL}\big(N(\mu, \sigma^2)\,\|\,N(\mu_p, \sigma_p^2)\big)",
    kind="metamorphic",
    kills=("prior-ignored", "prior-kl-of-means-without-variance"),
    builds_on=_VALUE,
)
def kl_invariant(probe: Probe) -> None:
    mu, logvar, mu_p, logvar_p = _gaussians(probe, "invariant", 3, 5)
    shift, log_b2 = probe.normal("shift", 3, 5), probe.normal("stretch", 3, 5)
    b = torch.exp(log_b2 / 2)
    moved = shift + b * mu, logvar + log_b2, shift + b * mu_p, logvar_p + log_b2
    require_agreement(
        "the KL of a posterior and a prior that were moved and stretched together",
        probe.each("kl_between", *moved),
        probe.each("kl_between", mu, logvar, mu_p, logvar_p),
        scale=2 * _scale(*(tensor.double() for tensor in moved)),
        dtype=probe.dtype,
        inputs=_named(moved),
    )


@of_kl(
    "conditional/kl-extremes",
    statement="The KL divergence is right for very narrow and very wide posteriors and priors "
    "too.",
    formula=r"|\log\sigma^2|, |\log\sigma_p^2| \le 30",
    kind="exact",
    kills=("prior-kl-clamped",),
    builds_on=_VALUE,
)
def kl_extremes(probe: Probe) -> None:
    for s, s_p in ((-30.0, -30.0), (30.0, 30.0), (-30.0, 0.0), (0.0, 30.0), (12.0, 9.0)):
        mu, _, mu_p, _ = _gaussians(probe, "extremes", 3, 5)
        one = torch.ones_like(mu)
        _require_kl(probe, (mu, s * one, mu_p, s_p * one))


def _require_slopes(probe: Probe, names: tuple[str, str], of_prior: bool) -> None:
    gaussians = _gaussians(probe, "slopes", 3, 5)
    found = probe.gradient(lambda *given: probe.each("kl_between", *given), *gaussians)
    leaves = tuple(tensor.double().requires_grad_() for tensor in gaussians)
    exact = torch.autograd.grad(_exact(*leaves).sum(), leaves)
    ratio = torch.exp(gaussians[1].double() - gaussians[3].double())
    distance = (gaussians[0].double().abs() + gaussians[2].double().abs()).square()
    scale = 1 + ratio + (1 + distance) * torch.exp(-gaussians[3].double())
    for index, name in enumerate(names, 2 * of_prior):
        symptom = "no-gradient" if not bool(found[index].any()) else ""
        require_agreement(
            f"the derivative of the KL with respect to {name}",
            found[index],
            exact[index],
            scale=scale,
            dtype=probe.dtype,
            inputs=_named(gaussians),
            symptom=symptom,
        )


@of_kl(
    "conditional/kl-slopes-of-the-posterior",
    statement="The derivatives of the KL divergence with respect to the parameters of the "
    "posterior are these.",
    formula=r"\frac{\partial\mathrm{KL}}{\partial\mu} = \frac{\mu - \mu_p}{\sigma_p^2}, \qquad "
    r"\frac{\partial\mathrm{KL}}{\partial\log\sigma^2} = "
    r"\tfrac12\Big(\frac{\sigma^2}{\sigma_p^2} - 1\Big)",
    kind="gradient",
    kills=("prior-kl-detached-posterior",),
    builds_on=_VALUE,
)
def kl_slopes_of_the_posterior(probe: Probe) -> None:
    probe.require_gradient("kl_between")
    _require_slopes(probe, ("mu", "logvar"), of_prior=False)


@of_kl(
    "conditional/kl-slopes-of-the-prior",
    statement="The derivatives of the KL divergence with respect to the parameters of the prior "
    "are these: the prior learns from it.",
    formula=r"\frac{\partial\mathrm{KL}}{\partial\mu_p} = \frac{\mu_p - \mu}{\sigma_p^2}, \qquad "
    r"\frac{\partial\mathrm{KL}}{\partial\log\sigma_p^2} = "
    r"\tfrac12\Big(1 - \frac{\sigma^2 + (\mu - \mu_p)^2}{\sigma_p^2}\Big)",
    kind="gradient",
    kills=("prior-kl-detached-prior",),
    builds_on=_VALUE,
)
def kl_slopes_of_the_prior(probe: Probe) -> None:
    probe.require_gradient("kl_between")
    _require_slopes(probe, ("mu_p", "logvar_p"), of_prior=True)


@of_kl(
    "conditional/evidence",
    statement="In the linear model of x given c, with the true posterior, reconstruction and KL "
    "add up to -log p(x|c).",
    formula=r"z \sim N(\mu_p, \sigma_p^2),\ x \mid z \sim N(wz, s^2):\quad "
    r"E_q[-\log p(x \mid z)] + \mathrm{KL}(q \,\|\, p(z \mid c)) = -\log p(x \mid c)",
    kind="identity",
    kills=("prior-ignored", "prior-kl-reversed"),
    builds_on=_VALUE,
)
def evidence(probe: Probe) -> None:
    """Every latent has a pixel of its own, whose evidence is that of a Gaussian."""
    mu_p, logvar_p = (probe.normal(f"evidence {n}", 3, 5).double() for n in ("mu_p", "logvar_p"))
    w, x, s2 = 1 + probe.uniform("w", 3, 5).double(), probe.normal("x", 3, 5).double(), 0.5
    v_p = torch.exp(logvar_p)
    v = 1 / (1 / v_p + w**2 / s2)
    mu = v * (mu_p / v_p + w * x / s2)
    reconstruction = (((x - w * mu) ** 2 + w**2 * v) / s2 + math.log(2 * math.pi * s2)) / 2
    variance = w**2 * v_p + s2
    exact = ((x - w * mu_p) ** 2 / variance + torch.log(2 * math.pi * variance)) / 2
    given: Gaussians = (mu, torch.log(v), mu_p, logvar_p)
    found = probe.each("kl_between", *(tensor.to(probe.dtype) for tensor in given)).double()
    require_agreement(
        "the negative ELBO of the linear model with its true posterior",
        found + reconstruction.sum(1),
        exact.sum(1),
        scale=_scale(*given) + reconstruction.abs().sum(1) + exact.abs().sum(1),
        dtype=probe.dtype,
        inputs=_named(given),
    )


def _prior(probe: Probe, c: object) -> tuple[Tensor, Tensor]:
    """Return the subject's prior: means and log variances, flat."""
    mu_p, logvar_p = probe.fields.prior(c)
    return mu_p.detach().double().flatten(1), logvar_p.detach().double().flatten(1)


@of_networks(
    "conditional/draws-from-the-prior",
    statement="New codes are drawn from the prior of their condition, not from another one.",
    formula=r"z \sim N(\mu_p(c), \sigma_p^2(c))",
    slot="draw_prior",
    needs=("prior", "draw_prior", "conditions"),
    kind="statistical",
    tolerance="a mean wrong by 0.1 sigma and a sigma wrong by 10 % are found",
    kills=(
        "prior-drawn-from-standard-normal",
        "prior-drawn-without-noise",
        "prior-drawn-too-wide",
    ),
)
def draws_from_the_prior(probe: Probe) -> None:
    subject = probe.fields
    c = subject.conditions(2)
    mu_p, logvar_p = _prior(probe, c)
    subject.seed(probe.number("draws"))
    drawn = torch.stack(
        [subject.draw_prior(c).detach().double().flatten(1) for _ in range(_DRAWS)]
    )
    if drawn.shape[1:] != mu_p.shape:
        found, right = tuple(drawn.shape[1:]), tuple(mu_p.shape)
        raise Violation(f"a draw has shape {found}, its prior {right}", symptom="shape")
    eps = (drawn - mu_p) * torch.exp(-logvar_p / 2)
    if not bool((drawn[0] != drawn[1]).any()):
        raise Violation("two draws from the prior are the same", symptom="frozen")
    alpha = probe.alpha / (2 * mu_p.numel())
    for index, sample in enumerate(eps.flatten(1).T):
        values = sample.numpy()
        for what, p, symptom in (
            ("mean", statistics.mean(values), "mean"),
            ("deviation", statistics.chi_square(values), "sigma"),
        ):
            if not p >= alpha:  # true for NaN too
                size = values.mean() if symptom == "mean" else (values**2).mean() ** 0.5
                raise Violation(
                    f"(z - mu_p) / sigma_p of latent {index} has the {what} {size:.4f} over "
                    f"{_DRAWS:,} draws, not {int(symptom == 'sigma')} (p = {p:.1g})",
                    symptom=symptom,
                )


@of_networks(
    "conditional/the-condition-counts",
    statement="The condition changes the prior or what a code is decoded to.",
    formula=r"p(x \mid c) \ne p(x \mid c')",
    slot="decode_given",
    needs=("decode_given", "conditions"),
    kind="metamorphic",
    tolerance="none: bit for bit",
    kills=("condition-unused",),
)
def the_condition_counts(probe: Probe) -> None:
    subject = probe.fields
    c = subject.conditions(6)
    prior = subject.prior
    z = _codes(probe, c, 1).expand(6, -1)
    outputs = subject.decode_given(z.clone(), c).detach()
    moves = bool((outputs != outputs[:1]).any())
    if prior is not None:
        mu_p, logvar_p = _prior(probe, c)
        moves |= bool((mu_p != mu_p[:1]).any()) or bool((logvar_p != logvar_p[:1]).any())
    if not moves:
        raise Violation(
            "six conditions give the same outputs"
            + (" and the same prior" if prior else "")
            + ": nothing depends on the condition",
            symptom="unused",
        )


@of_networks(
    "conditional/a-condition-for-each-example",
    statement="The decoder's output for an example depends on the condition of that example "
    "alone.",
    formula=r"\mathrm{decoder}(z_n, c_n)",
    slot="decode_given",
    needs=("decode_given", "conditions"),
    kind="metamorphic",
    tolerance="32 roundings of the outputs, of the largest in the batch",
    kills=("condition-averaged-over-batch", "condition-of-another-example"),
)
def a_condition_for_each_example(probe: Probe) -> None:
    subject = probe.fields
    c = subject.conditions(4)
    z = _codes(probe, c, 4)
    whole = subject.decode_given(z.clone(), c).detach().double().flatten(1)
    for n in range(4):
        alone = subject.decode_given(z[n : n + 1].clone(), _row(c, n))
        require_agreement(
            f"what example {n} is decoded to, in a batch of four,",
            whole[n : n + 1],
            alone.detach().double().flatten(1),
            scale=whole.abs().max() * math.sqrt(whole.shape[1]),
            dtype=torch.float32 if alone.dtype == torch.float32 else probe.dtype,
            inputs={"z": z},
        )


def _codes(probe: Probe, c: object, n: int) -> Tensor:
    """Return codes in the precision of the prior, or of torch's networks by default."""
    prior = probe.fields.prior
    dtype = prior(c)[0].dtype if prior else torch.get_default_dtype()
    return probe.normal("z", n, _latents(probe, c)).to(dtype)


def _latents(probe: Probe, c: object) -> int:
    """Return the number of latents of a code."""
    shape = probe.conventions.latent_shape
    if shape:
        return math.prod(shape)
    prior = probe.fields.prior
    return _prior(probe, c)[0].shape[1] if prior else 2


def _row(c: Any, n: int) -> Any:
    """Return the condition of one example, of a tensor or a tuple or dict of tensors."""
    if isinstance(c, dict):
        return {key: value[n : n + 1] for key, value in c.items()}
    if isinstance(c, tuple | list):
        return type(c)(value[n : n + 1] for value in c)
    return c[n : n + 1]
