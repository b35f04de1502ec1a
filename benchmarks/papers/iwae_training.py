"""Train on the published schedule, resumably to the last bit, and record the end of every stage.

What is random in an epoch is a function of (seed, epoch), drawn on the CPU for every device, and
the state is saved after every epoch. A run that was killed goes on with the same command.
"""

import dataclasses
import itertools
import json
import math
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.mnist_seeds import processor
from benchmarks.papers.iwae_model import (
    BINARISATION,
    Objective,
    active_units,
    binarised,
    binarised_test,
    bound,
    log_weights,
    negative_log_likelihood,
    network,
)
from vae_ref import VAE, ImageSet, InputError, Plan, __version__
from vae_ref.checks import unchecked
from vae_ref.running import checkpoint
from vae_ref.running.checkpoint import CheckpointError
from vae_ref.running.run import Environment
from vae_ref.running.training import DivergenceError
from vae_ref.support.atomic import replacing

#: Per stage i = 0..7: its epochs, 3^i, and Adam's learning rate, 0.001 * 10^(-i/7).
SCHEDULE = tuple((3**i, 0.001 * 10 ** (-i / 7)) for i in range(8))
#: The epoch at which each stage ends: 1, 4, 13, ..., 3280.
ENDS = tuple(itertools.accumulate(epochs for epochs, _ in SCHEDULE))

TRAIN_IMAGES = 59_600  # the authors hold back the last 400, and use them for nothing
NOISE_STEPS = 100  # whose noise is drawn at a time, so that a large k does not fill the memory


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides the parameters after an epoch.

    Args:
        objective: The VAE's or the IWAE's.
        k: The samples of z per example.
        seed: Of the weights, the order, the binarisation and the noise.
        train_images: How many, from the first.
        batch_size: Examples per step; what remains at the end is a step of its own.
    """

    objective: Objective
    k: int
    seed: int = 0
    train_images: int = TRAIN_IMAGES
    batch_size: int = 20

    @property
    def name(self) -> str:
        """What the run is called, and its directory."""
        return f"{self.objective}-k{self.k}-seed{self.seed}"


@dataclass(kw_only=True)
class Training:
    """The state of a run, exactly what its checkpoint holds.

    Args:
        settings: What is computed.
        train: The training images, on the device.
        model: The network so far.
        optimizer: Adam, with its moments so far.
        epoch: The epochs completed.
        train_bound: The mean of the objective over the last epoch, in nats per example.
        seconds: What all epochs took.
        environment: Where it began.
    """

    settings: Settings
    train: ImageSet
    model: VAE
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    train_bound: float = -math.inf
    seconds: float = 0.0
    environment: Environment = field(default_factory=lambda: Environment.current("cpu"))

    @property
    def plan(self) -> Plan:
        """What is random in it."""
        return Plan(self.settings.seed)

    @classmethod
    def start(cls, settings: Settings, train: ImageSet, *, device: torch.device) -> "Training":
        """Begin a run on the first of the training images.

        Raises:
            InputError: If there are fewer than the settings say.
        """
        count = settings.train_images
        if not 0 < count <= len(train):
            raise InputError(
                "train_images",
                f"lie in 1 to {len(train)}",
                count,
                "Lower it, or load all of them.",
            )
        train = ImageSet(train.images[:count], train.labels[:count], train.size).to(device)
        model = network(train, Plan(settings.seed)).to(device)
        optimizer = torch.optim.Adam(
            model.parameters(), lr=SCHEDULE[0][1], betas=(0.9, 0.999), eps=1e-4, fused=True
        )
        return cls(
            settings=settings,
            train=train,
            model=model,
            optimizer=optimizer,
            environment=Environment.current(device),
        )

    def run_epoch(self) -> None:
        """Train for the next epoch at its learning rate.

        Raises:
            DivergenceError: If the objective is no longer finite.
        """
        started = time.perf_counter()
        (group,) = self.optimizer.param_groups
        group["lr"] = learning_rate(self.epoch + 1)
        train_bound = self._steps(self.epoch + 1)
        if not math.isfinite(train_bound):
            raise DivergenceError(f"the bound is {train_bound} in epoch {self.epoch + 1}.")
        self.epoch, self.train_bound = self.epoch + 1, train_bound
        self.seconds += time.perf_counter() - started

    def _steps(self, epoch: int) -> float:
        """Take an epoch's steps. The host waits for the device at their end, not in between."""
        model, settings, train, plan = self.model, self.settings, self.train, self.plan
        device, dtype = model.device, model.dtype
        order = plan.permutation(epoch, len(train)).to(device)
        lit = binarised(train.images, plan, epoch)
        generator = plan.generator("noise", epoch)
        total = torch.zeros((), dtype=torch.float64, device=device)
        size = settings.batch_size
        with unchecked():  # a bool is 0 or 1
            for block in order.split(NOISE_STEPS * size):
                shape = settings.k, len(block), model.latent_dim
                noise = torch.randn(shape, generator=generator, dtype=torch.float32)
                noise = noise.to(device, dtype)
                for index, eps in zip(block.split(size), noise.split(size, 1), strict=True):
                    log_w = log_weights(model, lit[index].to(dtype), eps)
                    # Summed over the minibatch, as by the authors: with an epsilon of 1e-4
                    # Adam's steps depend on the scale of the gradient.
                    value = bound(log_w, settings.objective).sum()
                    self.optimizer.zero_grad()
                    (-value).backward()
                    self.optimizer.step()
                    total += value.detach()
        return total.item() / len(train)

    def save(self, path: Path) -> None:
        """Write the state atomically."""
        facts = {
            "settings": dataclasses.asdict(self.settings),
            "epoch": self.epoch,
            "train_bound": self.train_bound,
            "seconds": self.seconds,
            "environment": dataclasses.asdict(self.environment),
        }
        moments = {
            f"adam.{key}.{name}": value
            for name, parameter in self.model.named_parameters()
            for key, value in self.optimizer.state[parameter].items()
        }
        checkpoint.save(path, {**self.model.state_dict(), **moments}, facts)

    @classmethod
    def load(
        cls, path: Path, settings: Settings, train: ImageSet, *, device: torch.device
    ) -> "Training":
        """Read a state that `save` wrote.

        Raises:
            CheckpointError: If the file is not a checkpoint of such a run.
            InputError: If it is of a run with other settings.
        """
        tensors, facts = checkpoint.load(path)
        found = facts.get("settings")
        if found != dataclasses.asdict(settings):
            raise InputError(
                "settings", f"be those of {path}, {found}", settings, "Name another --out."
            )
        run = cls.start(settings, train, device=device)
        run.epoch, run.train_bound, run.seconds = (
            facts[key] for key in ("epoch", "train_bound", "seconds")
        )
        run.environment = Environment(**facts["environment"])
        run.model.load_state_dict({n: tensors[n] for n in run.model.state_dict()})
        keys = "step", "exp_avg", "exp_avg_sq"
        state = {
            index: {key: tensors[f"adam.{key}.{name}"] for key in keys}
            for index, (name, _) in enumerate(run.model.named_parameters())
        }
        groups = run.optimizer.state_dict()["param_groups"]
        run.optimizer.load_state_dict({"state": state, "param_groups": groups})
        return run


def learning_rate(epoch: int) -> float:
    """Return the learning rate of an epoch, counted from 1."""
    return next(rate for (_, rate), end in zip(SCHEDULE, ENDS, strict=True) if epoch <= end)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How a test set is evaluated.

    Args:
        samples: K of the bound L_K that estimates log p(x).
        images: How many, from the first.
    """

    samples: int = 5000
    images: int = 10_000


def follow(
    settings: Settings,
    train: ImageSet,
    test: ImageSet,
    out: Path,
    *,
    stages: int,
    evaluation: Evaluation,
    device: torch.device,
) -> list[dict[str, Any]]:
    """Begin or continue a run in its directory under ``out``, and return its records.

    Each stage ends with a record in ``records.jsonl``. The checkpoint of that epoch is written
    first, so a run killed in between makes the record when it goes on.

    Raises:
        CheckpointError: If the directory has an earlier stage's checkpoint but not its record.
        DivergenceError: If the objective is no longer finite.
        InputError: If the directory has a run with other settings.
    """
    directory = out / settings.name
    directory.mkdir(parents=True, exist_ok=True)
    saved, written = directory / "checkpoint.safetensors", directory / "records.jsonl"
    if saved.exists():
        run = Training.load(saved, settings, train, device=device)
    else:
        run = Training.start(settings, train, device=device)
    if run.environment != (here := Environment.current(device)):
        print(f"the run began with {run.environment}, this is {here}; bits will differ.")
    records = read(written)
    for stage, end in enumerate(ENDS[:stages], start=1):
        while run.epoch < end:
            run.run_epoch()
            run.save(saved)
            print(
                f"{settings.name}  epoch {run.epoch}/{ENDS[-1]}  train bound "
                f"{run.train_bound:.3f}  {run.seconds / run.epoch:.2f} s per epoch",
                flush=True,
            )
        if stage not in {record["stage"] for record in records}:
            if run.epoch > end:
                raise CheckpointError(f"{written} lacks stage {stage}. Restore it.")
            records.append(record_of(run, test, stage, evaluation))
            write(written, records)
    return records


def record_of(run: Training, test: ImageSet, stage: int, evaluation: Evaluation) -> dict[str, Any]:
    """Evaluate the end of a stage. Bounds and likelihoods are nats per example."""
    settings, device = run.settings, run.model.device
    test = ImageSet(test.images[: evaluation.images], test.labels[: evaluation.images], test.size)
    test = binarised_test(test, run.plan).to(device)
    nll, negative_elbo = (
        negative_log_likelihood(run.model, test, run.plan, samples=samples).mean().item()
        for samples in (evaluation.samples, 1)
    )
    return {
        **dataclasses.asdict(settings),
        "stage": stage,
        "epoch": run.epoch,
        "learning_rate": learning_rate(run.epoch),
        "train_bound": round(run.train_bound, 4),
        "test_nll": round(nll, 4),
        "evaluation_samples": evaluation.samples,
        "evaluation_images": len(test),
        "test_negative_elbo": round(negative_elbo, 4),
        "active_units": active_units(run.model, test),
        "binarisation": BINARISATION,
        "vae_ref": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "processor": torch.cuda.get_device_name() if device.type == "cuda" else processor(),
        "threads": torch.get_num_threads(),
        "seconds": round(run.seconds, 1),
    }


def read(path: Path) -> list[dict[str, Any]]:
    """Read records; a missing file has none."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def write(path: Path, records: list[dict[str, Any]]) -> None:
    """Write records atomically."""
    lines = (json.dumps(record, allow_nan=False) + "\n" for record in records)
    with replacing(path) as file:
        file.write("".join(lines).encode())
