"""The epoch by formula with a step in C; it needs a C compiler."""

import ctypes
import functools
import os
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vae_ref.checks import require_pixels
from vae_ref.data import ImageSet
from vae_ref.engines.analytic import Analytic, settings, state
from vae_ref.engines.analytic import objection as objection_to_formulas
from vae_ref.engines.losses import Losses
from vae_ref.engines.step import Layers
from vae_ref.engines.team import Team
from vae_ref.model import LatentModel
from vae_ref.support.errors import InputError

__all__ = ["Native", "objection"]

_SOURCE = Path(__file__).with_suffix(".c")
_REAL = {torch.float32: "float", torch.float64: "double"}
# No library is linked: the code finds torch's OpenMP in the process, and shares its threads.
_FLAGS = ["-std=c11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC"]
_FLAGS += ["-shared", "-nostdlib", "-ffp-contract=fast"]
# The bytes of a vector, and the flags with which the compiler uses such vectors.
_VECTORS = {
    "AVX2": (32, ["-mavx2", "-mfma"]),
    "AVX512": (64, ["-mfma", *(f"-mavx512{part}" for part in ("f", "bw", "dq", "vl"))]),
}
_VECTOR, _VECTOR_FLAGS = _VECTORS.get(torch.backends.cpu.get_cpu_capability(), (16, []))
_MAX_VECTORS = 5  # vectors in a share, at most; `native.c` has the same number
_SETTINGS = {"lr": "lr", "beta1": "beta1", "beta2": "beta2", "epsilon": "eps"}
# The fields of the struct in `native.c`, in its order.
_SIZES = (
    *("batch", "room", "stride", "pixels", "hidden", "latent", "latents", "heads"),
    *("shares", "parts"),
)
_SCALARS = ("beta", *_SETTINGS, "steps")
_BUFFERS = (
    *("by_example", "in_example", "by_pixel", "in_pixel"),
    *("h1", "d_h1", "Wc_t", "c", "d_c", "sigma", "z", "z_t", "d_z"),
    *("h2", "h2_t", "d_h2", "parts_of_d_h2"),
    *("p", "factors", "reconstruction", "divergence"),
)


class Parameter(ctypes.Structure):
    """The addresses of weights or biases, and of Adam's moments of them."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("w", "m", "v")]


class Arguments(ctypes.Structure):
    """The arguments of a step; `native.c` says what each field is.

    Args:
        tensors: What a step reads and writes, by field: a tensor, or a parameter and its moments.
            They are kept alive.
        sizes: The other fields.
    """

    __slots__ = ("tensors",)  # a name that is no field is an error
    _fields_ = [(name, ctypes.c_int64) for name in _SIZES]
    _fields_ += [(name, ctypes.c_void_p) for name in _SCALARS]
    _fields_ += [(name, Parameter) for name in Layers._fields]
    _fields_ += [(name, ctypes.c_void_p) for name in _BUFFERS]

    def __init__(self, tensors: dict[str, Tensor | tuple[Tensor, ...]], **sizes: int) -> None:
        super().__init__(**sizes)
        for name, each in tensors.items():
            if isinstance(each, Tensor):
                setattr(self, name, each.data_ptr())
            else:
                setattr(self, name, Parameter(*(tensor.data_ptr() for tensor in each)))
        self.tensors = tensors


class Native(Analytic):
    """Trains one textbook VAE like `Analytic`, with a compiled step that skips the black pixels.

    It computes with as many threads as torch has when it is made, or fewer.

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
        library = _compiled(model.dtype, _VECTOR)
        assert not isinstance(library, str)  # noqa: S101 - that would be an objection
        self.library, self.team = library, Team(self.parts)

    def _allocate(self) -> None:
        first, latent = self.parameters[0][0].detach(), self.latent_dim
        hidden, pixels = _rounded(len(first), first), self.pixels
        latents, heads = _rounded(latent, first), _rounded(2 * latent, first)
        shapes = (
            (hidden * pixels,),  # W1
            (pixels, hidden),  # W4
            (2 * latent, hidden),  # Wc
            (hidden, latents),  # W3
            *((hidden,), (heads,), (hidden,), (pixels,)),  # the biases
        )
        self.padded = [Layers(*map(first.new_zeros, shapes)) for _ in range(3)]
        self.scalars = {
            name: torch.zeros((), dtype=torch.float64, device="cpu") for name in _SCALARS
        }
        self.scalars["beta"].fill_(self.beta)
        self.adam_steps = self.scalars["steps"] = torch.zeros(1, dtype=torch.float32, device="cpu")
        self.parts = torch.get_num_threads()
        # Every part has the same number of shares, none of which is wider than _MAX_VECTORS.
        lanes = _rounded(1, first)
        vectors = hidden // lanes
        count = self.parts * -(-vectors // (_MAX_VECTORS * self.parts))
        self.shares = [
            range(vectors * s // count * lanes, vectors * (s + 1) // count * lanes)
            for s in range(count)
        ]

    def _copies(self) -> Iterator[tuple[Tensor, Tensor]]:
        (parameters,), (optimizer,) = self.parameters, self.optimizers
        states = [state(optimizer, parameter) for parameter in parameters]
        moments = [[state[key] for state in states] for key in ("exp_avg", "exp_avg_sq")]
        rows: list[Sequence[Tensor]] = [parameters, *moments]
        for padded, tensors in zip(self.padded, rows, strict=True):
            yield from self._padded_copies(padded, tensors)

    def _padded_copies(
        self, padded: Layers, tensors: Sequence[Tensor]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        first, *rest = tensors
        shares = padded.W1.split([self.pixels * len(units) for units in self.shares])
        for units, share in zip(self.shares, shares, strict=True):
            part = first[units.start : units.stop]
            yield share.view(self.pixels, len(units)).mT[: len(part)], part
        bc = padded.bc[: 2 * self.latent_dim]
        copies = [padded.W4, *padded.Wc.chunk(2), padded.W3, padded.b1, *bc.chunk(2)]
        for copy, tensor in zip([*copies, padded.b3, padded.b4], rest, strict=True):
            yield copy[tuple(map(slice, tensor.shape))], tensor

    def _stepping(self) -> Callable[[Any, Tensor, Tensor, Tensor], object]:
        chosen = settings(self.optimizers[0])
        if problem := _unsupported(chosen):
            raise InputError("optimizer", "be what it was", problem, "Make another engine.")
        for name, setting in _SETTINGS.items():
            self.scalars[name].fill_(chosen[setting])

        def take(step: "NativeStep", images: Tensor, index: Tensor, eps: Tensor) -> None:
            self.team.step(functools.partial(step, images, index, eps))

        return take

    def _execute(self, images: Tensor) -> Tensor:
        return super()._execute(images.contiguous())

    @torch.no_grad()
    def evaluate(self, data: ImageSet, eps: Tensor) -> tuple[float, float]:
        """Return the means of reconstruction and divergence over a set, in nats per example.

        Args:
            data: The images.
            eps: The noise, one row per image, shape ``(examples, latent)``.

        Raises:
            InputError: If the images do not have the model's number of pixels, or the noise does
                not have its shape.
        """
        require_pixels("data", data.images, self.pixels, data.images)
        if eps.shape != (shape := (len(data), self.latent_dim)):
            raise InputError("eps", f"have shape {shape}", f"{tuple(eps.shape)}", "Draw as much.")
        weights, (parameters,) = self.padded[0], self.parameters
        for copy, original in self._padded_copies(weights, parameters):
            copy.copy_(original)
        images, eps = data.images.contiguous(), eps.to(weights.W3.dtype).contiguous()
        order = torch.arange(len(data), device=images.device).split(self.batch_size)
        steps = {self._step(len(index)) for index in order}
        for step in steps:
            step.losses.reset()
        for index, noise in zip(order, eps.split(self.batch_size), strict=True):
            self._step(len(index))(images, index, noise.mT, self.team.threads, learn=False)
        terms = torch.stack([torch.stack(step.losses.terms()) for step in steps])
        unseen = 0 * weights.W1.sum()  # NaN if a weight is, though its pixel is black
        reconstruction, divergence = (terms.sum(0) / len(data) + unseen).tolist()
        return reconstruction, divergence

    def _make_step(self, batch: int) -> "NativeStep":
        padded = dict(zip(Layers._fields, zip(*self.padded, strict=True), strict=True))
        return NativeStep(
            self.library,
            {**self.scalars, **padded},
            batch,
            latent=self.latent_dim,
            shares=len(self.shares),
            parts=self.parts,
        )


class NativeStep:
    """Takes steps with batches of one size.

    Args:
        library: The compiled `native.c`.
        common: What is the same for all steps, by the fields of `Arguments`.
        batch: The examples of a batch.
        latent: The latents.
        shares: How many shares the units of the first layer are divided into.
        parts: How many parts a step is divided into.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        common: dict[str, Any],
        batch: int,
        *,
        latent: int,
        shares: int,
        parts: int,
    ) -> None:
        weight, bias = common["W4"][0], common["bc"][0]
        (pixels, hidden), (heads,) = weight.shape, bias.shape
        latents, room, lanes = (_rounded(n, weight) for n in (latent, batch, 1))
        stride = room + lanes * (room // lanes % 2 == 0)
        shapes = {
            "by_example": (batch, pixels, 2),
            "by_pixel": (pixels, batch, 2),
            **dict.fromkeys(("h1", "d_h1", "h2_t"), (batch, hidden)),
            "Wc_t": (hidden, heads),
            **dict.fromkeys(("c", "d_c"), (batch, heads)),
            **dict.fromkeys(("sigma", "z_t", "divergence"), (batch, latents)),
            **dict.fromkeys(("z", "d_z"), (latent, stride)),
            **dict.fromkeys(("h2", "d_h2"), (hidden, stride)),
            "parts_of_d_h2": (parts, hidden, stride),
            **dict.fromkeys(("p", "factors", "reconstruction"), (pixels, room)),
        }
        buffers = {name: weight.new_zeros(shape) for name, shape in shapes.items()}
        for name, count in {"in_example": batch, "in_pixel": pixels}.items():
            buffers[name] = torch.zeros(count, dtype=torch.int64, device="cpu")
        self.losses = Losses(
            buffers["reconstruction"][:, :batch],
            buffers["factors"][:, :batch],
            buffers["divergence"][:, :latent],
            common["beta"].item(),
        )
        self.arguments = Arguments(
            {**common, **buffers},
            batch=batch,
            room=room,
            stride=stride,
            pixels=pixels,
            hidden=hidden,
            latent=latent,
            latents=latents,
            heads=heads,
            shares=shares,
            parts=parts,
        )
        self.code = library.step

    def __call__(
        self, images: Tensor, index: Tensor, eps: Tensor, threads: int, *, learn: bool = True
    ) -> None:
        """Take a step, and add its loss to `losses`.

        Args:
            images: All images, as bytes, shape ``(examples, pixels)``.
            index: The indices of the images in the batch, shape ``(batch,)``.
            eps: The noise, shape ``(latent, batch)``; each example's is contiguous.
            threads: How many threads compute, at most `parts`.
            learn: Whether to update the weights.
        """
        pointers = (tensor.data_ptr() for tensor in (images, index, eps))
        self.code(self.arguments, *pointers, threads, learn)
        self.losses.step()


def objection(model: LatentModel, optimizer: torch.optim.Optimizer) -> str | None:
    """Return why `Native` cannot train the model, or None if it can."""
    if problem := objection_to_formulas(model, optimizer):
        return problem
    if problem := _unsupported(settings(optimizer)):
        return problem
    if model.device.type != "cpu" or model.dtype not in _REAL:
        return f"the model is of {model.dtype} on {model.device.type}"
    library = _compiled(model.dtype, _VECTOR)
    return f"what it needs is not compiled ({library})" if isinstance(library, str) else None


def _unsupported(chosen: dict[str, Any]) -> str | None:
    if chosen["weight_decay"] or chosen["maximize"] or chosen["amsgrad"]:
        return "the optimiser decays weights, maximises or keeps the greatest moments"
    if not chosen["eps"]:
        return "the optimiser adds nothing to the root of a moment, which may be 0"
    return None


def _rounded(count: int, numbers: Tensor) -> int:
    """Round a count up to whole vectors of such numbers."""
    lanes = _VECTOR // numbers.element_size()
    return -(-count // lanes) * lanes


@functools.cache
def _compiled(dtype: torch.dtype, vector: int) -> ctypes.CDLL | str:
    """Compile `native.c` once per process, in a second, or return why that failed."""
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
    addresses = [ctypes.c_void_p] * 3
    code.step.argtypes = [ctypes.POINTER(Arguments), *addresses, ctypes.c_int64, ctypes.c_int]
    code.step.restype = None
    return code
