"""Measure how the cost of training grows with its sizes, threads, seeds and epochs.

    python -m benchmarks.scaling [--data DIR] [--device cuda]

The command varies one ingredient of the textbook's recipe at a time: examples, batch size, latent
size, hidden width, threads, or seeds that train together. For every value it writes the median
time of a few epochs to benchmarks/results/scaling_MACHINE.json. It also writes the memory that
the process has, on the host or on the GPU, after each of many epochs. It takes a few minutes.
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

from vae_ref import ImageSet, InputError, Recipe, Run, fit, fit_together, mnist
from vae_ref.data import DataError
from vae_ref.support import provenance
from vae_ref.support.atomic import replacing
from vae_ref.support.denormals import denormals_flushed

RESULTS = Path(__file__).parent / "results"
STATM = Path("/proc/self/statm")  #: where Linux reports the memory of the process
COUNT = 12_800  #: examples per point, unless they are varied: 100 steps
WARM, MEASURED = 1, 3  #: epochs per point
MEMORY_COUNT, MEMORY_EPOCHS = 3_200, 60

#: What is varied, and its values. Threads go up to the number of cores; seeds train together.
CURVES = {
    "examples": (1_600, 3_200, 6_400, 12_800, 25_600, 51_200),
    "batch_size": (16, 32, 64, 128, 256, 512, 1024),
    "latent_dim": (2, 5, 10, 20, 50, 100),
    "hidden_dim": (50, 100, 200, 400, 800),
    "threads": tuple(range(1, provenance.cores() + 1)),
    "seeds": (1, 2, 4, 8),
}
SEEDS_ON_GPU = (1, 2, 4, 8, 16, 32, 64)  #: one small model leaves a GPU idle


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", default=os.environ.get("VAE_REF_DATA", "data"), help="a torchvision root")
    add("--engine", help="engine of vae_ref; default: its own choice")
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--json", type=Path, metavar="FILE", help="output; default: results/scaling_MACHINE.json")
    arguments = parser.parse_args(words)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda needs a GPU that torch sees; there is none. Use cpu.")
    try:
        with denormals_flushed():
            measure(arguments)
    except DataError as error:
        parser.exit(2, f"{error} Name a torchvision root with --data.\n")
    except InputError as error:  # there is no such engine
        parser.exit(2, f"{error}\n")


def measure(arguments: argparse.Namespace) -> None:
    device = arguments.device
    environment = provenance.record(threads=torch.get_num_threads(), device=device)
    options = {"device": device} | ({"engine": arguments.engine} if arguments.engine else {})
    data = mnist(arguments.data, train=True)
    content = {
        "command": "python -m benchmarks.scaling",
        "environment": environment,
        "engine": arguments.engine,
        "examples": COUNT,
        # Measured first: the process does not give back what the curves allocate.
        "memory": list(memory(data, MEMORY_COUNT, MEMORY_EPOCHS, **options))
        if device == "cuda" or STATM.exists()
        else [],
        "memory_examples": MEMORY_COUNT,
        "curves": {name: list(curve(name, data, **options)) for name in curves(device)},
    }
    path = arguments.json or RESULTS / f"scaling_{provenance.machine_name(environment)}.json"
    path.parent.mkdir(exist_ok=True, parents=True)
    with replacing(path) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())
    show(content)


def curves(device: str) -> dict[str, tuple[int, ...]]:
    """Return what is varied on a device, and its values. On a GPU, threads are not varied."""
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
        part = first_images(data, count)
        options["device"] = device
        seconds = epoch_seconds(recipe, part, WARM + MEASURED, seeds=seeds, **options)[WARM:]
        torch.set_num_threads(before)
        yield {
            "value": value,
            "seconds": round(statistics.median(seconds), 5),
            "steps": -(-count // recipe.batch_size),
            "examples": count * seeds,
        }


def epoch_seconds(
    recipe: Recipe, data: ImageSet, count: int, *, seeds: int = 1, **options: str
) -> list[float]:
    """Train some seeds together, and return the seconds of every epoch."""
    recipes = [replace(recipe, seed=seed) for seed in range(seeds)]
    runs = [Run.start(recipe, data.size, **options) for recipe in recipes]
    together = fit_together(runs, data, first_images(data, 1), epochs=count)
    return [records[0].seconds for records in together]


def memory(
    data: ImageSet, examples: int, count: int, *, device: str = "cpu", **options: str
) -> Iterator[float]:
    """Train, and yield the memory that is in use, in MiB, before and after every epoch."""
    data = first_images(data, examples)
    run = Run.start(Recipe(), data.size, device=device, **options)
    yield resident(device)
    for _ in fit(run, data, first_images(data, 1), epochs=count):
        yield resident(device)


def resident(device: str) -> float:
    """Return the memory in MiB: of this process, without swap, or of the GPU, held by torch."""
    if device == "cuda":
        return round(torch.cuda.memory_reserved() / 2**20, 2)
    return round(int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20, 2)


def first_images(data: ImageSet, count: int) -> ImageSet:
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
