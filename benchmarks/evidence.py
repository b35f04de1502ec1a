"""Bound log p(x) of the textbook's VAE, trained on MNIST, from below and from above.

    python -m benchmarks.evidence --data DIR [--images 1000] [--chains 5000] [--temperatures 1]

Chains anneal between a start and p(x, z), and the average of their weights bounds log p(x) from
below in expectation. The start is a t distribution with the moments of p(z|x), which Hamiltonian
chains find, a little wider. It is so near p(z|x) that one temperature is enough, which is
importance sampling. The code of an image that the model simulates is a draw from its true
posterior: if one of the chains is the one that leads back from this code, the same average bounds
log p(x) from above in expectation (Grosse, Ghahramani and Adams 2015; Sobolev and Vetrov 2019,
section 3). For test images, made black and white at random, only the lower bound holds.

The command writes benchmarks/results/evidence_mnist.json: the means over the images, their
standard errors, how far the bounds of each image are apart, and what made them.
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch
from torch import Tensor

from vae_ref import VAE, Recipe, Run, fit, importance_weighted_bound, log_density, mnist
from vae_ref.checks import unchecked
from vae_ref.kinds.evidence import anneal
from vae_ref.kinds.hamiltonian import LogDensity, hmc
from vae_ref.support import provenance
from vae_ref.support.atomic import replacing
from vae_ref.support.denormals import denormals_flushed

RESULTS = Path(__file__).parent / "results" / "evidence_mnist.json"
EPOCHS, STEP, STEPS = 20, 0.4, 5
WIDTH, FREEDOM = 1.2, 30  #: wider than the posterior, with heavier tails: no weight is large
WALKERS, WARM, MOVES = 4, 100, 500  #: chains that find the moments, and their moves
TOGETHER = 10  #: chains at a time
APART = 0.2  #: nats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="data", help="a torchvision root")
    parser.add_argument("--images", type=int, default=1000, help="images of each kind")
    parser.add_argument("--chains", type=int, default=5_000, help="chains of each image")
    parser.add_argument("--temperatures", type=int, default=1, help="temperatures above 0")
    parser.add_argument("--seed", type=int, default=0, help="of the training and of the chains")
    chosen = parser.parse_args()
    with denormals_flushed(), unchecked():
        measure(chosen)


def measure(chosen: argparse.Namespace) -> None:
    train, test = (mnist(chosen.data, train=part) for part in (True, False))
    run = Run.start(Recipe(seed=chosen.seed), train.size)
    *_, record = fit(run, train, test, epochs=EPOCHS)
    model = run.model.requires_grad_(False)
    generator = torch.Generator().manual_seed(chosen.seed)
    codes = torch.randn(chosen.images, model.latent_dim, generator=generator)
    simulated = torch.bernoulli(model.decode(codes), generator=generator)
    grey = test.images[: chosen.images].flatten(1).float() / 255
    real = torch.bernoulli(grey, generator=generator)
    result = {
        "model": "784-400-20, Bernoulli",
        "epochs": EPOCHS,
        "test_loss": record.test_loss,
        **vars(chosen),
        "width": WIDTH,
        "freedom": FREEDOM,
        **provenance.record(threads=torch.get_num_threads()),
    }
    del result["data"]
    for name, x, z in (("simulated", simulated, codes), ("test_binarised", real, None)):
        result[name] = bracket(model, x, z, chosen, generator)
        with replacing(RESULTS) as file:
            file.write((json.dumps(result, indent=1) + "\n").encode())
        print(name, json.dumps(result[name], indent=1), flush=True)


def bracket(
    model: VAE,
    x: Tensor,
    codes: Tensor | None,
    chosen: argparse.Namespace,
    generator: torch.Generator,
) -> dict[str, object]:
    """Bound log p(x) of every image; from above, only if its code is known."""
    start = time.perf_counter()
    zero = torch.zeros(model.latent_dim)
    betas = torch.linspace(0, 1, chosen.temperatures + 1)

    def log_joint(z: Tensor) -> Tensor:
        return log_density(z, zero, zero) - model.likelihood.nll(model.decode_logits(z), x)

    mu, logvar = model.encode(x)
    sigma = torch.exp(logvar / 2)
    centre, root = moments(log_joint, mu, sigma, generator)
    q = Student(centre, WIDTH * root)

    def log_weights(z: Tensor, betas: Tensor) -> Tensor:
        moves = len(betas) - 2
        momenta = torch.randn(moves, *z.shape, generator=generator)
        uniforms = torch.rand(moves, *z.shape[:-1], generator=generator)
        log_w, _, _ = anneal(
            q.log_prob, log_joint, z, betas, momenta=momenta, uniforms=uniforms,
            step=STEP * sigma, steps=STEPS,
        )  # fmt: skip
        return log_w

    parts = torch.arange(chosen.chains).split(TOGETHER)
    log_w = torch.cat([log_weights(q.sample(len(part), generator), betas) for part in parts])
    lower = importance_weighted_bound(log_w)
    result: dict[str, object] = {"lower": described(lower)}
    if codes is not None:
        log_w[0] = -log_weights(codes[None], betas.flip(0))[0]
        gap = importance_weighted_bound(log_w) - lower
        result |= {
            "upper": described(lower + gap),
            "gap": described(gap),
            "largest_gap": round(float(gap.abs().max()), 4),
            f"images_with_a_gap_below_{APART}": int((gap.abs() < APART).sum()),
        }
    return result | {"seconds": round(time.perf_counter() - start, 1)}


def moments(log_joint: LogDensity, mu: Tensor, sigma: Tensor, generator: torch.Generator):
    """Return the mean of p(z|x) and a root of its covariance, from chains that start in q(z|x)."""
    z = mu + sigma * torch.randn(WALKERS, *mu.shape, generator=generator)
    found = []
    for move in range(WARM + MOVES):
        momenta = torch.randn(z.shape, generator=generator)
        uniforms = torch.rand(z.shape[:-1], generator=generator)
        z, _ = hmc(log_joint, z, momenta, uniforms, step=STEP * sigma, steps=STEPS)
        if move >= WARM:
            found.append(z)
    draws = torch.cat(found)
    apart = draws - draws.mean(0)
    covariance = torch.einsum("kni,knj->nij", apart, apart) / len(draws)
    return draws.mean(0), torch.linalg.cholesky(covariance)


class Student:
    """The multivariate t distribution around each of some centres."""

    def __init__(self, centre: Tensor, root: Tensor) -> None:
        self.centre, self.root = centre, root
        n, d = FREEDOM, centre.shape[-1]
        self.log_peak = (
            math.lgamma((n + d) / 2) - math.lgamma(n / 2) - d / 2 * math.log(n * math.pi)
            - root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        )  # fmt: skip

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        eps = torch.randn(count, *self.centre.shape, generator=generator)
        squares = torch.randn(count, len(self.centre), FREEDOM, generator=generator).square()
        t = eps / squares.mean(-1, keepdim=True).sqrt()
        return self.centre + torch.einsum("nij,knj->kni", self.root, t)

    def log_prob(self, z: Tensor) -> Tensor:
        t = torch.linalg.solve_triangular(
            self.root, (z - self.centre)[..., None], upper=False
        ).squeeze(-1)
        n, d = FREEDOM, z.shape[-1]
        return self.log_peak - (n + d) / 2 * torch.log1p(t.square().sum(-1) / n)


def described(values: Tensor) -> dict[str, float]:
    error = values.std() / len(values) ** 0.5
    return {"mean": round(float(values.mean()), 4), "standard_error": round(float(error), 4)}


if __name__ == "__main__":
    main()
