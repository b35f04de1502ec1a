"""Claims about what the guide says of the autoencoder, the VAE and the latent space.

The guide is the teaching text that leads from the autoencoder to the VAE; docs/text.md sets what
it says beside what is measured here, on images. Where a sentence of the guide does not hold as it
stands, the claim says what does.
"""

from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from vae_ref.conformance.claims.registry import claim
from vae_ref.conformance.course import Course
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import Finding, NotApplicable
from vae_ref.conformance.trainings.codes import (
    Codes,
    bhattacharyya,
    emptiness,
    energy_distance,
)
from vae_ref.conformance.trainings.image_quality import (
    confidence,
    high_frequencies,
    nearest_distances,
)
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
    SQUARED,
    VAE,
    WEIGHTS,
    Variant,
    beta,
    require_textbook,
    trained,
)

GUIDE = "the guide (docs/text.md)"
"""How the source of a claim names the guide."""

_STEPS = 11
"""How many images a path between two images has, both ends included."""

_PAIRS = 20_000
"""How many pairs of images are drawn to compare their posteriors."""

_SAMPLE = 2000
"""How many codes are compared with as many draws from the prior, each with each."""

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


def _plausibility(probe: Probe, what: str, images: Tensor) -> dict[str, float]:
    """Measure how sure a classifier is of images, and how far they are from real images."""
    distances = nearest_distances(probe, images)
    return {
        f"{what}, confidence": confidence(probe, images),
        f"{what}, distance": float(distances.mean()),
        f"{what}, relative distance": float((distances / images.float().norm(dim=1)).mean()),
    }


@_claim(
    "training/autoencoder-copies",
    statement="The autoencoder reconstructs better than the VAE, whose codes are noisy. The "
    "noise is a part of the difference: from the means of its codes, the VAE reconstructs better.",
    formula=r"E[-\log p(x \mid z = \mu_{\mathrm{AE}}(x))] < E[-\log p(x \mid z = \mu(x))]"
    r" < E_{z \sim q}[-\log p(x \mid z)]",
    source=f"Kingma and Welling 2014, section 2.3: the KL is a regulariser; {GUIDE}",
    kills=("loss-no-kl", "loss-beta-4"),
    trains=("autoencoder",),
)
def autoencoder_copies(probe: Probe) -> Finding:
    _require_pictures(probe)
    found = codes(probe, VAE)
    values = {
        "autoencoder": reconstruction(probe, AUTOENCODER, codes(probe, AUTOENCODER).z),
        "vae from mu": reconstruction(probe, VAE, found.mu),
        "vae": reconstruction(probe, VAE, found.z),
    }
    order = [("vae", "vae from mu"), ("vae from mu", "autoencoder")]
    return Finding(measures=values, order=tuple(order))


@_claim(
    "training/holes",
    statement="The VAE decodes draws from the prior to images near real ones. The autoencoder "
    "decodes them to blots, which are far from real images relative to their brightness. It does "
    "better with draws from a normal distribution fitted to its codes, but stays farther away "
    "than the VAE. The confidence of a classifier is no measure of this: it tells the two apart "
    "on MNIST but not on glyphs.",
    formula=r"\mathrm{decode}(z), \quad z \sim N(0, I) \text{ or } N(\bar z, \mathrm{Cov}\,z)",
    source=f"Kingma and Welling 2014, figure 5; {GUIDE}; Ghosh et al. 2020, section 4, for the "
    "fitted distribution",
    kills=("loss-no-kl", "loss-kl-weight-1e-6"),
    trains=("autoencoder",),
)
def holes(probe: Probe) -> Finding:
    _require_pictures(probe)
    values = _plausibility(probe, "real", probe.course.x[:DRAWS])
    for variant in (VAE, AUTOENCODER):
        z = codes(probe, variant).z
        distributions = {
            "prior": prior(probe, z.shape[1]),
            "fitted": fitted(probe, z),
        }
        for name, draws in distributions.items():
            images = decoded(probe, variant, draws)
            values |= _plausibility(probe, f"{variant.name} {name}", images)
    order = [
        ("autoencoder prior, relative distance", "vae prior, relative distance"),
        ("autoencoder fitted, distance", "vae fitted, distance"),
    ]
    return Finding(measures=values, order=tuple(order))


@_claim(
    "training/empty-volume",
    statement="More of the volume that the codes span is empty in the autoencoder than in the "
    "VAE: a draw from it is farther from the nearest code than the code of another image is. In "
    "the VAE it is a little farther too.",
    formula=r"E \min_n \lVert z - z_n \rVert \,/\, E \min_n \lVert z' - z_n \rVert, \quad"
    r" z \sim N(\bar z, \mathrm{Cov}\,z),\; z' \text{ a code}",
    source=f"Kingma and Welling 2014, section 2.3; {GUIDE}: the autoencoder's latent space has "
    "holes",
    kills=("loss-no-kl", "loss-kl-weight-1e-6"),
    trains=("autoencoder",),
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
    statement="Between two images, the VAE's path through the space of images is shorter than the "
    "autoencoder's. Its steps are less even, and the images half-way are not more plausible, by a "
    "classifier or by their distance to real images relative to their brightness. So the VAE is "
    "not smoother in this sense.",
    formula=r"\mathrm{decode}\big((1 - t)\,\mu_a + t\,\mu_b\big), \quad t = 0, 0.1, \dots, 1",
    source=f"Kingma and Welling 2014, figure 4; {GUIDE}: the VAE's latent space is smooth; "
    "Berthelot et al. 2019, section 1",
    kills=("loss-no-kl", "loss-kl-weight-1e-6"),
    trains=("autoencoder",),
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
        values |= _plausibility(probe, f"{variant.name} midpoints", path[_STEPS // 2])
        values[f"{variant.name} length"] = float((steps.sum(0) / chord).median())
        values[f"{variant.name} unevenness"] = float((steps.std(0) / steps.mean(0)).mean())
    order = [
        ("autoencoder length", "vae length"),
        ("vae unevenness", "autoencoder unevenness"),
    ]
    return Finding(measures=values, order=tuple(order))


@_claim(
    "training/sigma-collapses",
    statement="Without the KL, sigma becomes tiny relative to the deviation of mu, a thousandth "
    "on MNIST, and the VAE becomes an autoencoder: it reconstructs as well as one.",
    formula=r"\beta = 0: \quad \sigma / \mathrm{sd}(\mu) \to 0",
    source=f"Kingma and Welling 2014, section 2.3; {GUIDE}: the KL keeps sigma from collapsing",
    kills=("loss-no-kl", "loss-kl-weight-1e-6"),
    trains=("beta 0", "autoencoder"),
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
    statement="With a very large weight of the KL, q becomes the prior, and the decoder returns "
    "the mean image for every code.",
    formula=r"\beta = 100: \quad \mu \to 0,\; \log \sigma^2 \to 0,\;"
    r" \mathrm{decode}(z) \to \bar x",
    source=f"Kingma and Welling 2014, section 2.3; {GUIDE}; Bowman et al. 2016, posterior "
    "collapse",
    kills=("kl-mean-over-everything", "kl-detached-mu"),
    trains=("beta 100",),
)
def prior_takes_over(probe: Probe) -> Finding:
    _require_pictures(probe)
    variant = beta(100)
    found = codes(probe, variant)
    images = decoded(probe, variant, prior(probe, found.mu.shape[1])).double()
    mean = Course.numbers(probe.course.train).mean(0).double()
    values = {
        "KL": trained(probe, variant).scores[probe.course.brief].divergence,
        "rms of mu": float(found.mu.square().mean().sqrt()),
        "rms of logvar": float(found.logvar.square().mean().sqrt()),
        "decoded, distance from the mean image": float((images - mean).norm(dim=1).mean()),
        "real, distance from the mean image": float((probe.course.x - mean).norm(dim=1).mean()),
    }
    order = [("real, distance from the mean image", "decoded, distance from the mean image")]
    return Finding(measures=values, order=tuple(order))


@_claim(
    "training/rate-distortion",
    statement="The two terms pull against each other: as the weight of the KL rises, the "
    "reconstruction loss rises and the KL falls.",
    formula=r"\beta_1 < \beta_2 \Rightarrow R(\beta_1) < R(\beta_2),\;"
    r" \mathrm{KL}(\beta_1) > \mathrm{KL}(\beta_2)",
    source=f"Kingma and Welling 2014, section 2.3; {GUIDE}; Higgins et al. 2017; Alemi et al. "
    "2018, figure 1",
    kills=("loss-no-kl", "loss-beta-4"),
    trains=tuple(beta(weight).name for weight in WEIGHTS),
)
def rate_distortion(probe: Probe) -> Finding:
    _require_pictures(probe)
    values, order = dict[str, float](), list[tuple[str, str]]()
    weights = probe.course.weights
    for weight in weights:
        scores = trained(probe, beta(weight)).scores
        score = scores[probe.course.brief]
        values[f"reconstruction at beta {weight:g}"] = score.reconstruction
        values[f"KL at beta {weight:g}"] = score.divergence
    for small, large in pairwise(weights):
        order.append((f"KL at beta {small:g}", f"KL at beta {large:g}"))
        if large > 0.5:  # at smaller weights, seeds differ nearly as much
            at_large, at_small = (
                f"reconstruction at beta {weight:g}" for weight in (large, small)
            )
            order.append((at_large, at_small))
    return Finding(measures=values, order=tuple(order))


def overlaps(probe: Probe, variant: Variant) -> tuple[Tensor, Tensor]:
    """Return the distances of posteriors of one class, and those of posteriors of two classes."""
    course = probe.course
    assert course.labels is not None  # noqa: S101 - the claim requires pictures
    generator, n = probe.generator("overlap"), len(course.held_out)
    a, b = (torch.randint(n, (_PAIRS,), generator=generator) for _ in range(2))
    same = course.labels[1][a] == course.labels[1][b]
    found = codes(probe, variant)
    distances = bhattacharyya(*(Codes(*(part[rows] for part in found)) for rows in (a, b)))
    return distances[same & (a != b)], distances[~same]


@_claim(
    "training/clouds-overlap",
    statement="The posteriors of two images of one class overlap more than those of two classes. "
    "Without the KL they are all but points, which do not overlap.",
    formula=r"-\log \int \sqrt{q(z \mid x_a)\,q(z \mid x_b)}\,dz",
    source=f"Kingma and Welling 2014, equation 9; {GUIDE}; Bhattacharyya 1943 for the overlap",
    kills=("loss-no-kl", "loss-kl-weight-1e-6"),
    trains=("beta 0",),
)
def clouds_overlap(probe: Probe) -> Finding:
    _require_pictures(probe)
    values: dict[str, float] = {}
    for variant, name in ((VAE, "vae"), (beta(0), "without KL")):
        within, between = overlaps(probe, variant)
        values[f"{name}, log10 of the distance within a class"] = float(within.median().log10())
        values[f"{name}, log10 of the distance between classes"] = float(between.median().log10())
        nearer = within[:1000, None] < between[None, :5000]
        values[f"{name}, P(within < between)"] = float(nearer.double().mean())
    between_classes, within_class = (
        f"vae, log10 of the distance {which}" for which in ("between classes", "within a class")
    )
    order = [
        (between_classes, within_class),
        ("vae, P(within < between)", "without KL, P(within < between)"),
    ]
    order.append(("without KL, log10 of the distance within a class", between_classes))
    return Finding(measures=values, order=tuple(order))


@_claim(
    "training/aggregate-posterior",
    statement="In the VAE, the codes of all images together are near N(0, I), by their moments "
    "and by the energy distance, though not equal to it. In the autoencoder they are not near it.",
    formula=r"\tfrac1N \sum_n q(z \mid x_n) \approx N(0, I)",
    source=f"Kingma and Welling 2014, section 2.3; {GUIDE}; Makhzani et al. 2016; Szekely and "
    "Rizzo 2013 for the distance",
    kills=("loss-no-kl", "loss-beta-4"),
    trains=("autoencoder",),
)
def aggregate_posterior(probe: Probe) -> Finding:
    _require_pictures(probe)
    values: dict[str, float] = {}
    for variant in (VAE, AUTOENCODER):
        z = codes(probe, variant).z
        draws = probe.normal("aggregate", _SAMPLE, z.shape[1]).double()
        covariance = torch.cov(z.T)
        variance = covariance.diagonal()
        correlation = covariance / torch.outer(variance, variance).sqrt()
        correlation -= torch.eye(len(variance))
        values |= {
            f"{variant.name}, rms of the mean": float(z.mean(0).square().mean().sqrt()),
            f"{variant.name}, mean variance": float(variance.mean()),
            f"{variant.name}, rms correlation": float(correlation.square().mean().sqrt()),
            f"{variant.name}, energy distance": energy_distance(z[:_SAMPLE], draws),
            f"{variant.name}, energy distance when standardised": energy_distance(
                (z[:_SAMPLE] - z.mean(0)) / variance.sqrt(), draws
            ),
        }
    names = ("rms of the mean", "mean variance", "energy distance")
    order = [(f"autoencoder, {name}", f"vae, {name}") for name in names]
    return Finding(measures=values, order=tuple(order))


@_claim(
    "training/blur",
    statement="The VAE's reconstructions and samples are blurrier than the data, with "
    "cross-entropy and with the squared error. Its reconstructions are blurrier than the "
    "autoencoder's.",
    formula=r"\textstyle\sum_{|k| > 1/4} |\hat x_k|^2 \,/\, \sum_{k \ne 0} |\hat x_k|^2",
    source=f"Kingma and Welling 2014, figure 5; {GUIDE}; Dosovitskiy and Brox 2016, section 1",
    kills=("loss-no-kl", "loss-kl-weight-1e-6"),
    trains=("squared error", "autoencoder"),
)
def blur(probe: Probe) -> Finding:
    _require_pictures(probe)
    size = probe.course.size
    assert size is not None  # noqa: S101 - the claim requires pictures
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
