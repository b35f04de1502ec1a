"""Somebody's trained weights: read from torch and safetensors, refused clearly otherwise."""

import math
import pickle
import zipfile

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


def pickled(protocol):
    return lambda path, state: path.write_bytes(pickle.dumps(print, protocol))


def of_another(path, state):
    torch.save(torch.nn.Linear(2, 3).state_dict(), path)


def no_tensors(path, state):
    torch.save({"a": 1}, path)


def text(path, state):
    path.write_text("weights")


def empty(path, state):
    path.write_bytes(b"")


def numbered(path, state):
    torch.save(dict(enumerate(state.values())), path)


def huge(path, state):
    torch.save({**state, "mu.bias": torch.zeros(1).expand(10**15)}, path)


def renamed(path, state):
    torch.save({"x" * 10_000: torch.zeros(2)}, path)


def zip_of(pickled, storage=bytes(16), **options):
    """Return what writes an archive as torch does, with another pickle in it."""

    def write(path, state):
        with zipfile.ZipFile(path, "w", **options) as archive:
            content = {"data.pkl": pickled, "byteorder": b"little", "data/0": storage}
            for name, data in {**content, "version": b"3\n"}.items():
                archive.writestr(f"vae/{name}", data)

    return write


def crowded(path, state):
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(20_000):
            archive.writestr(f"vae/{number}", b"")


def call(module, name, *arguments):
    """Pickle ``module.name(*arguments)``."""
    packed = b"".join(pickle.dumps(argument, 2)[2:-1] for argument in arguments)
    return f"\x80\x02c{module}\n{name}\n(".encode("latin1") + packed + b"tR."


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (
            pickled(2),
            "must be a state dict; got .*It holds __builtin__.print, which is no part of",
        ),
        (pickled(4), "must be a state dict; got .*Its pickle is damaged, or not of torch.save"),
        (no_tensors, "--checkpoint must be a state dict"),
        (text, "--checkpoint must be a state dict"),
        (empty, "--checkpoint must be a state dict; got .*vae.pt. It is empty"),
        (numbered, "--checkpoint must be a state dict; got .*Its names must be text; one is 0"),
        (of_another, "--checkpoint must hold the weights of the reference"),
        (huge, r"mu.bias must have shape \(20,\).*got \(1000000000000000,\)"),
        (renamed, "--checkpoint must hold the weights of the reference"),
        (zip_of(call("builtins", "bytearray", 2**31 - 1)), "It holds builtins.bytearray"),
        (zip_of(call("torch", "Tensor", 2**31 - 1)), "It holds torch.Tensor"),
        (zip_of(call("collections", "Counter", "a")), "It holds collections.Counter"),
        (zip_of(call("collections", "OrderedDict", [("a", 1)])), "must be a state dict"),
        pytest.param(
            zip_of(b"\x80\x02" + b"]" * 2**21),
            "must be a state dict; got .*Its pickle has more than",
            marks=pytest.mark.slow,
        ),
        (zip_of(bytes(2**21), compression=zipfile.ZIP_DEFLATED), "It is compressed"),
        (zip_of(b""), "Its pickle is damaged"),
        (lambda path, _: zipfile.ZipFile(path, "w").close(), "but not of torch.save"),
        pytest.param(crowded, "too many files in one", marks=pytest.mark.slow),
        (zip_of(b"\x80\x02}X\x00\x00\x00\x00q\xffK\x01s."), "must be a tensor, and is int"),
        (zip_of(b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s."), "It has a tuple for a key"),
        (zip_of(b"\x80\x05\x96" + (2**33).to_bytes(8, "little")), "pickle is damaged"),
    ],
)
def test_what_is_none_is_refused_in_one_line(tmp_path, state, write, message):
    write(tmp_path / "vae.pt", state)
    with pytest.raises(InputError, match=message) as caught:
        load_weights(reference(), tmp_path / "vae.pt")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_file_of_before_torch_was_zipped(tmp_path, state):
    path = tmp_path / "vae.pt"
    torch.save(nested(state), path, _use_new_zipfile_serialization=False)
    subject = reference()
    load_weights(subject, path)
    assert all(torch.equal(state[n], v) for n, v in subject.module.state_dict().items())
    path.write_bytes(path.read_bytes().replace(b"OrderedDict", b"Counter\nxxx"))
    with pytest.raises(InputError, match="It holds collections.Counter"):
        load_weights(reference(), path)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.int(), "fc.weight must be torch.float32.* got torch.int32"),
        (lambda t: t.bool(), "fc.weight must be torch.float32.* got torch.bool"),
        (lambda t: t.to(torch.complex64), "fc.weight must be torch.float32.* got torch.complex64"),
        (lambda t: t.to(torch.float8_e5m2), "fc.weight must be .* got torch.float8_e5m2"),
        (lambda t: t * math.nan, "fc.weight must be finite"),
        (lambda t: t + math.inf, "fc.weight must be finite"),
        (lambda t: t.double() + 1e300, "fc.weight must be finite"),
        (lambda t: t.T.contiguous(), r"fc.weight must have shape \(3, 2\).* got \(2, 3\)"),
    ],
)
def test_weights_that_are_none(tmp_path, suffix, change, message):
    module = torch.nn.ModuleDict({"fc": torch.nn.Linear(2, 3)})
    state = module.state_dict()
    _save({**state, "fc.weight": change(state["fc.weight"])}, tmp_path / f"w.{suffix}")
    with pytest.raises(InputError, match=f"^--checkpoint must hold the weights of x; .*{message}"):
        load_weights(Subject(name="x", module=module), tmp_path / f"w.{suffix}")


def _save(state, path):
    (torch.save if path.suffix == ".pt" else save_file)(state, path)


class Buffered(torch.nn.Module):
    """With a count, as of batch normalisation, and a mask that is not finite by design."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(2)
        self.register_buffer("mask", torch.tensor([0.0, -math.inf]))


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_other_precisions_and_the_buffers_that_a_module_has(tmp_path, suffix, dtype):
    saved, module = Buffered(), Buffered()
    saved.norm.num_batches_tracked += 7
    saved.norm.weight.data.fill_(0.5)
    state = {n: t.to(dtype) if t.is_floating_point() else t for n, t in saved.state_dict().items()}
    _save(state, tmp_path / f"w.{suffix}")
    load_weights(Subject(name="x", module=module), tmp_path / f"w.{suffix}")
    assert module.norm.num_batches_tracked == 7
    assert module.norm.weight.tolist() == [0.5, 0.5]
    assert module.mask.tolist() == [0.0, -math.inf]


def test_a_count_that_is_none(tmp_path):
    state = Buffered().state_dict()
    torch.save({**state, "norm.num_batches_tracked": torch.tensor(7.0)}, tmp_path / "w.pt")
    with pytest.raises(InputError, match="norm.num_batches_tracked must be torch.int64"):
        load_weights(Subject(name="x", module=Buffered()), tmp_path / "w.pt")


def test_a_header_that_is_too_long(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes((2**21).to_bytes(8, "little") + bytes(2**21))
    with pytest.raises(InputError, match="--checkpoint must be a state dict.* 2,097,152 bytes"):
        load_weights(reference(), path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="--checkpoint must be a file; got .*missing"):
        load_weights(reference(), tmp_path / "missing.pt")


def test_a_subject_without_a_module(tmp_path):
    with pytest.raises(InputError, match="TARGET must have a module"):
        load_weights(Subject(name="functions"), tmp_path / "x.pt")
