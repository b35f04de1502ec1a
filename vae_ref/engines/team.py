"""How many threads take a step together, by what steps have lately taken."""

import math
import time
from collections.abc import Callable

__all__ = ["Team"]

WINDOW, WIDEST = 16, 256  #: steps that are timed together, at first and at most
LONGEST = 4096  #: steps after which the slower number of threads is tried again, at most
CHANGED = 2.0  #: how much longer steps take when the machine is no longer what it was


class Team:
    """Lets all threads take a step, or half of them while that is faster.

    The threads wait for each other several times in a step. If another process computes on the
    core of one of them, all wait until that core is free again, which takes longer than the work.
    Half of the threads find cores of their own. The result of a step does not depend on this.

    Steps are timed in windows. From time to time, and when they suddenly take longer, the other
    number of threads takes a window. It is given up as soon as it cannot be the faster one. The
    windows widen with every change of mind, so that they cover whatever comes and goes.

    Args:
        threads: All threads.
        clock: Tells the time in seconds.

    Example:
        >>> Team(2).step(lambda threads: print(threads))
        2
    """

    def __init__(self, threads: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.sum = threads + -(-threads // 2)  # of both numbers
        self.threads = self.best = threads  # those of the next step; the faster number
        self.mean = math.inf  # seconds of a step with the faster number, in the last window
        self.window = WINDOW
        self.left = 2 * WINDOW  # steps until the other number is tried; the first ones are slow
        self.patience = WINDOW  # steps between two tries
        self.steps, self.seconds = 0, 0.0  # of this window

    def step(self, take: Callable[[int], object]) -> None:
        """Take a step with the chosen number of threads, and choose the next."""
        started = self.clock()
        take(self.threads)
        self.steps += 1
        self.seconds += self.clock() - started
        trying = self.threads != self.best
        slower = trying and self.seconds > self.window * self.mean
        if self.steps < self.window and not slower:
            return
        mean, before = self.seconds / self.steps, self.mean
        self.steps, self.seconds = 0, 0.0
        if slower:
            self.patience = min(4 * self.patience, LONGEST)
        elif trying:
            self.best, self.mean = self.threads, mean
            self.patience = self.window = min(2 * self.window, WIDEST)
        else:
            self.mean, self.left = mean, self.left - self.window
            if mean > CHANGED * before:  # or something passed; the next window tells
                self.left = min(self.left, self.window)
            if self.left <= 0:
                self.threads = self.sum - self.best
            return
        self.threads, self.left = self.best, self.patience
