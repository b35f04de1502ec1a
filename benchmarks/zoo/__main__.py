"""Train the program with every bug of the zoo, and as it is, with five seeds on MNIST.

    python -m benchmarks.zoo --data DIR

The command adds one line per training to benchmarks/results/zoo.jsonl, and draws what the
trainings of seed 0 have learned in docs/images/zoo. What the file has is skipped, so the command
resumes.
"""

import argparse
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.zoo.bugs import PROGRAM, RIGHT, ZOO
from vae_ref import kl_to_standard_normal, mnist
from vae_ref.data import ImageSet
from vae_ref.running.pictures import tiles
from vae_ref.support import provenance
from vae_ref.support.denormals import denormals_flushed

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "zoo.jsonl"
IMAGES = ROOT / "docs" / "images" / "zoo"
SEEDS, EPOCHS, TRAINED, TESTED = 5, 6, 10_000, 2_000
COLUMNS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="data", help="a torchvision root")
    data = parser.parse_args().data
    torch.set_num_threads(1)
    with denormals_flushed():
        measure(*(mnist(data, train=part) for part in (True, False)))


def measure(train: ImageSet, test: ImageSet) -> None:
    """Train and draw what is not stored yet: every program with a seed before the next seed."""
    IMAGES.mkdir(exist_ok=True)
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    done = {(row["bug"], row["seed"]) for row in map(json.loads, lines)}
    programs = {RIGHT: PROGRAM} | {bug.id: bug.program for bug in ZOO.values()}
    x, held_out = train.batch(torch.arange(TRAINED)), test.batch(torch.arange(TESTED))
    for seed, (name, text) in itertools.product(range(SEEDS), programs.items()):
        if (name, seed) in done:
            continue
        found, model = result(text, seed, x, held_out)
        if seed == 0:
            draw(name, model, test)
        with RESULTS.open("a") as file:
            file.write(json.dumps({"bug": name, "seed": seed, **found}) + "\n")
        print(name, seed, *found["test"][-1:], found["error"], flush=True)


def loaded(text: str) -> SimpleNamespace:
    """Run the text of a program, and return what it defines."""
    names = {"__name__": "program"}
    exec(compile(text, "program.py", "exec"), names)
    return SimpleNamespace(**names)


def result(text: str, seed: int, train: Tensor, test: Tensor) -> tuple[dict, nn.Module]:
    """Train a program; return the losses that it reports, and the right ones, by epoch."""
    start, rows = time.perf_counter(), list[tuple[float, ...]]()
    program = loaded(text)
    torch.manual_seed(seed)
    model, error = program.VAE(), ""
    try:
        for reported in program.train(model, train, test, EPOCHS):
            rows.append((*reported, *terms(model, test, seed)))
    except RuntimeError as raised:  # such as that of a cross-entropy which is given NaN
        error = str(raised).partition("\n")[0]
    columns = zip(*rows, strict=True) if rows else ([],) * 4
    losses = ([round(value, 4) for value in column] for column in columns)
    names = "train", "test", "reconstruction", "kl"
    return {
        **dict(zip(names, losses, strict=True)),
        "error": error,
        "epochs": EPOCHS,
        "images": [len(train), len(test)],
        "seconds": round(time.perf_counter() - start, 1),
        **provenance.record(threads=1),
    }, model


@torch.no_grad()
def terms(model: nn.Module, x: Tensor, seed: int) -> Iterator[float]:
    """Yield the terms of the right loss, nats per example, of a model's encoder and decoder."""
    mu, logvar = model.encode(x)
    eps = torch.randn(mu.shape, generator=torch.Generator().manual_seed(seed))
    outputs = model.decode(mu + torch.exp(logvar / 2) * eps)
    yield float(F.binary_cross_entropy(outputs, x, reduction="sum")) / len(x)
    yield float(kl_to_standard_normal(mu, logvar).mean())


@torch.no_grad()
def draw(name: str, model: nn.Module, test: ImageSet) -> None:
    """Draw a digit of each class over its reconstruction by the program, and decoded draws."""
    x = test.batch(torch.stack([(test.labels == c).nonzero()[0, 0] for c in range(COLUMNS)]))
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2 * COLUMNS, model.mu.out_features, generator=generator)
    torch.manual_seed(0)
    shown = {"digits": torch.cat([x, model.eval()(x)[0]]), "samples": model.decode(z)}
    for what, images in shown.items():
        tiles(images, test.size, columns=COLUMNS).save(IMAGES / f"{name}_{what}.png")


if __name__ == "__main__":
    main()
