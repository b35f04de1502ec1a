"""Measure what an audit costs: beside a verification by names, and beside the step it records.

    python -m benchmarks.audit [--repetitions N]

The textbook's file is verified by its names (``vae-ref verify textbook.py``) and through its step
(``vae-ref verify textbook.py:step``), one after the other. A step of a network of 100 million
parameters, forward and backward, is run as it is and recorded, each in a process of its own whose
peak of memory is read at the end. Every ratio is taken within a repetition. The result is written
to benchmarks/results/audit_MACHINE.json.
"""

import argparse
import inspect
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.contestants.textbook import VAE, loss_function
from benchmarks.standings import Spread
from vae_ref.conformance.auditing.recorder import Recorder, recording
from vae_ref.support import provenance
from vae_ref.support.atomic import replacing

RESULTS = Path(__file__).parent / "results"
HEAD = "import torch\nimport torch.nn.functional as F\nfrom torch import Tensor, nn"
STEP = """model = VAE()


def step(x):
    recon_x, mu, logvar = model(x)
    return loss_function(recon_x, x, mu, logvar)
"""
WIDTH, BATCH, STEPS = 6_600, 128, 5
#: What is divided by what, and the most that it may be.
TARGETS = {
    ("audit seconds", "names seconds"): 1.5,
    ("recorded seconds", "step seconds"): 5.0,
    ("recorded MiB", "step MiB"): 2.0,
}


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5, metavar="N")
    parser.add_argument("--child", choices=("step", "recorded"), help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    if arguments.child:
        print(json.dumps(large_step(recorded=arguments.child == "recorded")))
        return
    if arguments.repetitions < 1:
        parser.error(f"--repetitions must be 1 or more; got {arguments.repetitions}.")
    environment = provenance.record(threads=torch.get_num_threads())
    with tempfile.TemporaryDirectory() as directory:
        found = [repetition(Path(directory)) for _ in range(arguments.repetitions)]
    content = {
        "command": "python -m benchmarks.audit",
        "environment": environment,
        "repetitions": found,
    }
    name = f"audit_{provenance.machine_name(environment)}.json"
    with replacing(RESULTS / name) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())
    for ratio, spread, target in ratios(found):
        print(f"{ratio:32} {spread}, at most {target}")


def ratios(found: list[dict[str, float]]) -> Iterator[tuple[str, Spread, float]]:
    """Yield every ratio by name, its spread over the repetitions, and the most that it may be."""
    for (over, under), target in TARGETS.items():
        yield f"{over} / {under}", Spread.of(one[over] / one[under] for one in found), target


def repetition(directory: Path) -> dict[str, float]:
    """Measure everything once; return seconds, peaks in MiB, and the number of parameters."""
    file = directory / "textbook.py"
    source = [HEAD, inspect.getsource(VAE), inspect.getsource(loss_function), STEP]
    file.write_text("\n\n\n".join(part.strip("\n") for part in source) + "\n")
    names, audit = (verification(str(file) + part) for part in ("", ":step"))
    step, recorded = (in_a_process(name) for name in ("step", "recorded"))
    return {
        "names seconds": names,
        "audit seconds": audit,
        **{f"step {key}": value for key, value in step.items()},
        **{f"recorded {key}": value for key, value in recorded.items()},
    }


def verification(target: str) -> float:
    """Return the seconds that the command takes; it has to find no bug."""
    words = [sys.executable, "-m", "vae_ref", "verify", target]
    words += ["--batch", "128x784"] * target.endswith(":step")
    start = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def in_a_process(name: str) -> dict[str, float]:
    words = [sys.executable, "-m", "benchmarks.audit", "--child", name]
    run = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(run.stdout)
    return found


def large_step(*, recorded: bool) -> dict[str, float]:
    """Return the median time of a step of a large network, and the process's peak of memory."""
    encoder = nn.Sequential(nn.Linear(784, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU())
    mu_head, logvar_head = nn.Linear(WIDTH, 20), nn.Linear(WIDTH, 20)
    decoder = nn.Sequential(
        nn.Linear(20, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 784)
    )
    net, x = nn.ModuleList([encoder, mu_head, logvar_head, decoder]), torch.rand(BATCH, 784)

    def forward() -> tuple[Tensor, Recorder | None]:
        """Return the loss, and what was recorded: an audit needs it until the backward pass."""
        with recording() if recorded else nullcontext() as recorder:
            h = encoder(x)
            mu, logvar = mu_head(h), logvar_head(h)
            outputs = torch.sigmoid(decoder(mu + torch.randn_like(mu) * torch.exp(logvar / 2)))
            return loss_function(outputs, x, mu, logvar), recorder

    seconds = []
    for _ in range(STEPS):
        net.zero_grad()
        start = time.perf_counter()
        loss, _recorder = forward()
        loss.backward()
        seconds.append(time.perf_counter() - start)
    return {
        "seconds": statistics.median(seconds),
        "MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "parameters": sum(p.numel() for p in net.parameters()),
    }


if __name__ == "__main__":
    main()
