"""What all contestants share: the options, the clock, and the lines that they print."""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from vae_ref import InputError
from vae_ref.data import DataError

__all__ = ["clock", "enter"]

Contest = Callable[[argparse.Namespace], Iterator[dict[str, Any]]]


def enter(contest: Contest, *options: str) -> None:
    """Run a contestant with the settings of the command line, and print what it yields.

    Args:
        contest: Yields ``{"epoch": ..., "seconds": ...}`` after every epoch and, at the end,
            ``{"test_loss": ...}``, with the ``engine`` if there is a choice.
        options: The names of options that only this contestant has.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path("data"), help="a torchvision root")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    for option in options:
        parser.add_argument(f"--{option}")
    settings = parser.parse_args()
    for name in "epochs", "threads":
        if getattr(settings, name) < 1:
            parser.error(f"--{name} must be positive; got {getattr(settings, name)}.")
    if not (settings.data / "MNIST" / "raw").is_dir():
        parser.error(
            f"--data must hold MNIST/raw; {settings.data} does not. Name a torchvision root."
        )
    confine(settings.threads)
    try:
        for line in contest(settings):
            print(json.dumps(line), flush=True)
    except (DataError, InputError) as error:
        parser.exit(2, f"{error}\n")


def confine(threads: int) -> None:
    """Limit the process to so many threads and cores; XLA has one thread for every core."""
    torch.set_num_threads(threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def clock(device: torch.device | str) -> float:
    """Wait for the device, and read the clock."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
