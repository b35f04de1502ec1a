"""An epoch as one CUDA graph, with gradients by formula."""

import torch
from torch import Tensor

from vae_ref.engines.analytic import Analytic, settings

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
        places = (tensor.data_ptr() for tensor in (images, self.order, self.noise))
        chosen = map(float, settings(self.optimizers[0]).values())  # a rate may be a tensor
        key = (*places, images.stride(), *chosen)
        if self.recorded != key:
            self.recorded = None  # what is interrupted leaves half a graph
            with torch.cuda.device(images.device):  # whose streams need not be the current ones
                self._record(images)
            self.recorded = key
        self.graph.replay()
        return self.total

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
