"""The VAE as it was found: its parts and the flow of data, for a reader."""

import json

import pytest
import torch
import torch.nn.functional as F
from steps import (
    RIGHT,
    B,
    L,
    Textbook,
    X,
    autoencoder,
    averaged,
    conditional,
    convolutional,
    decoder,
    encoder,
    gaussian_kl,
    images,
    masked,
    returning_the_elbo,
    textbook,
    with_a_classifier_of_mu,
    with_a_classifier_of_the_images,
    with_a_penalty_of_mu,
    with_a_sampled_kl,
    with_distributions,
)
from torch import nn

from vae_ref.conformance import Subject, audit_step, verify
from vae_ref.conformance.transfer import plain, report_from

pytestmark = pytest.mark.usefixtures("user", "single_precision")

ENCODER = {("input", "encoder"), ("encoder", "mu"), ("encoder", "spread")}
SAMPLER = {("mu", "code"), ("spread", "code"), ("noise", "code")}
DECODER = {("code", "decoder"), ("decoder", "outputs")}
ERROR = {("outputs", "reconstruction"), ("input", "reconstruction"), ("reconstruction", "loss")}
ANALYTIC = {("mu", "divergence"), ("spread", "divergence"), ("divergence", "loss")}
PLAIN = ENCODER | SAMPLER | DECODER | ERROR | ANALYTIC


def third(makes):
    """One in three by default, all with the slow tests."""
    return [
        pytest.param(make, id=make.__name__, marks=[pytest.mark.slow] * (index % 3 > 0))
        for index, make in enumerate(makes)
    ]


def sampled(net):
    x = images()
    mu, logvar = net.encoder(x).chunk(2, dim=-1)
    z = net.sample(mu, logvar)
    error = F.binary_cross_entropy_with_logits(net.decoder(z), x, reduction="sum")
    return error + gaussian_kl(mu, logvar).sum(), z, mu


def with_weight_decay():
    net = Textbook()
    decay = [p for p in net.encoder.parameters() if p.dim() > 1]
    return lambda: net.loss(images()) + 0.1 * sum(p.square().sum() for p in decay)


def with_many_penalties():
    net = Textbook()

    def step():
        loss = net.loss(images())
        for p in net.parameters():
            loss = loss + 0.01 * p.square().sum()
        return loss

    return step


def with_a_classifier():
    net, head = Textbook(), nn.Linear(L, 2)
    labels = torch.tensor([0, 1, 1, 0, 1])

    def step():
        elbo, z, _ = sampled(net)
        return elbo + F.cross_entropy(head(z), labels, reduction="sum")

    return step


def with_a_penalty():
    net = Textbook()

    def step():
        elbo, _, mu = sampled(net)
        return elbo + 3 * (torch.cov(mu.T) - torch.eye(L)).square().sum()

    return step


def with_a_smoother():
    net = Textbook()

    def step():
        x = images()
        mu, logvar = net.encoder(x).chunk(2, dim=-1)
        out = net.decoder(net.sample(mu, logvar))
        smooth = (out[:, 1:] - out[:, :-1]).abs().sum()
        return F.mse_loss(out, x, reduction="sum") + gaussian_kl(mu, logvar).sum() + smooth

    return step


def with_a_learned_scale():
    net, log_scale = Textbook(), nn.Parameter(torch.zeros(()))

    def step():
        x = images()
        mu, logvar = net.encoder(x).chunk(2, dim=-1)
        out = net.decoder(net.sample(mu, logvar))
        nll = (0.5 * ((x - out) / log_scale.exp()).square() + log_scale).sum()
        return nll + gaussian_kl(mu, logvar).sum()

    return step


def learned_prior(start=0.0):
    net, centre = Textbook(), nn.Parameter(torch.full((L,), start))

    def step():
        x = images()
        mu, logvar = net.encoder(x).chunk(2, dim=-1)
        out = net.decoder(net.sample(mu, logvar))
        error = F.mse_loss(out, x, reduction="sum")
        return error + gaussian_kl(mu - centre, logvar).sum()

    return step


def conditional_prior():
    enc, dec, prior, x = encoder(X + 2), decoder(L + 2), nn.Linear(2, L), images()
    c = F.one_hot(torch.tensor([0, 1, 1, 0, 1]), 2).float()

    def step():
        mu, logvar = enc(torch.cat([x, c], 1)).chunk(2, 1)
        z = mu + torch.randn_like(mu) * torch.exp(logvar / 2)
        out = dec(torch.cat([z, c], 1))
        kl = gaussian_kl(mu - prior(c), logvar).sum()
        return F.mse_loss(out, x, reduction="sum") + kl

    return step


def two_codes():
    enc, dec, x = encoder(heads=4 * L), decoder(2 * L), images()

    def step():
        m1, s1, m2, s2 = enc(x).chunk(4, -1)
        z1 = m1 + torch.exp(s1 / 2) * torch.randn_like(m1)
        z2 = m2 + torch.exp(s2 / 2) * torch.randn_like(m2)
        out = dec(torch.cat([z1, z2], 1))
        kl = gaussian_kl(m1, s1).sum() + gaussian_kl(m2, s2).sum()
        return F.mse_loss(out, x, reduction="sum") + kl

    return step


def hierarchy():
    first, second, dec, x = encoder(), encoder(L), decoder(), images()

    def step():
        m1, s1 = first(x).chunk(2, -1)
        z1 = m1 + torch.exp(s1 / 2) * torch.randn_like(m1)
        m2, s2 = second(z1).chunk(2, -1)
        z2 = m2 + torch.exp(s2 / 2) * torch.randn_like(m2)
        kl = gaussian_kl(m1, s1).sum() + gaussian_kl(m2, s2).sum()
        return F.mse_loss(dec(z2), x, reduction="sum") + kl

    return step


def many_codes():
    net = Textbook()

    def step():
        return sum(net.loss(images()) for _ in range(5)) / 5

    return step


def denoising():
    net, x = Textbook(), images()

    def step():
        mu, logvar = net.encoder(x + 0.1 * torch.randn_like(x)).chunk(2, dim=-1)
        out = net.decoder(net.sample(mu, logvar))
        return F.mse_loss(out, x, reduction="sum") + gaussian_kl(mu, logvar).sum()

    return step


def clamped():
    net, x = Textbook(), images()

    def step():
        mu, raw = net.encoder(x).chunk(2, dim=-1)
        logvar = raw.clamp(-5, max=2)
        out = torch.sigmoid(net.decoder(net.sample(mu, logvar))).clamp(min=1e-6, max=1 - 1e-6)
        nll = -(x * out.log() + (1 - x) * (1 - out).log()).sum()
        return nll + torch.clamp_min(gaussian_kl(mu, logvar).sum(0), 0.5).sum()

    return step


def drawn(make):
    return audit_step(make()).diagram


def edges(make):
    return {tuple(edge) for edge in drawn(make).edges}


def nodes(make):
    return {node.id: node for node in drawn(make).nodes}


@pytest.mark.parametrize(
    "make", [textbook, averaged, with_distributions, convolutional, returning_the_elbo]
)
def test_a_plain_vae(make):
    assert edges(make) == PLAIN


def test_a_sampled_divergence_is_computed_from_the_code():
    assert edges(with_a_sampled_kl) == PLAIN | {("code", "divergence")}
    assert "sampled" in nodes(with_a_sampled_kl)["divergence"].note


def test_a_condition_reaches_encoder_and_decoder():
    assert edges(conditional) == PLAIN | {("input 2", "encoder"), ("input 2", "decoder")}
    assert nodes(conditional)["input 2"].name == "condition"
    assert nodes(conditional)["input 2"].shape == (B,)


def test_a_mask_reaches_the_terms():
    assert edges(masked) >= PLAIN | {("input 2", "divergence"), ("input 2", "reconstruction")}
    assert nodes(masked)["input 2"].name == "input"


def test_noise_on_the_data_is_no_noise_of_the_code():
    assert edges(denoising) == PLAIN | {("input 2", "encoder")}
    assert nodes(denoising)["input 2"].name == "noise on the input"


@pytest.mark.parametrize("make", [with_weight_decay, with_a_classifier, with_a_penalty])
def test_a_further_term_has_a_node(make):
    assert edges(make) >= PLAIN | {("term", "loss")}


def test_a_further_term_is_computed_from_what_it_is():
    assert {("code", "network"), ("network", "term")} <= edges(with_a_classifier)
    assert ("mu", "term") in edges(with_a_penalty)
    assert ("outputs", "term") in edges(with_a_smoother)


def test_two_codes():
    found = edges(two_codes)
    for number in ("", " 2"):
        assert {(f"noise{number}", f"code{number}"), (f"code{number}", "decoder")} <= found
    assert [node.name for node in nodes(two_codes).values() if node.kind == "code"] == [
        "code 1",
        "code 2",
    ]


def test_layers_between_codes_are_a_network():
    assert {("code", "network"), ("network", "posterior 2")} <= edges(hierarchy)
    assert ("code", "decoder") not in edges(hierarchy)


def test_a_network_of_the_prior():
    assert {("input 2", "network"), ("network", "divergence")} <= edges(conditional_prior)


def test_many_codes_are_one_node():
    found = nodes(many_codes)
    assert found["code"].name == "5 codes"
    assert found["noise"].name == "5 draws of noise"


@pytest.mark.parametrize(
    "make", third([*RIGHT, two_codes, hierarchy, conditional_prior, many_codes])
)
def test_every_part_has_its_line_and_edges_join_parts(make):
    diagram = drawn(make)
    names = [node.id for node in diagram.nodes]
    assert len(names) == len(set(names))
    assert {end for edge in diagram.edges for end in edge} == set(names)
    assert len(set(diagram.edges)) == len(diagram.edges)
    for node in diagram.nodes:
        file, _, line = node.place.partition(":")
        assert file in ("steps.py", "test_diagram.py"), node
        assert line.isdecimal()
        shapeless = ("encoder", "decoder", "network", "posterior")
        assert node.shape is not None or node.kind in shapeless, node


def test_the_shapes_are_those_of_the_step():
    shapes = {name: node.shape for name, node in nodes(convolutional).items()}
    assert shapes["input"] == shapes["outputs"] == (5, 1, 8, 8)
    assert shapes["mu"] == shapes["spread"] == shapes["code"] == shapes["noise"] == (5, 2, 4, 4)
    assert shapes["loss"] == ()


def test_what_the_networks_are_made_of():
    found = nodes(convolutional)
    assert found["encoder"].note == "3 conv2d, batch_norm"
    assert found["decoder"].note == "conv_transpose2d"


def test_the_weights_of_the_terms():
    found = nodes(with_a_sampled_kl)
    assert found["divergence"].note == "sampled, weight 0.2"
    assert found["reconstruction"].note == "gaussian, weight 0.2"


def test_no_vae_no_diagram():
    assert drawn(autoencoder) is None


@pytest.mark.slow
def test_a_report_carries_it_to_another_process():
    audit = audit_step(textbook())
    report = audit.report
    assert report.diagram == audit.diagram
    assert report_from(json.loads(json.dumps(plain(report)))).diagram == report.diagram


def test_a_subject_without_an_audit_has_none():
    report = verify(Subject(name="x", kl=lambda m, s: gaussian_kl(m, s).sum()), only="kl/zero*")
    assert report.diagram is None
    assert report_from(plain(report)).diagram is None


# In words.


def found(make):
    return audit_step(make()).found


def value_of(text):
    return float(text.partition("): ")[2].split()[0])


def test_a_further_term_is_weighed():
    net = Textbook()

    def decay():
        return 0.1 * net.encoder[0].weight.square().sum()

    text = audit_step(lambda: net.loss(images()) + decay()).found["further term"]
    assert text.startswith("mul (test_diagram.py:")
    assert value_of(text) == pytest.approx(decay().item(), rel=1e-2)


@pytest.mark.parametrize(
    ("make", "by"),
    [
        (with_a_classifier, "cross_entropy"),
        (with_a_penalty, "mul"),
        (with_a_smoother, "sum"),
    ],
)
def test_a_further_term_is_named(make, by):
    what = found(make)
    assert what["further term"].startswith(f"{by} (test_diagram.py:")
    assert what["divergence"].startswith("analytic: sum (test_diagram.py:")
    assert what["divergence"].count(":") == 2


def test_many_further_terms_are_told_together():
    assert value_of(found(with_many_penalties)["8 further terms"]) > 0
    assert nodes(with_many_penalties)["term"].name == "8 further terms"


WITH = (with_a_classifier_of_mu, with_a_classifier_of_the_images, with_a_penalty_of_mu)
WITHOUT = [make for make in RIGHT if make not in WITH]


@pytest.mark.parametrize("make", third([*WITHOUT, with_a_learned_scale, learned_prior, clamped]))
def test_what_belongs_to_a_term_is_no_further_term(make):
    assert not [name for name in found(make) if name.startswith("further")]


@pytest.mark.parametrize("make", third(RIGHT))
def test_the_prior_is_that_of_the_divergence(make):
    assert found(make)["prior"] == "standard normal: the divergence is a multiple of that KL"


@pytest.mark.parametrize("start", [0.0, 1.0])
def test_a_prior_of_parameters(start):
    text = found(lambda: learned_prior(start))["prior"]
    assert text.startswith("a Gaussian that is learned (test_diagram.py:")


def test_a_prior_that_is_not_known_is_not_named():
    wrong = Textbook(kl=lambda mu, s: (mu**2 + s).square().sum())
    assert "prior" not in found(lambda: lambda: wrong.loss(images()))


def test_the_likelihood_with_its_scale():
    assert found(textbook)["likelihood"].startswith("bernoulli: binary_cross_entropy (steps.py:")
    assert found(with_a_smoother)["likelihood"].startswith("gaussian of variance 0.5 at beta 1, ")
    text = found(with_a_learned_scale)["likelihood"]
    assert text.startswith("gaussian of a scale that parameters reach (test_diagram.py:")


def test_clamps_with_their_bounds():
    text = found(clamped)["clamps"]
    assert "log sigma^2 to [-5, 2] (test_diagram.py:" in text
    assert "outputs to [1e-06, 0.999999] (test_diagram.py:" in text
    assert "the divergence to [0.5, inf] (test_diagram.py:" in text
    assert "clamps" not in found(textbook)
    assert found(convolutional)["clamps"].startswith("log sigma to [-5, 5] (steps.py:")


def test_the_range_of_the_posterior():
    net = Textbook()
    text = audit_step(lambda: net.loss(images())).found["range"]
    mu, logvar = net.encoder(images()).chunk(2, dim=-1)
    low, high, least = mu.min().item(), mu.max().item(), logvar.min().item()
    assert text.startswith(f"mu {low:.2g} to {high:.2g}, log sigma^2 {least:.2g} to")
