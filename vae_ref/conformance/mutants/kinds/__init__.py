"""Bugs of other kinds of VAE than the textbook's, and for each kind a correct specimen."""

from vae_ref.conformance.mutants.kinds import conditional, quantisation

__all__ = ["conditional", "quantisation"]
from vae_ref.conformance.mutants.kinds import conditional, estimators

__all__ = ["conditional", "estimators"]
from vae_ref.conformance.mutants.kinds import calibration, conditional, evidence

__all__ = ["calibration", "conditional", "evidence"]
from vae_ref.conformance.mutants.kinds import conditional, families

__all__ = ["conditional", "families"]
from vae_ref.conformance.mutants.kinds import (
    cholesky,
    conditional,
    flows,
    mixtures,
    von_mises_fisher,
)

__all__ = ["cholesky", "conditional", "flows", "mixtures", "von_mises_fisher"]
from vae_ref.conformance.mutants.kinds import conditional, hierarchy

__all__ = ["conditional", "hierarchy"]
from vae_ref.conformance.mutants.kinds import conditional, disentangling

__all__ = ["conditional", "disentangling"]
from vae_ref.conformance.mutants.kinds import categorical, conditional, gumbel

__all__ = ["categorical", "conditional", "gumbel"]
