"""Train the textbook configuration on MNIST with many seeds, for the intervals of the tests.

    python -m benchmarks.mnist_seeds --data DIR [--seeds 20]

Adds one line per seed to benchmarks/results/mnist_seeds.jsonl: the losses of all epochs, and on
what they were computed. Seeds that the file already has are left out, so the command resumes.
"""

import argparse
import dataclasses
import json
import platform
from pathlib import Path

import torch

from vae_ref import Recipe, Run, __version__, fit, mnist
from vae_ref.support.denormals import denormals_flushed

RESULTS = Path(__file__).parent / "results" / "mnist_seeds.jsonl"
EPOCHS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="data", help="a torchvision root")
    parser.add_argument("--seeds", type=int, default=20, help="how many, from 0")
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
            "vae_ref": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "processor": processor(),
            "threads": torch.get_num_threads(),
        }
        with RESULTS.open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(f"seed {seed}: {result['test_loss'][-1]} after {result['seconds']} s", flush=True)


def _lines() -> list[str]:
    return RESULTS.read_text().splitlines() if RESULTS.exists() else []


def processor() -> str:
    return cpuinfo("model name") or platform.processor()


def cpuinfo(field: str) -> str | None:
    """Return what Linux says of the first processor, or None."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = (line.split(":")[1].strip() for line in lines if line.startswith(field))
    return next(named, None)


if __name__ == "__main__":
    main()
