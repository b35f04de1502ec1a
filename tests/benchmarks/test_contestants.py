"""The contestants agree: the same weights, images and noise give the same results."""

import contextlib
from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.contestants import fair, floor, textbook
from vae_ref import VAE, Recipe, Run, glyphs
from vae_ref.engines.analytic import Analytic

COUNT, STEPS = 8, 3
TEXTBOOK = {
    "encoder.0": "fc1",
    "mu": "fc21",
    "logvar": "fc22",
    "decoder.0": "fc3",
    "decoder.2": "fc4",
}


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.rand(COUNT, 784, generator=generator), torch.randn(COUNT, 20, generator=generator))
        for _ in range(STEPS)
    ]


@pytest.fixture
def weights():
    torch.manual_seed(0)
    return VAE().state_dict()


@pytest.fixture
def reference(weights, batches):
    """The losses of some steps of vae_ref, and the weights after these steps."""
    model = VAE()
    model.load_state_dict(weights)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for x, eps in batches:
        loss = model.terms(x, eps).loss().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, model.state_dict()


def merged(weights):
    """The layers of a contestant that computes both heads at once."""
    heads = {
        kind: torch.cat([weights[f"mu.{kind}"], weights[f"logvar.{kind}"]])
        for kind in ("weight", "bias")
    }
    return {
        f"{layer}.{kind}": heads[kind] if layer == "heads" else weights[f"{layer}.{kind}"]
        for layer in ("encoder.0", "heads", "decoder.0", "decoder.2")
        for kind in ("weight", "bias")
    }


def assert_agree(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-7, atol=1e-9)


def test_the_textbook_agrees(reference, weights, batches, monkeypatch, capsys):
    noise = iter([eps for _, eps in batches])
    monkeypatch.setattr(torch, "randn_like", lambda _: next(noise))
    names = {f"{a}.{k}": f"{b}.{k}" for a, b in TEXTBOOK.items() for k in ("weight", "bias")}
    model = textbook.VAE()
    model.load_state_dict({names[name]: value for name, value in weights.items()})
    images = torch.cat([x for x, _ in batches]).view(-1, 1, 28, 28)
    loader = DataLoader(TensorDataset(images, torch.zeros(len(images))), batch_size=COUNT)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    train_loss = textbook.train(model, optimizer, loader, epoch=1)
    losses, expected = reference
    assert train_loss == pytest.approx(sum(losses) / len(images), rel=1e-9)
    assert_agree(model.state_dict(), {names[name]: value for name, value in expected.items()})
    assert "Train epoch: 1" in capsys.readouterr().err


def test_the_fair_loop_agrees(reference, weights, batches):
    names = {"heads": "encoder.2"}
    model = fair.VAE()

    def own(state):
        pairs = ((name.rpartition("."), value) for name, value in merged(state).items())
        return {f"{names.get(layer, layer)}.{kind}": value for (layer, _, kind), value in pairs}

    model.load_state_dict(own(weights))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    found = [fair.step(model, optimizer, x, eps).item() for x, eps in batches]
    losses, expected = reference
    assert found == pytest.approx(losses, rel=1e-9)
    assert_agree(model.state_dict(), own(expected))


@pytest.fixture
def scan():
    jax = pytest.importorskip("jax")
    from benchmarks.contestants import scan

    with jax.enable_x64(True):
        yield scan


@pytest.mark.slow
def test_the_scan_agrees(scan, reference, weights, batches):
    import jax

    own = {"encoder.0": "fc1", "heads": "heads", "decoder.0": "fc3", "decoder.2": "fc4"}

    def numbers(state):
        layers = merged(state)
        return {
            name: tuple(layers[f"{layer}.{kind}"].t().numpy() for kind in ("weight", "bias"))
            for layer, name in own.items()
        }

    state = scan.begin(jax.tree.map(jax.numpy.asarray, numbers(weights)))
    step, found = jax.jit(scan.step), []
    for x, eps in batches:
        state, loss = step(state, x.numpy(), eps.numpy())
        found.append(float(loss))
    losses, expected = reference
    assert found == pytest.approx(losses, rel=1e-9)
    for name, layer in numbers(expected).items():
        for ours, theirs in zip(layer, state.weights[name], strict=True):
            torch.testing.assert_close(
                torch.tensor(theirs.tolist()), torch.tensor(ours), rtol=1e-7, atol=1e-9
            )


@pytest.mark.slow
def test_the_products_of_the_scan_are_of_single_precision(scan, batches):
    """By default, XLA keeps 10 bits of the factors on a GPU."""
    import jax

    (x, eps), state = batches[0], scan.start(jax.random.key(0))
    text = jax.jit(scan.step).lower(state, x.numpy(), eps.numpy()).as_text()
    assert text.count("dot_general") == text.count("precision = [HIGHEST, HIGHEST]") == 11


@pytest.mark.slow
def test_the_scan_trains_on_the_short_last_batch_too(scan):
    import jax

    images = jax.numpy.zeros((300, 784))
    state, loss = scan.train(scan.start(jax.random.key(0)), images, jax.random.key(1))
    assert int(state.steps) == 3  # 128 + 128 + 44
    assert 400 < float(loss) < 784 * 0.8  # log 2 per pixel before the first step


@pytest.mark.slow
def test_the_scan_starts_from_torchs_distribution(scan, weights):
    import jax

    state = scan.start(jax.random.key(0))
    torchs = {"fc1": "encoder.0", "fc3": "decoder.0", "fc4": "decoder.2"}
    for name, layer in torchs.items():
        weight, bias = (abs(part).max().item() for part in state.weights[name])
        reach = state.weights[name][0].shape[0] ** -0.5
        assert weight == pytest.approx(weights[f"{layer}.weight"].abs().max().item(), rel=0.01)
        assert max(weight, bias) <= reach


class Products(TorchDispatchMode):
    """Count the shapes of matrix products."""

    def __init__(self):
        super().__init__()
        self.operands = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm):
            self.operands[tuple((*a.shape, *a.stride()) for a in args[-2:])] += 1
        return func(*args, **(kwargs or {}))


def test_the_floor_has_the_products_of_our_step(monkeypatch):
    """In the same layouts too, or it would be no floor. (Two threads would divide a product.)"""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    run = Run.start(Recipe(dataset="glyphs", batch_size=COUNT), (28, 28))
    engine = Analytic([run.model], [run.optimizer], batch_size=COUNT, beta=1.0)
    with Products() as of_step:
        engine(glyphs(COUNT), [run.plan], 1)
    with Products() as of_floor:
        floor.step(floor.products(COUNT))
    assert of_floor.operands == of_step.operands
    assert of_floor.operands.total() == 11


def test_the_floor_has_the_operations_of_our_step(batches):
    model, (x, eps) = VAE(), batches[0]
    with FlopCounterMode(display=False) as of_step:
        model.terms(x, eps).loss().sum().backward()
    with FlopCounterMode(display=False) as of_floor:
        floor.step(floor.products(len(x)))
    assert of_floor.get_total_flops() == of_step.get_total_flops()


def test_the_floor_is_the_same_again(device):
    parts = floor.products(96, device=device)
    again = floor.recorded(lambda: floor.step(parts), device)
    floor.step(parts)
    expected = [out.clone() for _, _, out in parts]
    for _, _, out in parts:
        out.zero_()
    again()
    assert all(out.equal(before) for (_, _, out), before in zip(parts, expected, strict=True))


def test_on_a_gpu_the_floor_is_recorded_once(monkeypatch):
    """Launched one by one, the products would wait for the host, which makes no floor."""
    seen = []

    class Graph:
        def replay(self):
            seen.append("replayed")

    @contextlib.contextmanager
    def record(graph):
        seen.append("from here")
        yield
        seen.append("to here")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", record)
    again = floor.recorded(lambda: seen.append("computed"), "cuda")
    assert seen == ["computed", "from here", "computed", "to here"]
    again()
    assert seen[4:] == ["replayed"]


def test_an_epoch_of_the_floor_has_a_short_last_step():
    with Products() as of_epoch:
        floor.epoch(300)()
    assert of_epoch.operands.total() == 3 * 11
    short = {shapes for shapes in of_epoch.operands if any(44 in shape for shape in shapes)}
    assert sum(of_epoch.operands[shapes] for shapes in short) == 11


def test_the_floor_computes_without_denormal_numbers():
    torch.set_default_dtype(torch.float32)
    parts = floor.products(96)
    for _ in range(2):
        floor.step(parts)
    smallest = torch.finfo(torch.float32).tiny
    for _, _, out in parts:
        assert out.isfinite().all()
        assert (out.abs() >= smallest).float().mean() > 0.99


@pytest.mark.parametrize("model", [fair.VAE, textbook.VAE])
def test_all_models_have_the_same_number_of_parameters(model):
    assert sum(p.numel() for p in model().parameters()) == sum(
        p.numel() for p in VAE().parameters()
    )
