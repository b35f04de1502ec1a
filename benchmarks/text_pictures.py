"""Draw a picture for every claim of the text, from one seed of a course.

    python -m benchmarks.text_pictures [COURSE] [--data DIR] [--seed 0] [--weights DIR]

The command writes docs/images/text_CLAIM.png. With the --weights that course_seeds has kept, it
trains nothing.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.course_seeds import probe_with_trainings
from vae_ref.conformance.claims.guide import overlaps
from vae_ref.conformance.claims.reasons import estimators
from vae_ref.conformance.course import Course
from vae_ref.conformance.probe.networks import Networks
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.trainings import scoring
from vae_ref.conformance.trainings.codes import nearest_codes
from vae_ref.conformance.trainings.latent_space import codes, decoded, fitted, pairs, prior
from vae_ref.conformance.trainings.trained import (
    AUTOENCODER,
    KL_ALONE,
    SQUARED,
    VAE,
    as_inputs,
    beta,
    trained,
)

IMAGES = Path(__file__).parents[1] / "docs" / "images"
COLUMNS = 12
BOTH = (VAE, AUTOENCODER)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("course", nargs="?", choices=("mnist", "glyphs"), default="mnist")
    parser.add_argument("--data", default="data", help="a torchvision root")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", type=Path, help="weights that course_seeds has kept")
    arguments = parser.parse_args()
    probe = probe_with_trainings(
        arguments.course, arguments.data, arguments.weights, arguments.seed
    )
    for name, draw in PICTURES.items():
        figure = draw(probe)
        figure.savefig(IMAGES / f"text_{name}.png", dpi=90, bbox_inches="tight")
        plt.close(figure)
        print(f"text_{name}.png", flush=True)


def rows_of(probe: Probe, rows: dict[str, Tensor]) -> Figure:
    """Show images in labelled rows."""
    figure, axes = plt.subplots(len(rows), 1, figsize=(9, 0.8 * len(rows)))
    for axis, (label, images) in zip(np.atleast_1d(axes), rows.items(), strict=True):
        pictures = images[:COLUMNS].reshape(-1, *probe.course.size).float()
        axis.imshow(torch.cat(list(pictures), 1), cmap="gray_r", vmin=0, vmax=1)
        axis.set_ylabel(label, rotation=0, ha="right", va="center")
        axis.set_xticks([])
        axis.set_yticks([])
    return figure


def histograms(found: dict[str, Tensor], xlabel: str, *, bins: int = 80) -> Figure:
    """Show the densities of several samples over one axis."""
    figure, axis = plt.subplots(figsize=(6, 3))
    together = torch.cat([values.flatten() for values in found.values()])
    edges = np.linspace(float(together.min()), float(together.max()), bins)
    for label, values in found.items():
        axis.hist(values.flatten().numpy(), edges, density=True, alpha=0.6, label=label)
    axis.set(xlabel=xlabel, yticks=[])
    axis.set_ylim(top=1.35 * axis.get_ylim()[1])  # room for the legend
    axis.legend(ncols=2)
    return figure


def autoencoder_copies(probe: Probe) -> Figure:
    ours, theirs = (codes(probe, variant) for variant in BOTH)
    return rows_of(
        probe,
        {
            "images": probe.course.x,
            "autoencoder": decoded(probe, AUTOENCODER, theirs.z[:COLUMNS]),
            "VAE, z = mu": decoded(probe, VAE, ours.mu[:COLUMNS]),
            "VAE": decoded(probe, VAE, ours.z[:COLUMNS]),
        },
    )


def holes(probe: Probe) -> Figure:
    rows = {}
    for law in ("prior", "fitted law"):
        for variant, name in zip(BOTH, ("VAE", "autoencoder"), strict=True):
            z = codes(probe, variant).z
            drawn = prior(probe, z.shape[1]) if law == "prior" else fitted(probe, z)
            rows[f"{name}, {law}"] = decoded(probe, variant, drawn[:COLUMNS])
    return rows_of(probe, rows)


def empty_volume(probe: Probe) -> Figure:
    found = {}
    for variant in BOTH:
        z = codes(probe, variant).z
        fresh, drawn = nearest_codes(z, fitted(probe, z))
        limit = float(fresh.quantile(0.95))
        found[f"{variant.name}, codes"] = fresh / limit
        found[f"{variant.name}, draws"] = drawn / limit
    return histograms(found, "distance to the nearest code, in units of the limit (95 %)")


def interpolation(probe: Probe) -> Figure:
    a, b = (rows[:3] for rows in pairs(probe))
    t = torch.linspace(0, 1, COLUMNS, dtype=torch.float64)[:, None]
    rows = {}
    for n in range(3):
        for variant, name in zip(BOTH, ("VAE", "autoencoder"), strict=True):
            mu = codes(probe, variant).mu
            line = (1 - t) * mu[a[n]] + t * mu[b[n]]
            rows[f"{name} {n + 1}"] = decoded(probe, variant, line)
    return rows_of(probe, rows)


def sigma_collapses(probe: Probe) -> Figure:
    pairs = ((VAE, "VAE"), (beta(0), "without the KL"))
    found = {name: codes(probe, variant).logvar / 2 for variant, name in pairs}
    return histograms({k: v / np.log(10) for k, v in found.items()}, "log10 of sigma")


def prior_takes_over(probe: Probe) -> Figure:
    z = prior(probe, codes(probe, VAE).z.shape[1])
    mean = Course.numbers(probe.course.train).mean(0).expand(COLUMNS, -1)
    rows = {f"beta = {v.beta:g}": decoded(probe, v, z) for v in (VAE, beta(8), beta(100))}
    return rows_of(probe, {**rows, "mean image": mean})


def kl_alone(probe: Probe) -> Figure:
    with trained(probe, KL_ALONE).loaded() as networks:
        mu, logvar = scoring.encode(networks, as_inputs(probe, probe.course.held_out))
    return histograms({"mu": mu, "logvar": logvar}, "what the encoder puts out")


def rate_distortion(probe: Probe) -> Figure:
    figure, axis = plt.subplots(figsize=(5, 3.5))
    weights = probe.course.weights
    found = [trained(probe, beta(weight)).scores[probe.course.brief] for weight in weights]
    axis.plot([s.divergence for s in found], [s.reconstruction for s in found], "o-")
    for weight, score in zip(weights, found, strict=True):
        at = (score.divergence, score.reconstruction)
        axis.annotate(f"  {weight:g}", at, va="bottom")
    axis.set(xlabel="rate: KL, nats", ylabel="distortion: reconstruction, nats")
    return figure


def clouds_overlap(probe: Probe) -> Figure:
    alike, apart = overlaps(probe, VAE)
    return histograms(
        {"one class": alike.log10(), "two classes": apart.log10()},
        "log10 of the Bhattacharyya distance",
    )


def aggregate_posterior(probe: Probe) -> Figure:
    found = {variant.name: codes(probe, variant).z for variant in BOTH}
    normal = prior(probe, 20)
    inside = {name: z[z.abs() < 12] for name, z in found.items()}
    return histograms({**inside, "N(0, 1)": normal}, "coordinates of all codes")


def blur(probe: Probe) -> Figure:
    z = {variant: codes(probe, variant).z for variant in (*BOTH, SQUARED)}
    rows = {"images": probe.course.x}
    for variant, name in ((AUTOENCODER, "autoencoder"), (VAE, "VAE"), (SQUARED, "squared error")):
        rows[name] = decoded(probe, variant, z[variant][:COLUMNS])
    drawn = prior(probe, 20)
    for variant, name in ((VAE, "VAE, samples"), (SQUARED, "squared error, samples")):
        rows[name] = decoded(probe, variant, drawn)
    return rows_of(probe, rows)


def why_logvar(probe: Probe) -> Figure:
    with torch.no_grad():
        _, head = Networks.of(probe).encode(as_inputs(probe, probe.course.held_out[:1000]))
    return histograms({"second head before training": head}, "read as sigma, half of it is none")


def score_function(probe: Probe) -> Figure:
    path, score, centred = (g[:, 0] for g in estimators(probe))
    found = {"score function": score, "with a baseline": centred, "reparameterized": path}
    figure, axes = plt.subplots(1, 3, figsize=(9, 2.5))
    for axis, (name, values) in zip(axes, found.items(), strict=True):
        axis.hist(values.numpy(), 80)
        axis.set(title=name, yticks=[], xlabel=f"deviation {float(values.std()):.3g}")
    return figure


PICTURES: dict[str, Callable[[Probe], Figure]] = {
    function.__name__: function
    for function in (
        autoencoder_copies,
        holes,
        empty_volume,
        interpolation,
        sigma_collapses,
        prior_takes_over,
        kl_alone,
        rate_distortion,
        clouds_overlap,
        aggregate_posterior,
        blur,
        why_logvar,
        score_function,
    )
}

if __name__ == "__main__":
    main()
