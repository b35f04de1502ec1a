"""The reference of the disentangling terms as a subject."""

from functools import partial

import torch
from torch import Tensor

from vae_ref.conformance import Conventions
from vae_ref.conformance.kinds import DisentanglingTerms, Schedule
from vae_ref.kinds import annealing, disentangling, independence, stratified

__all__ = ["reference"]


def reference(dtype: torch.dtype = torch.float32) -> DisentanglingTerms:
    """Return the reference, with stratified sampling and version II of the DIP-VAE."""

    def permute_latents(z: Tensor) -> Tensor:
        return independence.permute_latents(z, torch.rand(z.shape))

    return DisentanglingTerms(
        name="the reference of the disentangling terms",
        stratified_log_weights=stratified.stratified_log_weights,
        decomposition=partial(disentangling.decomposition, sampling="stratified"),
        total_correlation=partial(disentangling.total_correlation, sampling="stratified"),
        dip_penalty=partial(independence.dip_penalty, lambda_od=5.0, lambda_d=10.0, version="II"),
        permute_latents=permute_latents,
        tc_from_logits=independence.tc_from_logits,
        discriminator_loss=independence.discriminator_loss,
        capacity_term=partial(annealing.capacity_term, gamma=100.0),
        free_bits=partial(annealing.free_bits, floor=0.5),
        weight_at=annealing.Schedule(steps=100, cycle=200).weight_at,
        sampling="stratified",
        lambda_od=5.0,
        lambda_d=10.0,
        dip_version="II",
        gamma=100.0,
        floor=0.5,
        schedule=Schedule(steps=100, cycle=200),
        conventions=Conventions(dtype=str(dtype).removeprefix("torch.")),  # type: ignore[arg-type]
    )
