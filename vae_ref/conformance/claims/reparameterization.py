"""Claims about the sampler, z = mu + sigma eps."""

from functools import partial

import torch
from torch import Tensor

from vae_ref.conformance.answers import statistics
from vae_ref.conformance.answers.comparison import require_agreement
from vae_ref.conformance.answers.statistics import Sample
from vae_ref.conformance.claims import registry
from vae_ref.conformance.probe.draws import LATENTS, draws
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import Finding, NotApplicable, Violation

__all__ = ["require_affine"]

claim = partial(registry.claim, slot="sample")

_NEEDS = ("reparameterize",)
_SOURCE = "Kingma and Welling 2014, section 2.4"
_ROUNDED = "32 roundings of |mu| + sigma |eps|"
_AFFINE = ("reparameterization/affine",)

_SMIRNOV = 200_000
"""How many draws suffice to find a distribution function that is wrong by 0.02 anywhere."""


def _shape(probe: Probe) -> tuple[int, int]:
    return 3, probe.latents[0]


def require_affine(probe: Probe, mu: Tensor, logvar: Tensor, name: str) -> None:
    """Raise `Violation` unless z is mu + sigma eps, with the eps of the same seed."""
    seed = probe.number(name)
    eps = probe.eps((mu.shape[0], mu.shape[1]), seed)
    sigma = torch.exp(logvar.double() / 2)
    require_agreement(
        "z, with the noise that gives eps at mu = 0, logvar = 0,",
        probe.z(mu, logvar, seed),
        mu.double() + sigma * eps.double(),
        scale=mu.double().abs() + sigma * eps.double().abs(),
        dtype=probe.dtype,
        inputs={"mu": mu, "logvar": logvar, "eps": eps},
    )


@claim(
    "reparameterization/affine",
    statement="z is mu plus sigma times noise that depends on neither mu nor logvar.",
    formula=r"z = \mu + \sigma\varepsilon, \qquad \sigma = e^{\frac12 \log\sigma^2}",
    source=_SOURCE,
    needs=_NEEDS,
    kind="exact",
    tolerance=_ROUNDED,
    kills=("z-sigma-exp-logvar", "z-half-exp-logvar", "z-softplus-sigma", "z-no-mu"),
)
def affine(probe: Probe) -> None:
    one = torch.ones(1, probe.latents[-1], dtype=probe.dtype)
    for m, s in ((1.0, 0.0), (0.0, 2.0), (0.0, -2.0), (1.0, 1.0)):
        require_affine(probe, m * one, s * one, "affine small")
    shape = _shape(probe)
    mu, logvar = probe.normal("mu", *shape), 2 * probe.normal("logvar", *shape)
    require_affine(probe, mu, logvar, "affine")


@claim(
    "reparameterization/extremes",
    statement="z is right for a very small and a very large sigma too.",
    formula=r"z = \mu + \sigma\varepsilon, \quad |\log\sigma^2| \le 30",
    source=_SOURCE,
    needs=_NEEDS,
    kind="exact",
    tolerance=_ROUNDED,
    kills=("z-clamped-logvar", "z-sigma-floor"),
    builds_on=_AFFINE,
)
def extremes(probe: Probe) -> None:
    one = torch.ones(1, probe.latents[-1], dtype=probe.dtype)
    for s in (-8.0, 8.0, -15.0, 15.0, -30.0, 30.0):
        require_affine(probe, 0 * one, s * one, "extremes")


def _require_derivative(probe: Probe, with_respect_to: str) -> None:
    """Raise `Violation` unless z has the right derivative in mu, sigma or logvar."""
    shape, seed = _shape(probe), probe.number("gradient")
    mu, logvar = probe.normal("mu", *shape), probe.normal("logvar", *shape)
    cotangent = 1 + probe.uniform("cotangent", *shape)
    eps = probe.eps(shape, seed).double()
    function = probe.sampler(seed, cotangent)
    by_mu, by_logvar = (g.double() for g in probe.gradient(function, mu, logvar))
    v, sigma = cotangent.double(), torch.exp(logvar.double() / 2)
    got, exact, scale = {
        "mu": (by_mu, v, v),
        "sigma": (by_logvar * 2 / sigma, v * eps, v * eps.abs()),
        "logvar": (by_logvar, v * sigma * eps / 2, v * sigma * eps.abs() / 2),
    }[with_respect_to]
    require_agreement(
        f"dz/d{with_respect_to}",
        got / v,
        exact / v,
        scale=scale / v,
        dtype=probe.dtype,
        inputs={"mu": mu, "logvar": logvar, "eps": eps},
    )


@claim(
    "reparameterization/gradient-mu",
    statement="The derivative of z with respect to mu is 1.",
    formula=r"\partial z / \partial \mu = 1",
    source=_SOURCE,
    needs=_NEEDS,
    kind="gradient",
    tolerance="32 roundings",
    kills=("z-detached-mu", "z-no-grad", "z-from-distribution-sample"),
    builds_on=_AFFINE,
)
def gradient_mu(probe: Probe) -> None:
    _require_derivative(probe, "mu")


@claim(
    "reparameterization/gradient-sigma",
    statement="The derivative of z with respect to sigma is eps.",
    formula=r"\partial z / \partial \sigma = \varepsilon",
    source=_SOURCE,
    needs=_NEEDS,
    kind="gradient",
    tolerance="32 roundings of |eps|",
    kills=("z-detached-sigma", "z-no-grad"),
    builds_on=_AFFINE,
)
def gradient_sigma(probe: Probe) -> None:
    _require_derivative(probe, "sigma")


@claim(
    "reparameterization/gradient-logvar",
    statement="The derivative of z with respect to logvar is sigma eps / 2.",
    formula=r"\partial z / \partial \log\sigma^2 = \tfrac12 \sigma\varepsilon",
    source=_SOURCE,
    needs=_NEEDS,
    kind="gradient",
    tolerance="32 roundings of sigma |eps| / 2",
    kills=("z-detached-sigma", "z-half-exp-logvar", "z-sigma-exp-logvar"),
    builds_on=_AFFINE,
)
def gradient_logvar(probe: Probe) -> None:
    _require_derivative(probe, "logvar")


@claim(
    "reparameterization/fresh-noise",
    statement="Every call draws noise of its own.",
    formula=r"\varepsilon^{(1)} \ne \varepsilon^{(2)}",
    source=_SOURCE,
    needs=_NEEDS,
    kind="metamorphic",
    tolerance="none: two draws of 15 numbers do not agree by chance",
    kills=("z-frozen-noise", "z-mean", "z-reseeds"),
    builds_on=_AFFINE,
)
def fresh_noise(probe: Probe) -> None:
    first, second = _two_draws(probe, "fresh")
    if torch.equal(first, second):
        what = "the same z" if first.any() else "mu itself, without noise"
        symptom = "frozen" if first.any() else "mean"
        raise Violation(f"two calls returned {what}", symptom=symptom)


@claim(
    "reparameterization/reproducible",
    statement="The same seed gives the same noise, and another seed gives other noise.",
    formula=r"\varepsilon(s) = \varepsilon(s), \quad \varepsilon(s) \ne \varepsilon(s')",
    source="the contract of a generator that is seeded",
    needs=_NEEDS,
    kind="metamorphic",
    tolerance="none: bit for bit",
    kills=("z-noise-of-its-own", "z-reseeds"),
    builds_on=_AFFINE,
)
def reproducible(probe: Probe) -> None:
    if not probe.conventions.seeded:
        raise NotApplicable("it is declared that seeding does not repeat the noise")
    zero = torch.zeros(_shape(probe), dtype=probe.dtype)
    seeds = probe.number("one"), probe.number("other")
    one, again, other = (probe.z(zero, zero, seed).detach() for seed in (*seeds[:1], *seeds))
    if not torch.equal(one, again):
        raise Violation(
            "with the same seed, z differs: its noise comes from a generator that is not seeded",
            symptom="not-repeated",
        )
    if torch.equal(one, other):
        raise Violation("two seeds give the same z", symptom="frozen")


@claim(
    "reparameterization/samples-in-evaluation",
    statement="In evaluation mode too, z is sampled; with the mean in its place, the loss is no "
    "ELBO.",
    formula=r"z \sim q(z \mid x) \text{ in evaluation as in training}",
    source="Kingma, pytorch/examples pull request 419",
    needs=_NEEDS,
    kind="metamorphic",
    tolerance="none: bit for bit",
    kills=("z-mean-in-evaluation", "z-one-sigma-in-evaluation", "z-mean"),
    builds_on=_AFFINE,
)
def samples_in_evaluation(probe: Probe) -> Finding:
    zero = torch.zeros(_shape(probe), dtype=probe.dtype)
    with probe.mode(training=False):
        z = probe.z(zero, zero).detach()
    is_mean = not bool(z.any())
    if probe.conventions.evaluation == "mean":
        if not is_mean:
            raise Violation("in evaluation mode z is not the mean, which is declared")
        return Finding(
            facts={"evaluation": "z is the mean, as declared: the loss is not the ELBO"}
        )
    if is_mean:
        raise Violation(
            "in evaluation mode z is mu: the loss computed from it is not the ELBO",
            symptom="mean-in-evaluation",
        )
    one = float(z.flatten()[0])
    if bool((z == one).all()) and not torch.equal(*_two_draws(probe, "training")):
        raise Violation(  # if it does so in training, too, it is what fresh-noise says
            f"in evaluation mode z is mu + {one:.4g} sigma in every latent: nothing is sampled, "
            "and the loss computed from it is not the ELBO",
            symptom="frozen-in-evaluation",
        )
    return Finding()


def _two_draws(probe: Probe, name: str) -> tuple[Tensor, Tensor]:
    """Return the z of two calls at mu = 0 and logvar = 0, one after the other."""
    zero = torch.zeros(_shape(probe), dtype=probe.dtype)
    probe.subject.seed(probe.number(name))
    return probe.z(zero, zero).detach(), probe.z(zero, zero).detach()


def _require_likely(p: float, alpha: float, what: str, symptom: str = "") -> None:
    """Raise `Violation` with what was found if its p-value is below the level."""
    if not p >= alpha:  # true for nan too
        raise Violation(f"{what} (p = {p:.1g}, level {alpha:.1g})", symptom=symptom)


@claim(
    "reparameterization/mean",
    statement="The mean of z is mu.",
    formula=r"E[z] = \mu",
    source=_SOURCE,
    needs=_NEEDS,
    kind="statistical",
    tolerance="a mean wrong by 0.02 sigma is found",
    kills=("z-uniform-noise", "z-biased-noise"),
    builds_on=_AFFINE,
)
def mean(probe: Probe) -> None:
    eps = draws(probe).first
    found = f"the mean of (z - mu) / sigma is {eps.mean():.4f} over {eps.size:,} draws, not 0"
    _require_likely(statistics.mean(eps), probe.alpha, found)


@claim(
    "reparameterization/sigma",
    statement="The standard deviation of z is sigma.",
    formula=r"E[(z - \mu)^2] = \sigma^2",
    source=_SOURCE,
    needs=_NEEDS,
    kind="statistical",
    tolerance="a sigma wrong by 1 % is found",
    kills=("z-noise-too-small", "z-uniform-noise", "z-noise-2-percent-too-large"),
    builds_on=_AFFINE,
)
def sigma(probe: Probe) -> None:
    eps = draws(probe).first
    deviation = float((eps**2).mean()) ** 0.5
    found = f"the deviation of (z - mu) / sigma is {deviation:.4f} over {eps.size:,} draws, not 1"
    _require_likely(statistics.chi_square(eps), probe.alpha, found)


@claim(
    "reparameterization/symmetry",
    statement="The noise is symmetric: it has no skewness.",
    formula=r"E[\varepsilon^3] = 0",
    source="Neyman 1937, smooth tests",
    needs=_NEEDS,
    kind="statistical",
    tolerance="a skewness of 0.1 is found",
    kills=("z-exponential-noise",),
    builds_on=("reparameterization/mean",),
)
def symmetry(probe: Probe) -> None:
    values = statistics.legendre(draws(probe).first, 3)
    found = f"the noise is skewed: its third Legendre score is {values.mean():.4f}, not 0"
    p = statistics.score(values, statistics.legendre_bound(3))
    _require_likely(p, probe.alpha, found)


@claim(
    "reparameterization/fourth-moment",
    statement="The noise has the fourth moment of a normal distribution.",
    formula=r"E[\varepsilon^4] = 3",
    source="Neyman 1937, smooth tests",
    needs=_NEEDS,
    kind="statistical",
    tolerance="an excess kurtosis of 0.3 is found",
    kills=("z-laplace-noise", "z-uniform-noise-of-variance-1"),
    builds_on=("reparameterization/sigma",),
)
def fourth_moment(probe: Probe) -> None:
    eps = draws(probe).first
    values = statistics.legendre(eps, 4)
    found = f"the fourth moment of the noise is {(eps**4).mean():.3f}, not 3"
    p = statistics.score(values, statistics.legendre_bound(4))
    _require_likely(p, probe.alpha, found)


@claim(
    "reparameterization/tails",
    statement="The right share of the noise lies beyond three standard deviations.",
    formula=r"P(|\varepsilon| > 3) = 2\Phi(-3) \approx 0.0027",
    source="the binomial test",
    needs=_NEEDS,
    kind="statistical",
    tolerance="a tail probability wrong by 30 % is found",
    kills=("z-truncated-noise", "z-laplace-noise"),
    builds_on=("reparameterization/sigma",),
)
def tails(probe: Probe) -> None:
    eps = draws(probe).first
    share = float((abs(eps) > 3).mean())
    found = f"{100 * share:.3f} % of the noise lies beyond 3 sigma, not 0.270 %"
    _require_likely(statistics.tails(eps), probe.alpha, found)


@claim(
    "reparameterization/normal",
    statement="The noise is standard normal.",
    formula=r"\varepsilon \sim N(0, 1)",
    source="Kolmogorov 1933",
    needs=_NEEDS,
    kind="statistical",
    tolerance="a distribution function wrong by 0.02 anywhere is found",
    kills=("z-rounded-noise", "z-laplace-noise"),
    builds_on=(
        "reparameterization/mean",
        "reparameterization/sigma",
        # Draws that depend on each other are fewer than they seem, and may be far from normal.
        "reparameterization/independent-examples",
        "reparameterization/independent-latents",
    ),
)
def normal(probe: Probe) -> None:
    eps = draws(probe).first.ravel()[:_SMIRNOV]
    _require_likely(
        statistics.kolmogorov_smirnov(eps), probe.alpha, "the noise is not standard normal"
    )


def _require_independent(probe: Probe, pairs: list[tuple[str, Sample, Sample]]) -> None:
    """Raise `Violation` if two samples of a pair are correlated."""
    alpha = probe.alpha / len(pairs)
    for what, a, b in pairs:
        _require_likely(
            statistics.correlation(a, b), alpha, f"the noise of {what} is correlated", what
        )


@claim(
    "reparameterization/independent-examples",
    statement="The examples of a batch get independent noise.",
    formula=r"E[\varepsilon_n \varepsilon_m] = 0, \quad n \ne m",
    source=_SOURCE,
    needs=_NEEDS,
    kind="statistical",
    tolerance="a correlation of 0.02 is found",
    kills=("z-noise-shared-over-batch", "z-antithetic-halves"),
    builds_on=_AFFINE,
)
def independent_examples(probe: Probe) -> None:
    found = draws(probe)
    _require_independent(
        probe,
        [
            ("neighbouring examples", found.first[0::2], found.first[1::2]),
            ("the halves of a batch", *found.halves()),
        ],
    )


@claim(
    "reparameterization/independent-latents",
    statement="The latents of an example get independent noise.",
    formula=r"E[\varepsilon_d \varepsilon_e] = 0, \quad d \ne e",
    source=_SOURCE,
    needs=_NEEDS,
    kind="statistical",
    tolerance="a correlation of 0.02 is found",
    kills=("z-noise-shared-over-latents",),
    builds_on=_AFFINE,
)
def independent_latents(probe: Probe) -> None:
    eps = draws(probe).first
    half = eps.shape[1] // 2
    _require_independent(
        probe,
        [
            ("neighbouring latents", eps[:, 0::2], eps[:, 1::2]),
            ("the halves of the latents", eps[:, :half], eps[:, half : 2 * half]),
        ],
    )


@claim(
    "reparameterization/independent-calls",
    statement="Two calls get independent noise.",
    formula=r"E[\varepsilon^{(1)} \varepsilon^{(2)}] = 0",
    source=_SOURCE,
    needs=_NEEDS,
    kind="statistical",
    tolerance="a correlation of 0.02 is found",
    kills=("z-noise-drifts", "z-frozen-noise"),
    builds_on=("reparameterization/fresh-noise", *_AFFINE),
)
def independent_calls(probe: Probe) -> None:
    sample = draws(probe)
    _require_independent(probe, [("two calls", sample.first, sample.second)])


@claim(
    "reparameterization/unbiased-gradient",
    statement="The gradient of f(z) is an unbiased estimate of the gradient of E[f(z)].",
    formula=r"E[\nabla_\theta f(z)] = \nabla_\theta E[f(z)], \quad f(z) = z^2",
    source="Rezende, Mohamed and Wierstra 2014, equation 8",
    needs=_NEEDS,
    kind="statistical",
    tolerance="an error of 2 % in the gradient is found",
    kills=("z-detached-sigma", "z-detached-mu", "z-no-grad"),
    builds_on=("reparameterization/gradient-mu", "reparameterization/gradient-logvar"),
)
def unbiased_gradient(probe: Probe) -> None:
    """At mu = 1 the gradient 2z is normal. At mu = 0, d(z^2)/dlogvar / sigma^2 is chi-square."""
    alpha, sigma = probe.alpha / 2, 0.5
    latents = LATENTS * probe.latents[-1]
    shape = (statistics.draws_for_sigma(1.01, alpha) // latents + 2, latents)

    def square(mu: Tensor, logvar: Tensor) -> Tensor:
        return probe.z(mu, logvar) ** 2

    probe.require_gradient("reparameterize")
    probe.subject.seed(probe.number("unbiased"))
    logvar = torch.full(shape, 2 * torch.tensor(sigma).log().item(), dtype=probe.dtype)
    by_mu = probe.gradient(square, torch.ones(shape, dtype=probe.dtype), logvar)[0]
    standard = ((by_mu.double() - 2) / (2 * sigma)).numpy()
    found = f"dE[z^2]/dmu is {by_mu.double().mean():.4f} at mu = 1, not 2"
    _require_likely(statistics.mean(standard), alpha, found)
    by_logvar = probe.gradient(square, torch.zeros(shape, dtype=probe.dtype), logvar)[1]
    squares = (by_logvar.double() / sigma**2).clamp_min(0).sqrt().numpy()
    found = f"dE[z^2]/dlogvar is {by_logvar.double().mean():.5f}, not sigma^2 = {sigma**2}"
    _require_likely(statistics.chi_square(squares), alpha, found)
