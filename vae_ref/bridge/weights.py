"""Load somebody's trained weights into their module."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vae_ref.conformance.subject import Subject
from vae_ref.running import checkpoint
from vae_ref.running.checkpoint import CheckpointError
from vae_ref.support.errors import InputError
from vae_ref.support.excerpt import excerpt

__all__ = ["load_weights"]

_OPTIMISER = "adam."  # what our own checkpoints hold beside the weights
_NAMES = ("state_dict", "model_state_dict", "model")
_PRECISIONS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_PICKLE_BYTES = 1 << 20  # a tensor takes 200
_OPERATIONS = (
    "PROTO STOP MARK BINPUT LONG_BINPUT BINGET LONG_BINGET GLOBAL REDUCE BUILD BINPERSID NONE "
    "NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINSTRING "
    "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS SETITEM SETITEMS"
)


def load_weights(subject: Subject, path: Path) -> None:
    """Load a state dict, of torch or safetensors, into the subject's module.

    Args:
        subject: Whose module it is for.
        path: A file that torch.save or safetensors wrote; a state dict may lie in it under a name
            such as ``model_state_dict``. Only tensors are read: no code in the file is run. What
            describes them may have 1 MiB.

    Raises:
        InputError: If the file is no state dict, one of another module, or has weights that are
            not finite or of another kind than the module's. The module may hold some of it then.
        OSError: If it cannot be read.
    """
    if subject.module is None:
        raise InputError(
            "TARGET", "have a module", subject.name, "Name the model's class or file."
        )
    state, own = _read(path), _tensors(subject.module)

    def refuse(reason: str) -> InputError:
        rule = f"hold the weights of {subject.name}"
        remedy = f"{reason}. Name the model that was trained."
        return InputError("--checkpoint", rule, path, remedy)

    for name in [name for name in own if name in state]:
        kind, given = own[name].dtype, state[name].dtype
        if state[name].shape != own[name].shape:
            want, got = tuple(own[name].shape), tuple(state[name].shape)
            raise refuse(f"{excerpt(name)} must have shape {want}, and got {excerpt(got)}")
        if given != kind and not (given in _PRECISIONS and kind in _PRECISIONS):
            raise refuse(f"{excerpt(name)} must be {kind}, and got {given}")
    try:
        subject.module.load_state_dict(state)
    except Exception as error:  # a module may have a loader of its own
        reason = str(error).partition("\n")[2] or str(error)
        raise refuse(excerpt(" ".join(reason.split())).removesuffix(".")) from error
    for name, tensor in _tensors(subject.module).items():
        if (~tensor.isfinite() & (tensor != own[name])).any():  # a mask may have its infinities
            raise refuse(f"{excerpt(name)} must be finite")


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Copy what a module holds."""
    return {name: t.clone() for name, t in module.state_dict().items() if isinstance(t, Tensor)}


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError("--checkpoint", "be a file", path, "Name a state dict.")
    path.open("rb").close()  # an OSError of Python's says more than what the readers make of it
    if not path.stat().st_size:
        raise _refusal(path, "It is empty")
    try:
        found: Any = (_of_safetensors if path.suffix == ".safetensors" else _of_torch)(path)
    except InputError:
        raise
    except Exception as error:  # whatever a file that is none makes of the readers
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise _refusal(path, f"It cannot be read ({excerpt(reason)})") from error
    for name in _NAMES:
        if isinstance(found, dict) and isinstance(found.get(name), dict):
            found = found[name]
    if not isinstance(found, dict):
        raise _refusal(path, f"It holds one {type(found).__name__}")
    for name, tensor in found.items():
        if not isinstance(name, str):
            raise _refusal(path, f"Its names must be text; one is {excerpt(name)}")
        if not isinstance(tensor, Tensor):
            kind = type(tensor).__name__
            raise _refusal(path, f"{excerpt(name)} must be a tensor, and is {kind}")
    return {name: tensor for name, tensor in found.items() if not name.startswith(_OPTIMISER)}


def _refusal(path: Path, reason: str) -> InputError:
    remedy = f"{reason}. Save module.state_dict() with torch.save or safetensors."
    return InputError("--checkpoint", "be a state dict", path, remedy)


def _of_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with checkpoint.opened(path) as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except CheckpointError as error:
        raise _refusal(
            path, f"It {str(error).removeprefix(f'{path} ').removesuffix('.')}"
        ) from error


def _of_torch(path: Path) -> Any:
    """Read a file of torch.save, after a look at its pickle.

    Torch runs no code of a file, but unpacks what is compressed and calls what fills the memory.
    Mapped from the file, a tensor is not in memory before it is used.
    """
    zipped = zipfile.is_zipfile(path)
    if zipped:
        with _Bounded(io.FileIO(path)) as file, zipfile.ZipFile(file) as archive:
            if any(entry.file_size != entry.compress_size for entry in archive.infolist()):
                raise _refusal(path, "It is compressed")
            names = [n for n in archive.namelist() if n.lower().endswith("data.pkl")]
            if len(names) != 1:
                raise _refusal(path, "It is an archive, but not of torch.save")
            with archive.open(names[0]) as stream:
                _follow(path, stream.read(_PICKLE_BYTES), pickles=1)
    else:
        with path.open("rb") as stream:  # as until torch 1.6: a head of three, weights, their keys
            _follow(path, stream.read(_PICKLE_BYTES), pickles=5)
    return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)


def _follow(path: Path, content: bytes, pickles: int) -> None:
    """Raise unless the pickles with which a file begins are those of a state dict."""
    stream = io.BytesIO(content)
    try:
        for _ in range(pickles):
            _Follower(stream).load()
    except ValueError as error:
        raise _refusal(path, str(error)) from error
    except Exception as error:
        cut = stream.tell() == _PICKLE_BYTES
        reason = "has more than 1 MiB" if cut else "is damaged, or not of torch.save"
        raise _refusal(path, f"Its pickle {reason}") from error


class _Bounded(io.BufferedReader):
    """A file of which no more is read at once than the list of an archive's files may have."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read so many bytes, or raise."""
        if (size or 0) > _PICKLE_BYTES:
            raise ValueError("too many files in one")
        return super().read(size)


class _Dict(dict[Any, Any]):
    def __init__(self) -> None:
        """Take no argument, which might be endless."""
        super().__init__()

    def __setitem__(self, key: Any, value: Any) -> None:
        if not isinstance(key, str | int):  # of tuples in tuples, the hash overflows the stack
            raise ValueError(f"It has a {type(key).__name__} for a key")
        super().__setitem__(key, value)


class _Follower(pickle._Unpickler):
    """Unpickles what torch.save makes of state dicts and numbers, with ``None`` for a tensor."""

    dispatch: ClassVar = {
        code: pickle._Unpickler.dispatch[code]
        for code in (getattr(pickle, name)[0] for name in _OPERATIONS.split())
    }

    def persistent_load(self, _: Any) -> None:
        """Leave out a storage."""

    def load_empty_dict(self) -> None:
        """Begin a dict."""
        self.append(_Dict())  # type: ignore[attr-defined]

    dispatch[pickle.EMPTY_DICT[0]] = load_empty_dict  # type: ignore[assignment]

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for something that the pickle names."""
        match module, name:
            case "collections", "OrderedDict":
                return _Dict
            case (
                "torch._utils",
                "_rebuild_tensor_v2" | "_rebuild_tensor_v3" | "_rebuild_parameter",
            ):
                return lambda *_: None
            case "torch", "Size" | "device":
                return getattr(torch, name)
            case "torch" | "torch.storage", _ if name.endswith("Storage"):
                return None
            case "torch", _ if isinstance(vars(torch).get(name), torch.dtype):
                return None
        raise ValueError(f"It holds {excerpt(f'{module}.{name}')}, which is no part of one")
