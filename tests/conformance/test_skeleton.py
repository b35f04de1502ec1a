"""The skeleton of an adapter: made from the names in a file, which is not run, and completed."""

import ast

import pytest

FILE = """
import torch
import torch.nn.functional as F
from torch import nn

raise_if_run = 1 / {zero}


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()


class ConvVAE(nn.Module):
    def __init__(self, pixels, latents, width=8):
        super().__init__()
        self.heads, self.out = nn.Linear(pixels, 2 * latents), nn.Linear(latents, pixels)

    def encode(self, image):
        return self.heads(image).chunk(2, 1)

    def sample_latent(self, z_mean, z_log_std):
        return z_mean + torch.exp(z_log_std) * torch.randn_like(z_mean)

    def decode(self, code):
        return torch.sigmoid(self.out(code))

    def forward(self, image):
        mean, log_std = self.encode(image)
        return self.decode(self.sample_latent(mean, log_std)), mean, log_std


def vae_objective(original, reconstructed, z_mean, z_log_std, {more}device="cpu"):
    bce = F.binary_cross_entropy(reconstructed, original, reduction="sum")
    kl = 0.5 * (z_mean**2 + torch.exp(2 * z_log_std) - 1) - z_log_std
    return bce + {weight} * kl.sum()
"""


@pytest.fixture
def adapt(vae_ref_command, tmp_path, monkeypatch):
    """Write the file, and return the skeleton for it."""
    monkeypatch.chdir(tmp_path)

    def run(text):
        (tmp_path / "conv.py").write_text(text)
        status, output, errors = vae_ref_command("adapt", "conv.py")
        assert status == 0, errors
        ast.parse(output)
        return output

    return run


@pytest.mark.parametrize(
    ("weight", "expected"), [pytest.param(1, 0, marks=pytest.mark.slow), (3, 1)]
)
def test_a_skeleton_that_is_completed_is_judged(
    adapt, vae_ref_command, tmp_path, weight, expected
):
    text = adapt(FILE.format(zero=1, more="", weight=weight))
    assert "model = conv.ConvVAE(pixels=..., latents=...)  # TODO: as you train it" in text
    assert 'spread="log_sigma"' in text
    assert "return conv.vae_objective(x, outputs, mu, log_sigma)" in text
    (tmp_path / "subject.py").write_text(
        text.replace("pixels=..., latents=...", "12, 3")
        .replace("# pixel_shape", "pixel_shape", 1)
        .replace("(1, 28, 28)", "(12,)")
    )
    status, output, errors = vae_ref_command("verify", "subject.py")
    assert status == expected, output + errors
    assert ("objective/beta" in output) is bool(expected)


def test_a_file_that_is_not_judged_is_shown_the_way(vae_ref_command, tmp_path):
    file = tmp_path / "conv.py"
    file.write_text(
        "import torch\nnet = torch.nn.Linear(3, 3)\n"
        "def loss():\n    return net(torch.randn(2, 3)).sum()\n"
    )
    status, output, errors = vae_ref_command("verify", f"{file}:loss")
    assert (status, "could not judge" in output) == (3, True)
    assert f"vae-ref adapt {file} > subject.py" in errors


def test_the_file_is_not_run(adapt):
    assert "conv.vae_objective(" in adapt(FILE.format(zero=0, more="", weight=1))


def test_arguments_that_are_not_known_are_left_open(adapt):
    text = adapt(FILE.format(zero=1, more="mask, ", weight=1))
    assert "conv.vae_objective(x, outputs, mu, log_sigma, mask=...)  # TODO: mask" in text
    assert "nll" not in text.replace("# nll", "")


def test_functions_alone_and_an_instance(adapt):
    text = adapt(
        "from somewhere import Net\nvae = Net(3)\n"
        "def kl(mu, logvar):\n    return 0\n"
        "def reparam_trick(mu, logvar):\n    return mu\n"
    )
    assert "return conv.kl(mu, logvar)" in text
    assert "return conv.reparam_trick(mu, logvar)" in text
    assert "module=conv.vae" in text


def test_a_file_whose_name_is_no_name(adapt, tmp_path, vae_ref_command):
    adapt(FILE.format(zero=1, more="", weight=1))
    before = tmp_path / "conv.py"
    for name in ("my-vae", "class", "9", 'q"uote', "back\\slash", "encode", "subject", "torch"):
        before = before.rename(tmp_path / f"{name}.py")
        status, text, _ = vae_ref_command("adapt", before.name)
        assert f"vae_file = importlib.import_module({name!r})\nmodel = vae_file.ConvVAE(" in text
        assert status == 0
        ast.parse(text)


def test_properties_and_open_arguments(adapt):
    text = adapt(
        "class Net:\n"
        "    @property\n    def decode(self):\n        return 1\n"
        "    def forward(self, *args, **kwargs):\n        return 1\n"
    )
    assert "# decode=...,  # of (z)" in text
    assert "return model.forward(x)" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 3\n", "FILE must define a class or a function; got conv.py."),
        ("def f(:\n", "FILE must be Python; got conv.py. It is not, from line 1 on."),
        (None, "FILE must be a file; got conv.py."),
    ],
)
def test_what_is_no_program_is_one_line(vae_ref_command, tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / "conv.py").write_text(text)
    status, output, errors = vae_ref_command("adapt", "conv.py")
    assert (status, output) == (2, "")
    assert message in errors
