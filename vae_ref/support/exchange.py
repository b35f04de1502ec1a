"""Read the JSON of strangers: strictly, and numbers in every form that keeps all their digits."""

import contextlib
import json
import math
from collections.abc import Sequence
from typing import Any

__all__ = ["number", "numbers", "parsed"]

_LONGEST = 100  # characters of a number; the longest double has fewer than 30


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def parsed(line: bytes) -> object:
    """Read a line of JSON.

    Raises:
        ValueError: If it is none, is nested too deeply, or has a constant that is not of JSON.
    """
    try:
        found: object = json.loads(line, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return found


def number(given: object) -> float:
    """Read a number: one of JSON, or a decimal or a hexadecimal float as a string.

    Raises:
        ValueError: If it is none, or no float represents it.
    """
    if isinstance(given, bool) or not isinstance(given, int | float | str):
        raise ValueError("is no number")
    if isinstance(given, str) and (len(given) > _LONGEST or not given.isascii() or "_" in given):
        raise ValueError("is no number")
    text = given if isinstance(given, str) else ""
    try:
        found = float.fromhex(text) if "0x" in text.lower() else float(given)
    except (ValueError, OverflowError):
        raise ValueError("is no number, or larger than any float") from None
    if math.isinf(found) and "inf" not in text.lower():
        raise ValueError("is larger than any float")
    return found


def numbers(given: Sequence[Any]) -> list[float]:
    """Read many numbers: quickly, if all of them are finite numbers of JSON.

    Raises:
        ValueError: If one of them is none, or no float represents it.
    """
    with contextlib.suppress(OverflowError):
        if {*map(type, given)} <= {float, int} and all(map(math.isfinite, given)):
            return [*map(float, given)]
    return [number(one) for one in given]
