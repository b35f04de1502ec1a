"""The live page computes what torch computes, with the weights that were measured."""

import json
import subprocess

import pytest
import torch

from benchmarks import live
from vae_ref import Recipe, Run, glyphs, kl_to_standard_normal, reparameterize

PAGE = live.ROOT / "docs" / "_static" / "live.js"
NODE = """
const [page, data, points] = process.argv.slice(1);
require(data);
const live = require(page);
const models = [...LIVE.vaes, LIVE.autoencoder].map(live.unpack);
console.log(JSON.stringify(models.map((model) => ({
    images: JSON.parse(points).map((z) => [...live.decode(model, z)]),
    divergences: LIVE.labels.map((_, n) => live.divergence(live.cloud(model, n))),
    draws: LIVE.labels.map((_, n) => live.reparameterize(live.cloud(model, n), [1, -2])),
    fitted: live.fitted(model),
}))));
"""
POINTS = [[0.0, 0.0], [1.0, -0.5], [-2.5, 3.0], [12.0, -9.0]]


def content(asset):
    return json.loads(asset.read_text().removeprefix(live.HEAD).rstrip(";\n"))


def models(asset):
    found = content(asset)
    return [live.unpack(packed) for packed in (*found["vaes"], found["autoencoder"])]


def computed(asset):
    """Return what the page computes of each model, in node."""
    words = ["node", "-e", NODE, str(PAGE), str(asset), json.dumps(POINTS)]
    return json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The command's two files, from a minute training on glyphs."""
    folder = tmp_path_factory.mktemp("live")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live, "RESULTS", folder / "live.json")
        patch.setattr(live, "ASSET", folder / "live_data.js")
        patch.setattr(live, "WEIGHTS", (1, 10))
        for name, value in {"HIDDEN": 32, "EPOCHS": 2, "SEEDS": 2, "CODES": 100}.items():
            patch.setattr(live, name, value)
        live.measure(glyphs(1000), glyphs(200, seed=1))
    return folder


def test_the_page_computes_what_torch_computes():
    """The same weights give the same numbers, up to the rounding of float32."""
    found = computed(live.ASSET)
    assert len(found) == len(live.WEIGHTS) + 1
    for page, (decoder, codes) in zip(found, models(live.ASSET), strict=True):
        images = torch.sigmoid(live.logits(decoder, torch.tensor(POINTS).float()))
        near = {"atol": 2e-6, "rtol": 1e-5}
        torch.testing.assert_close(torch.tensor(page["images"]).float(), images, **near)
        mu, sigma = (values.double() for values in codes)
        law = page["fitted"]
        torch.testing.assert_close(torch.tensor(law["mu"]), mu.mean(0), **near)
        torch.testing.assert_close(torch.tensor(law["sigma"]), mu.std(0, correction=0), **near)
        eps = torch.tensor([1.0, -2.0]).expand_as(mu)
        logvar = 2 * sigma.log()
        drawn = reparameterize(mu, logvar, eps)
        torch.testing.assert_close(torch.tensor(page["draws"]), drawn, **near)
        if sigma.any():
            kl = kl_to_standard_normal(mu, logvar)
            torch.testing.assert_close(torch.tensor(page["divergences"]), kl, **near)


def test_8_bits_change_an_image_by_no_more_than_half_a_step_of_each_weight():
    """In logits, by half the scale of the row for each unit of the hidden layer's output."""
    model = Run.start(Recipe(latent_dim=2, hidden_dim=64), (28, 28)).model.requires_grad_(False)
    x = glyphs(10).batch(torch.arange(10), torch.float64)
    (exact, codes), _ = live.turned(model, x, None)
    coarse, _ = live.unpack(live.pack(exact, codes))
    z = torch.tensor(POINTS)
    hidden = (z @ exact.first.T + exact.inner).relu()
    scale = exact.large.abs().amax(1) / 127
    bound = hidden.sum(1, keepdim=True) * scale / 2 + 1e-5
    coarse = live.Decoder(*(part.double() for part in coarse))
    error = (live.logits(coarse, z) - model.decode_logits(z)).abs()
    assert (error <= bound).all()
    assert error.max() > bound.min() / 100


def test_the_copies_cost_what_the_result_says(mnist_sets):
    """In 8 bits they cost at most 0.1 nats more than exactly."""
    test = mnist_sets[1]
    found, rows = content(live.ASSET), json.loads(live.RESULTS.read_text())["models"]
    x = test.batch(torch.arange(live.CODES), torch.float32)
    for row, (decoder, codes) in zip(rows, models(live.ASSET), strict=True):
        model = Recipe().build(784)
        cost = live.cost(model, x, decoder, codes)
        assert cost == pytest.approx(row["copies_in_8_bits"], abs=1e-3)
        assert abs(cost - row["copies"]) < 0.1
        assert float(codes.mu.std()) == pytest.approx(row["spread"], abs=1e-3)
        assert float(codes.sigma.median()) == pytest.approx(row["sigma"], abs=1e-3)
    assert found["labels"] == test.labels[: live.CODES].tolist()
    images = live.tensor(found["images"], torch.uint8).reshape(-1, 784)
    assert torch.equal(images, test.images[found["chosen"]].flatten(1))


def test_the_curve_is_the_measured_one():
    rows = json.loads(live.RESULTS.read_text())["models"]
    curve = [
        {"beta": row["beta"]} | {key: row[key]["mean"] for key in ("reconstruction", "kl")}
        for row in rows
        if row["model"] == "vae"
    ]
    assert content(live.ASSET)["curve"] == curve
    assert [point["beta"] for point in curve] == list(live.WEIGHTS)
    assert live.ASSET.stat().st_size < 5e6


def test_turned_axes_are_of_the_same_model():
    model = Run.start(Recipe(latent_dim=2, hidden_dim=64), (28, 28)).model.requires_grad_(False)
    x = glyphs(20).batch(torch.arange(20), torch.float64)
    mu, logvar = model.encode(x)
    (decoder, codes), after = live.turned(model, x, mu[:, [1, 0]] * torch.tensor([-1.0, 1.0]))
    assert torch.equal(after, codes.mu)
    assert torch.equal(codes.mu, mu[:, [1, 0]] * torch.tensor([-1.0, 1.0]))
    assert torch.equal(codes.sigma, torch.exp(logvar / 2)[:, [1, 0]])
    torch.testing.assert_close(live.logits(decoder, codes.mu), model.decode_logits(mu))


def test_the_command_measures_every_seed_and_packs_the_first(made):
    result = json.loads((made / "live.json").read_text())
    assert [(row["model"], row["beta"]) for row in result["models"]] == [
        *(("vae", 1), ("vae", 10)),
        ("autoencoder", 1),
    ]
    assert {"commit", "torch", "date"} <= result.keys()
    for row in result["models"]:
        one, two = row["loss"]["seeds"]
        assert one != two
        assert row["loss"]["mean"] == pytest.approx((one + two) / 2, abs=1e-3)
        pairs = zip(row["reconstruction"]["seeds"], row["kl"]["seeds"], strict=True)
        assert row["loss"]["seeds"] == pytest.approx([r + row["beta"] * k for r, k in pairs], 1e-5)
        assert abs(row["copies"] - row["copies_in_8_bits"]) < 0.1
    assert len(computed(made / "live_data.js")) == 3
