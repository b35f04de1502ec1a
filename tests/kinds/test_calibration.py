"""Scores, ranks and their tests against SciPy; what the tests of the kit find, and how often."""

import numpy as np
import pytest
import torch
from scipy import stats

from vae_ref.checks import InputError
from vae_ref.conformance.claims import all_claims
from vae_ref.conformance.kinds import AmortisedPosterior
from vae_ref.conformance.mutants.kinds.calibration import specimen
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import Violation
from vae_ref.conformance.runner import verify
from vae_ref.kinds.calibration import p_values, ranks, scores, uniform_scores

STATISTICAL = [c for c in all_claims() if c.part == "calibration" and c.kind == "statistical"]


def test_scores_of_the_true_posterior_are_standard_normal():
    generator = torch.Generator().manual_seed(0)
    z, eps = (torch.randn(20_000, 2, generator=generator).double() for _ in range(2))
    x = z + eps
    s = scores(z, x / 2, torch.full_like(x, 0.5).log())
    assert stats.kstest(s.flatten().numpy(), stats.norm.cdf).pvalue > 1e-3
    mean, size = p_values(s)
    assert float(mean.min()) > 1e-3
    assert float(size.min()) > 1e-3
    narrow = p_values(scores(z, x / 2, torch.full_like(x, 0.5 * 0.95**2).log()))
    assert float(narrow[1].max()) < 1e-6


def test_p_values_are_those_of_scipy():
    s = torch.randn(50, 3, generator=torch.Generator().manual_seed(1)).double() * 1.1 + 0.1
    mean, size = p_values(s)
    below = stats.chi2(50).cdf((s**2).sum(0).numpy())
    assert size.numpy() == pytest.approx(2 * np.minimum(below, 1 - below))
    right = [stats.norm(scale=50**-0.5).sf(abs(m)) * 2 for m in s.mean(0).tolist()]
    assert mean.tolist() == pytest.approx(right)


def test_ranks_are_those_of_scipy_and_uniform():
    generator = torch.Generator().manual_seed(2)
    draws = torch.randn(9, 5000, 1, generator=generator)
    z, u = torch.randn(5000, 1, generator=generator), torch.rand(5000, 1, generator=generator)
    found = ranks(z, draws, u)
    both = torch.cat([z[None], draws]).numpy()
    assert np.array_equal(found.numpy(), stats.rankdata(both, axis=0)[0] - 1)
    assert stats.chisquare(np.bincount(found.flatten(), minlength=10)).pvalue > 1e-3
    s = uniform_scores(found, 9, torch.rand(5000, 1, generator=generator))
    assert stats.kstest(s.flatten().numpy(), stats.norm.cdf).pvalue > 1e-3


def test_ties_are_broken_evenly():
    u = torch.linspace(0, 0.999, 1000)[:, None]
    found = ranks(torch.ones(1000, 1), torch.ones(3, 1000, 1), u)
    assert torch.bincount(found.flatten()).tolist() == pytest.approx([250] * 4, abs=2)


def test_errors_name_the_argument():
    z = torch.zeros(3, 2)
    with pytest.raises(InputError, match="^z and mu and logvar must have the same shape"):
        scores(z, z, z[:1])
    with pytest.raises(InputError, match="^draws must have the shape of z"):
        ranks(z, torch.zeros(4, 2, 2), z)


@pytest.mark.slow
@pytest.mark.parametrize("claim", STATISTICAL, ids=lambda claim: claim.id)
def test_a_claim_is_as_often_wrong_as_it_says(claim):
    """At a level of 10 %, of 50 right subjects; tests of several latents are more careful."""
    alarms = 0
    for seed in range(50):
        probe = Probe(specimen(), seed, alpha=0.1)
        try:
            claim.check(probe)
        except Violation:
            alarms += 1
    assert stats.binom(50, 0.1).sf(alarms - 1) > 1e-4


def test_a_posterior_that_is_not_meant_to_be_exact_is_measured():
    subject = specimen()
    collapsed = AmortisedPosterior(
        name="collapsed",
        simulate=subject.simulate,
        gaussian_posterior=lambda x: (torch.zeros(len(x), 3), torch.full((len(x), 3), 2.0)),
    )
    found = verify(collapsed)
    assert found.counts == {"pass": 1, "not-applicable": 7}
    low = found.facts["deviation of the scores (z - mu) / sigma"].split()[0]
    assert float(low) == pytest.approx(np.exp(-1), rel=0.1)
