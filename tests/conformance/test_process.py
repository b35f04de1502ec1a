"""A VAE in another process is judged as one in this, and there is always a report."""

import gc
import json
import shlex
import shutil
import subprocess
import sys
import time

import pytest
import torch

from tests.conformance.piped import command, through_a_pipe
from tests.transcripts import ROOT
from vae_ref.conformance import guards, verify
from vae_ref.conformance.diagnosis.explain import kill_matrix
from vae_ref.conformance.loading import process
from vae_ref.conformance.loading.process import ProcessError, subject_of_process
from vae_ref.conformance.mutants.specimen import specimen

pytestmark = pytest.mark.usefixtures("user")
EXAMPLES = ROOT / "docs" / "examples"


def statuses(report):
    parts = ("kl", "reparameterization", "likelihood", "objective")
    return {r.claim.id: r.status for r in report.results if r.claim.part in parts}


MATRIX = kill_matrix()
BUGS = ["kl-no-half", "z-half-exp-logvar", "nll-mean-over-pixels", "loss-beta-4", "z-detached-mu"]
BUGS += ["iw-mean-of-logs", "kl-detached-logvar", "z-uniform-noise", "z-noise-shared-over-latents"]


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_is_named_through_a_pipe(bug):
    """By the claims about its part, but for the one that draws most; the examples show that all
    claims can be judged. All of both: python -m tests.conformance.piped --tally.
    """
    part, _, _ = next(iter(MATRIX[bug])).partition("/")
    (failure,) = through_a_pipe(bug, only=f"{part}/[!u]*").failures
    assert failure.diagnosis.bug == bug


# Processes that do something else.

LOOP = """
import json, os, sys, time
for line in sys.stdin:
    request = json.loads(line)
    if request["do"] == "start":
        print(json.dumps({START}), flush=True)
    elif request["do"] == "case":
        REPLY
"""
RIGHT = {"name": "odd", "language": "Python", "supports": ["kl"], "gradients": False}


@pytest.fixture
def odd(tmp_path):
    """A command of a process that says what it is, and replies to cases in its own way."""

    def write(reply="pass", start=RIGHT):
        file = tmp_path / "odd.py"
        file.write_text(LOOP.replace("{START}", repr(start)).replace("REPLY", reply))
        return f"{sys.executable} {file}"

    return write


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ("sys.exit(3)", "the process ended with status 3"),
        ("raise ValueError('no KL today')", "status 1: ValueError: no KL today"),
        ("os.abort()", "the process ended with status -6"),
        ("print('Hello', flush=True)", "garbage: a line that is no JSON object, Hello"),
        ("print(flush=True)", "garbage"),
        ("print('[' * 10**6, flush=True)", "garbage"),
        ("print('{\"id\": 1}', flush=True)", "wrong id: it answered 1 to"),
        pytest.param(
            "sys.stdout.write('x' * 10**5)", "silent: no line within 1 s", marks=pytest.mark.slow
        ),
        pytest.param("time.sleep(9)", "silent: no line within 1 s", marks=pytest.mark.slow),
        ("while True: sys.stdout.write('x' * 2**20)", "a flood: more than 2 MiB"),
        ("print(json.dumps({'id': request['id'], 'error': 'no'}), flush=True)", "it failed: no"),
        ("print(json.dumps({'id': request['id'], 'unsupported': ''}), flush=True)", "does not"),
        ("print(json.dumps({'id': request['id']}), flush=True)", "value must be an object"),
        (
            "print(json.dumps({'id': request['id'], 'value': {'shape': [2], 'numbers': [1]}}), "
            "flush=True)",
            "value has 1 numbers, and the shape [2]",
        ),
        (
            "print('{\"id\":', request['id'], ', \"value\": {\"shape\": [' + ','.join("
            "['9' * 4000] * 500) + '], \"numbers\": [1]}}', flush=True)",
            "value has 1 numbers, and the shape",
        ),
        (
            "print(json.dumps({'id': request['id'], 'value': {'shape': [], 'numbers': ['1e']}}), "
            "flush=True)",
            "value: a number is no number",
        ),
    ],
)
def test_each_way_to_fail_is_said_and_the_run_goes_on(odd, monkeypatch, reply, message):
    monkeypatch.setattr(process, "_SECONDS", 1.0)
    monkeypatch.setattr(process, "_LONGEST", 2 * 2**20)
    report = verify(subject_of_process(odd(reply)), only="kl/[cs]*")
    results = {r.claim.id: r for r in report.results}
    assert results["kl/closed-form"].status == "error"
    assert message in results["kl/closed-form"].message
    assert results["kl/single-precision"].status == "error"


@pytest.mark.parametrize("words", ["yes; true", "sleep 50; true"])
def test_the_children_of_a_process_end_with_it(monkeypatch, words):
    """A shell that waits for its child would otherwise keep the pipe open."""
    monkeypatch.setattr(process, "_SECONDS", 1.0)
    monkeypatch.setattr(process, "_STOPPING", 0.2)
    started = time.monotonic()
    with pytest.raises(ProcessError, match="garbage|silent"):
        subject_of_process(f"sh -c {shlex.quote(words)}")
    assert time.monotonic() - started < 30


def test_a_process_that_does_not_read_is_silent(odd, monkeypatch):
    monkeypatch.setattr(process, "_SECONDS", 1.0)
    subject = subject_of_process(odd("time.sleep(60)"))
    mu = torch.zeros(20_000, 2)
    with pytest.raises(process.AnswerOfProcessError, match="silent"):
        subject.kl(mu, mu)


def test_an_empty_array_keeps_its_shape():
    assert process.read_array({"shape": [0, 5], "numbers": []}, "value").shape == (0, 5)
    assert process.read_array({"shape": [0], "numbers": []}, "value").shape == (0,)
    assert process.read_array({"shape": [2, 3, 0], "numbers": []}, "value").shape == (2, 3, 0)
    with pytest.raises(process.AnswerOfProcessError, match="value has the shape"):
        process.read_array({"shape": [0, *[10**6] * 7], "numbers": []}, "value")


def test_a_limit_of_time_uses_up_no_start(odd):
    slow = "time.sleep(1); print(json.dumps({'id': request['id'], 'error': 'late'}), flush=True)"
    subject = subject_of_process(odd(slow))
    mu = torch.zeros(1, 2)
    for _ in range(5):
        with pytest.raises(guards.TimeLimit), guards.time_limit(30, wall=0.2):
            subject.kl(mu, mu)
    with pytest.raises(process.AnswerOfProcessError, match="it failed: late"):
        subject.kl(mu, mu)


def test_what_interrupts_a_case_ends_the_process(odd):
    """Else the late answer would be taken for that to the next case."""
    slow = "time.sleep(1); print(json.dumps({'id': request['id'], 'error': 'late'}), flush=True)"
    subject = subject_of_process(odd(slow))
    mu = torch.zeros(1, 2)
    with pytest.raises(guards.TimeLimit), guards.time_limit(30, wall=0.3):
        subject.kl(mu, mu)
    with pytest.raises(process.AnswerOfProcessError, match="it failed: late"):
        subject.kl(mu, mu)


def test_the_last_line_of_its_standard_error_is_shown(odd):
    subject = subject_of_process(
        odd("sys.stderr.write(('warning' + chr(10)) * 999); raise OSError('why')")
    )
    with pytest.raises(process.AnswerOfProcessError, match="OSError: why"):
        subject.kl(torch.zeros(1, 2), torch.zeros(1, 2))


def test_a_process_is_told_to_stop(odd, tmp_path):
    log = tmp_path / "log"
    command = odd("pass", start=RIGHT).replace(".py", "_log.py")
    text = (tmp_path / "odd.py").read_text()
    keep = f"    if request['do'] == 'stop': open({str(log)!r}, 'w').write('stopped')\n"
    (tmp_path / "odd_log.py").write_text(text + keep)
    subject = subject_of_process(command)
    del subject
    gc.collect()
    assert log.read_text() == "stopped"


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ({}, '"supports" must be a list of some of kl, reparameterize'),
        ({"supports": ["train"]}, '"supports" must be a list of some of'),
        ({"supports": []}, "must not be empty"),
        ({"error": "there is no jsonlite"}, "^start: there is no jsonlite$"),
        ({"supports": ["kl"], "conventions": 3}, '"conventions" must be an object'),
        ({"supports": ["kl"], "conventions": {"spread": "x"}}, "start: spread must be"),
        ({"supports": ["kl"], "conventions": {"x": 1}}, "there is no convention called 'x'"),
    ],
)
def test_a_start_that_is_wrong_is_one_line(odd, start, message):
    with pytest.raises(ProcessError, match=message.replace("[", r"\[")):
        subject_of_process(odd(start=start))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "--exec must be a command; got nothing"),
        ("'", "--exec must be a command; No closing quotation"),
        ("no-such-program", "--exec cannot be run; No such file or directory"),
        ("true", "--exec must answer the request start; the process ended with status 0"),
        ("echo hello", "must answer the request start; "),
    ],
)
def test_a_command_that_is_wrong_is_one_line(vae_ref_command, words, message):
    status, output, errors = vae_ref_command("verify", "--exec", words)
    assert status == 2
    assert output == ""
    assert message in errors


def test_a_command_stands_alone(vae_ref_command):
    status, _, errors = vae_ref_command("verify", "right_kl.py", "--exec", "true")
    assert status == 2
    assert "--exec must be the only thing to judge" in errors


def test_a_request_holds_no_answer_and_never_the_same_id(odd, tmp_path):
    log = tmp_path / "log"
    subject = subject_of_process(
        odd(f"open({str(log)!r}, 'a').write(line); print(json.dumps({{'id': 0}}), flush=True)")
    )
    verify(subject, only="kl/closed-form")
    verify(subject, only="kl/closed-form")
    requests = [json.loads(line) for line in log.read_text().splitlines()]
    assert all(r.keys() == {"do", "id", "function", "inputs"} for r in requests)
    assert len({r["id"] for r in requests}) == len(requests) > 1


# The examples.


TOOLS = {
    "cpp": ("g++", "-O2", "-std=c++17"),
    "javascript": ("node",),
    "jax": (sys.executable,),
    "numpy": (sys.executable,),
    "r": ("Rscript",),
    "rust": ("rustc", "-O"),
}
# What is not installed everywhere, and large: how to ask whether it is there.
OPTIONAL = {"r": ("Rscript", "-e", "library(jsonlite)"), "rust": ("rustc", "--version")}


def installed(*words):
    done = shutil.which(words[0]) and subprocess.run(words, check=False, capture_output=True)
    return done and done.returncode == 0


LANGUAGES = [name for name in TOOLS if name not in OPTIONAL or installed(*OPTIONAL[name])]


def built(language, folder):
    """Compile an example if it has to be; return its command."""
    (source,) = (EXAMPLES / language).glob("vae.*")
    tool = TOOLS[language]
    if len(tool) == 1:
        return f"{tool[0]} {source}"
    subprocess.run([*tool, source, "-o", folder / "vae"], check=True)
    return str(folder / "vae")


@pytest.fixture(scope="module")
def of_specimen():
    return statuses(verify(specimen()))


@pytest.mark.slow
@pytest.mark.sampled(2)
@pytest.mark.parametrize("language", LANGUAGES)
def test_an_example_holds_and_its_bug_is_named(language, tmp_path, of_specimen):
    words = built(language, tmp_path)
    right = verify(subject_of_process(words))
    assert statuses(right) == of_specimen
    assert set(statuses(right).values()) == {"pass"}
    assert set(right.counts) == {"pass", "not-applicable"}
    assert right.counts["pass"] >= 50
    (failure,) = verify(subject_of_process(f"{words} bug"), only="kl/*").failures
    assert failure.diagnosis.bug == "kl-no-half"


@pytest.mark.parametrize("language", TOOLS)
def test_an_example_is_short(language):
    (file,) = (EXAMPLES / language).glob("vae.*")
    assert len(file.read_text().splitlines()) <= 150


def test_the_command_judges_a_process(vae_ref_command, forked, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    status, output, _ = vae_ref_command(
        "verify", "--exec", command("kl-no-half"), "--only", "kl/*"
    )
    assert status == 1
    assert "bug      kl-no-half" in output
