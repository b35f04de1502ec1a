"""The mathematics of vector quantisation against SciPy, and routes of gradients anywhere."""

import math
from dataclasses import replace

import pytest
import torch
from scipy.cluster.vq import vq
from scipy.stats import entropy

from vae_ref.checks import InputError
from vae_ref.conformance import verify
from vae_ref.conformance.kinds import VectorQuantiser
from vae_ref.conformance.mutants import BANK
from vae_ref.conformance.probe.routing import Term, require_routes, routes
from vae_ref.conformance.records import Violation
from vae_ref.kinds.codebook import Averages, perplexity
from vae_ref.kinds.quantisation import losses, nearest, quantise
from vae_ref.kinds.scalar_quantisation import bound, round_levels


@pytest.fixture
def z_e():
    return torch.randn(50, 4, dtype=torch.float64, requires_grad=True)


@pytest.fixture
def codebook():
    return torch.randn(6, 4, dtype=torch.float64, requires_grad=True)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def test_the_nearest_code_is_that_of_scipy(z_e, codebook):
    index, distance = vq(z_e.detach().numpy(), codebook.detach().numpy())
    assert torch.equal(nearest(z_e, codebook), torch.as_tensor(index).long())
    right = torch.as_tensor(distance) ** 2
    assert torch.allclose(losses(z_e, codebook).codebook, right)
    assert torch.allclose(losses(z_e, codebook).loss(0.25), 1.25 * right)
    assert torch.equal(nearest(z_e.view(5, 10, 4), codebook).flatten(), nearest(z_e, codebook))


def test_the_three_gradients_are_kept_apart(z_e, codebook):
    z_q, k = quantise(z_e, codebook)
    assert torch.allclose(z_q, codebook[k])
    by_z, by_e = torch.autograd.grad(z_q.sum(), [z_e, codebook], allow_unused=True)
    assert torch.equal(by_z, torch.ones_like(z_e))
    assert by_e is None
    found = losses(z_e, codebook)
    away = 2 * (z_e - codebook[k]).detach()
    for loss, by_z, by_e in (
        (found.codebook, None, torch.zeros_like(codebook).index_add(0, k, -away)),
        (found.commitment, away, None),
    ):
        gradients = torch.autograd.grad(
            loss.sum(), [z_e, codebook], allow_unused=True, retain_graph=True
        )
        for gradient, right in zip(gradients, (by_z, by_e), strict=True):
            assert gradient is right or torch.allclose(gradient, right)


def test_averages_of_one_batch_become_its_means(z_e, codebook):
    """And so moving averages are online k-means: the means do not move without their encodings."""
    k = nearest(z_e, codebook)
    averages = Averages(torch.ones(6).double(), codebook.detach())
    for _ in range(400):
        averages = averages.updated(z_e, k, decay=0.9)
    means = torch.stack([z_e[k == j].mean(0) for j in range(6)])
    assert torch.bincount(k, minlength=6).all()
    assert torch.allclose(averages.codebook(0.0), means)
    assert torch.allclose(averages.codebook(), means, rtol=1e-4)
    assert not averages.sums.requires_grad


def test_an_unused_code_stays_finite():
    averages = Averages(torch.tensor([0.0, 3.0]), torch.tensor([[0.0], [6.0]]))
    assert torch.allclose(averages.codebook(), torch.tensor([[0.0], [2.0]]), atol=1e-4)


def test_the_perplexity_is_that_of_scipy():
    k = torch.randint(5, (40,)) % 4
    right = math.exp(entropy(torch.bincount(k, minlength=5)))
    assert perplexity(k, 5).item() == pytest.approx(right)
    assert perplexity(torch.zeros(7, dtype=torch.long), 5) == 1
    assert perplexity(torch.arange(8), 8).item() == pytest.approx(8)


@pytest.mark.parametrize("level", range(2, 10))
def test_levels_are_as_many_as_they_are_called(level):
    z = torch.linspace(-9, 9, 2001, dtype=torch.float64).unsqueeze(1).requires_grad_()
    q = round_levels(z, (level,))
    assert len(q.unique()) == level
    assert q.abs().max() == 1
    assert torch.equal(
        torch.autograd.grad(q.sum(), z)[0],
        torch.autograd.grad(bound(z, (level,)).sum() / (level // 2), z)[0],
    )


def test_an_odd_number_of_levels_is_symmetric():
    z = torch.randn(20, 1)
    assert torch.equal(round_levels(-z, (5,)), -round_levels(z, (5,)))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: nearest(torch.zeros(2, 3), torch.zeros(5, 4)), "Move the channels"),
        (lambda: round_levels(torch.zeros(2, 3), (5, 5)), "3 numbers from 2 on"),
        (lambda: round_levels(torch.zeros(2, 1), (1,)), "from 2 on"),
        (lambda: perplexity(torch.zeros(0, dtype=torch.long), 3), "at least one index"),
        (
            lambda: Averages(torch.ones(2), torch.ones(2, 1)).updated(
                torch.ones(1, 1), torch.tensor([0]), 1.0
            ),
            "lie in",
        ),
    ],
)
def test_errors_say_what_to_do(call, words):
    with pytest.raises(InputError, match=words):
        call()


# Weights that are not declared are inferred, and the routes judged with them.

LOSSES = [bug for bug in BANK.values() if bug.slot == "quantisation_loss"]


@pytest.mark.parametrize("bug", LOSSES, ids=lambda bug: bug.id)
@pytest.mark.parametrize("declared", [{"reduction": None}, {"commitment": None}], ids=str)
def test_routes_are_judged_with_weights_that_are_inferred(bug, declared):
    only = verify(replace(bug.subject(), **declared), only="quantisation/*loss*")
    right = {"reduction": "vq-loss-averaged-over-dims", "commitment": "commitment-weight-ignored"}
    assert (only.verdict == "violated") == (bug.id not in [right[key] for key in declared])


def test_a_codebook_that_never_moves_is_found_without_any_declaration():
    bug = BANK["codebook-detached-everywhere"].subject()
    free = verify(replace(bug, commitment=None, reduction=None), only="quantisation/*loss*")
    (failure,) = free.failures
    assert failure.message == "the codebook loss does not move the codebook"


@pytest.mark.parametrize("beta", [0.05, 0.25, 1.0, 3.0])
@pytest.mark.parametrize("factor", [1.0, 0.3])
def test_the_weights_are_reported(beta, factor):
    def loss(z_e, codebook):
        return factor * losses(z_e, codebook).loss(beta).mean()

    subject = VectorQuantiser(name="free", quantisation_loss=loss, commitment=None)
    report = verify(subject)
    assert report.counts["pass"] == 2
    assert report.facts["quantisation loss"].startswith(f"beta = {beta:g}, ")
    subject = VectorQuantiser(name="told", quantisation_loss=loss, commitment=beta)
    assert verify(subject).counts["pass"] == 2
    subject = VectorQuantiser(name="other", quantisation_loss=loss, commitment=2 * beta)
    assert verify(subject).verdict == "violated"


def test_a_loss_of_nothing_is_found():
    subject = VectorQuantiser(
        name="zero", quantisation_loss=lambda z_e, e: 0 * (z_e.sum() + e.sum()), commitment=None
    )
    assert [r.status for r in verify(subject).failures] == ["fail"]


# Routes of gradients, elsewhere than in vector quantisation.


def found(loss, terms, **inputs):
    """Infer the routes of a loss, and the message about them."""
    leaves = [value.clone().requires_grad_() for value in inputs.values()]
    gradients = torch.autograd.grad(loss(*leaves), leaves, allow_unused=True)
    named = {
        name: torch.zeros_like(leaf) if gradient is None else gradient
        for name, leaf, gradient in zip(inputs, leaves, gradients, strict=True)
    }
    scale = {
        name: sum(abs(t.weight) * t.gradients[name].abs() for t in terms) + 1 for name in inputs
    }
    rest = {"scale": scale, "dtype": torch.float64}
    try:
        require_routes(named, terms, inputs=inputs, **rest)
    except Violation as violation:
        return routes(named, terms, **rest), str(violation)
    return routes(named, terms, **rest), ""


MU = torch.linspace(-1, 2, 6, dtype=torch.float64)
LOGVAR = torch.linspace(-2, 1, 6, dtype=torch.float64)
X = torch.linspace(1, -1, 6, dtype=torch.float64)


def a_vae(detached):
    """A reconstruction of the mean and a KL divergence, which is given detached inputs or not."""

    def loss(mu, logvar):
        kl_mu, kl_logvar = (
            value.detach() if name in detached else value
            for name, value in (("mu", mu), ("logvar", logvar))
        )
        kl = 0.5 * (kl_mu**2 + kl_logvar.exp() - 1 - kl_logvar).sum()
        return (X - mu).square().sum() / 2 + 4 * kl

    return loss


OF_A_VAE = [
    Term("the reconstruction", 1.0, {"mu": MU - X, "logvar": 0 * X}, {"mu", "logvar"}),
    Term("the KL", 4.0, {"mu": MU, "logvar": (LOGVAR.exp() - 1) / 2}, {"mu", "logvar"}),
]


@pytest.mark.parametrize(
    ("detached", "message"),
    [
        ((), ""),
        (("mu",), "the KL does not move mu"),
        (("logvar",), "the KL does not move logvar"),
        (("mu", "logvar"), "the KL does not move mu; the KL does not move logvar"),
    ],
)
def test_a_kl_that_is_detached_is_found(detached, message):
    assert found(a_vae(detached), OF_A_VAE, mu=MU, logvar=LOGVAR)[1] == message


EPS = torch.linspace(-1.5, 2.5, 6, dtype=torch.float64)
SIGMA = torch.exp(LOGVAR / 2)
OF_THE_DENSITY = [
    Term("the path", 1.0, {"mu": -EPS / SIGMA, "logvar": -(EPS**2) / 2}, {"mu", "logvar"}),
    Term("the score", 1.0, {"mu": EPS / SIGMA, "logvar": (EPS**2 - 1) / 2}, set()),
]


def log_density(stops):
    """log q(z), whose parameters may be detached, as the path derivative has them."""

    def loss(mu, logvar):
        z = mu + EPS * torch.exp(logvar / 2)
        if stops:
            mu, logvar = mu.detach(), logvar.detach()
        return -((z - mu) ** 2 / logvar.exp() + logvar).sum() / 2

    return loss


def test_the_path_derivative_is_told_from_the_whole():
    both, message = found(log_density(stops=True), OF_THE_DENSITY, mu=MU, logvar=LOGVAR)
    assert both == {"mu": {"the path"}, "logvar": {"the path"}}
    assert not message
    both, message = found(log_density(stops=False), OF_THE_DENSITY, mu=MU, logvar=LOGVAR)
    assert both["logvar"] == {"the path", "the score"}
    assert "the score moves logvar too" in message


def test_a_straight_through_estimator_of_bits_is_judged():
    term = Term("the decoder", 1.0, {"p": X}, {"p"})
    assert found(lambda p: ((p + (p.round() - p).detach()) * X).sum(), [term], p=EPS)[1] == ""
    message = found(lambda p: (p.round() * X).sum(), [term], p=EPS)[1]
    assert message == "the decoder does not move p"


def test_a_weight_is_told_from_a_route():
    assert found(lambda p: 2 * (p * X).sum(), [Term("it", 1.0, {"p": X}, {"p"})], p=EPS)[1] == (
        "p is moved 2 times as much as by it"
    )
    message = found(lambda p: (p * EPS).sum(), [Term("it", 1.0, {"p": X}, {"p"})], p=EPS)[1]
    assert message == "the gradient by p is not that of it, nor of any of the terms"
