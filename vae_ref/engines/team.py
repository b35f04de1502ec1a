"""How many threads take a step together, by what steps have lately taken."""

import time
from collections.abc import Callable, Generator

__all__ = ["Team"]

WINDOW = 16  #: steps that are timed together
LONGEST = 1024  #: steps that fewer threads take at most before all are tried again


class Team:
    """Lets all threads take a step, or half of them while that is faster.

    The threads wait for each other several times in a step. If another process computes on the
    core of one of them, all wait until that core is free again, which takes longer than the work.
    Half of the threads find cores of their own. The result of a step does not depend on this.

    Args:
        threads: All threads.
        clock: Tells the time in seconds.

    Example:
        >>> Team(2).step(lambda threads: print(threads))
        2
    """

    def __init__(self, threads: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.choices = _choices(threads)
        self.threads = next(self.choices)

    def step(self, take: Callable[[int], object]) -> None:
        """Take a step with the chosen number of threads, and choose the next."""
        started = self.clock()
        take(self.threads)
        self.threads = self.choices.send(self.clock() - started)


def _choices(threads: int) -> Generator[int, float, None]:
    """Yield the threads of every step, and take the seconds of each."""
    few = -(-threads // 2)
    yield from _mean(threads, WINDOW)  # the first steps bring memory and threads into being
    limit, patience = (yield from _mean(few, WINDOW)), WINDOW
    while True:
        windows = 0
        while (yield from _within(limit, threads)):
            windows += 1
        patience = WINDOW if windows > 4 * patience / WINDOW else min(2 * patience, LONGEST)
        limit = yield from _mean(few, patience)


def _mean(threads: int, steps: int) -> Generator[int, float, float]:
    """Take some steps, and return their mean time."""
    total = 0.0
    for _ in range(steps):
        total += yield threads
    return total / steps


def _within(limit: float, threads: int) -> Generator[int, float, bool]:
    """Take a window of steps, and return whether a step takes no longer than a limit on average.

    It ends as soon as the answer is no.
    """
    left = limit * WINDOW
    for _ in range(WINDOW):
        left -= yield threads
        if left < 0:
            return False
    return True
