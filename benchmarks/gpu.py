"""Measure the textbook's training on a GPU, the most valuable part first.

    python -m benchmarks.gpu --data DIR [--device cpu] [--only PART ...]

A GPU may be lent for minutes. So every part writes its result to
benchmarks/results/gpu_MACHINE.json when it is done, and a part that fails says why and does not
end the others. `--device cpu` runs all parts without the engine `graph`, which needs a GPU.
`benchmarks.race --device cuda` and `benchmarks.scaling --device cuda` belong to the same visit.
"""

import argparse
import json
import os
import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.contestants import floor
from benchmarks.contestants.protocol import clock
from benchmarks.standings import interval
from vae_ref import ImageSet, InputError, Recipe, Run, fit, fit_together, mnist
from vae_ref.data import DataError
from vae_ref.support import provenance
from vae_ref.support.atomic import replacing
from vae_ref.support.denormals import denormals_flushed

RESULTS = Path(__file__).parent / "results"
EPOCHS, WARM = 6, 1
MOST_EPOCHS, SEEDS = 20, 20
TOGETHER = (1, 2, 4, 8, 16, 32, 64)
REPETITIONS = 20  #: of what takes milliseconds
NODES = 100  #: operations of a graph that wait for each other

Sets = tuple[ImageSet, ImageSet]


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", default=os.environ.get("VAE_REF_DATA", "data"), help="a torchvision root")
    add("--device", choices=("cpu", "cuda"), default="cuda")
    add(
        "--only", nargs="+", choices=PARTS, default=[*PARTS], metavar="PART", help=", ".join(PARTS)
    )
    add("--json", type=Path, metavar="FILE", help="output; default: results/gpu_MACHINE.json")
    arguments = parser.parse_args(words)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda needs a GPU that torch sees; there is none. Use cpu.")
    try:
        sets = mnist(arguments.data, train=True), mnist(arguments.data, train=False)
    except DataError as error:
        parser.exit(2, f"{error} Name a torchvision root with --data.\n")
    environment = provenance.record(threads=torch.get_num_threads(), device=arguments.device)
    path = arguments.json or RESULTS / f"gpu_{provenance.machine_name(environment)}.json"
    content: dict[str, Any] = {"command": "python -m benchmarks.gpu", "environment": environment}
    with denormals_flushed():
        for name in arguments.only:
            try:
                content[name] = PARTS[name](sets, arguments.device)
            except (InputError, RuntimeError) as error:  # torch's errors of a device are these
                content[name] = {"failed": str(error)}
            with replacing(path) as file:
                file.write((json.dumps(content, indent=1) + "\n").encode())
            print(name, json.dumps(content[name]), flush=True)


def equal(sets: Sets, device: str) -> dict[str, Any]:
    """Train an epoch from one start with every engine, and compare it with eager."""
    found = {}
    for engine in engines(device):
        run = Run.start(Recipe(), sets[0].size, device=device, engine=engine)
        (record,) = fit(run, *sets, epochs=1)
        weights = torch.cat([p.detach().flatten().cpu() for p in run.model.parameters()])
        found[engine] = record.train_loss, weights
    loss, weights = found["eager"]
    return {
        engine: {
            "train_loss": own_loss,
            "loss_apart": abs(own_loss - loss),
            "weights_apart": float((own - weights).abs().max()),
        }
        for engine, (own_loss, own) in found.items()
    }


def ladder(sets: Sets, device: str) -> dict[str, Any]:
    """Time the epochs of every engine, from one launch per operation to one per epoch."""
    return {
        engine: [r.seconds for r in trained(Recipe(), sets, EPOCHS, device=device, engine=engine)]
        for engine in engines(device)
    }


def parts_of_the_floor(sets: Sets, device: str) -> dict[str, float]:
    """Time what an epoch cannot do without, in seconds per epoch.

    These are its products, in one graph and launched one by one; operations that wait for each
    other, as many as a step has products; and reading and writing the weights and both of Adam's
    moments once per step, and writing the gradients.
    """
    count = len(sets[0])
    steps = -(-count // floor.BATCH)
    products = floor.products(floor.BATCH, device=device)
    one = torch.zeros(1, device=device)
    numbers = sum(p.numel() for p in Run.start(Recipe(), sets[0].size).model.parameters())
    state = torch.zeros(7, numbers, device=device)  # 3 are read, and 4 are written

    def nodes() -> None:
        for _ in range(NODES):
            one.add_(1)

    def traffic() -> None:
        state[:3].add_(1)
        state[6].fill_(0)

    return {
        "products": timed(floor.epoch(count, device=device), device),
        "products launched one by one": steps * timed(lambda: floor.step(products), device),
        "operations that wait": steps * len(products) / NODES
        * timed(floor.recorded(nodes, device), device),
        "memory of weights and moments": steps * timed(floor.recorded(traffic, device), device),
    }  # fmt: skip


def twenty(sets: Sets, device: str) -> dict[str, Any]:
    """Train twenty epochs with an evaluation after each."""
    began = clock(device)
    records = trained(Recipe(), sets, MOST_EPOCHS, device=device)
    low, high = interval(MOST_EPOCHS)
    return {
        "seconds": clock(device) - began,
        "seconds_of_training": sum(record.seconds for record in records),
        "test_loss": records[-1].test_loss,
        "inside": low <= records[-1].test_loss <= high,
    }


def together(sets: Sets, device: str) -> list[dict[str, float]]:
    """Time an epoch of several seeds side by side."""
    found = []
    for count in TOGETHER:
        runs = starts(count, sets, device)
        seconds = [records[0].seconds for records in fit_together(runs, *sets, epochs=WARM + 2)]
        found.append({"seeds": count, "seconds": statistics.median(seconds[WARM:])})
    return found


def twenty_seeds(sets: Sets, device: str) -> dict[str, Any]:
    """Train twenty seeds for twenty epochs side by side, and hold every loss to the interval."""
    runs, began = starts(SEEDS, sets, device), clock(device)
    *_, last = fit_together(runs, *sets, epochs=MOST_EPOCHS)
    low, high = interval(MOST_EPOCHS)
    return {
        "seconds": clock(device) - began,
        "test_losses": [record.test_loss for record in last],
        "inside": sum(low <= record.test_loss <= high for record in last),
        "seeds": SEEDS,
    }


def engines(device: str) -> list[str]:
    return ["eager", "analytic", "graph"] if device == "cuda" else ["eager", "analytic"]


def starts(count: int, sets: Sets, device: str) -> list[Run]:
    recipes = [replace(Recipe(), seed=seed) for seed in range(count)]
    return [Run.start(recipe, sets[0].size, device=device) for recipe in recipes]


def trained(recipe: Recipe, sets: Sets, epochs: int, **options: str) -> list[Any]:
    run = Run.start(recipe, sets[0].size, **options)
    return list(fit(run, *sets, epochs=epochs))


def timed(call: Callable[[], None], device: str) -> float:
    """Return the median seconds of a call, after one to warm up."""

    def seconds() -> Iterator[float]:
        for _ in range(1 + REPETITIONS):
            began = clock(device)
            call()
            yield clock(device) - began

    return statistics.median(list(seconds())[1:])


PARTS: dict[str, Callable[[Sets, str], Any]] = {
    "equal": equal,
    "ladder": ladder,
    "twenty": twenty,
    "twenty_seeds": twenty_seeds,
    "together": together,
    "parts_of_the_floor": parts_of_the_floor,
}


if __name__ == "__main__":
    main()
