"""The command on a project of a few lines: its processes do without torch and start at once."""

import itertools
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import workloads
from tests.gate.injections import copy_of
from tests.transcripts import ROOT
from vae_ref.gate import cli, comparison, paired
from vae_ref.gate.paired import Settings

pytestmark = pytest.mark.slow  # processes of torch, one after another

STEP = "def step(n=20_000):\n    return sum(range(n))\n"
TWICE = STEP.replace("20_000", "40_000")
WORKLOADS = """
def step():
    from toy import step
    return step

WORKLOADS = {"step": step}
"""


def git(directory: Path, *arguments: str) -> None:
    identity = (
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@example.org",
        "-c",
        "commit.gpgsign=false",
    )
    subprocess.run(["git", *identity, *arguments], cwd=directory, check=True, capture_output=True)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A repository with a tag ``base``; the working tree may be changed."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "toy.py").write_text(STEP)
    (root / "workloads.py").write_text(WORKLOADS)
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    git(root, "tag", "base")
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def gate(tmp_path, capsys):
    """Run the command in this process; return its status, its report and its errors."""

    def run(*arguments: str, groups: int = 0):
        file = tmp_path / "gate.json"
        file.unlink(missing_ok=True)
        options = ("--workloads", "workloads.py", "--json", str(file), "--groups", str(groups))
        status = cli.run(["compare", *options, "--seconds", "0.01", *arguments])
        output, errors = capsys.readouterr()
        assert "Traceback" not in output + errors
        return status, json.loads(file.read_text()) if file.exists() else output, errors

    return run


def test_nothing_is_worse(project, gate, tmp_path):
    summary = tmp_path / "summary.md"
    status, found, _ = gate("base", "--markdown", str(summary), groups=10)
    assert status == found["status"] == 0
    assert found["base"]["commit"]
    assert found["head"] == {"name": "working tree", "commit": None}
    assert {"processor", "cores", "threads", "python", "date"} <= found["on"].keys()
    assert [time["name"] for time in found["times"]] == ["step/time"]
    text = summary.read_text()
    assert "nothing is worse" in text
    assert "| step/time |" in text


def test_twice_the_time_is_flagged(project, gate, tmp_path):
    (project / "toy.py").write_text(TWICE)
    summary = tmp_path / "summary.md"
    status, found, _ = gate("base", "--markdown", str(summary), groups=10)
    assert status == 1
    assert found["regressions"] == ["step/time"]
    [time] = found["times"]
    assert time["effect"]["ratio"] > 1.4, "more beside busy processes: long calls are interrupted"
    assert time["cpu"] == pytest.approx(2, rel=0.3)
    assert len(time["effect"]["groups"]) == 10
    [cause] = found["causes"]["step/time"]
    assert cause["line"] == "toy.py:2 `return sum(range(n))`"
    assert cause["head"] == pytest.approx(2 * cause["base"], rel=0.5)
    text = summary.read_text()
    assert "- toy.py:2 `return sum(range(n))`\n  - executed 1 -> 1 times: step/time " in text
    assert "worse: step/time" in text
    assert "SLOWER" in text
    assert "`Costs: step/time and why`" in text


def test_half_the_time_is_not_flagged(project, gate):
    (project / "toy.py").write_text(STEP.replace("20_000", "10_000"))
    status, found, _ = gate("base", groups=10)
    assert status == 0
    assert found["times"][0]["effect"]["ratio"] < 0.7
    assert found["times"][0]["effect"]["faster"]


def add_an_import(project: Path, message: str = "second") -> None:
    (project / "toy.py").write_text("import wave\n" + STEP)
    git(project, "commit", "-qam", message)


def test_another_import_is_flagged(project, gate):
    add_an_import(project)
    status, found, _ = gate("base", "HEAD")
    assert status == 1
    assert found["regressions"] == ["step/imports"]
    [cause] = found["causes"]["step/imports"]
    assert (cause["line"], cause["what"]) == ("toy.py:1 `import wave`", "import")
    assert gate("HEAD", "base")[0] == 0


@pytest.mark.parametrize(
    "line", ["Costs: step/imports it reads sound", "costs: */imports it reads sound"]
)
@pytest.mark.parametrize("head", [("HEAD",), ()])
def test_an_increase_is_accepted_in_the_message_of_its_commit(project, gate, line, head):
    add_an_import(project, f"Read sound\n\nAs was asked.\n\n{line}")
    status, found, _ = gate("base", *head)
    assert status == 0
    assert list(found["accepted"].values()) == ["it reads sound"]
    git(project, "tag", "next")
    (project / "toy.py").write_text("import wave, colorsys\n" + STEP)
    assert gate("next", *head)[0] == (0 if head else 1), "it does not excuse later changes"


def test_an_increase_is_accepted_on_the_command_line(project, gate):
    add_an_import(project)
    assert gate("base", "--accept", "step/*")[0] == 0
    assert gate("base", "--accept", "step/time")[0] == 1


def test_a_decrease_asks_for_a_new_note(project, gate):
    add_an_import(project)
    status, found, _ = gate("HEAD", "base")
    assert status == 0
    assert len(found["requests"]) == 1
    assert found["requests"][0].startswith("step/imports: ")


def test_a_new_note_ends_the_request(project, gate, capsys):
    options = ("--workloads", "workloads.py", "--note", "note.json")
    assert cli.run(["count", *options]) == 2
    assert "note.json" in capsys.readouterr().err
    assert cli.run(["count", *options, "--write"]) == 0
    assert cli.run(["count", *options]) == 0
    assert gate("base", "--note", "note.json")[1]["requests"] == []
    (project / "toy.py").write_text("import wave\n" + STEP)
    assert cli.run(["count", *options]) == 1
    assert "step/imports" in capsys.readouterr().out


def test_a_new_workload_is_not_compared(project, gate):
    (project / "toy.py").write_text(STEP + "jump = step\n")
    more = "def jump():\n    import toy\n    return toy.jump\nWORKLOADS['jump'] = jump\n"
    (project / "workloads.py").write_text(WORKLOADS + more)
    status, found, _ = gate("base")
    assert status == 0
    assert list(found["absent"]) == ["jump"]
    assert found["absent"]["jump"].startswith("new, AttributeError: module 'toy' has no")
    status, _, errors = gate("HEAD", "base", "--only", "jump")
    assert status == 2
    assert "no workload exists on both sides" in errors


def test_reasons_are_printed_as_they_are(project, gate, capsys):
    add_an_import(project, "Read sound\n\nCosts: step/imports as in [/docs], see [#12]")
    gate("base", "HEAD")
    assert (
        cli.run(["compare", "base", "HEAD", "--workloads", "workloads.py", "--groups", "0"]) == 0
    )
    assert "accepted: as in [/docs], see [#12]" in " ".join(capsys.readouterr().out.split())


def test_a_link_in_the_tree_is_copied(project, gate, capsys):
    (project / "real").mkdir()
    (project / "real" / "more.py").write_text("")
    (project / "linked").symlink_to("real")
    git(project, "add", ".")
    git(project, "commit", "-qm", "a link")
    assert gate("base")[0] == 0
    (project / "out").symlink_to("/etc/hostname")
    git(project, "add", ".")
    git(project, "commit", "-qm", "a link to elsewhere")
    status, _, errors = gate("HEAD")
    assert status == 2
    assert "HEAD cannot be checked out" in errors


def test_a_lost_workload_is_an_error(project, gate):
    (project / "toy.py").write_text(STEP.replace("step", "stop"))
    status, _, errors = gate("base")
    assert status == 2
    assert errors.splitlines()[-1].startswith(
        "vae-ref-gate: working tree has lost the workload step: ImportError: cannot import"
    )


def test_directories(project, gate, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "toy.py").write_text("import wave\n" + STEP)
    assert gate("base", str(tmp_path / "other"))[0] == 1
    assert gate(str(tmp_path / "other"), ".")[0] == 0


def test_a_source_directory_and_a_build(project, gate):
    (project / "build.sh").write_text("mkdir -p src && cp toy.py src")
    git(project, "add", ".")
    git(project, "commit", "-qm", "build")
    add_an_import(project)
    status, found, _ = gate("HEAD^", "HEAD", "--source", "src", "--build", "sh build.sh")
    assert (status, found["regressions"]) == (1, ["step/imports"])
    assert not (project / "src").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("v9",), "BASE and HEAD must be revisions of this repository or directories; v9 is"),
        (("base", "--only", "x*"), "--only must match a workload; x* matches none."),
        (("base", "--source", "src"), "--source must be a directory of working tree; src is not"),
        (("base", "--workloads", "w.py"), "--workloads must be a file; w.py is not."),
        (("base", "--groups", "9"), "--groups must be 0, or 10 to 40; got 9."),
        (("base", "--seconds", "0"), "--seconds must be between 0 and 60; got 0."),
        (("base", "--threads", "0"), "--threads must be 1 or more; got 0."),
        (("base", "--markdown", "no/x.md"), "there is no directory no for x.md; make it."),
        (("base", "--build", "echo no >&2; exit 3"), "--build fails in base: no"),
    ],
)
def test_misuse_gives_one_line(project, capsys, arguments, message):
    options = ["--workloads", "workloads.py", "--groups", "0"]
    assert cli.run(["compare", *options, *arguments]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            "toy.py",
            "raise ValueError('no\\nway')",
            "tree cannot count step: ValueError: no",
        ),
        ("toy.py", "import os; os._exit(7)", "cannot count step: it ended with status 7"),
        ("toy.py", "def step(): print('1/2'); raise OSError", "cannot count step: OSError"),
        (
            "workloads.py",
            "import no_such_module",
            "cannot list the workloads: ModuleNotFoundError",
        ),
        ("workloads.py", "x = 1", "has no attribute 'WORKLOADS'"),
        ("workloads.py", "WORKLOADS = {'a': lambda: print}", "it imports nothing from"),
    ],
)
def test_a_workload_that_fails_gives_one_line(project, gate, file, text, message):
    (project / file).write_text(text)
    status, _, errors = gate("base")
    assert status == 2
    assert message in errors.splitlines()[-1]


def test_a_worker_that_does_not_answer_is_stopped(project, gate, monkeypatch):
    (project / "toy.py").write_text("def step(): import time; time.sleep(60)")
    real = cli._settings
    monkeypatch.setattr(cli, "_settings", lambda chosen: replace(real(chosen), timeout=10))
    status, _, errors = gate("base")
    assert status == 2
    assert "working tree cannot count step: no answer within 10 seconds" in errors


def test_a_fault_of_the_gate_gives_one_line(project, monkeypatch, capsys):
    monkeypatch.setattr(cli, "configured", lambda *_: 1 // 0)
    assert cli.run(["compare", "base"]) == 70
    assert capsys.readouterr().err.startswith("vae-ref-gate: internal error, ZeroDivisionError: ")


def test_without_a_repository(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path / "workloads.py").write_text(WORKLOADS)
    options = ["--workloads", "workloads.py", "--groups", "0"]
    assert cli.run(["compare", ".", *options]) == 2
    assert "there is no repository here; name both" in capsys.readouterr().err
    assert cli.run(["compare", "v9", *options]) == 2
    assert "there is none here" in capsys.readouterr().err


TABLE = """
[tool.vae-ref-gate]
source = "src"
[tool.vae-ref-gate.workloads]
step = "speed.py:step"
"""
NET = """
import torch

class Net(torch.nn.Linear):
    def __init__(self):
        super().__init__(64, 3)

    def loss(self, x):
        return self(x).square().mean()
"""
SPEED = "def step():\n    import toy\n    return toy.step\n"


@pytest.fixture
def described(project):
    """A project whose table says what to measure, and which has a package `benchmarks`."""
    (project / "src").mkdir()
    git(project, "mv", "toy.py", "src/toy.py")
    (project / "benchmarks").mkdir()
    (project / "benchmarks" / "__init__.py").write_text("")
    (project / "pyproject.toml").write_text(TABLE)
    (project / "speed.py").write_text(SPEED)
    git(project, "add", ".")
    git(project, "commit", "-qm", "the table")
    return project


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (("compare", "HEAD", "--counters-only"), "working tree against HEAD"),
        (("count", "--write"), "  imports "),
        (("count", "--help"), "Write the note."),
    ],
)
def test_five_lines_say_what_a_workload_is(described, command, answer):
    gate = Path(sys.executable).with_name("vae-ref-gate")
    done = subprocess.run([gate, *command], capture_output=True, text=True, check=True)
    assert answer in done.stdout


def test_files_of_one_name_are_told_apart(described, capsys):
    (described / "more").mkdir()
    (described / "more" / "speed.py").write_text(SPEED.replace("step", "leap"))
    (described / "pyproject.toml").write_text(TABLE + 'leap = "more/speed.py:leap"\n')
    (described / "src" / "toy.py").write_text(STEP + "leap = step\n")
    assert cli.run(["count", "--write"]) == 0
    assert {"step", "leap"} <= set(capsys.readouterr().out.split())


def test_the_page_goes_as_shown(project, capsys):
    """The table, the workload and the comment of the pages, on a project of a few lines."""
    page, reference = (
        (ROOT / "docs" / name).read_text() for name in ("howto/speed.md", "gate.md")
    )
    (project / "tests").mkdir()
    (project / "src").mkdir()
    for language, file in (("toml", "pyproject.toml"), ("python", "tests/speed.py")):
        (project / file).write_text(page.split(f"```{language}\n")[1].split("```")[0])
    (project / "src" / "shapes.py").write_text(NET)
    git(project, "add", ".")
    git(project, "commit", "-qm", "as the page says")
    assert cli.run(["compare", "HEAD", "--counters-only"]) == 0
    assert "nothing is worse" in capsys.readouterr().out
    (project / "src" / "shapes.py").write_text(NET.replace("mean()", "mean() + x.sum().item()"))
    comment = project / "comment.md"
    assert cli.run(["compare", "HEAD", "--counters-only", "--markdown", str(comment)]) == 1
    assert "step/synchronisations" in capsys.readouterr().out
    quoted = [line[2:] for line in reference.splitlines() if line.startswith(">")]
    assert masked(comment.read_text()) == masked("\n".join(quoted) + "\n")


def masked(text):
    """Leave out the commit, and what counts differently elsewhere."""
    return re.sub(r"HEAD \(\w+\)|- Kernel launches.*\n", "", text)


def test_a_function_of_a_table_is_compared(described, capsys):
    (described / "src" / "toy.py").write_text("import wave\n" + STEP)
    assert cli.run(["compare", "HEAD", "--counters-only"]) == 1
    assert "worse: step/imports" in capsys.readouterr().out


def test_a_certain_failure_ends_the_comparison(described, capsys):
    (described / "src" / "toy.py").write_text("import wave\n" + TWICE)
    options = ("--groups", "10", "--seconds", "0.01")
    assert cli.run(["compare", "HEAD", *options]) == 1
    output = " ".join(capsys.readouterr().out.split())
    assert "Time was not measured, because a count has risen; --keep-going measures it" in output
    assert cli.run(["compare", "HEAD", *options, "--keep-going"]) == 1
    assert "worse: step/imports, step/time" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tool", "pyproject.toml cannot be read: "),
        ("", "nothing says what to measure; write [tool.vae-ref-gate.workloads]"),
        ("[tool.vae-ref-gate]\nspeed = 1", "[tool.vae-ref-gate] has speed, but knows workloads, "),
        ("[tool.vae-ref-gate]\nthreads = true", "threads must be of type int; got True."),
        (TABLE.replace("py:", "py-"), "step must be 'file.py:function'; got 'speed.py-step'."),
        (TABLE.replace("speed.py", "x.py"), "step must be 'file.py:function'; got 'x.py:step'."),
        (TABLE.replace(":step", ":jump"), "has no attribute 'jump'"),
    ],
)
def test_a_table_that_is_wrong_gives_one_line(described, capsys, text, message):
    (described / "pyproject.toml").write_text(text)
    assert cli.run(["compare", "HEAD", "--counters-only"]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_what_cannot_be_seen_is_said(project, gate, monkeypatch, capsys):
    """Of equal programs, half of the groups are slower by a fifth, and half are faster."""

    slowdowns = itertools.cycle([0.2, -0.2])

    def time_group(base, head, names, settings, place):
        slowdown = next(slowdowns)
        return {n: paired.Group(slowdown, slowdown / 2, 0.0, 1.0) for n in names}

    monkeypatch.setattr(paired, "time_group", time_group)
    summary = project.parent / "summary.md"
    assert gate("base", "--markdown", str(summary), groups=20)[0] == 0
    (seen,) = re.findall(r"\| below what can be seen here \((.*)%\)", summary.read_text())
    assert 10 < float(seen) < 40


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return copy_of(tmp_path_factory.mktemp("base"))


def test_comparing_equal_packages_raises_no_alarm(base):
    settings = Settings(workloads=Path(workloads.__file__), groups=10, seconds=0.05)
    [found] = comparison.timed(base, base, ["objective"], settings)
    assert len(found.effect.groups) == 10
    assert not found.effect.slower


CLOCK = """
import os, random, time

luck = random.Random(os.getpid())
slowness = luck.gauss(1, 0.01)
now = 0.0

def step():
    import toy

    def call():
        global now
        now += toy.SECONDS * slowness * luck.gauss(1, 0.03)

    return call

time.perf_counter = time.process_time = lambda: now
WORKLOADS = {"step": step}
"""


@pytest.mark.parametrize(("slower", "flagged"), [(1.0, []), (1.1, ["step/time"])])
def test_a_step_that_is_ten_percent_slower_is_flagged(project, gate, slower, flagged):
    """The step moves the clock: processes differ by 1 %, their calls by 3 %, from nothing else.

    In a group, the slowdown has a standard deviation of 1.2 %. If there is none, a run in 1,000
    fails; one of 10 % is more than 20 times the standard deviation of the mean of ten groups.
    """
    (project / "workloads.py").write_text(CLOCK)
    (project / "toy.py").write_text("SECONDS = 0.001")
    git(project, "commit", "-qam", "the clock")
    (project / "toy.py").write_text(f"SECONDS = {0.001 * slower}")
    status, found, _ = gate("HEAD", groups=10)
    assert (status, found["regressions"]) == (len(flagged), flagged)
    assert found["times"][0]["effect"]["ratio"] == pytest.approx(slower, abs=0.05)
