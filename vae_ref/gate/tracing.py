"""Time the lines of a project in a call, and count how often each is executed.

A worker loads this file by its path, so it imports nothing of the gate. What the project calls
elsewhere, such as an operation of torch, belongs to the line that calls it. Tracing itself takes
time, most where lines are short, so times are compared only with others that were traced.
"""

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["Line", "trace"]

Line = tuple[str, int]
"""A file and the number of a line."""


class _Trace:
    def __init__(self, relative: Callable[[str], str | None]) -> None:
        self.relative = relative
        self.own: dict[Line, float] = defaultdict(float)
        self.total: dict[Line, float] = defaultdict(float)
        self.hits: Counter[Line] = Counter()
        self.stack: list[Line] = []  # the lines that are being executed, each called by the former
        self.since = time.perf_counter()

    def called(self, frame: FrameType, event: str, _: Any) -> Any:
        """Follow a call into a file of the project; others belong to the line that calls them."""
        if event != "call" or not self.relative(frame.f_code.co_filename):
            return None
        self.book()
        self.stack.append((self.relative(frame.f_code.co_filename) or "", frame.f_lineno))
        return self.executed

    def executed(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            self.book()
            self.stack[-1] = self.stack[-1][0], frame.f_lineno
            self.hits[self.stack[-1]] += 1
        elif event == "return":
            self.book()
            self.stack.pop()
        return self.executed

    def book(self) -> None:
        """Give the time since the last event to the line that was executed, and to its callers."""
        now = time.perf_counter()
        if self.stack:
            self.own[self.stack[-1]] += now - self.since
            for line in set(self.stack):
                self.total[line] += now - self.since
        self.since = time.perf_counter()


def trace(
    call: Callable[[], object], relative: Callable[[str], str | None]
) -> list[dict[str, Any]]:
    """Call a function, and return what every line of the project does in it.

    Args:
        call: The function.
        relative: Names a file if it is one of the project.

    Returns:
        For each line its ``own`` seconds, those of the ``total`` with the lines of the project
        that it calls, and the ``hits``: how often it is executed.
    """
    found, before = _Trace(relative), sys.gettrace()
    sys.settrace(found.called)
    try:
        call()
    finally:
        sys.settrace(before)
    return [
        {"place": line, "own": found.own[line], "total": total, "hits": found.hits[line]}
        for line, total in found.total.items()
    ]
