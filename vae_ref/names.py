"""The names and numbers that one may choose; nothing heavy is imported to know them."""

from typing import Literal

__all__ = [
    "MOST_EPOCHS",
    "CourseName",
    "DatasetName",
    "EngineName",
    "EngineOption",
    "LevelName",
    "LikelihoodName",
    "ModelName",
]

DatasetName = Literal["mnist", "fashion-mnist", "glyphs"]
ModelName = Literal["vae", "autoencoder"]
LikelihoodName = Literal["bernoulli", "gaussian", "continuous-bernoulli"]
EngineName = Literal["eager", "analytic", "native", "graph"]
EngineOption = Literal["auto", "eager", "analytic", "native", "graph"]
CourseName = Literal["glyphs", "mnist"]
LevelName = Literal["standard", "trained"]

MOST_EPOCHS = 1_000_000
"""The epochs that a training may have; a larger number is a slip, or of a damaged file."""
