"""Subjects of other kinds than the textbook's VAE: what each kind consists of."""

from vae_ref.conformance.kinds.calibration import AmortisedPosterior
from vae_ref.conformance.kinds.categorical import CategoricalVAE
from vae_ref.conformance.kinds.conditional import ConditionalVAE
from vae_ref.conformance.kinds.quantisation import VectorQuantiser

__all__ = ["ConditionalVAE", "VectorQuantiser"]
from vae_ref.conformance.kinds.estimators import Estimators

__all__ = ["ConditionalVAE", "Estimators"]
from vae_ref.conformance.kinds.evidence import EvidenceEstimator

__all__ = ["AmortisedPosterior", "ConditionalVAE", "EvidenceEstimator"]
from vae_ref.conformance.kinds.families import LikelihoodFamily

__all__ = ["ConditionalVAE", "LikelihoodFamily"]
from vae_ref.conformance.kinds.flows import FlexibleVAE

__all__ = ["ConditionalVAE", "FlexibleVAE"]
from vae_ref.conformance.kinds.hierarchy import HierarchicalVAE

__all__ = ["ConditionalVAE", "HierarchicalVAE"]
from vae_ref.conformance.kinds.disentangling import DisentanglingTerms, Schedule

__all__ = ["ConditionalVAE", "DisentanglingTerms", "Schedule"]
__all__ = ["CategoricalVAE", "ConditionalVAE"]
