"""A VAE in another process, in any language: it is asked over its standard input, line by line.

docs/process.md describes the protocol. A request holds inputs and no expected answers.
"""

import base64
import binascii
import contextlib
import json
import math
import os
import random
import secrets
import select
import shlex
import signal
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import torch

from vae_ref.conformance.foreign import Foreign, NoGradientError
from vae_ref.conformance.loading.spawning import spawned
from vae_ref.conformance.subject import Conventions, DeclarationError, Elsewhere, Subject
from vae_ref.support import exchange
from vae_ref.support.errors import UserError
from vae_ref.support.excerpt import excerpt

__all__ = [
    "FUNCTIONS",
    "RESULTS",
    "AnswerOfProcessError",
    "Process",
    "ProcessError",
    "read_array",
    "read_arrays",
    "read_reply",
    "subject_of",
    "subject_of_process",
    "written",
]

PROTOCOL = 1
FUNCTIONS = {
    "kl": ("mu", "logvar"),
    "reparameterize": ("mu", "logvar"),
    "nll": ("outputs", "x"),
    "loss": ("outputs", "x", "mu", "logvar"),
    "importance_weighted": ("log_w",),
    "encode": ("x",),
    "decode": ("z",),
    "forward": ("x",),
}
"""What a process may be asked for, with the names of its arguments."""

RESULTS = {"encode": ("mu", "logvar"), "forward": ("outputs", "mu", "logvar")}
"""The names of what a function returns that returns more than one array."""

_SEEDED = ("reparameterize", "forward")
_PURE = ("kl", "nll", "loss", "importance_weighted")
_MODAL = ("reparameterize", "encode", "decode", "forward")

_SECONDS = 60.0
"""How long a process may think about one case, by the clock: a guard against what hangs."""

_LONGEST = 64 * 2**20
"""The bytes of a reply; the longest right ones, of many draws, have 24 MB."""

_MOST_AXES, _MOST = 8, 10**6
"""The axes of an array, and the numbers along an axis."""

_STARTS = 3
"""How often a process that has ended is started again."""

_REPEATED, _LARGE = 40, 10_000
"""How many questions at least are asked twice, and the most numbers of such a question."""

_SHOWN = 2000  # bytes of its standard error
_STOPPING = 2.0  # seconds until a process that was told to stop is killed

Array = dict[str, Any]


class ProcessError(UserError, ValueError):
    """A process cannot be judged at all; the message says why."""


class AnswerOfProcessError(RuntimeError):
    """A process gave no right reply to a case; the message says which way it failed.

    A function that refuses arguments raises a `RuntimeError` in this process, too.
    """


class Process:
    """Starts a process and asks it, again and again; one that has ended is started anew.

    Args:
        command: The program and its arguments.
        environment: Its environment; by default that of this process.

    Attributes:
        about: What it answered to the request start.
        may_lack_slopes: Whether it may find out late that a function comes without a gradient.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        running: "subprocess.Popen[bytes] | None" = None,
    ) -> None:
        self._command, self._environment, self._spawned = command, environment, running
        self._running: subprocess.Popen[bytes] | None = None
        self._starts, self._next = 0, secrets.randbelow(10**9)
        self.about: dict[str, Any] = {}
        self.may_lack_slopes = True

    def accepts(self, what: str) -> bool:
        """Return whether the process takes a member of requests that others need not know."""
        told = self.about.get("accepts")
        return isinstance(told, list) and what in told

    def write(self, array: Any) -> Array:
        """Return an array in the form that the process takes."""
        single = self.accepts("dtype") and array.dtype == np.float32
        form = written(array, packed=self.accepts("base64"), ordered=self.accepts("axes"))
        return form | {"dtype": "float32"} if single else form

    def start(self) -> None:
        """Start the process, and ask what it is."""
        if self._starts > _STARTS:
            raise AnswerOfProcessError(
                f"it has ended {self._starts} times, and is not asked again"
            )
        self._starts += 1
        try:
            self._running = self._spawned or spawned(self._command, self._environment)
            self._spawned = None
        except OSError as error:
            why = f"{error.strerror}: {excerpt(self._command[0])}"
            raise ProcessError(f"--exec cannot be run; {why}.") from None
        self._waiting = b""
        self._errors = _Last(self._running.stderr)
        self._ending = weakref.finalize(self, _end_of, self._running)
        self.about = self._ask({"do": "start", "protocol": PROTOCOL})

    def case(self, function: str, inputs: dict[str, Array], **more: Any) -> dict[str, Any]:
        """Ask for a value of a function, or with a cotangent for its slopes.

        Raises:
            AnswerOfProcessError: If it gives no right reply.
            NoGradientError: If it has no slopes of this function.
        """
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
        if "unsupported" in reply and "cotangent" in more and self.may_lack_slopes:
            raise NoGradientError
        if "unsupported" in reply:
            raise AnswerOfProcessError(
                f"it does not support what it said it does: {excerpt(str(reply['unsupported']))}"
            )
        return reply

    def stop(self) -> None:
        """Tell the process to stop, and end it if it does not; another case starts another."""
        if self._running is not None:
            self._ending()
            self._running = None

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
        self.kill()
        lines = self._errors.lines()
        how = "closed its output" if status is None else f"ended with status {status}"
        return f"the process {how}" + (f": {excerpt(lines[-1], 200)}" if lines else "")


class _Last:
    """The end of what a process writes on its standard error; all of it is read."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        assert stream is not None  # noqa: S101 - it is a pipe
        self._kept = b""
        self._reader = threading.Thread(target=self._read, args=[stream], daemon=True)
        self._reader.start()

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            while part := os.read(stream.fileno(), 2**16):
                self._kept = (self._kept + part)[-_SHOWN:]

    def lines(self) -> list[str]:
        """Return its last lines, of a process that has ended."""
        self._reader.join(1.0)
        return self._kept.decode(errors="replace").strip().splitlines()


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


def _end_of(running: subprocess.Popen[bytes]) -> None:
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


def written(
    array: Any, *, packed: bool = False, folded: bool = True, ordered: bool = False
) -> Array:
    """Return an array as JSON has it: in decimals, or packed as bytes in base64.

    Of equal rows, as those of a sampler's inputs, one is enough if they may be folded. If the
    numbers are to be in memory there as they are here, they are written in that order, and so are
    the axes: torch draws noise in the order of memory.
    """
    if packed:
        if ordered and all(array.strides):
            axes = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
            if axes != [*range(array.ndim)]:
                form = written(array.transpose(axes), packed=True, folded=False)
                return form | {"shape": list(array.shape), "axes": axes}
        doubles = np.ascontiguousarray(array, dtype="<f8")
        if folded and doubles.ndim > 1 and len(doubles) > 1 and (doubles == doubles[0]).all():
            doubles = doubles[0]
        text = base64.b64encode(doubles.tobytes()).decode()
        return {"shape": list(np.shape(array)), "base64": text}
    values = np.asarray(array, dtype=np.float64)
    numbers: list[Any] = values.ravel().tolist()
    if not np.isfinite(values).all():
        numbers = [n if math.isfinite(n) else str(n) for n in numbers]
    return {"shape": list(values.shape), "numbers": numbers}


def read_array(given: object, what: str, *, trusted: bool = False) -> Any:
    """Read an array of a reply or, if its sender is trusted not to fill the memory, of a request.

    Raises:
        AnswerOfProcessError: If it is none.
    """
    if not isinstance(given, dict):
        raise AnswerOfProcessError(f"{what} must be an object with shape and numbers")
    shape = given.get("shape")
    numbers = _unpacked(given["base64"], what) if "base64" in given else given.get("numbers")
    if not isinstance(shape, list) or not isinstance(numbers, list | np.ndarray):
        raise AnswerOfProcessError(f"{what} must have a shape and a flat list of numbers")
    sizes = [
        n for n in shape if isinstance(n, int) and not isinstance(n, bool) and 0 <= n <= _MOST
    ]
    if trusted and isinstance(numbers, np.ndarray) and numbers.size < math.prod(sizes):
        numbers = np.tile(numbers, sizes[0])
    fits = len(sizes) == len(shape) <= _MOST_AXES
    if not fits or math.prod(sizes) != len(numbers):
        raise AnswerOfProcessError(
            f"{what} has {len(numbers)} numbers, and the shape {excerpt(shape)}"
        )
    try:
        found: Any = numbers
        if isinstance(numbers, list):
            found = exchange.numbers(numbers)
    except ValueError as error:
        raise AnswerOfProcessError(f"{what}: a number {error}") from None
    every = [*range(len(sizes))]
    axes = given.get("axes", every)
    whole = isinstance(axes, list) and all(type(axis) is int for axis in axes)
    if not whole or sorted(axes) != every:
        raise AnswerOfProcessError(
            f"{what} must have as axes the numbers from 0 to {len(sizes) - 1}"
        )
    try:
        in_memory = np.array(found, dtype=np.float64).reshape([sizes[axis] for axis in axes])
    except ValueError:  # an empty one may have a shape that numpy refuses
        raise AnswerOfProcessError(f"{what} has the shape {excerpt(sizes)}") from None
    return in_memory.transpose(np.argsort(axes))


def _unpacked(given: object, what: str) -> Any:
    try:
        content = base64.b64decode(given, validate=True)  # type: ignore[arg-type]
        return np.frombuffer(content, dtype="<f8")
    except (TypeError, ValueError, binascii.Error):
        raise AnswerOfProcessError(
            f"{what}: base64 must be the bytes of doubles, the lowest byte first"
        ) from None


def read_arrays(
    given: object, what: str, names: Sequence[str], *, trusted: bool = False
) -> tuple[Any, ...]:
    """Read an object of arrays.

    Raises:
        AnswerOfProcessError: If it is none, or has other names.
    """
    if not isinstance(given, dict) or set(given) != set(names):
        raise AnswerOfProcessError(f"{what} must hold {', '.join(names)}")
    return tuple(read_array(given[n], f"{what}: {n}", trusted=trusted) for n in names)


def _seed() -> int:
    """Return a seed for the noise of a case, drawn from torch's generator."""
    return int(torch.randint(2**31, (), dtype=torch.int64))


def _function(
    process: Process,
    name: str,
    elsewhere: Elsewhere,
    memory: "Memory | None",
    *,
    differentiable: bool,
) -> Foreign:
    """Return a function of tensors that asks the process.

    Args:
        process: What is asked.
        name: The name of the function.
        elsewhere: The mode of the module.
        memory: Keeps answers that have to be the same the next time, if these have to.
        differentiable: Whether there are slopes.
    """
    names, results = FUNCTIONS[name], RESULTS.get(name)

    def linearize(*arrays: Any) -> tuple[Any, Callable[[Any], Sequence[Any]]]:
        inputs = dict(zip(names, map(process.write, arrays), strict=True))
        more: dict[str, Any] = {"seed": _seed()} if name in _SEEDED else {}
        if name in _MODAL and process.accepts("training"):
            more["training"] = elsewhere.training
        precision = np.result_type(*arrays)
        reply = process.case(name, inputs, **more)
        if results:
            found = read_arrays(reply.get("value"), "value", results)
            value: Any = tuple(array.astype(precision) for array in found)
        else:
            value = read_array(reply.get("value"), "value").astype(precision)
            if memory is not None:
                memory.keep(_Answer(name, arrays, more, value))

        def pull(cotangent: Any) -> Sequence[Any]:
            if results:
                asked = dict(zip(results, map(process.write, cotangent), strict=True))
            else:
                asked = process.write(cotangent)
            of = {"of": reply["id"]} if process.accepts("of") else {}
            answer = process.case(name, inputs, cotangent=asked, **more, **of)
            slopes = read_arrays(answer.get("slopes"), "slopes", names)
            for slope, array, n in zip(slopes, arrays, names, strict=True):
                if slope.shape != array.shape:
                    raise AnswerOfProcessError(
                        f"the slope by {n} has the shape {slope.shape}, not {array.shape}"
                    )
            return slopes

        return value, pull

    return Foreign(linearize, differentiable=differentiable)


@dataclass(frozen=True)
class _Answer:
    """A question and its answer."""

    name: str
    arrays: Sequence[Any]
    more: Mapping[str, Any]
    value: Any


class Memory:
    """Keeps some questions with their answers, drawn at random, and asks them again.

    Args:
        process: What is asked.
    """

    def __init__(self, process: Process) -> None:
        self._process, self._kept, self._seen = process, list[_Answer](), 0
        self._most = _REPEATED + secrets.randbelow(_REPEATED)
        self._draw = random.SystemRandom()

    def keep(self, answer: _Answer) -> None:
        """Keep an answer, perhaps, in the place of another: each has the same chance."""
        if sum(array.size for array in answer.arrays) > _LARGE:
            return
        self._seen += 1
        if len(self._kept) < self._most:
            self._kept.append(answer)
        elif (place := self._draw.randrange(self._seen)) < self._most:
            self._kept[place] = answer

    def again(self) -> Iterator[tuple[str, str]]:
        """Ask again, in another order; yield each function that answers otherwise, and how.

        Functions of examples are asked with the examples in another order, too.
        """
        self._draw.shuffle(self._kept)
        for answer in self._kept:
            n = len(answer.arrays[0])
            rows = (
                np.arange(n) if "seed" in answer.more else np.array(self._draw.sample(range(n), n))
            )
            arrays = [self._process.write(array[rows]) for array in answer.arrays]
            inputs = dict(zip(FUNCTIONS[answer.name], arrays, strict=True))
            reply = self._process.case(answer.name, inputs, **answer.more)
            found = read_array(reply.get("value"), "value")
            due = answer.value[rows] if answer.value.shape[:1] == (n,) else answer.value
            rounding = max(np.finfo(array.dtype).eps for array in answer.arrays)
            if difference := _difference(found, due, rounding):
                yield answer.name, difference


def _difference(found: Any, due: Any, rounding: float) -> str:
    """Say how two answers differ, if they do by more than the order of a sum may change."""
    if found.shape != due.shape:
        return f"an answer of shape {found.shape} where it was {due.shape}"
    size = np.abs(due[np.isfinite(due)]).max(initial=1.0)
    roundings = 1e4 * rounding * size
    if np.allclose(found, due, rtol=0, atol=roundings, equal_nan=True):
        return ""
    worst = np.unravel_index(np.nanargmax(np.abs(found - due)), due.shape) if due.ndim else ()
    return f"{found[worst]:.9g} where it was {due[worst]:.9g}"


def subject_of_process(command: str) -> Subject:
    """Start a process, and return the VAE that it says it is.

    Raises:
        ProcessError: If it cannot be run, or does not say what it is.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ProcessError(f"--exec must be a command; {error}.") from None
    if not words:
        raise ProcessError("--exec must be a command; got nothing.")
    process = Process(words)
    try:
        process.start()
    except AnswerOfProcessError as error:
        raise ProcessError(f"--exec must answer the request start; {error}.") from None
    return subject_of(process)


def subject_of(process: Process) -> Subject:
    """Return the VAE that a process says it is.

    Raises:
        ProcessError: If it does not say what it is.
    """
    about = process.about
    if "error" in about:
        raise ProcessError(f"start: {excerpt(str(about['error']), 300)}")
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
    if conventions.spread == "distribution":
        raise ProcessError("start: spread must be one of those that are numbers.")
    gradients, precision = about.get("gradients"), about.get("weights", conventions.dtype)
    if precision not in ("float64", "float32"):
        raise ProcessError('start: "weights" must be "float64" or "float32".')
    memory = Memory(process)
    elsewhere = Elsewhere(memory.again, process.stop, precision)
    functions: dict[str, Any] = {
        name: _function(
            process,
            name,
            elsewhere,
            memory if name in _PURE or (name == "reparameterize" and conventions.seeded) else None,
            differentiable=name in gradients if isinstance(gradients, list) else gradients is True,
        )
        for name in map(str, supports)
    }
    name, language = (excerpt(str(about.get(key, "unknown")), 60) for key in ("name", "language"))
    return Subject(
        name=name,
        found={"language": language},
        conventions=conventions,
        elsewhere=elsewhere,
        **functions,
    )


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
