"""Whatever bytes a file has, and whatever text a number is: the documented error, or right input.

Never another exception, a hang, or 500 MB. Inputs are right ones, damaged in one or two places,
so that most get past the first check. The slow part tries 10,000 of them; for more of them, and to
see how many of which parser were accepted:

    VAE_REF_FUZZ=100000 pytest -m slow -rP tests/test_hostile_files.py
"""

import contextlib
import copy
import dataclasses
import functools
import gzip
import io
import json
import math
import os
import re
import resource
import signal
import struct
import sys
import zipfile
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest
import torch
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from vae_ref import InputError, Recipe, Run, cli, fashion_mnist
from vae_ref.bridge.weights import load_weights
from vae_ref.cli.app import app
from vae_ref.cli.judge import _expected
from vae_ref.cli.verify import _seed
from vae_ref.conformance import Conventions, Subject
from vae_ref.conformance.loading.process import AnswerOfProcessError, read_array, read_reply
from vae_ref.conformance.subject import DeclarationError
from vae_ref.conformance.vectors.documents import load
from vae_ref.conformance.vectors.grading import ANSWERS, AnswerError, grade
from vae_ref.data import DataError
from vae_ref.running import history
from vae_ref.running.checkpoint import CheckpointError
from vae_ref.running.recipe import LikelihoodName, ModelName

SECONDS, MEGABYTES = 60, 500
MEGABYTES_OF = {"replies": 200, "answers": 200}  # lines, of which a run reads thousands

# Damage of any bytes and any text.


@st.composite
def damaged_bytes(draw, content: bytes) -> bytes:
    """Flip a bit, cut, repeat or insert; what is near the beginning is the more likely."""
    place = draw(st.integers(0, min(len(content), 400)) | st.integers(0, len(content)))
    match draw(st.sampled_from(["flip", "cut", "insert", "drop", "repeat", "append"])):
        case "flip" if place < len(content):
            changed = bytes([content[place] ^ 1 << draw(st.integers(0, 7))])
            return content[:place] + changed + content[place + 1 :]
        case "cut":
            return content[:place]
        case "insert":
            return content[:place] + draw(st.binary(min_size=1, max_size=9)) + content[place:]
        case "drop":
            return content[:place] + content[place + draw(st.integers(1, 9)) :]
        case "repeat":
            return content[:place] + content[max(0, place - 50) :]
        case _:
            return content + draw(st.binary(max_size=20))


def one_in(many: int):
    """Whether the rare case is drawn."""
    return st.sampled_from([False] * (many - 1) + [True])


def sometimes(damage, content, many=5):
    """Damage one content in so many."""
    return one_in(many).flatmap(lambda rare: damage(content) if rare else st.just(content))


WORDS = """
0 1 2 3 4 6 7 -0 -1 -2 007 1.0 2.5 0.1 1e-3 1e2 1e308 1e309 1e-400 -1e309
nan inf -inf NaN Infinity -Infinity 1_0 0x10 1e +1 one ٣ ² 1,2 --1
"""
NUMBERS = [
    *WORDS.split(),
    *(str(2**n + k) for n in (31, 32, 53, 63, 64) for k in (-1, 0)),
    *("1" + "0" * n for n in (5, 6, 7, 9, 18, 19, 30, 100, 400, 4299, 4300, 5000)),
    *("9" * 5000, "", " 1", "1 ", "\x00"),
]
PARTS = r"""
true false null [] {} [1] [2,3] [3,2] [1,6] [0,6] [6,1,1] [-2,-3] [true,6] [2.0,3] ["2","3"]
"" "1" "vae" "mnist" "autoencoder" "gaussian" "\ud800" "\u0000" "\n"
"""
JSON = [
    *PARTS.split(),
    *filter(re.compile(r"-?(0|[1-9]\d*)(\.\d+)?(e-?\d+)?|NaN|-?Infinity").fullmatch, NUMBERS),
    *(f'"{"x" * 150}"', '{"a": ' * 2000 + "1" + "}" * 2000, '{"a": ' * 3000),
    *(f"{'[' * n}{']' * n}" for n in (3, 20, 2000)),
]
any_json = st.sampled_from(JSON)
any_number = st.one_of(
    st.sampled_from(NUMBERS),
    st.text("0123456789+-.e_ ", max_size=12),
    st.integers(1, 50).map(str),
    st.floats(0, 2).map(str),
)


def places(value, at=()):
    """Name every part of what JSON can express."""
    yield at
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*at, key))


@st.composite
def damaged_json(draw, value) -> str:
    """Put something else in the place of a part, leave it out, or add to it."""
    value = copy.deepcopy(value)
    *way, last = draw(st.sampled_from([place for place in places(value) if place]))
    parent = functools.reduce(lambda part, key: part[key], way, value)
    raw = draw(any_json)
    match draw(st.sampled_from(["replace"] * 8 + ["drop", "add", "whole"])):
        case "replace":
            parent[last] = "HERE"
        case "drop":
            del parent[last]
        case "add" if isinstance(parent, dict):
            parent[draw(st.sampled_from(["more", "", "x" * 300, "epoch", "self"]))] = "HERE"
        case _:
            return raw
    return json.dumps(value).replace('"HERE"', raw, 1)


# Files of safetensors: a header and numbers.


@dataclasses.dataclass
class Stored:
    """What a file of safetensors holds, before it is written; all of it may be wrong."""

    metadata: dict[str, str]
    tensors: dict[str, tuple[str, list[int], bytes]]

    @classmethod
    def of(cls, content: bytes) -> "Stored":
        (length,) = struct.unpack("<Q", content[:8])
        header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
        metadata = header.pop("__metadata__", {})
        return cls(
            metadata,
            {
                name: (of["dtype"], of["shape"], data[slice(*of["data_offsets"])])
                for name, of in header.items()
            },
        )

    def written(self) -> bytes:
        header, data = {"__metadata__": self.metadata}, b""
        for name, (dtype, shape, numbers) in self.tensors.items():
            offsets = [len(data), len(data) + len(numbers)]
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
            data += numbers
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data


BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1, "C64": 8}
BYTES |= {"F8_E4M3": 1, "F6_E2M3": 1, "F4": 1, "U64": 8, "Q7": 4}
SPECIAL = [math.nan, math.inf, -math.inf, -1.0, -0.0, 0.0, 0.5, 1.0, 2.0, 10.5, 1e30, 5e-324]
ODD_SHAPES = [[], [0], [2**62, 4], [0, 2**63], [-1], [10**30], [True], [2.0], "2", None]


@st.composite
def damaged_tensors(draw, stored: Stored) -> Stored:
    """Give a tensor other numbers, another type, shape or name, or leave it out."""
    stored = copy.deepcopy(stored)
    right = [name for name, (_, shape, _) in stored.tensors.items() if shape not in ODD_SHAPES[2:]]
    name = draw(st.sampled_from(right))
    dtype, shape, data = stored.tensors[name]
    kind = draw(st.sampled_from(["number"] * 3 + ["all", "type", "shape", "drop", "name", "swap"]))
    match kind:
        case "number" if dtype in ("F32", "F64") and data:
            code, size = ("f", 4) if dtype == "F32" else ("d", 8)
            at = size * draw(st.integers(0, len(data) // size - 1))
            number = struct.pack(f"<{code}", draw(st.sampled_from(SPECIAL)))
            stored.tensors[name] = dtype, shape, data[:at] + number + data[at + size :]
        case "all":  # of them in another type, with as many bytes as it takes
            other = draw(st.sampled_from(sorted(BYTES)))
            for each in right:
                its = stored.tensors[each][1]
                stored.tensors[each] = other, its, bytes(math.prod(its) * BYTES[other])
        case "type":
            other = draw(st.sampled_from(sorted(BYTES)))
            same = draw(st.booleans())
            numbers = data if same else bytes(math.prod(shape) * BYTES[other])
            stored.tensors[name] = other, shape, numbers
        case "shape":
            turned = draw(st.permutations(shape))
            fitting = [[*turned], [math.prod(shape)], [1, *shape], [1] * 70 + shape]
            smaller = draw(st.sampled_from([[], [1], [0], [2, 2], [0, 9]]))
            number = math.prod(smaller) * BYTES.get(dtype, 1)
            stored.tensors[name] = draw(
                st.sampled_from([(dtype, its, data) for its in fitting])
                | st.just((dtype, smaller, bytes(number)))
                | st.sampled_from([(dtype, its, data) for its in ODD_SHAPES])
            )
        case "drop":
            del stored.tensors[name]
        case "name":
            names = ["more", "", "x" * 300, "adam.step.more", "a\nb", "mu.weight"]
            stored.tensors[draw(st.sampled_from(names))] = stored.tensors.pop(name)
        case "swap":
            stored.tensors[name] = stored.tensors[draw(st.sampled_from(right))]
    return stored


# Checkpoints.


@functools.cache
def checkpoint_of(epoch: int, model: str, likelihood: str, dtype: torch.dtype) -> Stored:
    """Return the smallest that there are, as `Run.save` writes them."""
    recipe = Recipe(model=model, likelihood=likelihood, hidden_dim=3, latent_dim=2)
    run = Run.start(recipe, size=(2, 3))
    run.model.to(dtype)
    for parameter in run.model.parameters() if epoch else ():
        run.optimizer.state[parameter] = {
            "step": torch.tensor(10.0 * epoch, dtype=torch.float32),
            "exp_avg": torch.full_like(parameter, -0.25),
            "exp_avg_sq": torch.full_like(parameter, 0.25),
        }
    run.epoch = epoch
    file = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "vae_ref.running.checkpoint.replacing", lambda _: contextlib.nullcontext(file)
        )
        run.save("nowhere")
    return Stored.of(file.getvalue())


@st.composite
def checkpoints(draw) -> bytes:
    kinds = (
        st.sampled_from([0, 1, 2]),
        st.sampled_from(get_args(ModelName)),
        st.sampled_from(get_args(LikelihoodName)),
        st.sampled_from([torch.float32, torch.float64]),
    )
    stored = copy.deepcopy(checkpoint_of(*map(draw, kinds)))
    facts = json.loads(stored.metadata["vae_ref"])
    for _ in range(draw(st.integers(0, 2))):
        match draw(st.sampled_from(["facts", "tensors"] * 5 + ["text", "metadata"])):
            case "facts":
                stored.metadata["vae_ref"] = draw(damaged_json(facts))
            case "tensors" if stored.tensors:
                stored = draw(damaged_tensors(stored))
            case "text":
                text = stored.metadata.get("vae_ref", "").encode()
                stored.metadata["vae_ref"] = draw(damaged_bytes(text)).decode("latin1")
            case _:
                key = draw(st.sampled_from(["vae_ref", "format"]))
                stored.metadata = {key: draw(any_json) + " " * draw(st.sampled_from([0, 50_000]))}
    return draw(sometimes(damaged_bytes, stored.written()))


def load_checkpoint(folder: Path, content: bytes) -> None:
    (folder / "c.safetensors").write_bytes(content)
    run = Run.load(folder / "c.safetensors")
    recipe = run.recipe
    assert 0 <= run.epoch <= 10**6
    assert type(run.epoch) is int
    assert [type(side) for side in run.size] == [int, int]
    assert all(type(size) is int for size in (recipe.latent_dim, recipe.hidden_dim, recipe.seed))
    assert {p.dtype for p in run.model.parameters()} < {torch.float32, torch.float64}
    for parameter in run.model.parameters():
        state = run.optimizer.state[parameter]
        assert len(state) == (3 if run.epoch else 0)
        assert all(t.isfinite().all() for t in (parameter, *state.values()))
        assert not run.epoch or (state["exp_avg_sq"].min() >= 0 and state["step"] >= run.epoch)


# Histories.

RECORD = history.Record(
    epoch=1,
    train_loss=164.5,
    test_loss=128.25,
    test_reconstruction=107.0,
    test_kl=21.25,
    seconds=2.0,
    examples_per_second=30000.0,
)


@st.composite
def histories(draw) -> bytes:
    records = [
        dataclasses.asdict(RECORD) | {"epoch": n + 1} for n in range(draw(st.integers(0, 4)))
    ]
    lines = [json.dumps(record) for record in records]
    for _ in range(draw(st.integers(0, 2)) if lines else 0):
        line = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["json", "json", "json", "insert", "drop", "swap", "long"])):
            case "json":
                lines[line] = draw(damaged_json(records[line % len(records)]))
            case "insert":
                lines.insert(line, draw(any_json))
            case "drop":
                lines[line] = draw(st.sampled_from(["", " ", "\t", "\r"]))
            case "swap":
                lines[line], lines[0] = lines[0], lines[line]
            case "long":
                lines[line] += " " * draw(st.sampled_from([1, 700, 900, 10**5]))
    end = draw(st.sampled_from(["\n", "\n", "\r\n", ""]))
    return draw(sometimes(damaged_bytes, "\n".join(lines).encode() + end.encode()))


def read_history(folder: Path, content: bytes) -> None:
    (folder / "history.jsonl").write_bytes(content)
    records = history.read(folder / "history.jsonl")
    epochs = [record.epoch for record in records]
    assert epochs == sorted(set(epochs))
    for record in records:
        assert type(record.epoch) is int
        assert all(type(value) in (int, float) for value in dataclasses.astuple(record))
        assert all(math.isfinite(value) for value in dataclasses.astuple(record))


# Images.


@st.composite
def images(draw) -> dict[str, bytes]:
    """Return the content of the files of Fashion-MNIST, in parts that may not fit together."""
    count = 0 if draw(one_in(20)) else draw(st.integers(1, 5))
    sizes = count, draw(st.sampled_from([28, 3, 1])), draw(st.sampled_from([28, 2]))
    pixels = draw(st.binary(min_size=math.prod(sizes), max_size=math.prod(sizes)))
    labels = bytes(n % 10 for n in range(sizes[0]))
    if labels and draw(one_in(4)):
        at = draw(st.integers(0, len(labels) - 1))
        labels = labels[:at] + bytes([draw(st.sampled_from([9, 10, 176, 255]))]) + labels[at + 1 :]

    def idx(sizes, content):
        header = [0, 0, 8, len(sizes)]
        sizes = list(sizes)
        if draw(one_in(7)):
            size = st.sampled_from([0, 1, 10**6, 10**6 + 1, 2**31, 2**32 - 1])
            sizes[draw(st.integers(0, len(sizes) - 1))] = draw(size)
        if draw(one_in(10)):
            header[draw(st.integers(0, 3))] = draw(st.integers(0, 255))
        content = bytes(header) + struct.pack(f">{len(sizes)}I", *sizes) + content
        return draw(sometimes(damaged_bytes, content, 10))

    parts = {"images-idx3": idx(sizes, pixels), "labels-idx1": idx(sizes[:1], labels)}
    files = {f"train-{name}-ubyte": content for name, content in parts.items()}
    if draw(one_in(3)):
        (name, content), *_ = files.items()
        archive = gzip.compress(content, 1, mtime=0)
        files[f"{name}.gz"] = draw(sometimes(damaged_bytes, archive, 3))
    return files


def load_images(folder: Path, files: dict[str, bytes]) -> None:
    raw = folder / "FashionMNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for file in raw.iterdir():
        file.unlink()
    for name, content in files.items():
        (raw / name).write_bytes(content)
    data = fashion_mnist(folder, train=True)
    pixels, labels = (files[f"train-{name}-ubyte"] for name in ("images-idx3", "labels-idx1"))
    assert data.images.numpy().tobytes() == pixels[16:]
    assert bytes(data.labels.tolist()) == labels[8:]
    assert struct.unpack(">3I", pixels[4:16]) == (len(data), *data.size)
    assert len(data) > 0
    assert data.labels.max() <= 9


# Weights of strangers.


class Module(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm = torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(2)
        self.register_buffer("mask", torch.tensor([0.0, -math.inf]))
        self.float()


@functools.cache
def weights_in_safetensors() -> Stored:
    return Stored.of(save({"adam.step.fc": torch.zeros(1), **Module().state_dict()}))


DTYPES = [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int8, torch.bool]
DTYPES += [torch.complex64, torch.float8_e5m2, torch.uint16]
VALUES = [None, 1, 1.5, "text", [1], {}, torch.Size([1]), torch.float32, torch.device("cpu")]


@st.composite
def states(draw):
    """Return what torch.save can write, most of it much like a state dict."""
    state: dict = dict(Module().state_dict())
    for _ in range(draw(st.integers(0, 2))):
        name, tensor = draw(st.sampled_from(sorted(Module().state_dict().items())))
        match draw(st.sampled_from(["value", "value", "type", "shape", "name", "drop", "other"])):
            case "value":
                numbers = SPECIAL if tensor.is_floating_point() else [0, 7, -1]
                tensor.view(-1)[-1] = draw(st.sampled_from(numbers))
                state[name] = tensor
            case "type":
                state[name] = tensor.to(draw(st.sampled_from(DTYPES)))
            case "shape":
                turned = tensor.permute(tuple(reversed(range(tensor.ndim))))
                more, flat = tensor[None], tensor.flatten()
                expanded = torch.zeros(1).expand(10**12), torch.zeros(1, 1).expand(3, 2)
                kinds = torch.eye(2).to_sparse(), torch.nn.Parameter(tensor.float())
                shapes = [turned, more, more[:0], flat, flat[0], *expanded, *kinds]
                state[name] = draw(st.sampled_from(shapes))
            case "name":
                names = ["more", "", "x" * 300, 1, 1.5, None, (1, 2), "a\nb", "adam.more"]
                state[draw(st.sampled_from(names))] = state.pop(name, tensor)
            case "drop":
                state.pop(name, None)
            case "other":
                state[name] = draw(st.sampled_from(VALUES))
    match draw(
        st.sampled_from(["bare"] * 3 + ["nested", "nested twice", "list", "tensor", "name"])
    ):
        case "nested":
            return {"epoch": 3, "state_dict": state, "best": 1.5, "history": [1.0, 2.0]}
        case "nested twice":
            return {"state_dict": {"model": state}}
        case "list":
            return [state]
        case "tensor":
            return torch.zeros(2)
        case "name":
            return {"state_dict": draw(st.sampled_from(VALUES))}
    return state


def pickled(*operations: bytes) -> bytes:
    return b"\x80\x02" + b"".join(operations) + b"."


PICKLES = [
    pickled(b"cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R"),
    pickled(b"ctorch\nTensor\nJ\xff\xff\xff\x7f\x85R"),
    pickled(b"cos\nsystem\nX\x0a\x00\x00\x00touch owned\x85R"),
    pickled(b"})" + b"\x85" * 200_000 + b"K\x01s"),
    pickled(b"]" * 100_000),
    pickled(b"]q\x00h\x00a"),
    pickled(b"ccollections\nOrderedDict\n]\x85R"),
    pickled(b"}X\x01\x00\x00\x00a}s"),
    pickled(b"\x8a\xff" + b"\xff" * 255),
    b"\x80\x05\x96\xff\xff\xff\xff\x00\x00\x00\x00",
    b"\x80\x02X\xff\xff\xff\xff",
    b"",
]


@st.composite
def rewritten(draw, content: bytes) -> bytes:
    """Damage one file in an archive and write the archive anew, with right checksums."""
    compression = draw(st.sampled_from([zipfile.ZIP_STORED] * 9 + [zipfile.ZIP_DEFLATED]))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    name = draw(st.sampled_from(["archive/data.pkl"] * 6 + sorted(files)))
    match draw(
        st.sampled_from(["bytes", "bytes", "integer", "integer", "pickle", "drop", "twice"])
    ):
        case "bytes":
            files[name] = draw(damaged_bytes(files[name]))
        case "integer":  # such as a size, a stride or the length of a storage
            ends = [at for at in range(len(files[name]) - 1) if files[name][at] == ord("K")]
            at = draw(st.sampled_from(ends or [0]))
            number = draw(st.sampled_from([0, 1, 7, 10**6, 2**31 - 1, -1, -(2**31)]))
            changed = b"J" + struct.pack("<i", number)
            files[name] = files[name][:at] + changed + files[name][at + 2 :]
        case "pickle":
            files[name] = draw(st.sampled_from(PICKLES))
        case "drop":
            del files[name]
        case "twice":
            files[draw(st.sampled_from(["archive/DATA.PKL", "b/data.pkl"]))] = PICKLES[0]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for each, data in files.items():
            archive.writestr(each, data)
    return stream.getvalue()


@st.composite
def weights(draw) -> tuple[str, bytes]:
    """Return the name of a file and its content."""
    if draw(st.booleans()):
        stored = weights_in_safetensors()
        for _ in range(draw(st.integers(0, 2))):
            stored = draw(damaged_tensors(stored)) if stored.tensors else stored
        return "w.safetensors", draw(sometimes(damaged_bytes, stored.written()))
    stream, zipped = io.BytesIO(), draw(st.integers(0, 4)) > 0
    torch.save(draw(states()), stream, _use_new_zipfile_serialization=zipped)
    content = stream.getvalue()
    if zipped and draw(st.booleans()):
        return "w.pt", draw(rewritten(content))
    return "w.pt", draw(sometimes(damaged_bytes, content))


def read_weights(folder: Path, file: tuple[str, bytes]) -> None:
    name, content = file
    (folder / name).write_bytes(content)
    module = Module()
    load_weights(Subject(name="module", module=module), folder / name)
    assert all(parameter.isfinite().all() for parameter in module.parameters())
    assert all(parameter.dtype == torch.float32 for parameter in module.parameters())
    assert module.mask[0].isfinite()
    assert not Path("owned").exists()


# Expected failures.

IDS = ["kl/closed-form", "kl/near-prior", "kl/gradient-mu", "model/decoder-range", "kl/*", "é"]
ODD_IDS = ["x" * 3000, "", " ", "#", "# ", "a:b"]
REASONS = ["why", "see #12", "why # more", "\ttabbed ", "𝔳: 1", "x" * 3000]
ODD_ENDS = ["", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\x00", "\x1b[2J\n", " #\n"]


def mostly(usual, odd):
    """Draw one of the usual, or rarely an odd one."""
    return one_in(8).flatmap(lambda rare: st.sampled_from(odd if rare else usual))


@st.composite
def expectations(draw) -> bytes:
    ids = draw(st.lists(mostly(IDS, ODD_IDS), max_size=4, unique=draw(st.integers(0, 9)) > 0))
    lines = [
        identifier
        + draw(mostly([": ", ":", " : "], ["", "::", "\t"]))
        + draw(mostly(REASONS, ["", "#", "\x1b[2J", "\u202e"]))
        + draw(mostly(["\n", "\n\n", "\r\n", "\r"], ODD_ENDS))
        for identifier in ids
    ]
    text = draw(st.sampled_from(["", "# comment\n", "\ufeff"])) + "".join(lines)
    if draw(one_in(20)):
        text += "# more\n" * 200_000
    encoding = "utf-16" if draw(one_in(20)) else "utf-8"
    return draw(sometimes(damaged_bytes, text.encode(encoding)))


def read_expectations(folder: Path, content: bytes) -> None:
    (folder / "known").write_bytes(content)
    for claim, reason in _expected(folder / "known").items():
        assert reason.strip() == reason != ""
        assert claim.strip() == claim
        assert claim + reason == "".join(c for c in claim + reason if c >= " " or c == "\t")


# Numbers on the command line.

TRAIN = ("latent-dim", "hidden-dim", "batch-size", "epochs", "seed", "beta", "learning-rate")
OPTIONS = [*(("train", name) for name in TRAIN), ("evaluate", "samples"), ("sample", "count")]
OPTIONS += [("evaluate", "seed"), ("sample", "seed"), ("verify", "seed")]
OPTIONS += [("declare", name) for name in ("beta", "variance", "latent_shape", "pixel_shape")]
sizes = one_in(8).flatmap(lambda rare: any_number if rare else st.integers(1, 50).map(str))
shapes = st.lists(sizes, max_size=9).map(",".join) | st.lists(sizes, max_size=4).map("x".join)


@st.composite
def options(draw) -> tuple[str, str, str]:
    command, name = draw(st.sampled_from(OPTIONS))
    return command, name, draw(shapes if name.endswith("shape") else any_number)


def call(folder: Path, option: tuple[str, str, str]) -> None:
    command, name, text = option
    if command == "declare":
        value = getattr(Conventions().declaring({name: text}), name)
        numbers = value if isinstance(value, tuple) else (value,)
        assert all(0 < number < 1e309 for number in numbers)
    elif command == "verify":
        assert _seed(text) >= 0
    else:
        _call(folder, [command, *([] if command == "train" else ["no"]), f"--{name}={text}"])


ACCEPTED = ("The data are not here.", "no does not exist or is not a file.")


@functools.cache
def command():
    """Return what Typer would build of the functions anew for every call."""
    return typer.main.get_command(app)


def _call(folder: Path, arguments: list[str]) -> None:
    """Call the command, which ends where it would read its data or its checkpoint."""

    def absent(*_, **__):
        raise DataError("The data are not here.")

    errors = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(errors):
        patch.setattr(sys, "argv", ["vae-ref", *arguments])
        patch.setattr("vae_ref.cli.train._load", absent)
        patch.setattr("vae_ref.cli.app.app", command())
        patch.chdir(folder)
        with pytest.raises(SystemExit) as stop:
            cli.main()
    message = errors.getvalue().removesuffix("\n")
    assert stop.value.code == 2, message
    assert message.startswith("vae-ref: ")
    if not message.endswith(ACCEPTED):
        raise InputError("the command", "be right", "", message)


# Answers to the golden vectors.

IDS = [case["id"] for case in load("entropy")["cases"]]
answers = st.builds(
    lambda key, numbers: json.dumps({"id": key, "outputs": {"value": numbers}}),
    st.sampled_from([*IDS, "entropy-000000000000"]),
    st.lists(st.floats(width=32) | any_number, max_size=4),
)
damaged_answers = st.lists(
    answers.flatmap(
        lambda line: one_in(4).flatmap(
            lambda rare: damaged_bytes(line.encode()) if rare else st.just(line.encode())
        )
    ),
    max_size=3,
).map(b"\n".join)


def grade_answers(folder: Path, content: bytes) -> None:
    (folder / ANSWERS).write_bytes(content)
    grade(folder)


# Replies of a process.

arrays = st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=4).map(
    lambda numbers: {"shape": [len(numbers)], "numbers": numbers}
)
odd_arrays = st.fixed_dictionaries(
    {
        "shape": st.lists(st.integers(-1, 4) | any_number, max_size=3) | any_number,
        "numbers": st.lists(st.floats() | any_number, max_size=4) | any_number,
    }
)
replies = (
    one_in(3)
    .flatmap(lambda rare: odd_arrays if rare else arrays)
    .map(lambda array: json.dumps({"id": 1, "value": array}))
)
damaged_replies = replies.flatmap(
    lambda line: one_in(4).flatmap(
        lambda rare: damaged_bytes(line.encode()) if rare else st.just(line.encode())
    )
)


def read_value(folder: Path, line: bytes) -> None:
    read_array(read_reply(line).get("value"), "value")


# All of them.

PARSERS = {
    "replies": (damaged_replies, read_value, AnswerOfProcessError),
    "answers": (damaged_answers, grade_answers, AnswerError),
    "checkpoint": (checkpoints(), load_checkpoint, CheckpointError),
    "history": (histories(), read_history, CheckpointError),
    "images": (images(), load_images, DataError),
    "weights": (weights(), read_weights, InputError),
    "expected failures": (expectations(), read_expectations, InputError),
    "numbers": (options(), call, (InputError, DeclarationError)),
}


class Hang(BaseException):
    """An input has taken a minute of the processor."""


def hang(*_):
    raise Hang


@contextlib.contextmanager
def limits(megabytes: int):
    """Limit the memory that is asked for, and the time of the processor that is only a guard."""
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    before = resource.getrlimit(resource.RLIMIT_DATA)
    most = pages * resource.getpagesize() + megabytes * 10**6
    handler = signal.signal(signal.SIGPROF, hang)
    resource.setrlimit(resource.RLIMIT_DATA, (most, before[1]))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_DATA, before)
        signal.signal(signal.SIGPROF, handler)


def fuzz(name: str, folder: Path, examples: int, **options) -> Counter:
    """Give a parser so many inputs; return how many were accepted and refused."""
    inputs, parse, documented = PARSERS[name]
    counts = Counter(accepted=0, refused=0)

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        **options,
    )
    @given(inputs)
    def give(given):
        try:
            with limits(MEGABYTES_OF.get(name, MEGABYTES)):
                parse(folder, given)
            counts["accepted"] += 1
        except documented as error:
            message, cause = str(error), error.__cause__
            assert not isinstance(cause, MemoryError), message
            assert "allocate" not in str(cause), message
            assert message.isprintable(), message
            assert len(message.replace(str(folder), "")) < 450, message
            counts["refused"] += 1

    give()
    print(f"{name}: {counts['accepted']} accepted, {counts['refused']} refused")
    return counts


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize("name", PARSERS)
def test_damage_is_answered(tmp_path, name):
    counts = fuzz(name, tmp_path, examples=50, derandomize=True)
    assert min(counts.values()) > 0, counts


@pytest.mark.sampled(2)
@pytest.mark.slow
@pytest.mark.usefixtures("user")
@pytest.mark.parametrize("name", PARSERS)
def test_much_damage_is_answered(tmp_path, name):
    examples = int(os.environ.get("VAE_REF_FUZZ", "10000")) // len(PARSERS) + 1
    counts = fuzz(name, tmp_path, examples)
    assert min(counts.values()) >= examples // 20, counts
