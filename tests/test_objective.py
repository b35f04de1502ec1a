import math

import pytest
import torch
import torch.nn.functional as F

from vae_ref import (
    VAE,
    Bernoulli,
    Gaussian,
    InputError,
    Terms,
    importance_weighted_bound,
    log_weight,
    loss_function,
    negative_elbo,
)


@pytest.fixture
def batch():
    torch.manual_seed(0)
    x, logits = torch.rand(6, 784), torch.randn(6, 784)
    return x, logits, torch.randn(6, 20), torch.randn(6, 20)


def test_loss_function_is_the_formula_of_the_text(batch):
    """Written out as in the text; sums, not means, over pixels, latents and examples."""
    x, logits, mu, logvar = batch
    p = torch.sigmoid(logits)
    text = -(x * p.log() + (1 - x) * (1 - p).log()).sum()
    text = text - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
    torch.testing.assert_close(loss_function(p, x, mu, logvar), text)


def test_loss_function_is_the_summed_negative_elbo(batch):
    x, logits, mu, logvar = batch
    terms = negative_elbo(x, logits, mu, logvar)
    torch.testing.assert_close(
        loss_function(torch.sigmoid(logits), x, mu, logvar), terms.loss().sum()
    )


def test_loss_function_takes_images(batch):
    x, logits, mu, logvar = batch
    p = torch.sigmoid(logits)
    images = x.reshape(6, 1, 28, 28)
    assert loss_function(p, images, mu, logvar) == loss_function(p, x, mu, logvar)


def test_loss_function_is_as_exact_as_float32_probabilities():
    """The range that its docstring states, on both sides."""
    code = torch.zeros(1, 1).float()

    def loss(logit: float, x: float) -> tuple[float, float]:
        outputs = torch.tensor([[logit]]).float().requires_grad_()
        value = loss_function(torch.sigmoid(outputs), torch.full_like(outputs, x), code, code)
        return value.item(), torch.autograd.grad(value, outputs)[0].item()

    for logit in torch.linspace(3, 14, 300).tolist():
        # a sigmoid within an ulp and a half of float32 next to 1, where an ulp is 2**-24
        truth, error = math.log1p(math.exp(logit)), 1.5 * 2**-24 * (1 + math.exp(logit))
        rounding = 2**-23 * truth
        assert abs(loss(logit, 0)[0] - truth) <= -math.log1p(-error) + rounding
    assert loss(16.7, 0) == loss(88.0, 0) == (100, 0)
    for logit in (-3.0, -26.0, -87.0):
        assert loss(logit, 1)[0] == pytest.approx(math.log1p(math.exp(-logit)), rel=1e-6)
    assert loss(-26.0, 1)[1] == pytest.approx(-1, rel=1e-4)
    assert abs(loss(-30.0, 1)[1]) < 0.1


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.full((6, 784), 255.0)}, r"^x must lie in \[0, 1\]; got 255.0"),
        ({"x": torch.zeros(6, 784, dtype=torch.uint8)}, "^x must be a floating-point"),
        ({"x": torch.zeros(6, 783)}, "^x must have as many examples and pixels as recon_x"),
        ({"x": torch.zeros(3, 1568)}, "^x must have as many examples and pixels as recon_x"),
        ({"recon_x": torch.full((6, 784), -0.1)}, r"^recon_x must lie in \[0, 1\]"),
        ({"mu": torch.zeros(6, 1)}, "^mu and logvar must have the same shape"),
        (
            {"mu": torch.zeros(1, 20), "logvar": torch.zeros(1, 20)},
            "^recon_x and mu must have the same batch",
        ),
        ({"recon_x": torch.full((6, 784), 3.0)}, "^recon_x .* Apply the sigmoid"),
    ],
)
def test_bad_input(batch, change, message):
    x, logits, mu, logvar = batch
    arguments = {"recon_x": torch.sigmoid(logits), "x": x, "mu": mu, "logvar": logvar, **change}
    with pytest.raises(InputError, match=message):
        loss_function(**arguments)


@pytest.mark.usefixtures("user")
def test_codes_and_outputs_belong_to_the_batch(batch):
    x, logits, mu, logvar = batch
    with pytest.raises(InputError, match="^x and mu must have the same batch"):
        negative_elbo(x, logits, mu[:1], logvar[:1])
    z = torch.randn(5, 6, 20)
    with pytest.raises(InputError, match="^outputs and z must have the same batch"):
        log_weight(x, logits, z, mu, logvar)
    with pytest.raises(InputError, match="^x and mu must have the same batch"):
        log_weight(x, logits, z[:, :1], mu[:1], logvar[:1])


def test_one_bare_image():
    half, code = torch.full((784,), 0.5), torch.zeros(20)
    loss = loss_function(half, torch.ones(1, 28, 28), code, code)
    assert loss.item() == pytest.approx(784 * math.log(2))


def test_beta_weighs_the_divergence_alone():
    terms = Terms(torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0]))
    assert terms.loss(0.5).tolist() == [6, 12]
    assert terms.loss(0).tolist() == [1, 2]


def test_the_likelihood_is_the_callers(batch):
    x, outputs, mu, logvar = batch
    terms = negative_elbo(x, outputs, mu, logvar, likelihood=Gaussian())
    squared = F.mse_loss(outputs, x, reduction="none").sum(-1)
    torch.testing.assert_close(terms.reconstruction, squared + 392 * math.log(math.pi))
    assert terms.divergence.equal(negative_elbo(x, outputs, mu, logvar).divergence)


def test_examples_do_not_mix(batch):
    x, outputs, mu, logvar = batch
    together = negative_elbo(x, outputs, mu, logvar).loss()
    for n in range(6):
        alone = negative_elbo(x[n], outputs[n], mu[n], logvar[n]).loss()
        torch.testing.assert_close(together[n], alone)


def test_a_bound_needs_a_sample():
    for nothing in (torch.zeros(0, 3), torch.zeros(())):
        with pytest.raises(InputError, match="^log_weights must have at least one sample"):
            importance_weighted_bound(nothing)


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian()], ids=repr)
def test_the_gradient_of_the_elbo_is_unbiased(likelihood):
    """Against differences of the expectation itself, over one latent by Gauss-Hermite nodes."""
    torch.manual_seed(0)
    model = VAE(3, 4, 1, likelihood=likelihood)
    x = torch.rand(1, 3)
    nodes, weights = torch.tensor(
        [[float(v) for v in row] for row in zip(*_gauss_hermite(64), strict=True)]
    ).T

    def expected() -> torch.Tensor:
        terms = model.terms(x.expand(64, 3), nodes[:, None])
        return (weights * terms.loss()).sum()

    bias = model.mu.bias
    (gradient,) = torch.autograd.grad(expected(), bias)
    step = 1e-5
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            bias += sign * step
            values.append(expected().item())
            bias -= sign * step
    assert gradient.item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-7)


def _gauss_hermite(n):
    from numpy.polynomial.hermite_e import hermegauss

    nodes, weights = hermegauss(n)
    return nodes, weights / weights.sum()
