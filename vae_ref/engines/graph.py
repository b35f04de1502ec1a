"""An epoch by formula as one CUDA graph: the host starts it, and waits for its loss."""

import torch
from torch import Tensor

from vae_ref.engines.analytic import Analytic, settings

__all__ = ["Graph"]


class Graph(Analytic):
    """Records all steps of an epoch once, short last batch and optimiser included, and replays.

    Order and noise are drawn before; inside there is no random number and no synchronisation.
    Everything lies where it lay when it was recorded: another set of images, another size or
    another setting of the optimiser is recorded anew.
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
        with torch.cuda.stream(stream):  # libraries choose and allocate on first use
            super()._execute(images)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.total = super()._execute(images)
        self._load()
