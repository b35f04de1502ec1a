"""The names to choose from, such as data sets and engines; nothing heavy is imported."""

from typing import Literal

__all__ = [
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
