import pytest
import torch

from vae_ref import (
    VAE,
    Autoencoder,
    Bernoulli,
    ContinuousBernoulli,
    Gaussian,
    InputError,
    LatentModel,
    loss_function,
)

BOTH = pytest.mark.parametrize("kind", [VAE, Autoencoder])


def test_the_textbooks_layers():
    shapes = {name: tuple(p.shape) for name, p in VAE().named_parameters()}
    assert shapes == {
        "decoder.0.weight": (400, 20),
        "decoder.0.bias": (400,),
        "decoder.2.weight": (784, 400),
        "decoder.2.bias": (784,),
        "encoder.0.weight": (400, 784),
        "encoder.0.bias": (400,),
        "mu.weight": (20, 400),
        "mu.bias": (20,),
        "logvar.weight": (20, 400),
        "logvar.bias": (20,),
    }
    assert sum(p.numel() for p in VAE().parameters()) == 652_824


@pytest.mark.parametrize("count", [0, 1, 96, 128])
@pytest.mark.parametrize("shape", [(784,), (1, 28, 28), (28, 28)])
def test_forward_of_any_batch_of_images(count, shape, device):
    model = VAE().to(device)
    recon_x, mu, logvar = model(torch.rand(count, *shape, device=device))
    assert recon_x.shape == (count, 784)
    assert mu.shape == logvar.shape == (count, 20)
    assert ((recon_x > 0) & (recon_x < 1)).all()
    assert Autoencoder().to(device)(torch.rand(count, *shape, device=device)).shape == (count, 784)


def test_one_bare_image():
    recon_x, mu, _ = VAE()(torch.rand(784))
    assert recon_x.shape == (784,)
    assert mu.shape == (20,)


@BOTH
@pytest.mark.parametrize(("pixels", "hidden", "latent"), [(3072, 64, 2), (16, 1, 1), (784, 50, 7)])
def test_other_dimensions_are_one_argument_away(kind, pixels, hidden, latent):
    model = kind(input_dim=pixels, hidden_dim=hidden, latent_dim=latent)
    x = torch.rand(5, pixels)
    assert model.embed(x).shape == (5, latent)
    assert model.decode(torch.randn(5, latent)).shape == (5, pixels)
    assert model.terms(x).loss().shape == (5,)


@BOTH
def test_the_hidden_layers_are_rectified_linear_units(kind):
    """The text's formulas, weight by weight."""
    model, x, z = kind(), torch.rand(5, 784), torch.randn(5, 20)
    h = torch.clamp(x @ model.encoder[0].weight.T + model.encoder[0].bias, min=0)
    head = model.mu if kind is VAE else model.encoder[2]
    torch.testing.assert_close(model.embed(x), h @ head.weight.T + head.bias)
    h = torch.clamp(z @ model.decoder[0].weight.T + model.decoder[0].bias, min=0)
    logits = h @ model.decoder[2].weight.T + model.decoder[2].bias
    torch.testing.assert_close(model.decode_logits(z), logits)


def test_forward_is_the_composition_of_its_parts():
    model, x, eps = VAE(), torch.rand(5, 784), torch.randn(5, 20)
    recon_x, mu, logvar = model(x, eps)
    for got, expected in zip((mu, logvar), model.encode(x), strict=True):
        assert got.equal(expected)
    z = model.reparameterize(mu, logvar, eps)
    assert z.equal(mu + eps * torch.exp(logvar / 2))
    assert recon_x.equal(torch.sigmoid(model.decode_logits(z)))
    assert recon_x.equal(model.decode(z))


def test_terms_are_those_of_the_loss_function():
    model, x, eps = VAE(), torch.rand(5, 784), torch.randn(5, 20)
    terms = model.terms(x, eps)
    torch.testing.assert_close(loss_function(*_recon_first(model(x, eps), x)), terms.loss().sum())


def _recon_first(output, x):
    recon_x, mu, logvar = output
    return recon_x, x, mu, logvar


@pytest.mark.parametrize("training", [True, False])
def test_without_noise_it_is_drawn_from_torchs_generator_in_evaluation_too(training):
    model, x = VAE().train(training), torch.rand(5, 784)
    torch.manual_seed(7)
    first = model(x)[0]
    again = model(x)[0]
    torch.manual_seed(7)
    assert model(x)[0].equal(first)
    assert not again.equal(first)


def test_gradients_reach_every_parameter():
    model = VAE()
    model.terms(torch.rand(64, 784)).loss().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_examples_do_not_leak_into_each_other():
    model, x, eps = VAE(), torch.rand(5, 784), torch.randn(5, 20)
    x.requires_grad_()
    for output in model(x, eps):
        (gradient,) = torch.autograd.grad(output[2].sum(), x, retain_graph=True)
        assert gradient[2].abs().sum() > 0
        assert gradient[[0, 1, 3, 4]].abs().sum() == 0


def test_the_autoencoder_copies_without_noise_or_divergence():
    model, x = Autoencoder().train(), torch.rand(5, 784)
    assert model(x).equal(model(x))
    terms = model.terms(x, torch.randn(5, 20))
    assert terms.divergence.eq(0).all()
    assert terms.reconstruction.equal(Bernoulli().nll(model.decode_logits(model.encode(x)), x))


@BOTH
@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian(), ContinuousBernoulli()], ids=repr)
def test_decode_is_the_mean_of_the_likelihood(kind, likelihood):
    model, z = kind(likelihood=likelihood), torch.randn(3, 20)
    assert model.decode(z).equal(likelihood.mean(model.decode_logits(z)))


def test_several_codes_for_one_image():
    model, x = VAE(), torch.rand(3, 784)
    mu, logvar = model.encode(x)
    z = model.reparameterize(mu, logvar, torch.randn(7, 3, 20))
    assert model.decode(z).shape == (7, 3, 784)


def test_single_and_double_precision_agree():
    torch.manual_seed(0)
    model, x, eps = VAE(), torch.rand(5, 784), torch.randn(5, 20)
    double = model.terms(x, eps).loss()
    single = model.float().terms(x.float(), eps.float()).loss()
    torch.testing.assert_close(single.double(), double, rtol=2e-6, atol=0)


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize("shape", [(5, 783), (5, 3, 28, 28), (1,), (0, 10), ()])
def test_wrong_number_of_pixels(shape):
    with pytest.raises(InputError, match=r"^x must have 784 pixels per example; got \("):
        VAE()(torch.rand(shape))


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize("shape", [(20,), (1, 20), (5, 1)])
def test_noise_that_would_be_shared(shape):
    with pytest.raises(InputError, match="^eps must have the shape of mu"):
        VAE()(torch.rand(5, 784), torch.randn(shape))


@BOTH
@pytest.mark.parametrize("name", ["input_dim", "hidden_dim", "latent_dim"])
def test_dimensions_are_positive(kind, name):
    with pytest.raises(InputError, match=f"^{name} must be a positive integer; got 0"):
        kind(**{name: 0})


def test_a_latent_model_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        LatentModel()


@pytest.mark.usefixtures("user")
@BOTH
def test_a_likelihood_is_not_a_name(kind):
    with pytest.raises(InputError, match="^likelihood must have nll, mean and sample; got 'gau"):
        kind(likelihood="gaussian")
