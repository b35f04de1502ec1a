"""Read what a project wants measured from the table ``[tool.vae-ref-gate]`` of pyproject.toml.

.. code-block:: toml

    [tool.vae-ref-gate]
    source = "src"
    [tool.vae-ref-gate.workloads]
    step = "tests/speed.py:training_step"

A workload is a function that sets itself up and returns the function that is called again and
again. ``workloads`` may also be the path of a file that defines ``WORKLOADS``, a dict of them.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vae_ref.gate.revisions import GateError

__all__ = ["configured"]

_TYPES: dict[str, tuple[type, ...]] = {
    "workloads": (str, dict),
    "source": (str,),
    "build": (str,),
    "note": (str,),
    "threads": (int,),
    "groups": (int,),
    "seconds": (int, float),
}


def configured(directory: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a project; what is given, and not None, goes before its file.

    Raises:
        GateError: If the file cannot be read, or an entry is unknown or of another type.
    """
    file, found = directory / "pyproject.toml", dict[str, Any]()
    if file.is_file():
        try:
            table = tomllib.loads(file.read_text(encoding="utf-8"))
            found = table.get("tool", {}).get("vae-ref-gate", {})
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
            raise GateError(f"pyproject.toml cannot be read: {error}") from None
    for name, value in found.items():
        if name not in _TYPES:
            raise GateError(f"[tool.vae-ref-gate] has {name}, but knows {', '.join(_TYPES)} only.")
        if not isinstance(value, _TYPES[name]) or isinstance(value, bool):
            types = " or ".join(kind.__name__ for kind in _TYPES[name])
            raise GateError(f"[tool.vae-ref-gate] {name} must be of type {types}; got {value!r}.")
    return found | {name: value for name, value in given.items() if value is not None}
