import dataclasses
import math

import pytest
import torch

from vae_ref import Recipe, Run, fit
from vae_ref.running import checkpoint
from vae_ref.running.checkpoint import CheckpointError

SMALL = Recipe(dataset="glyphs", hidden_dim=32, latent_dim=3)


@pytest.mark.parametrize("model", ["vae", "autoencoder"])
@pytest.mark.parametrize("saved_after", [0, 1, 2])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(
    small, tmp_path, model, saved_after, device
):
    recipe = dataclasses.replace(SMALL, model=model)
    whole = Run.start(recipe, (28, 28), device=device)
    records = list(fit(whole, *small, epochs=3))

    begun = Run.start(recipe, (28, 28), device=device)
    list(fit(begun, *small, epochs=saved_after))
    begun.save(tmp_path / "c.safetensors")
    resumed = Run.load(str(tmp_path / "c.safetensors"), device=device)
    assert resumed.epoch == saved_after
    rest = list(fit(resumed, *small, epochs=3))

    assert [r.epoch for r in rest] == list(range(saved_after + 1, 4))
    for ours, theirs in zip(rest, records[saved_after:], strict=True):
        assert (ours.train_loss, ours.test_loss) == (theirs.train_loss, theirs.test_loss)
    whole.save(tmp_path / "whole.safetensors")
    resumed.save(tmp_path / "resumed.safetensors")
    files = [(tmp_path / f"{n}.safetensors").read_bytes() for n in ("whole", "resumed")]
    assert files[0] == files[1]


def test_a_checkpoint_names_the_tensors_as_the_model_does(small, tmp_path):
    run = Run.start(SMALL, (28, 28))
    list(fit(run, *small, epochs=1))
    run.save(tmp_path / "c.safetensors")
    tensors, facts = checkpoint.load(tmp_path / "c.safetensors")
    names = set(run.model.state_dict())
    moments = {f"adam.{k}.{n}" for n in names for k in ("step", "exp_avg", "exp_avg_sq")}
    assert tensors.keys() == names | moments
    assert facts == {
        "epoch": 1,
        "recipe": dataclasses.asdict(SMALL),
        "size": [28, 28],
        "environment": {
            "torch_version": torch.__version__,
            "device": "cpu",
            "threads": torch.get_num_threads(),
            "engine": "native",
        },
    }


def _save(path, change):
    run = Run.start(SMALL, (28, 28))
    tensors, facts = (
        dict(run.model.state_dict()),
        {
            "recipe": dataclasses.asdict(SMALL),
            "size": [28, 28],
            "epoch": 0,
            "environment": dataclasses.asdict(run.environment),
        },
    )
    change(tensors, facts)
    checkpoint.save(path, tensors, facts)


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, _: t.pop("mu.weight"), r"mu.weight must be \(3, 32\); got absent"),
        (lambda t, _: t.update(extra=torch.zeros(2)), r"extra must be absent; got \(2,\)"),
        (
            lambda t, _: t.update({"mu.bias": torch.zeros(20)}),
            r"another architecture than it describes: mu.bias must be \(3,\); got \(20,\)",
        ),
        (lambda _, f: f.update(epoch=4), "adam.exp_avg.decoder.0.bias must be .* got absent"),
        (lambda _, f: f.pop("size"), "describes no run of this version .*size"),
        (lambda _, f: f["recipe"].update(flow=1), "describes no run of this version .*flow"),
        (lambda _, f: f["recipe"].update(beta=-1), "describes no run of this version .*beta must"),
        (lambda _, f: f.update(recipe=[]), "describes no run of this version"),
        (lambda _, f: f.update(recipe=None), "describes no run of this version"),
        (lambda _, f: f["recipe"].update(hidden_dim=10**9), "hidden_dim must be at most 10,000"),
        (lambda _, f: f["recipe"].update(latent_dim=True), "latent_dim must be a positive"),
        (
            lambda _, f: f["recipe"].update(latent_dim=4),
            r"weight must be \(32, 4\); got \(32, 3\)",
        ),
        (lambda _, f: f["recipe"].update(seed="1"), "describes no run .*seed must be an integer"),
        (lambda _, f: f["recipe"].update(model=["vae"]), "describes no run .*model must be one"),
        (lambda _, f: f["recipe"].update({"x" * 5000: 1}), "describes no run of this version"),
        (lambda _, f: f.update(size=[28, 29]), r"must be \(812,\); got \(784,\)"),
        *(
            (lambda _, f, size=size: f.update(size=size), "describes no run .*size must be two")
            for size in (
                [-28, -28],
                [784],
                [28, 28, 1],
                [0, 784],
                [28.0, 28],
                [True, 784],
                ["28", "28"],
                [10**5, 10**5],
                [1, 10**4000],
                True,
                None,
                {"28": 28, "29": 28},
            )
        ),
        *(
            (lambda _, f, n=n: f.update(epoch=n), "describes no run .*epoch must be an integer")
            for n in (-1, "1", True, 0.0, None, 10**7, 10**30, [0])
        ),
        *(
            (lambda _, f, k=k, v=v: f["environment"].update({k: v}), f"no run .*environment.{k} ")
            for k, v in (
                ("torch_version", 2),
                ("torch_version", "2" * 1000),
                ("device", None),
                ("threads", "1"),
                ("threads", True),
                ("threads", 0),
                ("engine", ["eager"]),
            )
        ),
        (lambda _, f: f.update(environment={}), "describes no run of this version"),
    ],
)
def test_a_checkpoint_of_something_else(tmp_path, change, message):
    path = tmp_path / "c.safetensors"
    _save(path, change)
    with pytest.raises(CheckpointError, match=message) as error:
        Run.load(path)
    assert len(str(error.value)) < len(str(path)) + 300


def test_a_checkpoint_of_before_engines_had_names(tmp_path):
    _save(tmp_path / "c.safetensors", lambda _, f: f["environment"].pop("engine"))
    assert Run.load(tmp_path / "c.safetensors").environment.engine == "eager"


@pytest.fixture(scope="module")
def trained(small, tmp_path_factory):
    """The checkpoint of two epochs."""
    path = tmp_path_factory.mktemp("trained") / "c.safetensors"
    run = Run.start(SMALL, (28, 28))
    list(fit(run, *small, epochs=2))
    run.save(path)
    return path


def set_to(value):
    """Return what sets the last number of a tensor."""

    def change(tensor):
        tensor.view(-1)[-1] = value
        return tensor

    return change


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        *(
            (f"{prefix}decoder.0.weight", set_to(value), "must be finite")
            for prefix in ("", "adam.exp_avg.", "adam.exp_avg_sq.")
            for value in (math.nan, math.inf)
        ),
        ("adam.exp_avg_sq.mu.bias", set_to(-1e-9), "must be finite and not negative"),
        *(
            (
                "adam.step.mu.bias",
                set_to(value),
                "must be the number of steps of 2 epochs, as of every parameter",
            )
            for value in (math.nan, math.inf, -10.0, 10.5, 0.0, 12.0, 1e30)
        ),
        *(
            ("adam.step.", set_to(value), "must be the number of steps of 2 epochs")
            for value in (math.nan, math.inf, 1.0, 10.5, 1e30)
        ),
        ("", lambda t: t.mul_(math.nan), "must be finite"),
    ],
)
def test_a_checkpoint_with_impossible_numbers(trained, tmp_path, name, change, message):
    path = tmp_path / "c.safetensors"
    tensors, facts = checkpoint.load(trained)
    tensors = {n: change(t.clone()) if n.startswith(name) else t for n, t in tensors.items()}
    assert tensors.keys()
    checkpoint.save(path, tensors, facts)
    kind = name.removesuffix("mu.bias") if "step" in name else name  # the first differs too
    with pytest.raises(CheckpointError, match=f"is damaged: {kind}.* {message}"):
        Run.load(path)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "continuous-bernoulli"])
@pytest.mark.parametrize("model", ["vae", "autoencoder"])
def test_every_kind_of_run_is_loaded(tmp_path, model, likelihood):
    run = Run.start(dataclasses.replace(SMALL, model=model, likelihood=likelihood), (28, 28))
    run.save(tmp_path / "c.safetensors")
    again = Run.load(tmp_path / "c.safetensors")
    assert again.recipe == run.recipe
    assert again.model.likelihood == run.model.likelihood


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_run_keeps_its_precision(small, tmp_path, dtype):
    """Whatever is the default where it is loaded."""
    torch.set_default_dtype(dtype)
    run = Run.start(SMALL, (28, 28))
    list(fit(run, *small, epochs=1))
    run.save(tmp_path / "c.safetensors")
    torch.set_default_dtype(torch.float32 if dtype == torch.float64 else torch.float64)
    again = Run.load(tmp_path / "c.safetensors")
    assert again.model.dtype == dtype
    again.save(tmp_path / "again.safetensors")
    files = [(tmp_path / f"{name}.safetensors").read_bytes() for name in ("c", "again")]
    assert files[0] == files[1]


def test_precisions_are_not_mixed(tmp_path):
    _save(tmp_path / "c.safetensors", lambda t, _: t.update({"mu.bias": torch.zeros(3).float()}))
    with pytest.raises(CheckpointError, match="holds its weights in several precisions"):
        Run.load(tmp_path / "c.safetensors")


def test_sizes_are_compared_before_memory_is_asked_for(tmp_path):
    """The layers that this file describes would take 1.6e13 bytes."""
    _save(
        tmp_path / "c.safetensors",
        lambda _, f: f.update(size=[10_000, 10_000], recipe={**f["recipe"], "hidden_dim": 10_000}),
    )
    with pytest.raises(CheckpointError, match="of another architecture than it describes"):
        Run.load(tmp_path / "c.safetensors")
