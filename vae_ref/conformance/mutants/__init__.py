"""The bank of bugs: it tests the kit, and the diagnosis takes the names of bugs from it."""

from vae_ref.conformance.mutants import (
    kinds,
    kl,
    likelihood,
    model,
    objective,
    reparameterization,
    training,
)
from vae_ref.conformance.mutants.bank import BANK, Mutant

__all__ = [
    "BANK",
    "Mutant",
    "kinds",
    "kl",
    "likelihood",
    "model",
    "objective",
    "reparameterization",
    "training",
]
