"""The linear-Gaussian VAE: its closed forms against scipy, torch.distributions and the loss."""

import math

import pytest
import torch
from scipy import stats
from torch import distributions

from vae_ref import InputError, LinearVAE, exact_elbo, exact_log_evidence


@pytest.fixture
def model():
    """Columns that are not orthogonal, and an encoder that is not the posterior."""
    torch.manual_seed(0)
    model = LinearVAE(7, 3)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return model


@pytest.fixture
def x():
    return 2 * torch.linspace(-2, 2, 35).cos().view(5, 7)


def sigma_points(latent, examples):
    """Noise of mean 0 and covariance I: an average over it is exact for every quadratic."""
    axes = math.sqrt(latent) * torch.eye(latent)
    return [eps.expand(examples, latent) for eps in torch.cat([axes, -axes])]


def sampled_loss(model, x):
    """The training loss, averaged over noise, of which it is a quadratic here."""
    losses = [model.terms(x, eps).loss() for eps in sigma_points(model.latent_dim, len(x))]
    return torch.stack(losses).mean(0)


def test_the_elbo_is_the_expected_training_loss(model, x):
    torch.testing.assert_close(-exact_elbo(model, x), sampled_loss(model, x), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    "name", ["decoder.weight", "decoder.bias", "mu.weight", "logvar", "likelihood.logvar"]
)
def test_training_follows_the_gradient_of_the_elbo(model, x, name):
    """For every parameter, the pixel variance included: gradients are quadratics of noise too."""
    parameter = model.get_parameter(name)
    (exact,) = torch.autograd.grad(-exact_elbo(model, x).sum(), parameter)
    (sampled,) = torch.autograd.grad(sampled_loss(model, x).sum(), parameter)
    torch.testing.assert_close(sampled, exact, rtol=1e-10, atol=1e-10)


def test_these_are_all_the_parameters(model):
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert shapes == {
        "likelihood.logvar": (),
        "decoder.weight": (7, 3),
        "decoder.bias": (7,),
        "mu.weight": (3, 7),
        "logvar": (3,),
    }


def test_the_evidence_is_a_gaussian_density(model, x):
    weight, bias = model.decoder.weight.detach(), model.decoder.bias.detach()
    covariance = weight @ weight.T + model.likelihood.logvar.exp().item() * torch.eye(7)
    expected = stats.multivariate_normal(bias.numpy(), covariance.numpy()).logpdf(x.numpy())
    torch.testing.assert_close(
        exact_log_evidence(model, x).detach(), torch.tensor(expected), rtol=1e-12, atol=0
    )


def test_the_elbo_misses_the_evidence_by_the_divergence_from_the_posterior(model, x):
    weight, s2 = model.decoder.weight, model.likelihood.logvar.exp()
    precision = torch.eye(3) + weight.T @ weight / s2
    mean = torch.linalg.solve(precision, (x - model.decoder.bias) @ weight / s2, left=False)
    posterior = distributions.MultivariateNormal(mean, precision_matrix=precision)
    mu, logvar = model.encode(x)
    q = distributions.MultivariateNormal(mu, torch.diag_embed(logvar.exp()))
    torch.testing.assert_close(
        exact_log_evidence(model, x) - exact_elbo(model, x),
        distributions.kl_divergence(q, posterior),
        rtol=1e-10,
        atol=1e-10,
    )


@pytest.mark.parametrize("function", [exact_elbo, exact_log_evidence])
@pytest.mark.parametrize("shape", [(5, 1, 7), (5, 7, 1)])
def test_of_images(model, x, function, shape):
    assert function(model, x.view(shape)).view(5).equal(function(model, x))


@pytest.mark.parametrize("function", [exact_elbo, exact_log_evidence])
def test_of_one_bare_example(model, x, function):
    torch.testing.assert_close(function(model, x[2]), function(model, x)[2])


@pytest.mark.parametrize("function", [exact_elbo, exact_log_evidence])
def test_of_another_number_of_pixels(model, function):
    with pytest.raises(InputError, match="^x must have 7 pixels per example"):
        function(model, torch.zeros(5, 8))


def test_the_likelihood_is_a_gaussian_of_the_learned_variance(model):
    outputs, noise = torch.zeros(5, 7), torch.ones(5, 7)
    deviation = math.exp(model.likelihood.logvar.item() / 2)
    torch.testing.assert_close(model.likelihood.sample(outputs, noise), deviation * noise)
    assert model.decode(torch.zeros(5, 3)).equal(model.decoder.bias.expand(5, 7))


def test_embeds_by_the_posterior_means(model, x):
    """V (x - b): one bias serves the encoder and the decoder."""
    expected = (x - model.decoder.bias) @ model.mu.weight.T
    torch.testing.assert_close(model.embed(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["input_dim", "latent_dim"])
def test_dimensions_are_positive(name):
    with pytest.raises(InputError, match=f"^{name} must be a positive integer; got 0"):
        LinearVAE(**{"input_dim": 7, "latent_dim": 3, name: 0})
