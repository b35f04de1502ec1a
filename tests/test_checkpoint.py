import json
import struct

import pytest
import torch
from safetensors.torch import save_file

from vae_ref.running import checkpoint
from vae_ref.running.checkpoint import CheckpointError

TENSORS = {"b": torch.arange(3.0), "a": torch.zeros(2, 2)}


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, TENSORS, {"epoch": 3, "recipe": {"seed": 0}})
    return path


def test_what_was_saved_is_loaded(saved):
    tensors, facts = checkpoint.load(saved)
    assert tensors.keys() == TENSORS.keys()
    assert all(tensors[name].equal(TENSORS[name]) for name in TENSORS)
    assert facts == {"epoch": 3, "recipe": {"seed": 0}}


def test_any_language_can_read_it(saved):
    """Eight bytes of length, a JSON header, the numbers: no Python in it."""
    content = saved.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    assert header["a"]["shape"] == [2, 2]
    assert json.loads(header["__metadata__"]["vae_ref"])["epoch"] == 3


def test_equal_states_are_equal_files(saved, tmp_path):
    for n in range(5):
        again = tmp_path / f"{n}.safetensors"
        checkpoint.save(
            again, dict(reversed(TENSORS.items())), {"recipe": {"seed": 0}, "epoch": 3}
        )
        assert again.read_bytes() == saved.read_bytes()


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_truncated_file(saved, kept):
    saved.write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="is truncated or not a safetensors file"):
        checkpoint.load(saved)


@pytest.mark.parametrize("content", [b"not a checkpoint, but long enough", b"PK\x03\x04" * 100])
def test_another_kind_of_file(saved, content):
    saved.write_bytes(content)
    with pytest.raises(CheckpointError, match="is truncated or not a safetensors file"):
        checkpoint.load(saved)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "not a checkpoint of vae_ref"),
        ({"format": "pt"}, "not a checkpoint of vae_ref"),
        ({"vae_ref": "{"}, "metadata that vae_ref did not write"),
        ({"vae_ref": "[]"}, "metadata that vae_ref did not write"),
        ({"vae_ref": "{}"}, "metadata that vae_ref did not write"),
        ({"vae_ref": '{"format": 99}'}, "format 99, and this version of vae_ref reads format 1"),
        ({"vae_ref": '{"format": true}'}, "format True, and this version of vae_ref reads"),
        ({"vae_ref": '{"format": 1, "epoch": ' + "9" * 5000 + "}"}, "that vae_ref did not write"),
        ({"vae_ref": '{"format": ' + "[" * 5000}, "metadata that vae_ref did not write"),
        ({"vae_ref": '{"format": ' * 5000}, "metadata that vae_ref did not write"),
        ({"vae_ref": '{"format": 1}' + " " * 50_000}, "metadata that vae_ref did not write"),
        ({"vae_ref": '{"format": "' + "x" * 10_000 + '"}'}, r"format x+\.\.\.x+ \(10,000 char"),
    ],
)
def test_a_safetensors_file_of_others(saved, metadata, message):
    save_file(TENSORS, saved, metadata)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(saved)


@pytest.mark.parametrize(
    "dtype", [torch.int32, torch.bool, torch.bfloat16, torch.complex64, torch.float8_e4m3fn]
)
def test_what_is_no_floating_point_number_of_ours_is_not_converted(tmp_path, dtype):
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, {"a": torch.zeros(2).to(dtype)}, {})
    with pytest.raises(CheckpointError, match="holds a as .*; a checkpoint has F32 or F64"):
        checkpoint.load(path)


def write(path, header, data=b""):
    content = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(content)) + content + data)


@pytest.mark.parametrize(
    "tensor",
    [
        {"dtype": "F6_E2M3", "shape": [4], "data_offsets": [0, 3]},  # a type that torch lacks
        {"dtype": "F32", "shape": [0, 2**63], "data_offsets": [0, 0]},
        {"dtype": "F32", "shape": [2**62, 2**62, 0], "data_offsets": [0, 0]},
        {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]},
    ],
)
def test_a_header_that_no_tensor_can_have(tmp_path, tensor):
    path = tmp_path / "c.safetensors"
    facts = {"vae_ref": '{"format": 1}'}
    write(path, {"__metadata__": facts, "a": tensor}, bytes(tensor["data_offsets"][1] % 2**20))
    with pytest.raises(CheckpointError):
        checkpoint.load(path)


def test_a_long_header_is_not_read(saved):
    with saved.open("wb") as file:
        file.write(struct.pack("<Q", 2**21))
        file.truncate(2**22)
    with pytest.raises(CheckpointError, match="a header of 2,097,152 bytes"):
        checkpoint.load(saved)


@pytest.mark.parametrize("name", ["missing", "."])
def test_no_file(tmp_path, name):
    with pytest.raises(CheckpointError, match="does not exist or is not a file"):
        checkpoint.load(tmp_path / name)
