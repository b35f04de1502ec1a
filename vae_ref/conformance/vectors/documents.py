"""The files of the vectors: how numbers are written, what a case is called, what is canonical."""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import mpmath

from vae_ref.conformance.vectors.cases import Array
from vae_ref.conformance.vectors.rounded import Rounded

__all__ = [
    "FOLDER",
    "NAMES",
    "VERSION",
    "WEIGHTS",
    "canonical",
    "faults",
    "identifier",
    "inputs_of",
    "load",
    "numbers_of",
    "outputs_of",
    "sha256_of",
    "written",
]

VERSION = 1
FOLDER = Path(__file__).parent / "files"
SCHEMA = Path(__file__).with_name("vectors.schema.json")
_DIGITS = 40
_ULPS = 8
"""How many times the scale an answer may be off, in units of the machine epsilon.

The scale counts one rounding for every operation; exponentials and logarithms of libraries have up
to four, and other orders of the operations are as good.
"""
_LARGEST = {"float32": 3e38, "float64": 1e308}

NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.json")))
"""The files, by name."""
WEIGHTS = tuple(sorted(FOLDER.glob("*.safetensors")))
"""The weights to which a file refers."""


def written(array: Array) -> dict[str, Any]:
    """Write exact numbers: as hexadecimal floats, and as decimals that round to the same."""
    return {
        "shape": list(array.shape),
        "hex": [number.hex() for number in array.numbers],
        "decimal": [repr(number) for number in array.numbers],
    }


def inputs_of(entry: dict[str, Any]) -> Array:
    """Read exact numbers."""
    return Array(tuple(entry["shape"]), tuple(map(float.fromhex, entry["hex"])))


def numbers_of(entry: dict[str, Any]) -> list[float]:
    """Read answers, rounded to double precision."""
    return [float(text) for text in entry["decimal"]]


def outputs_of(shape: Sequence[int], numbers: Sequence[Rounded]) -> dict[str, Any]:
    """Write answers with 40 digits, and how far from them a right one may be.

    It may be off by ``ulp`` times the machine epsilon times ``scale``, which is what rounding may
    do to the textbook's formula. Over the value, the scale is the formula's condition number.
    """
    scales = [max(n.scale, abs(n.value)) for n in numbers]  # the answer is rounded, too
    most = max(map(float, scales), default=0.0)
    return {
        "shape": list(shape),
        "decimal": [_decimal(n.value) for n in numbers],
        "scale": [_short(scale, 6) for scale in scales],
        "condition": [
            _short(scale / abs(n.value), 3) if n.value else None
            for n, scale in zip(numbers, scales, strict=True)
        ],
        "ulp": {name: _ULPS if most < large else None for name, large in _LARGEST.items()},
    }


def _short(value: Any, digits: int) -> str:
    text: str = mpmath.nstr(value, digits, min_fixed=0, max_fixed=0)
    return text


def _decimal(value: Any) -> str:
    text: str = mpmath.nstr(value, _DIGITS, min_fixed=0, max_fixed=0, strip_zeros=False)
    return text


def identifier(
    quantity: str, inputs: dict[str, Any], weights: dict[str, str] | None = None
) -> str:
    """Name a case by its question, so that the name never changes while the question does not."""
    question: list[Any] = [quantity, {n: [e["shape"], e["hex"]] for n, e in inputs.items()}]
    if weights:
        question.append(weights["sha256"])
    return f"{quantity}-{hashlib.sha256(json.dumps(question).encode()).hexdigest()[:12]}"


def sha256_of(file: Path) -> str:
    """Return the hash of a file, in hexadecimal digits."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def canonical(document: Any) -> str:
    """Write a document in the one way that is allowed: a list of numbers is one line."""
    return "".join(_lines(document, "")) + "\n"


def _lines(value: Any, indent: str) -> Iterator[str]:
    inner, is_list = indent + " ", isinstance(value, list)
    if not value or not (isinstance(value, dict) or any(isinstance(v, dict) for v in value)):
        yield json.dumps(value)
        return
    items = value if is_list else value.items()
    yield "[\n" if is_list else "{\n"
    for index, item in enumerate(items):
        key, found = ("", item) if is_list else (f"{json.dumps(item[0])}: ", item[1])
        plain = not isinstance(found, dict | list)
        yield f"{inner}{key}"
        yield json.dumps(found) if plain else "".join(_lines(found, inner))
        yield "\n" if index == len(items) - 1 else ",\n"
    yield f"{indent}{']' if is_list else '}'}"


@cache
def load(name: str) -> dict[str, Any]:
    """Read a file of the vectors, once; whoever gets it must not change it."""
    document: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return document


def faults(text: str) -> list[str]:
    """Return what is wrong with the text of a file, beside what its schema says."""
    document = json.loads(text)
    found = [] if text == canonical(document) else ["it is not in canonical form"]
    known = set[str]()
    for case in document["cases"]:
        name = case["id"]
        if name in known:
            found.append(f"{name} is there twice")
        known.add(name)
        weights = case.get("weights")
        if weights and sha256_of(FOLDER / weights["file"]) != weights["sha256"]:
            found.append(f"{name}: {weights['file']} has another hash")
        if name != identifier(document["quantity"], case["inputs"], weights):
            found.append(f"{name} is not the id of its inputs")
        for key, entry in case["inputs"].items():
            found += _faults_of_input(f"{name}, {key}", entry)
        for key, entry in (case.get("outputs", {}) | case.get("slopes", {})).items():
            count = math.prod(entry["shape"])
            if any(len(entry[part]) != count for part in ("decimal", "scale", "condition")):
                found.append(f"{name}, {key}: it has not {count} numbers")
        unknown = set(case["flags"]) - set(document["bugs"])
        if unknown:
            found.append(f"{name}: {', '.join(sorted(unknown))} is no bug that is described")
    return found


def _faults_of_input(where: str, entry: dict[str, Any]) -> list[str]:
    numbers = [float.fromhex(text) for text in entry["hex"]]
    found = []
    if [number.hex() for number in numbers] != entry["hex"]:
        found.append(f"{where}: a hexadecimal float is not in its shortest form")
    if [repr(number) for number in numbers] != entry["decimal"]:
        found.append(f"{where}: the decimals are not the hexadecimal floats")
    if len(numbers) != math.prod(entry["shape"]):
        found.append(f"{where}: it has not {math.prod(entry['shape'])} numbers")
    return found
