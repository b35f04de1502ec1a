"""The guards, alone: a limit of time, silence, and a state that is as it was."""

import contextlib
import gc
import os
import random
import signal
import sys
import threading
import time
import warnings

import numpy as np
import pytest
import torch

from vae_ref.conformance.guards import (
    TimeLimit,
    global_state_kept,
    patience,
    quiet,
    seed_everything,
    time_limit,
)

LIMIT = 0.1
CLOCKS = {"CPU": {"seconds": LIMIT}, "wall": {"seconds": 60.0, "wall": LIMIT}}
TIMERS = {signal.ITIMER_PROF: signal.SIGPROF, signal.ITIMER_REAL: signal.SIGALRM}


def alarms():
    return [(signal.getitimer(timer), signal.getsignal(s)) for timer, s in TIMERS.items()]


def work(seconds):
    """Spend CPU time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_cpu_time_is_limited():
    before, start = alarms(), time.process_time()
    with pytest.raises(TimeLimit) as limit, time_limit(LIMIT):
        work(60)
    assert LIMIT <= time.process_time() - start < 10 * LIMIT
    assert not limit.value.by_wall_clock
    assert alarms() == before


def test_cpu_time_that_another_thread_spends_counts():
    over = threading.Event()

    def spin():
        while not over.is_set():
            pass

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        with pytest.raises(TimeLimit) as limit, time_limit(LIMIT):
            thread.join()
    finally:
        over.set()
        thread.join()
    assert not limit.value.by_wall_clock


def past_exceptions():
    while True:
        with contextlib.suppress(Exception):
            time.sleep(1)


def past_two_swallowed():
    """What is thrown is caught twice; the alarm comes again."""
    for _ in range(2):
        with contextlib.suppress(BaseException):
            time.sleep(600)
    time.sleep(600)


def past_a_finalizer():
    """What is thrown there goes to sys.unraisablehook, where pytest makes it a failure."""

    class Slow:
        def __del__(self):
            time.sleep(600)

    Slow()
    time.sleep(600)


@pytest.mark.parametrize(
    "act", [lambda: time.sleep(600), past_exceptions, past_two_swallowed, past_a_finalizer]
)
def test_what_hangs_is_left_by_the_clock_on_the_wall(act):
    before, start = alarms(), time.monotonic()
    with pytest.raises(TimeLimit) as limit, time_limit(**CLOCKS["wall"]):
        act()
    assert time.monotonic() - start >= LIMIT
    assert limit.value.by_wall_clock
    assert alarms() == before


def test_the_patience_with_what_hangs_is_generous():
    """A machine that is busy may need much longer than the CPU time."""
    assert patience(0.01) == 60
    assert patience(10) == 120


# Loops that catch whatever they are thrown. They end after a while where the limit does not end
# them, so that their test does.


def suppresses(going_on):
    while going_on():
        with contextlib.suppress(BaseException):
            time.sleep(0.01)


def oversleeps(going_on):
    while going_on():
        try:
            time.sleep(1)
        except BaseException:
            continue


def works(going_on):
    while going_on():
        try:
            sum(i * i for i in range(1000))
        except BaseException as error:
            last = error  # noqa: F841


def catches_twice(going_on):
    while going_on():
        try:
            while going_on():
                try:
                    time.sleep(1)
                except BaseException:
                    continue
        except BaseException:
            continue


def calls_what_catches(going_on):
    def catches():
        try:
            time.sleep(1)
        except BaseException:
            return

    while going_on():
        catches()


def no_trace(frame, event, argument):
    """Trace nothing; a debugger would."""


@pytest.fixture
def no_collection():
    """What is raised in a callback of the garbage collector is lost, and pytest objects to it."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection", "user")
@pytest.mark.parametrize(
    ("loop", "clock"),
    [
        *((loop, "wall") for loop in (suppresses, oversleeps, catches_twice, calls_what_catches)),
        *((works, clock) for clock in CLOCKS),
    ],
)
def test_the_limit_ends_a_loop_that_swallows_everything(loop, clock):
    before, trace, start = alarms(), sys.gettrace(), time.monotonic()
    sys.settrace(no_trace)
    ended = []
    try:
        with pytest.raises(TimeLimit) as limit, time_limit(**CLOCKS[clock]):
            ended.append(loop(lambda: time.monotonic() - start < 60))
        after = sys.gettrace()
    finally:
        sys.settrace(trace)
    assert not ended
    assert limit.value.by_wall_clock == (clock == "wall")
    assert alarms() == before
    assert after is no_trace


def test_no_limit_is_felt_by_what_is_quick():
    before = alarms()
    with time_limit(LIMIT):
        pass
    work(2 * LIMIT)
    assert alarms() == before


def test_an_error_within_the_limit_comes_out():
    before = alarms()
    with pytest.raises(KeyError), time_limit(LIMIT):
        raise KeyError
    work(2 * LIMIT)
    assert alarms() == before


def test_limits_follow_each_other():
    for _ in range(3):
        with pytest.raises(TimeLimit), time_limit(0.02):
            work(60)


@pytest.mark.parametrize(("timer", "number"), TIMERS.items())
def test_the_alarm_of_somebody_else_still_rings(timer, number):
    """As pytest-timeout sets one around a whole test."""
    rung = []
    before = signal.signal(number, lambda *_: rung.append(1))
    signal.setitimer(timer, 0.15)
    try:
        with time_limit(LIMIT):
            work(LIMIT / 2)
        end = time.monotonic() + 60
        while not rung and time.monotonic() < end:
            pass
        work(LIMIT)
        assert rung == [1]
    finally:
        signal.setitimer(timer, 0)
        signal.signal(number, before)


def test_elsewhere_than_in_the_main_thread_there_is_no_limit():
    done = []

    def act():
        with time_limit(0.01):
            work(0.05)
            done.append(1)

    thread = threading.Thread(target=act)
    thread.start()
    thread.join()
    assert done == [1]


@pytest.mark.parametrize("late", ["raise", "return"])
def test_the_limit_is_over_when_it_is_over(late):
    """A ring that comes just as the block ends, often: nothing may ring afterwards."""
    before = alarms()
    for i in range(200):
        wall = 0.0005 + i * 1e-6
        with contextlib.suppress(TimeLimit, KeyError), time_limit(60.0, wall=wall):
            end = time.perf_counter() + 0.0006
            while time.perf_counter() < end:
                pass
            if late == "raise":
                raise KeyError
    work(0.02)
    assert alarms() == before


def test_what_is_printed_is_kept(capsys):
    with quiet() as printed:
        print("one")
        print("two", file=sys.stderr)
        sys.stdout.write("three")
    assert printed.getvalue() == "one\ntwo\nthree"
    assert capsys.readouterr() == ("", "")
    print("four")
    assert capsys.readouterr().out == "four\n"


def test_closing_the_output_breaks_nothing(capsys):
    with quiet() as printed:
        print("before")
        sys.stdout.close()
        sys.stderr.close()
    assert "before" in printed.getvalue()
    print("after")
    assert capsys.readouterr().out == "after\n"


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_putting_another_output_there_changes_nothing():
    before = sys.stdout, sys.stderr
    with quiet():
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    assert (sys.stdout, sys.stderr) == before


def state():
    return {
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "grad mode": torch.is_grad_enabled(),
        "anomalies": torch.is_anomaly_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "torch": torch.get_rng_state().tolist(),
        "numpy": [str(part) for part in np.random.get_state()],
        "python": random.getstate(),
        "numpy's errors": np.geterr(),
        "filters": list(warnings.filters),
        "directory": os.getcwd(),
    }


CHANGES = {
    "default dtype": lambda: torch.set_default_dtype(torch.float16),
    "default device": lambda: torch.set_default_device("meta"),
    "grad mode": lambda: torch.set_grad_enabled(False),
    "anomalies": lambda: torch.autograd.set_detect_anomaly(True),
    "deterministic": lambda: torch.use_deterministic_algorithms(True),
    "torch": lambda: torch.randn(3),
    "numpy": lambda: np.random.seed(3),
    "python": lambda: random.seed(3),
    "numpy's errors": lambda: np.seterr(all="raise"),
    "filters": lambda: warnings.simplefilter("ignore"),
    "directory": lambda: os.chdir("/"),
}


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.usefixtures("user")  # the type checker draws from Python's generator
def test_the_state_is_put_back(monkeypatch, tmp_path, what):
    monkeypatch.chdir(tmp_path)
    with global_state_kept():  # once, so that nothing is imported for the first time below
        pass
    before = state()
    try:
        with global_state_kept():
            CHANGES[what]()
        after = state()
    finally:  # for the tests after this one
        torch.set_default_device(None)
        torch.autograd.set_detect_anomaly(False)
        torch.use_deterministic_algorithms(False)
        np.seterr(**before["numpy's errors"])
    assert {name for name in before if before[name] != after[name]} == set()


@pytest.mark.usefixtures("user")
def test_a_default_device_that_is_another_is_put_back():
    torch.set_default_device("meta")
    try:
        with global_state_kept():
            torch.set_default_device("cpu")
        assert torch.get_default_device().type == "meta"
    finally:
        torch.set_default_device(None)


@pytest.mark.parametrize("ends", [ValueError, TimeLimit, SystemExit, KeyboardInterrupt])
@pytest.mark.usefixtures("user")
def test_the_state_is_put_back_however_it_ends(ends):
    before = state()
    with contextlib.suppress(ends), global_state_kept():
        torch.set_default_dtype(torch.float16)
        torch.manual_seed(3)
        raise ends
    assert state() == before


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**32 + 1, 2**62])
def test_seeds_repeat_all_generators(seed):
    draws = []
    with global_state_kept():
        for _ in range(2):
            seed_everything(seed)
            draws.append((torch.rand(()).item(), np.random.rand(), random.random()))
        seed_everything(seed + 1)
        other = (torch.rand(()).item(), np.random.rand(), random.random())
    assert draws[0] == draws[1]
    assert all(a != b for a, b in zip(draws[0], other, strict=True))
