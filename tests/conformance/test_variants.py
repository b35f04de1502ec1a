import pytest
import torch
from variants import VARIANTS

from vae_ref.conformance import verify

HOLDS = ("pass", "not-applicable")


@pytest.mark.sampled(6)
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(
            make,
            id=make.__name__,
            marks=[pytest.mark.slow] * (index % 24 > 0 or "jax" in make.__name__),
        )
        for index, make in enumerate(VARIANTS)  # one in 24 by default
    ],
)
def test_no_alarm_is_raised_over_a_variant_that_is_right(make, user):
    torch.manual_seed(0)
    alarms = [r for r in verify(make()).results if r.status not in HOLDS]
    assert not alarms, "\n".join(f"{r.claim.id}: {r.status}: {r.message}" for r in alarms)
