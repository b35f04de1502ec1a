"""Bound log p(x) of the textbook's VAE, trained on MNIST, from below and from above.

    python -m benchmarks.evidence --data DIR [--images 1000] [--chains 2] [--temperatures 100]

Chains anneal between q(z|x) and p(x, z). Both bounds hold in expectation for images that the
model simulates, because the code of such an image is a draw from its true posterior. For test
images, made black and white at random, only the lower bound holds: the chains back start where
the chains forth end, which is only nearly a draw from the posterior.

The command writes benchmarks/results/evidence_mnist.json: the means over the images, their
standard errors, how far the bounds are apart, and what made them.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from torch import Tensor

from vae_ref import Recipe, Run, fit, importance_weighted_bound, log_density, mnist
from vae_ref.checks import unchecked
from vae_ref.kinds.evidence import anneal
from vae_ref.support import provenance
from vae_ref.support.denormals import denormals_flushed

RESULTS = Path(__file__).parent / "results" / "evidence_mnist.json"
EPOCHS, STEP, STEPS = 20, 0.4, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="data", help="a torchvision root")
    parser.add_argument("--images", type=int, default=1000, help="images of each kind")
    parser.add_argument("--chains", type=int, default=2, help="chains in each direction")
    parser.add_argument("--temperatures", type=int, default=100, help="temperatures above 0")
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
    p = model.decode(codes)
    simulated = torch.bernoulli(p, generator=generator)
    grey = test.images[: chosen.images].flatten(1).float() / 255
    real = torch.bernoulli(grey, generator=generator)
    result = {
        "model": "784-400-20, Bernoulli",
        "epochs": EPOCHS,
        "test_loss": record.test_loss,
        **vars(chosen),
        "step": STEP,
        "steps": STEPS,
        **provenance.record(threads=torch.get_num_threads()),
    }
    del result["data"]
    for name, x, z in (("simulated", simulated, codes), ("test_binarised", real, None)):
        result[name] = bracket(model, x, z, chosen, generator)
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")
        print(name, json.dumps(result[name], indent=1), flush=True)


def bracket(
    model, x: Tensor, codes: Tensor | None, chosen: argparse.Namespace, generator: torch.Generator
) -> dict[str, object]:
    start = time.perf_counter()
    mu, logvar = model.encode(x)
    sigma, zero = torch.exp(logvar / 2), torch.zeros_like(mu)
    betas = torch.linspace(0, 1, chosen.temperatures + 1)

    def log_joint(z: Tensor) -> Tensor:
        return log_density(z, zero, zero) - model.likelihood.nll(model.decode_logits(z), x)

    def run(z: Tensor, betas: Tensor) -> tuple[Tensor, Tensor, float]:
        moves = len(betas) - 2
        momenta = torch.randn(moves, *z.shape, generator=generator)
        uniforms = torch.rand(moves, *z.shape[:-1], generator=generator)
        log_w, z, accepted = anneal(
            lambda z: log_density(z, mu, logvar),
            log_joint, z, betas, momenta=momenta, uniforms=uniforms,
            step=STEP * sigma, steps=STEPS,
        )  # fmt: skip
        return importance_weighted_bound(log_w), z, float(accepted.mean())

    eps = torch.randn(chosen.chains, *mu.shape, generator=generator)
    lower, ends, forth = run(mu + eps * sigma, betas)
    exact = codes is not None
    upper, _, back = run(codes.expand_as(eps) if exact else ends, betas.flip(0))
    gap = -upper - lower
    result = {
        "lower": described(lower),
        "upper" if exact else "back_from_the_chains_ends": described(-upper),
        "gap": described(gap),
        "images_with_a_gap_below_0.2": float((gap < 0.2).float().mean()),
        "accepted": [round(forth, 3), round(back, 3)],
        "seconds": round(time.perf_counter() - start, 1),
    }
    if exact:
        result["upper_holds"] = "in expectation: the chains back start at draws of the posterior"
    return result


def described(values: Tensor) -> dict[str, float]:
    error = values.std() / len(values) ** 0.5
    return {"mean": round(float(values.mean()), 4), "standard_error": round(float(error), 4)}


if __name__ == "__main__":
    main()
