"""Load somebody's trained weights into their module."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vae_ref.conformance.subject import Subject
from vae_ref.support.errors import InputError

__all__ = ["load_weights"]

_OPTIMISER = "adam."  # what our own checkpoints hold beside the weights
_NAMES = ("state_dict", "model_state_dict", "model")


def load_weights(subject: Subject, path: Path) -> None:
    """Load a state dict, of torch or safetensors, into the subject's module.

    Args:
        subject: Whose module it is for.
        path: A file that torch.save or safetensors wrote; a state dict may lie in it under a name
            such as ``model_state_dict``. Only tensors are read: no code in the file is run.

    Raises:
        InputError: If the file is no state dict, or one of another module.
        OSError: If it cannot be read.
    """
    if subject.module is None:
        raise InputError(
            "TARGET", "have a module", subject.name, "Name the model's class or file."
        )
    state = _read(path)
    try:
        subject.module.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        remedy = "Name the model that was trained."
        raise InputError(
            "--checkpoint", f"hold the weights of {subject.name}", reason, remedy
        ) from error


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError("--checkpoint", "be a file", path, "Name a state dict.")
    try:
        found: Any
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            found = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # whatever a file that is none makes of the readers
        reason = str(error).partition("\n")[0]
        remedy = "Save module.state_dict() with torch.save or safetensors."
        raise InputError(
            "--checkpoint", "be a state dict", f"{path} ({reason})", remedy
        ) from error
    for name in _NAMES:
        if isinstance(found, dict) and isinstance(found.get(name), dict):
            found = found[name]
    if not isinstance(found, dict) or not all(isinstance(t, Tensor) for t in found.values()):
        remedy = "Save module.state_dict(), not the module."
        raise InputError("--checkpoint", "be a state dict", f"{path}, {type(found)}", remedy)
    return {name: tensor for name, tensor in found.items() if not name.startswith(_OPTIMISER)}
