"""A training in progress: its recipe, and the state that a checkpoint holds."""

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, assert_never, get_args

import torch
from torch import Tensor

from vae_ref import checkpoint
from vae_ref.checkpoint import CheckpointError
from vae_ref.checks import InputError, positive_integer
from vae_ref.likelihood import Bernoulli, ContinuousBernoulli, Gaussian, Likelihood
from vae_ref.model import VAE, Autoencoder, LatentModel
from vae_ref.plan import Plan

__all__ = ["DatasetName", "Environment", "LikelihoodName", "ModelName", "Recipe", "Run"]

DatasetName = Literal["mnist", "fashion-mnist", "glyphs"]
ModelName = Literal["vae", "autoencoder"]
LikelihoodName = Literal["bernoulli", "gaussian", "continuous-bernoulli"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that decides what a training computes; the defaults are the textbook's.

    Two runs of one recipe have the same parameters, bit for bit, after the same number of
    epochs, on one machine with the same version of torch and number of threads (another number
    adds up in another order).

    Args:
        dataset: What it trains on.
        model: The VAE or the autoencoder.
        likelihood: What the decoder's outputs mean.
        beta: The weight of the divergence; 1 is the ELBO.
        latent_dim: The coordinates of a code.
        hidden_dim: The units of the hidden layers.
        batch_size: Examples per step.
        learning_rate: Adam's.
        seed: Of the initial weights and of the plan.

    Raises:
        InputError: If a value is out of range.

    Example:
        >>> Recipe(latent_dim=2).build(input_dim=784).decoder[0]
        Linear(in_features=2, out_features=400, bias=True)
    """

    dataset: DatasetName = "mnist"
    model: ModelName = "vae"
    likelihood: LikelihoodName = "bernoulli"
    beta: float = 1.0
    latent_dim: int = 20
    hidden_dim: int = 400
    batch_size: int = 128
    learning_rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        for name, names in (
            ("dataset", DatasetName),
            ("model", ModelName),
            ("likelihood", LikelihoodName),
        ):
            if getattr(self, name) not in get_args(names):
                choices = ", ".join(get_args(names))
                raise InputError(name, f"be one of {choices}", getattr(self, name), "Choose one.")
        for name in ("latent_dim", "hidden_dim", "batch_size"):
            positive_integer(name, getattr(self, name))
        if not 0 <= self.beta < math.inf:
            raise InputError("beta", "be finite and not negative", self.beta, "The ELBO has 1.")
        if not 0 < self.learning_rate < math.inf:
            raise InputError(
                "learning_rate",
                "be positive and finite",
                self.learning_rate,
                "The textbook has 1e-3.",
            )

    def build(self, input_dim: int) -> LatentModel:
        """Make the model with its initial weights, a function of the seed."""
        likelihood: Likelihood
        match self.likelihood:
            case "bernoulli":
                likelihood = Bernoulli()
            case "gaussian":
                likelihood = Gaussian()
            case "continuous-bernoulli":
                likelihood = ContinuousBernoulli()
            case _:
                assert_never(self.likelihood)
        kind = {"vae": VAE, "autoencoder": Autoencoder}[self.model]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(
                Plan(self.seed).generator("weights").initial_seed()
            )
            return kind(input_dim, self.hidden_dim, self.latent_dim, likelihood=likelihood)


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What, beside the recipe, decides the last digits: sums are made in another order elsewhere.

    Args:
        torch_version: Whose operations they are.
        device: The kind of device.
        threads: How many a CPU operation is divided among.
    """

    torch_version: str
    device: str
    threads: int

    @classmethod
    def current(cls, device: torch.device | str) -> "Environment":
        """Describe this process."""
        kind = torch.device(device).type
        return cls(
            torch_version=str(torch.__version__), device=kind, threads=torch.get_num_threads()
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
    environment: Environment = field(default_factory=lambda: Environment.current("cpu"))

    @classmethod
    def start(
        cls, recipe: Recipe, size: tuple[int, int], *, device: torch.device | str = "cpu"
    ) -> "Run":
        """Begin a training."""
        model = recipe.build(math.prod(size)).to(device)
        optimizer = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate, fused=True)
        return cls(
            recipe=recipe,
            size=size,
            model=model,
            optimizer=optimizer,
            environment=Environment.current(device),
        )

    @property
    def plan(self) -> Plan:
        """What is random in it."""
        return Plan(self.recipe.seed)

    def save(self, path: Path) -> None:
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
        checkpoint.save(path, {**self.model.state_dict(), **self._moments()}, facts)

    @classmethod
    def load(cls, path: Path, *, device: torch.device | str = "cpu") -> "Run":
        """Read a state that `save` wrote.

        Raises:
            CheckpointError: If the file is not a checkpoint, or its tensors are not those of
                the model that it describes.
            OSError: If it cannot be read.
        """
        tensors, facts = checkpoint.load(path)
        try:
            run = cls.start(Recipe(**facts["recipe"]), tuple(facts["size"]), device=device)
            run.epoch = int(facts["epoch"])
            run.environment = Environment(**facts["environment"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} describes no run of this version ({error}).") from error
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
