import pytest
import torch
from variants import VARIANTS

from vae_ref.conformance import verify

HOLDS = ("pass", "not-applicable")

# What the kit gets wrong; whoever mends it is told so by a test that passes unexpectedly.
NOT_YET = {
    "mean_over_any_number_of_pixels": "a loss scaled by the number of pixels has no weight",
    "means_declared": "the claims about the bound ignore the declared reductions",
    "kl_mean_declared": "the claims about the bound ignore the declared reductions",
    "handed_over_in_evaluation": "the sampler is not switched to training",
    "continuous_bernoulli_of_torch": "the tolerance ignores the cancellation next to p = 1/2",
    "images_in_images_out": "two claims about the model call nll and loss with flat images",
    "numpy_without_gradients": "behind a lambda, a missing gradient is an error",
    "jax_functions": "from_jax calls a sampler again for its gradient; draws time the compiler",
}


def case(make):
    name = make.__name__
    marks = [pytest.mark.xfail(reason=NOT_YET[name])] if name in NOT_YET else []
    return pytest.param(make, id=name, marks=marks)


@pytest.mark.parametrize("make", [case(make) for make in VARIANTS])
def test_no_alarm_is_raised_over_a_variant_that_is_right(make):
    torch.manual_seed(0)
    alarms = [r for r in verify(make()).results if r.status not in HOLDS]
    assert not alarms, "\n".join(f"{r.claim.id}: {r.status}: {r.message}" for r in alarms)
