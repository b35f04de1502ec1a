"""Race the textbook script, a fair PyTorch loop, a JAX scan, vae_ref and the floor on MNIST.

    python -m benchmarks.race --data DIR [--repetitions 5] [--epochs 6] [--threads 2]

Every contestant runs in a process of its own, one after another. Each repetition starts with the
next contestant, so that none is always the first. The command prints the table and the targets,
and writes benchmarks/results/race_MACHINE.json, or race_MACHINE_busy.json.
"""

import argparse
import contextlib
import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.standings import CONTESTANTS, Result, Standings, interval
from vae_ref import mnist
from vae_ref.data import DataError
from vae_ref.support import provenance
from vae_ref.support.atomic import replacing

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
NEEDS = {"scan": "jax"}
VERDICTS = {"met": "green", "missed": "red", "void": "red", "not measured": "yellow"}


class RaceError(Exception):
    """Says which contestant failed, with the last line of its errors."""


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", default=os.environ.get("VAE_REF_DATA", "data"), help="a torchvision root")
    add("--repetitions", type=int, default=5)
    add("--epochs", type=int, default=6)
    add("--threads", type=int, default=provenance.cores(), help="threads of each")
    add("--only", nargs="+", choices=CONTESTANTS, default=[*CONTESTANTS], metavar="NAME")
    add("--engine", help="engine of vae_ref; default: its own choice")
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--busy", action="store_true", help="race beside a process that computes all the time")
    add("--json", type=Path, metavar="FILE", help="output; default: results/race_MACHINE.json")
    arguments = parser.parse_args(words)
    for name, most in ("repetitions", 1000), ("epochs", 20), ("threads", provenance.cores()):
        if not 1 <= (value := getattr(arguments, name)) <= most:
            parser.error(f"--{name} must be 1 to {most}; got {value}.")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda needs a GPU that torch sees; there is none. Use cpu.")
    try:
        mnist(arguments.data, train=False)
        race(arguments)
    except DataError as error:
        parser.exit(2, f"{error} Name a torchvision root with --data.\n")
    except RaceError as error:
        parser.exit(1, f"{error}\n")


def race(arguments: argparse.Namespace) -> None:
    environment = provenance.record(threads=arguments.threads, device=arguments.device)
    results = []
    with neighbour() if arguments.busy else contextlib.nullcontext():
        for result in run(arguments):
            results.append(result)
            seconds = " ".join(f"{s:.2f}" for s in result.seconds)
            line = f"{result.repetition} {result.contestant}: {seconds}"
            print(line, file=sys.stderr, flush=True)
    content = {
        "command": "python -m benchmarks.race",
        "environment": environment,
        "epochs": arguments.epochs,
        "repetitions": arguments.repetitions,
        "engine": arguments.engine,
        "busy": arguments.busy,
        "results": [dataclasses.asdict(result) for result in results],
    }
    name = provenance.machine_name(environment) + "_busy" * arguments.busy
    path = arguments.json or RESULTS / f"race_{name}.json"
    path.parent.mkdir(exist_ok=True, parents=True)
    with replacing(path) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())
    show(Standings.read(content), environment)


@contextlib.contextmanager
def neighbour() -> Iterator[None]:
    """Compute all the time in another process, on one core."""
    process = subprocess.Popen([sys.executable, "-c", "while True: sum(range(10**6))"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def run(arguments: argparse.Namespace) -> Iterator[Result]:
    """Run the contestants in turns."""
    names = [name for name in CONTESTANTS if name in arguments.only]
    for name in [name for name in names if is_missing(name, arguments.device)]:
        more = " 'jax[cuda13]'" * (arguments.device == "cuda")
        print(f"{name} is left out: pip install -e '.[rivals]'{more}", file=sys.stderr)
        names.remove(name)
    for repetition in range(1, arguments.repetitions + 1):
        turn = (repetition - 1) % len(names) if names else 0
        for name in names[turn:] + names[:turn]:
            yield enter(name, repetition, arguments)


def is_missing(name: str, device: str = "cpu") -> bool:
    """Whether what a contestant needs is not installed, or does not see the GPU."""
    if name not in NEEDS:
        return False
    if device == "cpu":
        return importlib.util.find_spec(NEEDS[name]) is None
    # In a process of its own: jax keeps most of a GPU's memory for as long as it lives.
    probe = [sys.executable, "-c", f"import jax; jax.devices({device!r})"]
    return subprocess.run(probe, capture_output=True, check=False).returncode != 0


def enter(name: str, repetition: int, arguments: argparse.Namespace) -> Result:
    """Run one contestant in a process of its own."""
    seed = repetition - 1
    options = {
        "data": arguments.data,
        "epochs": arguments.epochs,
        "threads": arguments.threads,
        "seed": seed,
        "device": arguments.device,
        **({"engine": arguments.engine} if arguments.engine and name == "ours" else {}),
    }
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    finished = subprocess.run(
        [sys.executable, "-m", f"benchmarks.contestants.{name}", *words],
        env=os.environ | {"OMP_NUM_THREADS": str(arguments.threads), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        last = finished.stderr.strip().splitlines()[-1:] or ["no message"]
        raise RaceError(f"{name} ended with status {finished.returncode}: {last[0]}")
    return read(name, repetition, seed, finished.stdout)


def read(name: str, repetition: int, seed: int, output: str) -> Result:
    """Parse the lines that a contestant printed."""
    *epochs, last = [json.loads(line) for line in output.splitlines()]
    return Result(
        contestant=name,
        repetition=repetition,
        seed=seed,
        seconds=[round(epoch["seconds"], 4) for epoch in epochs],
        test_loss=last["test_loss"] and round(last["test_loss"], 4),
        engine=last.get("engine"),
    )


def show(standings: Standings, environment: dict[str, Any]) -> None:
    """Print the table, the interval of the losses and the targets."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table(standings))
    low, high = interval(standings.epochs[-1])
    console.print(
        f"Seconds and nats: median (range). A loss outside {low:.2f} to {high:.2f} is void."
    )
    for statement, found, verdict in standings.targets():
        console.print(f"[{VERDICTS[verdict]}]{verdict:>12}[/]  {statement}: {found or '-'}")
    console.print(", ".join(f"{key} {value}" for key, value in environment.items()))


def table(standings: Standings) -> Table:
    """Set the contestants side by side."""
    names = standings.names
    result = Table("", *(CONTESTANTS[name] for name in names))
    for epoch in standings.epochs:
        result.add_row(f"epoch {epoch}", *(str(standings.seconds(n, epoch)) for n in names))
    losses = {name: standings.loss(name) for name in names}
    marks = {name: " void" if standings.is_void(name) else "" for name in names}
    result.add_row("test loss", *(f"{losses[n] or '-'}{marks[n]}" for n in names))
    for other in ("ours", "floor"):
        if other in names:
            ratios = (f"{standings.ratio(n, other).median:.2f}{marks[n]}" for n in names)
            result.add_row(f"time / {CONTESTANTS[other]}", *ratios)
    return result


if __name__ == "__main__":
    main()
