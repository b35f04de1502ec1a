"""Measure how training's cost grows with examples, batch, code, width, threads, seeds and epochs.

    python -m benchmarks.scaling [--data DIR] [--device cuda]

Varies one ingredient of the textbook's recipe at a time and writes, for every value, the median
of some epochs' seconds to benchmarks/results/scaling_MACHINE.json; and the memory that the process
has, there or of the GPU, after each of many epochs. Takes a few minutes.
"""

import argparse
import json
import os
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks import environment
from vae_ref import ImageSet, InputError, Recipe, Run, fit, fit_together, mnist
from vae_ref.atomic import replacing
from vae_ref.data import DataError
from vae_ref.engines.platform import denormals_flushed

RESULTS = Path(__file__).parent / "results"
STATM = Path("/proc/self/statm")  #: Linux tells of memory there
COUNT = 12_800  #: examples of a point, where they are not what varies: 100 steps
WARM, MEASURED = 1, 3  #: epochs of a point
MEMORY_COUNT, MEMORY_EPOCHS = 3_200, 60

#: What is varied, and over which values; threads go up to what there are, seeds train together.
CURVES = {
    "examples": (1_600, 3_200, 6_400, 12_800, 25_600, 51_200),
    "batch_size": (16, 32, 64, 128, 256, 512, 1024),
    "latent_dim": (2, 5, 10, 20, 50, 100),
    "hidden_dim": (50, 100, 200, 400, 800),
    "threads": tuple(range(1, environment.cores() + 1)),
    "seeds": (1, 2, 4, 8),
}
SEEDS_ON_GPU = (1, 2, 4, 8, 16, 32, 64)  #: one small model leaves it idle


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", default=os.environ.get("VAE_REF_DATA", "data"), help="a torchvision root")
    add("--engine", help="the one that is chosen for the recipe")
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--json", type=Path, metavar="FILE", help="where to write; results/scaling_MACHINE.json")
    arguments = parser.parse_args(words)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda needs a GPU that torch sees; there is none. Use cpu.")
    try:
        with denormals_flushed():
            measure(arguments)
    except DataError as error:
        parser.exit(2, f"{error} Name a torchvision root with --data.\n")
    except InputError as error:  # an engine that there is not
        parser.exit(2, f"{error}\n")


def measure(arguments: argparse.Namespace) -> None:
    device = arguments.device
    surroundings = environment.describe(threads=torch.get_num_threads(), device=device)
    options = {"device": device} | ({"engine": arguments.engine} if arguments.engine else {})
    data = mnist(arguments.data, train=True)
    content = {
        "command": "python -m benchmarks.scaling",
        "environment": surroundings,
        "engine": arguments.engine,
        "examples": COUNT,
        # First: what other points allocate, the process does not give back.
        "memory": list(memory(data, MEMORY_COUNT, MEMORY_EPOCHS, **options))
        if device == "cuda" or STATM.exists()
        else [],
        "memory_examples": MEMORY_COUNT,
        "curves": {name: list(curve(name, data, **options)) for name in curves(device)},
    }
    path = arguments.json or RESULTS / f"scaling_{environment.machine(surroundings)}.json"
    path.parent.mkdir(exist_ok=True, parents=True)
    with replacing(path) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())
    show(content)


def curves(device: str) -> dict[str, tuple[int, ...]]:
    """Return what is varied on a device, and over which values: a GPU has no threads to set."""
    if device == "cpu":
        return CURVES
    return {n: v for n, v in CURVES.items() if n != "threads"} | {"seeds": SEEDS_ON_GPU}


def curve(
    name: str, data: ImageSet, *, device: str = "cpu", **options: str
) -> Iterator[dict[str, Any]]:
    """Measure the points of one curve."""
    for value in curves(device)[name]:
        count = value if name == "examples" else COUNT
        seeds = value if name == "seeds" else 1
        own = name in ("batch_size", "latent_dim", "hidden_dim")
        recipe = Recipe(**{name: value}) if own else Recipe()
        before = torch.get_num_threads()
        torch.set_num_threads(value if name == "threads" else before)
        part = first(data, count)
        options["device"] = device
        seconds = epochs(recipe, part, WARM + MEASURED, seeds=seeds, **options)[WARM:]
        torch.set_num_threads(before)
        yield {
            "value": value,
            "seconds": round(statistics.median(seconds), 5),
            "steps": -(-count // recipe.batch_size),
            "examples": count * seeds,
        }


def epochs(
    recipe: Recipe, data: ImageSet, count: int, *, seeds: int = 1, **options: str
) -> list[float]:
    """Train, several seeds in one program, and return the seconds of every epoch."""
    recipes = [replace(recipe, seed=seed) for seed in range(seeds)]
    runs = [Run.start(recipe, data.size, **options) for recipe in recipes]
    together = fit_together(runs, data, first(data, 1), epochs=count)
    return [records[0].seconds for records in together]


def memory(
    data: ImageSet, examples: int, count: int, *, device: str = "cpu", **options: str
) -> Iterator[float]:
    """Train, and yield the memory that is in use, in MiB, before and after every epoch."""
    data = first(data, examples)
    run = Run.start(Recipe(), data.size, device=device, **options)
    yield resident(device)
    for _ in fit(run, data, first(data, 1), epochs=count):
        yield resident(device)


def resident(device: str) -> float:
    """Return in MiB what of this process is not swapped out, or what its torch has of the GPU."""
    if device == "cuda":
        return round(torch.cuda.memory_reserved() / 2**20, 2)
    return round(int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20, 2)


def first(data: ImageSet, count: int) -> ImageSet:
    return replace(data, images=data.images[:count], labels=data.labels[:count])


def slope(points: list[dict[str, Any]]) -> float:
    """Fit the exponent a of seconds ~ value ** a over the upper half of the values."""
    upper = points[len(points) // 2 :]
    x, y = (np.log([point[key] for point in upper]) for key in ("value", "seconds"))
    return float(np.polyfit(x, y, 1)[0])


def show(content: dict[str, Any]) -> None:
    table = Table("", "value", "seconds per epoch", "ms per step", "examples per second")
    for name, points in content["curves"].items():
        for point in points:
            seconds = point["seconds"]
            table.add_row(
                name,
                str(point["value"]),
                f"{seconds:.3f}",
                f"{1e3 * seconds / point['steps']:.2f}",
                f"{point['examples'] / seconds:.0f}",
            )
    console = Console()
    console.print(table)
    if content["memory"]:
        before, *after = content["memory"]
        console.print(
            f"memory: {before:.0f} MiB before, {after[0]:.0f} after epoch 1, "
            f"{after[-1]:.0f} after epoch {len(after)}"
        )


if __name__ == "__main__":
    main()
