"""What the text says of autoencoder, VAE and latent space, measured on images.

Where a sentence of the text does not hold as it stands, the claim says what does.
"""

from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from vae_ref.conformance import looks, views
from vae_ref.conformance.bench import Bench
from vae_ref.conformance.clouds import Clouds, between, emptiness, energy
from vae_ref.conformance.course import Course
from vae_ref.conformance.intervals import textbook, within
from vae_ref.conformance.records import NotApplicable
from vae_ref.conformance.registry import claim
from vae_ref.conformance.trained import AUTOENCODER, VAE, Variant, beta, trained

_STEPS = 11
WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
SQUARED = Variant("squared error", squared=True)

_claim = partial(
    claim,
    needs=("module", "course", "encode", "decode", "forward", "loss"),
    kind="statistical",
    tolerance="a measure outside the interval of the reference's seeds",
    builds_on=("objective/beta", "kl/closed-form", "likelihood/value"),
    level="trained",
    seconds=240.0,
)


def _pictured(bench: Bench) -> None:
    textbook(bench)
    if bench.course.labels is None or bench.course.size is None:
        raise NotApplicable("the course has no pictures of several classes")


def _looks(bench: Bench, what: str, images: Tensor) -> dict[str, float]:
    """Return how near to real images some images are, and how sure a classifier is of them."""
    near = looks.distance(bench, images)
    return {
        f"{what}, confidence": looks.confidence(bench, images),
        f"{what}, distance": float(near.mean()),
        f"{what}, relative distance": float((near / images.float().norm(dim=1)).mean()),
    }


@_claim(
    "training/autoencoder-copies",
    statement="The autoencoder reconstructs better than the VAE, whose codes are noisy; a part of "
    "the difference is that noise, and from the means the VAE copies better.",
    formula=r"E[-\log p(x \mid z = \mu_{\mathrm{AE}}(x))] < E[-\log p(x \mid z = \mu(x))]"
    r" < E_{z \sim q}[-\log p(x \mid z)]",
    source="Kingma and Welling 2014, section 2.3: the KL is a regulariser",
    kills=("loss-no-kl", "loss-beta-4"),
)
def autoencoder_copies(bench: Bench) -> None:
    _pictured(bench)
    ours, theirs = views.codes(bench, VAE), views.codes(bench, AUTOENCODER)
    values = {
        "autoencoder": views.reconstruction(bench, AUTOENCODER, theirs.z),
        "vae from mu": views.reconstruction(bench, VAE, ours.mu),
        "vae": views.reconstruction(bench, VAE, ours.z),
    }
    order = [("vae", "vae from mu"), ("vae from mu", "autoencoder")]
    within(bench, "training/autoencoder-copies", values, above=order)


@_claim(
    "training/holes",
    statement="Draws from the prior decode to images near real ones in the VAE; in the "
    "autoencoder to blots, far from real images for how bright they are. Draws from a normal law "
    "fitted to its codes help the autoencoder, which stays farther away than the VAE. A "
    "classifier's confidence is no measure of it: it tells them apart on MNIST, not on glyphs.",
    formula=r"\mathrm{decode}(z), \quad z \sim N(0, I) \text{ or } N(\bar z, \mathrm{Cov}\,z)",
    source="the text; Ghosh et al. 2020, section 4, for the fitted law",
    kills=("loss-no-kl", "loss-kl-weight-1e-6"),
)
def holes(bench: Bench) -> None:
    _pictured(bench)
    values = _looks(bench, "real", bench.course.x[: views.DRAWS])
    for variant in (VAE, AUTOENCODER):
        z = views.codes(bench, variant).z
        laws = {"prior": views.prior(bench, z.shape[1]), "fitted": views.fitted(bench, z)}
        for law, draws in laws.items():
            values |= _looks(bench, f"{variant.name} {law}", views.decoded(bench, variant, draws))
    order = [
        ("autoencoder prior, relative distance", "vae prior, relative distance"),
        ("autoencoder fitted, distance", "vae fitted, distance"),
    ]
    within(bench, "training/holes", values, above=order)


@_claim(
    "training/empty-volume",
    statement="Of the volume that the codes span, more is empty in the autoencoder than in the "
    "VAE: draws from it are farther from all codes; a little so in the VAE as well.",
    formula=r"E \min_n \lVert z - z_n \rVert \,/\, E \min_n \lVert z' - z_n \rVert, \quad"
    r" z \sim N(\bar z, \mathrm{Cov}\,z),\; z' \text{ a code}",
    source="the text: the autoencoder's latent space has holes",
    kills=("loss-no-kl", "loss-kl-weight-1e-6"),
)
def empty_volume(bench: Bench) -> None:
    _pictured(bench)
    values: dict[str, float] = {}
    for variant in (VAE, AUTOENCODER):
        z = views.codes(bench, variant).z
        values[variant.name] = emptiness(z, views.fitted(bench, z))
    within(bench, "training/empty-volume", values, above=[("autoencoder", "vae")])


@_claim(
    "training/interpolation",
    statement="Between two images the VAE's path is the shorter one in the space of images. Its "
    "steps are less even than the autoencoder's, and neither a classifier nor, for their "
    "brightness, the distance to real images finds what lies half-way more plausible: smoothness "
    "in this sense is not what the VAE adds.",
    formula=r"\mathrm{decode}\big((1 - t)\,\mu_a + t\,\mu_b\big), \quad t = 0, 0.1, \dots, 1",
    source="the text: the VAE's latent space is smooth; Berthelot et al. 2019, section 1",
    kills=("loss-no-kl", "loss-kl-weight-1e-6"),
)
def interpolation(bench: Bench) -> None:
    _pictured(bench)
    a, b = views.pairs(bench)
    t = torch.linspace(0, 1, _STEPS, dtype=torch.float64)[:, None, None]
    values: dict[str, float] = {}
    for variant in (VAE, AUTOENCODER):
        mu = views.codes(bench, variant).mu
        line = ((1 - t) * mu[a] + t * mu[b]).flatten(0, 1)
        path = views.decoded(bench, variant, line).reshape(_STEPS, len(a), -1)
        steps = path.diff(dim=0).norm(dim=2)
        chord = (path[-1] - path[0]).norm(dim=1)
        values |= _looks(bench, f"{variant.name} midpoints", path[_STEPS // 2])
        values[f"{variant.name} length"] = float((steps.sum(0) / chord).median())
        values[f"{variant.name} unevenness"] = float((steps.std(0) / steps.mean(0)).mean())
    order = [
        ("autoencoder length", "vae length"),
        ("vae unevenness", "autoencoder unevenness"),
    ]
    within(bench, "training/interpolation", values, above=order)


@_claim(
    "training/sigma-collapses",
    statement="Without the KL, sigma shrinks to next to nothing beside the spread of the codes, a "
    "thousandth on MNIST, and the VAE becomes an autoencoder: it reconstructs as well.",
    formula=r"\beta = 0: \quad \sigma / \mathrm{sd}(\mu) \to 0",
    source="the text: the KL keeps sigma from collapsing",
    kills=("loss-no-kl", "loss-kl-weight-1e-6"),
)
def sigma_collapses(bench: Bench) -> None:
    _pictured(bench)
    values, free = dict[str, float](), beta(0)
    for variant, name in ((VAE, "vae"), (free, "without KL")):
        found = views.codes(bench, variant)
        ratio = torch.exp(found.logvar / 2).mean(0) / found.mu.std(0)
        values[f"{name}, log10 of sigma / sd(mu)"] = float(ratio.log10().mean())
        values[f"{name}, reconstruction"] = views.reconstruction(bench, variant, found.z)
    copied = views.reconstruction(bench, AUTOENCODER, views.codes(bench, AUTOENCODER).z)
    values["without KL, above the autoencoder"] = values["without KL, reconstruction"] - copied
    order = [
        ("vae, log10 of sigma / sd(mu)", "without KL, log10 of sigma / sd(mu)"),
        ("vae, reconstruction", "without KL, reconstruction"),
    ]
    within(bench, "training/sigma-collapses", values, above=order)


@_claim(
    "training/prior-takes-over",
    statement="Where the KL outweighs everything, q becomes the prior and the decoder, whatever "
    "its code, the mean image.",
    formula=r"\beta = 100: \quad \mu \to 0,\; \log \sigma^2 \to 0,\;"
    r" \mathrm{decode}(z) \to \bar x",
    source="the text; Bowman et al. 2016, posterior collapse",
    kills=("kl-mean-over-everything", "kl-detached-mu"),
)
def prior_takes_over(bench: Bench) -> None:
    _pictured(bench)
    heavy = beta(100)
    found = views.codes(bench, heavy)
    images = views.decoded(bench, heavy, views.prior(bench, found.mu.shape[1])).double()
    mean = Course.numbers(bench.course.train).mean(0).double()
    values = {
        "KL": trained(bench, heavy).scores[bench.course.brief].divergence,
        "rms of mu": float(found.mu.square().mean().sqrt()),
        "rms of logvar": float(found.logvar.square().mean().sqrt()),
        "decoded, distance from the mean image": float((images - mean).norm(dim=1).mean()),
        "real, distance from the mean image": float((bench.course.x - mean).norm(dim=1).mean()),
    }
    order = [("real, distance from the mean image", "decoded, distance from the mean image")]
    within(bench, "training/prior-takes-over", values, above=order)


@_claim(
    "training/rate-distortion",
    statement="The two terms pull against each other: as the weight of the KL rises over six "
    "values, the reconstruction loss rises and the KL falls.",
    formula=r"\beta_1 < \beta_2 \Rightarrow R(\beta_1) < R(\beta_2),\;"
    r" \mathrm{KL}(\beta_1) > \mathrm{KL}(\beta_2)",
    source="Higgins et al. 2017; Alemi et al. 2018, figure 1",
    kills=("loss-no-kl", "loss-beta-4"),
)
def rate_distortion(bench: Bench) -> None:
    _pictured(bench)
    values, order = dict[str, float](), list[tuple[str, str]]()
    for weight in WEIGHTS:
        found = trained(bench, VAE if weight == 1 else beta(weight)).scores
        score = found[bench.course.brief]
        values[f"reconstruction at beta {weight:g}"] = score.reconstruction
        values[f"KL at beta {weight:g}"] = score.divergence
    for small, large in pairwise(WEIGHTS):
        order.append((f"KL at beta {small:g}", f"KL at beta {large:g}"))
        if large > 0.5:  # below, seeds differ nearly as much
            more, less = (f"reconstruction at beta {weight:g}" for weight in (large, small))
            order.append((more, less))
    within(bench, "training/rate-distortion", values, above=order)


def overlaps(bench: Bench, variant: Variant) -> tuple[Tensor, Tensor]:
    """Return the distances of clouds of one class and of clouds of two."""
    course = bench.course
    assert course.labels is not None  # noqa: S101 - they are pictured
    generator, n = bench.generator("overlap"), len(course.held_out)
    a, b = (torch.randint(n, (20_000,), generator=generator) for _ in range(2))
    same = course.labels[1][a] == course.labels[1][b]
    found = views.codes(bench, variant)
    gaps = between(*(Clouds(*(part[rows] for part in found)) for rows in (a, b)))
    return gaps[same & (a != b)], gaps[~same]


@_claim(
    "training/clouds-overlap",
    statement="Similar images have overlapping clouds: those of one class overlap more than those "
    "of two. Without the KL the clouds are points, which do not overlap at all.",
    formula=r"-\log \int \sqrt{q(z \mid x_a)\,q(z \mid x_b)}\,dz",
    source="the text; Bhattacharyya 1943 for the overlap",
    kills=("loss-no-kl", "loss-kl-weight-1e-6"),
)
def clouds_overlap(bench: Bench) -> None:
    _pictured(bench)
    values: dict[str, float] = {}
    for variant, name in ((VAE, "vae"), (beta(0), "without KL")):
        one, two = overlaps(bench, variant)
        values[f"{name}, log10 of the distance within a class"] = float(one.median().log10())
        values[f"{name}, log10 of the distance between classes"] = float(two.median().log10())
        some = one[:1000, None] < two[None, :5000]
        values[f"{name}, P(within < between)"] = float(some.double().mean())
    apart, alike = (
        f"vae, log10 of the distance {of}" for of in ("between classes", "within a class")
    )
    order = [(apart, alike), ("vae, P(within < between)", "without KL, P(within < between)")]
    order.append(("without KL, log10 of the distance within a class", apart))
    within(bench, "training/clouds-overlap", values, above=order)


@_claim(
    "training/aggregate-posterior",
    statement="The codes of all images together are near N(0, I) in the VAE, by moments and by "
    "energy distance, and not in the autoencoder; near, and not equal.",
    formula=r"\tfrac1N \sum_n q(z \mid x_n) \approx N(0, I)",
    source="the text; Makhzani et al. 2016; Szekely and Rizzo 2013 for the distance",
    kills=("loss-no-kl", "loss-beta-4"),
)
def aggregate_posterior(bench: Bench) -> None:
    _pictured(bench)
    values: dict[str, float] = {}
    for variant in (VAE, AUTOENCODER):
        z = views.codes(bench, variant).z
        prior = bench.normal("aggregate", 2000, z.shape[1]).double()
        covariance = torch.cov(z.T)
        variance = covariance.diagonal()
        unlike = covariance / torch.outer(variance, variance).sqrt() - torch.eye(len(variance))
        values |= {
            f"{variant.name}, rms of the mean": float(z.mean(0).square().mean().sqrt()),
            f"{variant.name}, mean variance": float(variance.mean()),
            f"{variant.name}, rms correlation": float(unlike.square().mean().sqrt()),
            f"{variant.name}, energy distance": energy(z[:2000], prior),
            f"{variant.name}, energy distance when standardised": energy(
                (z[:2000] - z.mean(0)) / variance.sqrt(), prior
            ),
        }
    names = ("rms of the mean", "mean variance", "energy distance")
    order = [(f"autoencoder, {name}", f"vae, {name}") for name in names]
    within(bench, "training/aggregate-posterior", values, above=order)


@_claim(
    "training/blur",
    statement="The VAE's pictures are blurrier than the data, reconstructions and samples, under "
    "cross-entropy and squared error; more than the autoencoder's.",
    formula=r"\textstyle\sum_{|k| > 1/4} |\hat x_k|^2 \,/\, \sum_{k \ne 0} |\hat x_k|^2",
    source="the text; Dosovitskiy and Brox 2016, section 1",
    kills=("loss-no-kl", "loss-kl-weight-1e-6"),
)
def blur(bench: Bench) -> None:
    _pictured(bench)
    size = bench.course.size
    assert size is not None  # noqa: S101 - they are pictured
    values = {"data": looks.high_frequencies(bench.course.x, size)}
    for variant in (VAE, SQUARED, AUTOENCODER):
        z = views.codes(bench, variant).z
        images = views.decoded(bench, variant, z)
        values[f"{variant.name}, reconstructions"] = looks.high_frequencies(images, size)
        if variant.noisy:
            samples = views.decoded(bench, variant, views.prior(bench, z.shape[1]))
            values[f"{variant.name}, samples"] = looks.high_frequencies(samples, size)
    order = [("data", name) for name in values if name != "data"]
    order += [("autoencoder, reconstructions", "vae, reconstructions")]
    within(bench, "training/blur", values, above=order)
