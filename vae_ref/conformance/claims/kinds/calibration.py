"""Claims about amortised posteriors: a simulated code is a draw from the true posterior."""

import math
from collections.abc import Mapping
from functools import partial
from itertools import combinations
from typing import Any

import torch
from scipy import special
from torch import Tensor

from vae_ref.conformance.answers import statistics
from vae_ref.conformance.answers.comparison import require_agreement
from vae_ref.conformance.claims import registry
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import Finding, NotApplicable, Violation
from vae_ref.conformance.subject import from_spread

_COOK = "Cook, Gelman and Rubin 2006, section 2"
_TALTS = "Talts et al. 2018, Simulation-Based Calibration, theorem 1"
_SIGMA, _DRAWS, _OF_ONE, _FEATURES = 1.05, 19, 500, 5
_OWN = ("calibration/of-its-own-example",)

of_posterior = partial(
    registry.claim, slot="gaussian_posterior", needs=("simulate", "gaussian_posterior")
)
of_draws = partial(registry.claim, slot="draw_posterior", needs=("simulate", "draw_posterior"))


def _simulated(probe: Probe, n: int) -> tuple[Tensor, Any]:
    """Simulate n codes, flat, and their data."""
    subject: Any = probe.subject
    subject.seed(probe.number(f"simulate {n}"))
    with probe.calling():
        z, x = subject.simulate(n)
    return z.detach().double().reshape(n, -1), x


def _posterior(probe: Probe, x: object) -> tuple[Tensor, Tensor]:
    """Return the means and the log variances of the posteriors, flat; in evaluation mode."""
    subject: Any = probe.subject
    with probe.mode(training=False), torch.no_grad(), probe.calling():
        mu, logvar = from_spread(probe.conventions.spread, subject.gaussian_posterior(x))
    return mu.double().flatten(1), logvar.double().flatten(1)


def _drawn(probe: Probe, x: object, draws: int, latents: int) -> Tensor:
    """Draw from the posteriors: draws, examples and latents."""
    subject: Any = probe.subject
    with probe.mode(training=False), torch.no_grad(), probe.calling():
        z = subject.draw_posterior(x, draws)
    if z.ndim < 2 or len(z) != draws or z.shape[1:].numel() % latents:
        raise Violation(f"{draws} draws have the shape {tuple(z.shape)}", symptom="shape")
    drawn: Tensor = z.double().reshape(draws, -1, latents)
    return drawn


def _size(probe: Probe) -> int:
    """Return how many scores find a sigma that is wrong by 5 %."""
    latents = _simulated(probe, 2)[0].shape[1]
    return statistics.draws_for_sigma(_SIGMA, probe.alpha / (2 * latents))


def _require_exact(probe: Probe) -> None:
    if not probe.fields.exact:
        raise NotApplicable(
            "the posterior is not declared to be the true one (exact=True), so its "
            "miscalibration is measured, not judged"
        )


def _scores(probe: Probe, n: int) -> tuple[Tensor, Any]:
    """Return the scores of n simulated codes, and their data."""
    z, x = _simulated(probe, n)
    mu, logvar = _posterior(probe, x)
    if mu.shape != z.shape:
        found, right = tuple(mu.shape), tuple(z.shape)
        raise Violation(f"the means have the shape {found}, the codes {right}", symptom="shape")
    return (z - mu) * torch.exp(-logvar / 2), x


def _judged(probe: Probe) -> tuple[Tensor, Any]:
    """Return the scores that all claims about an exact posterior share."""
    _require_exact(probe)
    return probe.once("scores", lambda: _scores(probe, _size(probe)))


def _ranked(probe: Probe, n: int) -> tuple[Tensor, Any]:
    """Return normal scores of the ranks of n codes among draws, and their data."""
    z, x = _simulated(probe, n)
    drawn = _drawn(probe, x, _DRAWS, z.shape[1])
    u, v = (probe.uniform(f"ties {n} {name}", *z.shape).double() for name in "uv")
    ranks = (drawn < z).sum(0) + (u * (1 + (drawn == z).sum(0))).floor()
    return torch.special.ndtri((ranks + v) / (_DRAWS + 1)), x


def _features(x: object, examples: int, probe: Probe) -> Tensor:
    """Return orthonormal functions of the data: a few projections, and their squares."""
    if not isinstance(x, Tensor):
        raise NotApplicable("the data are no tensor: return one to have the scores compared to it")
    flat = x.detach().double().reshape(examples, -1)
    flat = flat - flat.mean(0)
    turned = flat @ probe.normal("projection", flat.shape[1], _FEATURES).double()
    turned = turned / turned.std(0).clamp(min=1e-12)
    both = torch.cat([turned, turned.square() - 1], dim=1)
    left, size, _ = torch.linalg.svd(both, full_matrices=False)
    features: Tensor = left[:, size > 1e-6 * size.max()]
    return features


def _explained(scores: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the data explain of each latent's scores: chi-square numbers, and their p."""
    explained = (features.T @ scores).square().sum(0)
    return explained, torch.as_tensor(special.chdtrc(features.shape[1], explained.numpy()))


def _facts(scores: Tensor, of: str) -> dict[str, str]:
    """Describe how far scores are from standard normal ones."""
    mean, deviation = scores.mean(0), scores.std(0)
    worst = float(mean[int(mean.abs().argmax())])
    return {
        f"mean {of}": f"{worst:.3g} at most, not 0",
        f"deviation {of}": f"{float(deviation.min()):.3g} to {float(deviation.max()):.3g}, not 1",
    }


@of_posterior(
    "calibration/of-its-own-example",
    statement="The posterior of an example depends on its own data alone.",
    formula=r"q(z_n \mid x_n)",
    source=_COOK,
    kind="metamorphic",
    tolerance="32 roundings of the largest number in the batch, for each latent",
    kills=("posterior-of-another-example", "posterior-of-standardised-data"),
)
def of_its_own_example(probe: Probe) -> Finding:
    """Where the posterior is not meant to be exact, its miscalibration is reported here."""
    _, x = _simulated(probe, 4)
    whole = _posterior(probe, x)
    for n in range(4):
        for name, of_all, alone in zip(
            ("mean", "log variance"), whole, _posterior(probe, _row(x, n)), strict=True
        ):
            require_agreement(
                f"the posterior {name} of example {n}, in a batch of four,",
                of_all[n : n + 1],
                alone,
                scale=(1 + of_all.abs().max()) * math.sqrt(1000),
                dtype=torch.float32 if probe.dtype == torch.float32 else _precision(x),
                inputs={"x": x},
            )
    scores, _ = _scores(probe, 2000)
    return Finding(facts=_facts(scores, "of the scores (z - mu) / sigma"))


def _precision(x: object) -> torch.dtype:
    """Return the precision of the data, in which an encoder computes."""
    known = isinstance(x, Tensor) and x.dtype == torch.float64
    return torch.float64 if known else torch.float32


def _row(x: Any, n: int) -> Any:
    """Return the data of one example, of a tensor or a tuple or dict of tensors."""
    if isinstance(x, Mapping):
        return {key: value[n : n + 1] for key, value in x.items()}
    if isinstance(x, tuple | list):
        return type(x)(value[n : n + 1] for value in x)
    return x[n : n + 1]


def _require_normal(
    probe: Probe, scores: Tensor, what: str, tests: tuple[str, ...], alpha: float
) -> None:
    """Test the mean or the size of the scores of each latent, exactly."""
    for latent, column in enumerate(scores.T):
        sample = column.numpy()
        for test in tests:
            p = statistics.mean(sample) if test == "mean" else statistics.chi_square(sample)
            if not p >= alpha:  # true for NaN too
                value = sample.mean() if test == "mean" else (sample**2).mean() ** 0.5
                raise Violation(
                    f"{what} of latent {latent} has the {test} {value:.4g} over {len(sample):,} "
                    f"simulated examples, not {int(test != 'mean')} (p = {p:.1g})",
                    symptom=test,
                    counterexample={"got": float(value)},
                )


@of_posterior(
    "calibration/scores-centred",
    statement="The posterior means are not off: the scores of simulated codes have the mean 0.",
    formula=r"E\Big[\frac{z - \mu(x)}{\sigma(x)}\Big] = 0",
    source=_COOK,
    kind="statistical",
    tolerance="a mean that is off by 0.1 sigma",
    kills=("posterior-shifted",),
    builds_on=_OWN,
)
def scores_centred(probe: Probe) -> None:
    scores, _ = _judged(probe)
    _require_normal(probe, scores, "(z - mu) / sigma", ("mean",), probe.alpha / scores.shape[1])


@of_posterior(
    "calibration/scores-free-of-the-data",
    statement="The scores do not depend on the data: the posterior has used what x says.",
    formula=r"\frac{z - \mu(x)}{\sigma(x)} \perp x",
    source=_COOK,
    kind="statistical",
    tolerance="data that explain 1 % of the scores",
    kills=("posterior-is-the-prior", "posterior-mean-shrunk"),
    builds_on=(*_OWN, "calibration/scores-centred"),
)
def scores_free_of_the_data(probe: Probe) -> None:
    scores, x = _judged(probe)
    _require_free(scores, _features(x, len(scores), probe), probe.alpha, "(z - mu) / sigma")


def _require_free(scores: Tensor, features: Tensor, alpha: float, what: str) -> None:
    """Test the part of the scores that the data explain: a chi-square number, exactly."""
    explained, p = _explained(scores, features)
    worst = int(p.argmin())
    if not p[worst] * scores.shape[1] >= alpha:
        share = float(explained[worst] / scores[:, worst].square().sum())
        raise Violation(
            f"the data explain {share:.2%} of {what} of latent {worst}, which should not depend "
            f"on them (p = {float(p[worst]):.1g})",
            symptom="data",
            counterexample={"got": share},
        )


@of_posterior(
    "calibration/scores-scaled",
    statement="The posterior is as wide as it should be: the scores have the standard deviation "
    "1.",
    formula=r"E\Big[\frac{(z - \mu(x))^2}{\sigma^2(x)}\Big] = 1",
    source=_COOK,
    kind="statistical",
    tolerance="a sigma that is wrong by 5 %",
    kills=(
        "posterior-five-percent-narrow",
        "posterior-logvar-is-log-sigma",
        "posterior-logvar-zero",
        "posterior-logvar-of-the-mean-head",
        "posterior-softplus-on-logvar",
    ),
    builds_on=(*_OWN, "calibration/scores-centred", "calibration/scores-free-of-the-data"),
)
def scores_scaled(probe: Probe) -> None:
    scores, _ = _judged(probe)
    alpha = probe.alpha / scores.shape[1]
    _require_normal(probe, scores, "(z - mu) / sigma", ("deviation",), alpha)


@of_posterior(
    "calibration/scores-independent",
    statement="The scores of different latents are not correlated, as they cannot be if a "
    "posterior with independent latents is the true one.",
    formula=r"E[s_d\,s_{d'}] = 0, \quad d \ne d'",
    source=_COOK,
    kind="statistical",
    tolerance="a correlation of 0.1",
    kills=("posterior-mean-field",),
    builds_on=(
        *_OWN,
        "calibration/scores-centred",
        "calibration/scores-free-of-the-data",
        "calibration/scores-scaled",
    ),
)
def scores_independent(probe: Probe) -> None:
    scores, _ = _judged(probe)
    pairs = list(combinations(range(scores.shape[1]), 2))
    if not pairs:
        raise NotApplicable("there is one latent only")
    for a, b in pairs:
        p = statistics.correlation(scores[:, a].numpy(), scores[:, b].numpy())
        if not p >= probe.alpha / len(pairs):
            r = float(torch.corrcoef(scores[:, [a, b]].T)[0, 1])
            raise Violation(
                f"the scores of latents {a} and {b} have a correlation of {r:.3g} (p = {p:.1g}): "
                "the true posterior is no product",
                symptom="correlation",
                counterexample={"got": r},
            )


@of_draws(
    "calibration/draws-are-fresh",
    statement="Every draw has noise of its own, for every example.",
    formula=r"z_{ln} \sim q(z \mid x_n) \text{ independently}",
    source=_TALTS,
    kind="metamorphic",
    tolerance="a rank correlation of 0.5 between two examples, over 500 draws without ties",
    kills=("draws-are-the-mean", "draws-share-the-noise"),
)
def draws_are_fresh(probe: Probe) -> Finding:
    z, x = _simulated(probe, 3)
    drawn = _drawn(probe, x, _OF_ONE, z.shape[1])
    if drawn.shape[1] != len(z):
        raise Violation(
            f"there are draws for {drawn.shape[1]} examples, not {len(z)}", symptom="shape"
        )
    if bool((drawn == drawn[:1]).all()):
        raise Violation(f"{_OF_ONE} draws are all the same", symptom="frozen")
    ranks = drawn.argsort(0).argsort(0).double()
    tied = (drawn.sort(0).values.diff(dim=0) == 0).any(0)
    for d in range(z.shape[1]):
        for a, b in combinations(range(len(z)), 2):
            r = float(torch.corrcoef(ranks[:, [a, b], d].T)[0, 1])
            if abs(r) > 0.5 and not bool(tied[a, d] | tied[b, d]):
                raise Violation(
                    f"the draws of examples {a} and {b} have a rank correlation of {r:.3g}: they "
                    "are not drawn independently",
                    symptom="shared",
                    counterexample={"got": r},
                )
    return Finding(facts=_facts(_ranked(probe, 2000)[0], "of the ranks, as normal scores"))


@of_draws(
    "calibration/draws-of-the-posterior",
    statement="The draws are from the Gaussian that the posterior returns.",
    formula=r"\frac{z_l - \mu(x)}{\sigma(x)} \sim N(0, 1)",
    source="Kingma and Welling 2014, section 2.4",
    kind="statistical",
    tolerance="a mean that is off by 0.1 sigma, a sigma that is wrong by 5 %",
    kills=("draws-sigma-is-exp-logvar", "draws-mixed-up", "draws-with-less-noise"),
    builds_on=("calibration/draws-are-fresh",),
)
def draws_of_the_posterior(probe: Probe) -> None:
    if not probe.subject.has("gaussian_posterior"):
        raise NotApplicable("there is no gaussian_posterior")
    n = _size(probe)
    z, x = _simulated(probe, -(-n // 4))
    mu, logvar = _posterior(probe, x)
    eps = (_drawn(probe, x, 4, z.shape[1]) - mu) * torch.exp(-logvar / 2)
    alpha = probe.alpha / (2 * z.shape[1])
    _require_normal(probe, eps.flatten(0, 1), "(draw - mu) / sigma", ("mean", "deviation"), alpha)


@of_draws(
    "calibration/ranks-uniform",
    statement="The rank of a simulated code among draws from its posterior is uniform, and does "
    "not depend on the data.",
    formula=r"\#\{l : z_l < z\} \sim \text{uniform on } \{0, \dots, L\}",
    source=_TALTS,
    kind="statistical",
    tolerance="a sigma that is wrong by 6 %, or data that explain 1 % of the ranks",
    kills=(
        "posterior-five-percent-narrow",
        "posterior-is-the-prior",
        "draws-sigma-is-exp-logvar",
        "draws-mixed-up",
    ),
    builds_on=(
        *_OWN,
        "calibration/scores-centred",
        "calibration/scores-free-of-the-data",
        "calibration/scores-scaled",
        "calibration/draws-are-fresh",
        "calibration/draws-of-the-posterior",
    ),
)
def ranks_uniform(probe: Probe) -> None:
    _require_exact(probe)
    scores, x = _ranked(probe, _size(probe))
    half = probe.alpha / 2
    _require_normal(
        probe, scores, "the rank, as a normal score,", ("mean", "deviation"),
        half / (2 * scores.shape[1]),
    )  # fmt: skip
    if isinstance(x, Tensor):
        _require_free(scores, _features(x, len(scores), probe), half, "the rank")
