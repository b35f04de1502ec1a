"""The reference of annealed importance sampling as a subject."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from vae_ref.conformance import Conventions
from vae_ref.conformance.kinds import EvidenceEstimator
from vae_ref.kinds.evidence import anneal
from vae_ref.kinds.hamiltonian import LogDensity, hmc, leapfrog
from vae_ref.objective import importance_weighted_bound

__all__ = ["reference"]


def reference(dtype: torch.dtype = torch.float32) -> EvidenceEstimator:
    """Return the reference in a precision."""
    step, steps = torch.tensor(0.4, dtype=dtype), 5

    def estimate(
        log_prior: LogDensity, log_likelihood: LogDensity, z: Tensor, betas: Tensor, *, sign: int
    ) -> Tensor:
        moves = len(betas) - 2
        momenta = torch.randn(moves, *z.shape, dtype=z.dtype)
        uniforms = torch.rand(moves, *z.shape[:-1], dtype=z.dtype)
        log_w, _, _ = anneal(
            log_prior,
            lambda z: log_prior(z) + log_likelihood(z),
            z, betas, momenta=momenta, uniforms=uniforms, step=step, steps=steps,
        )  # fmt: skip
        return sign * importance_weighted_bound(log_w)

    def move(log_density: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
        u = torch.rand(z.shape[:-1], dtype=z.dtype)
        return hmc(log_density, z, torch.randn_like(z), u, step=step, steps=steps)[0]

    return EvidenceEstimator(
        name="the reference of annealed importance sampling",
        log_evidence_lower=partial(estimate, sign=1),
        log_evidence_upper=partial(estimate, sign=-1),
        hmc_step=move,
        leapfrog=lambda f, z, v, step, steps: leapfrog(f, z, v, z.new_tensor(step), steps),
        conventions=Conventions(dtype="float32" if dtype == torch.float32 else "float64"),
    )
