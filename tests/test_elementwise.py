import pytest
import torch

from vae_ref.elementwise import elementwise

sine = elementwise(torch.sin, torch.cos)


def test_value_and_derivative_are_the_ones_given():
    odd = elementwise(torch.sin, lambda x: 7 * x)
    x = torch.linspace(-2, 2, 5, requires_grad=True)
    y = odd(x)
    assert y.equal(torch.sin(x))
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient.equal(7 * x)


def test_derivatives_of_every_order_and_mode():
    x = torch.linspace(-2, 2, 5, requires_grad=True)
    assert torch.autograd.gradcheck(sine, x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(sine, x)


@pytest.mark.parametrize("transform", [torch.func.jacfwd, torch.func.jacrev])
def test_function_transforms(transform):
    x = torch.linspace(-2, 2, 5)
    torch.testing.assert_close(transform(sine)(x), torch.diag(x.cos()))
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(sine))(x), x.cos())
