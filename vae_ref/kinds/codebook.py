r"""Move a codebook by exponential moving averages, and measure how it is used."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vae_ref.checks import InputError
from vae_ref.kinds.quantisation import Codebook, Indices
from vae_ref.shapes import Codes, Scalar

__all__ = ["Averages", "perplexity"]


class Averages(NamedTuple):
    r"""Moving averages of the number of encodings that each code has, and of their sum.

    .. math::
        N_k \leftarrow \gamma N_k + (1 - \gamma)\, n_k, \qquad
        m_k \leftarrow \gamma m_k + (1 - \gamma) \sum_{n:\, k_n = k} z_{e,n}, \qquad
        e_k = m_k / \tilde N_k

    Attributes:
        counts: The averages :math:`N_k`, shape ``(codes)``.
        sums: The averages :math:`m_k`, shape ``(codes, latent)``.

    Example:
        >>> averages = Averages(torch.ones(2), torch.zeros(2, 1))
        >>> averages = averages.updated(torch.tensor([[4.0]]), torch.tensor([1]), decay=0.5)
        >>> averages
        Averages(counts=tensor([0.5000, 1.0000]), sums=tensor([[0.],
                [2.]]))
        >>> averages.codebook()
        tensor([[0.0000],
                [2.0000]])

    References:
        van den Oord et al. 2017, appendix A.1, equations 6 to 8; Razavi, van den Oord and Vinyals,
        *Generating Diverse High-Fidelity Images with VQ-VAE-2*, 2019, section 2.1.
    """

    counts: Float[Tensor, "codes"]
    sums: Codebook

    def updated(self, z_e: Codes, indices: Indices, decay: float) -> "Averages":
        r"""Return the averages after a batch; they hold no gradient.

        Args:
            z_e: The encodings, shape ``(n, latent)``.
            indices: The index of the code of each, shape ``(n)``.
            decay: The weight :math:`\gamma` of what was before.

        Raises:
            InputError: If the decay is not in [0, 1).
        """
        if not 0 <= decay < 1:
            raise InputError("decay", "lie in [0, 1)", decay, "Use 0.99, say.")
        counts, sums = decay * self.counts, decay * self.sums
        new = (1 - decay) * z_e.detach()
        ones = torch.full_like(indices, 1 - decay, dtype=counts.dtype)
        return Averages(counts.index_add(0, indices, ones), sums.index_add(0, indices, new))

    def codebook(self, epsilon: float = 1e-5) -> Codebook:
        r"""Return the codes :math:`m_k / \tilde N_k`; they are finite even if :math:`N_k = 0`.

        .. math::
            \tilde N_k = \frac{N_k + \epsilon}{N + K \epsilon}\, N, \qquad N = \sum_k N_k

        Laplace's smoothing keeps the sum of the counts.

        Args:
            epsilon: The count :math:`\epsilon` that is added to each code.
        """
        total = self.counts.sum()
        smoothed = (self.counts + epsilon) * (total / (total + len(self.counts) * epsilon))
        return self.sums / smoothed.unsqueeze(-1)


def perplexity(indices: Indices, codes: int) -> Scalar:
    r"""Return how many codes are in use, as the exponential of the entropy of their shares.

    .. math:: \exp\Big(-\sum_k p_k \log p_k\Big), \qquad p_k = n_k / n

    Args:
        indices: The indices of codes, of any shape.
        codes: The number of codes :math:`K`.

    Returns:
        A number from 1, if all encodings have the same code, to ``codes``, if all codes are used
        equally often.

    Raises:
        InputError: If there are no indices.

    Example:
        >>> perplexity(torch.tensor([0, 1, 2, 0, 1, 2]), codes=5)
        tensor(3.)

    References:
        Shannon, *A Mathematical Theory of Communication*, 1948, section 6.
    """
    if not indices.numel():
        raise InputError(
            "indices", "hold at least one index", tuple(indices.shape), "Quantise first."
        )
    shares = torch.bincount(indices.flatten(), minlength=codes) / indices.numel()
    entropy: Tensor = torch.special.entr(shares).sum()
    return entropy.exp()
