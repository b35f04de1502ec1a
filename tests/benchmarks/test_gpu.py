"""Every part of the visit to a GPU runs, writes its result at once, and fails alone."""

import json

import pytest
import torch

from benchmarks import gpu


@pytest.fixture
def visit(monkeypatch, small, user, tmp_path):
    """Call the command on the CPU, with glyphs for MNIST and short trainings."""
    torch.set_default_dtype(torch.float32)
    monkeypatch.setattr(gpu, "mnist", lambda *_, train: small[0 if train else 1])
    for name, value in ("EPOCHS", 2), ("MOST_EPOCHS", 2), ("SEEDS", 2), ("REPETITIONS", 2):
        monkeypatch.setattr(gpu, name, value)
    monkeypatch.setattr(gpu, "TOGETHER", (1, 2))

    def run(*words):
        gpu.main(["--device", "cpu", "--json", str(tmp_path / "gpu.json"), *words])
        return json.loads((tmp_path / "gpu.json").read_text())

    return run


def test_every_part_runs_and_is_written(visit):
    found = visit()
    assert [*found] == ["command", "environment", *gpu.PARTS]
    assert not any("failed" in found[name] for name in gpu.PARTS)
    assert found["equal"]["analytic"]["loss_apart"] < 1e-3
    assert found["equal"]["analytic"]["weights_apart"] < 1e-3
    assert [*found["ladder"]] == ["eager", "analytic"]
    assert all(len(seconds) == 2 for seconds in found["ladder"].values())
    assert found["twenty"]["seconds"] >= found["twenty"]["seconds_of_training"] > 0
    assert len(set(found["twenty_seeds"]["test_losses"])) == 2
    assert [point["seeds"] for point in found["together"]] == [1, 2]
    assert all(seconds > 0 for seconds in found["parts_of_the_floor"].values())


def test_a_part_that_fails_says_why_and_the_next_one_runs(visit, monkeypatch):
    def broken(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setitem(gpu.PARTS, "ladder", broken)
    found = visit("--only", "ladder", "twenty")
    assert found["ladder"] == {"failed": "out of memory"}
    assert "seconds" in found["twenty"]


def test_without_a_gpu_the_command_says_so(user, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "there is none. Use cpu." in capsys.readouterr().err
