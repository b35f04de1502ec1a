"""A training in progress: the state that a checkpoint holds."""

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vae_ref.checks import is_integer, require_positive_integer
from vae_ref.engines import choose
from vae_ref.model import LatentModel
from vae_ref.names import MOST_EPOCHS, EngineOption
from vae_ref.plan import Plan
from vae_ref.running import checkpoint
from vae_ref.running.checkpoint import CheckpointError
from vae_ref.running.recipe import Recipe
from vae_ref.support.errors import InputError
from vae_ref.support.excerpt import excerpt
from vae_ref.support.platform import Adam

__all__ = ["Environment", "Run"]

_REMEDY = "Restore the file, or train again."


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What, beside the recipe, decides the last digits: sums are made in another order elsewhere.

    Args:
        torch_version: Whose operations they are.
        device: The kind of device.
        threads: How many a CPU operation is divided among.
        engine: What executes an epoch.
    """

    torch_version: str
    device: str
    threads: int
    engine: str = "eager"

    @classmethod
    def current(cls, device: torch.device | str, engine: str = "eager") -> "Environment":
        """Describe this process."""
        return cls(
            torch_version=str(torch.__version__),
            device=torch.device(device).type,
            threads=torch.get_num_threads(),
            engine=engine,
        )


@dataclass(kw_only=True)
class Run:
    """The state of a training, exactly what a checkpoint holds.

    Args:
        recipe: What is computed.
        size: Height and width of the images.
        model: The model so far.
        optimizer: Adam, with its moments so far.
        epoch: The epochs completed, which is the position in the plan.
        engine: What executes an epoch; ``auto`` is the fastest that can.
        environment: Where it began.

    Example:
        >>> run = Run.start(Recipe(dataset="glyphs"), size=(28, 28))
        >>> run.epoch, run.model.latent_dim
        (0, 20)
    """

    recipe: Recipe
    size: tuple[int, int]
    model: LatentModel
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    engine: EngineOption = "auto"
    environment: Environment = field(default_factory=lambda: Environment.current("cpu"))

    @classmethod
    def start(
        cls,
        recipe: Recipe,
        size: tuple[int, int],
        *,
        device: torch.device | str = "cpu",
        engine: EngineOption = "auto",
    ) -> "Run":
        """Begin a training.

        Raises:
            InputError: If the engine cannot train this model there.
        """
        model = recipe.build(math.prod(size)).to(device)
        optimizer = Adam(model.parameters(), lr=recipe.learning_rate, fused=True)
        run = cls(recipe=recipe, size=size, model=model, optimizer=optimizer, engine=engine)
        run.environment = run.here
        return run

    @property
    def here(self) -> Environment:
        """The environment in which this process would go on with it."""
        engine = choose(self.engine, self.model, self.optimizer)
        return Environment.current(self.model.device, engine)

    @property
    def plan(self) -> Plan:
        """What is random in it."""
        return Plan(self.recipe.seed)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to a checkpoint, atomically.

        Raises:
            OSError: If the file cannot be written.
        """
        facts = {
            "recipe": dataclasses.asdict(self.recipe),
            "size": self.size,
            "epoch": self.epoch,
            "environment": dataclasses.asdict(self.environment),
        }
        checkpoint.save(Path(path), {**self.model.state_dict(), **self._moments()}, facts)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        device: torch.device | str = "cpu",
        engine: EngineOption = "auto",
    ) -> "Run":
        """Read a state that `save` wrote.

        Raises:
            InputError: If the engine cannot train the model there.
            CheckpointError: If the file is not a checkpoint, its tensors are not those of the
                model that it describes, or hold what no training leaves, such as NaN.
            OSError: If it cannot be read.
        """
        path = Path(path)
        tensors, facts = checkpoint.load(path)
        try:
            recipe, size = Recipe(**facts["recipe"]), _size(facts["size"])
            epoch, environment = _epoch(facts["epoch"]), _environment(facts["environment"])
        except (KeyError, TypeError, ValueError) as error:
            reason = excerpt(error, 250)
            raise CheckpointError(
                f"{path} describes no run of this version ({reason})."
            ) from error
        dtype = _compare(path, tensors, _shapes(recipe, size, epoch))
        _inspect(path, tensors, epoch)
        run = cls.start(recipe, size, device=device)
        run.model.to(dtype)
        run.epoch, run.environment, run.engine = epoch, environment, engine
        choose(engine, run.model, run.optimizer)
        run._restore(tensors)
        return run

    def _moments(self) -> dict[str, Tensor]:
        """Return the optimiser's state under names such as ``adam.exp_avg.mu.weight``."""
        return {
            f"adam.{key}.{name}": value
            for name, parameter in self.model.named_parameters()
            for key, value in self.optimizer.state[parameter].items()
        }

    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        self.model.load_state_dict({n: t for n, t in tensors.items() if not n.startswith("adam.")})
        state: dict[int, dict[str, Any]] = {
            index: {key: tensors[f"adam.{key}.{name}"] for key in _kept(self.epoch)}
            for index, (name, _) in enumerate(self.model.named_parameters())
        }
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})


def _kept(epoch: int) -> tuple[str, ...]:
    """Name what Adam keeps of a parameter after so many epochs."""
    return ("step", "exp_avg", "exp_avg_sq") if epoch else ()


def _size(value: Any) -> tuple[int, int]:
    right = isinstance(value, list) and len(value) == 2 and all(map(is_integer, value))
    if not right or min(value) < 1 or math.prod(value) > 100_000_000:
        rule = "be two positive integers, of at most 100,000,000 pixels"
        raise InputError("size", rule, value, _REMEDY)
    return value[0], value[1]


def _epoch(value: Any) -> int:
    if not is_integer(value) or not 0 <= value <= MOST_EPOCHS:
        raise InputError("epoch", f"be an integer from 0 to {MOST_EPOCHS:,}", value, _REMEDY)
    return value


def _environment(value: Any) -> Environment:
    environment = Environment(**value)
    for name in ("torch_version", "device", "engine"):
        if not isinstance(text := getattr(environment, name), str) or len(text) > 100:
            raise InputError(f"environment.{name}", "be a short text", text, _REMEDY)
    require_positive_integer("environment.threads", environment.threads)
    return environment


def _shapes(recipe: Recipe, size: tuple[int, int], epoch: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a checkpoint's tensors, and make none of them."""
    model = recipe.build(math.prod(size), device="meta")
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for key in _kept(epoch):
            shapes[f"adam.{key}.{name}"] = () if key == "step" else tuple(parameter.shape)
    return shapes


def _compare(
    path: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]
) -> torch.dtype:
    """Hold the shapes of the tensors against those expected; return the precision of all."""
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(expected.keys() | found):
        want, got = expected.get(name, "absent"), found.get(name, "absent")
        if want != got:
            raise CheckpointError(
                f"{path} is of another architecture than it describes: "
                f"{excerpt(name)} must be {want}; got {excerpt(got)}."
            )
    dtypes = {t.dtype for name, t in tensors.items() if not name.startswith("adam.step.")}
    if len(dtypes) > 1:
        raise CheckpointError(f"{path} holds its weights in several precisions. {_REMEDY}")
    return dtypes.pop()


def _inspect(path: Path, tensors: Mapping[str, Tensor], epoch: int) -> None:
    """Refuse numbers that no training leaves."""
    steps = {tensor.item() for name, tensor in tensors.items() if name.startswith("adam.step.")}
    for name, tensor in tensors.items():
        right, rule = bool(tensor.isfinite().all()), "be finite"
        if name.startswith("adam.exp_avg_sq."):
            right, rule = right and bool((tensor >= 0).all()), "be finite and not negative"
        elif name.startswith("adam.step."):
            last = 2 / torch.finfo(tensor.dtype).eps  # the count to which 1 can be added
            right = len(steps) == 1 and epoch <= tensor.item() <= last and not tensor.item() % 1
            rule = f"be the number of steps of {epoch} epochs, as of every parameter"
        if not right:
            raise CheckpointError(f"{path} is damaged: {name} must {rule}. {_REMEDY}")
