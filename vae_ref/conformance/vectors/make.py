"""Make the files of the vectors: python -m vae_ref.conformance.vectors.make [NAME ...]."""

import sys
from collections.abc import Iterable
from typing import Any

import mpmath
import torch
from torch import Tensor

from vae_ref.conformance.mutants import BANK
from vae_ref.conformance.vectors import network, trained_network
from vae_ref.conformance.vectors.answers import Answer, agreement, answered, answered_again
from vae_ref.conformance.vectors.bugs import caught
from vae_ref.conformance.vectors.cases import CASES, Array
from vae_ref.conformance.vectors.documents import (
    FOLDER,
    VERSION,
    canonical,
    identifier,
    inputs_of,
    outputs_of,
    sha256_of,
    written,
)
from vae_ref.conformance.vectors.network import LAYERS, Given, Numbers
from vae_ref.conformance.vectors.quantities import QUANTITIES
from vae_ref.conformance.vectors.rounded import DIGITS
from vae_ref.support.atomic import replacing

__all__ = ["document", "made", "main"]

AGREE = 40
"""To how many digits the two ways have to agree."""

_BOUND = {
    "formula": "L_K = log 1/K sum_k exp(log w_k), for each example",
    "meanings": {"log_w": "(n, K), the log weights of K draws for each of n examples"},
    "routes": ["the shifted sum of exponentials", "one weight after the other, by log1p"],
    "source": "Burda, Grosse and Salakhutdinov 2016, equation 8",
}


def _head(
    quantity: str, formula: str, meanings: dict[str, str], routes: Iterable[str]
) -> dict[str, Any]:
    return {
        "$schema": "vectors.schema.json",
        "version": VERSION,
        "edition": 1,  # the first that has it; new files name a later one
        "quantity": quantity,
        "formula": formula,
        "inputs": meanings,
        "provenance": {"by": "mpmath", "digits": DIGITS, "routes": list(routes), "agree": AGREE},
    }


def _require_agreement(name: str, first: Answer, second: Answer) -> None:
    if (digits := agreement(first, second)) < AGREE:
        raise ArithmeticError(f"{name}: the two ways agree to {digits:.1f} digits only")


def document(quantity: str) -> dict[str, Any]:
    """Make the file of a quantity."""
    cases, bugs = [], set[str]()
    for case in CASES[quantity]:
        inputs = {name: written(array) for name, array in case.inputs.items()}
        entry: dict[str, Any] = {
            "id": identifier(quantity, inputs),
            "comment": case.comment,
            "flags": [],
            "inputs": inputs,
        }
        if case.refuse:
            entry["refuse"] = case.refuse
        else:
            answer = answered(case)
            _require_agreement(entry["id"], answer, answered_again(case))
            entry["outputs"] = {"value": outputs_of(answer.shape, answer.value)}
            entry["slopes"] = {
                name: outputs_of(case.inputs[name].shape, slopes)
                for name, slopes in answer.slopes.items()
            }
            entry["flags"] = list(caught(quantity, entry))
            bugs.update(entry["flags"])
        cases.append(entry)
    known = QUANTITIES.get(quantity)
    about: Any = _BOUND if known is None else vars(known)
    head = _head(quantity, about["formula"], about["meanings"], about["routes"])
    return head | {"source": about["source"], "bugs": _described(bugs), "cases": cases}


def _described(bugs: Iterable[str]) -> dict[str, Any]:
    return {
        name: {"explanation": BANK[name].explanation, "links": list(BANK[name].links)}
        for name in sorted(bugs)
    }


# The step of a network, and a training.


def _array(rows: list[list[float]]) -> Array:
    return Array((len(rows), len(rows[0])), tuple(n for row in rows for n in row))


def _outputs(numbers: Numbers) -> dict[str, Any]:
    return {
        name: outputs_of((len(rows), len(rows[0])), [n for row in rows for n in row])
        for name, rows in numbers.items()
    }


def _case(
    quantity: str, comment: str, given: Given, weights: dict[str, str] | None = None
) -> dict[str, Any]:
    inputs = {name: written(_array(rows)) for name, rows in given.items()}
    case = {
        "id": identifier(quantity, inputs, weights),
        "comment": comment,
        "flags": [],
        "inputs": inputs,
    }
    return case | ({"weights": weights} if weights else {})


def step_document() -> dict[str, Any]:
    """Make the file of one step of a small network, and of the weights after three."""
    given = network.inputs_of_step()
    names = [name for name in given if name.partition(".")[0] in LAYERS]
    with mpmath.workdps(DIGITS):
        weights = network.as_numbers(given, names)
        x, eps = (network.as_numbers(given, [n])[n] for n in ("x", "eps"))
        found = network.forward(weights, x, eps)
        slopes = network.backward(weights, x, eps, found)
        history, after, steps = [slopes], {}, network.adam(weights)
        next(steps)
        for count in (1, 2, 3):
            moved = steps.send(history[-1])
            after[count] = moved
            history.append(network.backward(moved, x, eps, network.forward(moved, x, eps)))
        _require_slopes(given, slopes)
        again = network.adam_by_sums(weights, history[:3])
        values = [n.value for n in _flat(again)]
        _require_agreement("three steps", Answer((), _flat(after[3]), {}), Answer((), values, {}))
    entry = _case("network-step", "a step, and the weights after one and three of Adam", given)
    entry["outputs"] = _outputs(found) | {
        f"{name} after {count}": values
        for count in (1, 3)
        for name, values in _outputs(after[count]).items()
    }
    entry["slopes"] = _outputs(slopes)
    head = _head(
        "network-step",
        "x -> relu -> (mu, logvar) -> z -> relu -> logits; the loss is the mean of Bernoulli + KL "
        f"over the examples; Adam with rate {network.ADAM['rate']}, betas "
        f"{network.ADAM['beta1']} and {network.ADAM['beta2']}, epsilon "
        f"{network.ADAM['epsilon']}, with the same x and eps in every step",
        {
            "x": "(n, pixels), images",
            "eps": "(n, latents), the noise",
            **{n: "(outputs, inputs), or (1, outputs) for a bias" for n in names},
        },
        [
            "the chain rule, and running averages in Adam",
            "numerical derivatives of the loss, and Adam's averages as sums over all steps",
        ],
    )
    source = "Kingma and Welling 2014; Kingma and Ba 2015, algorithm 1"
    return head | {"source": source, "bugs": {}, "cases": [entry]}


def _flat(numbers: Numbers) -> list[Any]:
    return [n for rows in numbers.values() for row in rows for n in row]


def _require_slopes(given: Given, slopes: Numbers) -> None:
    """Require that the chain rule gives what numerical derivatives of the loss give."""
    for name, rows in slopes.items():
        for i, row in enumerate(rows):
            for j, slope in enumerate(row):
                second = _numerical(given, name, (i, j))
                _require_agreement(name, Answer((), [slope], {}), Answer((), [second], {}))


def _numerical(given: Given, name: str, place: tuple[int, int]) -> Any:
    with mpmath.workdps(3 * DIGITS):
        h, losses = mpmath.mpf(10) ** -DIGITS, []
        for sign in (1, -1):
            moved: Any = {n: [list(row) for row in rows] for n, rows in given.items()}
            i, j = place
            moved[name][i][j] = mpmath.mpf(moved[name][i][j]) + sign * h
            numbers = network.as_numbers(moved, list(moved))
            found = network.forward(numbers, numbers["x"], numbers["eps"])
            losses.append(found["loss"][0][0].value)
        return (losses[0] - losses[1]) / (2 * h)


_ROOM = 20
"""How many times the largest error that was measured is allowed."""


def training_document() -> dict[str, Any]:
    """Make the file of a training of 1,000 steps: the losses at 20 of them."""
    given = network.inputs_of_training()
    with mpmath.workdps(DIGITS):
        losses = [loss for loss, _ in network.training(given)]
    at = [losses[point - 1] for point in network.POINTS]
    entry = _case("training", "1,000 steps; the loss of each batch before its step", given)
    exact = [float(loss) for loss in at]
    entry["training"] = {
        "steps": list(network.POINTS),
        "loss": [mpmath.nstr(loss, AGREE, strip_zeros=False) for loss in at],
        "tolerance": {
            dtype: [f"{error:.2e}" for error in _growth(entry, exact, getattr(torch, dtype))]
            for dtype in ("float32", "float64")
        },
    }
    head = _head(
        "training",
        "the network and the Adam of network-step; step t trains on the images of row t of "
        "'rows', with the next rows of 'eps' as noise",
        {
            "images": "(examples, pixels)",
            "rows": "(steps, batch), which images a step trains on",
            "eps": "(steps x batch, latents), the noise",
            **{n: "the first weights" for n in given if "." in n},
        },
        [
            "the chain rule with 80 digits",
            "torch, in two precisions and three orders, which gives the tolerance: "
            f"{_ROOM} times the largest error up to a step",
        ],
    )
    source = "Kingma and Welling 2014; Kingma and Ba 2015"
    return head | {"source": source, "bugs": {}, "cases": [entry]}


def _growth(entry: dict[str, Any], exact: list[float], dtype: torch.dtype) -> list[float]:
    """Return how far a training in a precision may be off, from trainings in several orders."""
    worst, found = 0.0, []
    runs = [trained(entry, dtype, order) for order in range(3)]
    for index, right in enumerate(exact):
        errors = (abs(run[index] - right) for run in runs)
        worst = max(worst, right * torch.finfo(dtype).eps, *errors)
        found.append(_ROOM * worst)
    return found


def trained(entry: dict[str, Any], dtype: torch.dtype, order: int = 0) -> list[float]:
    """Train by torch; the order of the hidden units, and so of the sums, is turned."""
    arrays = {name: inputs_of(e) for name, e in entry["inputs"].items()}
    given = {
        name: torch.tensor(array.numbers, dtype=dtype).view(array.shape)
        for name, array in arrays.items()
    }
    turned = torch.arange(len(given["encoder.weight"])).roll(order)
    for name, axis in (("encoder", 0), ("decoder", 0)):
        given[f"{name}.weight"] = given[f"{name}.weight"].index_select(axis, turned)
        given[f"{name}.bias"] = given[f"{name}.bias"][:, turned]
    for name in ("mu", "logvar", "output"):
        given[f"{name}.weight"] = given[f"{name}.weight"][:, turned]
    names = [name for name in given if "." in name]
    weights = {name: given[name].clone().requires_grad_() for name in names}
    optimiser = torch.optim.Adam(weights.values(), lr=1e-3)
    rows, eps = given["rows"].long(), given["eps"].view(*given["rows"].shape, -1)
    losses = []
    for batch, noise in zip(rows, eps, strict=True):
        loss = _loss(weights, given["images"][batch], noise)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return [losses[point - 1] for point in network.POINTS]


def _loss(weights: dict[str, Tensor], x: Tensor, eps: Tensor) -> Tensor:
    def layer(name: str, inputs: Tensor) -> Tensor:
        return inputs @ weights[f"{name}.weight"].T + weights[f"{name}.bias"][0]

    h = layer("encoder", x).relu()
    mu, logvar = layer("mu", h), layer("logvar", h)
    z = mu + eps * torch.exp(logvar / 2)
    logits = layer("output", layer("decoder", z).relu())
    bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()
    return (bce + kl) / len(x)


def trained_document() -> dict[str, Any]:
    """Make the file of the trained network: what it says of three images."""
    given = trained_network.inputs()
    found, slopes = trained_network.answers(given)
    again, (due, difference) = trained_network.answers_again(given, slopes)
    for name, values in again.items():
        first = Answer((), _flat({name: found[name]}), {})
        _require_agreement(name, first, Answer((), values, {}))
    _require_agreement("slopes", Answer((), [due], {}), Answer((), [difference], {}))
    weights = {"file": trained_network.FILE.name, "sha256": sha256_of(trained_network.FILE)}
    entry = _case("trained-network", "three strokes", given, weights)
    entry["outputs"] = _outputs({name: found[name] for name in again})
    entry["slopes"] = _outputs(slopes)
    head = _head(
        "trained-network",
        "the network of network-step with 784 pixels, 400 hidden units and 20 latents, and "
        "weights trained on MNIST; the loss is the mean of Bernoulli + KL over the examples",
        {"x": "(n, pixels), images", "eps": "(n, latents), the noise"},
        [
            "the chain rule",
            "whole numbers in units of 2^-1200, p log p in the place of logits, cross-entropy "
            "less entropy; the slopes in one direction by a difference of two losses",
        ],
    )
    return head | {"source": "Kingma and Welling 2014", "bugs": {}, "cases": [entry]}


_OTHERS = {
    "network-step": step_document,
    "trained-network": trained_document,
    "training": training_document,
}


def made(name: str) -> dict[str, Any]:
    """Make a file, by its name."""
    return _OTHERS[name]() if name in _OTHERS else document(name)


def main() -> None:
    """Make the files that are named, or all."""
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or [*CASES, *_OTHERS]:
        with replacing(FOLDER / f"{name}.json") as file:
            file.write(canonical(made(name)).encode())
        print(name, flush=True)


if __name__ == "__main__":
    main()
