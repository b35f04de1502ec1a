"""A child process is noticed whatever it does: it ends, crashes, hangs, floods or closes."""

import os
import time
from pathlib import Path

import pytest

from vae_ref.conformance import supervisor
from vae_ref.conformance.supervisor import Child

START = """
import json, os, signal, subprocess, sys, threading, time
from vae_ref.conformance.supervisor import Messenger, limit_memory
messenger = Messenger(int(sys.argv[1]))
request = json.load(sys.stdin)
"""


def child(code, request=None, patience=60.0):
    return Child(f"exec({START + code!r})", request or {}, patience=patience)


def followed(code, **options):
    """Return what a child sends, how it ends, and the child."""
    started = child(code, **options)
    messages = list(started.messages())
    return messages, started.end(), started


def test_a_request_is_answered_by_messages():
    messages, end, started = followed(
        "messenger.send('answer', number=request['number'] + 1)\nmessenger.send('last')",
        request={"number": 1},
    )
    assert messages == [{"kind": "answer", "number": 2}, {"kind": "last"}]
    assert end == "ended with status 0"
    assert (started.hung, started.written) == (False, 0)


@pytest.mark.parametrize(("asked", "threads"), [(None, "1"), ("3", "3")])
def test_openblas_starts_no_threads_unless_it_is_asked_to(monkeypatch, asked, threads):
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    if asked:
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", asked)
    messages, _, _ = followed("messenger.send('n', n=os.environ['OPENBLAS_NUM_THREADS'])")
    assert messages == [{"kind": "n", "n": threads}]


def test_a_message_of_any_length_arrives_whole():
    messages, _, _ = followed("messenger.send('long', text='ä' * 300_000)")
    assert messages == [{"kind": "long", "text": "ä" * 300_000}]


@pytest.mark.parametrize(
    ("act", "end"),
    [
        ("os._exit(0)", "ended with status 0"),
        ("os._exit(7)", "ended with status 7"),
        ("sys.exit('words')", "ended with status 1"),
        ("raise ValueError", "ended with status 1"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was killed by SIGSEGV"),
        ("import ctypes; ctypes.string_at(0)", "was killed by SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL (out of memory?)"),
        ("import atexit; atexit.register(os._exit, 3)", "ended with status 3"),
    ],
)
def test_an_end_is_told(act, end):
    messages, told, _ = followed(f"messenger.send('first')\n{act}")
    assert messages == [{"kind": "first"}]
    assert told == end


def test_a_child_that_closes_everything_and_stays_has_stopped_answering(monkeypatch):
    monkeypatch.setattr(supervisor, "_ENDING", 0.3)
    messages, end, _ = followed("messenger.send('first'); os.closerange(0, 100); time.sleep(600)")
    assert messages == [{"kind": "first"}]
    assert end == "stopped answering"


@pytest.mark.parametrize(
    "hang",
    [
        "time.sleep(600)",
        "signal.signal(signal.SIGALRM, signal.SIG_IGN); time.sleep(600)",
        "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); time.sleep(600)",
    ],
)
def test_a_child_that_hangs_is_killed(monkeypatch, hang):
    monkeypatch.setattr(supervisor, "SLACK", 1.0)
    messages, end, started = followed(f"messenger.send('first', pid=os.getpid())\n{hang}")
    assert (end, started.hung) == ("hung", True)
    with pytest.raises(ProcessLookupError):
        os.kill(messages[0]["pid"], 0)


@pytest.mark.slow
def test_a_child_may_be_silent_for_as_long_as_it_asked_for(monkeypatch):
    monkeypatch.setattr(supervisor, "SLACK", 0.5)
    messages, end, _ = followed(
        "messenger.send('first', patience=60.0)\ntime.sleep(2)\nmessenger.send('last')"
    )
    assert [message["kind"] for message in messages] == ["first", "last"]
    assert end == "ended with status 0"


def test_what_is_written_elsewhere_is_counted_and_never_kept():
    messages, end, started = followed(
        "print('one')\n"
        "for _ in range(1000):\n"
        "    os.write(2, b'x' * 99_999 + b'\\n')\n"
        "messenger.send('last')"
    )
    assert (messages, end) == ([{"kind": "last"}], "ended with status 0")
    assert (started.written, started.first) == (1001, "one")


@pytest.mark.parametrize(
    "close", ["os.close(1); os.close(2)", "sys.stdout.close()", "os.close(0)"]
)
def test_closed_streams_are_no_matter(close):
    messages, end, _ = followed(f"{close}\nmessenger.send('last')\nos._exit(0)")
    assert (messages, end) == ([{"kind": "last"}], "ended with status 0")


def test_its_children_go_with_it():
    messages, _, _ = followed(
        "grandchild = subprocess.Popen(['sleep', '600'], pass_fds=(int(sys.argv[1]),))\n"
        "messenger.send('first', pid=grandchild.pid)"
    )
    pid, end = messages[0]["pid"], time.monotonic() + 30
    while alive(pid):
        assert time.monotonic() < end
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Whether a process runs; one that was killed may be waiting for its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_child_that_is_no_longer_wanted_is_killed():
    started = child("messenger.send('first', pid=os.getpid())\ntime.sleep(600)")
    first = next(started.messages())
    assert alive(first["pid"])
    assert started.end() == "stopped answering"
    assert not alive(first["pid"])


def test_memory_beyond_the_limit_is_an_error_in_the_child():
    messages, end, _ = followed(
        "limit_memory(0.5)\n"
        "try:\n"
        "    bytearray(2**30)\n"
        "except MemoryError:\n"
        "    messenger.send('refused')\n"
        "bytearray(2**20)\n"
        "messenger.send('last')"
    )
    assert [message["kind"] for message in messages] == ["refused", "last"]
    assert end == "ended with status 0"


def test_the_child_finds_the_modules_that_the_parent_finds_and_no_others(tmp_path, monkeypatch):
    """A file of the user's called json.py is not the library's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "json.py").write_text("raise RuntimeError")
    assert followed("messenger.send('last')")[1] == "ended with status 0"


def test_threads_may_send_at_once():
    messages, _, _ = followed(
        "def send(name):\n"
        "    for _ in range(50):\n"
        "        messenger.send(name, text='x' * 10_000)\n"
        "threads = [threading.Thread(target=send, args=[name]) for name in 'ab']\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]"
    )
    assert len(messages) == 100
