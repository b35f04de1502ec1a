"""Loops that are right, however they are written, break no claim about loops."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.optim import optimizer

from vae_ref.conformance.claims import all_claims
from vae_ref.conformance.claims import loop as loops
from vae_ref.conformance.mutants.specimen import evaluate, specimen
from vae_ref.conformance.runner import check, probe_of, verify

CLAIMS = [claim for claim in all_claims() if claim.check.__module__ == loops.__name__]


def trains(module, loss, images, held_out, epochs, *, batch=128, step, draw=None):
    """Train with a step of one's own: ``step(optimiser, parts)`` of a batch's micro-batches."""
    optimiser = torch.optim.Adam(module.parameters(), 1e-3)
    for _ in range(epochs):
        module.train()
        total = 0.0
        for rows in torch.randperm(len(images)).split(batch):
            optimiser.zero_grad(set_to_none=False)
            for part in rows.split(batch // 2):
                outputs, mu, logvar = module(images[part])
                value = loss(outputs, images[part], mu, logvar)
                value.backward()
                total += value.item()
            step(module, optimiser)
        yield total / len(images), (draw or evaluate)(module, loss, held_out)


def clipped(module, optimiser):
    torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimiser.step()


def in_batches(module, loss, held_out):
    parts = held_out.split(300)
    return sum(evaluate(module, loss, part) * len(part) for part in parts) / len(held_out)


STEPS = {"micro-batches": lambda module, optimiser: optimiser.step(), "clipped": clipped}


def subject(train):
    right = specimen()

    def run(images, held_out, epochs):
        return train(right.module, right.loss, images, held_out, epochs)

    return replace(right, train=run)


@pytest.mark.slow
@pytest.mark.parametrize("claim", CLAIMS, ids=[claim.id for claim in CLAIMS])
@pytest.mark.parametrize("name", STEPS)
def test_a_right_loop_breaks_nothing(claim, name):
    def train(*arguments):
        return trains(*arguments, step=STEPS[name], draw=in_batches)

    result = check(claim, probe_of(subject(train)))
    assert result.status == "pass", result.message


def test_noise_that_is_drawn_for_a_whole_epoch_is_fresh():
    right = specimen()
    queue = []

    def sampler(mu, logvar):
        if sum(map(len, queue)) < len(mu):
            queue[:] = [torch.randn(len(queue[0]) if queue else 3000, mu.shape[1])]
        eps, queue[0] = queue[0][: len(mu)], queue[0][len(mu) :]
        return mu + torch.exp(logvar / 2) * eps.to(mu)

    right.module.sampler = sampler
    (claim,) = (c for c in CLAIMS if c.id == "training/fresh-noise")
    assert check(claim, probe_of(right)).status == "pass"


def by_hand(module, loss, images, held_out, epochs):
    """Gradient descent without an optimiser, and noise that is not torch's."""
    generator = np.random.default_rng(0)

    def sampler(mu, logvar):
        eps = torch.from_numpy(generator.standard_normal(mu.shape)).to(mu)
        return mu + torch.exp(logvar / 2) * eps

    module.sampler = sampler
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(128):
            outputs, mu, logvar = module(images[rows])
            value = loss(outputs, images[rows], mu, logvar)
            gradients = torch.autograd.grad(value, list(module.parameters()))
            with torch.no_grad():
                for parameter, gradient in zip(module.parameters(), gradients, strict=True):
                    parameter -= 1e-3 * gradient
        yield value.item() / len(rows), evaluate(module, loss, held_out)


@pytest.mark.parametrize("name", ["training/fresh-noise", "training/follows-the-gradient"])
def test_what_cannot_be_watched_is_not_taken_for_right(name):
    (claim,) = (c for c in CLAIMS if c.id == name)
    assert check(claim, probe_of(subject(by_hand))).status == "inconclusive"


@pytest.mark.parametrize("times", [0, 1, 3])
def test_a_loop_that_yields_another_number_of_times_is_a_violation(times):
    def train(module, loss, images, held_out, epochs):
        yield from [(1.0, 1.0)] * (times * epochs // 2)

    report = verify(subject(train), only="training/reported-loss", level="trained")
    (result,) = report.results
    assert (result.status, result.symptom) == ("fail", "epochs")


@pytest.mark.slow
def test_the_weights_are_those_from_before_afterwards():
    right = specimen()
    before = {name: value.clone() for name, value in right.module.state_dict().items()}
    verify(right, only="training/*", level="trained")
    assert all(torch.equal(before[n], v) for n, v in right.module.state_dict().items())
    assert all(p.grad is None for p in right.module.parameters())
    assert not optimizer._global_optimizer_pre_hooks
