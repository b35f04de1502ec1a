"""``vae-ref verify file.py:step``: what is found in a file, and what is said where it is not."""

import pytest
import torch

from vae_ref.conformance import load
from vae_ref.conformance.claims import all_claims
from vae_ref.conformance.runner import check, probe_of

BODY = """
import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self, pixels, latents, classes=0):
        super().__init__()
        self.classes = classes
        self.heads = nn.Linear(pixels + classes, 2 * latents)
        self.out = nn.Linear(latents + classes, pixels)

    def loss(self, x, c=None):
        given = [] if c is None else [c]
        mean, spread = self.heads(torch.cat([x, *given], 1)).chunk(2, 1)
        z = mean + torch.exp(spread / 2) * torch.randn_like(mean)
        out = self.out(torch.cat([z, *given], 1))
        kl = 0.5 * (mean**2 + spread.exp() - 1 - spread).{reduction}()
        return F.binary_cross_entropy_with_logits(out, x, reduction="sum") + kl
{more}
"""

STEP = """
net = Net(12, 3)
def step(x):
    return net.loss(x)
"""
LABELLED = """
net = Net(12, 3, 2)
def step(x, c):
    return net.loss(x, c)
def batch():
    return torch.rand(4, 12), torch.eye(2)[torch.tensor([0, 1, 1, 0])]
"""
ENDS = """
class Trained(Net):
    def training_step(self, batch, batch_idx):
        return {"loss": self.loss(batch)}
    def forward(self, x):
        return self.loss(x), None
class Other(nn.Module):
    pass
model = Trained(12, 3)
"""


METHOD = "net = Net(12, 3)"
FORWARD = """
class Trained(Net):
    def forward(self, x):
        return self.loss(x)
model = Trained(12, 3)
"""
NO_SCALAR = """
class Trained(Net):
    def forward(self, x):
        return self.heads(x), self.loss(x)
model = Trained(12, 3)
def step(x):
    return model(x)[1]
"""
ASKED = """
class Trained(Net):
    def forward(self, x, return_loss=False):
        return self.loss(x) if return_loss else self.out(self.heads(x)[:, :3])
model = Trained(12, 3)
"""
KEYED = """
net = Net(12, 3)
def compute_loss(features):
    return net.loss(features["raster"])
"""
PAIR = """
class Trained(Net):
    def training_step(self, batch, batch_idx):
        x, _ = batch
        return self.loss(x)
model = Trained(12, 3)
"""
BATCHES = """
def images_and_labels():
    return torch.rand(5, 12), torch.arange(5)
def with_an_index():
    return images_and_labels(), 0
"""
NESTED = """
class VAE(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net
    def compute_loss(self, x):
        return self.net.loss(x)
vae = VAE(Net(12, 3))
"""


@pytest.fixture
def verify(vae_ref_command, tmp_path):
    def run(target, more, *options, reduction="sum"):
        (tmp_path / "train.py").write_text(BODY.format(more=more, reduction=reduction))
        status, output, errors = vae_ref_command("verify", target, *options)
        return status, " ".join((output + errors).split())

    return run


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("target", "more", "options"),
    [
        ("train.py", STEP, ()),
        *(
            pytest.param(*target, marks=pytest.mark.slow)
            for target in [
                ("train.py:step", STEP, ()),
                ("train.py:step", LABELLED, ("--batch", "batch")),
                ("train.py:step", LABELLED, ("--batch", "4x12,4x2")),
                ("train.py:model", ENDS, ()),
                ("train.py:model", ENDS, ("--batch", "4x12")),
                ("train.py:Trained(12, 3)", ENDS, ()),
                ("train.py:net.loss", STEP, ("--batch", "4x12")),
                ("train.py", METHOD, ()),
                ("train.py", FORWARD, ()),
                ("train.py", ASKED, ()),
                ("train.py", NO_SCALAR, ()),
                ("train.py", KEYED, ()),
                ("train.py", PAIR, ()),
                ("train.py:model", PAIR + BATCHES, ("--batch", "images_and_labels")),
                ("train.py:model", PAIR + BATCHES, ("--batch", "with_an_index")),
                ("train.py", NESTED, ()),
            ]
        ),
    ],
)
def test_a_right_step_holds_and_a_wrong_one_does_not(verify, target, more, options):
    status, text = verify(target, more, *options, "--only", "[kol]*")
    assert (status, "no bug found: " in text) == (0, True), text
    assert "posterior mu is chunk (train.py:16); log sigma^2 is chunk (train.py:16)" in text
    status, text = verify(target, more, *options, "--only", "[kol]*", reduction="mean")
    assert status == 1, text
    assert "VIOLATED objective/beta" in text


@pytest.mark.parametrize(
    ("target", "more", "options", "status", "message"),
    [
        ("train.py:step", LABELLED, (), 2, "train.py:step takes x, c; say how they are made with"),
        ("train.py:step", LABELLED, ("--batch", "?"), 2, "--batch must be a name in the file or"),
        (
            "train.py:step",
            STEP,
            ("--batch", "4x13"),
            2,
            "train.py:step failed: RuntimeError: mat1",
        ),
        (
            "train.py:model",
            FORWARD.replace("self, x", "self, x, c"),
            (),
            2,
            "train.py:model takes x, c; say how they are made with --batch",
        ),
        ("train.py", LABELLED, (), 2, "train.py:step takes x, c; say how they are made with"),
        (
            "train.py:f",
            METHOD + "\ndef f(b):\n    return net.loss(b['x']) + net.loss(b['y'])",
            (),
            2,
            "train.py:f reads x, y of its batch; say how they are made with --batch",
        ),
        ("train.py:no", STEP, (), 2, "train.py has no no. It defines Net, net, step."),
        ("train.py:F.pi", "", (), 2, "train.py has no F.pi"),
        ("train.py:f", "def f():\n    return 3", (), 2, "it returned no scalar that depends on"),
        ("train.py:f", "def f():\n    raise OSError('no disk')", (), 2, "OSError: no disk"),
        (
            "train.py:f",
            STEP + "def f():\n    return net.out(torch.randn(2, 3)).sum()",
            (),
            3,
            "nothing was judged, noise enters this loss, but not between an encoder and a decoder",
        ),
    ],
)
def test_what_cannot_be_judged_is_said(verify, target, more, options, status, message):  # noqa: PLR0917
    found, text = verify(target, more, *options)
    assert (found, message in text) == (status, True), text


def test_every_run_audits_the_same_execution(tmp_path):
    more = f"torch.manual_seed(0)\n{STEP}"
    (tmp_path / "train.py").write_text(BODY.format(more=more, reduction="sum"))
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(load(f"{tmp_path}/train.py:step").found["range"])
    assert found[0] == found[1]


TOKENS = """
import torch
import torch.nn.functional as F
from torch import nn


class TokenVAE(nn.Module):
    def __init__(self, words=9, latents=3):
        super().__init__()
        self.embed = nn.Embedding(words, 6)
        self.heads = nn.Linear(6, 2 * latents)
        self.out = nn.Linear(latents, words)

    def encode(self, x):
        return self.heads(self.embed(x).mean(1)).chunk(2, 1)

    def decode(self, z, x):
        return self.out(z)[:, None].expand(-1, x.shape[1], -1)

    def forward(self, x):
        mu, log_var = self.encode(x)
        z = mu + torch.exp(log_var / 2) * torch.randn_like(mu)
        return self.decode(z, x), mu, log_var


def loss_function(logits, x, mu, log_var):
    words = logits.shape[2]
    recon = F.cross_entropy(logits.reshape(-1, words), x.reshape(-1), reduction="sum")
    return recon + 0.5 * {kl}


model = TokenVAE()
"""


def test_a_loss_of_another_form_is_judged_with_the_forward_pass(tmp_path):
    for kl, status in (
        ("torch.sum(mu**2 + log_var.exp() - 1 - log_var)", "pass"),
        ("torch.sum(mu**2 + log_var - 1 - log_var)", "fail"),
    ):
        (tmp_path / f"{status}.py").write_text(TOKENS.replace("{kl}", kl))
        subject = load(f"{tmp_path}/{status}.py")
        assert "reconstruction is not judged" in subject.undecided
        claim = next(c for c in all_claims() if c.id == "kl/closed-form")
        assert check(claim, probe_of(subject)).status == status
