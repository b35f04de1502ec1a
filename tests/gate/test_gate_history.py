"""A history remembers commits, and names those in which a count or a time changed."""

import json
import re
import sys

import numpy as np
import pytest

from tests.gate.test_gate import STEP, WORKLOADS, git
from vae_ref.gate import cli, history
from vae_ref.gate.history import series
from vae_ref.gate.revisions import GateError, commits
from vae_ref.gate.trend import page

ON = {"processor": "p", "cores": 2, "torch": "2", "python": "3", "threads": 1}


def line(number, times=(), **counts):
    return {
        "commit": f"c{number}",
        "date": f"2026-01-{number + 1:02}T00:00:00",
        "subject": f"Subject {number} <b>",
        "on": ON,
        "reference": "c0",
        "counts": {"step": counts},
        "times": {"step": list(times)} if len(times) else {},
    }


ORDER = [f"c{number}" for number in range(40)]


def test_every_change_of_a_count_is_a_step():
    lines = [line(0, flops=5), line(4, flops=5), line(2, flops=5), line(7, flops=6)]
    [found] = series(lines, ORDER)
    assert found.name == "step/flops"
    assert found.values == [5, 5, 5, 6]
    [step] = found.steps
    assert (found.lines[step.at]["commit"], step.before, step.after) == ("c7", 5, 6)


def timed(seed, change, at=20, noise=0.004):
    rng = np.random.default_rng(seed)
    levels = np.where(np.arange(40) < at, 0.0, np.log1p(change))
    return [line(n, rng.normal(level, noise, 3)) for n, level in enumerate(levels)]


@pytest.mark.parametrize("change", [0.03, -0.03, 0.1])
def test_the_commit_of_a_change_of_time_is_named(change):
    [found] = series(timed(1, change), ORDER)
    [step] = found.steps
    assert step.at == 20
    assert step.after / step.before - 1 == pytest.approx(change, abs=0.004)


def test_times_that_do_not_change_have_few_steps():
    """Of 100 histories of 40 commits, with noise alone, at most three have one."""
    assert sum(bool(series(timed(seed, 0.0), ORDER)[0].steps) for seed in range(100)) <= 3


def test_machines_are_not_compared():
    there = line(1, flops=6) | {"on": ON | {"processor": "other"}}
    assert [found.steps for found in series([line(0, flops=5), there], ORDER)] == [[], []]


def test_commits_of_another_branch_are_left_out():
    assert series([line(99, flops=5)], ORDER) == []


def test_the_page_names_commits_and_needs_nothing_else():
    text = page(series(timed(1, 0.03), ORDER), ORDER, "History of it")
    assert "<td>step/time</td>" in text
    assert "<code>c20</code> 2026-01-21\nSubject 20 &lt;b&gt;" in text
    assert re.search(r'<td class="number worse">\+[23]\.\d%</td>', text)
    assert not re.findall(r'(?:src|href)="https?:', text)
    assert text.count("<svg") == 1


def test_commits_between_are_said():
    lines = [line(0, flops=5), line(7, flops=6)]
    assert "or one of 6 commits before it" in page(series(lines, ORDER), ORDER, "History")


@pytest.fixture
def project(tmp_path, monkeypatch):
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.chdir(root)
    (root / "workloads.py").write_text(WORKLOADS)
    git(root, "init", "-q")
    for number, text in enumerate((STEP, "raise OSError('no')", "import wave\n" + STEP)):
        (root / "toy.py").write_text(text)
        git(root, "add", ".")
        git(root, "commit", "-qm", f"number {number}")
    return root


OPTIONS = ("--workloads", "workloads.py", "--seconds", "0.01", "--groups", "2")


@pytest.mark.slow
def test_commits_are_recorded_once(project, capsys):
    recorded = project / "history.jsonl"
    assert cli.run(["record", *OPTIONS, "--last", "3", "--reference", "HEAD"]) == 0
    lines = [json.loads(text) for text in recorded.read_text().splitlines()]
    assert [found["commit"] for found in lines] == commits()
    assert [len(found["times"].get("step", [])) for found in lines] == [2, 0, 2]
    assert "OSError: no" in lines[1]["failed"]
    assert cli.run(["record", *OPTIONS]) == 0
    assert len(recorded.read_text().splitlines()) == 3
    assert cli.run(["trend", "trend.html"]) == 0
    assert "change; see trend.html" in capsys.readouterr().out
    assert "step/imports" in (project / "trend.html").read_text()


@pytest.mark.slow
def test_a_reference_that_does_not_run_ends_it(project, capsys):
    assert cli.run(["record", *OPTIONS, "--reference", "HEAD~1"]) == 2
    assert "OSError: no" in capsys.readouterr().err
    assert not (project / "history.jsonl").exists()
    assert cli.run(["record", *OPTIONS, "HEAD", "HEAD", "--reference", "HEAD"]) == 0
    assert len((project / "history.jsonl").read_text().splitlines()) == 1


@pytest.mark.slow
def test_misuse_gives_one_line(project, capsys):
    assert cli.run(["record", "v9", *OPTIONS]) == 2
    assert "v9 must be a revision of this repository, and is not." in capsys.readouterr().err
    assert cli.run(["trend", "trend.html"]) == 2
    assert "history.jsonl has no commit of this repository" in capsys.readouterr().err
    assert cli.run(["record", *OPTIONS, "--history", "no/h.jsonl"]) == 2
    assert "there is no directory no for h.jsonl; make it." in capsys.readouterr().err
    (project / "history.jsonl").write_text("{}\n")
    assert cli.run(["trend", "trend.html"]) == 2
    assert "history.jsonl is not a history" in capsys.readouterr().err


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ruptures", None)
    with pytest.raises(GateError, match="pip install ruptures"):
        series(timed(1, 0.0), ORDER)


def test_a_history_that_is_not_there_is_empty(tmp_path):
    assert history.read(tmp_path / "none") == []
