"""Bugs of other kinds of VAE than the textbook's, and for each kind a correct specimen."""

from vae_ref.conformance.mutants.kinds import (
    calibration,
    categorical,
    cholesky,
    conditional,
    disentangling,
    estimators,
    evidence,
    families,
    flows,
    gumbel,
    hierarchy,
    mixtures,
    quantisation,
    von_mises_fisher,
)

__all__ = [
    "calibration",
    "categorical",
    "cholesky",
    "conditional",
    "disentangling",
    "estimators",
    "evidence",
    "families",
    "flows",
    "gumbel",
    "hierarchy",
    "mixtures",
    "quantisation",
    "von_mises_fisher",
]
