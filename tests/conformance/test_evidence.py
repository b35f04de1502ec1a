"""Evidence before names: what functions do decides what they are held to."""

import numpy as np
import pytest
import torch

from vae_ref.conformance.loading.evidence import agreed_spread, as_torch, jitter, misfit

pytestmark = pytest.mark.usefixtures("user")


def kl_of(to_logvar):
    def kl(mu, raw):
        logvar = to_logvar(raw)
        return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()

    return kl


def sampler_of(to_sigma):
    return lambda mu, raw: mu + to_sigma(raw) * torch.randn_like(mu)


SPREADS = {
    "logvar": (lambda c: torch.exp(c / 2), lambda c: c),
    "log_sigma": (torch.exp, lambda c: 2 * c),
    "sigma": (lambda c: c, lambda c: 2 * c.log()),
    "variance": (torch.sqrt, torch.log),
}


@pytest.mark.parametrize("does", SPREADS)
@pytest.mark.parametrize("named", SPREADS)
def test_what_sampler_and_kl_agree_on_counts(does, named):
    to_sigma, to_logvar = SPREADS[does]
    assert agreed_spread(sampler_of(to_sigma), kl_of(to_logvar), named) == does


@pytest.mark.parametrize(
    ("sample", "divergence"),
    [
        (sampler_of(torch.exp), kl_of(lambda c: c)),  # one of them is wrong
        (sampler_of(torch.exp), lambda mu, raw: (mu + raw).sum()),
        (sampler_of(lambda c: 1 + c), kl_of(lambda c: 2 * c)),
        (None, kl_of(lambda c: 2 * c)),
        (sampler_of(torch.exp), None),
    ],
)
def test_without_agreement_the_name_counts(sample, divergence):
    assert agreed_spread(sample, divergence, "logvar") == "logvar"


def of_tokens(outputs, x, mu, logvar):
    _, _, words = outputs.shape
    return words


@pytest.mark.parametrize(
    ("function", "arguments", "reason"),
    [
        (kl_of(lambda c: c), 2, ""),
        (lambda mu, raw: mu.sum(dim=[1, 2, 3]) + raw.sum(dim=[1, 2, 3]), 2, ""),
        (lambda o, x, mu, s: (o - x.view(-1, 784)).sum() + mu.sum() + s.sum(), 4, ""),
        (lambda mu, raw: 1 / 0, 2, ""),  # is broken, which the claims will say
        (of_tokens, 4, "ValueError: not enough values to unpack"),
        (lambda mu, raw: (mu, raw), 2, "it returns several values of the same size, not one"),
    ],
)
def test_another_form_is_told_from_a_broken_function(function, arguments, reason):
    found = misfit(function, arguments)
    assert found.startswith(reason) if reason else not found


def test_functions_of_numpy_are_recognised():
    function = as_torch(lambda mu, raw: np.sum(np.square(mu) + np.exp(raw)), 2)
    assert function(torch.ones(2, 3), torch.zeros(2, 3)) == pytest.approx(12.0)
    kl = kl_of(lambda c: c)
    assert as_torch(kl, 2) is kl


@pytest.mark.parametrize(("small", "found"), [(0.0, False), (1e-10, True), (1e-3, False)])
def test_a_small_number_for_safety_is_seen(small, found):
    def kl(mu, logvar):
        return 0.5 * (mu**2 + logvar.exp() - 1 - torch.log(logvar.exp() + small)).sum()

    assert bool(jitter(kl)) == found
