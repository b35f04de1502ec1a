"""The compiled engine: what the tests of all engines do not cover."""

import ctypes
import dataclasses
import functools
import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vae_ref import ImageSet, InputError, Plan, Recipe, Run, evaluate, fit
from vae_ref.engines import choose, eager, native
from vae_ref.engines.losses import FACTORS
from vae_ref.engines.native import Arguments, Native
from vae_ref.running.training import DivergenceError

RECIPE = Recipe(dataset="glyphs", hidden_dim=24, latent_dim=3)


@pytest.fixture
def compiler(monkeypatch):
    """Name a compiler to a process that has not compiled yet."""

    def name(command):
        monkeypatch.setenv("CC", command)
        monkeypatch.setattr(native, "_compiled", functools.cache(native._compiled.__wrapped__))

    return name


def images(count, height, width, *, black=0.8):
    drawn = torch.randint(1, 256, (count, height * width), dtype=torch.uint8)
    drawn[torch.rand(drawn.shape) < black] = 0
    return ImageSet(drawn, torch.zeros(count, dtype=torch.int64), (height, width))


def assert_equal(ours, theirs):
    for name, tensor in {**theirs.model.state_dict(), **theirs._moments()}.items():
        found = {**ours.model.state_dict(), **ours._moments()}[name]
        torch.testing.assert_close(found, tensor, rtol=1e-9, atol=1e-11, msg=name)


SPLITS = [
    *[(32, 1, 24), (32, 2, 24), (32, 3, 64), (32, 5, 24), (32, 2, 4)],
    *[(32, 2, 34), (32, 2, 65), (32, 2, 7), (16, 2, 20), (16, 2, 1)],
    *[(64, 1, 48), (64, 2, 48), (64, 3, 128), (64, 2, 65), (64, 2, 15)],
]
SHAPES = [
    (25, lambda: images(60, 5, 7)),
    (30, lambda: images(30, 41, 43, black=0.1)),  # more pixels than fit a cache
    (1299, lambda: images(1300, 3, 5, black=0.1)),  # few pixels, many examples
    (20, lambda: images(40, 4, 4, black=1.0)),
    (20, lambda: images(40, 4, 4, black=0.0)),
]


@pytest.mark.parametrize(
    ("vector_threads_hidden", "batch_size", "data"),
    [  # by default every split and every shape, and every pair with the slow tests
        pytest.param(split, *shape, marks=[pytest.mark.slow] * ((i - j) % 5 > 0))
        for i, split in enumerate(SPLITS)
        for j, shape in enumerate(SHAPES)
    ],
)
def test_an_epoch_is_that_of_the_eager_engine(
    monkeypatch, vector_threads_hidden, batch_size, data
):
    vector, threads, hidden = vector_threads_hidden
    monkeypatch.setattr(native, "_VECTOR", vector)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    recipe = dataclasses.replace(RECIPE, hidden_dim=hidden, batch_size=batch_size)
    data = data()
    ours, theirs = (Run.start(recipe, data.size) for _ in range(2))
    execute = Native(ours.model, ours.optimizer, batch_size=batch_size, beta=1.0)
    for epoch in (1, 2):
        (loss,) = execute(data, [Plan(0)], epoch)
        expected = eager.run_epoch(
            theirs.model, theirs.optimizer, data, Plan(0), epoch, batch_size=batch_size, beta=1.0
        )
        assert loss == pytest.approx(expected, rel=1e-12)
        assert_equal(ours, theirs)


@pytest.mark.parametrize(
    "change", [{"weight_decay": 0.1}, {"maximize": True}, {"amsgrad": True}, {"eps": 0.0}], ids=str
)
def test_an_optimiser_that_becomes_another_is_refused(change):
    data, run = images(60, 4, 6), Run.start(RECIPE, (4, 6))
    execute = Native(run.model, run.optimizer, batch_size=30, beta=1.0)
    execute(data, [Plan(0)], 1)
    run.optimizer.param_groups[0].update(change)
    with pytest.raises(InputError, match="^optimizer must be what it was; got the optimiser "):
        execute(data, [Plan(0)], 2)


def test_the_bias_of_a_white_pixel_has_a_gradient():
    """Of sure logits, p - 1 is small: it is added up as such."""
    torch.set_default_dtype(torch.float32)
    data = ImageSet(
        torch.full((1000, 24), 255, dtype=torch.uint8), torch.zeros(1000).long(), (4, 6)
    )
    run = Run.start(RECIPE, (4, 6))
    torch.nn.init.zeros_(run.model.decoder[2].weight)
    torch.nn.init.constant_(run.model.decoder[2].bias, 14)
    Native(run.model, run.optimizer, batch_size=1000, beta=1.0)(data, [Plan(0)], 1)
    found = run.optimizer.state[run.model.decoder[2].bias]["exp_avg"] / (1 - 0.9)
    expected = -1000 * torch.sigmoid(torch.tensor(-14.0))
    rounding = 1000 * torch.finfo(torch.float32).eps  # of as many p, next to 1
    torch.testing.assert_close(found, expected.expand(24), rtol=0, atol=rounding)


@pytest.mark.parametrize("setting", [{"lr": 1e-2}, {"betas": (0.5, 0.8)}, {"eps": 1e-3}], ids=str)
def test_the_optimisers_settings_are_taken_up_every_epoch(setting):
    data = images(200, 4, 6)
    ours, theirs = (Run.start(RECIPE, (4, 6)) for _ in range(2))
    execute = Native(ours.model, ours.optimizer, batch_size=128, beta=1.0)
    for epoch in (1, 2):
        execute(data, [Plan(0)], epoch)
        eager.run_epoch(
            theirs.model, theirs.optimizer, data, Plan(0), epoch, batch_size=128, beta=1.0
        )
        assert_equal(ours, theirs)
        for run in ours, theirs:
            run.optimizer.param_groups[0].update(setting)


def test_images_may_lie_apart():
    data = images(300, 4, 6)
    ours, theirs = (Run.start(RECIPE, (4, 6)) for _ in range(2))
    apart = ImageSet(data.images.mT.contiguous().mT, data.labels, data.size)
    for run, these in (ours, apart), (theirs, data):
        Native(run.model, run.optimizer, batch_size=128, beta=1.0)(these, [Plan(0)], 1)
    assert_equal(ours, theirs)


def test_the_loss_of_many_steps_does_not_underflow():
    data = images(2 * FACTORS + 9, 4, 6)
    run = Run.start(dataclasses.replace(RECIPE, batch_size=1, learning_rate=1e-12), (4, 6))
    torch.nn.init.constant_(run.model.decoder[2].bias, 0)
    expected = run.model.terms(data.batch(torch.arange(len(data)), torch.float64), None)
    execute = Native(run.model, run.optimizer, batch_size=1, beta=1.0)
    assert execute(data, [Plan(0)], 1)[0] == pytest.approx(expected.loss().mean().item(), rel=0.1)


@pytest.mark.parametrize("black", [0.0, 1.0])
@pytest.mark.parametrize(
    "layer", ["encoder.0.weight", "encoder.0.bias", "decoder.0.bias", "decoder.2.bias"]
)
def test_what_is_no_number_is_not_rectified_away(layer, black):
    data, run = images(200, 4, 6, black=black), Run.start(RECIPE, (4, 6), engine="native")
    with torch.no_grad():
        dict(run.model.named_parameters())[layer].fill_(torch.nan)
    unread = layer == "encoder.0.weight" and black == 1.0  # in training
    with pytest.raises(DivergenceError, match=f"{'test' if unread else 'training'} loss is nan"):
        list(fit(run, data, data, epochs=1))


@pytest.mark.parametrize("logvar", [-2000.0, -180.0, -20.0, 0.0, 0.69, 20.0, 80.0, 180.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sigma_is_exact(dtype, logvar):
    torch.set_default_dtype(dtype)
    data, run = images(60, 4, 6), Run.start(RECIPE, (4, 6))
    with torch.no_grad():
        run.model.logvar.bias.fill_(logvar)
    execute = Native(run.model, run.optimizer, batch_size=60, beta=1.0)
    execute.evaluate(data, torch.zeros(60, 3))
    tensors = execute._step(60).arguments.tensors
    expected = (tensors["c"][:, 3:6].double() / 2).exp().to(dtype)
    most, least = (1e37, 1e-37) if dtype == torch.float32 else (1e306, 1e-306)
    torch.testing.assert_close(
        tensors["sigma"][:, :3].clamp(least, most),
        expected.clamp(least, most),
        rtol=4 * torch.finfo(dtype).eps,
        atol=0.0,
    )


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("no-such-compiler", "No such file or directory: 'no-such-compiler'"),
        (
            "cc -include no-such-file.h",
            "^engine must be another, since what it needs is not compiled .cc: ",
        ),
        ("true", "native.so: cannot open shared object file"),
        ("cc '", "not compiled .No closing quotation"),
        (r"sh -c 'printf \\377 >&2; false'", "not compiled .sh: \N{REPLACEMENT CHARACTER}"),
    ],
)
def test_without_a_compiler_the_formulas_remain(compiler, command, reason):
    compiler(command)
    run = Run.start(RECIPE, (28, 28))
    assert choose("auto", run.model, run.optimizer) == "analytic"
    with pytest.raises(InputError, match=reason):
        choose("native", run.model, run.optimizer)


def test_a_compiler_that_fails_is_asked_once(compiler, tmp_path):
    asked = tmp_path / "asked"
    compiler(f"sh -c 'echo x >> {asked}; false'")
    for _ in range(3):
        Run.start(RECIPE, (28, 28))
    assert asked.read_text() == "x\n"


def test_a_compiler_may_have_options(compiler):
    compiler("cc -O1")
    run = Run.start(RECIPE, (28, 28))
    assert choose("auto", run.model, run.optimizer) == "native"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda run: run.optimizer.param_groups[0].update(weight_decay=0.1), "decays weights"),
        (lambda run: run.optimizer.param_groups[0].update(maximize=True), "maximises or"),
        (lambda run: run.optimizer.param_groups[0].update(eps=0.0), "adds nothing to the root"),
        (lambda run: run.model.bfloat16(), "the model is of torch.bfloat16 on cpu"),
    ],
)
def test_what_is_not_compiled_is_left_to_the_formulas(change, reason):
    run = Run.start(RECIPE, (28, 28))
    change(run)
    assert choose("auto", run.model, run.optimizer) == "analytic"
    with pytest.raises(InputError, match=reason):
        choose("native", run.model, run.optimizer)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("hidden", [1, 41, 400])
def test_every_part_has_as_many_shares_of_a_few_vectors(monkeypatch, threads, hidden):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    run = Run.start(dataclasses.replace(RECIPE, hidden_dim=hidden), (4, 6))
    execute = Native(run.model, run.optimizer, batch_size=30, beta=1.0)
    lanes = native._VECTOR // 8
    units = [unit for share in execute.shares for unit in share]
    assert units == list(range(-(-hidden // lanes) * lanes))
    assert len(execute.shares) % threads == 0
    assert {len(share) % lanes for share in execute.shares} == {0}
    assert max(map(len, execute.shares)) <= native._MAX_VECTORS * lanes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fewer_threads_compute_the_same_step(monkeypatch, dtype):
    """Bit for bit: what is added up in which order depends on the parts alone."""
    torch.set_default_dtype(dtype)
    data, found = images(300, 5, 7), []
    for threads in (4, 3, 2, 1):
        monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
        run = Run.start(RECIPE, data.size)
        execute = Native(run.model, run.optimizer, batch_size=128, beta=1.0)
        monkeypatch.setattr(execute.team, "step", lambda take, threads=threads: take(threads))
        found.append((execute(data, [Plan(0)], 1), *run.model.state_dict().values()))
    for other in found[1:]:
        assert other[0] == found[0][0]
        assert all(map(torch.equal, other[1:], found[0][1:]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [60, 300])
def test_an_evaluation_is_that_of_the_model_and_changes_nothing(dtype, count):
    torch.set_default_dtype(dtype)
    data, held_out, run = images(300, 5, 7), images(count, 5, 7), Run.start(RECIPE, (5, 7))
    execute = Native(run.model, run.optimizer, batch_size=128, beta=3.0)
    execute(data, [Plan(0)], 1)
    eps = torch.randn(count, 3, dtype=torch.float32)
    expected = evaluate(run.model, held_out, eps)
    for _ in range(2):
        found = execute.evaluate(held_out, eps)
        assert found == pytest.approx(expected, rel=10 * torch.finfo(dtype).eps)
    with pytest.raises(InputError, match=rf"^eps must have shape .{count}, 3.; got .{count}, 2."):
        execute.evaluate(held_out, eps[:, :2])
    other = Run.start(RECIPE, (5, 7))
    alone = Native(other.model, other.optimizer, batch_size=128, beta=3.0)
    alone(data, [Plan(0)], 1)
    for each in execute, alone:
        each(data, [Plan(0)], 2)
    assert_equal(run, other)


DENORMALS = """
import torch
from vae_ref import Plan, Recipe, Run, glyphs
from vae_ref.engines.native import Native

torch.set_num_threads(2)
torch.randn(1000, 1000) @ torch.randn(1000, 1000)  # the threads exist before they are to flush
run, data = Run.start(Recipe(dataset="glyphs", hidden_dim=64), (28, 28)), glyphs(128)
execute = Native(run.model, run.optimizer, batch_size=128, beta=1.0)
execute(data, [Plan(0)], 1)
moments = run.optimizer.state[run.model.encoder[0].weight]["exp_avg"]
black = (data.images == 0).all(0)
moments[:, black] = 1.2e-38
execute(data, [Plan(0)], 2)
print(black.any().item(), (moments[:, black] == 0).all().item())
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="elsewhere a step leaves it to torch")
def test_all_threads_flush_denormal_numbers():
    done = subprocess.run(
        [sys.executable, "-c", DENORMALS], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["True", "True"]


LAYOUT = """
#include <stddef.h>
#include "{source}"
_Static_assert(sizeof(Arguments) == {size}, "the size");
{fields}
"""
FIELD = '_Static_assert(offsetof(Arguments, {0}) == {1}, "{0}");\n'


def test_both_languages_lay_the_arguments_out_alike(tmp_path):
    names = [name for name, _ in Arguments._fields_]
    fields = "".join(FIELD.format(name, getattr(Arguments, name).offset) for name in names)
    size = ctypes.sizeof(Arguments)
    source = tmp_path / "layout.c"
    source.write_text(LAYOUT.format(source=native._SOURCE, size=size, fields=fields))
    command = [*shlex.split(os.environ.get("CC", "cc")), "-std=c11", "-fsyntax-only"]
    command += ["-DREAL=float", "-DVECTOR=16", str(source)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert not done.returncode, done.stderr


def test_a_step_sets_all_arguments_and_keeps_their_memory():
    run = Run.start(RECIPE, (4, 6))
    arguments = Native(run.model, run.optimizer, batch_size=30, beta=1.0)._step(30).arguments
    values = {name: getattr(arguments, name) for name, _ in Arguments._fields_}
    assert all(values.values())
    addresses = {name: value for name, value in values.items() if name in arguments.tensors}
    assert set(values) - set(addresses) == set(native._SIZES)
    for name, tensors in arguments.tensors.items():
        if isinstance(tensors, torch.Tensor):
            assert addresses[name] == tensors.data_ptr()
        else:
            w_m_v = [getattr(addresses[name], field) for field in "wmv"]
            assert w_m_v == [tensor.data_ptr() for tensor in tensors]


def test_an_argument_of_no_field_is_refused():
    with pytest.raises(AttributeError, match="batches"):
        Arguments({}, batches=30)


SANITIZED = "cc -fsanitize=address,undefined -fno-sanitize-recover=all"
#: Compilers, what runs what they make, and the bytes of a vector.
OTHERS = {
    "clang": ("clang", [], 32),
    "ARM": ("aarch64-linux-gnu-gcc -static", ["qemu-aarch64"], 16),
    **{
        f"sanitized {vector}": (SANITIZED, ["env", "ASAN_OPTIONS=detect_leaks=0"], vector)
        for vector in (16, 32, 64)
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float", "double"])
@pytest.mark.parametrize("other", OTHERS)
def test_other_compilers_and_processors_take_the_same_step(monkeypatch, tmp_path, dtype, other):
    compiler, runner, vector = OTHERS[other]
    command = shlex.split(compiler)
    for name in (command[0], *runner[:1]):
        if not shutil.which(name):
            pytest.skip(f"there is no {name}")
    monkeypatch.setattr(native, "_VECTOR", vector)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    torch.set_default_dtype(dtype)
    data, run = images(90, 5, 7), Run.start(RECIPE, (5, 7))
    execute = Native(run.model, run.optimizer, batch_size=30, beta=2.0)
    execute(data, [Plan(0)], 1)  # so that Adam has moments
    a_step, index, eps = execute._step(30), torch.arange(30) + 7, torch.randn(30, 3)
    before = tmp_path / "before"
    with before.open("wb") as file:
        sizes = [getattr(a_step.arguments, name) for name in native._SIZES]
        file.write(torch.tensor([len(sizes), *sizes]).numpy().tobytes())
        for tensor in (*tensors_of(a_step.arguments), data.images, index, eps):
            file.write(tensor.nbytes.to_bytes(8, "little") + tensor.numpy().tobytes())
    program, after = tmp_path / "step", tmp_path / "after"
    command += ["-std=gnu11", "-O3", "-fno-math-errno", "-fopenmp", "-ffp-contract=fast"]
    command += [
        f"-DREAL={native._REAL[dtype]}",
        f"-DVECTOR={vector}",
        f'-DSOURCE="{native._SOURCE}"',
    ]
    source = Path(__file__).with_name("step_driver.c")
    subprocess.run([*command, str(source), "-o", str(program), "-lm"], check=True)
    subprocess.run([*runner, str(program), str(before), str(after)], check=True, timeout=120)
    a_step(data.images, index, eps.mT, 2)
    found = after.read_bytes()
    for tensor in tensors_of(a_step.arguments):
        theirs = torch.frombuffer(bytearray(found[: tensor.nbytes]), dtype=tensor.dtype)
        found = found[tensor.nbytes :]
        torch.testing.assert_close(theirs, tensor.flatten())
    assert not found


def tensors_of(arguments):
    """What a step reads and writes, in the order of the struct."""
    names = [name for name, _ in Arguments._fields_ if name in arguments.tensors]
    owners = [arguments.tensors[name] for name in names]
    return [t for each in owners for t in ([each] if isinstance(each, torch.Tensor) else each)]


POOLS = """
from vae_ref.engines import native
import torch

def pools():
    with open("/proc/self/maps") as maps:
        return {line.split()[-1] for line in maps if "omp" in line.split("/")[-1]}

before = pools()
assert not isinstance(native._compiled(torch.float32, native._VECTOR), str)
assert pools() == before, pools() - before
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads what a process has loaded")
def test_its_threads_are_torchs():
    """A second pool would compete for the cores; what is compiled brings none."""
    done = subprocess.run(
        [sys.executable, "-c", POOLS], check=False, capture_output=True, text=True
    )
    assert not done.stderr
