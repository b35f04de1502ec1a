"""Each curve varies its own ingredient, and what is written can be shown."""

import gc
import json

import pytest
import torch

from benchmarks import scaling
from vae_ref import glyphs
from vae_ref.support import provenance


@pytest.fixture
def short_curves(monkeypatch, small, user):
    """Curves with two small values each, on glyphs."""
    torch.set_default_dtype(torch.float32)
    values = {name: scaling.CURVES[name][:2] for name in scaling.CURVES}
    monkeypatch.setattr(scaling, "CURVES", values | {"examples": (100, 200)})
    monkeypatch.setattr(scaling, "COUNT", 200)
    monkeypatch.setattr(scaling, "MEMORY_EPOCHS", 3)
    monkeypatch.setattr(scaling, "mnist", lambda *_, **__: small[0])


@pytest.mark.slow
def test_what_is_measured_is_written_and_shown(short_curves, tmp_path, capsys):
    threads = torch.get_num_threads()
    scaling.main(["--json", str(tmp_path / "scaling.json")])
    assert torch.get_num_threads() == threads
    content = json.loads((tmp_path / "scaling.json").read_text())
    assert {name: [p["value"] for p in points] for name, points in content["curves"].items()} == {
        name: list(values) for name, values in scaling.CURVES.items()
    }
    assert all(p["seconds"] > 0 for points in content["curves"].values() for p in points)
    assert [p["steps"] for p in content["curves"]["examples"]] == [1, 2]
    assert [p["steps"] for p in content["curves"]["batch_size"]] == [13, 7]
    assert len(content["memory"]) == 4
    assert {"processor", "threads", "commit"} <= content["environment"].keys()
    output = capsys.readouterr().out
    for words in ("latent_dim", "hidden_dim", "threads", "after epoch 3"):
        assert words in output


def test_on_a_gpu_no_threads_are_varied_and_more_seeds_train_together(
    short_curves, monkeypatch, tmp_path, capsys
):
    """The GPU is pretended: the test sees the device that each training is given."""
    given = []
    found = provenance.record(threads=1) | {"device": "cuda", "gpu": "a GPU"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(provenance, "record", lambda **_: found)
    monkeypatch.setattr(scaling, "memory", lambda *_, **options: given.append(options) or [1, 2])
    monkeypatch.setattr(
        scaling, "epoch_seconds", lambda *_, **options: given.append(options) or [1.0, 1.0]
    )
    scaling.main(["--device", "cuda", "--json", str(tmp_path / "scaling.json")])
    content = json.loads((tmp_path / "scaling.json").read_text())
    assert content["curves"].keys() == scaling.CURVES.keys() - {"threads"}
    assert [p["value"] for p in content["curves"]["seeds"]] == [1, 2, 4, 8, 16, 32, 64]
    assert {options["device"] for options in given} == {"cuda"}


def test_a_gpu_that_is_not_there_is_said(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as stop:
        scaling.main(["--device", "cuda"])
    assert stop.value.code == 2
    assert "--device cuda needs a GPU" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["batch_size", "latent_dim", "hidden_dim"])
def test_a_curve_varies_only_its_ingredient(short_curves, small, monkeypatch, name):
    recipes = []

    def epoch_seconds(recipe, data, count, **options):
        recipes.append(recipe)
        return [1.0] * count

    monkeypatch.setattr(scaling, "epoch_seconds", epoch_seconds)
    list(scaling.curve(name, small[0]))
    for value, recipe in zip(scaling.CURVES[name], recipes, strict=True):
        assert recipe == scaling.Recipe(**{name: value})


def test_a_point_is_measured_with_its_own_threads(short_curves, small, monkeypatch):
    monkeypatch.setattr(scaling, "CURVES", {"threads": (1, 2)})
    seen = []
    monkeypatch.setattr(
        scaling,
        "epoch_seconds",
        lambda *_, **__: seen.append(torch.get_num_threads()) or [1.0, 1.0],
    )
    list(scaling.curve("threads", small[0]))
    assert seen == [1, 2]


def test_epochs_that_warm_up_are_not_measured(short_curves, small, monkeypatch):
    monkeypatch.setattr(scaling, "epoch_seconds", lambda *_, **__: [100.0, 3.0, 1.0, 2.0])
    assert {point["seconds"] for point in scaling.curve("latent_dim", small[0])} == {2.0}


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_the_exponent_is_fitted_to_large_values(exponent):
    points = [
        {"value": 2**k, "seconds": 1.0 if k < 2 else 2.0 ** (k * exponent)} for k in range(5)
    ]
    assert scaling.slope(points) == pytest.approx(exponent, abs=1e-9)


def test_the_memory_of_a_tensor_is_seen(short_curves, device):
    """Far more than what other tests release meanwhile."""
    gc.collect()
    torch.cuda.empty_cache()
    before = scaling.resident(device.type)
    more = torch.ones(64 * 2**20, dtype=torch.float32, device=device)  # 256 MiB
    assert 200 < scaling.resident(device.type) - before < 300
    del more


def test_without_mnist_the_command_says_so(capsys):
    with pytest.raises(SystemExit) as stop:
        scaling.main(["--data", "nowhere"])
    assert stop.value.code == 2
    assert "MNIST is not in nowhere" in capsys.readouterr().err


def test_the_first_images_are_taken():
    data = glyphs(5)
    assert (scaling.first_images(data, 3).images == data.images[:3]).all()
