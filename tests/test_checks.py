import math

import pytest
import torch

from vae_ref import Recipe
from vae_ref.checks import (
    InputError,
    require_extends,
    require_finite,
    require_in_unit_interval,
    require_same_shape,
    unchecked,
)


def test_a_message_has_the_argument_the_rule_the_value_and_the_remedy():
    error = InputError("beta", "be finite", math.inf, "The ELBO has 1.")
    assert str(error) == "beta must be finite; got inf. The ELBO has 1."


def test_shapes_are_never_broadcast():
    with pytest.raises(InputError, match=r"^mu and logvar must .*got mu \(3, 2\), logvar \(2,\)"):
        require_same_shape(mu=torch.zeros(3, 2), logvar=torch.zeros(2))


@pytest.mark.parametrize("shape", [(2,), (1, 2), (3, 1), (3, 3, 2, 1), ()])
def test_only_whole_leading_axes_extend_a_shape(shape):
    with pytest.raises(InputError, match=r"^eps must have the shape of mu, \(3, 2\)"):
        require_extends("eps", torch.zeros(shape), "mu", torch.zeros(3, 2))
    for leading in [(), (1,), (5, 4)]:
        require_extends("eps", torch.zeros(*leading, 3, 2), "mu", torch.zeros(3, 2))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1.0001, -1e-9, 255.0])
def test_a_pixel_out_of_range_is_named_with_its_index(bad, device):
    x = torch.full((2, 3), 0.5, device=device)
    x[1, 2] = bad
    with pytest.raises(InputError, match=r"^x must lie in \[0, 1\]; got .* at index \(1, 2\)\."):
        require_in_unit_interval("x", x)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_bytes_are_not_pixels_yet(dtype):
    with pytest.raises(InputError, match=r"^x must be a floating-point .*Divide .* by 255"):
        require_in_unit_interval("x", torch.zeros(2, dtype=dtype))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_value_that_is_not_finite_is_named_with_its_index(bad):
    with pytest.raises(InputError, match=r"^x must be finite; got (nan|inf) at index \(0, 1\)\."):
        require_finite("x", torch.tensor([[0.0, bad]]))


@pytest.mark.parametrize("check", [require_finite, require_in_unit_interval])
def test_the_edges_and_nothing_at_all_are_in_range(check):
    check("x", torch.tensor([0.0, 1.0]))
    check("x", torch.zeros(0, 784))


def test_values_are_left_out_on_request_and_checked_again_afterwards():
    bad = torch.tensor([math.nan])
    with unchecked():
        require_in_unit_interval("x", bad)
        require_finite("x", bad)
        with pytest.raises(InputError):
            require_same_shape(a=bad, b=bad[0])
    with pytest.raises(InputError):
        require_finite("x", bad)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        pytest.param("9" * 5000, f"{'9' * 60}...{'9' * 20} (5,000 characters)", id="digits"),
        ("two\nlines\x1b[2J\udcff", r"two\nlines\x1b[2J\udcff"),
        pytest.param(10**5000, "a number of 16,610 bits", id="a number without end"),
        ("é漢", "é漢"),
    ],
)
def test_a_message_is_one_short_line_whatever_the_value(value, said):
    assert str(InputError("seed", "be small", value, "Use 0.")).endswith(f"got {said}. Use 0.")


@pytest.mark.usefixtures("user")
def test_true_is_no_number():
    with pytest.raises(InputError, match="^latent_dim must be a positive integer; got True"):
        Recipe(latent_dim=True)
