"""The golden vectors: in canonical form, made again, and held to the reference."""

import json
import math
import warnings

import jsonschema
import pytest
import torch
from safetensors.torch import load_file

import vae_ref
from tests.conformance.chained import first_fault
from vae_ref import Bernoulli, ContinuousBernoulli, InputError
from vae_ref.conformance.mutants import BANK
from vae_ref.conformance.vectors import bugs as bugs_of
from vae_ref.conformance.vectors import documents, make, network, trained_network
from vae_ref.conformance.vectors.documents import NAMES, canonical, faults, load
from vae_ref.conformance.vectors.make import made, trained

TEXTS = {name: (documents.FOLDER / f"{name}.json").read_text() for name in NAMES}
SCHEMA = json.loads(documents.SCHEMA.read_text())

# A reader of the vectors, who knows of them what docs/vectors.md says.

REFERENCE = {
    "kl-to-standard-normal": vae_ref.kl_to_standard_normal,
    "kl-between-gaussians": vae_ref.kl_between,
    "log-density": vae_ref.log_density,
    "entropy": vae_ref.entropy,
    "reparameterization": vae_ref.reparameterize,
    "bernoulli-from-logits": Bernoulli().nll,
    "bernoulli-from-probabilities": lambda p, x: torch.stack(
        [vae_ref.loss_function(a[None], b[None], ZERO, ZERO) for a, b in zip(p, x, strict=True)]
        or [p.sum()]
    )[: len(p)],
    "gaussian": lambda m, logvar, x: vae_ref.Gaussian(logvar.exp()).nll(m, x),
    "continuous-bernoulli": ContinuousBernoulli().nll,
    "continuous-bernoulli-normaliser": lambda a: normaliser(torch.where(a > 0, -a, a)[..., None]),
    "negative-elbo": lambda a, x, mu, logvar: sum(vae_ref.negative_elbo(x, a, mu, logvar)),
    "importance-weighted-bound": lambda log_w: vae_ref.importance_weighted_bound(log_w.T),
}
ZERO = torch.zeros(1, 1)


def normaliser(a):
    """Return log C, which is the same for a and -a, from the likelihood of a black pixel."""
    x = torch.zeros_like(a)
    return Bernoulli().nll(a, x) - ContinuousBernoulli().nll(a, x)


def tensors(case, dtype):
    return {
        name: torch.tensor([float.fromhex(h) for h in entry["hex"]], dtype=dtype)
        .view(entry["shape"])
        .requires_grad_()
        for name, entry in case["inputs"].items()
    }


def require(got, entry, dtype):
    machine, ulp = torch.finfo(dtype), entry["ulp"][str(dtype).removeprefix("torch.")]
    assert list(got.shape) == entry["shape"]
    for a, b, scale in zip(got.flatten(), entry["decimal"], entry["scale"], strict=True):
        allowed = (ulp or math.inf) * machine.eps * float(scale) + machine.tiny
        assert abs(float(a) - float(b)) <= allowed, (float(a), b, allowed)


def read(name, dtype):
    for case in load(name)["cases"]:
        given = tensors(case, dtype)
        if "refuse" in case:
            with pytest.raises(InputError):
                REFERENCE[name](*given.values())
            continue
        value = REFERENCE[name](*given.values())
        require(value.detach(), case["outputs"]["value"], dtype)
        value.sum().backward()
        for key, entry in case["slopes"].items():
            slope = given[key].grad
            require(torch.zeros_like(given[key]) if slope is None else slope, entry, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", REFERENCE)
def test_the_reference_gives_the_right_answers(name, dtype, user):
    read(name, dtype)


def test_every_file_is_read():
    assert {*REFERENCE, "network-step", "trained-network", "training"} == {*NAMES}


# The files.


@pytest.mark.parametrize("name", NAMES)
def test_a_file_keeps_its_schema_and_its_form(name):
    jsonschema.validate(json.loads(TEXTS[name]), SCHEMA)
    assert faults(TEXTS[name]) == []


def changed(change):
    document = json.loads(TEXTS["entropy"])
    change(document, document["cases"][0])
    return document


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d, c: c.update(id="entropy-0123456789ab"), "is not the id of its inputs"),
        (lambda d, c: d["cases"].append(c), "is there twice"),
        (lambda d, c: c["inputs"]["logvar"]["decimal"].reverse(), "are not the hexadecimal"),
        (lambda d, c: c["flags"].append("no-bug"), "no-bug is no bug that is described"),
        (lambda d, c: c["outputs"]["value"]["scale"].pop(), "it has not 3 numbers"),
    ],
)
def test_the_linter_sees(change, message):
    assert any(message in fault for fault in faults(canonical(changed(change))))


def test_the_linter_sees_another_form():
    assert faults(json.dumps(json.loads(TEXTS["entropy"]))) == ["it is not in canonical form"]


@pytest.mark.parametrize(
    "change",
    [
        lambda d, c: c.update(more=1),
        lambda d, c: c.pop("outputs"),
        lambda d, c: c.update(refuse="no"),
        lambda d, c: c["inputs"]["logvar"]["hex"].append("1.5"),
        lambda d, c: d["provenance"].update(agree=39),
    ],
)
def test_the_schema_refuses(change):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(changed(change), SCHEMA)


QUICK = ("entropy", "importance-weighted-bound", "log-density")


@pytest.mark.sampled(6)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK))
        for name in NAMES
        if name != "training"
    ],
)
def test_a_file_is_made_again(name, user):
    """So the two ways agree to 40 digits, or it would raise."""
    torch.set_default_dtype(torch.float32)
    assert canonical(made(name)) == TEXTS[name]


def test_two_ways_that_do_not_agree_make_no_file(monkeypatch):
    monkeypatch.setattr(make, "AGREE", 200)
    with pytest.raises(ArithmeticError, match="the two ways agree to"):
        made("entropy")


def test_most_bugs_have_a_flag():
    flagged = {bug for name in NAMES for bug in load(name)["bugs"]}
    bugs = {m.id for m in BANK.values() if m.slot in bugs_of._SLOTS.values()}
    assert len(flagged) >= 0.85 * len(bugs), sorted(bugs - flagged)


# A trained network, a step, and a training.

LAYERS = ("encoder.0", "mu", "logvar", "decoder.0", "decoder.2")
"""What the reference calls the layers."""


def trained_network_of(dtype):
    """Return the reference with the weights of the vectors."""
    given = load_file(trained_network.FILE)
    model = vae_ref.VAE(784, 400, 20).to(dtype)
    model.load_state_dict(
        {
            f"{ours}.{part}": given[f"{layer}.{part}"]
            for ours, layer in zip(LAYERS, network.LAYERS, strict=True)
            for part in ("weight", "bias")
        }
    )
    return model


def answers_of_trained_network(question, dtype):
    """Return the outputs and the slopes that the reference gives."""
    model, given = trained_network_of(dtype), tensors(question, dtype)
    x, eps = (given[name].detach() for name in ("x", "eps"))
    mu, logvar = model.encode(x)
    z = model.reparameterize(mu, logvar, eps)
    nll, kl = vae_ref.negative_elbo(x, model.decoder(z), mu, logvar)
    loss = (nll + kl).mean()
    loss.backward()
    values = {"mu": mu, "logvar": logvar, "z": z, "loss": loss.view(1, 1)}
    values |= {"reconstruction": nll[None], "kl": kl[None]}
    slopes = {
        f"{layer}.bias": model.get_parameter(f"{ours}.bias").grad[None]
        for ours, layer in zip(LAYERS, network.LAYERS, strict=True)
    }
    return {name: value.detach() for name, value in values.items()}, slopes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_trained_network_gives_the_right_answers(dtype, user):
    (case,) = load("trained-network")["cases"]
    for part, found in zip(
        ("outputs", "slopes"), answers_of_trained_network(case, dtype), strict=True
    ):
        assert found.keys() == case[part].keys()
        for name, value in found.items():
            require(value, case[part][name], dtype)


def test_the_linter_sees_other_weights():
    document = json.loads(TEXTS["trained-network"])
    document["cases"][0]["weights"]["sha256"] = "0" * 64
    assert any("has another hash" in fault for fault in faults(canonical(document)))


def test_torch_takes_the_step():
    (case,) = load("network-step")["cases"]
    given = tensors(case, torch.float64)
    weights = {name: given[name] for name in given if "." in name}
    optimiser = torch.optim.Adam(weights.values(), lr=1e-3)
    for count in (1, 2, 3):
        loss = make._loss(weights, given["x"].detach(), given["eps"].detach())
        optimiser.zero_grad()
        loss.backward()
        if count == 1:
            require(loss.detach().view(1, 1), case["outputs"]["loss"], torch.float64)
            for name, weight in weights.items():
                require(weight.grad, case["slopes"][name], torch.float64)
        optimiser.step()
        for name, weight in weights.items():
            if count != 2:
                require(weight.detach(), case["outputs"][f"{name} after {count}"], torch.float64)


@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=pytest.mark.slow), "float64"])
def test_torch_trains_to_the_same_losses(dtype):
    (case,) = load("training")["cases"]
    found, of = trained(case, getattr(torch, dtype)), case["training"]
    for a, b, allowed in zip(found, of["loss"], of["tolerance"][dtype], strict=True):
        assert abs(a - float(b)) <= float(allowed)


def test_the_first_losses_of_the_training_are_made_again():
    (case,) = load("training")["cases"]
    given = network.inputs_of_training()
    assert {n: documents.written(make._array(rows)) for n, rows in given.items()} == case["inputs"]
    losses = []
    with make.mpmath.workdps(documents._DIGITS + 10):
        for _, (loss, _) in zip(range(10), network.training(given), strict=False):
            losses.append(make.mpmath.nstr(loss, 40, strip_zeros=False))
    assert [losses[s - 1] for s in (1, 2, 3, 5, 10)] == case["training"]["loss"][:5]


UNSEEN = {
    *("kl-clamped", "nll-clamped-probabilities", "z-clamped-logvar"),  # no number is so large
    *("kl-zero-times-infinity", "kl-of-full-covariances"),
    *("z-noise-of-its-own", "z-reseeds"),  # the noise is given
    *("z-mean-in-evaluation", "z-one-sigma-in-evaluation"),  # no test loss
    *("train-evaluates-mu", "train-first-batch-tested"),
}
"""Bugs that a training with given noise does not show."""
SLOTS = ("kl", "nll", "loss", "sample", "train")
TRAINED = [mutant for mutant in BANK.values() if mutant.slot in SLOTS]


def test_the_training_shows_most_bugs_of_losses_samplers_and_loops():
    assert {mutant.id for mutant in TRAINED} >= UNSEEN
    assert len(UNSEEN) <= 0.2 * len(TRAINED)


@pytest.mark.slow
@pytest.mark.sampled(4)
@pytest.mark.parametrize("mutant", [m for m in TRAINED if m.id not in UNSEEN], ids=lambda m: m.id)
def test_the_training_shows_a_bug(mutant, user):
    torch.manual_seed(0)
    with warnings.catch_warnings(action="ignore"):  # some bugs compute what torch warns of
        assert first_fault(mutant) is not None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # the specimen's loop reads losses as numbers
def test_the_training_shows_no_bug_where_there_is_none(user):
    assert first_fault(None) is None
