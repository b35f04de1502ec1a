"""Processes that need not import torch, which takes seconds: a server forks them, that has it.

`started` makes a directory with `python` and `vae-ref`. They hand what they were called with to
the server, whose forked child goes on as Python would, and they end as this child ends.
"""

import atexit
import contextlib
import fcntl
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

# The commands. They import as little as they can.
COMMAND = """#!{python} -ISB
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
numbers = {{int(name) for name in os.listdir("/proc/self/fd")}} - {{server.fileno()}}
descriptors = [n for n in numbers if os.path.exists(f"/proc/self/fd/{{n}}")]
call = json.dumps([sys.argv, os.getcwd(), dict(os.environ), descriptors]).encode()
socket.send_fds(server, [len(call).to_bytes(4, "big")], descriptors)
server.sendall(call)
for n in descriptors:
    os.close(n)
status = int(server.recv(9) or b"9")
if os.WIFSIGNALED(status):
    os.kill(os.getpid(), os.WTERMSIG(status))
os._exit(os.WEXITSTATUS(status))
"""


@contextlib.contextmanager
def started() -> Iterator[Path]:
    """Start the server; return the directory of the commands."""
    with tempfile.TemporaryDirectory() as folder:
        directory, address = Path(folder), f"{folder}/socket"
        for name in ("python", "vae-ref"):
            file = directory / name
            file.write_text(COMMAND.format(python=sys.executable, address=address))
            file.chmod(0o755)
        words = [sys.executable, "-P", __file__, address]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
            assert server.stdout.readline() == b"ready\n"
            yield directory
            server.stdin.close()


def serve(address: str) -> list[str]:
    """Serve until standard input ends. Only a forked child returns: what it was called with."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    print("ready", flush=True)
    while listener in select.select([listener, sys.stdin], [], [])[0]:
        caller, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            return keep(caller)
        caller.close()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    os._exit(0)


def keep(caller: socket.socket) -> list[str]:
    """Fork once more, and tell the caller how the child ends; kill it if the caller ends first."""
    size, given, _, _ = socket.recv_fds(caller, 4, 250)
    call = b""
    while len(call) < int.from_bytes(size, "big"):
        call += caller.recv(2**16)
    words, folder, environment, numbers = json.loads(call)
    child = os.fork()
    if child:
        for descriptor in given:
            os.close(descriptor)
        ready, _, _ = select.select([caller, os.pidfd_open(child)], [], [])
        if caller in ready:
            os.killpg(child, signal.SIGKILL)
        with contextlib.suppress(BrokenPipeError):
            caller.sendall(b"%d" % os.waitpid(child, 0)[1])
        os._exit(0)
    os.setsid()
    become(folder, environment, dict(zip(numbers, given, strict=True)), caller)
    return words


def become(folder, environment, descriptors, caller) -> None:
    """Take over the caller's directory, environment and open files."""
    caller.close()
    above = {n: fcntl.fcntl(given, fcntl.F_DUPFD, 500) for n, given in descriptors.items()}
    for number, copy in above.items():  # which no number is in the way of
        os.dup2(copy, number)
    for extra in {*above.values(), *descriptors.values()} - descriptors.keys():
        os.close(extra)
    os.chdir(folder)
    own = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [place for place in sys.path if place not in own]
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))


def go_on(words: list[str]) -> None:
    """Do what a command would do; whatever it raises is Python's to answer."""
    sys.executable = str(Path(words[0]).with_name("python"))
    main = sys.modules["__main__"] = type(sys)("__main__")
    match [Path(words[0]).name, *words[1:]]:
        case ["python", "-W", action, *rest]:
            warnings.simplefilter(action)
            go_on([words[0], *rest])
        case ["python", "-c", code, *rest]:
            sys.argv[:] = ["-c", *rest]
            sys.path.insert(0, "")
            exec(code, vars(main))
        case ["python", "-m", name, *rest]:
            sys.argv[:] = [name, *rest]
            sys.path.insert(0, os.getcwd())
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        case ["python", file, *rest]:
            sys.argv[:] = [file, *rest]
            sys.path.insert(0, str(Path(file).resolve().parent))
            runpy.run_path(file, run_name="__main__")
        case ["vae-ref", *rest]:
            sys.argv[:] = ["vae-ref", *rest]
            from vae_ref.cli import main

            main()


def end_of(words: list[str]) -> int:
    """Go on, and return the status. Python's own end would clear all of torch away, slowly."""
    try:
        go_on(words)
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return stop.code or 0
        print(stop.code, file=sys.stderr)
        return 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


if __name__ == "__main__":
    import torch  # noqa: F401

    import vae_ref.conformance.mutants
    import vae_ref.conformance.runner  # noqa: F401

    gc.collect()
    gc.freeze()
    status = end_of(serve(sys.argv[1]))
    atexit._run_exitfuncs()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)
