"""Keep a stranger's code from hanging, printing over the report or leaving a trace behind."""

import contextlib
import io
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

__all__ = [
    "TimeLimit",
    "global_state_kept",
    "kind_and_message",
    "one_thread",
    "patience",
    "quiet",
    "seed_everything",
    "time_limit",
]


class TimeLimit(BaseException):
    """The time is up; not an `Exception`, so that the subject does not catch it by accident.

    Attributes:
        by_wall_clock: Whether it was not the CPU time that was spent, but the guard against what
            hangs. A busy machine may be the cause: try once more.
    """

    def __init__(self, *, by_wall_clock: bool = False) -> None:
        super().__init__()
        self.by_wall_clock = by_wall_clock


def patience(seconds: float) -> float:
    """Return how long to wait, by the clock on the wall, for so much CPU time to be spent."""
    return max(60.0, 12 * seconds)


@contextlib.contextmanager
def time_limit(seconds: float, *, wall: float | None = None) -> Iterator[None]:
    """Raise `TimeLimit` in the block once it has spent its time, or at its end if swallowed.

    Code that swallows whatever it is thrown is thrown it again and again, some steps later each
    time, until a place is met where nothing is caught. Only the main thread of a Unix process,
    while it runs Python code, can be interrupted; elsewhere there is no limit.

    Args:
        seconds: The CPU time that the process may spend, in all its threads.
        wall: The time after which it is taken to hang; by default `patience`.
    """
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return
    wall = patience(seconds) if wall is None else wall
    spent, start = time.process_time(), time.monotonic()
    rings, over, hangs = 0, False, False

    def arm() -> None:
        left = seconds - (time.process_time() - spent)
        signal.setitimer(signal.ITIMER_PROF, max(left, 1e-3), 0.1)
        # At least every second: what other threads spend may not wake the main thread.
        left = min(start + wall - time.monotonic(), 1.0)
        signal.setitimer(signal.ITIMER_REAL, max(left, 1e-3), 0.1)

    def ring(number: int, frame: FrameType | None) -> None:
        nonlocal rings, hangs
        if over:
            return
        if rings and _own(frame):  # which cleans up after the first
            signal.setitimer(signal.ITIMER_REAL, 1e-3, 0.1)
            return
        if not rings:
            hangs = time.process_time() - spent < seconds
            if hangs and time.monotonic() - start < wall:  # not yet
                arm()
                return
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
        rings += 1
        if rings > 1:
            _Thrower(lambda: over, by_wall_clock=hangs).trace(frame)
        raise TimeLimit(by_wall_clock=hangs)

    def ignore(unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, TimeLimit):
            hook(unraisable)

    tracing = sys.gettrace()
    hook, sys.unraisablehook = sys.unraisablehook, ignore  # a finalizer swallows what it is thrown
    try:
        with _alarms(ring):
            arm()
            try:
                yield
            finally:
                over = True
    finally:
        sys.unraisablehook = hook
        if rings > 1:
            sys.settrace(tracing)
    if rings:
        raise TimeLimit(by_wall_clock=hangs)


@contextlib.contextmanager
def _alarms(ring: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have both alarms, of CPU time and of wall time, answered here; put back those of others."""
    timers = {signal.ITIMER_PROF: signal.SIGPROF, signal.ITIMER_REAL: signal.SIGALRM}
    handlers = {number: signal.signal(number, ring) for number in timers.values()}
    pending = {timer: signal.setitimer(timer, 0) for timer in timers}
    start = time.process_time(), time.monotonic()
    try:
        yield
    finally:
        for timer in timers:
            signal.setitimer(timer, 0)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        now = time.process_time(), time.monotonic()
        for (timer, (left, interval)), before, after in zip(
            pending.items(), start, now, strict=True
        ):
            if left:  # somebody else's alarm
                signal.setitimer(timer, max(left - (after - before), 1e-3), interval)


def kind_and_message(error: BaseException) -> str:
    """Return the kind of an error and the first line of what it says."""
    kind = type(error).__name__
    try:
        first = str(error).partition("\n")[0]
    except Exception:
        first = ""
    return f"{kind}: {first[:_MOST_SAID]}" if first else kind


_MOST_PRINTED = 2**16  # characters
_MOST_SAID = 500
_OWN = (str(Path(__file__).parents[1]), contextlib.__file__)


def _own(frame: FrameType | None) -> bool:
    return frame is not None and frame.f_code.co_filename.startswith(_OWN)


class _Thrower:
    """A tracer that raises in the next line too, and rings a moment after that.

    The next line may be in the handler that swallowed what was thrown before.
    """

    def __init__(self, over: Callable[[], bool], *, by_wall_clock: bool) -> None:
        self._over, self._by_wall_clock = over, by_wall_clock

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event != "line" or self._over() or _own(frame):
            return self
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 5e-5), 0.01)
        raise TimeLimit(by_wall_clock=self._by_wall_clock)

    def trace(self, frame: FrameType | None) -> None:
        """Trace a frame, and what called it and what it calls."""
        while frame is not None and not _own(frame):
            frame.f_trace = self
            frame = frame.f_back
        sys.settrace(self)


class _Output(io.StringIO):
    """What is printed: of a flood, the beginning. It cannot be closed from outside."""

    def write(self, text: str) -> int:
        """Keep a text while there is room."""
        room = _MOST_PRINTED - self.tell()
        super().write(text[: max(room, 0)])
        return len(text)

    def close(self) -> None:
        """Stay open."""


@contextlib.contextmanager
def quiet() -> Iterator[io.StringIO]:
    """Collect what Python code in the block prints, on either stream."""
    printed = _Output()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        yield printed


def seed_everything(seed: int) -> None:
    """Seed the global generators of torch, NumPy and Python."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread: for small tensors more only wait, on a busy machine for long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def global_state_kept() -> Iterator[None]:
    """Put back what code may change for everybody: modes, generators, filters, directory.

    Inference mode and autocast, if they were left on before, are off in the block.
    """
    dtype, device, grad = torch.get_default_dtype(), torch.get_default_device(), _modes()
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    depth = sys.getrecursionlimit()
    try:
        with (
            np.errstate(),
            warnings.catch_warnings(),
            contextlib.chdir(Path.cwd()),
            torch.inference_mode(False),
            torch.autocast("cpu", enabled=False),
        ):
            yield
    finally:
        sys.setrecursionlimit(depth)
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            torch.set_default_device(None if device.type == "cpu" else device)
        torch.set_grad_enabled(grad[0])
        torch.autograd.set_detect_anomaly(grad[1])
        if torch.are_deterministic_algorithms_enabled() != grad[2]:  # costs a second of imports
            torch.use_deterministic_algorithms(grad[2])
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


def _modes() -> tuple[bool, bool, bool]:
    return (
        torch.is_grad_enabled(),
        torch.is_anomaly_enabled(),
        torch.are_deterministic_algorithms_enabled(),
    )
