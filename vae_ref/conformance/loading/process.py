"""A VAE in another process, in any language: it is asked over its standard input, line by line.

docs/process.md describes the protocol. A request holds inputs and no expected answers.
"""

import contextlib
import json
import math
import os
import secrets
import select
import shlex
import signal
import subprocess
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

import numpy as np
import torch

from vae_ref.conformance.foreign import Foreign
from vae_ref.conformance.subject import Conventions, DeclarationError, Subject
from vae_ref.support import exchange
from vae_ref.support.errors import UserError
from vae_ref.support.excerpt import excerpt

__all__ = [
    "FUNCTIONS",
    "AnswerOfProcessError",
    "ProcessError",
    "read_array",
    "read_reply",
    "subject_of_process",
]

PROTOCOL = 1
FUNCTIONS = {
    "kl": ("mu", "logvar"),
    "reparameterize": ("mu", "logvar"),
    "nll": ("outputs", "x"),
    "loss": ("outputs", "x", "mu", "logvar"),
    "importance_weighted": ("log_w",),
}
"""What a process may be asked for, with the names of its arguments."""

_SECONDS = 60.0
"""How long a process may think about one case, by the clock: a guard against what hangs."""

_LONGEST = 64 * 2**20
"""The bytes of a reply; the longest right ones, of many draws, have 24 MB."""

_MOST_AXES, _MOST = 8, 10**6
"""The axes of an array, and the numbers along an axis."""

_STARTS = 3
"""How often a process that has ended is started again."""

_SHOWN = 2000  # bytes of its standard error
_STOPPING = 2.0  # seconds until a process that was told to stop is killed

Array = dict[str, Any]


class ProcessError(UserError, ValueError):
    """A process cannot be judged at all; the message says why."""


class AnswerOfProcessError(Exception):
    """A process gave no right reply to a case; the message says which way it failed."""


class _Process:
    """Starts a process and asks it, again and again; one that has ended is started anew."""

    def __init__(self, command: str) -> None:
        try:
            self._command = shlex.split(command)
        except ValueError as error:
            raise ProcessError(f"--exec must be a command; {error}.") from None
        if not self._command:
            raise ProcessError("--exec must be a command; got nothing.")
        self._running: subprocess.Popen[bytes] | None = None
        self._starts, self._next = 0, secrets.randbelow(10**9)
        self.about: dict[str, Any] = {}

    def start(self) -> None:
        """Start the process, and ask what it is."""
        if self._starts > _STARTS:
            raise AnswerOfProcessError(
                f"it has ended {self._starts} times, and is not asked again"
            )
        self._starts += 1
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by _end_of
        try:
            self._running = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=True,  # so that its own children end with it
            )
        except OSError as error:
            self._errors.close()
            why = f"{error.strerror}: {excerpt(self._command[0])}"
            raise ProcessError(f"--exec cannot be run; {why}.") from None
        self._waiting = b""
        self._ending = weakref.finalize(self, _end_of, self._running, self._errors)
        self.about = self._ask({"do": "start", "protocol": PROTOCOL})

    def case(self, function: str, inputs: dict[str, Array], **more: Any) -> dict[str, Any]:
        """Ask for a value of a function, or with a cotangent for its slopes."""
        if self._running is None:
            self.start()
        self._next += 1 + secrets.randbelow(9)
        request = {"do": "case", "id": self._next, "function": function, "inputs": inputs, **more}
        reply = self._ask(request)
        if reply.get("id") != self._next:
            self.kill()
            raise AnswerOfProcessError(
                f"wrong id: it answered {excerpt(reply.get('id'))} to {self._next}"
            )
        if "error" in reply:
            raise AnswerOfProcessError(f"it failed: {excerpt(str(reply['error']), 200)}")
        if "unsupported" in reply:
            raise AnswerOfProcessError(
                f"it does not support what it said it does: {excerpt(str(reply['unsupported']))}"
            )
        return reply

    def kill(self) -> None:
        """End the process; the next case starts another."""
        if self._running is not None:
            _kill(self._running)
            self._ending()
            self._running = None

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request, and return its reply; whatever interrupts that ends the process."""
        assert self._running is not None  # noqa: S101 - whoever asks has started it
        deadline = time.monotonic() + _SECONDS
        try:
            _write(self._running, json.dumps(request).encode() + b"\n", deadline)
            line = self._line(deadline)
            if not line:
                raise AnswerOfProcessError(self._end())
            return read_reply(line)
        except BrokenPipeError:
            raise AnswerOfProcessError(self._end()) from None
        except BaseException as error:
            self._starts -= not isinstance(error, AnswerOfProcessError)  # it is not to blame
            self.kill()
            raise

    def _line(self, deadline: float) -> bytes:
        """Read a line; nothing if the process has ended."""
        assert self._running is not None  # noqa: S101
        assert self._running.stdout is not None  # noqa: S101
        pipe = self._running.stdout.fileno()
        parts = [self._waiting]
        size = len(self._waiting)
        while b"\n" not in parts[-1]:
            if not select.select([pipe], [], [], max(0, deadline - time.monotonic()))[0]:
                raise AnswerOfProcessError(f"silent: no line within {_SECONDS:g} s")
            part = os.read(pipe, 2**20)
            if not part:
                return b""
            parts.append(part)
            size += len(part)
            if size > _LONGEST:
                raise AnswerOfProcessError(
                    f"a flood: more than {_LONGEST >> 20} MiB without an answer"
                )
        line, _, self._waiting = b"".join(parts).partition(b"\n")
        return line or b" "  # an empty line is not the end

    def _end(self) -> str:
        """Say how the process has ended."""
        assert self._running is not None  # noqa: S101
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._running.wait(1)
        status = self._running.poll()
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - _SHOWN))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        self.kill()
        how = "closed its output" if status is None else f"ended with status {status}"
        return f"the process {how}" + (f": {excerpt(lines[-1], 200)}" if lines else "")


def read_reply(line: bytes) -> dict[str, Any]:
    """Read a line of a process.

    Raises:
        AnswerOfProcessError: If it is no JSON object.
    """
    try:
        reply = exchange.parsed(line)
    except ValueError:
        reply = None
    if not isinstance(reply, dict):
        shown = excerpt(line[:80].decode(errors="replace"))
        raise AnswerOfProcessError(f"garbage: a line that is no JSON object, {shown}")
    return reply


def _write(running: subprocess.Popen[bytes], text: bytes, deadline: float) -> None:
    """Write to a process, which may not read."""
    assert running.stdin is not None  # noqa: S101 - it is a pipe
    pipe, rest = running.stdin.fileno(), memoryview(text)
    os.set_blocking(pipe, False)
    while rest:
        if not select.select([], [pipe], [], max(0, deadline - time.monotonic()))[1]:
            raise AnswerOfProcessError(f"silent: it has not read a request of {len(text)} bytes")
        rest = rest[os.write(pipe, rest) :]


def _kill(running: subprocess.Popen[bytes]) -> None:
    """Kill a process and its children."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(running.pid, signal.SIGKILL)


def _end_of(running: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
    """Tell a process to stop, kill it and its children if it does not, and close its pipes."""
    with contextlib.suppress(OSError, AnswerOfProcessError):
        stop = json.dumps({"do": "stop"}).encode() + b"\n"
        _write(running, stop, time.monotonic() + _STOPPING)
    for pipe in (running.stdin, running.stdout):
        with contextlib.suppress(OSError):
            if pipe is not None:
                pipe.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        running.wait(_STOPPING)
    _kill(running)
    running.wait()
    errors.close()


def _written(array: Any) -> Array:
    values = np.asarray(array, dtype=np.float64)
    numbers: list[Any] = values.ravel().tolist()
    if not np.isfinite(values).all():
        numbers = [n if math.isfinite(n) else str(n) for n in numbers]
    return {"shape": list(values.shape), "numbers": numbers}


def read_array(given: object, what: str) -> Any:
    """Read an array of a reply.

    Raises:
        AnswerOfProcessError: If it is none.
    """
    if not isinstance(given, dict):
        raise AnswerOfProcessError(f"{what} must be an object with shape and numbers")
    shape, numbers = given.get("shape"), given.get("numbers")
    if not isinstance(shape, list) or not isinstance(numbers, list):
        raise AnswerOfProcessError(f"{what} must have a shape and a flat list of numbers")
    sizes = [
        n for n in shape if isinstance(n, int) and not isinstance(n, bool) and 0 <= n <= _MOST
    ]
    fits = len(sizes) == len(shape) <= _MOST_AXES
    if not fits or math.prod(sizes) != len(numbers):
        raise AnswerOfProcessError(
            f"{what} has {len(numbers)} numbers, and the shape {excerpt(shape)}"
        )
    try:
        found = exchange.numbers(numbers)
    except ValueError as error:
        raise AnswerOfProcessError(f"{what}: a number {error}") from None
    try:
        return np.array(found, dtype=np.float64).reshape(sizes)
    except ValueError:  # an empty one may have a shape that numpy refuses
        raise AnswerOfProcessError(f"{what} has the shape {excerpt(sizes)}") from None


def _seed() -> int:
    """Return a seed for the noise of a case, drawn from torch's generator."""
    return int(torch.randint(2**31, (), dtype=torch.int64))


def _function(process: _Process, name: str, *, differentiable: bool) -> Foreign:
    """Return a function of tensors that asks the process."""
    names = FUNCTIONS[name]

    def linearize(*arrays: Any) -> tuple[Any, Callable[[Any], Sequence[Any]]]:
        inputs = dict(zip(names, map(_written, arrays), strict=True))
        seeded = {"seed": _seed()} if name == "reparameterize" else {}
        value = read_array(process.case(name, inputs, **seeded).get("value"), "value")

        def pull(cotangent: Any) -> Sequence[Any]:
            reply = process.case(name, inputs, cotangent=_written(cotangent), **seeded)
            slopes = reply.get("slopes")
            if not isinstance(slopes, dict) or set(slopes) != set(names):
                raise AnswerOfProcessError(f"slopes must hold {', '.join(names)}")
            found = [read_array(slopes[n], f"the slope by {n}") for n in names]
            for slope, array, n in zip(found, arrays, names, strict=True):
                if slope.shape != array.shape:
                    raise AnswerOfProcessError(
                        f"the slope by {n} has the shape {slope.shape}, not {array.shape}"
                    )
            return found

        return value.astype(arrays[0].dtype), pull

    return Foreign(linearize, differentiable=differentiable)


def subject_of_process(command: str) -> Subject:
    """Start a process, and return the VAE that it says it is.

    Raises:
        ProcessError: If it cannot be run, or does not say what it is.
    """
    process = _Process(command)
    try:
        process.start()
    except AnswerOfProcessError as error:
        raise ProcessError(f"--exec must answer the request start; {error}.") from None
    about = process.about
    supports, said = about.get("supports"), about.get("conventions", {})
    if not isinstance(supports, list) or not set(map(str, supports)) <= FUNCTIONS.keys():
        known = ", ".join(FUNCTIONS)
        raise ProcessError(f'start: "supports" must be a list of some of {known}.')
    if not supports:
        raise ProcessError('start: "supports" must not be empty; there is nothing to judge.')
    if not isinstance(said, dict):
        raise ProcessError('start: "conventions" must be an object of names and values.')
    texts = {str(key): _as_text(value) for key, value in said.items()}
    try:
        conventions = Conventions().declaring(texts)
    except DeclarationError as error:
        raise ProcessError(f"start: {error}") from None
    differentiable = about.get("gradients") is True
    functions: dict[str, Any] = {
        name: _function(process, name, differentiable=differentiable) for name in supports
    }
    name, language = (excerpt(str(about.get(key, "unknown")), 60) for key in ("name", "language"))
    return Subject(name=name, found={"language": language}, conventions=conventions, **functions)


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
