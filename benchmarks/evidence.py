"""Bound log p(x) of the textbook's VAE, trained on MNIST, from below and from above.

    python -m benchmarks.evidence --data DIR [--images 1000] [--chains 20000] [--temperatures 1]

Chains anneal between a wide Laplace approximation of the posterior and p(x, z), and the average of
their weights bounds log p(x) from below in expectation. With one temperature this is importance
sampling. The code of an image that the model simulates is a draw from its true posterior: if one
of the chains is the one that leads back from this code, the same average bounds log p(x) from
above in expectation (Grosse, Ghahramani and Adams 2015; Sobolev and Vetrov 2019, section 3). For
test images, made black and white at random, only the lower bound holds.

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
from torch.func import jacfwd, vmap

from vae_ref import VAE, Recipe, Run, fit, importance_weighted_bound, log_density, mnist
from vae_ref.checks import unchecked
from vae_ref.kinds.evidence import anneal
from vae_ref.support import provenance
from vae_ref.support.atomic import replacing
from vae_ref.support.denormals import denormals_flushed

RESULTS = Path(__file__).parent / "results" / "evidence_mnist.json"
EPOCHS, STEP, STEPS = 20, 0.4, 5
WIDTH, FREEDOM = 1.2, 30  #: wider than the posterior, with heavier tails: no weight is large
NEWTON = 15  #: steps to the mode
TOGETHER = 10  #: chains at a time
APART = 0.2  #: nats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="data", help="a torchvision root")
    parser.add_argument("--images", type=int, default=1000, help="images of each kind")
    parser.add_argument("--chains", type=int, default=20_000, help="chains of each image")
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

    centre, root = laplace(model, log_joint, model.encode(x)[0])
    q = Student(centre, WIDTH * root)

    def log_weights(z: Tensor, betas: Tensor) -> Tensor:
        moves = len(betas) - 2
        momenta = torch.randn(moves, *z.shape, generator=generator)
        uniforms = torch.rand(moves, *z.shape[:-1], generator=generator)
        log_w, _, _ = anneal(
            q.log_prob, log_joint, z, betas, momenta=momenta, uniforms=uniforms,
            step=STEP * root.square().sum(-1).sqrt(), steps=STEPS,
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


def laplace(model: VAE, log_joint, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return a mode of p(z|x) near ``z``, and a root of its inverse curvature (Gauss-Newton)."""

    def curvature(z: Tensor) -> Tensor:
        jacobian = vmap(jacfwd(model.decode_logits))(z)
        p = model.decode(z)
        sum_of_squares = torch.einsum("npi,np,npj->nij", jacobian, p * (1 - p), jacobian)
        return torch.eye(z.shape[-1]) + sum_of_squares

    best = log_joint(z)
    for _ in range(NEWTON):
        at = z.clone().requires_grad_(True)
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(log_joint(at).sum(), at)
        step = torch.linalg.solve(curvature(z), slope)
        for halved in range(6):
            candidate = z + step / 2**halved
            found = log_joint(candidate)
            better = found > best
            z, best = torch.where(better[:, None], candidate, z), torch.maximum(found, best)
            step = torch.where(better[:, None], 0, step)
    return z, torch.linalg.cholesky(torch.linalg.inv(curvature(z)))


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
