"""The epoch by formula with its outer layers and loss in C; it needs a C compiler."""

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

from vae_ref.engines.analytic import Analytic, settings
from vae_ref.engines.analytic import objection as objection_to_formulas
from vae_ref.engines.step import Layers, Step
from vae_ref.model import LatentModel
from vae_ref.support.errors import InputError

__all__ = ["Native", "objection"]

_SOURCE = Path(__file__).with_suffix(".c")
_REAL = {torch.float32: "float", torch.float64: "double"}
# No library is linked: the kernels find torch's OpenMP in the process, and share its threads.
_FLAGS = ["-std=c11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC"]
_FLAGS += ["-shared", "-nostdlib", "-ffp-contract=fast"]
# The bytes of a vector, and the flags with which the compiler uses such vectors.
_VECTORS = {
    "AVX2": (32, ["-mavx2", "-mfma"]),
    "AVX512": (64, ["-mfma", *(f"-mavx512{part}" for part in ("f", "bw", "dq", "vl"))]),
}
_VECTOR, _VECTOR_FLAGS = _VECTORS.get(torch.backends.cpu.get_cpu_capability(), (16, []))
_MAX_VECTORS = 5  # vectors in a share, at most; `native.c` has the same number
_SETTINGS = ("lr", "beta1", "beta2", "eps")
# The fields of the struct in `native.c`, in its order: sizes, then addresses.
_SIZES = ("batch", "room", "pixels", "hidden", "shares", "threads", "n_others")
_ADDRESSES = (
    *_SETTINGS,
    *("steps", "by_example", "in_example", "by_pixel", "in_pixel"),
    *("W1", "m1", "v1", "b1", "d_b1", "h1", "d_h1"),
    *("W4", "m4", "v4", "b4", "d_b4", "h2", "d_h2", "rows_of_h2", "parts_of_d_h2"),
    *("p", "factors", "reconstruction", "others", "d_others", "m_others", "v_others"),
)


class Arguments(ctypes.Structure):
    """The arguments of all kernels; `native.c` says what each field is.

    Args:
        tensors: What the kernels read and write, by field; it is kept alive.
        sizes: The other fields.
    """

    __slots__ = ("tensors",)  # a name that is no field is an error
    _fields_ = [(name, ctypes.c_int64) for name in _SIZES]
    _fields_ += [(name, ctypes.c_void_p) for name in _ADDRESSES]

    def __init__(self, tensors: dict[str, Tensor], **sizes: int) -> None:
        super().__init__(**sizes, **{name: t.data_ptr() for name, t in tensors.items()})
        self.tensors = tensors


class Native(Analytic):
    """Trains one textbook VAE like `Analytic`; compiled outer layers skip the black pixels.

    Args:
        model: A VAE to which there is no `objection`.
        optimizer: Its Adam.
        batch_size: Examples per step; what remains at the end is a step of its own.
        beta: The weight of the divergence.
        progress: Called after every step with the number of examples seen in this epoch.
    """

    def __init__(
        self,
        model: LatentModel,
        optimizer: torch.optim.Optimizer,
        *,
        batch_size: int,
        beta: float,
        progress: Callable[[int], object] = lambda seen: None,
    ) -> None:
        super().__init__([model], [optimizer], batch_size=batch_size, beta=beta, progress=progress)
        first = self.parameters[0][0]
        library = _compiled(first.dtype, _VECTOR)
        assert not isinstance(library, str)  # noqa: S101 - that would be an objection
        self.library = library
        self.shares = _shares(first)
        (*_, others), (*_, d_others), (m1, m4, m_others), (v1, v4, v_others) = self.adam
        # The same for all steps: what Adam needs.
        self.common = {name: first.new_zeros((), dtype=torch.float64) for name in _SETTINGS}
        self.common |= {"steps": self.adam_steps, "m1": m1, "v1": v1, "m4": m4, "v4": v4}
        self.common |= {"others": others, "d_others": d_others}
        self.common |= {"m_others": m_others, "v_others": v_others}

    def _parts(self, row: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
        first, *rest = super()._parts(row, parameters)
        hidden, pixels = first.shape
        shares = first.view(self.shares, pixels, hidden // self.shares)
        return [shares.mT, *rest]

    def _execute(self, images: Tensor) -> Tensor:
        return super()._execute(images.contiguous())

    def _descent(self) -> Callable[[], object]:
        chosen = settings(self.optimizers[0])
        if problem := _unsupported(chosen):
            raise InputError("optimizer", "be what it was", problem, "Make another engine.")
        for name in _SETTINGS:
            self.common[name].fill_(chosen[name])
        arguments = Arguments(self.common, n_others=len(self.common["others"]))
        return functools.partial(self.library.conclude, arguments)

    def _make_step(self, weights: Layers, gradients: Layers, batch: int) -> Step:
        return NativeStep(
            weights,
            gradients,
            batch,
            self.beta,
            common=self.common,
            shares=self.shares,
            code=self.library,
        )


class NativeStep(Step):
    """Updates W1 and W4, and computes the gradients of all other parameters.

    Args:
        weights: The layers; W1 is stored by shares, as `native.c` says.
        gradients: Where the gradients go.
        batch: The examples of a batch.
        beta: The weight of the divergence.
        common: What is the same for all steps, by the fields of `Arguments`.
        shares: The number of shares into which the hidden units are divided.
        code: The compiled `native.c`.
    """

    def __init__(
        self,
        weights: Layers,
        gradients: Layers,
        batch: int,
        beta: float,
        *,
        common: dict[str, Tensor],
        shares: int,
        code: ctypes.CDLL,
    ) -> None:
        super().__init__(weights, gradients, batch, beta)
        hidden, pixels = weights.W1.shape
        # Here an example is a row, since the kernels add up whole rows.
        self.h1_t, self.d_h1_t = (h.mT.contiguous() for h in (self.h1, self.d_h1))
        self.h1, self.d_h1 = self.h1_t.mT, self.d_h1_t.mT
        room, threads = self.h2.stride(0), torch.get_num_threads()
        list_of_entries = functools.partial(self.x.new_empty, 2 * self.x.numel())
        tensors = {
            **common,
            "by_example": list_of_entries(),
            "in_example": self.x.new_empty(batch, dtype=torch.int64),
            "by_pixel": list_of_entries(),
            "in_pixel": self.x.new_empty(pixels, dtype=torch.int64),
            "W1": weights.W1,
            "b1": weights.b1,
            "d_b1": gradients.b1,
            "h1": self.h1,
            "d_h1": self.d_h1,
            "W4": weights.W4,
            "b4": weights.b4,
            "d_b4": gradients.b4,
            "h2": self.h2,
            "d_h2": self.d_h2,
            "rows_of_h2": self.h2.new_empty(batch, _rounded(hidden, self.h2)),
            "parts_of_d_h2": self.h2.new_empty(threads, hidden, room),
            "p": self.p,
            "factors": self.factors,
            "reconstruction": self.reconstruction,
        }
        self.code = code
        sizes = {"batch": batch, "room": room, "pixels": pixels, "hidden": hidden}
        sizes |= {"shares": shares, "threads": threads, "n_others": len(common["others"])}
        self.arguments = Arguments(tensors, **sizes)

    def _empty(self, models: list[int], batch: int, width: int) -> Tensor:
        room = _rounded(batch, self.weights.W1)
        return self.weights.W1.new_zeros((*models, width, room))[..., :batch]

    def _enter(self, images: Tensor, index: Tensor) -> None:
        self.code.enter(self.arguments, images.data_ptr(), index.data_ptr())

    def _output(self) -> None:
        self.code.output(self.arguments)

    def _leave(self) -> None:
        self.code.leave(self.arguments)


def objection(model: LatentModel, optimizer: torch.optim.Optimizer) -> str | None:
    """Return why `Native` cannot train the model, or None if it can."""
    if problem := objection_to_formulas(model, optimizer):
        return problem
    if problem := _unsupported(settings(optimizer)):
        return problem
    first = next(model.parameters())
    if model.device.type != "cpu" or model.dtype not in _REAL:
        return f"the model is of {model.dtype} on {model.device.type}"
    if not _shares(first):
        return f"{len(first)} hidden units cannot be divided into shares of a few vectors"
    library = _compiled(model.dtype, _VECTOR)
    return f"what it needs is not compiled ({library})" if isinstance(library, str) else None


def _unsupported(chosen: dict[str, Any]) -> str | None:
    if chosen["weight_decay"] or chosen["maximize"]:
        return "the optimiser decays weights, or maximises"
    return None


def _shares(weight: Tensor) -> int:
    """Return how many shares of one to five vectors the units divide into, or 0 if none."""
    units, lanes = len(weight), _VECTOR // weight.element_size()
    widths = (width for width in range(lanes, _MAX_VECTORS * lanes + 1) if units % width == 0)
    return units // max(widths, default=units + 1)


def _rounded(count: int, numbers: Tensor) -> int:
    """Round a count up to whole vectors of such numbers."""
    lanes = _VECTOR // numbers.element_size()
    return -(-count // lanes) * lanes


@functools.cache
def _compiled(dtype: torch.dtype, vector: int) -> ctypes.CDLL | str:
    """Compile the kernels once per process, in half a second, or return why that failed."""
    try:
        compiler = shlex.split(os.environ.get("CC", "cc"))
        with tempfile.TemporaryDirectory() as directory:
            library = Path(directory, "native.so")
            command = [*compiler, *_FLAGS, *_VECTOR_FLAGS, f"-DREAL={_REAL[dtype]}"]
            command += [f"-DVECTOR={vector}", str(_SOURCE), "-o", str(library)]
            done = subprocess.run(command, check=False, capture_output=True, errors="replace")
            if done.returncode:
                return f"{compiler[0]}: {done.stderr.strip()}".splitlines()[0]
            code = ctypes.CDLL(str(library))
    except (OSError, ValueError) as error:  # no such compiler, or unbalanced quotes in CC
        return str(error)
    for kernel in (code.output, code.leave, code.conclude):
        kernel.argtypes = [ctypes.POINTER(Arguments)]
    code.enter.argtypes = [ctypes.POINTER(Arguments), ctypes.c_void_p, ctypes.c_void_p]
    return code
