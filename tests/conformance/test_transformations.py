"""A bug that is not in the bank is named by what turns the right answer into the subject's."""

import numpy as np
import pytest

from vae_ref.conformance import Subject, from_numpy
from vae_ref.conformance.diagnosis.transformations import explain
from vae_ref.conformance.mutants.specimen import kl, nll
from vae_ref.conformance.probe.probe import Probe

KL = {
    "kl-times-3": lambda mu, logvar: 3 * kl(mu, logvar),
    "kl-negated": lambda mu, logvar: -kl(mu, logvar),
    "kl-over-number-of-latents": lambda mu, logvar: kl(mu, logvar) / mu.shape[1],
    "kl-plus-constant": lambda mu, logvar: kl(mu, logvar) + 0.25,
    "kl-swapped-arguments": lambda mu, logvar: kl(logvar, mu),
    "kl-imprecise": lambda mu, logvar: kl(mu.half(), logvar.half()).to(mu.dtype),
    "kl-clamped": lambda mu, logvar: kl(mu, logvar.clamp(-30, 20)),
    "kl-dead-logvar": lambda mu, logvar: kl(mu, logvar.detach()),
    "kl-wrong-gradient-mu": lambda mu, logvar: kl(2 * mu - mu.detach(), logvar),
}
NLL = {
    "nll-times-1/2": lambda outputs, x: nll(outputs, x) / 2,
    "nll-over-number-of-pixels": lambda outputs, x: nll(outputs, x) / x.shape[1],
    "nll-plus-constant": lambda outputs, x: nll(outputs, x) + 0.25,
}


@pytest.mark.parametrize("name", KL)
def test_a_wrong_kl_is_named(name, user):
    assert explain(Probe(Subject(name="wrong", kl=KL[name])), "kl").bug == name


@pytest.mark.parametrize("name", NLL)
def test_a_wrong_reconstruction_term_is_named(name, user):
    assert explain(Probe(Subject(name="wrong", nll=NLL[name])), "nll").bug == name


@pytest.mark.parametrize(
    ("subject", "slot"), [(Subject(name="kl", kl=kl), "kl"), (Subject(name="nll", nll=nll), "nll")]
)
def test_nothing_is_named_that_is_right(subject, slot, user):
    assert explain(Probe(subject), slot) is None


def test_a_function_without_a_gradient_has_no_wrong_one(user):
    right = from_numpy(lambda mu, s: 0.5 * (mu**2 + np.exp(s) - 1 - s).sum(1))
    assert explain(Probe(Subject(name="NumPy", kl=right)), "kl") is None


def test_a_clamp_is_said_in_words(user):
    found = explain(Probe(Subject(name="clamped", kl=KL["kl-clamped"])), "kl")
    assert found.explanation.startswith("your KL is right for logvar up to 20 and wrong from 20.5")


def test_what_is_not_recognised_has_no_name(user):
    wrong = Subject(name="wrong", kl=lambda mu, logvar: (mu.abs() + logvar**4).sum(1))
    assert explain(Probe(wrong), "kl") is None
