"""Make things in a second process, while this one does something else."""

import contextlib
import multiprocessing
import os
import pickle
import sys
import threading
import warnings
from collections.abc import Callable, Hashable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Generic, TypeVar

import torch

__all__ = ["Ahead", "can_fork"]

_SILENCE = 30.0
"""The seconds in which a process that lives spends at least a little CPU time."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def can_fork() -> bool:
    """Whether a second process can share the work of this one: a core is left, and no threads."""
    return (
        sys.platform == "linux"
        and len(os.sched_getaffinity(0)) > 1
        and threading.active_count() == 1
        and not torch.cuda.is_initialized()
        and "jax" not in sys.modules  # its threads do not survive a fork
    )


class Ahead(Generic[K, V]):
    """Things that a forked process makes, in their order, until they are asked for.

    What is asked for and not begun is left to whoever asks, and so is what the other process
    fails to make: a failure is met again where it can be reported.

    Args:
        make: Makes a thing, which can be pickled, in a forked copy of this process.
        keys: What is going to be asked for, at most 256 things.
    """

    def __init__(self, make: Callable[[K], V], keys: Sequence[K]) -> None:
        self._keys, self._mine, self._made = list(keys), set[K](), dict[K, V | None]()
        self._next = 0  # whoever reads a byte from the pipe makes the thing with this number
        self._numbers, end = os.pipe()
        os.write(end, bytes(range(len(keys))))
        os.close(end)
        context = multiprocessing.get_context("fork")
        self._results, results = context.Pipe(duplex=False)
        self._process = context.Process(target=self._work, args=(make, results), daemon=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the threads of OpenMP, which wait for work
            self._process.start()
        results.close()

    def get(self, key: K) -> V | None:
        """Return what the other process made, or None where the caller has to make it."""
        if key not in self._keys:
            return None
        while self._keys.index(key) >= self._next:
            number = os.read(self._numbers, 1)
            self._next = number[0] + 1 if number else len(self._keys)
            self._mine.update(self._keys[n] for n in number)
        while key not in self._mine and key not in self._made:
            if not self._receive():
                return None
        return self._made.pop(key, None)

    def stop(self) -> None:
        """End the other process."""
        self._process.kill()
        self._process.join()
        self._results.close()
        with contextlib.suppress(OSError):
            os.close(self._numbers)

    def _receive(self) -> bool:
        """Wait for something that was made; False if the other process has ended or hangs."""
        spent = -1
        if self._results.closed:
            return False
        while not self._results.poll(_SILENCE):
            before, spent = spent, _clock_ticks(self._process.pid)
            if spent == before:
                self.stop()
                return False
        try:
            key, made = pickle.loads(self._results.recv_bytes())
        except EOFError:
            return False
        self._made[key] = made
        return True

    def _work(self, make: Callable[[K], V], results: Connection) -> None:
        torch.set_num_threads(1)  # those that there were have not been forked
        waiting: SimpleQueue[bytes | None] = SimpleQueue()
        sender = threading.Thread(
            target=lambda: [*map(results.send_bytes, iter(waiting.get, None))]
        )
        sender.start()
        while number := os.read(self._numbers, 1):
            key, made = self._keys[number[0]], None
            with contextlib.suppress(BaseException):
                made = make(key)
            waiting.put(pickle.dumps((key, made)))
        waiting.put(None)
        sender.join()


def _clock_ticks(process: int | None) -> int:
    """Return the CPU time that a process has spent."""
    stat = Path(f"/proc/{process}/stat").read_text()
    return sum(map(int, stat.rpartition(")")[2].split()[11:13]))
