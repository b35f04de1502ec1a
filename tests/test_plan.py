import pytest
import torch

from vae_ref import Plan


def test_an_epoch_is_a_function_of_seed_and_epoch():
    first = Plan(3).permutation(2, 50), Plan(3).noise(2, 50, 4)
    torch.rand(17)  # whatever else is drawn
    again = Plan(3).permutation(2, 50), Plan(3).noise(2, 50, 4)
    assert all(a.equal(b) for a, b in zip(first, again, strict=True))


def test_every_epoch_has_an_order_of_its_own():
    orders = {tuple(Plan(0).permutation(epoch, 50).tolist()) for epoch in range(1, 21)}
    assert len(orders) == 20


@pytest.mark.parametrize("other", [Plan(4).noise(2, 50, 4), Plan(3).noise(3, 50, 4)])
def test_other_seeds_and_epochs_are_unrelated(other):
    noise = Plan(3).noise(2, 50, 4)
    assert not noise.equal(other)
    assert abs((noise * other).mean()) < 4 / 200**0.5


def test_purposes_are_unrelated():
    plan = Plan(0)
    draws = [plan.noise(1, 50, 4), plan.test_noise(50, 4), plan.prior(50, 4)]
    assert len({tuple(draw.flatten().tolist()) for draw in draws}) == 3


def test_an_epoch_visits_every_example_once():
    assert Plan(0).permutation(1, 1000).sort().values.equal(torch.arange(1000))


def test_the_global_generator_is_left_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    Plan(1).permutation(1, 10)
    Plan(1).noise(1, 10, 2)
    assert torch.get_rng_state().equal(before)


def test_the_noise_is_the_same_in_every_precision():
    in_double = Plan(0).noise(1, 10, 2)
    torch.set_default_dtype(torch.float32)
    assert Plan(0).noise(1, 10, 2).equal(in_double)
    assert in_double.dtype == torch.float32


def test_seeds_beyond_32_bits_and_below_zero_differ():
    draws = {tuple(Plan(seed).permutation(1, 20).tolist()) for seed in (0, 2**32, 2**64, -1)}
    assert len(draws) == 4
