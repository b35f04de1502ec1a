"""Reproduce table 1 of the IWAE paper, one stochastic layer, on stochastically binarised MNIST.

    python -m benchmarks.papers.iwae --objective iwae --k 5 --data DIR --out DIR
    python -m benchmarks.papers.iwae --report --out DIR
    python -m benchmarks.papers.iwae --short --data DIR --out DIR

The first trains 3280 epochs; killed, it goes on when repeated, to the same bits. The second sets
what such runs have reached beside what the paper published. The third trains shortened runs,
a few minutes for each seed, and writes benchmarks/results/iwae_short.jsonl.

It follows the paper. The authors' own code, github.com/yburda/iwae, departs from it: Adam's beta1
is 0.99, its second moments start at one and its epsilon is added before the bias correction;
learning rates are rounded to 1e-3 times 1, 0.72, 0.52, 0.37, 0.27, 0.19, 0.14, 0.1; all weights
come from one seed, so that layers of one shape start equal. It visits the images in one order in
every epoch, where this recipe draws an order for each. What the paper leaves open is as in that
code: 59,600 training images, the initial biases, gradients summed over the minibatch, a sampled
divergence, an encoder that puts out log sigma, one binarisation of the test set. It counts active
units on 500 training images, this recipe on the test images.

References:
    Burda, Grosse and Salakhutdinov, *Importance Weighted Autoencoders*, ICLR 2016.
"""

import argparse
import os
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.papers.iwae_model import BINARISATION
from benchmarks.papers.iwae_training import (
    ENDS,
    TRAIN_IMAGES,
    Evaluation,
    Settings,
    follow,
    read,
    write,
)
from vae_ref import InputError, mnist
from vae_ref.data import DataError
from vae_ref.running.checkpoint import CheckpointError
from vae_ref.running.training import DivergenceError
from vae_ref.support.denormals import denormals_flushed

#: Negative log-likelihood of the test set in nats by L_5000, MNIST binarised stochastically.
PUBLISHED = {
    ("vae", 1): 86.76,
    ("vae", 5): 86.47,
    ("vae", 50): 86.35,
    ("iwae", 1): 86.76,
    ("iwae", 5): 85.54,
    ("iwae", 50): 84.78,
}
SOURCE = "Burda, Grosse and Salakhutdinov, 2016, table 1, one stochastic layer, MNIST"

FULL = Evaluation()
RESULTS = Path(__file__).parents[1] / "results"

#: The shortened runs: half of the images, two stages of the schedule, a coarser evaluation.
SHORT_RUNS = (("iwae", 1), ("vae", 5), ("iwae", 5))
SHORT_TRAIN_IMAGES = 30_000
SHORT_STAGES = 2
SHORT_EVALUATION = Evaluation(samples=200, images=1000)
SHORT_RESULTS = RESULTS / "iwae_short.jsonl"


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--objective", choices=("vae", "iwae"), help="what is maximised")
    add("--k", type=int, help="samples of z per example; the paper's are 1, 5 and 50")
    add("--data", default=os.environ.get("VAE_REF_DATA", "data"), help="a torchvision root")
    add("--out", type=Path, default=Path("runs/iwae"), help="where every run has a directory")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add("--stages", type=int, choices=range(1, 9), default=8, help="of the schedule's 8")
    add("--seed", type=int, default=0)
    add("--train-images", type=int, default=TRAIN_IMAGES)
    add("--evaluation-samples", type=int, default=FULL.samples, help="K of L_K")
    add("--evaluation-images", type=int, default=FULL.images, help="of the test set")
    add("--report", action="store_true", help="print published figures beside ours")
    add("--short", action="store_true", help="train the shortened runs of several seeds")
    add("--seeds", type=int, default=10, help="of the shortened runs, from 0")
    arguments = parser.parse_args(words)
    if not (arguments.report or arguments.short) and not (arguments.objective and arguments.k):
        parser.error("name --objective and --k, or --report, or --short")
    try:
        with denormals_flushed():
            _obey(arguments)
    except (CheckpointError, DataError, DivergenceError, InputError) as error:
        parser.exit(2, f"{error}\n")


def _obey(arguments: argparse.Namespace) -> None:
    if arguments.report:
        return report([*read(RESULTS / "iwae.jsonl"), *records_under(arguments.out)])
    if arguments.short:
        return short(arguments.data, arguments.out, arguments.seeds)
    settings = Settings(
        objective=arguments.objective,
        k=arguments.k,
        seed=arguments.seed,
        train_images=arguments.train_images,
    )
    evaluation = Evaluation(
        samples=arguments.evaluation_samples, images=arguments.evaluation_images
    )
    name = arguments.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    train, test = (mnist(arguments.data, train=part) for part in (True, False))
    records = follow(
        settings,
        train,
        test,
        arguments.out,
        stages=arguments.stages,
        evaluation=evaluation,
        device=torch.device(name),
    )
    for record in records:
        print(_progress(record))
    return None


def short(data: str, out: Path, seeds: int, *, results: Path = SHORT_RESULTS) -> None:
    """Train the shortened runs of some seeds and collect their records; it resumes too."""
    train, test = (mnist(data, train=part) for part in (True, False))
    records = read(results)
    done = {(record["objective"], record["k"], record["seed"]) for record in records}
    for seed in range(seeds):
        for objective, k in SHORT_RUNS:
            if (objective, k, seed) in done:
                continue
            records += follow(
                short_settings(objective, k, seed),
                train,
                test,
                out,
                stages=SHORT_STAGES,
                evaluation=SHORT_EVALUATION,
                device=torch.device("cpu"),
            )
            write(results, records)


def short_settings(objective: str, k: int, seed: int) -> Settings:
    return Settings(objective=objective, k=k, seed=seed, train_images=SHORT_TRAIN_IMAGES)


def records_under(out: Path) -> list[dict[str, Any]]:
    return [record for path in sorted(out.glob("*/records.jsonl")) for record in read(path)]


class Row(NamedTuple):
    """A published figure and what our runs have reached, in nats."""

    objective: str
    k: int
    published: float
    ours: list[float]
    latest: dict[str, Any] | None


def compare(records: Iterable[dict[str, Any]]) -> list[Row]:
    """Set records beside the paper's table; only whole runs and evaluations are `ours`."""
    rows = []
    for (objective, k), published in PUBLISHED.items():
        found = [r for r in records if (r["objective"], r["k"]) == (objective, k)]
        ours = {r["seed"]: r["test_nll"] for r in found if _is_whole(r)}
        latest = max(found, key=lambda record: record["epoch"], default=None)
        rows.append(Row(objective, k, published, list(ours.values()), latest))
    return rows


def _is_whole(record: dict[str, Any]) -> bool:
    found = tuple(record[key] for key in ("epoch", "train_images", "batch_size"))
    evaluated = record["evaluation_samples"], record["evaluation_images"]
    return found == (ENDS[-1], TRAIN_IMAGES, 20) and evaluated == (FULL.samples, FULL.images)


def figure(ours: list[float]) -> str:
    """Write the mean of what was measured over seeds, or that nothing was."""
    if not ours:
        return "not run"
    return f"{statistics.mean(ours):.2f}" + f" ({len(ours)} seeds)" * (len(ours) > 1)


def report(records: list[dict[str, Any]], *, console: Console | None = None) -> None:
    """Print published figures beside ours."""
    table = Table("objective", "k", "published", "ours", "latest record")
    table.title = "Test set, -log p(x) by L_5000, nats"
    for row in compare(records):
        latest = _progress(row.latest) if row.latest else ""
        table.add_row(
            row.objective.upper(), str(row.k), f"{row.published}", figure(row.ours), latest
        )
    console = console or Console()
    console.print(table)
    console.print(f"Published: {SOURCE}.", f"Binarisation: {BINARISATION}.", sep="\n")


def _progress(record: dict[str, Any]) -> str:
    return (
        f"epoch {record['epoch']}/{ENDS[-1]} on {record['train_images']} images: "
        f"{record['test_nll']:.2f} by L_{record['evaluation_samples']} "
        f"of {record['evaluation_images']}, {record['active_units']} active units"
    )


if __name__ == "__main__":
    main()
