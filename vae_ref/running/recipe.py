"""Everything that determines what a training computes."""

from dataclasses import dataclass
from typing import assert_never, get_args

import torch

from vae_ref.checks import is_integer, is_number, require_positive_integer
from vae_ref.likelihood import Bernoulli, ContinuousBernoulli, Gaussian, Likelihood
from vae_ref.model import VAE, Autoencoder, LatentModel
from vae_ref.names import DatasetName, LikelihoodName, ModelName
from vae_ref.plan import Plan
from vae_ref.support.errors import InputError

__all__ = ["Recipe"]

# A larger size is a slip of the keyboard or a damaged file, and would ask for all memory.
_MOST = {"latent_dim": 10_000, "hidden_dim": 10_000, "batch_size": 1_000_000}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that determines what a training computes; the defaults are the textbook's.

    Two runs of one recipe have the same parameters, bit for bit, after the same number of epochs,
    on one machine with the same version of torch and the same number of threads. (With another
    number of threads, sums are computed in another order.)

    Args:
        dataset: The data set.
        model: The VAE or the autoencoder.
        likelihood: The distribution of the pixels, given the decoder's outputs.
        beta: The weight of the divergence; 1 is the ELBO.
        latent_dim: The number of coordinates of a code, at most 10,000.
        hidden_dim: The number of units in the hidden layers, at most 10,000.
        batch_size: The number of examples per step, at most 1,000,000.
        learning_rate: Adam's learning rate.
        seed: The seed of the initial weights and of the plan.

    Raises:
        InputError: If a value is out of range, or of another type.

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
        for name, most in _MOST.items():
            require_positive_integer(name, size := getattr(self, name))
            if size > most:
                raise InputError(name, f"be at most {most:,}", size, "Choose a smaller one.")
        if not is_integer(self.seed):
            raise InputError("seed", "be an integer", self.seed, "Use 0, 1, 2, ...")
        if not (is_number(self.beta) and self.beta >= 0):
            raise InputError("beta", "be finite and not negative", self.beta, "1 gives the ELBO.")
        if not (is_number(self.learning_rate) and self.learning_rate > 0):
            raise InputError(
                "learning_rate",
                "be positive and finite",
                self.learning_rate,
                "The textbook has 1e-3.",
            )

    def build(self, input_dim: int, *, device: torch.device | str = "cpu") -> LatentModel:
        """Make the model with its initial weights, which are a function of the seed.

        On the CPU they are the same everywhere; on the device "meta" there are only shapes.
        """
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
        with torch.random.fork_rng(devices=[]), torch.device(device):
            torch.default_generator.manual_seed(
                Plan(self.seed).generator("weights").initial_seed()
            )
            return kind(input_dim, self.hidden_dim, self.latent_dim, likelihood=likelihood)
