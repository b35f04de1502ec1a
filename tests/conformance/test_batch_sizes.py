"""A step is run again with every example given twice: the KL keeps its weight."""

import itertools

import pytest
import torch
from steps import Textbook, gaussian_kl, images

from vae_ref.conformance import Subject, audit_step, verify

pytestmark = pytest.mark.usefixtures("user")


def test_a_loss_without_a_kl_is_said_once():
    """Twice nothing is nothing: the batch does not change its weight."""
    nll = torch.nn.functional.binary_cross_entropy
    report = verify(Subject(name="no KL", loss=lambda p, x, mu, logvar: nll(p, x)))
    assert "objective/beta" in [result.claim.id for result in report.failures]
    (one,) = [r for r in report.results if r.claim.id == "objective/one-reduction"]
    assert (one.status, one.message) == (
        "not-applicable",
        "the loss has no KL; see objective/beta",
    )


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
        pytest.param(
            torch.sum,
            mean,
            "its reconstruction doubled and its KL unchanged",
            "sum-plus-batch-mean",
            marks=pytest.mark.slow,
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


@pytest.mark.parametrize("reduce", [mean, pytest.param(torch.sum, marks=pytest.mark.slow)])
def test_two_alike_are_right(reduce):
    report = audit_step(squared(reduce, reduce), images()).report
    assert (report.failures, report.undecided) == ((), "")
    reduction = "summed" if reduce is torch.sum else "averaged"
    assert report.facts["loss"] == f"{reduction} over the batch"


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_weight_that_grows_from_step_to_step_is_no_bug():
    steps = itertools.count(1)
    step = squared(mean, lambda kl: next(steps) / 10 * mean(kl))
    assert audit_step(step, images()).report.failures == ()


@pytest.mark.slow
def test_a_weight_that_comes_from_a_list_may_end():
    weights = iter([0.1, 1.0])
    step = squared(mean, lambda kl: next(weights) * mean(kl))
    assert audit_step(step, images()).report.failures == ()


@pytest.mark.slow
def test_examples_without_an_image_change_no_reduction():
    """The last one has none; with it left out, a mean over the others would look like a sum."""
    net, has = Textbook(), torch.tensor([1.0, 1, 1, 1, 0])

    def step(x, has):
        mu, logvar = net.encoder(x).chunk(2, dim=-1)
        errors = ((net.decoder(net.sample(mu, logvar)) - x) ** 2).sum(1)
        return (errors * has).sum() / has.sum() + mean(gaussian_kl(mu, logvar))

    assert audit_step(step, images(), has).report.failures == ()


@pytest.mark.slow
@pytest.mark.parametrize("examples", [1, 1000])
def test_other_numbers_of_examples(examples):
    x = images(examples, 12)
    assert audit_step(squared(mean, mean), x).report.failures == ()
    (failure,) = audit_step(squared(mean, torch.sum), x).report.failures
    assert failure.claim.id == "objective/one-reduction"


def test_the_batch_of_the_caller_stays_as_it_was():
    x = images()
    net, steps = squared(mean, mean), itertools.count(1)

    def step(x):
        x.mul_(0.5)
        return net(x) / next(steps)

    expected = x / 2
    audit_step(step, x)
    assert torch.equal(x, expected)


def test_a_batch_size_that_is_baked_in_is_said():
    net = Textbook()
    found = audit_step(lambda x: net.loss(x.view(5, 12)), images())
    assert found.found["batch"].startswith("of 5 examples; given twice, the step ends")
    assert found.report.failures == ()


def test_generators_are_as_after_one_step():
    step = squared(mean, mean)
    torch.manual_seed(0)
    step(images())
    expected = torch.rand(1)
    torch.manual_seed(0)
    audit_step(step, images())
    assert torch.rand(1) == expected
