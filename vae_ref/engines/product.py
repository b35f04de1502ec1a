"""A matrix product whose long sum is divided between two cores."""

import torch
from torch import Tensor

__all__ = ["BackProduct"]


class BackProduct:
    r"""Computes :math:`W^T \dot y`, a sum over the rows of both, always into the same buffer.

    Each of two cores adds up the half of the rows that it wrote itself. If the cores share no
    cache, it takes up to a fifth of a microsecond to read 64 bytes that the other core wrote, or
    to write 64 bytes that it has read. For more cores, several models or an odd number of rows,
    the library computes the whole product.

    Args:
        weight: The weights, shape ``(*models, outputs, inputs)``.
        d: The derivatives with respect to the outputs, shape ``(*models, outputs, batch)``.
        out: The buffer for the derivatives with respect to the inputs, shape
            ``(*models, inputs, batch)``.
    """

    def __init__(self, weight: Tensor, d: Tensor, out: Tensor) -> None:
        self.weight_t, self.d, self.out = weight.mT, d, out
        self.mm = torch.bmm if weight.dim() > 2 else torch.mm
        two_cores = weight.device.type == "cpu" and torch.get_num_threads() == 2
        self.halved = two_cores and weight.dim() == 2 and len(weight) % 2 == 0
        if self.halved:
            self.weight_t, self.d = weight.unflatten(0, (2, -1)).mT, d.unflatten(0, (2, -1))
            self.halves = out.new_empty(2, *out.shape)
            self.first, self.second = self.halves

    def __call__(self) -> Tensor:
        """Compute the product of the present contents, and return the buffer."""
        if not self.halved:
            return self.mm(self.weight_t, self.d, out=self.out)
        torch.bmm(self.weight_t, self.d, out=self.halves)
        return torch.add(self.first, self.second, out=self.out)
