"""Save and load tensors with what they belong to: safetensors, which any language can read.

The tensors are stored under their names; the metadata hold one key, ``vae_ref``, with a JSON
object. (One key only: safetensors writes several in an order that changes from run to run, and
equal states shall give equal files.)
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from vae_ref.support.atomic import replacing
from vae_ref.support.errors import UserError

__all__ = ["CheckpointError", "load", "save"]

_FORMAT = 1


class CheckpointError(UserError):
    """Says which file is not a checkpoint that can be used here, and why."""


def save(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically; equal arguments give equal bytes.

    Args:
        path: The file to create or replace.
        tensors: The tensors by name, on any device.
        facts: What JSON can express of their origin.

    Raises:
        OSError: If the file cannot be written.
    """
    from safetensors.torch import save as serialise

    metadata = {"vae_ref": json.dumps({"format": _FORMAT, **facts}, sort_keys=True)}
    content = serialise({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata)
    with replacing(path) as file:
        file.write(content)


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint: its tensors, on the CPU, and its facts.

    Args:
        path: The file.

    Raises:
        CheckpointError: If the file does not exist, is truncated, or is not a checkpoint.
        OSError: If it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CheckpointError(f"{path} does not exist or is not a file.")
    path.open("rb").close()  # an OSError of Python's says more than that of safetensors
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is truncated or not a safetensors file ({error})."
        ) from error
    if "vae_ref" not in metadata:
        raise CheckpointError(f"{path} is a safetensors file, but not a checkpoint of vae_ref.")
    try:
        facts = json.loads(metadata["vae_ref"])
        found = facts.pop("format")
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise CheckpointError(f"{path} has metadata that vae_ref did not write.") from error
    if found != _FORMAT:
        raise CheckpointError(
            f"{path} has format {found}, and this version of vae_ref reads format {_FORMAT}. "
            "Use the version that wrote it."
        )
    return tensors, facts
