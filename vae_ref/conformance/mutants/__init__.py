"""The bank of bugs: it tests the kit, and it is the dictionary of the diagnosis."""

from vae_ref.conformance.mutants import (
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
    "kl",
    "likelihood",
    "model",
    "objective",
    "reparameterization",
    "training",
]
