"""An epoch as one CUDA graph, with gradients by formula."""

import torch
from torch import Tensor

from vae_ref.engines.analytic import Analytic

__all__ = ["Graph"]


class Graph(Analytic):
    """Records all steps of an epoch as one graph, and replays it in every epoch.

    The graph contains the short last batch and the optimiser. Order and noise are drawn before it
    starts; it contains no random numbers and no synchronisation. It uses the memory that it was
    recorded with, so other images, other sizes or other settings of the optimiser are recorded
    anew.
    """

    recorded: tuple[object, ...] | None = None

    def _execute(self, images: Tensor) -> Tensor:
        key = (images.data_ptr(), self.order.data_ptr(), self.noise.data_ptr(), *self._hyper())
        if self.recorded != key:
            self._record(images)
            self.recorded = key
        self.graph.replay()
        return self.total

    def _hyper(self) -> list[object]:
        return [v for k, v in self.optimizers[0].param_groups[0].items() if k != "params"]

    def _record(self, images: Tensor) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # on first use, libraries choose kernels and allocate
            super()._execute(images)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.total = super()._execute(images)
        self._load()
