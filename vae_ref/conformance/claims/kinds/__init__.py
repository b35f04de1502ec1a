"""Claims about other kinds of VAE than the textbook's, a module for each kind."""

from vae_ref.conformance.claims.kinds import (
    calibration,
    categorical,
    cholesky,
    conditional,
    disentangling,
    disentangling_annealing,
    disentangling_penalties,
    estimators,
    evidence,
    families,
    flows,
    gumbel,
    hierarchy,
    levels,
    mixtures,
    quantisation,
    von_mises_fisher,
)

__all__ = ["MODULES"]

MODULES = (
    conditional,
    hierarchy,
    levels,
    categorical,
    gumbel,
    quantisation,
    families,
    disentangling,
    disentangling_penalties,
    disentangling_annealing,
    estimators,
    cholesky,
    flows,
    mixtures,
    von_mises_fisher,
    evidence,
    calibration,
)
"""Each registers its claims when it is imported; reports have them in this order."""
