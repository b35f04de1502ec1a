"""Run a stranger's code in a process of its own, whose end, whatever it is, is noticed.

The child is given a request on its standard input, and sends messages, one JSON object a line, on
a pipe of their own. What else it writes, on either standard stream, is counted and thrown away.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import IO, Any

__all__ = ["Child", "Messenger", "limit_memory"]

SLACK = 30.0
"""The seconds that a child may be silent for, beyond those that it asked for."""

_KEPT = 2000  # bytes of what is written outside of the messages
_ENDING = 10.0  # seconds that a child which closes its pipe has to end


class Messenger:
    """The child's end: sends messages to the supervisor.

    Args:
        descriptor: The pipe's end that the child was given.
    """

    def __init__(self, descriptor: int) -> None:
        self._pipe = os.fdopen(descriptor, "wb")
        self._lock = threading.Lock()

    def send(self, kind: str, **content: Any) -> None:
        """Send a message; content is data for JSON."""
        line = json.dumps({"kind": kind, **content}).encode() + b"\n"
        with self._lock:
            self._pipe.write(line)
            self._pipe.flush()


class Child:
    """The supervisor's end: starts a child, hands on its messages, says how it ended.

    Args:
        code: The Python program, of ``-c``; it finds its end of the pipe in ``sys.argv[1]``.
        request: What it reads from its standard input, as JSON.
        patience: How many seconds to wait for its first message.

    Attributes:
        hung: Whether it was silent for too long, and was killed for that.
        written: How many lines it wrote beside its messages.
        first: The first of these lines.
    """

    def __init__(self, code: str, request: Mapping[str, Any], *, patience: float) -> None:
        self.hung, self.written, self.first = False, 0, ""
        self._closed = False  # the pipe, from the other side
        self._deadline = time.monotonic() + patience + SLACK
        self._pipe, end = os.pipe()
        path = json.dumps([entry for entry in sys.path if entry])
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"import sys; sys.path[:] = {path}; {code}", str(end)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(end,),
                start_new_session=True,
                # OpenBLAS, of NumPy and of SciPy, starts a thread for each core as it is imported.
                # Nothing here needs them, and on a busy machine they double the time of a run.
                env={"OPENBLAS_NUM_THREADS": "1", **os.environ},
            )
        finally:
            os.close(end)
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None  # noqa: S101 - they are pipes
        assert stdout is not None  # noqa: S101
        self._drain = threading.Thread(target=self._count, args=[stdout])
        self._drain.daemon = True
        self._drain.start()
        with contextlib.suppress(BrokenPipeError), stdin:
            stdin.write(json.dumps(request).encode())

    def messages(self) -> Iterator[dict[str, Any]]:
        """Yield what the child sends, until it ends or is silent for too long."""
        with os.fdopen(self._pipe, "rb", buffering=0) as pipe:
            waiting = b""
            while part := self._read(pipe):
                *lines, waiting = (waiting + part).split(b"\n")
                for line in lines:
                    message: dict[str, Any] = json.loads(line)
                    wait = message.get("patience", 0.0)
                    self._deadline = time.monotonic() + wait + SLACK
                    yield message

    def _read(self, pipe: IO[bytes]) -> bytes:
        """Wait for something to read; nothing is the end.

        Other processes may hold the pipe open, so that the child's own end counts as well.
        """
        while True:
            ended = self._process.poll() is not None
            if select.select([pipe], [], [], 0 if ended else 0.1)[0]:
                part = pipe.read(2**16)
                self._closed = not part
                return part
            if ended:
                return b""
            if time.monotonic() > self._deadline:
                self.hung = True
                return b""

    def end(self) -> str:
        """Kill what is left of the child and its children; say how it had ended, if it had."""
        if self._closed:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_ENDING)
        status = self._process.poll()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._drain.join(1.0)
        if status is None:
            return "hung" if self.hung else "stopped answering"
        if status >= 0:
            return f"ended with status {status}"
        name = signal.Signals(-status).name
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return f"was killed by {name}{hint}"

    def _count(self, stream: IO[bytes]) -> None:
        """Read all that is written, so that the child never waits, and keep the first line."""
        kept = b""
        with stream:
            while part := os.read(stream.fileno(), 2**16):
                kept = (kept + part)[:_KEPT]
                self.written += part.count(b"\n")
                self.first = kept.decode(errors="replace").strip().partition("\n")[0]


def limit_memory(gib: float) -> None:
    """Have allocations fail, in this process, beyond so many GiB of data; Linux only."""
    if sys.platform == "linux":
        import resource

        limit = int(gib * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
