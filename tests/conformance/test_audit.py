"""A step in any form is audited: what is right holds, what is wrong is found, the rest is said."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from steps import (
    NONE,
    RIGHT,
    UNKNOWN,
    WRONG,
    B,
    Lightning,
    Textbook,
    X,
    as_it_is,
    gaussian_kl,
    images,
    in_half_precision,
    inner_products,
    kl_of_all_events,
    reconstructing,
    textbook,
    weighted,
)

from vae_ref import InputError
from vae_ref.conformance import Subject, audit, audit_step, parametrize_with_claims, verify
from vae_ref.conformance.auditing.anatomy import NoVAEError
from vae_ref.conformance.auditing.recorder import recording

pytestmark = pytest.mark.usefixtures("user", "single_precision")


def named(makes, *, quick=6):
    """Every some of them by default, all with the slow tests."""
    return [
        pytest.param(make, id=make.__name__, marks=[pytest.mark.slow] * (index % quick > 0))
        for index, make in enumerate(makes)
    ]


@pytest.mark.sampled(4)
@pytest.mark.parametrize("make", named(RIGHT, quick=len(RIGHT)))
def test_no_right_step_is_accused(make):
    found = audit_step(make())
    assert found.reason == ""
    left = {r.claim.id: r.message for r in found.report.results}
    assert found.report.verdict == "partial", {
        r.claim.id: (r.status, r.message)
        for r in found.report.results
        if r.status not in ("pass", "not-applicable")
    }
    assert len(left) > 60
    assert found.report.counts["pass"] > 40


@pytest.mark.parametrize("make", named(WRONG))
def test_what_is_wrong_is_found(make):
    found = audit_step(make())
    assert any(r.claim.id.startswith(WRONG[make]) for r in found.report.failures), [
        (r.claim.id, r.message) for r in found.report.failures
    ]


@pytest.mark.parametrize("make", named(NONE, quick=1))
def test_what_has_no_vae_is_not_accused(make):
    found = audit_step(make())
    assert NONE[make] in found.reason
    assert found.subject is None


@pytest.mark.slow
@pytest.mark.parametrize("within", [False, True])
def test_what_is_compiled_is_recorded_as_it_was_written(within):
    """A step may even compile within; afterwards, what is compiled runs compiled again."""
    original, compilations = textbook(), []

    def backend(graph, inputs):
        compilations.append(graph)
        return graph.forward

    compiled = torch.compile(original, backend=backend)

    def step():
        return torch.compile(original, backend=backend)()

    assert audit_step(step if within else compiled).found["compared with"] == "an input (5, 12)"
    assert not compilations
    compiled()
    assert compilations


@pytest.mark.slow
def test_an_audit_does_not_import_the_compiler():
    code = """
import sys, torch
from steps import textbook
from vae_ref.conformance import audit_step
assert audit_step(textbook()).subject and "torch._dynamo" not in sys.modules
"""
    folder = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": folder}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


@pytest.mark.slow
def test_low_precision_is_judged_in_double_precision():
    found = audit_step(in_half_precision())
    assert found.report.verdict == "partial"


def test_the_parts_are_named_with_their_lines():
    found = audit_step(textbook()).found
    assert found["noise"].startswith("normal: randn_like (steps.py:")
    assert "log sigma^2 is chunk (steps.py:" in found["posterior"]
    assert found["divergence"].startswith("analytic: sum (steps.py:")
    assert found["outputs"].startswith("sigmoid (steps.py:")
    assert found["compared with"] == "an input (5, 12)"


def of_two_classes(logits, x):
    """It takes the data for bits, x > 1/2."""
    return F.softplus(torch.where(x > 0.5, -1.0, 1.0) * logits).sum(-1)


def infinite_off_its_support(logits, x):
    """As with the distributions of NumPyro."""
    nll = F.softplus(logits) - x * logits
    return torch.where((x == 0) | (x == 1), nll, torch.inf).sum(-1)


def test_a_loss_that_is_infinite_is_not_judged():
    """A likelihood of bits of grey images, of which no term has a value."""
    net, x = Textbook(), images()

    def step():
        mu, logvar = net.encoder(x).chunk(2, -1)
        nll = infinite_off_its_support(net.decoder(net.sample(mu, logvar)), x)
        return (nll + gaussian_kl(mu, logvar).sum(-1)).mean()

    found = audit_step(step)
    assert found.reason == "the loss is inf: audit a batch on which it is finite"
    assert found.subject is None


@pytest.mark.parametrize(
    "likelihood",
    [of_two_classes, pytest.param(infinite_off_its_support, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("sign", [1, pytest.param(-1, marks=pytest.mark.slow)])
def test_a_likelihood_of_bits_is_not_accused(sign, likelihood):
    """Whatever the step returns: the loss or the ELBO."""
    net, x = Textbook(), images().round()

    def step():
        mu, logvar = net.encoder(x).chunk(2, -1)
        nll = likelihood(net.decoder(net.sample(mu, logvar)), x)
        return sign * (nll + gaussian_kl(mu, logvar).sum(-1)).mean()

    found = audit_step(step)
    assert found.report.failures == ()
    assert found.found["likelihood"].startswith("bernoulli-logits")
    assert "for data of 0 and 1" in found.found["reconstruction"]
    assert ("sign" in found.found) is (sign < 0)


def test_a_function_with_a_gradient_of_its_own_is_recorded():
    """It may be the step's, or one of torch's, such as a draw from a beta distribution."""

    class Halved(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            return x / 2

        @staticmethod
        def backward(context, slope):
            return slope / 2

    net, x = Textbook(), images()

    def step():
        torch.distributions.Beta(2.0, 3.0).rsample()
        mu, logvar = net.encoder(x).chunk(2, -1)
        logits = Halved.apply(net.decoder(net.sample(mu, logvar)))
        bce = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        return bce + gaussian_kl(mu, logvar).sum()

    found = audit_step(step)
    assert (found.reason, found.report.failures) == ("", ())
    assert found.report.counts["pass"] > 40


def test_an_input_that_weighs_the_loss_is_named():
    found = audit_step(weighted())
    assert found.found["weighed by"] == f"an input ({B},): judged with equal weights"
    assert found.subject.found == found.found
    assert len(found.parameters) == len([*Textbook().parameters()])


@pytest.mark.slow
def test_a_weight_of_the_kl_beside_weights_is_not_judged():
    """It may undo what the inputs do, as the share of a mask."""
    found = audit_step(kl_of_all_events())
    assert found.reason.startswith("inputs weigh the loss, so that a weight of the KL, 24")
    assert not found.report.failures
    assert found.report.exit_status == 3


def test_a_layer_that_the_module_does_not_contain_is_named():
    net, x = Textbook(), images()
    net.hidden = [torch.nn.Linear(X, X)]
    whole = torch.nn.Module()
    whole.net = net
    whole.forward = lambda: net.loss(net.hidden[0](x).sigmoid())
    assert audit_step(whole).found["not registered"] == "the Linear that Module calls"
    net.registered = net.hidden[0]
    assert "not registered" not in audit_step(whole).found


# The replay.


@pytest.mark.parametrize("make", named(RIGHT, quick=3))
def test_a_replay_is_the_step_itself(make):
    step = make()
    with recording() as recorder:
        answer = step()
    loss = answer["loss"] if isinstance(answer, dict) else answer
    number = recorder.number_of(loss)
    (again,) = recorder.graph.replay([number])
    assert torch.equal(again, loss)
    parameters = [v.external for v in recorder.graph.values if v.parameter]
    ours = torch.autograd.grad(loss, parameters, allow_unused=True)
    theirs = torch.autograd.grad(again, parameters, allow_unused=True)
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.equal(a, b)


# In a loop of one's own.


def test_a_loop_goes_on_undisturbed():
    """Generators, gradients, weights and modes are as without the audit, bit for bit."""
    net, x = Textbook(), images()
    other = copy.deepcopy(net)

    def train(net, audited):
        torch.manual_seed(7)
        optimizer = torch.optim.Adam(net.parameters(), 1e-2)
        for index in range(3):
            optimizer.zero_grad()
            if audited and index == 1:
                with audit() as found:
                    loss = net.loss(x)
                assert found.subject is not None
            else:
                loss = net.loss(x)
            loss.backward()
            optimizer.step()
        return torch.get_rng_state()

    assert torch.equal(train(net, audited=True), train(other, audited=False))
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_generator_of_ones_own_goes_on_undisturbed():
    generator = torch.Generator().manual_seed(1)
    step = textbook(noise=lambda mu: torch.randn(mu.shape, generator=generator))
    report = verify(audit_step(step).subject, only="reparameterization/reproducible")
    assert report.counts == {"pass": 1}
    once = torch.Generator().manual_seed(1)
    torch.randn(B, 3, generator=once)
    assert torch.equal(generator.get_state(), once.get_state())


def test_the_loss_is_what_is_differentiated():
    net, x = Textbook(), images()
    with audit() as found:
        loss = net.loss(x)
        loss.backward()
        (net.encoder(x).square().sum()).item()
    assert found.reason == ""
    assert str(found.report.verdict) == "partial"


def test_an_audit_prints_what_it_found():
    with audit("mine") as found:
        Textbook().loss(images())
    text = str(found)
    assert "posterior             mu is chunk" in text
    assert "vae-ref verify: mine" in text


def test_a_printed_audit_follows_the_locale(monkeypatch):
    with audit("mine") as found:
        Textbook().loss(images())
    with audit() as nothing:
        pass
    monkeypatch.setenv("LANGUAGE", "zh_CN")
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    text = str(found)
    assert "\n似然                  bernoulli" in text
    assert "未发现错误" in text
    assert str(nothing).startswith("未判定                no loss was computed: ")
    assert nothing.reason.startswith("no loss was computed: ")


def test_parameters_that_no_gradient_reaches_are_named():
    net = Lightning()
    net.unused = torch.nn.Linear(2, 2)
    found = audit_step(lambda: net.vae.loss(images()))
    assert "no gradient reaches" not in found.found

    def step():
        net.unused(torch.ones(1, 2))
        return net.vae.loss(images())

    assert audit_step(step).found["no gradient reaches"] == "weight, bias"


def test_a_loss_for_each_example_is_no_scalar():
    net, x = Textbook(), images()
    found = audit_step(lambda: net.loss(x).expand(B))
    assert found.reason == "the loss is no scalar; it has shape (5,)"


def test_a_step_is_verified_with_its_batch():
    report = verify(step=Textbook().loss, batch=images(), only="kl/*")
    assert report.subject == "Textbook.loss"
    assert not report.failures
    wrong = Textbook(kl=lambda mu, s: gaussian_kl(mu, 2 * s).sum())
    assert verify(step=wrong.loss, batch=images(), only="kl/*").failures


def test_the_claims_of_a_step_are_tests():
    wrong = Textbook(kl=lambda mu, s: gaussian_kl(mu, 2 * s).sum())
    mark = parametrize_with_claims(step=lambda: wrong.loss(images()), only="kl/closed-form")
    (check,) = mark.args[1][0].values
    with pytest.raises(pytest.fail.Exception, match="the step violates kl/closed-form"):
        check()


@pytest.mark.parametrize(
    ("arguments", "got"),
    [
        ({}, "none of them"),
        ({"subject": Subject(name="x"), "step": print}, "a subject and a step"),
        ({"subject": Subject(name="x"), "batch": 3}, "a subject and a batch"),
        ({"batch": 3}, "a batch"),
    ],
)
def test_one_of_subject_and_step_is_needed(arguments, got):
    with pytest.raises(InputError, match=f"with or without its batch; got {got}. Pass one"):
        verify(**arguments)


def test_a_step_without_a_vae_says_so():
    net = torch.nn.Linear(2, 1)
    with pytest.raises(NoVAEError, match="no noise enters this loss"):
        verify(step=lambda x: net(x).sum(), batch=torch.ones(3, 2))


def test_what_does_not_learn_is_said():
    net = Textbook()
    net.decoder[0].requires_grad_(requires_grad=False)
    found = audit_step(lambda: net.loss(images())).found
    assert found["frozen"] == "0.weight, 0.bias"
    assert not {"encoder", "decoder"} & found.keys()


def with_a_captured_posterior(mu, logvar):
    rows = torch.arange(len(mu))
    return torch.func.vmap(lambda n: gaussian_kl(mu[n], logvar[n]).sum())(rows).sum()


def with_a_gradient(mu, logvar):
    slope = torch.func.grad(lambda mu: mu.square().sum() / 2)(mu)
    return gaussian_kl(slope, logvar).sum()


@pytest.mark.parametrize(
    ("kl", "reason"),
    [
        (with_a_captured_posterior, "takes tensors beside its arguments"),
        (with_a_gradient, "a transform of torch.func, such as grad, cannot be replayed"),
    ],
)
def test_transforms_that_cannot_be_replayed_are_said(kl, reason):
    found = audit_step(textbook(kl=kl))
    assert found.subject is None
    assert reason in found.reason


@pytest.mark.slow
def test_networks_that_mix_examples_are_said_not_to_be_judged():
    net = Textbook()
    net.encoder[1] = Centred()
    found = audit_step(lambda: net.loss(images()))
    assert found.found["encoder"].startswith("not judged: what becomes of an example depends on")
    assert "decoder" not in found.found
    assert not found.report.failures


class Centred(torch.nn.Module):
    def forward(self, x):
        return torch.tanh(x - x.mean(0))


def test_terms_that_weigh_each_other_are_said_not_to_be_judged():
    net = Textbook()

    def step():
        mu, logvar = net.encoder(images()).chunk(2, dim=-1)
        out = torch.sigmoid(net.decoder(net.sample(mu, logvar)))
        nll = F.binary_cross_entropy(out, images(), reduction="sum")
        return nll + nll.detach() / 10 * net.kl(mu, logvar)

    found = audit_step(step)
    assert found.reason.startswith("the loss is no sum of a reconstruction and a divergence")
    assert not found.report.failures


@pytest.mark.slow
def test_outputs_that_are_made_of_numbers_beyond_them_hold():
    """What is put in the place of (1 + p) / 2 makes no probability of p."""
    net = Textbook()

    def step():
        mu, logvar = net.encoder(images()).chunk(2, dim=-1)
        half = 0.5 + 0.5 * torch.sigmoid(net.decoder(net.sample(mu, logvar)))
        nll = F.binary_cross_entropy(2 * half - 1, images(), reduction="sum")
        return nll + net.kl(mu, logvar)

    found = audit_step(step)
    assert not found.reason
    assert not found.report.failures


@pytest.mark.parametrize("make", named(UNKNOWN, quick=4))
def test_a_likelihood_that_is_not_known_is_said_not_to_be_judged(make):
    found = audit_step(make())
    assert found.reason.startswith(UNKNOWN[make])
    assert found.reason.endswith("the reconstruction is not judged")
    assert not found.report.failures
    assert found.report.counts["pass"] > 30


def test_sampler_and_kl_of_a_graph_are_judged():
    found = audit_step(inner_products(factor=1))
    failures = verify(found.subject, only="reparameterization/*").failures
    assert [r.claim.id for r in failures] == ["reparameterization/affine"]
    none = audit_step(inner_products(penalised=False))
    assert none.subject is None
    assert "not between an encoder and a decoder" in none.reason


def mse(outputs, x):
    return 0.5 * (outputs - x).square().sum()


def wide(s):
    return s.clamp(-30, 15)


@pytest.mark.parametrize(
    "clamps",
    [
        (wide, as_it_is, lambda s: s.clamp(max=15)),
        (wide, lambda s: s.clamp_min(-40).clip(max=20), wide),
        (as_it_is, wide, wide),
    ],
)
def test_a_clamp_of_what_is_clamped_changes_nothing(clamps):
    found = audit_step(reconstructing(mse, clamps=clamps))
    assert not verify(found.subject, only="kl/*").failures
    assert not verify(found.subject, only="reparameterization/extremes").failures


def test_what_was_clamped_is_clamped_anew_if_it_was_changed_in_place():
    found = audit_step(reconstructing(mse, clamps=(as_it_is, lambda s: wide(s).div_(2), wide)))
    assert not found.reason


@pytest.mark.slow
def test_a_narrower_clamp_is_found():
    found = audit_step(reconstructing(mse, clamps=(wide, as_it_is, lambda s: s.clamp(max=10))))
    failures = verify(found.subject, only="kl/*").failures
    assert [r.claim.id for r in failures] == ["kl/large-logvar"]


@pytest.mark.parametrize(
    ("changes", "term", "implied"),
    [
        ({}, mse, "1"),
        (
            {"kl": lambda m, s: gaussian_kl(m, s).mean(-1).sum()},
            mse,
            "0.333333, that of a KL averaged over 3 latents",
        ),
        ({"kl": lambda m, s: gaussian_kl(m, s).sum(-1).mean()}, mse, "0.2, that of a KL averaged"),
        (
            {},
            lambda o, x: mse(o, x) / 12,
            "12, that of a reconstruction term averaged over 12 pixels",
        ),
        (
            {},
            lambda o, x: 2 * mse(o, x) / B,
            "2.5, that of a reconstruction term averaged over 5 examples or events, beside a KL",
        ),
    ],
)
def test_a_variance_that_an_average_implies_is_said(changes, term, implied):
    """Any weight is right for some variance, but some are those of a mean in place of a sum."""
    net, x = Textbook(**changes), images()

    def step():
        mu, logvar = net.encoder(x).chunk(2, -1)
        return term(net.decoder(net.sample(mu, logvar)), x) + net.kl(mu, logvar)

    report = verify(audit_step(step).subject, only="objective/beta")
    assert report.facts["implied variance"].startswith(implied)
    assert not report.failures


@pytest.mark.parametrize(
    "scaled", [lambda p: 255 * p, lambda p: (2 * p - 1) / 0.5, lambda p: p.sub(0.5).mul(7)]
)
def test_a_scale_that_outputs_and_data_share_is_undone(scaled):
    factor = float(scaled(torch.ones(())) - scaled(torch.zeros(())))
    step = reconstructing(lambda o, x: mse(scaled(torch.sigmoid(o)), scaled(x)) / factor)
    found = audit_step(step)
    assert found.found["outputs"].startswith("sigmoid")
    report = verify(found.subject, only="objective/beta")
    assert report.facts["implied variance"] == f"{1 / factor:.6g}"


def two_images(terms):
    """One code, two decoders, and a term for each."""
    net, other = Textbook(), Textbook()
    x, y = images(), images().flip(0)

    def step():
        mu, logvar = net.encoder(x + y).chunk(2, dim=-1)
        z = net.sample(mu, logvar)
        outputs = (net.decoder(z), other.decoder(z))
        parts = [term(o, d) for term, o, d in zip(terms, outputs, (x, y), strict=True)]
        return sum(parts) + net.kl(mu, logvar)

    return step


def cross_entropy(outputs, x):
    return F.binary_cross_entropy_with_logits(outputs, x, reduction="sum")


@pytest.mark.slow
def test_two_outputs_with_one_likelihood_are_judged_together():
    right = audit_step(two_images([cross_entropy, cross_entropy]))
    assert right.reason == ""
    assert right.report.failures == ()
    assert right.report.facts["effective beta"] == "1"


@pytest.mark.parametrize(
    "other",
    [
        lambda o, x: cross_entropy(o, x) / 2,
        pytest.param(lambda o, x: ((o - x) ** 2).sum(), marks=pytest.mark.slow),
    ],
)
def test_two_outputs_with_a_term_each_are_said_not_to_be_judged(other):
    found = audit_step(two_images([cross_entropy, other]))
    assert found.report.failures == ()
    assert "no one likelihood is that of all" in found.found["reconstruction"]
