"""An epoch by formula whose outer layers and loss are compiled, where there is a C compiler."""

import ctypes
import functools
import os
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vae_ref.checks import InputError
from vae_ref.engines.analytic import Analytic, settings
from vae_ref.engines.analytic import objection as objection_to_formulas
from vae_ref.engines.step import Layers, Step
from vae_ref.model import LatentModel

__all__ = ["Native", "objection"]

_SOURCE = Path(__file__).with_suffix(".c")
_REAL = {torch.float32: "float", torch.float64: "double"}
# Linked with nothing: the process has torch's OpenMP, whose threads are to be the only ones.
_FLAGS = ["-std=c11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC"]
_FLAGS += ["-shared", "-nostdlib", "-ffp-contract=fast"]
# The bytes of a vector, and what lets the compiler use them.
_VECTORS = {
    "AVX2": (32, ["-mavx2", "-mfma"]),
    "AVX512": (64, ["-mfma", *(f"-mavx512{part}" for part in ("f", "bw", "dq", "vl"))]),
}
_VECTOR, _VECTOR_FLAGS = _VECTORS.get(torch.backends.cpu.get_cpu_capability(), (16, []))
_MOST = 5  # vectors of a share's units


class Native(Analytic):
    """Trains one textbook VAE like `Analytic`, and leaves out what the black pixels add.

    Args:
        model: A VAE to which there is no `objection`.
        optimizer: Its Adam.
        batch_size: Examples per step; what remains at the end is a step of its own.
        beta: The weight of the divergence.
    """

    def __init__(
        self,
        model: LatentModel,
        optimizer: torch.optim.Optimizer,
        *,
        batch_size: int,
        beta: float,
    ) -> None:
        super().__init__([model], [optimizer], batch_size=batch_size, beta=beta)
        first = self.parameters[0][0]
        library = _compiled(first.dtype, _VECTOR)
        assert not isinstance(library, str)  # noqa: S101 - that would be an objection
        self.library = library
        self.shares = _shares(first)
        self.rates = (ctypes.c_double * 4)()  # where the steps find them

    def _parts(self, row: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
        first, *rest = super()._parts(row, parameters)
        hidden, pixels = first.shape
        shares = first.view(self.shares, pixels, hidden // self.shares)
        return [shares.mT, *rest]

    def _execute(self, images: Tensor) -> Tensor:
        return super()._execute(images.contiguous())

    def _descent(self) -> Callable[[], object]:
        chosen = settings(self.optimizers[0])
        if problem := _foreign(chosen):
            raise InputError("optimizer", "be what it was", problem, "Make another engine.")
        self.rates[:] = [chosen[name] for name in ("lr", "beta1", "beta2", "eps")]
        rest = [vectors[-1] for vectors in self.adam]
        where = _at(*rest, self.adam_steps)
        count = ctypes.c_int64(len(rest[0]))
        return functools.partial(self.library.conclude, *where, self.rates, count)

    def _make_step(self, weights: Layers, gradients: Layers, batch: int) -> Step:
        moments = list(zip(*self.adam[2:], strict=True))[:2]
        return NativeStep(
            weights,
            gradients,
            batch,
            self.beta,
            adam=[(*_at(*pair, self.adam_steps), self.rates) for pair in moments],
            shares=self.shares,
            code=self.library,
        )


class NativeStep(Step):
    """Computes the gradients of `Step`, save those of the two largest matrices, which it updates.

    Args:
        weights: The layers; the weights of the first by shares, as `native.c` has them.
        gradients: Where their gradients go.
        batch: The examples of a batch.
        beta: The weight of the divergence.
        adam: Where the moments of both, the steps behind them and Adam's rates are.
        shares: Into how many the hidden units are divided.
        code: `native.c`.
    """

    def __init__(
        self,
        weights: Layers,
        gradients: Layers,
        batch: int,
        beta: float,
        *,
        adam: Sequence[tuple[Any, ...]],
        shares: int,
        code: ctypes.CDLL,
    ) -> None:
        super().__init__(weights, gradients, batch, beta)
        hidden, pixels = weights.W1.shape
        # A row is an example here: what the kernels add up, they add up along it.
        self.h1_t, self.d_h1_t = (h.mT.contiguous() for h in (self.h1, self.d_h1))
        self.h1, self.d_h1 = self.h1_t.mT, self.d_h1_t.mT
        # Pixels that are not 0, each with its index, by example and by pixel; and how many.
        self.lists = [self.x.new_empty(2 * self.x.numel()) for _ in range(2)]
        self.counts = [self.x.new_empty(n, dtype=torch.int64) for n in (batch, pixels)]
        room, threads = self.h2.stride(0), torch.get_num_threads()
        self.rows_of_h2 = self.h2.new_empty(batch, _rounded(hidden, self.h2))
        self.parts = self.h2.new_empty(threads, hidden, room)
        of_example, of_pixel, in_example, in_pixel = _at(*self.lists, *self.counts)
        h, d, w, b, d_b = _at(self.h1_t, self.d_h1_t, weights.W1, weights.b1, gradients.b1)
        there_and_back = _at(self.h2, self.d_h2, self.rows_of_h2, self.parts)
        scores = _at(self.p, self.factors, self.reconstruction)
        parameters = _at(weights.b4, gradients.b4, weights.W4)
        of_first, of_last = adam
        sizes = (*map(ctypes.c_int64, (shares, batch, room, pixels, hidden)), threads)
        self.code = code
        self.of_entering = (w, b, h, of_example, in_example, of_pixel, in_pixel, *sizes)
        self.of_leaving = (of_pixel, in_pixel, h, d, w, d_b, *of_first, *sizes)
        of_output = (*there_and_back, *scores, *parameters, *of_last, *sizes)
        self.of_output = (of_pixel, in_pixel, *of_output)

    def _empty(self, models: list[int], batch: int, width: int) -> Tensor:
        room = _rounded(batch, self.weights.W1)
        return self.weights.W1.new_zeros((*models, width, room))[..., :batch]

    def _enter(self, images: Tensor, index: Tensor) -> None:
        self.code.enter(*_at(images, index), *self.of_entering)

    def _output(self) -> None:
        self.code.output(*self.of_output)

    def _leave(self) -> None:
        self.code.leave(*self.of_leaving)


def objection(model: LatentModel, optimizer: torch.optim.Optimizer) -> str | None:
    """Say why a training cannot be that of `Native`, if it cannot."""
    if problem := objection_to_formulas(model, optimizer):
        return problem
    if problem := _foreign(settings(optimizer)):
        return problem
    first = next(model.parameters())
    if model.device.type != "cpu" or model.dtype not in _REAL:
        return f"the model is of {model.dtype} on {model.device.type}"
    if not _shares(first):
        return f"{len(first)} hidden units cannot be divided into shares of a few vectors"
    library = _compiled(model.dtype, _VECTOR)
    return f"what it needs is not compiled ({library})" if isinstance(library, str) else None


def _foreign(chosen: dict[str, Any]) -> str | None:
    if chosen["weight_decay"] or chosen["maximize"]:
        return "the optimiser decays weights, or maximises"
    return None


def _shares(weight: Tensor) -> int:
    """Divide a layer's units into shares of one to five vectors; 0 says that there are none."""
    units, lanes = len(weight), _VECTOR // weight.element_size()
    widths = (width for width in range(lanes, _MOST * lanes + 1) if units % width == 0)
    return units // max(widths, default=units + 1)


def _rounded(count: int, numbers: Tensor) -> int:
    """Round up to whole vectors of numbers of a type."""
    lanes = _VECTOR // numbers.element_size()
    return -(-count // lanes) * lanes


@functools.cache
def _compiled(dtype: torch.dtype, vector: int) -> ctypes.CDLL | str:
    """Compile the kernels, in half a second, or say why they are not: once per process."""
    try:
        compiler = shlex.split(os.environ.get("CC", "cc"))
        with tempfile.TemporaryDirectory() as directory:
            library = Path(directory, "native.so")
            command = [*compiler, *_FLAGS, *_VECTOR_FLAGS, f"-DREAL={_REAL[dtype]}"]
            command += [f"-DVECTOR={vector}", str(_SOURCE), "-o", str(library)]
            done = subprocess.run(command, check=False, capture_output=True, errors="replace")
            if done.returncode:
                return f"{compiler[0]}: {done.stderr.strip()}".splitlines()[0]
            return ctypes.CDLL(str(library))
    except (OSError, ValueError) as error:  # none of that name, or its quotes are not closed
        return str(error)


def _at(*tensors: Tensor) -> list[ctypes.c_void_p]:
    return [ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors]
