"""The reference of vector quantisation as a subject."""

import torch
from torch import Tensor

from vae_ref.conformance import Conventions
from vae_ref.conformance.kinds import VectorQuantiser
from vae_ref.kinds import codebook, quantisation, scalar_quantisation

__all__ = ["reference"]


def reference(dtype: torch.dtype = torch.float32) -> VectorQuantiser:
    """Return the reference; it computes in the precision of what it is given."""

    def update_codebook(
        z_e: Tensor, indices: Tensor, counts: Tensor, sums: Tensor, decay: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        averages = codebook.Averages(counts, sums).updated(z_e, indices, decay)
        return averages.codebook(), *averages

    return VectorQuantiser(
        name="the reference of vector quantisation",
        quantise=quantisation.quantise,
        quantisation_loss=lambda z_e, e: quantisation.losses(z_e, e).loss(),
        commitment_loss=lambda z_e, e: quantisation.losses(z_e, e).commitment,
        update_codebook=update_codebook,
        perplexity=codebook.perplexity,
        round_levels=scalar_quantisation.round_levels,
        reduction="dims",
        smoothing=1e-5,
        conventions=Conventions(dtype="float64" if dtype == torch.float64 else "float32"),
    )
