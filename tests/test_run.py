import dataclasses

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
    ],
)
def test_a_checkpoint_of_something_else(tmp_path, change, message):
    path = tmp_path / "c.safetensors"
    _save(path, change)
    with pytest.raises(CheckpointError, match=message):
        Run.load(path)
