"""What is true of z = mu + sigma eps."""

import torch
from torch import Tensor

from vae_ref.conformance import statistics
from vae_ref.conformance.bench import Bench
from vae_ref.conformance.compare import agree
from vae_ref.conformance.records import NotApplicable, Violation
from vae_ref.conformance.registry import claim, share
from vae_ref.conformance.sampling import LATENTS, draws
from vae_ref.conformance.statistics import Sample

_NEEDS = ("reparameterize",)
_SOURCE = "Kingma and Welling 2014, section 2.4"
_ROUNDED = "32 roundings of |mu| + sigma |eps|"
_AFFINE = ("reparameterization/affine",)


def _shape(bench: Bench) -> tuple[int, int]:
    return 3, bench.latents[0]


def _holds(bench: Bench, mu: Tensor, logvar: Tensor, name: str) -> None:
    seed = bench.number(name)
    eps = bench.eps((mu.shape[0], mu.shape[1]), seed)
    sigma = torch.exp(logvar.double() / 2)
    agree(
        "z under the noise that gives eps at mu = 0, logvar = 0,",
        bench.z(mu, logvar, seed),
        mu.double() + sigma * eps.double(),
        scale=mu.double().abs() + sigma * eps.double().abs(),
        dtype=bench.dtype,
        inputs={"mu": mu, "logvar": logvar, "eps": eps},
    )


@claim(
    "reparameterization/affine",
    statement="z is mu plus sigma times a noise that depends on neither mu nor logvar.",
    formula=r"z = \mu + \sigma\varepsilon, \qquad \sigma = e^{\frac12 \log\sigma^2}",
    source=_SOURCE,
    needs=_NEEDS,
    kind="exact",
    tolerance=_ROUNDED,
    kills=("z-sigma-exp-logvar", "z-half-exp-logvar", "z-softplus-sigma", "z-no-mu"),
)
def affine(bench: Bench) -> None:
    one = torch.ones(1, bench.latents[-1], dtype=bench.dtype)
    for m, s in ((1.0, 0.0), (0.0, 2.0), (0.0, -2.0), (1.0, 1.0)):
        _holds(bench, m * one, s * one, "affine small")
    shape = _shape(bench)
    _holds(bench, bench.normal("mu", *shape), 2 * bench.normal("logvar", *shape), "affine")


@claim(
    "reparameterization/extremes",
    statement="z stays right where sigma is very small or very large.",
    formula=r"z = \mu + \sigma\varepsilon, \quad |\log\sigma^2| \le 30",
    source=_SOURCE,
    needs=_NEEDS,
    kind="exact",
    tolerance=_ROUNDED,
    kills=("z-clamped-logvar", "z-sigma-floor"),
    builds_on=_AFFINE,
)
def extremes(bench: Bench) -> None:
    one = torch.ones(1, bench.latents[-1], dtype=bench.dtype)
    for s in (-8.0, 8.0, -15.0, 15.0, -30.0, 30.0):
        _holds(bench, 0 * one, s * one, "extremes")


def _derivative(bench: Bench, with_respect_to: str) -> None:
    shape, seed = _shape(bench), bench.number("gradient")
    mu, logvar = bench.normal("mu", *shape), bench.normal("logvar", *shape)
    cotangent = 1 + bench.uniform("cotangent", *shape)
    eps = bench.eps(shape, seed).double()
    function = bench.sampler(seed, cotangent)
    by_mu, by_logvar = (g.double() for g in bench.gradient(function, mu, logvar))
    v, sigma = cotangent.double(), torch.exp(logvar.double() / 2)
    got, exact, scale = {
        "mu": (by_mu, v, v),
        "sigma": (by_logvar * 2 / sigma, v * eps, v * eps.abs()),
        "logvar": (by_logvar, v * sigma * eps / 2, v * sigma * eps.abs() / 2),
    }[with_respect_to]
    agree(
        f"dz/d{with_respect_to}",
        got / v,
        exact / v,
        scale=scale / v,
        dtype=bench.dtype,
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
def gradient_mu(bench: Bench) -> None:
    _derivative(bench, "mu")


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
def gradient_sigma(bench: Bench) -> None:
    _derivative(bench, "sigma")


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
def gradient_logvar(bench: Bench) -> None:
    _derivative(bench, "logvar")


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
def fresh_noise(bench: Bench) -> None:
    zero = torch.zeros(_shape(bench), dtype=bench.dtype)
    bench.subject.seed(bench.number("fresh"))
    first, second = bench.z(zero, zero).detach(), bench.z(zero, zero).detach()
    if torch.equal(first, second):
        what = "the same z" if first.any() else "mu itself, without noise"
        symptom = "frozen" if first.any() else "mean"
        raise Violation(f"two calls returned {what}", symptom=symptom)


@claim(
    "reparameterization/reproducible",
    statement="Under one seed the noise is the same, under another it is not.",
    formula=r"\varepsilon(s) = \varepsilon(s), \quad \varepsilon(s) \ne \varepsilon(s')",
    source="reproducibility; see docs/notation",
    needs=_NEEDS,
    kind="metamorphic",
    tolerance="none: bit for bit",
    kills=("z-noise-of-its-own", "z-reseeds"),
    builds_on=_AFFINE,
)
def reproducible(bench: Bench) -> None:
    if not bench.conventions.seeded:
        raise NotApplicable("declared: the noise cannot be repeated by seeding")
    zero = torch.zeros(_shape(bench), dtype=bench.dtype)
    seeds = bench.number("one"), bench.number("other")
    one, again, other = (bench.z(zero, zero, seed).detach() for seed in (*seeds[:1], *seeds))
    if not torch.equal(one, again):
        raise Violation(
            "z differs under one seed: the noise does not come from the generator that is seeded",
            symptom="not-repeated",
        )
    if torch.equal(one, other):
        raise Violation("z is the same under two seeds", symptom="frozen")


@claim(
    "reparameterization/samples-in-evaluation",
    statement="In evaluation z is sampled too; with the mean in its place the loss is no ELBO.",
    formula=r"z \sim q(z \mid x) \text{ in evaluation as in training}",
    source="Kingma, pytorch/examples pull request 419",
    needs=_NEEDS,
    kind="metamorphic",
    tolerance="none: bit for bit",
    kills=("z-mean-in-evaluation", "z-mean"),
    builds_on=_AFFINE,
)
def samples_in_evaluation(bench: Bench) -> None:
    zero = torch.zeros(_shape(bench), dtype=bench.dtype)
    with bench.mode(training=False):
        z = bench.z(zero, zero).detach()
    taken = not bool(z.any())
    if bench.conventions.evaluation == "mean":
        bench.facts["evaluation"] = "takes the mean, as declared: its loss is not the ELBO"
        if not taken:
            raise Violation("in evaluation z is sampled, but the mean is declared")
    elif taken:
        raise Violation(
            "in evaluation mode z is mu: the loss computed there is not the ELBO",
            symptom="mean-in-evaluation",
        )


def _refuse(p: float, alpha: float, what: str, symptom: str = "") -> None:
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
def mean(bench: Bench) -> None:
    eps = draws(bench).first
    found = f"the mean of (z - mu) / sigma is {eps.mean():.4f} over {eps.size:,} draws, not 0"
    _refuse(statistics.mean(eps), share(), found)


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
def sigma(bench: Bench) -> None:
    eps = draws(bench).first
    root = float((eps**2).mean()) ** 0.5
    found = f"the deviation of (z - mu) / sigma is {root:.4f} over {eps.size:,} draws, not 1"
    _refuse(statistics.chi_square(eps), share(), found)


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
def symmetry(bench: Bench) -> None:
    values = statistics.legendre(draws(bench).first, 3)
    found = f"the noise is skewed: its third Legendre score is {values.mean():.4f}, not 0"
    _refuse(statistics.score(values, 7**0.5), share(), found)


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
def fourth_moment(bench: Bench) -> None:
    eps = draws(bench).first
    values = statistics.legendre(eps, 4)
    found = f"the fourth moment of the noise is {(eps**4).mean():.3f}, not 3"
    _refuse(statistics.score(values, 3.0), share(), found)


@claim(
    "reparameterization/tails",
    statement="As much noise lies beyond three standard deviations as should.",
    formula=r"P(|\varepsilon| > 3) = 2\Phi(-3) \approx 0.0027",
    source="the binomial test",
    needs=_NEEDS,
    kind="statistical",
    tolerance="a tail probability wrong by 30 % is found",
    kills=("z-truncated-noise", "z-laplace-noise"),
    builds_on=("reparameterization/sigma",),
)
def tails(bench: Bench) -> None:
    eps = draws(bench).first
    part = float((abs(eps) > 3).mean())
    found = f"{100 * part:.3f} % of the noise lie beyond 3 sigma, not 0.270 %"
    _refuse(statistics.tails(eps), share(), found)


@claim(
    "reparameterization/normal",
    statement="The noise is standard normal.",
    formula=r"\varepsilon \sim N(0, 1)",
    source="Kolmogorov 1933",
    needs=_NEEDS,
    kind="statistical",
    tolerance="a distribution function wrong by 0.02 anywhere is found",
    kills=("z-rounded-noise", "z-laplace-noise"),
    builds_on=("reparameterization/mean", "reparameterization/sigma"),
)
def normal(bench: Bench) -> None:
    eps = draws(bench).first.ravel()[:200_000]
    _refuse(statistics.kolmogorov_smirnov(eps), share(), "the noise is not standard normal")


def _independent(pairs: list[tuple[str, Sample, Sample]], symptom: str) -> None:
    alpha = share() / len(pairs)
    for what, a, b in pairs:
        _refuse(statistics.correlation(a, b), alpha, f"the noise of {what} is correlated", symptom)


@claim(
    "reparameterization/independent-examples",
    statement="Examples of a batch get independent noise.",
    formula=r"E[\varepsilon_n \varepsilon_m] = 0, \quad n \ne m",
    source=_SOURCE,
    needs=_NEEDS,
    kind="statistical",
    tolerance="a correlation of 0.02 is found",
    kills=("z-noise-shared-over-batch", "z-antithetic-halves"),
    builds_on=_AFFINE,
)
def independent_examples(bench: Bench) -> None:
    eps = draws(bench).first
    half = len(eps) // 2
    _independent(
        [
            ("neighbouring examples", eps[0 : 2 * half : 2], eps[1 : 2 * half : 2]),
            ("the halves of a batch", eps[:half], eps[half : 2 * half]),
        ],
        "shared-over-batch",
    )


@claim(
    "reparameterization/independent-latents",
    statement="Latents get independent noise.",
    formula=r"E[\varepsilon_d \varepsilon_e] = 0, \quad d \ne e",
    source=_SOURCE,
    needs=_NEEDS,
    kind="statistical",
    tolerance="a correlation of 0.02 is found",
    kills=("z-noise-shared-over-latents",),
    builds_on=_AFFINE,
)
def independent_latents(bench: Bench) -> None:
    eps = draws(bench).first
    half = eps.shape[1] // 2
    _independent(
        [
            ("neighbouring latents", eps[:, 0::2], eps[:, 1::2]),
            ("the halves of the latents", eps[:, :half], eps[:, half : 2 * half]),
        ],
        "shared-over-latents",
    )


@claim(
    "reparameterization/independent-calls",
    statement="Calls get independent noise.",
    formula=r"E[\varepsilon^{(1)} \varepsilon^{(2)}] = 0",
    source=_SOURCE,
    needs=_NEEDS,
    kind="statistical",
    tolerance="a correlation of 0.02 is found",
    kills=("z-noise-drifts", "z-frozen-noise"),
    builds_on=("reparameterization/fresh-noise", *_AFFINE),
)
def independent_calls(bench: Bench) -> None:
    sample = draws(bench)
    _independent([("two calls", sample.first, sample.second)], "shared-over-calls")


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
def unbiased_gradient(bench: Bench) -> None:
    """At mu = 1 the gradient 2z is normal; at mu = 0, d(z^2)/dlogvar / sigma^2 is chi-square."""
    alpha, sigma = share() / 2, 0.5
    examples = statistics.draws_for_sigma(1.01, alpha) // LATENTS + 1
    shape = (examples, LATENTS * bench.latents[-1])

    def square(mu: Tensor, logvar: Tensor) -> Tensor:
        return bench.z(mu, logvar) ** 2

    bench.differentiable("reparameterize")
    bench.subject.seed(bench.number("unbiased"))
    logvar = torch.full(shape, 2 * torch.tensor(sigma).log().item(), dtype=bench.dtype)
    by_mu = bench.gradient(square, torch.ones(shape, dtype=bench.dtype), logvar)[0]
    standard = ((by_mu.double() - 2) / (2 * sigma)).numpy()
    found = f"dE[z^2]/dmu is {by_mu.double().mean():.4f} at mu = 1, not 2"
    _refuse(statistics.mean(standard), alpha, found)
    by_logvar = bench.gradient(square, torch.zeros(shape, dtype=bench.dtype), logvar)[1]
    squares = (by_logvar.double() / sigma**2).clamp_min(0).sqrt().numpy()
    found = f"dE[z^2]/dlogvar is {by_logvar.double().mean():.5f}, not sigma^2 = {sigma**2}"
    _refuse(statistics.chi_square(squares), alpha, found)
