"""Claims about other kinds of VAE than the textbook's, a module for each kind."""

from vae_ref.conformance.claims.kinds import conditional, quantisation

__all__ = ["MODULES"]

MODULES = (conditional, quantisation)
from vae_ref.conformance.claims.kinds import conditional, estimators

__all__ = ["MODULES"]

MODULES = (conditional, estimators)
from vae_ref.conformance.claims.kinds import calibration, conditional, evidence

__all__ = ["MODULES"]

MODULES = (conditional, evidence, calibration)
from vae_ref.conformance.claims.kinds import conditional, families

__all__ = ["MODULES"]

MODULES = (conditional, families)
from vae_ref.conformance.claims.kinds import (
    cholesky,
    conditional,
    flows,
    mixtures,
    von_mises_fisher,
)

__all__ = ["MODULES"]

MODULES = (conditional, cholesky, flows, mixtures, von_mises_fisher)
from vae_ref.conformance.claims.kinds import conditional, hierarchy, levels

__all__ = ["MODULES"]

MODULES = (conditional, hierarchy, levels)
from vae_ref.conformance.claims.kinds import (
    conditional,
    disentangling,
    disentangling_annealing,
    disentangling_penalties,
)

__all__ = ["MODULES"]

MODULES = (conditional, disentangling, disentangling_penalties, disentangling_annealing)
from vae_ref.conformance.claims.kinds import categorical, conditional, gumbel

__all__ = ["MODULES"]

MODULES = (conditional, categorical, gumbel)
"""Each registers its claims when it is imported; reports have them in this order."""
