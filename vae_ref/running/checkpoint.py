"""Save and load tensors with what they belong to: safetensors, which any language can read.

The tensors are stored under their names; the metadata hold one key, ``vae_ref``, with a JSON
object. (One key only: safetensors writes several in an order that changes from run to run, and
equal states shall give equal files.)
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from vae_ref.support.atomic import replacing
from vae_ref.support.errors import UserError
from vae_ref.support.excerpt import excerpt

if TYPE_CHECKING:
    from safetensors import safe_open

__all__ = ["CheckpointError", "load", "opened", "parse", "save"]

_FORMAT = 1
_HEADER_BYTES = 1 << 20  # ours are of 5,000
_JSON_CHARACTERS, _JSON_BRACKETS = 20_000, 16  # ours have 500 and 4


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

    The tensors are float32 or float64, as they were saved. They are mapped from the file: none
    is in memory before it is used.

    Args:
        path: The file.

    Raises:
        CheckpointError: If the file does not exist, is truncated, or is not a checkpoint.
        OSError: If it cannot be read.
    """
    with opened(path) as file:
        facts = _facts(path, file.metadata() or {})
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        for name, tensor in slices.items():
            if tensor.get_dtype() not in ("F32", "F64"):
                raise CheckpointError(
                    f"{path} holds {excerpt(name)} as {tensor.get_dtype()}; a checkpoint has F32 "
                    "or F64. Take the file that vae_ref wrote."
                )
        try:
            return {name: file.get_tensor(name) for name in slices}, facts
        except (TypeError, RuntimeError) as error:
            raise CheckpointError(
                f"{path} holds a tensor of an impossible shape. Restore it."
            ) from error


def opened(path: Path) -> "safe_open":
    """Open a safetensors file. Its header, which is read at once, may have 1 MiB.

    Raises:
        CheckpointError: If the file does not exist, is truncated, or is of another kind.
        OSError: If it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CheckpointError(f"{path} does not exist or is not a file.")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    reason: object = f"a header of {length:,} bytes"
    if length <= _HEADER_BYTES:
        try:
            return safe_open(path, framework="pt")
        except SafetensorError as error:
            reason = error
    raise CheckpointError(
        f"{path} is truncated or not a safetensors file ({excerpt(reason, 250)})."
    )


def _facts(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    if "vae_ref" not in metadata:
        raise CheckpointError(f"{path} is a safetensors file, but not a checkpoint of vae_ref.")
    try:
        facts: dict[str, Any] = parse(metadata["vae_ref"])
        found = facts.pop("format")
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise CheckpointError(f"{path} has metadata that vae_ref did not write.") from error
    if found is True or found != _FORMAT:
        raise CheckpointError(
            f"{path} has format {excerpt(found)}, and this version of vae_ref reads format "
            f"{_FORMAT}. Use the version that wrote it."
        )
    return facts


def parse(text: str) -> Any:
    """Parse JSON, if it is no longer and no deeper than what vae_ref writes.

    Raises:
        ValueError: If it is, or is no JSON.
    """
    if len(text) > _JSON_CHARACTERS or text.count("[") + text.count("{") > _JSON_BRACKETS:
        raise ValueError("it is longer or deeper than what vae_ref writes")
    return json.loads(text)
