"""All that decides what a training computes."""

import math
from dataclasses import dataclass
from typing import Literal, assert_never, get_args

import torch

from vae_ref.checks import InputError, positive_integer
from vae_ref.likelihood import Bernoulli, ContinuousBernoulli, Gaussian, Likelihood
from vae_ref.model import VAE, Autoencoder, LatentModel
from vae_ref.plan import Plan

__all__ = ["DatasetName", "LikelihoodName", "ModelName", "Recipe"]

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
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.default_generator.manual_seed(
                Plan(self.seed).generator("weights").initial_seed()
            )
            return kind(input_dim, self.hidden_dim, self.latent_dim, likelihood=likelihood)
