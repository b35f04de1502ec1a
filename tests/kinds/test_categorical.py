"""The mathematics of discrete codes: compared with scipy, with quadrature and with enumeration."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from vae_ref import InputError
from vae_ref.conformance.kinds import CategoricalVAE
from vae_ref.conformance.subject import DeclarationError
from vae_ref.kinds.categorical import entropy, kl_between, kl_to_uniform
from vae_ref.kinds.gumbel import gumbel, gumbel_softmax, log_density, straight_through


def logits(*shape, seed=0):
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def noise(*shape, seed=0):
    return gumbel(torch.rand(*shape, generator=torch.Generator().manual_seed(seed)))


def test_the_divergences_and_the_entropy_are_those_of_scipy():
    q, p = logits(3, 4, 5), logits(3, 4, 5, seed=1)
    a, b = (special.softmax(tensor.numpy(), -1) for tensor in (q, p))
    assert np.allclose(kl_between(q, p), stats.entropy(a, b, axis=-1).sum(1))
    assert np.allclose(entropy(q), stats.entropy(a, axis=-1).sum(1))
    assert np.allclose(kl_to_uniform(q), stats.entropy(a, 0 * a + 1, axis=-1).sum(1))


def test_the_divergence_is_the_sum_over_all_codes():
    q, p = logits(3, 4), logits(3, 4, seed=1)
    log_q, log_p = q.log_softmax(-1), p.log_softmax(-1)
    total = 0.0
    for code in itertools.product(range(4), repeat=3):
        of_q, of_p = (sum(log[d, k] for d, k in enumerate(code)) for log in (log_q, log_p))
        total += of_q.exp() * (of_q - of_p)
    assert torch.allclose(kl_between(q, p), total)


def test_the_noise_is_standard_gumbel():
    u = torch.linspace(0.01, 0.99, 99)
    assert np.allclose(stats.gumbel_r.cdf(gumbel(u)), u)


def test_a_relaxed_draw_is_largest_at_the_class_that_is_drawn():
    q, g = logits(50, 2, 4), noise(50, 2, 4)
    y = gumbel_softmax(q, g, 0.3)
    assert torch.equal(y.argmax(-1), (q + g).argmax(-1))
    z = straight_through(q, g, 0.3)
    assert torch.allclose(z, torch.nn.functional.one_hot(y.argmax(-1), 4).to(z))


def test_a_straight_through_draw_has_the_gradient_of_the_relaxed_one():
    q, g, w = logits(5, 2, 4).requires_grad_(), noise(5, 2, 4), logits(5, 2, 4, seed=3)
    slopes = [
        torch.autograd.grad((draw(q, g, 0.7) * w).sum(), q)[0]
        for draw in (gumbel_softmax, straight_through)
    ]
    assert torch.equal(*slopes)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("classes", [2, 3, 4])
def test_the_density_is_that_of_the_draws(classes, temperature):
    generator = torch.Generator().manual_seed(classes)
    q, g = logits(1, classes), noise(200_000, 1, classes)
    y = gumbel_softmax(q.expand(len(g), 1, classes), g, temperature)
    # The density of other logits over that of these has the mean 1 under these.
    other = q + 0.3 * torch.randn(1, classes, generator=generator)
    log_ratio = log_density(y, other.expand_as(y), temperature)
    log_ratio -= log_density(y, q.expand_as(y), temperature)
    ratio = log_ratio.exp()
    assert abs(ratio.mean() - 1) < 6 * ratio.std() / math.sqrt(len(ratio))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_the_density_integrates_to_one(temperature):
    """Over the logarithm of the ratio of two classes, whose Jacobian is the product of both."""
    q = logits(1, 2)

    def of_ratio(r):
        y = torch.tensor([[special.expit(r), special.expit(-r)]])
        return math.exp(log_density(y, q, temperature)) * float(y.prod())

    assert integrate.quad(of_ratio, -60, 60, points=[0])[0] == pytest.approx(1, rel=1e-7)


def test_the_density_of_two_classes_is_that_of_a_logistic_number():
    q, y = logits(7, 1, 2), torch.rand(7, 1, generator=torch.Generator().manual_seed(2))
    r = torch.logit(y)[:, 0].numpy()
    loc, scale = ((q[:, 0, 0] - q[:, 0, 1]) / 0.6).numpy(), 1 / 0.6
    exact = stats.logistic.logpdf(r, loc, scale) - np.log((y * (1 - y)).numpy()[:, 0])
    assert np.allclose(log_density(torch.stack([y, 1 - y], -1), q, 0.6), exact)


def test_errors():
    q = logits(3, 2, 4)
    with pytest.raises(InputError, match="logits and prior_logits must have the same shape"):
        kl_between(q, q[:1])
    with pytest.raises(InputError, match="logits and g must have the same shape"):
        gumbel_softmax(q, q[..., :1], 1.0)
    with pytest.raises(InputError, match="y and logits must have the same shape"):
        log_density(q[:1], q, 1.0)
    for draw in (gumbel_softmax, straight_through, log_density):
        with pytest.raises(InputError, match="temperature must be positive; got 0"):
            draw(q, q, 0.0)
    with pytest.raises(DeclarationError, match="takes must be logits or log_probabilities or"):
        CategoricalVAE(name="mine", takes="odds")
    with pytest.raises(DeclarationError, match="classes must be from 2 to 1,000,000; got 1"):
        CategoricalVAE(name="mine", classes=1)
