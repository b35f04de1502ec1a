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


def test_loss_function_is_exact_up_to_a_wrong_logit_of_15_and_dead_beyond_17():
    """The range that its docstring states."""
    zero, code = torch.zeros(1, 1).float(), torch.zeros(1, 1).float()
    for logit, error in ((10.0, 1e-3), (15.0, 0.05)):
        p = torch.sigmoid(torch.tensor([[logit]]).float())
        assert loss_function(p, zero, code, code).item() == pytest.approx(logit, rel=error)
    outputs = torch.tensor([[18.0]]).float().requires_grad_()
    loss = loss_function(torch.sigmoid(outputs), zero, code, code)
    assert loss.item() == 100
    assert torch.autograd.grad(loss, outputs)[0].item() == 0


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.full((6, 784), 255.0)}, r"^x must lie in \[0, 1\]; got 255.0"),
        ({"x": torch.zeros(6, 784, dtype=torch.uint8)}, "^x must be a floating-point"),
        ({"x": torch.zeros(6, 783)}, "^x must have as many examples and pixels as recon_x"),
        ({"x": torch.zeros(3, 1568)}, "^x must have as many examples and pixels as recon_x"),
        ({"recon_x": torch.full((6, 784), -0.1)}, r"^recon_x must lie in \[0, 1\]"),
        ({"mu": torch.zeros(1, 20)}, "^mu and logvar must have the same shape"),
    ],
)
def test_bad_input(batch, change, message):
    x, logits, mu, logvar = batch
    arguments = {"recon_x": torch.sigmoid(logits), "x": x, "mu": mu, "logvar": logvar, **change}
    with pytest.raises(InputError, match=message):
        loss_function(**arguments)


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
