"""The command judges in a child: whatever a target does, there is a report, and it says so."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from vae_ref.cli import judge, supervision
from vae_ref.cli.judge import Request
from vae_ref.cli.supervision import JudgeFaultError, supervise
from vae_ref.conformance import supervisor
from vae_ref.conformance.reports.files import as_json
from vae_ref.conformance.reports.wording import summary
from vae_ref.support.errors import UserError

# Functions are tried with three rows when they are loaded.
TARGET = """
import atexit, ctypes, os, signal, sys, threading, time
{first}
def kl_divergence(mu, logvar):
    {act}
    return (0.5 * (mu**2 + logvar.exp() - 1 - logvar)).sum()
"""


@pytest.fixture
def judged(tmp_path, monkeypatch, forked):
    """Judge a KL that does something beside, in a child; return the report."""
    monkeypatch.setattr(supervision, "_FIRST", 600.0)

    def run(act="pass", first="", say=lambda result: None, expect=lambda count: None, **options):
        file = tmp_path / "target.py"
        file.write_text(TARGET.format(first=first, act=act))
        return supervise(Request(target=str(file), **options), say, expect=expect)[0]

    return run


def test_the_number_of_claims_is_known_before_the_first_result(judged):
    counts, seen = [], []
    judged(only="kl/gradient-*", expect=counts.append, say=lambda result: seen.append(counts[0]))
    assert (counts, seen) == ([2], [2, 2])


@pytest.mark.parametrize(
    ("act", "end"),
    [
        ("len(mu) == 3 or os._exit(0)", "ended with status 0"),
        pytest.param(
            "len(mu) == 3 or ctypes.string_at(0)",
            "was killed by SIGSEGV",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_target_that_ends_the_process_is_reported(judged, act, end):
    report = judged(act, only="kl/*")
    assert (report.verdict, report.exit_status) == ("violated", 1)
    assert report.broken == f"the target's process {end} in kl/closed-form"
    (result,) = report.results
    assert result.status == "error"
    assert result.message == f"the process {end} while this was checked"
    assert report.broken in summary(report)
    assert report.in_level > 60
    assert as_json(report)["broken"] == report.broken


@pytest.mark.slow
def test_what_was_found_before_the_end_is_in_the_report(judged):
    report = judged("len(mu) in (1, 3) or os._exit(0)", only="kl/[cz]*")
    assert [result.claim.id for result in report.results] == ["kl/closed-form"]
    report = judged("logvar.dtype.itemsize == 8 or os._exit(0)", only="kl/[ns]*")
    ids = [result.claim.id for result in report.results]
    assert ids[-1] == "kl/single-precision"
    assert {result.status for result in report.results[:-1]} == {"pass"}
    assert report.results[-1].status == "error"


@pytest.mark.slow
def test_an_end_while_the_target_is_loaded_is_reported(judged):
    report = judged(first="os._exit(0)")
    assert report.broken == "the target's process ended with status 0 while it was loaded"
    assert report.exit_status == 1
    assert summary(report).startswith("violated: nothing was judged, the target's process ended")


@pytest.mark.slow
def test_an_error_whose_text_ends_the_process_is_reported(judged):
    report = judged(
        "if len(mu) != 3: raise Last",
        first="class Last(Exception):\n    __str__ = lambda _: os._exit(0)",
    )
    assert report.broken == "the target's process ended with status 0 in kl/closed-form"


@pytest.mark.slow
def test_what_a_right_target_does_beside_is_noted_and_no_matter(judged):
    """It floods and closes the streams, keeps a thread, and would end otherwise if it could."""
    first = """
    sys.exit = os._exit
    atexit.register(os._exit, 3)
    threading.Thread(target=time.sleep, args=[600]).start()
    for _ in range(100):
        os.write(1, b"x" * 99_999 + b"\\n")
    os.close(1)
    os.close(2)
    """
    report = judged(first=textwrap.dedent(first), only="kl/*")
    assert (report.verdict, report.broken, report.exit_status) == ("partial", "", 0)
    (note,) = [note for note in report.notes if note.kind == "prints"]
    assert note.message.startswith("wrote 100 lines outside of Python: xxxx")


def test_memory_beyond_the_limit_is_an_error_of_the_claim(judged):
    report = judged("bytearray(8 << 30)", only="kl/[cz]*", memory=4.0)
    assert [result.status for result in report.results] == ["error", "error"]
    assert report.results[0].message == "MemoryError"
    assert report.broken == ""
    assert report.exit_status == 1


@pytest.mark.slow
def test_what_hangs_where_no_signal_reaches_it_is_tried_twice(judged, monkeypatch, tmp_path):
    """The kit's limits are switched off by the target; the next claim is judged all the same."""
    monkeypatch.setattr(supervisor, "SLACK", 1.0)
    hastily = (
        "import vae_ref.conformance.supervisor as s; send = s.Messenger.send; "
        "s.Messenger.send = lambda *to, **what: send(*to, **what | "
        "{'patience': 0.0 if 'zero-at-prior' in str(what.get('claim')) else 300.0}); "
    )
    monkeypatch.setattr(supervision, "CHILD", hastily + judge.CHILD)
    act = f"""
    if (mu == 0).all() and (logvar == 0).all() and len(mu) != 3:
        with open({str(tmp_path / "hung")!r}, "a") as file:
            print("hung", file=file)
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
        time.sleep(600)
    """
    report = judged(act, only="kl/[zn]*")
    found = {result.claim.id: (result.status, result.message) for result in report.results}
    why = "no answer, and no signal reaches it; it was tried twice"
    assert found["kl/zero-at-prior"] == ("timeout", why)
    assert found["kl/near-prior"][0] == "pass"
    assert (tmp_path / "hung").read_text() == "hung\nhung\n"
    assert (report.exit_status, report.broken) == (1, "")


@pytest.mark.slow
def test_what_the_user_has_to_mend_is_said_as_without_a_child(judged, tmp_path):
    with pytest.raises(UserError, match="^importing .*target.py raised ValueError: no"):
        judged(first="raise ValueError('no')")


@pytest.mark.slow
def test_a_fault_of_the_kit_is_told_from_one_of_the_target(judged, monkeypatch):
    broken = "import vae_ref.conformance.runner as r; r.conclude = None; "
    monkeypatch.setattr(supervision, "CHILD", broken + judge.CHILD)
    with pytest.raises(JudgeFaultError, match="TypeError: 'NoneType' object is not callable"):
        judged()


# The command itself.


def command(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "vae_ref", "verify", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.slow
def test_reports_are_written_by_the_parent_though_nobody_reads_the_terminal(tmp_path):
    """A target that rewrites the report at its end changes nothing; a closed pipe neither."""
    (tmp_path / "sly.py").write_text(
        TARGET.format(
            first="atexit.register(lambda: open('report.json', 'w').write('{}'))",
            act="return mu.sum()",
        )
    )
    files = [f"--{kind}=report.{kind}" for kind in ("json", "junit", "html")]
    arguments = ["sly.py", "--only", "kl/closed-form", *files]
    with command(*arguments, cwd=tmp_path, env=environment()) as run:
        run.stdout.close()
        errors = run.stderr.read()
        assert (run.wait(), errors) == (1, "")
    assert json.loads((tmp_path / "report.json").read_text())["verdict"] == "violated"
    assert (tmp_path / "report.junit").read_text().startswith("<?xml")
    assert "The KL divergence, by Monte Carlo" in (tmp_path / "report.html").read_text()


def environment():
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@pytest.mark.slow
def test_an_interrupt_ends_the_child_too(tmp_path):
    (tmp_path / "slow.py").write_text(
        TARGET.format(
            first="print(os.getpid(), file=open('pid', 'w'), flush=True)", act="time.sleep(600)"
        )
    )
    run = command("slow.py", cwd=tmp_path, env=environment())
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert run.poll() is None, run.stderr.read()
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    output, errors = run.communicate(timeout=60)
    assert (run.returncode, output) == (130, "")
    assert errors == "vae-ref: stopped\n"
    pid = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_parent_imports_nothing_heavy():
    code = "import vae_ref.cli.app, sys; print({'torch', 'numpy', 'scipy'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
