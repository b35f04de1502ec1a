"""Train the models of the guide's live page, and pack them for a browser.

    python -m benchmarks.live --data DIR

The command trains VAEs with two latents and several weights of the divergence, and an autoencoder
with the same networks, each with several seeds. It writes benchmarks/results/live.json: what the
test images cost, for every seed, and what made it. And it writes docs/_static/live_data.js, which
the page loads: of one seed, the decoders and the codes of some test images.

The large matrix of a decoder is stored in 8 bits, with a scale for each of its rows; all else in
32. The result file says what this costs.
"""

import argparse
import base64
import itertools
import json
import statistics
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vae_ref import VAE, ImageSet, LatentModel, Recipe, Record, Run, fit_together, mnist
from vae_ref.support import provenance
from vae_ref.support.denormals import denormals_flushed

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "live.json"
ASSET = ROOT / "docs" / "_static" / "live_data.js"

WEIGHTS = (0.1, 0.3, 1, 3, 10, 30)
HIDDEN, EPOCHS, SEEDS = 128, 10, 3
CODES = 500
"""How many test images have their codes in the page: the first ones."""
SHOWN = 2
"""How many images of each digit can be chosen there."""

HEAD = "globalThis.LIVE = "


class Codes(NamedTuple):
    """The centres and the widths of clouds; those of an autoencoder have no width."""

    mu: Tensor
    sigma: Tensor


class Decoder(NamedTuple):
    """A decoder in the page: logits = large relu(first z + inner) + outer."""

    first: Tensor
    inner: Tensor
    large: Tensor
    outer: Tensor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="data", help="a torchvision root")
    chosen = parser.parse_args()
    with denormals_flushed():
        measure(*(mnist(chosen.data, train=part) for part in (True, False)))


def measure(train: ImageSet, test: ImageSet) -> None:
    recipes = [Recipe(beta=weight, latent_dim=2, hidden_dim=HIDDEN) for weight in WEIGHTS]
    recipes.append(Recipe(model="autoencoder", latent_dim=2, hidden_dim=HIDDEN))
    x = test.batch(torch.arange(CODES), torch.get_default_dtype())
    rows, packed, before = [], [], None
    for recipe in recipes:
        model, records = trained(recipe, train, test)
        found, before = turned(model, x, before)
        packed.append({"beta": recipe.beta, **pack(*found)})
        row = {
            "model": recipe.model,
            "beta": recipe.beta,
            "reconstruction": described(record.test_reconstruction for record in records),
            "kl": described(record.test_kl for record in records),
            "loss": described(record.test_loss for record in records),
            "copies": cost(model, x, *found),
            "copies_in_8_bits": cost(model, x, *unpack(packed[-1])),
            "spread": round(float(found[1].mu.std()), 4),
            "sigma": round(float(found[1].sigma.median()), 4),
        }
        rows.append(row)
        print(json.dumps(row), flush=True)
    labels = test.labels[:CODES].tolist()
    places = [[n for n, label in enumerate(labels) if label == digit] for digit in range(10)]
    chosen = [n for found in places for n in found[:SHOWN]]
    result = {
        "network": f"784-{HIDDEN}-2, Bernoulli",
        "hidden": HIDDEN,
        "epochs": EPOCHS,
        "seeds": SEEDS,
        "codes": CODES,
        "models": rows,
        **provenance.record(threads=torch.get_num_threads()),
    }
    *vaes, autoencoder = packed
    content = {
        "vaes": vaes,
        "autoencoder": autoencoder,
        "curve": [
            {"beta": row["beta"], **{key: row[key]["mean"] for key in ("reconstruction", "kl")}}
            for row in rows[:-1]
        ],
        "labels": labels,
        "chosen": chosen,
        "images": text(test.images[chosen]),
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    ASSET.write_text(f"{HEAD}{json.dumps(content)};\n")


def trained(recipe: Recipe, train: ImageSet, test: ImageSet) -> tuple[LatentModel, list[Record]]:
    """Train all seeds; return the model of the first one, and the last records of all."""
    seeds = [Recipe(**{**vars(recipe), "seed": seed}) for seed in range(SEEDS)]
    runs = [Run.start(one, train.size) for one in seeds]
    *_, records = fit_together(runs, train, test, epochs=EPOCHS)
    return runs[0].model.requires_grad_(False), records


def turned(
    model: LatentModel, x: Tensor, before: Tensor | None
) -> tuple[tuple[Decoder, Codes], Tensor]:
    """Return the decoder and the codes, with the axes turned so that the codes are as before.

    The prior looks the same from all sides, and the clouds lie along the axes. So the axes may
    change places and signs: it is the same model, and a reader sees the weight alone at work.
    """
    mu, sigma = codes(model, x)
    before = mu if before is None else before
    signs = itertools.product((1.0, -1.0), repeat=2)
    ways = [(axes, mu.new_tensor(s)) for s in signs for axes in ([0, 1], [1, 0])]
    axes, sign = max(ways, key=lambda way: float((mu[:, way[0]] * way[1] * before).sum()))
    first, _, last = model.decoder
    decoder = Decoder(first.weight[:, axes] * sign, first.bias, last.weight, last.bias)
    mu = mu[:, axes] * sign
    return (decoder, Codes(mu, sigma[:, axes])), mu


def codes(model: LatentModel, x: Tensor) -> Codes:
    if isinstance(model, VAE):
        mu, logvar = model.encode(x)
        return Codes(mu, torch.exp(logvar / 2))
    mu = model.embed(x)
    return Codes(mu, torch.zeros_like(mu))


def logits(decoder: Decoder, z: Tensor) -> Tensor:
    first, inner, large, outer = decoder
    return (z @ first.T + inner).relu() @ large.T + outer


def cost(model: LatentModel, x: Tensor, decoder: Decoder, found: Codes) -> float:
    """Return the nats that copies from the centres cost on average."""
    nll = model.likelihood.nll(logits(decoder, found.mu), model.flat(x))
    return round(float(nll.double().mean()), 4)


def pack(decoder: Decoder, found: Codes) -> dict[str, str]:
    """Write tensors as text."""
    scale = decoder.large.abs().amax(1) / 127
    steps = (decoder.large / scale[:, None]).round().to(torch.int8)
    return {
        "large": text(steps),
        "scale": text(scale.float()),
        **{name: text(getattr(decoder, name).float()) for name in ("first", "inner", "outer")},
        **{name: text(values.float()) for name, values in found._asdict().items()},
    }


def unpack(packed: dict[str, str]) -> tuple[Decoder, Codes]:
    """Read what `pack` wrote."""
    first, inner, scale, outer, mu, sigma = (
        tensor(packed[name], torch.float32)
        for name in ("first", "inner", "scale", "outer", "mu", "sigma")
    )
    large = tensor(packed["large"], torch.int8).reshape(len(outer), len(inner)) * scale[:, None]
    decoder = Decoder(first.reshape(-1, 2), inner, large, outer)
    return decoder, Codes(mu.reshape(-1, 2), sigma.reshape(-1, 2))


def text(values: Tensor) -> str:
    return base64.b64encode(values.contiguous().numpy().tobytes()).decode()


def tensor(packed: str, dtype: torch.dtype) -> Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(packed)), dtype=dtype)


def described(values) -> dict[str, object]:
    found = list(values)
    return {
        "mean": round(statistics.mean(found), 4),
        "deviation": round(statistics.stdev(found), 4),
        "seeds": [round(value, 4) for value in found],
    }


if __name__ == "__main__":
    main()
