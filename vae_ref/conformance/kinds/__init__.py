"""Subjects of other kinds than the textbook's VAE: what each kind consists of."""

from vae_ref.conformance.kinds.calibration import AmortisedPosterior
from vae_ref.conformance.kinds.categorical import CategoricalVAE
from vae_ref.conformance.kinds.conditional import ConditionalVAE
from vae_ref.conformance.kinds.disentangling import DisentanglingTerms, Schedule
from vae_ref.conformance.kinds.estimators import Estimators
from vae_ref.conformance.kinds.evidence import EvidenceEstimator
from vae_ref.conformance.kinds.families import LikelihoodFamily
from vae_ref.conformance.kinds.flows import FlexibleVAE
from vae_ref.conformance.kinds.hierarchy import HierarchicalVAE
from vae_ref.conformance.kinds.quantisation import VectorQuantiser

__all__ = [
    "AmortisedPosterior",
    "CategoricalVAE",
    "ConditionalVAE",
    "DisentanglingTerms",
    "Estimators",
    "EvidenceEstimator",
    "FlexibleVAE",
    "HierarchicalVAE",
    "LikelihoodFamily",
    "Schedule",
    "VectorQuantiser",
]
