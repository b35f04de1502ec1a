"""What is off by a few tolerances is refused: no tolerance is wider than it says.

A tolerance multiplied by 100 would let every one of these pass; so would one multiplied by 10.
"""

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from vae_ref.conformance.answers import statistics
from vae_ref.conformance.answers.comparison import ROUNDINGS
from vae_ref.conformance.claims import all_claims, significance
from vae_ref.conformance.mutants.specimen import Net, bound, kl, nll, sample, specimen
from vae_ref.conformance.runner import check, probe_of

CLAIMS = {claim.id: claim for claim in all_claims()}
OFF = 1 + 300 * ROUNDINGS * torch.finfo(torch.float64).eps


def gradient_off(function, which):
    """Return a function with the right value and a gradient that is off a little in one input."""

    def off(*inputs):
        inputs = list(inputs)
        inputs[which] = OFF * inputs[which] - ((OFF - 1) * inputs[which]).detach()
        return function(*inputs)

    return off


def weighing(a, b):
    return lambda o, x, mu, logvar: a * nll(o, x).sum() + b * kl(mu, logvar).sum()


class Leaky(Net):
    def encode(self, x):
        mu, logvar = super().encode(x)
        return mu + 0.002 * mu.sum(0, keepdim=True), logvar + 0 * mu


class LeakyDecoder(Net):
    def decode(self, z):
        outputs = super().decode(z)
        return outputs + 0.002 * (outputs.mean(0, keepdim=True) - outputs)


class OtherInDouble(Net):
    def encode(self, x):
        mu, logvar = super().encode(x)
        return mu * (1.02 if x.dtype == torch.float64 else 1.0), logvar


class AlmostComposed(Net):
    def forward(self, x):
        mu, logvar = self.encode(x)
        return self.decode(1.02 * self.reparameterize(mu, logvar)), mu, logvar


class AlmostInOrder(Net):
    def forward(self, x):
        outputs, mu, logvar = super().forward(x)
        return outputs, mu + 1e-3, logvar


def split_off(outputs, x, mu, logvar):
    """Weigh single examples a little more than those of a batch."""
    return weighing(1, 1)(outputs, x, mu, logvar) * (OFF if len(x) == 1 else 1)


def mixed(outputs, x, mu, logvar):
    whole = weighing(1, 1)(outputs, x, mu, logvar)
    return whole + 1e-9 * nll(outputs, x).sum() * kl(mu, logvar).sum()


NEAR = {
    "kl/closed-form": {"kl": lambda mu, s: OFF * kl(mu, s)},
    "kl/quadrature": {"kl": lambda mu, s: (1 + 1e-7) * kl(mu, s)},
    "kl/fifty-digits": {"kl": lambda mu, s: OFF * kl(mu, s)},
    "kl/zero-at-prior": {"kl": lambda mu, s: kl(mu, s) + 1e-300},
    "kl/positive-elsewhere": {"kl": lambda mu, s: kl(mu, s) - 6e-5},
    "kl/gradient-mu": {"kl": gradient_off(kl, 0)},
    "kl/gradient-logvar": {"kl": gradient_off(kl, 1)},
    "kl/sum-over-latents": {"kl": lambda mu, s: kl(mu, s) * OFF ** mu.shape[1]},
    "kl/additive-over-examples": {"kl": lambda mu, s: kl(mu, s) * OFF ** len(mu)},
    "kl/large-logvar": {"kl": lambda mu, s: torch.where(s[:, 0].abs() > 30, OFF, 1.0) * kl(mu, s)},
    "kl/near-prior": {"kl": lambda mu, s: kl(mu, s) + 1e-12 * mu.shape[1]},
    "kl/single-precision": {"kl": lambda mu, s: kl(mu, s) * (1 + 2e-4)},
    "reparameterization/affine": {"sample": lambda mu, s: OFF * sample(mu, s)},
    "reparameterization/extremes": {
        "sample": lambda mu, s: sample(mu, torch.where(s.abs() > 20, OFF * s, s))
    },
    "reparameterization/gradient-mu": {"sample": gradient_off(sample, 0)},
    "reparameterization/gradient-sigma": {"sample": gradient_off(sample, 1)},
    "reparameterization/gradient-logvar": {"sample": gradient_off(sample, 1)},
    # Statistical claims: what they say that they find, and no more than a quarter of a bug.
    "reparameterization/mean": {"sample": lambda mu, s: sample(mu + 0.02 * (s / 2).exp(), s)},
    "reparameterization/sigma": {
        "sample": lambda mu, s: mu + 1.01 * (s / 2).exp() * torch.randn_like(mu)
    },
    "likelihood/value": {"nll": lambda o, x: OFF**30 * nll(o, x)},
    "likelihood/gradient": {"nll": gradient_off(nll, 0)},
    "likelihood/sum-over-pixels": {"nll": lambda o, x: nll(o, x) * OFF ** (30 * x.shape[1])},
    "likelihood/additive-over-examples": {"nll": lambda o, x: nll(o, x) * OFF ** (30 * len(x))},
    "likelihood/exact-range": {"nll": lambda o, x: nll(o.clamp(2e-4, 1 - 2e-4), x)},
    "objective/sum-of-parts": {"loss": mixed},
    "objective/beta": {"loss": weighing(1, 1 + 2e-4)},
    "objective/short-last-batch": {"loss": split_off},
    "objective/gap": {"loss": weighing(1, 1 + 1e-3)},
    "objective/tight": {"loss": lambda *a: weighing(1, 1)(*a) + 1e-3 * len(a[0])},
    "objective/gradient": {"loss": weighing(1, 1 + 1e-3)},
    "objective/importance-weighted": {"bound": lambda w: OFF * bound(w)},
    "objective/importance-weighted-range": {"bound": lambda w: OFF * bound(w)},
    "objective/importance-weighted-gradient": {"bound": lambda w: OFF**3 * bound(w)},
    "model/no-leakage-encoder": {"net": Leaky},
    "model/no-leakage-decoder": {"net": LeakyDecoder},
    "model/double-precision": {"net": OtherInDouble},
    "model/forward-is-the-composition": {"net": AlmostComposed},
    "model/outputs-in-order": {"net": AlmostInOrder},
}


@pytest.mark.parametrize("identifier", NEAR)
def test_a_near_miss_is_refused(identifier):
    assert identifier in CLAIMS, f"no claim is called {identifier} yet"
    result = check(CLAIMS[identifier], probe_of(specimen(**NEAR[identifier])))
    assert result.status == "fail", result


@pytest.mark.parametrize("identifier", NEAR)
def test_and_the_specimen_itself_is_not(identifier):
    assert check(CLAIMS[identifier], probe_of(specimen())).status == "pass"


def correlated(axis):
    """Return noise in which neighbours along an axis, or calls, have a correlation of 0.02."""
    last = {}

    def draw(mu, logvar):
        own = torch.randn_like(mu)
        if axis == "calls":
            other = last.get(mu.shape, torch.randn_like(mu))
            last[mu.shape] = own
        else:
            shared = torch.randn_like(mu)
            index = torch.arange(mu.shape[axis]) // 2 * 2
            other = shared.index_select(axis, index)
        r = 0.02**0.5 if axis != "calls" else 0.02
        return mu + (logvar / 2).exp() * (r * other + (1 - r * r) ** 0.5 * own)

    return draw


@pytest.mark.parametrize(
    ("identifier", "axis"),
    [
        ("reparameterization/independent-examples", 0),
        ("reparameterization/independent-latents", 1),
        ("reparameterization/independent-calls", "calls"),
    ],
)
def test_a_correlation_of_two_percent_is_found(identifier, axis):
    result = check(CLAIMS[identifier], probe_of(specimen(sample=correlated(axis))))
    assert result.status == "fail", result


def test_a_skewness_a_kurtosis_and_a_tail_as_declared_are_found():
    """Of the noise itself, at the level and the number of draws in use."""
    import numpy as np

    from vae_ref.conformance.probe.draws import needed

    generator, n = np.random.default_rng(0), needed(significance())
    shape = 4 / 0.1**2
    skewed = (generator.gamma(shape, size=n) - shape) / shape**0.5
    assert statistics.score(statistics.legendre(skewed, 3), 7**0.5) < significance()
    mixture = generator.standard_normal(n)
    # Excess kurtosis 0.3 by two scales: 3 (E[s^4] - 1) = 0.3.
    scales = np.sqrt(1 + np.sqrt(0.1) * np.sign(generator.standard_normal(n)))
    assert statistics.score(statistics.legendre(mixture * scales, 4), 3.0) < significance()
    heavy = np.where(generator.random(n) < 0.3 * 0.0027, 3.5, generator.standard_normal(n))
    assert statistics.tails(heavy) < significance()


def by_covariance(mu, logvar):
    """Return the KL of torch's own Gaussians of full covariance, which has to be invertible."""
    posterior = MultivariateNormal(mu, torch.diag_embed(logvar.exp()))
    prior = MultivariateNormal(torch.zeros_like(mu), torch.eye(mu.shape[1], dtype=mu.dtype))
    return kl_divergence(posterior, prior)


def test_a_kl_that_raises_where_the_variance_is_zero_is_refused(user):
    result = check(CLAIMS["kl/large-logvar"], probe_of(specimen(kl=by_covariance)))
    assert result.status == "fail"
    assert "in single precision it raises" in result.message
    assert "at logvar = -104" in result.message
