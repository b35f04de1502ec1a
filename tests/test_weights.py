"""Somebody's trained weights: read from torch and safetensors, refused clearly otherwise."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

from vae_ref import Recipe, Run
from vae_ref.bridge.reference import reference
from vae_ref.bridge.weights import load_weights
from vae_ref.conformance import Subject
from vae_ref.support.errors import InputError


@pytest.fixture
def state():
    return reference(seed=7).module.state_dict()


@pytest.fixture(autouse=True)
def single_precision(double_precision):
    torch.set_default_dtype(torch.float32)


def nested(state):
    return {"epoch": 20, "model_state_dict": state}


@pytest.mark.parametrize("wrap", [dict, nested], ids=["bare", "nested"])
def test_a_state_dict_of_torch(tmp_path, state, wrap):
    torch.save(wrap(state), tmp_path / "vae.pt")
    subject = reference()
    load_weights(subject, tmp_path / "vae.pt")
    assert all(torch.equal(state[n], v) for n, v in subject.module.state_dict().items())


def test_safetensors(tmp_path, state):
    save_file(state, tmp_path / "vae.safetensors")
    subject = reference()
    load_weights(subject, tmp_path / "vae.safetensors")
    assert all(torch.equal(state[n], v) for n, v in subject.module.state_dict().items())


def test_a_checkpoint_of_ours_whose_moments_are_left_out(tmp_path):
    run = Run.start(Recipe(seed=2), size=(28, 28))
    run.model.terms(torch.rand(4, 784)).loss().sum().backward()
    run.optimizer.step()
    run.epoch = 1
    run.save(tmp_path / "checkpoint.safetensors")
    subject = reference()
    load_weights(subject, tmp_path / "checkpoint.safetensors")
    assert torch.equal(subject.module.mu.weight, run.model.mu.weight)


def pickled(path, state):
    path.write_bytes(pickle.dumps(print))


def of_another(path, state):
    torch.save(torch.nn.Linear(2, 3).state_dict(), path)


def no_tensors(path, state):
    torch.save({"a": 1}, path)


def text(path, state):
    path.write_text("weights")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (pickled, "--checkpoint must be a state dict"),
        (no_tensors, "--checkpoint must be a state dict"),
        (text, "--checkpoint must be a state dict"),
        (of_another, "--checkpoint must hold the weights of the reference"),
    ],
)
def test_what_is_none_is_refused_in_one_line(tmp_path, state, write, message):
    write(tmp_path / "vae.pt", state)
    with pytest.raises(InputError, match=message) as caught:
        load_weights(reference(), tmp_path / "vae.pt")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="--checkpoint must be a file; got .*missing"):
        load_weights(reference(), tmp_path / "missing.pt")


def test_a_subject_without_a_module(tmp_path):
    with pytest.raises(InputError, match="TARGET must have a module"):
        load_weights(Subject(name="functions"), tmp_path / "x.pt")
