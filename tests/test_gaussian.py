"""The laws are in property_tests; here, what a user can do wrong, and hardware."""

import pytest
import torch

from vae_ref import (
    InputError,
    entropy,
    kl_between,
    kl_to_standard_normal,
    log_density,
    reparameterize,
)

A, B = torch.zeros(4, 3), torch.zeros(1, 3)


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: kl_to_standard_normal(A, B), "mu and logvar"),
        (lambda: reparameterize(A, B, A), "mu and logvar"),
        (lambda: reparameterize(A, A, B), "eps"),
        (lambda: reparameterize(A, A, A[:, :1]), "eps"),
        (lambda: log_density(A, A, B), "mu and logvar"),
        (lambda: log_density(A[:2], A, A), "z"),
        (lambda: kl_between(A, A, B, B), "mu_q and logvar_q and mu_p and logvar_p"),
    ],
)
def test_nothing_is_broadcast_silently(call, names):
    with pytest.raises(InputError, match=f"^{names} must have the s"):
        call()


def test_entropy_is_torchs():
    logvar = torch.randn(4, 3)
    theirs = torch.distributions.Normal(torch.zeros(4, 3), (logvar / 2).exp()).entropy().sum(-1)
    torch.testing.assert_close(entropy(logvar), theirs)


@pytest.mark.parametrize("batch", [(), (0,), (1,), (2, 3)])
def test_any_batch_shape(batch):
    mu = torch.randn(*batch, 5)
    assert kl_to_standard_normal(mu, mu).shape == batch
    assert log_density(mu, mu, mu).shape == batch
    assert entropy(mu).shape == batch


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_every_device_and_precision_agrees_with_double_precision(dtype, device):
    mu, logvar = torch.randn(2, 6, 5).unbind()
    there = kl_to_standard_normal(mu.to(device, dtype), logvar.to(device, dtype))
    assert there.dtype == dtype
    rtol = 8 * torch.finfo(dtype).eps
    here = kl_to_standard_normal(mu.to(dtype).double(), logvar.to(dtype).double())
    torch.testing.assert_close(there.double().cpu(), here, rtol=rtol, atol=0)
