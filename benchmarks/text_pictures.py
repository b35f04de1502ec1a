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

from benchmarks.course_seeds import bench_of
from vae_ref.conformance import scorer, views
from vae_ref.conformance.bench import Bench
from vae_ref.conformance.body import Body
from vae_ref.conformance.claims.reasons import ALONE, estimators
from vae_ref.conformance.claims.text import SQUARED, WEIGHTS, overlaps
from vae_ref.conformance.clouds import distances
from vae_ref.conformance.course import Course
from vae_ref.conformance.trained import AUTOENCODER, VAE, beta, numbers, trained

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
    bench = bench_of(arguments.course, arguments.data, arguments.weights, arguments.seed)
    for name, draw in PICTURES.items():
        figure = draw(bench)
        figure.savefig(IMAGES / f"text_{name}.png", dpi=90, bbox_inches="tight")
        plt.close(figure)
        print(f"text_{name}.png", flush=True)


def rows_of(bench: Bench, rows: dict[str, Tensor]) -> Figure:
    """Show images in labelled rows."""
    figure, axes = plt.subplots(len(rows), 1, figsize=(9, 0.8 * len(rows)))
    for axis, (label, images) in zip(np.atleast_1d(axes), rows.items(), strict=True):
        pictures = images[:COLUMNS].reshape(-1, *bench.course.size).float()
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


def autoencoder_copies(bench: Bench) -> Figure:
    ours, theirs = (views.codes(bench, variant) for variant in BOTH)
    return rows_of(
        bench,
        {
            "images": bench.course.x,
            "autoencoder": views.decoded(bench, AUTOENCODER, theirs.z[:COLUMNS]),
            "VAE, z = mu": views.decoded(bench, VAE, ours.mu[:COLUMNS]),
            "VAE": views.decoded(bench, VAE, ours.z[:COLUMNS]),
        },
    )


def holes(bench: Bench) -> Figure:
    rows = {}
    for law in ("prior", "fitted law"):
        for variant, name in zip(BOTH, ("VAE", "autoencoder"), strict=True):
            z = views.codes(bench, variant).z
            drawn = views.prior(bench, z.shape[1]) if law == "prior" else views.fitted(bench, z)
            rows[f"{name}, {law}"] = views.decoded(bench, variant, drawn[:COLUMNS])
    return rows_of(bench, rows)


def empty_volume(bench: Bench) -> Figure:
    found = {}
    for variant in BOTH:
        z = views.codes(bench, variant).z
        fresh, drawn = distances(z, views.fitted(bench, z))
        limit = float(fresh.quantile(0.95))
        found[f"{variant.name}, codes"] = fresh / limit
        found[f"{variant.name}, draws"] = drawn / limit
    return histograms(found, "distance to the nearest code, in units of the limit (95 %)")


def interpolation(bench: Bench) -> Figure:
    a, b = (rows[:3] for rows in views.pairs(bench))
    t = torch.linspace(0, 1, COLUMNS, dtype=torch.float64)[:, None]
    rows = {}
    for n in range(3):
        for variant, name in zip(BOTH, ("VAE", "autoencoder"), strict=True):
            mu = views.codes(bench, variant).mu
            line = (1 - t) * mu[a[n]] + t * mu[b[n]]
            rows[f"{name} {n + 1}"] = views.decoded(bench, variant, line)
    return rows_of(bench, rows)


def sigma_collapses(bench: Bench) -> Figure:
    pairs = ((VAE, "VAE"), (beta(0), "without the KL"))
    found = {name: views.codes(bench, variant).logvar / 2 for variant, name in pairs}
    return histograms({k: v / np.log(10) for k, v in found.items()}, "log10 of sigma")


def prior_takes_over(bench: Bench) -> Figure:
    z = views.prior(bench, views.codes(bench, VAE).z.shape[1])
    mean = Course.numbers(bench.course.train).mean(0).expand(COLUMNS, -1)
    rows = {f"beta = {v.beta:g}": views.decoded(bench, v, z) for v in (VAE, beta(8), beta(100))}
    return rows_of(bench, {**rows, "mean image": mean})


def kl_alone(bench: Bench) -> Figure:
    with trained(bench, ALONE).loaded() as body:
        mu, logvar = scorer.encode(body, numbers(bench, bench.course.held_out))
    return histograms({"mu": mu, "logvar": logvar}, "what the encoder puts out")


def rate_distortion(bench: Bench) -> Figure:
    figure, axis = plt.subplots(figsize=(5, 3.5))
    found = [
        trained(bench, VAE if w == 1 else beta(w)).scores[bench.course.brief] for w in WEIGHTS
    ]
    axis.plot([s.divergence for s in found], [s.reconstruction for s in found], "o-")
    for weight, score in zip(WEIGHTS, found, strict=True):
        at = (score.divergence, score.reconstruction)
        axis.annotate(f"  {weight:g}", at, va="bottom")
    axis.set(xlabel="rate: KL, nats", ylabel="distortion: reconstruction, nats")
    return figure


def clouds_overlap(bench: Bench) -> Figure:
    alike, apart = overlaps(bench, VAE)
    return histograms(
        {"one class": alike.log10(), "two classes": apart.log10()},
        "log10 of the Bhattacharyya distance",
    )


def aggregate_posterior(bench: Bench) -> Figure:
    found = {variant.name: views.codes(bench, variant).z for variant in BOTH}
    normal = views.prior(bench, 20)
    inside = {name: z[z.abs() < 12] for name, z in found.items()}
    return histograms({**inside, "N(0, 1)": normal}, "coordinates of all codes")


def blur(bench: Bench) -> Figure:
    z = {variant: views.codes(bench, variant).z for variant in (*BOTH, SQUARED)}
    rows = {"images": bench.course.x}
    for variant, name in ((AUTOENCODER, "autoencoder"), (VAE, "VAE"), (SQUARED, "squared error")):
        rows[name] = views.decoded(bench, variant, z[variant][:COLUMNS])
    drawn = views.prior(bench, 20)
    for variant, name in ((VAE, "VAE, samples"), (SQUARED, "squared error, samples")):
        rows[name] = views.decoded(bench, variant, drawn)
    return rows_of(bench, rows)


def why_logvar(bench: Bench) -> Figure:
    with torch.no_grad():
        _, head = Body.of(bench).encode(numbers(bench, bench.course.held_out[:1000]))
    return histograms({"second head before training": head}, "read as sigma, half of it is none")


def score_function(bench: Bench) -> Figure:
    path, score, centred = (g[:, 0] for g in estimators(bench))
    found = {"score function": score, "with a baseline": centred, "reparameterized": path}
    figure, axes = plt.subplots(1, 3, figsize=(9, 2.5))
    for axis, (name, values) in zip(axes, found.items(), strict=True):
        axis.hist(values.numpy(), 80)
        axis.set(title=name, yticks=[], xlabel=f"deviation {float(values.std()):.3g}")
    return figure


PICTURES: dict[str, Callable[[Bench], Figure]] = {
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
