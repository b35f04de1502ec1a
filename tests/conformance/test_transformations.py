"""A bug that is not in the bank is named by what turns the right answer into the subject's."""

import numpy as np
import pytest

from vae_ref.conformance import Subject, from_numpy
from vae_ref.conformance.diagnosis import coefficients
from vae_ref.conformance.diagnosis.transformations import explain
from vae_ref.conformance.mutants.specimen import kl, nll
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.subject import Weights

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


def of_terms(square, variance, log, one):
    """Return a KL with other coefficients than 1/2, 1/2, -1/2 and -1/2."""

    def wrong(mu, logvar):
        return (square * mu**2 + variance * logvar.exp() + log * logvar + one).sum(1)

    return wrong


COEFFICIENTS = {
    "kl-log-variance-times-1/2": (
        of_terms(0.5, 0.5, -0.25, -0.5),
        "log σ² enters your KL with 1/2 of its weight",
    ),
    "kl-log-variance-missing": (of_terms(0.5, 0.5, 0, -0.5), "log σ² is missing from your KL"),
    "kl-variance-negated": (
        of_terms(0.5, -0.5, -0.5, -0.5),
        "σ² enters your KL with the wrong sign",
    ),
    "kl-mu-squared-times-2": (
        of_terms(1, 0.5, -0.5, -0.5),
        "μ² enters your KL with 2 times its weight",
    ),
    "kl-coefficients": (
        of_terms(0.5, 0.5, -1, -1),
        "log σ² enters your KL with 2 times its weight, and 1 enters it with 2 times its weight",
    ),
    "kl-prior-of-other-width": (
        of_terms(1 / 8, 1 / 8, -0.5, np.log(2) - 0.5),
        "your KL is the one from a prior with the standard deviation 2, not 1",
    ),
    "kl-with-sigma": (
        lambda mu, logvar: 0.5 * (mu**2 + (logvar / 2).exp() - logvar - 1).sum(1),
        "your KL contains σ, and should not, and σ² is missing from it",
    ),
    "kl-with-squared-log-variance": (
        lambda mu, logvar: 0.5 * (mu**2 + logvar.exp() - (logvar / 2) ** 2 - 1).sum(1),
        "your KL contains (log σ²)², and should not, and log σ² is missing from it",
    ),
    "kl-with-mu": (
        lambda mu, logvar: 0.5 * (mu + logvar.exp() - logvar - 1).sum(1),
        "your KL contains μ, and should not, and μ² is missing from it",
    ),
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


@pytest.mark.parametrize("name", COEFFICIENTS)
def test_a_wrong_coefficient_is_named_with_its_term(name, user):
    wrong, words = COEFFICIENTS[name]
    found = explain(Probe(Subject(name="wrong", kl=wrong)), "kl")
    assert (found.bug, found.explanation) == (name, words)


@pytest.mark.parametrize(
    "name", ["kl-log-variance-times-1/2", "kl-with-sigma", "kl-prior-of-other-width"]
)
def test_a_wrong_coefficient_is_named_up_to_the_weight_of_the_whole(name, user):
    wrong, words = COEFFICIENTS[name]
    places = {"nll_place": "a.py:1", "kl_place": "a.py:2"}
    weights = Weights(nll=1.0, kl=0.07, examples=5, latents=3, pixels=12, **places)
    weighed = Subject(name="weighed", kl=lambda *a: 0.07 * wrong(*a), weights=weights)
    found = coefficients.explain(Probe(weighed), "")
    assert (found.bug, found.explanation) == (name, words)


def test_the_kl_is_written_with_the_coefficients_that_were_found(user):
    found = explain(Probe(Subject(name="wrong", kl=of_terms(0.5, 0.3, -0.25, 0))), "kl")
    assert found.yours == "Σ_d (½ μ² + 0.3 σ² − ¼ log σ²)"


def test_what_is_not_recognised_has_no_name(user):
    wrong = Subject(name="wrong", kl=lambda mu, logvar: (mu.abs() + logvar**4).sum(1))
    assert explain(Probe(wrong), "kl") is None
