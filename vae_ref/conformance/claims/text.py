"""What the text says of autoencoder, VAE and latent space, measured on images.

Where a sentence of the text does not hold as it stands, the claim says what does.
"""

from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from vae_ref.conformance.claims.registry import claim
from vae_ref.conformance.course import Course
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import Finding, NotApplicable
from vae_ref.conformance.trainings.codes import Codes, between, emptiness, energy
from vae_ref.conformance.trainings.image_quality import confidence, distance, high_frequencies
from vae_ref.conformance.trainings.latent_space import (
    DRAWS,
    codes,
    decoded,
    fitted,
    pairs,
    prior,
    reconstruction,
)
from vae_ref.conformance.trainings.trained import (
    AUTOENCODER,
    VAE,
    Variant,
    beta,
    require_textbook,
    trained,
)

_STEPS = 11
WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
SQUARED = Variant("squared error", squared=True)

_claim = partial(
    claim,
    slot="train",
    needs=("module", "course", "encode", "decode", "forward", "loss"),
    kind="statistical",
    tolerance="a measure outside the interval of the reference's seeds",
    builds_on=("objective/beta", "kl/closed-form", "likelihood/value"),
    level="trained",
    seconds=240.0,
)


def _require_pictures(probe: Probe) -> None:
    require_textbook(probe)
    if probe.course.labels is None or probe.course.size is None:
        raise NotApplicable("the course has no pictures of several classes")


def _looks(probe: Probe, what: str, images: Tensor) -> dict[str, float]:
    """Return how near to real images some images are, and how sure a classifier is of them."""
    near = distance(probe, images)
    return {
        f"{what}, confidence": confidence(probe, images),
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
def autoencoder_copies(probe: Probe) -> Finding:
    _require_pictures(probe)
    ours, theirs = codes(probe, VAE), codes(probe, AUTOENCODER)
    values = {
        "autoencoder": reconstruction(probe, AUTOENCODER, theirs.z),
        "vae from mu": reconstruction(probe, VAE, ours.mu),
        "vae": reconstruction(probe, VAE, ours.z),
    }
    order = [("vae", "vae from mu"), ("vae from mu", "autoencoder")]
    return Finding(measures=values, order=tuple(order))


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
def holes(probe: Probe) -> Finding:
    _require_pictures(probe)
    values = _looks(probe, "real", probe.course.x[:DRAWS])
    for variant in (VAE, AUTOENCODER):
        z = codes(probe, variant).z
        laws = {
            "prior": prior(probe, z.shape[1]),
            "fitted": fitted(probe, z),
        }
        for law, draws in laws.items():
            values |= _looks(probe, f"{variant.name} {law}", decoded(probe, variant, draws))
    order = [
        ("autoencoder prior, relative distance", "vae prior, relative distance"),
        ("autoencoder fitted, distance", "vae fitted, distance"),
    ]
    return Finding(measures=values, order=tuple(order))


@_claim(
    "training/empty-volume",
    statement="Of the volume that the codes span, more is empty in the autoencoder than in the "
    "VAE: draws from it are farther from all codes; a little so in the VAE as well.",
    formula=r"E \min_n \lVert z - z_n \rVert \,/\, E \min_n \lVert z' - z_n \rVert, \quad"
    r" z \sim N(\bar z, \mathrm{Cov}\,z),\; z' \text{ a code}",
    source="the text: the autoencoder's latent space has holes",
    kills=("loss-no-kl", "loss-kl-weight-1e-6"),
)
def empty_volume(probe: Probe) -> Finding:
    _require_pictures(probe)
    values: dict[str, float] = {}
    for variant in (VAE, AUTOENCODER):
        z = codes(probe, variant).z
        values[variant.name] = emptiness(z, fitted(probe, z))
    return Finding(measures=values, order=(("autoencoder", "vae"),))


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
def interpolation(probe: Probe) -> Finding:
    _require_pictures(probe)
    a, b = pairs(probe)
    t = torch.linspace(0, 1, _STEPS, dtype=torch.float64)[:, None, None]
    values: dict[str, float] = {}
    for variant in (VAE, AUTOENCODER):
        mu = codes(probe, variant).mu
        line = ((1 - t) * mu[a] + t * mu[b]).flatten(0, 1)
        path = decoded(probe, variant, line).reshape(_STEPS, len(a), -1)
        steps = path.diff(dim=0).norm(dim=2)
        chord = (path[-1] - path[0]).norm(dim=1)
        values |= _looks(probe, f"{variant.name} midpoints", path[_STEPS // 2])
        values[f"{variant.name} length"] = float((steps.sum(0) / chord).median())
        values[f"{variant.name} unevenness"] = float((steps.std(0) / steps.mean(0)).mean())
    order = [
        ("autoencoder length", "vae length"),
        ("vae unevenness", "autoencoder unevenness"),
    ]
    return Finding(measures=values, order=tuple(order))


@_claim(
    "training/sigma-collapses",
    statement="Without the KL, sigma shrinks to next to nothing beside the spread of the codes, a "
    "thousandth on MNIST, and the VAE becomes an autoencoder: it reconstructs as well.",
    formula=r"\beta = 0: \quad \sigma / \mathrm{sd}(\mu) \to 0",
    source="the text: the KL keeps sigma from collapsing",
    kills=("loss-no-kl", "loss-kl-weight-1e-6"),
)
def sigma_collapses(probe: Probe) -> Finding:
    _require_pictures(probe)
    values, free = dict[str, float](), beta(0)
    for variant, name in ((VAE, "vae"), (free, "without KL")):
        found = codes(probe, variant)
        ratio = torch.exp(found.logvar / 2).mean(0) / found.mu.std(0)
        values[f"{name}, log10 of sigma / sd(mu)"] = float(ratio.log10().mean())
        values[f"{name}, reconstruction"] = reconstruction(probe, variant, found.z)
    copied = reconstruction(probe, AUTOENCODER, codes(probe, AUTOENCODER).z)
    values["without KL, above the autoencoder"] = values["without KL, reconstruction"] - copied
    order = [
        ("vae, log10 of sigma / sd(mu)", "without KL, log10 of sigma / sd(mu)"),
        ("vae, reconstruction", "without KL, reconstruction"),
    ]
    return Finding(measures=values, order=tuple(order))


@_claim(
    "training/prior-takes-over",
    statement="Where the KL outweighs everything, q becomes the prior and the decoder, whatever "
    "its code, the mean image.",
    formula=r"\beta = 100: \quad \mu \to 0,\; \log \sigma^2 \to 0,\;"
    r" \mathrm{decode}(z) \to \bar x",
    source="the text; Bowman et al. 2016, posterior collapse",
    kills=("kl-mean-over-everything", "kl-detached-mu"),
)
def prior_takes_over(probe: Probe) -> Finding:
    _require_pictures(probe)
    heavy = beta(100)
    found = codes(probe, heavy)
    images = decoded(probe, heavy, prior(probe, found.mu.shape[1])).double()
    mean = Course.numbers(probe.course.train).mean(0).double()
    values = {
        "KL": trained(probe, heavy).scores[probe.course.brief].divergence,
        "rms of mu": float(found.mu.square().mean().sqrt()),
        "rms of logvar": float(found.logvar.square().mean().sqrt()),
        "decoded, distance from the mean image": float((images - mean).norm(dim=1).mean()),
        "real, distance from the mean image": float((probe.course.x - mean).norm(dim=1).mean()),
    }
    order = [("real, distance from the mean image", "decoded, distance from the mean image")]
    return Finding(measures=values, order=tuple(order))


@_claim(
    "training/rate-distortion",
    statement="The two terms pull against each other: as the weight of the KL rises over six "
    "values, the reconstruction loss rises and the KL falls.",
    formula=r"\beta_1 < \beta_2 \Rightarrow R(\beta_1) < R(\beta_2),\;"
    r" \mathrm{KL}(\beta_1) > \mathrm{KL}(\beta_2)",
    source="Higgins et al. 2017; Alemi et al. 2018, figure 1",
    kills=("loss-no-kl", "loss-beta-4"),
)
def rate_distortion(probe: Probe) -> Finding:
    _require_pictures(probe)
    values, order = dict[str, float](), list[tuple[str, str]]()
    for weight in WEIGHTS:
        found = trained(probe, VAE if weight == 1 else beta(weight)).scores
        score = found[probe.course.brief]
        values[f"reconstruction at beta {weight:g}"] = score.reconstruction
        values[f"KL at beta {weight:g}"] = score.divergence
    for small, large in pairwise(WEIGHTS):
        order.append((f"KL at beta {small:g}", f"KL at beta {large:g}"))
        if large > 0.5:  # below, seeds differ nearly as much
            more, less = (f"reconstruction at beta {weight:g}" for weight in (large, small))
            order.append((more, less))
    return Finding(measures=values, order=tuple(order))


def overlaps(probe: Probe, variant: Variant) -> tuple[Tensor, Tensor]:
    """Return the distances of clouds of one class and of clouds of two."""
    course = probe.course
    assert course.labels is not None  # noqa: S101 - they are pictured
    generator, n = probe.generator("overlap"), len(course.held_out)
    a, b = (torch.randint(n, (20_000,), generator=generator) for _ in range(2))
    same = course.labels[1][a] == course.labels[1][b]
    found = codes(probe, variant)
    gaps = between(*(Codes(*(part[rows] for part in found)) for rows in (a, b)))
    return gaps[same & (a != b)], gaps[~same]


@_claim(
    "training/clouds-overlap",
    statement="Similar images have overlapping clouds: those of one class overlap more than those "
    "of two. Without the KL the clouds are points, which do not overlap at all.",
    formula=r"-\log \int \sqrt{q(z \mid x_a)\,q(z \mid x_b)}\,dz",
    source="the text; Bhattacharyya 1943 for the overlap",
    kills=("loss-no-kl", "loss-kl-weight-1e-6"),
)
def clouds_overlap(probe: Probe) -> Finding:
    _require_pictures(probe)
    values: dict[str, float] = {}
    for variant, name in ((VAE, "vae"), (beta(0), "without KL")):
        one, two = overlaps(probe, variant)
        values[f"{name}, log10 of the distance within a class"] = float(one.median().log10())
        values[f"{name}, log10 of the distance between classes"] = float(two.median().log10())
        some = one[:1000, None] < two[None, :5000]
        values[f"{name}, P(within < between)"] = float(some.double().mean())
    apart, alike = (
        f"vae, log10 of the distance {of}" for of in ("between classes", "within a class")
    )
    order = [(apart, alike), ("vae, P(within < between)", "without KL, P(within < between)")]
    order.append(("without KL, log10 of the distance within a class", apart))
    return Finding(measures=values, order=tuple(order))


@_claim(
    "training/aggregate-posterior",
    statement="The codes of all images together are near N(0, I) in the VAE, by moments and by "
    "energy distance, and not in the autoencoder; near, and not equal.",
    formula=r"\tfrac1N \sum_n q(z \mid x_n) \approx N(0, I)",
    source="the text; Makhzani et al. 2016; Szekely and Rizzo 2013 for the distance",
    kills=("loss-no-kl", "loss-beta-4"),
)
def aggregate_posterior(probe: Probe) -> Finding:
    _require_pictures(probe)
    values: dict[str, float] = {}
    for variant in (VAE, AUTOENCODER):
        z = codes(probe, variant).z
        prior = probe.normal("aggregate", 2000, z.shape[1]).double()
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
    return Finding(measures=values, order=tuple(order))


@_claim(
    "training/blur",
    statement="The VAE's pictures are blurrier than the data, reconstructions and samples, under "
    "cross-entropy and squared error; more than the autoencoder's.",
    formula=r"\textstyle\sum_{|k| > 1/4} |\hat x_k|^2 \,/\, \sum_{k \ne 0} |\hat x_k|^2",
    source="the text; Dosovitskiy and Brox 2016, section 1",
    kills=("loss-no-kl", "loss-kl-weight-1e-6"),
)
def blur(probe: Probe) -> Finding:
    _require_pictures(probe)
    size = probe.course.size
    assert size is not None  # noqa: S101 - they are pictured
    values = {"data": high_frequencies(probe.course.x, size)}
    for variant in (VAE, SQUARED, AUTOENCODER):
        z = codes(probe, variant).z
        images = decoded(probe, variant, z)
        values[f"{variant.name}, reconstructions"] = high_frequencies(images, size)
        if variant.noisy:
            samples = decoded(probe, variant, prior(probe, z.shape[1]))
            values[f"{variant.name}, samples"] = high_frequencies(samples, size)
    order = [("data", name) for name in values if name != "data"]
    order += [("autoencoder, reconstructions", "vae, reconstructions")]
    return Finding(measures=values, order=tuple(order))
