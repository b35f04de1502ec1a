"""A training in progress: the state that a checkpoint holds."""

import dataclasses
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vae_ref.engines import choose
from vae_ref.engines.platform import Adam
from vae_ref.model import LatentModel
from vae_ref.names import EngineOption
from vae_ref.plan import Plan
from vae_ref.running import checkpoint
from vae_ref.running.checkpoint import CheckpointError
from vae_ref.running.recipe import Recipe

__all__ = ["Environment", "Run"]


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
            CheckpointError: If the file is not a checkpoint, or its tensors are not those of
                the model that it describes.
            OSError: If it cannot be read.
        """
        path = Path(path)
        tensors, facts = checkpoint.load(path)
        try:
            run = cls.start(Recipe(**facts["recipe"]), tuple(facts["size"]), device=device)
            run.epoch = int(facts["epoch"])
            run.environment = Environment(**facts["environment"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} describes no run of this version ({error}).") from error
        run.engine = engine
        choose(engine, run.model, run.optimizer)
        run._restore(path, tensors)
        return run

    def _moments(self) -> dict[str, Tensor]:
        """Return the optimiser's state under names such as ``adam.exp_avg.mu.weight``."""
        return {
            f"adam.{key}.{name}": value
            for name, parameter in self.model.named_parameters()
            for key, value in self.optimizer.state[parameter].items()
        }

    def _restore(self, path: Path, tensors: dict[str, Tensor]) -> None:
        expected = {name: tensor.shape for name, tensor in self.model.state_dict().items()}
        keys = ("step", "exp_avg", "exp_avg_sq") if self.epoch else ()
        for name, parameter in self.model.named_parameters():
            shapes = (torch.Size(), parameter.shape, parameter.shape)
            expected |= {f"adam.{key}.{name}": s for key, s in zip(keys, shapes, strict=False)}
        found = {name: tensor.shape for name, tensor in tensors.items()}
        for name in sorted(expected.keys() | found.keys()):
            want, got = (
                tuple(shapes[name]) if name in shapes else "absent" for shapes in (expected, found)
            )
            if want != got:
                raise CheckpointError(
                    f"{path} is of another architecture than it describes: "
                    f"{name} must be {want}; got {got}."
                )
        self.model.load_state_dict({n: t for n, t in tensors.items() if not n.startswith("adam.")})
        state: dict[int, dict[str, Any]] = {
            index: {key: tensors[f"adam.{key}.{name}"] for key in keys}
            for index, (name, _) in enumerate(self.model.named_parameters())
        }
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
