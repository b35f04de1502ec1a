"""Correctly rounded answers, and the errors of others' answers; it needs GCC (see `exact.c`)."""

import ctypes
import functools
import os
import shlex
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FUNCTIONS",
    "Answers",
    "Function",
    "NoCompilerError",
    "Tally",
    "answers",
    "count",
    "library",
]

_SOURCE = Path(__file__).with_suffix(".c")
_FLAGS = ["-std=gnu11", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math"]
_FLAGS += ["-fPIC", "-shared"]
_TO_1 = 0x3F800001  # how many floats lie in [0, 1]: their bits are the numbers from 0 on


class NoCompilerError(Exception):
    """The kernel cannot be compiled; the message says why."""


class Function(NamedTuple):
    """A function of one float, as the kernel knows it.

    Attributes:
        formula: What it computes, in TeX; the argument is x.
        derivative: Its derivative.
        inputs: How many floats are its inputs: those whose bits are 0, 1, ..., inputs - 1.
    """

    formula: str
    derivative: str
    inputs: int = 2**32


#: The order is that of `exact.c`.
FUNCTIONS = {
    "kl_by_logvar": Function(r"\tfrac12 (e^x - 1 - x)", r"\tfrac12 (e^x - 1)"),
    "kl_by_mu": Function(r"\tfrac12 x^2", "x"),
    "bernoulli_0_by_logit": Function(r"\log(1 + e^x)", r"1 / (1 + e^{-x})"),
    "bernoulli_1_by_logit": Function(r"\log(1 + e^{-x})", r"-1 / (1 + e^x)"),
    "bernoulli_0_by_probability": Function(r"-\log(1 - x)", r"1 / (1 - x)", _TO_1),
    "bernoulli_1_by_probability": Function(r"-\log x", r"-1 / x", _TO_1),
    "log_normaliser": Function(r"\log\big((e^x - 1) / x\big)", r"1 / (1 - e^{-x}) - 1 / x"),
    "sigma_by_logvar": Function(r"e^{x/2}", r"\tfrac12 e^{x/2}"),
}


class Tally(ctypes.Structure):
    """What is known of the errors; `exact.c` says what each field is."""

    _fields_ = [
        *((n, ctypes.c_int64) for n in ("inputs", "not_rounded", "over_1_ulp", "exceptional")),
        ("worst", ctypes.c_double),
        *((n, ctypes.c_float) for n in ("worst_at", "exceptional_at")),
    ]

    def content(self) -> dict[str, Any]:
        """Return the fields in types of JSON; an input is a hexadecimal number, or inf or nan."""
        found = {name: getattr(self, name) for name, _ in self._fields_}
        for what, known in (("worst", self.worst > 0), ("exceptional", self.exceptional > 0)):
            found[f"{what}_at"] = found[f"{what}_at"].hex() if known else None
        return found


@dataclass(frozen=True)
class Answers:
    """Inputs, and for value and derivative the answers as doubles, and correctly rounded.

    Attributes:
        function: The name of the function.
        x: The inputs.
        near: Value and derivative, with a relative error below 2**-45.
        right: Value and derivative, correctly rounded.
        hard: How many of them took quadruple precision.
    """

    function: str
    x: NDArray[np.float32]
    near: tuple[NDArray[np.float64], ...]
    right: tuple[NDArray[np.float32], ...]
    hard: int


def answers(function: str, start: int, stride: int, count: int) -> Answers:
    """Compute a function for the floats whose bits are start, start + stride, ..."""
    x, *right = (np.empty(count, np.float32) for _ in range(3))
    near = [np.empty(count, np.float64) for _ in range(2)]
    found = (array.ctypes.data for array in (x, *near, *right))
    hard = library().answers(_number(function), start, stride, count, *found)
    return Answers(function, x, tuple(near), tuple(right), hard)


def count(answers: Answers, computed: NDArray[np.float32], tally: Tally, *, order: int) -> None:
    """Add what somebody computed to a tally.

    Args:
        answers: The right answers.
        computed: The values or derivatives to be judged.
        tally: To what they are added.
        order: 0 for values, 1 for derivatives.
    """
    computed = np.ascontiguousarray(computed, np.float32)
    if computed.shape != answers.x.shape:
        raise ValueError(f"{len(answers.x)} inputs have answers of shape {computed.shape}")
    arrays = (answers.x, computed, answers.near[order], answers.right[order])
    addresses = (array.ctypes.data for array in arrays)
    number = _number(answers.function)
    library().tally(number, order, len(answers.x), *addresses, ctypes.byref(tally))


def _number(function: str) -> int:
    return list(FUNCTIONS).index(function)


@functools.cache
def library() -> ctypes.CDLL:
    """Compile the kernel once per process, in a second or two."""
    try:
        compiler = shlex.split(os.environ.get("CC", "cc"))
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "exact.so")
            command = [*compiler, *_FLAGS, str(_SOURCE), "-o", str(path), "-lquadmath", "-lm"]
            done = subprocess.run(command, check=False, capture_output=True, errors="replace")
            if done.returncode:
                raise NoCompilerError(f"{compiler[0]}: {done.stderr.strip()}".splitlines()[0])
            code = ctypes.CDLL(str(path))
    except (OSError, ValueError) as error:  # no such compiler, or unbalanced quotes in CC
        raise NoCompilerError(str(error)) from error
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    code.answers.restype = integer
    code.answers.argtypes = [ctypes.c_int, ctypes.c_uint32, ctypes.c_uint32, integer]
    code.answers.argtypes += [pointer] * 5
    code.tally.argtypes = [ctypes.c_int, ctypes.c_int, integer, *[pointer] * 4, pointer]
    code.tally.restype = None
    return code
