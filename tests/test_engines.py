"""Every engine is the function that the eager one defines."""

import contextlib
import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vae_ref import (
    VAE,
    Autoencoder,
    Gaussian,
    ImageSet,
    InputError,
    Plan,
    Recipe,
    Run,
    evaluate,
    fit,
    fit_together,
    glyphs,
    log_likelihood,
)
from vae_ref.engines import choose, eager, losses, make, step
from vae_ref.engines.product import BackProduct
from vae_ref.support.platform import constants_in_memory

SMALL = Recipe(dataset="glyphs", hidden_dim=32, latent_dim=3)
DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
#: The engines beside the one that defines them, each with the devices that it computes on.
PLACES = [("native", "cpu"), *((n, device) for n in ("analytic", "graph") for device in DEVICES)]


class Tape(TorchDispatchMode):
    """What a CUDA graph is, on any device: operations, on tensors that stay where they are."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, result))
        return result

    def replay(self):
        for func, args, kwargs, result in self.calls:
            for old, new in zip(
                tree_leaves(result), tree_leaves(func(*args, **kwargs)), strict=True
            ):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)

    def names(self):
        return [func.overloadpacket.__name__ for func, *_ in self.calls]


@pytest.fixture
def taped(monkeypatch):
    """CUDA's graphs, with a tape for the device's."""
    tapes = []

    @contextlib.contextmanager
    def record(tape):
        with tape:
            yield

    def new():
        tapes.append(Tape())
        return tapes[-1]

    class Stream:
        def wait_stream(self, other):
            pass

    monkeypatch.setattr(torch.cuda, "CUDAGraph", new)
    monkeypatch.setattr(torch.cuda, "graph", record)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    return tapes


@pytest.fixture(params=PLACES, ids="-".join)
def place(request):
    """An engine and a device; a graph on the CPU is taped."""
    name, device = request.param
    if (name, device) == ("graph", "cpu"):
        request.getfixturevalue("taped")
    return name, torch.device(device)


@pytest.fixture(params=[1, 2], ids="threads={}".format)
def threads(request, monkeypatch):
    """As many as torch says it uses: two divide a product."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: request.param)


def engine(name, runs, **changes):
    recipe = dataclasses.replace(runs[0].recipe, **changes)
    models, optimizers = [run.model for run in runs], [run.optimizer for run in runs]
    return make(name, models, optimizers, batch_size=recipe.batch_size, beta=recipe.beta)


def state(run):
    """All that an epoch changes."""
    return {**run.model.state_dict(), **run._moments()}


def assert_equal_states(ours, theirs, ulp):
    """Equal up to so many units in the last place of the largest number of a tensor."""
    for name, tensor in state(theirs).items():
        unit = torch.finfo(tensor.dtype).eps * tensor.abs().max().item()
        found = (state(ours)[name] - tensor).abs().max().item() / max(unit, 1e-300)
        assert found <= ulp, f"{name}: {found:.3g} ulp"


# In double precision, where what Adam makes of rounding stays small for an epoch or two.
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"beta": 4.0, "batch_size": 50},
        {"beta": 0.0, "batch_size": 600},
        {"batch_size": 1},
        {"beta": 0.5, "batch_size": 700},
        {"hidden_dim": 33, "batch_size": 90},
    ],
)
def test_an_epoch_is_that_of_the_eager_engine(small, place, changes):
    name, device = place
    recipe = dataclasses.replace(SMALL, **changes)
    beta, batch_size = recipe.beta, recipe.batch_size
    count = 60 if batch_size == 1 else 600
    data = ImageSet(small[0].images[:count], small[0].labels[:count], (28, 28)).to(device)
    ours, theirs = (Run.start(recipe, (28, 28), device=device) for _ in range(2))
    execute, plan = engine(name, [ours]), Plan(0)
    for epoch in (1, 2):
        (loss,) = execute(data, [plan], epoch)
        expected = eager.run_epoch(
            theirs.model, theirs.optimizer, data, plan, epoch, batch_size=batch_size, beta=beta
        )
        assert loss == pytest.approx(expected, rel=1e-12)
        assert_equal_states(ours, theirs, ulp=1e5)


@pytest.mark.parametrize("name", ["eager", "analytic", "native"])
@pytest.mark.parametrize("side", [14, 56])
def test_images_of_another_size_are_refused(name, side):
    run = Run.start(SMALL, (28, 28))
    execute, before = engine(name, [run]), run.model.decoder[2].bias.clone()
    images = torch.randint(0, 256, (200, side * side), dtype=torch.uint8)
    with pytest.raises(InputError, match="784 pixels per example"):
        execute(ImageSet(images, torch.zeros(200).long(), (side, side)), [Plan(0)], 1)
    assert run.model.decoder[2].bias.equal(before)


def test_an_epoch_of_the_textbook_is_that_of_the_eager_engine_in_single_precision(small, place):
    """To a tenth of a step of Adam, which moves a weight of almost no gradient by rounding."""
    torch.set_default_dtype(torch.float32)
    name, device = place
    ours, theirs = (Run.start(Recipe(dataset="glyphs"), (28, 28), device=device) for _ in range(2))
    data = small[0].to(device)
    (loss,) = engine(name, [ours])(data, [Plan(0)], 1)
    expected = eager.run_epoch(
        theirs.model, theirs.optimizer, data, Plan(0), 1, batch_size=128, beta=1.0
    )
    assert loss == pytest.approx(expected, rel=1e-6)
    assert_equal_states(ours, theirs, ulp=2e4)


@pytest.mark.parametrize("beta", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("models", [1, 3])
@pytest.mark.usefixtures("threads")
def test_the_formulas_are_the_derivatives(small, device, beta, models):
    """Of each layer, against automatic differentiation of the model's own loss."""
    runs = [
        Run.start(dataclasses.replace(SMALL, seed=seed), (28, 28), device=device)
        for seed in range(models)
    ]
    execute = engine("analytic", runs, beta=beta)
    images = small[0].images.to(device)
    index = torch.stack([torch.arange(50, device=device) + 7 * n for n in range(models)])
    eps = torch.randn(models, 3, 50, device=device)
    if models == 1:
        index, eps = index[0], eps[0]
    with torch.no_grad():
        execute._load()
        execute._step(50)(images, index, eps)
    losses = execute._step(50).losses.total().reshape(-1)
    gradients = execute.gradients.view(models, -1)
    for n, run in enumerate(runs):
        x = small[0].to(device).batch(index.view(models, -1)[n], torch.float64)
        loss = run.model.terms(x, eps.view(models, 3, 50)[n].mT).loss(beta).sum()
        torch.testing.assert_close(losses[n], loss.detach(), rtol=1e-12, atol=0)
        loss.backward()
        parameters = execute.parameters[n]
        found = execute._parts(gradients[n], parameters)
        for parameter, gradient in zip(parameters, found, strict=True):
            torch.testing.assert_close(gradient, parameter.grad, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", ["analytic", "native"])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 300.0])
def test_the_loss_is_exact_for_logits_of_any_size(small, name, scale):
    torch.set_default_dtype(torch.float32)
    run = Run.start(SMALL, (28, 28))
    run.optimizer.param_groups[0]["lr"] = 0.0  # a compiled step moves weights
    with torch.no_grad():
        run.model.decoder[2].bias.normal_(0, scale)
    execute = engine(name, [run])
    index, eps = torch.arange(100), torch.randn(100, 3).mT
    with torch.no_grad():
        execute._load()
        take, a_step = execute._stepping(), execute._step(100)
        for _ in range(130):  # more than one product of factors
            take(a_step, small[0].images, index, eps)
        expected = (
            run.model.double().terms(small[0].batch(index, torch.float64), eps.mT.double()).loss()
        )
    assert a_step.losses.total().item() == pytest.approx(130 * expected.sum().item(), rel=2e-6)


def test_a_product_of_factors_cannot_underflow():
    assert torch.finfo(torch.float32).tiny < 0.5**losses.FACTORS


@pytest.mark.parametrize(
    ("threads", "models", "rows", "halved"),
    [
        (2, [], 6, True),
        (2, [], 5, False),
        (2, [3], 6, False),
        (1, [], 6, False),
        (3, [], 6, False),
    ],
)
def test_two_cores_divide_a_product(monkeypatch, threads, models, rows, halved):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    weight, d, out = (torch.randn(*models, *shape) for shape in ((rows, 4), (rows, 7), (4, 7)))
    product = BackProduct(weight, d, out)
    assert product.halved == halved
    for _ in range(2):
        d.normal_()
        assert product() is out
        torch.testing.assert_close(out, weight.mT @ d)


def test_the_formulas_fit_on_a_page():
    assert len(Path(step.__file__).read_text().splitlines()) < 150 + len(step.__doc__.splitlines())


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(("name", "products"), [("analytic", 11), ("native", 0)])
def test_a_step_is_so_many_products_of_matrices_and_allocates_nothing(small, name, products):
    run = Run.start(SMALL, (28, 28))
    execute = engine(name, [run])
    execute(small[0], [Plan(0)], 1)
    with Tape() as tape:
        execute._execute(small[0].images)
    found = sum(name in ("mm", "bmm", "addmm") for name in tape.names())
    assert found == products * math.ceil(600 / 128)
    held = {t.untyped_storage().data_ptr() for t in everything(execute)}
    made = [
        (func, result.shape)
        for func, _, _, result in tape.calls
        if isinstance(result, torch.Tensor)
        and result.numel() > 2
        and result.untyped_storage().data_ptr() not in held
    ]
    assert made == []


def everything(execute):
    steps = execute.steps.values()
    owners = [execute, *steps, *(step.losses for step in steps)]
    owners += [step.through_W4 for step in steps if hasattr(step, "through_W4")]
    found = [value for owner in owners for value in vars(owner).values()]
    return [leaf for leaf in tree_leaves(found) if isinstance(leaf, torch.Tensor)]


@pytest.mark.parametrize("name", ["analytic", "native", "graph"])
def test_the_host_waits_once_per_epoch(small, taped, name):
    run = Run.start(SMALL, (28, 28))
    execute = engine(name, [run])
    execute(small[0], [Plan(0)], 1)
    with Tape() as tape:
        execute(small[0], [Plan(0)], 2)
    assert tape.names().count("_local_scalar_dense") == 1


def test_a_graph_holds_no_random_numbers_and_no_wait(small, taped):
    run = Run.start(SMALL, (28, 28))
    engine("graph", [run])(small[0], [Plan(0)], 1)
    (tape,) = taped
    assert tape.names().count("_fused_adam_") == math.ceil(600 / 128)
    random = {"rand", "randn", "normal_", "randperm", "bernoulli_", "uniform_"}
    assert not random & set(tape.names())
    assert "_local_scalar_dense" not in tape.names()


@pytest.fixture(params=DEVICES)
def graphs(request, monkeypatch):
    """The device, and the graphs that are recorded there; on the CPU they are tapes."""
    if request.param == "cpu":
        return torch.device("cpu"), request.getfixturevalue("taped")
    found, kind = [], torch.cuda.CUDAGraph

    def new():
        found.append(kind())
        return found[-1]

    monkeypatch.setattr(torch.cuda, "CUDAGraph", new)
    return torch.device("cuda"), found


def test_a_graph_is_recorded_again_where_what_it_holds_has_changed(small, graphs):
    """A rate may be a tensor that its schedule changes in place, and images lie at any stride."""
    device, recorded = graphs
    run, other = (Run.start(SMALL, (28, 28), device=device) for _ in range(2))
    execute, expected = engine("graph", [run]), engine("eager", [other])
    whole = small[0].to(device)
    fewer, second = (
        ImageSet(whole.images[part], whole.labels[part], (28, 28))
        for part in (slice(300), slice(None, None, 2))
    )
    for each in run, other:
        each.optimizer.param_groups[0]["lr"] = torch.tensor(1e-3)
    for epoch, (data, rate, count) in enumerate(
        [
            (whole, 1e-3, 1),
            (whole, 1e-3, 1),
            (fewer, 1e-3, 2),
            (second, 1e-3, 3),
            (second, 1e-2, 4),
        ],
        1,
    ):
        for each in run, other:
            each.optimizer.param_groups[0]["lr"].fill_(rate)
        (loss,) = execute(data, [Plan(0)], epoch)
        assert loss == pytest.approx(expected(data, [Plan(0)], epoch)[0], rel=1e-11)
        assert len(recorded) == count


def test_a_graph_is_recorded_on_the_device_of_the_images(small, taped, monkeypatch):
    """Another's stream would record nothing of what is computed there."""
    current, record = [], torch.cuda.graph

    @contextlib.contextmanager
    def switch(device):
        current.append(device)
        yield
        current.pop()

    def watched(tape):
        assert current == [small[0].images.device]
        return record(tape)

    monkeypatch.setattr(torch.cuda, "device", switch)
    monkeypatch.setattr(torch.cuda, "graph", watched)
    engine("graph", [Run.start(SMALL, (28, 28))])(small[0], [Plan(0)], 1)
    assert taped
    assert not current


def test_a_graph_whose_recording_was_interrupted_is_never_replayed(small, graphs, monkeypatch):
    """Not even where all is as it was for the graph before."""
    device, recorded = graphs
    run, other = (Run.start(SMALL, (28, 28), device=device) for _ in range(2))
    execute, expected = engine("graph", [run]), engine("eager", [other])
    data = small[0].to(device)
    for engine_of_one in execute, expected:
        engine_of_one(data, [Plan(0)], 1)

    def interrupt(self):
        if len(recorded) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(step.Step, "_leave", interrupt)
        run.optimizer.param_groups[0]["lr"] = 1.0
        with pytest.raises(KeyboardInterrupt):
            execute(data, [Plan(0)], 2)
    run.optimizer.param_groups[0]["lr"] = SMALL.learning_rate
    (loss,) = execute(data, [Plan(0)], 2)
    assert loss == pytest.approx(expected(data, [Plan(0)], 2)[0], rel=1e-11)


@pytest.mark.parametrize("name", ["analytic", "native", "graph"])
def test_an_epoch_that_is_interrupted_changes_nothing(small, taped, monkeypatch, name):
    run = Run.start(SMALL, (28, 28))
    before = {key: value.clone() for key, value in run.model.state_dict().items()}

    def interrupt(seen):
        if seen == 3 * 128:
            raise KeyboardInterrupt

    execute = engine(name, [run])
    monkeypatch.setattr(execute, "progress", interrupt)
    with pytest.raises(KeyboardInterrupt):
        execute(small[0], [Plan(0)], 1)
    assert all(value.equal(before[key]) for key, value in run.model.state_dict().items())


def test_an_optimiser_that_is_loaded_between_epochs_is_taken_up(small):
    run = Run.start(SMALL, (28, 28))
    execute = engine("analytic", [run])
    execute(small[0], [Plan(0)], 1)
    kept = {key: value.clone() for key, value in state(run).items()}
    moments = run.optimizer.state_dict()
    moments = {
        **moments,
        "state": {k: {n: t.clone() for n, t in v.items()} for k, v in moments["state"].items()},
    }
    execute(small[0], [Plan(0)], 2)
    expected = {key: value.clone() for key, value in state(run).items()}
    run.model.load_state_dict({k: v for k, v in kept.items() if not k.startswith("adam.")})
    run.optimizer.load_state_dict(moments)
    execute(small[0], [Plan(0)], 2)
    assert all(value.equal(expected[key]) for key, value in state(run).items())


def _changed(change):
    run = Run.start(SMALL, (28, 28))
    change(run)
    return run


def _hook(run):
    run.model.mu.register_forward_hook(lambda *_: None)


OBJECTIONS = {
    "not the textbook's VAE .Autoencoder": lambda r: setattr(
        r, "model", Autoencoder(hidden_dim=32, latent_dim=3)
    ),
    "not the textbook's VAE .VAE": lambda r: setattr(r.model.encoder, "1", nn.Tanh()),
    "not Bernoulli .Gaussian": lambda r: setattr(r.model, "likelihood", Gaussian()),
    "has hooks": _hook,
    "frozen": lambda r: r.model.mu.weight.requires_grad_(False),
    "not Adam": lambda r: setattr(
        r, "optimizer", torch.optim.AdamW(r.model.parameters(), fused=True)
    ),
    "the optimiser is not Adam$": lambda r: setattr(
        r, "optimizer", torch.optim.Adam(r.model.parameters(), amsgrad=True)
    ),
    "not the model's parameters": lambda r: setattr(
        r, "optimizer", torch.optim.Adam(r.model.mu.parameters())
    ),
}


@pytest.mark.parametrize("reason", OBJECTIONS)
def test_what_the_formulas_do_not_hold_for_is_left_to_the_eager_engine(reason):
    run = _changed(OBJECTIONS[reason])
    if "Autoencoder" in reason:
        run.optimizer = torch.optim.Adam(run.model.parameters())
    assert choose("auto", run.model, run.optimizer) == "eager"
    assert choose("eager", run.model, run.optimizer) == "eager"
    with pytest.raises(InputError, match=reason.removesuffix("$")):
        choose("analytic", run.model, run.optimizer)


def test_a_name_that_is_no_engine_and_a_graph_without_a_gpu(user):
    model = VAE()
    optimizer = torch.optim.Adam(model.parameters())
    with pytest.raises(
        InputError, match="^engine must be one of auto, eager, analytic, native, graph"
    ):
        choose("jit", model, optimizer)
    with pytest.raises(InputError, match="^engine must run on the CPU; got graph"):
        choose("graph", model, optimizer)
    assert choose("auto", model, optimizer) == "native"


@pytest.mark.parametrize("name", ["eager", "analytic", "native"])
def test_seeds_together_are_each_what_they_are_alone(small, name):
    recipes = [dataclasses.replace(SMALL, seed=seed) for seed in (3, 0, 5)]
    together = [Run.start(recipe, (28, 28), engine=name) for recipe in recipes]
    alone = [Run.start(recipe, (28, 28), engine="eager") for recipe in recipes]
    found = list(fit_together(together, *small, epochs=2))
    for n, run in enumerate(alone):
        for epoch, record in enumerate(fit(run, *small, epochs=2)):
            ours = found[epoch][n]
            assert ours.train_loss == pytest.approx(record.train_loss, rel=1e-10)
            assert ours.test_loss == pytest.approx(record.test_loss, rel=1e-10)
            assert ours.seconds == found[epoch][0].seconds
        assert_equal_states(together[n], run, ulp=1e6)
        assert together[n].epoch == 2


@pytest.mark.parametrize(
    "place", [place for place in PLACES if place[0] != "native"], indirect=True, ids="-".join
)
def test_seeds_in_one_program_are_each_what_they_are_alone(small, place):
    name, device = place
    data, recipes = small[0].to(device), [dataclasses.replace(SMALL, seed=n) for n in (3, 0, 5)]
    together, alone = (
        [Run.start(recipe, (28, 28), device=device) for recipe in recipes] for _ in range(2)
    )
    execute = engine(name, together)
    one_by_one = [engine("eager", [run]) for run in alone]
    for epoch in (1, 2):
        losses = execute(data, [run.plan for run in together], epoch)
        expected = [
            execute(data, [run.plan], epoch)[0]
            for execute, run in zip(one_by_one, alone, strict=True)
        ]
        assert losses == pytest.approx(expected, rel=1e-10)
    for ours, theirs in zip(together, alone, strict=True):
        assert_equal_states(ours, theirs, ulp=1e6)


@pytest.mark.parametrize(
    "change", [{"beta": 2.0}, {"hidden_dim": 31}, {"batch_size": 60}, {"learning_rate": 1e-2}]
)
def test_only_seeds_of_one_recipe_train_together(small, change):
    runs = [Run.start(dataclasses.replace(SMALL, **c), (28, 28)) for c in ({"seed": 1}, change)]
    with pytest.raises(InputError, match="^runs must share recipe, epoch and engine; got 2 kinds"):
        list(fit_together(runs, *small, epochs=1))


def test_an_engine_that_is_asked_for_is_kept(small, tmp_path):
    run = Run.start(SMALL, (28, 28), engine="eager")
    list(fit(run, *small, epochs=1))
    run.save(tmp_path / "c.safetensors")
    assert run.environment.engine == "eager"
    again = Run.load(tmp_path / "c.safetensors")
    assert (again.environment.engine, again.here.engine) == ("eager", "native")
    with pytest.raises(InputError, match="engine must run on the CPU"):
        Run.load(tmp_path / "c.safetensors", engine="graph")


PAGE_FAULTS = """
import resource, torch
from vae_ref.support.platform import constants_in_memory

def page_faults(function, x, out):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    function(x, out=out)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

constants_in_memory()
ones, minus_zeros, out = torch.full((16,), 1.0), torch.full((16,), -0.0), torch.empty(16)
for function in (torch.log1p, torch.expm1):
    for _ in range(3):
        page_faults(function, ones, out)
    print(page_faults(function, minus_zeros, out))
"""


def test_the_constants_of_log1p_come_into_memory():
    """Then a -0 needs no new page; with AVX-512, without the call, log1p needs one."""
    command = [sys.executable, "-c", PAGE_FAULTS]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["0", "0"]


@pytest.mark.parametrize(
    "call",
    [
        lambda data: evaluate(VAE(), data, torch.zeros(5, 20)),
        lambda data: log_likelihood(VAE(), data, samples=2, plan=Plan()),
        lambda data: list(fit(Run.start(SMALL, (28, 28)), data, data, epochs=1)),
    ],
)
def test_whatever_needs_log1p_brings_its_constants_into_memory(call):
    constants_in_memory.cache_clear()
    call(glyphs(5))
    assert constants_in_memory.cache_info().misses
