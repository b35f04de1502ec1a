"""The laws are in property_tests; here, what a user can do wrong."""

import math

import pytest
import torch

from vae_ref import Bernoulli, ContinuousBernoulli, Gaussian, InputError
from vae_ref.checks import unchecked

OF_PIXELS = [Bernoulli(), ContinuousBernoulli()]


@pytest.mark.parametrize("likelihood", OF_PIXELS, ids=repr)
@pytest.mark.parametrize("pixel", [255.0, -0.42, math.nan])
def test_pixels_out_of_range(likelihood, pixel):
    with pytest.raises(InputError, match=r"^x must lie in \[0, 1\]"):
        likelihood.nll(torch.zeros(2, 3), torch.full((2, 3), pixel))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_gaussian_data_may_be_anything_finite(value):
    Gaussian().nll(torch.zeros(2), torch.tensor([-1e3, 255.0]))
    with pytest.raises(InputError, match=r"^x must be finite"):
        Gaussian().nll(torch.zeros(1), torch.tensor([value]))


@pytest.mark.parametrize("variance", [0, -1.0, math.nan, math.inf])
def test_variance_out_of_range(variance):
    with pytest.raises(InputError, match=r"^variance must be positive and finite"):
        Gaussian(variance)


def test_a_variance_from_a_decoder_is_checked_too():
    with pytest.raises(InputError, match=r"^variance must be positive .* at index \(1,\)"):
        Gaussian(torch.tensor([1.0, -0.5]))


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize("shape", [(7, 4, 5), (4,), (1, 5)])
def test_a_variance_that_would_broadcast(shape):
    with pytest.raises(InputError, match="^outputs must have the shape of variance"):
        Gaussian(torch.ones(shape)).nll(torch.zeros(4, 5), torch.zeros(4, 5))


def test_the_variance_keeps_its_digits_whatever_the_default_precision():
    torch.set_default_dtype(torch.float32)
    nll = Gaussian(0.1).nll(*torch.tensor([[0.0], [1.0]], dtype=torch.float64))
    assert nll.item() == pytest.approx(5 + math.log(2 * math.pi * 0.1) / 2, rel=1e-15)
    Gaussian(1e-50)
    Gaussian(1e39)


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize("likelihood", [*OF_PIXELS, Gaussian()], ids=repr)
@pytest.mark.parametrize("shape", [(5,), (4, 1), (1, 5), (4, 6)])
def test_shapes_that_would_broadcast(likelihood, shape):
    with pytest.raises(InputError, match=r"^outputs must have the shape of x, \(4, 5\)"):
        likelihood.nll(torch.zeros(shape), torch.zeros(4, 5))


@pytest.mark.parametrize("likelihood", [*OF_PIXELS, Gaussian()], ids=repr)
def test_gradients(likelihood):
    outputs = torch.linspace(-3, 3, 6).reshape(2, 3).requires_grad_()
    x = torch.linspace(0, 1, 6).reshape(2, 3)
    assert torch.autograd.gradcheck(lambda o: likelihood.nll(o, x), outputs)
    hessian = torch.func.hessian(lambda o: likelihood.nll(o, x).sum())
    with unchecked():
        assert hessian(outputs.detach()).shape == (2, 3, 2, 3)
    with unchecked():  # which cannot look at values inside vmap
        mapped = torch.func.vmap(likelihood.nll)(outputs, x)
    torch.testing.assert_close(mapped, likelihood.nll(outputs, x))
