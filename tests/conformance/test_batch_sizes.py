"""A step is run again with one example less: the KL keeps its weight, whatever the batch."""

import itertools

import pytest
import torch
from steps import Textbook, gaussian_kl, images

from vae_ref.conformance import audit_step

pytestmark = pytest.mark.usefixtures("user")


def squared(reduce, divergence):
    """A step of images whose reconstruction and KL are reduced in some way."""
    net = Textbook()

    def step(x):
        mu, logvar = net.encoder(x).chunk(2, dim=-1)
        errors = (net.decoder(net.sample(mu, logvar)) - x) ** 2
        return reduce(errors) + divergence(gaussian_kl(mu, logvar))

    return step


def mean(errors):
    return errors.sum(1).mean()


@pytest.mark.parametrize(
    ("reduce", "divergence", "message", "bug"),
    [
        (
            mean,
            torch.sum,
            "its reconstruction unchanged and its KL doubled",
            "batch-mean-plus-sum",
        ),
        (
            torch.sum,
            mean,
            "its reconstruction doubled and its KL unchanged",
            "sum-plus-batch-mean",
        ),
    ],
)
def test_a_sum_beside_a_mean_is_a_bug_though_any_variance_is_right(
    reduce, divergence, message, bug
):
    report = audit_step(squared(reduce, divergence), images()).report
    (failure,) = report.failures
    assert failure.claim.id == "objective/one-reduction"
    assert message in failure.message
    assert failure.diagnosis.bug == f"loss-{bug}"


@pytest.mark.parametrize("reduce", [mean, torch.sum])
def test_two_alike_are_right(reduce):
    report = audit_step(squared(reduce, reduce), images()).report
    assert (report.failures, report.undecided) == ((), "")
    reduction = "summed" if reduce is torch.sum else "averaged"
    assert report.facts["loss"] == f"{reduction} over the batch"


def test_a_loss_of_events_with_a_mask():
    """The KL of each event is that of all; the mask is made uniform."""
    net, mask = Textbook(), torch.ones(5, 3)
    mask[1:, 2] = mask[2, 1] = 0

    def step(x, mask):
        mu, logvar = net.encoder(x).chunk(2, dim=-1)
        errors = 0.5 * ((net.decoder(net.sample(mu, logvar)) - x) ** 2).sum(-1)
        kl = gaussian_kl(mu, logvar).sum() * mask
        return ((errors * mask).sum() + kl.sum()) / mask.sum()

    (failure,) = audit_step(step, images(5, 3, 12), mask).report.failures
    assert failure.claim.id == "objective/one-reduction"


def test_a_weight_that_grows_from_step_to_step_is_no_bug():
    steps = itertools.count(1)
    step = squared(mean, lambda kl: next(steps) / 10 * mean(kl))
    assert audit_step(step, images()).report.failures == ()


def test_a_batch_size_that_is_baked_in_is_said():
    net = Textbook()
    found = audit_step(lambda x: net.loss(x.view(5, 12)), images())
    assert found.found["batch"].startswith("of 5 examples alone: with one less, the step ends")
    assert found.report.failures == ()


def test_generators_are_as_after_one_step():
    step = squared(mean, mean)
    torch.manual_seed(0)
    step(images())
    expected = torch.rand(1)
    torch.manual_seed(0)
    audit_step(step, images())
    assert torch.rand(1) == expected
