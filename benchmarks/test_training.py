"""The parts of a training, next to the textbook script, a fair loop, a JAX scan and the floor.

A time is written with its loss, if it has one: speed without the same loss does not count.
"""

import os

import pytest
import torch
from torch.utils.data import DataLoader, default_collate

from benchmarks.contestants import fair, floor, textbook
from vae_ref import VAE, Recipe, Run, evaluate, fit, glyphs

BATCH, LATENT = 128, 20
STEPS = 100
EPOCHS = {"glyphs": 3, "mnist": 1}  # measured, after one that warms up
SIZE = 50 * BATCH + 96  # the last batch is short, like that of MNIST


@pytest.fixture(scope="module")
def digits():
    return glyphs(SIZE)


@pytest.fixture
def batch(digits, device):
    """A batch of images of the textbook's size."""
    return digits.batch(torch.arange(BATCH)).to(device)


@pytest.mark.parametrize("contestant", ["vae_ref", "textbook"])
def test_forward(measure, device, batch, contestant):
    model = {"vae_ref": VAE, "textbook": textbook.VAE}[contestant]().to(device)
    with torch.no_grad():
        measure("forward", model, batch)


def our_step(device):
    model = VAE().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def step(x):
        loss = model.terms(x).loss().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def fair_step(device):
    model = fair.VAE().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    return lambda x: fair.step(model, optimizer, x, torch.randn(BATCH, LATENT, device=device))


def textbook_step(device):
    model = textbook.VAE().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step(x):
        optimizer.zero_grad()
        recon_x, mu, logvar = model(x)
        loss = textbook.loss_function(recon_x, x, mu, logvar)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def floor_step(device):
    parts = floor.products(BATCH, device=device)
    repeat = floor.recorded(lambda: floor.step(parts), device)
    return lambda _: repeat()


STEP = {"vae_ref": our_step, "fair": fair_step, "textbook": textbook_step, "floor": floor_step}


@pytest.mark.parametrize("contestant", STEP)
def test_step(measure, benchmark, device, batch, contestant):
    """The eager step, on one batch with fresh noise. Other engines have epochs, but no step."""
    loss = measure("step", STEP[contestant](device), batch, rounds=STEPS, warmup=STEPS // 10)
    if loss is not None:
        benchmark.extra_info["loss"] = float(loss) / BATCH


def our_epoch(data, device):
    run = Run.start(Recipe(), data.size, device=device)
    records = fit(run, data, glyphs(1), epochs=1000)
    return lambda: next(records).train_loss


def fair_epoch(data, device):
    images = data.images.to(device).float() / 255
    model = fair.VAE().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    return lambda: fair.train(model, optimizer, images)


def textbook_epoch(data, device):
    loader = DataLoader(data, batch_size=BATCH, shuffle=True)
    model = textbook.VAE().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return lambda: textbook.train(model, optimizer, loader, epoch=1)


def scan_epoch(data, device):
    jax = pytest.importorskip("jax", reason="pip install -e '.[rivals]'")
    from benchmarks.contestants import scan

    try:
        place = jax.devices(device.type)[0]
    except RuntimeError as error:
        pytest.skip(f"jax has no {device.type}: {error}")
    images, key = jax.numpy.asarray(data.images.numpy()) / 255.0, jax.random.key(0)
    state, images, key = jax.device_put((scan.start(key), images, key), place)

    def epoch():
        nonlocal state, key
        key, own = jax.random.split(key)
        state, loss = scan.train(state, images, own)
        return float(loss)

    return epoch


def floor_epoch(data, device):
    return floor.epoch(len(data), device=device)


EPOCH = {
    "vae_ref": our_epoch,
    "fair": fair_epoch,
    "textbook": textbook_epoch,
    "scan": scan_epoch,
    "floor": floor_epoch,
}


@pytest.fixture(params=EPOCHS)
def dataset(request, digits):
    """A name and a training set; MNIST only if VAE_REF_DATA names its place."""
    if request.param == "glyphs":
        return "glyphs", digits
    if "VAE_REF_DATA" not in os.environ:
        pytest.skip("VAE_REF_DATA does not name MNIST")
    return "mnist", request.getfixturevalue("mnist_sets")[0]


@pytest.mark.parametrize("contestant", EPOCH)
def test_epoch(measure, benchmark, device, dataset, contestant):
    name, data = dataset
    epoch = EPOCH[contestant](data, device)
    loss = measure(f"epoch of {name}", epoch, rounds=EPOCHS[name], warmup=1)
    if loss is not None:
        benchmark.extra_info["loss"] = loss


@pytest.mark.parametrize("contestant", ["vae_ref", "fair", "textbook"])
def test_evaluation(measure, benchmark, device, contestant):
    """Of 1000 images, with models that were not trained."""
    data = glyphs(1000, seed=1)
    if contestant == "vae_ref":
        data, eps = data.to(device), torch.randn(len(data), LATENT)
        loss = sum(measure("evaluation", evaluate, VAE().to(device), data, eps))
    elif contestant == "fair":
        images = data.images.to(device).float() / 255
        loss = measure("evaluation", fair.test, fair.VAE().to(device), images)
    else:
        loader = DataLoader(data, batch_size=BATCH)
        loss = measure("evaluation", textbook.test, textbook.VAE().to(device), loader)
    benchmark.extra_info["loss"] = loss


@pytest.mark.parametrize("contestant", ["vae_ref", "fair", "textbook"])
def test_data_to_batch(measure, device, digits, contestant):
    """From bytes, from floats in memory, and by a DataLoader's collation."""
    index = torch.randperm(len(digits))[:BATCH]
    resident, there = digits.to(device), index.to(device)
    floats = resident.images.float() / 255
    batch = {
        "vae_ref": lambda: resident.batch(there),
        "fair": lambda: floats.index_select(0, there),
        "textbook": lambda: default_collate([digits[i] for i in index])[0].to(device),
    }[contestant]
    torch.testing.assert_close(measure("data to batch", batch), floats[there])
