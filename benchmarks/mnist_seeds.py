"""Train the textbook configuration on MNIST with many seeds, for the intervals of the tests.

    python -m benchmarks.mnist_seeds --data DIR [--seeds 20]

The command adds one line per seed to benchmarks/results/mnist_seeds.jsonl: the losses of all
epochs, and what made them. Seeds that the file already has are skipped, so the command resumes.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import torch

from vae_ref import Recipe, Run, fit, mnist
from vae_ref.support import provenance
from vae_ref.support.denormals import denormals_flushed

RESULTS = Path(__file__).parent / "results" / "mnist_seeds.jsonl"
EPOCHS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="data", help="a torchvision root")
    parser.add_argument("--seeds", type=int, default=20, help="number of seeds, from 0 on")
    arguments = parser.parse_args()
    with denormals_flushed():
        measure(arguments.data, arguments.seeds)


def measure(data: str, seeds: int) -> None:
    train, test = (mnist(data, train=part) for part in (True, False))
    RESULTS.parent.mkdir(exist_ok=True)
    done = {json.loads(line)["seed"] for line in _lines()}
    for seed in sorted(set(range(seeds)) - done):
        run = Run.start(Recipe(seed=seed), train.size)
        records = [dataclasses.asdict(record) for record in fit(run, train, test, epochs=EPOCHS)]
        keys = ("train_loss", "test_loss", "test_reconstruction", "test_kl")
        result = {
            "seed": seed,
            **{key: [round(record[key], 4) for record in records] for key in keys},
            "seconds": round(sum(record["seconds"] for record in records), 2),
            **provenance.record(threads=torch.get_num_threads()),
        }
        with RESULTS.open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(f"seed {seed}: {result['test_loss'][-1]} after {result['seconds']} s", flush=True)


def _lines() -> list[str]:
    return RESULTS.read_text().splitlines() if RESULTS.exists() else []


if __name__ == "__main__":
    main()
