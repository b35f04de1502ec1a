"""What an audit costs is measured, and written to a file."""

import json

import pytest

from benchmarks import audit


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A small network, in this process, and a command that takes twice as long for a step."""
    monkeypatch.setattr(audit, "WIDTH", 8)
    monkeypatch.setattr(audit, "RESULTS", tmp_path)
    monkeypatch.setattr(audit, "verification", lambda target: 2.0 + 2.0 * target.endswith(":step"))
    monkeypatch.setattr(
        audit, "in_a_process", lambda name: audit.large_step(recorded=name == "recorded")
    )
    return tmp_path


def test_the_file_holds_what_is_printed(small, capsys):
    audit.main(["--repetitions", "2"])
    (file,) = small.glob("audit_*.json")
    found = json.loads(file.read_text())["repetitions"]
    assert len(found) == 2
    assert all(one["step parameters"] == one["recorded parameters"] for one in found)
    output = capsys.readouterr().out
    assert "audit seconds / names seconds    2.00 (2.00–2.00), at most 1.5" in output
    for ratio, spread, target in audit.ratios(found):
        assert f"{ratio:32} {spread}, at most {target}" in output


@pytest.mark.parametrize(("recorded", "count"), [(True, audit.STEPS), (False, 0)])
def test_a_step_is_recorded_where_it_should_be(monkeypatch, recorded, count):
    monkeypatch.setattr(audit, "WIDTH", 8)
    made = []
    real = audit.recording
    monkeypatch.setattr(audit, "recording", lambda: made.append(real()) or made[-1])
    audit.large_step(recorded=recorded)
    assert len(made) == count


def test_the_textbook_is_judged_by_its_names_and_through_its_step(tmp_path, monkeypatch):
    targets = []
    monkeypatch.setattr(audit, "verification", lambda target: targets.append(target) or 1.0)
    monkeypatch.setattr(audit, "in_a_process", lambda name: {"seconds": 1.0, "MiB": 1.0})
    audit.repetition(tmp_path)
    file = str(tmp_path / "textbook.py")
    assert targets == [file, f"{file}:step"]
    compile((tmp_path / "textbook.py").read_text(), file, "exec")


def test_misuse_gives_one_line(capsys):
    with pytest.raises(SystemExit):
        audit.main(["--repetitions", "0"])
    assert "--repetitions must be 1 or more; got 0." in capsys.readouterr().err
