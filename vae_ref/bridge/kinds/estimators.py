"""The reference of the estimators as a subject."""

import torch

from vae_ref.conformance import Conventions
from vae_ref.conformance.kinds import Estimators
from vae_ref.kinds.estimators import doubly_reparameterized
from vae_ref.kinds.sampled_kl import kl_loss
from vae_ref.kinds.scores import score_function, vimco
from vae_ref.objective import importance_weighted_bound

__all__ = ["reference"]


def reference(dtype: torch.dtype = torch.float32) -> Estimators:
    """Return the reference, which computes in a precision."""
    return Estimators(
        name="the reference of the estimators",
        weighted_bound=importance_weighted_bound,
        surrogate=doubly_reparameterized,
        score_function=score_function,
        vimco=vimco,
        kl_estimate=kl_loss,
        maximised=True,
        estimator="dreg",
        trains_model=True,
        baseline="leave-one-out",
        rewards_in_graph=True,
        kl_estimator="k3",
        kl_use="loss",
        conventions=Conventions(dtype="float32" if dtype == torch.float32 else "float64"),
    )
