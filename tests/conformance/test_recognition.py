"""Strangers' files: the good ones need no adapter, the bad ones get one clear line each."""

import importlib
import itertools
import os
import random
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from strangers import CONVOLUTIONAL, MEAN_KL, TEXTBOOK, varied

from vae_ref.conformance import Subject, all_claims, load, verify
from vae_ref.conformance.loading import recognition
from vae_ref.conformance.loading.recognition import TargetError
from vae_ref.conformance.runner import check, probe_of
from vae_ref.conformance.subject import DeclarationError

SMALL = varied(TEXTBOOK, ("400", "16"), ("20", "3"))
RETURN = "return self.decode(z), mu, logvar"
LOSS = "\n\ndef loss_function"
HOLDS = ("pass", "not-applicable")

counter = itertools.count()


# A stranger has no type checker, which draws random numbers too.
pytestmark = pytest.mark.usefixtures("user")


@pytest.fixture(autouse=True)
def as_a_user(monkeypatch, tmp_path):
    """Single precision, a directory of one's own, and no trace of the modules afterwards."""
    torch.set_default_dtype(torch.float32)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    importlib.invalidate_caches()
    before = dict(sys.modules)
    yield
    made = [item for item in sys.modules.items() if before.get(item[0]) is not item[1]]
    for name, module in made:
        home = str(getattr(module, "__file__", None) or getattr(module, "__path__", ""))
        if str(tmp_path) in home:
            del sys.modules[name]
            if name in before:
                sys.modules[name] = before[name]


@pytest.fixture
def write(tmp_path):
    """Write a stranger's file, under a name of its own; return its path."""

    def write(source: str, name: str | None = None) -> str:
        path = tmp_path / (name or f"stranger_{next(counter)}.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source))
        return str(path)

    return write


TELLING = (
    "kl/closed-form",
    "kl/gradient-logvar",
    "reparameterization/affine",
    "likelihood/named",
    "objective/sum-of-parts",
    "objective/constant-weights",
    "model/two-heads",
    "model/decoder-range",
    "model/no-leakage-encoder",
    "model/each-parameter-matters",
    "model/forward-is-the-composition",
    "model/outputs-in-order",
    "model/double-precision",
    "model/inputs-intact",
)
"""Claims that a subject put together in the wrong way cannot fulfil; all would take too long."""


def broken(subject, *identifiers):
    """Say which of the claims do not hold."""
    probe = probe_of(subject)
    results = [check(c, probe) for c in all_claims() if c.id in (identifiers or TELLING)]
    assert any(r.status == "pass" for r in results)
    return {f"{r.claim.id} {r.status}: {r.message}" for r in results if r.status not in HOLDS}


def test_the_textbook_needs_no_adapter(write):
    subject = load(write(TEXTBOOK))
    report = verify(subject)
    assert {r.claim.id for r in report.results if r.status not in HOLDS} == set()
    assert report.counts["pass"] >= 60
    assert report.verdict == "partial", "an importance-weighted bound was not looked at"
    assert subject.conventions.declared == {}
    assert report.notes == ()


@pytest.mark.slow
def test_the_mean_in_the_kl_is_named(write):
    report = verify(load(write(MEAN_KL)))
    first = report.failures[0]
    assert first.claim.id == "kl/closed-form"
    assert first.diagnosis.bug == "kl-mean-over-everything"
    assert len(report.failures) == 1, [r.claim.id for r in report.failures]


# What a file may look like.

SPREADS = {
    "log_sigma": (("0.5 * logvar", "logvar"), ("1 + logvar", "1 + 2 * logvar"),
                  ("logvar.exp()", "(2 * logvar).exp()")),
    "log_std": (("0.5 * logvar", "logvar"), ("1 + logvar", "1 + 2 * logvar"),
                ("logvar.exp()", "(2 * logvar).exp()")),
    "std": (("torch.exp(0.5 * logvar)", "logvar"), ("1 + logvar", "1 + 2 * logvar.log()"),
            ("logvar.exp()", "logvar.pow(2)"), ("self.fc22(h1)", "self.fc22(h1).exp()")),
    "sigma": (("torch.exp(0.5 * logvar)", "logvar"), ("1 + logvar", "1 + 2 * logvar.log()"),
              ("logvar.exp()", "logvar.pow(2)"), ("self.fc22(h1)", "self.fc22(h1).exp()")),
    "var": (("torch.exp(0.5 * logvar)", "logvar.sqrt()"), ("1 + logvar", "1 + logvar.log()"),
            ("- logvar.exp()", "- logvar"), ("self.fc22(h1)", "self.fc22(h1).exp()")),
    "variance": (("torch.exp(0.5 * logvar)", "logvar.sqrt()"), ("1 + logvar", "1 + logvar.log()"),
                 ("- logvar.exp()", "- logvar"), ("self.fc22(h1)", "self.fc22(h1).exp()")),
    "log_var": (),
    "z_log_var": (),
    "log_variance": (),
}  # fmt: skip
MEANS = {
    "logvar": "logvar", "log_var": "logvar", "z_log_var": "logvar", "log_variance": "logvar",
    "log_sigma": "log_sigma", "log_std": "log_sigma", "std": "sigma", "sigma": "sigma",
    "var": "variance", "variance": "variance",
}  # fmt: skip


@pytest.mark.parametrize("name", SPREADS)
def test_the_second_head_is_what_it_is_called(write, name):
    source = varied(SMALL, *SPREADS[name], ("logvar", name))
    if name == "std":  # which the sampler assigned to; now it only uses it
        source = varied(source, ("        std = std\n", ""))
    subject = load(write(source))
    assert subject.conventions.spread == MEANS[name]
    assert broken(subject) == set()


ORDERS = [
    "x, recon_x, logvar, mu",
    "x, recon_x, mu, logvar",
    "x, x_hat, z_mean, z_logvar",
    "mu, logvar, x, x_recon",
    "target, output, mean, log_var",
    "x, reconstruction, mu, log_variance",
    "x, recon_x, mu, logvars",
    "inputs, x_decoded, mu_q, logvar_q",
    "inputs, x_decoded, q_mu, q_logvar",
    "recon_x, x, mu, logvar, beta=1.0",
]


@pytest.mark.parametrize("order", ORDERS)
def test_arguments_are_passed_by_their_names(write, order):
    names = [name.partition("=")[0] for name in order.split(", ")]
    outputs = next(n for n in names if any(part in n for part in ("rec", "hat", "dec", "output")))
    (spread,) = (n for n in names if "log" in n)
    (mean,) = (n for n in names if n in ("mu", "mean", "mu_q", "q_mu", "z_mean"))
    (x,) = (n for n in names if n in ("x", "target", "inputs"))
    source = f"""
        def loss_function({order}):
            bce = F.binary_cross_entropy({outputs}, {x}, reduction="sum")
            return bce - 0.5 * torch.sum(1 + {spread} - {mean}.pow(2) - {spread}.exp())
    """
    subject = load(write(varied(SMALL.partition(LOSS)[0], after=source)))
    assert broken(subject) == set()


FORMS = {
    "a class of another name": varied(SMALL, ("class VAE", "class MyModel")),
    "an instance": varied(
        SMALL, ("class VAE", "class _Net"), ("def __init__(self)", "def __init__(self, n)"),
        after="VAE = _Net(3)",
    ),
    "an instance beside its class": varied(SMALL, ("class VAE", "class Net"), after="net = Net()"),
    "two names of one class": varied(SMALL, ("class VAE", "class Net"), after="Model = Net"),
    "a base class": varied(
        SMALL, ("class VAE(nn.Module)", "class Base(nn.Module)"), after="class VAE(Base): pass"
    ),
    "arguments with defaults": varied(SMALL, ("__init__(self)", "__init__(self, n=3, *, m=4)")),
    "a sampler beside the class": varied(
        SMALL, ("    def reparameterize(self, mu, logvar):", "    def unused(self):"),
        ("        std = torch.exp(0.5 * logvar)\n", ""),
        ("        eps = torch.randn_like(std)\n", ""),
        ("return mu + eps * std", "pass"), ("self.reparameterize", "reparameterize"),
        after="""
            def reparameterize(mu, logvar):
                return mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        """,
    ),
    "a loss in the class": varied(
        SMALL.partition(LOSS)[0],
        ("    def decode", "    def loss_function(self, recon_x, x, mu, logvar):\n"
         "        bce = F.binary_cross_entropy(recon_x, x, reduction='sum')\n"
         "        return bce - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())\n\n"
         "    def decode"),
    ),
    "a loss after its parts": varied(SMALL, ("return BCE + KLD", "return BCE, KLD, BCE + KLD")),
    "the parts of a loss": varied(SMALL, ("return BCE + KLD", "return BCE, KLD")),
    "the parts of a loss, the KL first, of each example": varied(
        SMALL.partition(LOSS)[0],
        after="""
            def losses(logits, x, mu, logvar):
                loss_kl = 0.5 * (mu.pow(2) + logvar.exp() - logvar - 1).sum(1)
                return loss_kl, F.binary_cross_entropy(logits, x, reduction="none").sum(1)
        """,
    ),
    "other names": varied(
        SMALL, ("reparameterize", "sampling"), ("loss_function", "compute_elbo"),
    ),
    "names of a KL and a sampler": varied(
        SMALL.partition(LOSS)[0], ("reparameterize", "sample_gaussian"),
        after="""
            def gaussian_kl(z_mu, z_logvar):
                return 0.5 * (z_mu.pow(2) + z_logvar.exp() - z_logvar - 1).sum(1).mean()
        """,
    ),
    "a mean times the number of pixels": varied(
        SMALL, ("F.binary_cross_entropy(recon_x, x.view(-1, 784), reduction=\"sum\")",
                "784 * F.binary_cross_entropy(recon_x, x, reduction='none').mean(1).sum()"),
    ),
    "a loss that needs a weight by its name": varied(
        SMALL, ("def loss_function(recon_x, x, mu, logvar):",
                "def loss_function(*args, **kwargs):\n    recon_x, x, mu, logvar = args"),
        ("return BCE + KLD", "return BCE + kwargs['weight'] * KLD"),
    ),
    "a loss with its parts": varied(SMALL, ("return BCE + KLD", "return BCE + KLD, BCE, KLD")),
    "a loss in a dict": varied(
        SMALL, ("return BCE + KLD", "return {'bce': BCE, 'kld': KLD, 'loss': BCE + KLD}")
    ),
    "no loss": SMALL.partition(LOSS)[0],
    "a KL beside the loss": varied(
        SMALL, after="""
            def kl_divergence(mu, logvar):
                return -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp(), dim=1)
        """,
    ),
    "a dict": varied(SMALL, (RETURN, "return dict(recon_x=self.decode(z), mu=mu, logvar=logvar)")),
    "an object": varied(
        SMALL, (RETURN, "return N(reconstruction=self.decode(z), mean=mu, log_var=logvar)"),
        after="from types import SimpleNamespace as N",
    ),
    "a dataclass in another order": varied(
        SMALL, (RETURN, "return Output(mu, logvar, z, self.decode(z))"),
        after="""
            from dataclasses import dataclass

            @dataclass
            class Output:
                mu: torch.Tensor
                logvar: torch.Tensor
                z: torch.Tensor
                recon: torch.Tensor
        """,
    ),
    "x between": varied(SMALL, (RETURN, "return self.decode(z), x, mu, logvar")),
    "z at the end": varied(SMALL, (RETURN, "return self.decode(z), mu, logvar, z")),
    "z between": varied(SMALL, (RETURN, "return self.decode(z), z, mu, logvar")),
    "the reconstruction last": varied(SMALL, (RETURN, "return mu, logvar, self.decode(z)")),
    "an encoder that samples": varied(
        SMALL,
        ("return self.fc21(h1), self.fc22(h1)",
         "mu, logvar = self.fc21(h1), self.fc22(h1)\n"
         "        return self.reparameterize(mu, logvar), mu, logvar"),
        ("mu, logvar = self.encode(x.view(-1, 784))", "z, mu, logvar = self.encode(x)"),
        ("        z = self.reparameterize(mu, logvar)\n", ""),
    ),
    "torch's own KL, imported": "from torch.distributions import Normal, kl_divergence\n" + SMALL,
    "a criterion of torch": varied(
        SMALL.partition(LOSS)[0], after="loss_fn = nn.BCELoss(reduction='sum')"
    ),
    "a loss of the reconstruction alone": varied(
        SMALL.partition(LOSS)[0],
        after="""
            def loss_fn(recon_x, x):
                return F.binary_cross_entropy(recon_x, x, reduction="sum")
        """,
    ),
    "a sampler that takes std": varied(
        SMALL,
        ("def reparameterize(self, mu, logvar):\n        std = torch.exp(0.5 * logvar)",
         "def reparameterize(self, mu, std):"),
        ("self.reparameterize(mu, logvar)", "self.reparameterize(mu, torch.exp(0.5 * logvar))"),
    ),
    "images": CONVOLUTIONAL,
    "images of the encoder's making": varied(
        CONVOLUTIONAL, ("self.conv(x)", "self.conv(x.view(-1, 1, 28, 28))")
    ),
    # Two images of 784 pixels are as many numbers as one input of the first linear layer.
    "images and an even number of features": varied(
        CONVOLUTIONAL, ("self.conv(x)", "self.conv(x.view(-1, 1, 28, 28))"),
        ("Conv2d(1, 2,", "Conv2d(1, 32,"), ("98", "1568"), ("2, 7, 7", "32, 7, 7"),
        ("Transpose2d(2,", "Transpose2d(32,"),
    ),
    "codes with a shape": varied(
        CONVOLUTIONAL, ("nn.Linear(98, 4), nn.Linear(98, 4)",
                        "nn.Conv2d(2, 4, 3, 4), nn.Conv2d(2, 4, 3, 4)"),
        (".flatten(1)", ""),
        ("nn.Linear(4, 98)", "nn.Linear(16, 98)"), ("self.fc(z)", "self.fc(z.flatten(1))"),
    ),
    "a distribution": varied(
        SMALL, ("return self.fc21(h1), self.fc22(h1)",
                "return Normal(self.fc21(h1), torch.exp(0.5 * self.fc22(h1)))"),
        ("def reparameterize(self, mu, logvar):", "def reparameterize(self, q):"),
        ("        std = torch.exp(0.5 * logvar)\n        eps = torch.randn_like(std)\n", ""),
        ("return mu + eps * std", "return q.rsample()"),
        ("mu, logvar = self.encode", "q = self.encode"),
        ("self.reparameterize(mu, logvar)", "self.reparameterize(q)"),
        (RETURN, "return self.decode(z), q"),
        ("(recon_x, x, mu, logvar)", "(recon_x, x, q)"),
        ("-0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())",
         "torch.distributions.kl_divergence(q, Normal(0.0, 1.0)).sum()"),
        after="from torch.distributions import Normal",
    ),
    "batch normalisation": varied(
        SMALL, ("self.fc1 = ", "self.bn = nn.BatchNorm1d(784)\n        self.fc1 = "),
        ("self.fc1(x)", "self.fc1(self.bn(x))"),
    ),
    "double precision": varied(
        SMALL, ("import torch\n", "import torch\n\ntorch.set_default_dtype(torch.float64)\n")
    ),
    "a loss of NumPy's numbers": varied(
        SMALL, ("-0.5 *", "-np.float64(0.5) *"), after="import numpy as np"
    ),
    "a guard for running": varied(
        SMALL, after="""
            if __name__ == "__main__":
                raise SystemExit("trained")
        """,
    ),
    "options of the command line": varied(
        SMALL, after="""
            import argparse

            parser = argparse.ArgumentParser()
            parser.add_argument("--epochs", type=int, default=3)
            args = parser.parse_args()
        """,
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(source, id=name, marks=[pytest.mark.slow] * (index % 2))
        for index, (name, source) in enumerate(FORMS.items())
    ],
)
def test_what_is_right_is_recognised(write, source, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vae-ref", "verify", "stranger.py", "--only", "kl/*"])
    subject = load(write(source))
    assert broken(subject) == set()
    assert subject.encode
    assert subject.decode
    assert subject.forward
    assert subject.module


def test_a_kl_of_codes_with_a_shape_is_judged_with_such_codes(write):
    source = """
        import torch

        def kl(mu, log_var):
            each = -0.5 * torch.sum(1 + log_var - mu**2 - log_var.exp(), dim=[1, 2, 3])
            return torch.mean(each, dim=0)
    """
    subject = load(write(source))
    assert len(subject.conventions.latent_shape) == 3
    assert broken(subject, "kl/closed-form", "kl/sum-over-latents", "kl/large-logvar") == set()


@pytest.mark.parametrize(
    ("form", "parts"),
    [
        ("a loss after its parts", {"loss", "reparameterize"}),
        ("the parts of a loss", {"nll", "kl", "reparameterize"}),
        ("the parts of a loss, the KL first, of each example", {"nll", "kl", "reparameterize"}),
        ("other names", {"loss", "reparameterize"}),
        ("names of a KL and a sampler", {"kl", "reparameterize"}),
    ],
)
def test_functions_of_other_names_are_found_by_what_they_take(write, form, parts):
    subject = load(write(FORMS[form]))
    found = {n for n in ("loss", "nll", "kl", "reparameterize") if getattr(subject, n)}
    assert found == parts
    assert subject.reparameterize


WHAT = {
    "a distribution": ("spread", "distribution"),
    "images": ("pixel_shape", (1, 28, 28)),
    "an instance": ("pixel_shape", (784,)),
    "codes with a shape": ("latent_shape", (4, 2, 2)),
    "batch normalisation": ("pixel_shape", (784,)),
    "images and an even number of features": ("pixel_shape", (784,)),
}


@pytest.mark.parametrize("form", WHAT)
def test_what_is_inferred(write, form):
    name, value = WHAT[form]
    assert getattr(load(write(FORMS[form])).conventions, name) == value


WRONG = {
    "model-outputs-swapped": (SMALL, (RETURN, "return self.decode(z), logvar, mu")),
    "model-forward-decodes-mu": (SMALL, ("self.decode(z)", "self.decode(mu)")),
    "model-relu-on-logvar": (SMALL, ("self.fc22(h1)", "F.relu(self.fc22(h1))")),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("bug", WRONG)
def test_a_bug_of_the_networks_is_named_in_a_file(write, bug):
    source, change = WRONG[bug]
    report = verify(load(write(varied(source, change))))
    assert bug in {r.diagnosis.bug for r in report.failures if r.diagnosis}


# Where it may be.


def test_a_subject_is_taken_as_it_is(write):
    path = write("""
        from vae_ref.conformance import Conventions, Subject

        subject = Subject(name="mine", kl=lambda m, s: (m + s).sum(),
                          conventions=Conventions(beta=4.0))
        other = subject
    """)
    subject = load(path)
    assert subject.name == "mine"
    assert isinstance(subject, Subject)
    assert subject.conventions.beta == 4
    assert load(f"{path}:other").name == "mine"
    assert load(path, {"beta": "2"}).conventions.beta == 2
    with pytest.raises(DeclarationError, match="no convention called 'bta'; there are spread, "):
        load(path, {"bta": "2"})


def test_of_several_subjects_one_is_named(write):
    path = write("""
        from vae_ref.conformance import Subject

        class Box:
            inner = Subject(name="inner")

        one, other = Subject(name="one"), Subject(name="other")
    """)
    assert load(f"{path}:other").name == "other"
    assert load(f"{path}:Box.inner").name == "inner"
    with pytest.raises(TargetError, match="one") as error:
        load(path)
    assert "other" in str(error.value)


@pytest.mark.parametrize(
    "target",
    [
        "box.models",
        "box.models:VAE",
        "box.models:Box.Inner",
        "box.models:instance",
        "box.models:Box.deep",
    ],
)
def test_modules_and_dotted_names(write, target):
    write("", "box/__init__.py")
    write("SIZE = 16", "box/sizes.py")
    change = ("import torch\n", "from .sizes import SIZE\nimport torch\n"), ("16", "SIZE")
    after = """
        instance = VAE()

        class Box:
            Inner = VAE
            deep = instance
    """
    write(varied(SMALL, *change, after=after), "box/models.py")
    subject = load(target)
    assert subject.name == target
    assert broken(subject, "model/outputs-in-order", "model/each-pixel-matters") == set()


@pytest.mark.parametrize("name", ["deep/er/my_vae.py", "with space/my-vae.py", "über/vä.py"])
def test_a_path_has_directories(write, tmp_path, name):
    path = write(SMALL, name)
    for target in (path, str(Path(path).relative_to(tmp_path)), f"./{name}", f"{path}:VAE"):
        assert load(target).encode is not None


def test_a_file_imports_its_sibling(write, tmp_path):
    write("WIDTH = 16", "here/sibling_of_one.py")
    change = (
        ("import torch\n", "from sibling_of_one import WIDTH\nimport torch\n"),
        ("16", "WIDTH"),
    )
    before = list(sys.path)
    assert load(write(varied(SMALL, *change), "here/one.py")).encode is not None
    assert str(tmp_path / "here") not in before


def test_a_file_imports_its_sibling_when_it_is_called(write):
    write("def half(t):\n    return 0.5 * t", "there/late_sibling.py")
    late = "    from late_sibling import half\n        std = torch"
    source = varied(SMALL, ("    std = torch", late), ("0.5 * logvar", "half(logvar)"))
    assert broken(load(write(source, "there/two.py")), "reparameterization/affine") == set()


def test_a_relative_import_says_what_to_do(write):
    write("", "pack/__init__.py")
    write("WIDTH = 16", "pack/sizes.py")
    path = write("from .sizes import WIDTH", "pack/model.py")
    with pytest.raises(TargetError, match="relative import") as error:
        load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["random.py", "statistics.py", "vae_ref.py", "test.py"])
def test_a_file_may_be_called_like_a_module(write, name):
    stem = name.partition(".")[0]
    before = sys.modules.get(stem)
    assert load(write(SMALL, f"own/{name}")).encode is not None
    assert sys.modules.get(stem) is before, f"the module {stem} is another now"


def test_a_path_that_a_file_adds_stays(write, tmp_path):
    load(write(f"import sys\nsys.path.insert(0, {str(tmp_path / 'added')!r})\n{SMALL}"))
    assert str(tmp_path / "added") in sys.path


# What a file may do.


def test_an_instance_is_left_as_it_was(write):
    """Its running averages too, which the search for the shape of an input may not feed."""
    path = write(varied(FORMS["batch normalisation"], after="net = VAE()"))
    subject = load(f"{path}:net")
    verify(subject)
    state = subject.module.state_dict()
    assert state["bn.running_mean"].abs().max() == 0
    assert state["bn.num_batches_tracked"] == 0
    assert all(p.grad is None for p in subject.module.parameters())
    assert subject.module.training


def everything():
    return {
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "grad mode": torch.is_grad_enabled(),
        "torch": torch.get_rng_state().tolist(),
        "numpy": np.random.get_state()[1].tolist(),
        "python": random.getstate(),
        "numpy's errors": np.geterr(),
        "directory": os.getcwd(),
        "filters": list(warnings.filters),
        "arguments": list(sys.argv),
        "streams": (sys.stdout, sys.stderr),
        "anomalies": torch.is_anomaly_enabled(),
    }


CHANGES = {
    "default dtype": "torch.set_default_dtype(torch.float64)",
    "default device": "torch.set_default_device('meta')",
    "grad mode": "torch.set_grad_enabled(False)",
    "torch": "torch.manual_seed(1)",
    "numpy": "import numpy; numpy.random.seed(1)",
    "python": "import random; random.seed(1)",
    "numpy's errors": "import numpy; numpy.seterr(all='raise')",
    "directory": "import os; os.chdir('/')",
    "filters": "import warnings; warnings.simplefilter('ignore')",
    "arguments": "import sys; sys.argv = ['other']",
    "streams": "import sys; sys.stdout = sys.stderr = open('/dev/null', 'w')",
    "anomalies": "torch.autograd.set_detect_anomaly(True)",
}


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_what_a_file_changes_is_put_back(write, what, monkeypatch):
    monkeypatch.chdir(Path.cwd())
    path = write("import torch\n" + CHANGES[what] + "\ndef kl_divergence(mu, logvar): pass")
    before = everything()
    try:
        load(path)
        after = everything()
    finally:  # for the tests after this one
        torch.set_default_device(None)
        np.seterr(**before["numpy's errors"])
        torch.autograd.set_detect_anomaly(False)
    assert {name for name in before if before[name] != after[name]} == set()


def test_a_file_that_prints_is_quiet(write, capsys):
    load(write(varied(SMALL, after="print('hello'); import sys; print('there', file=sys.stderr)")))
    assert capsys.readouterr() == ("", "")


def test_a_file_that_warns_is_no_worse(write):
    assert load(write(varied(SMALL, after="import warnings; warnings.warn('old', FutureWarning)")))


# What is no VAE: one clear line each, and no traceback.

BAD = {
    "raises": ("raise ValueError('first\\nsecond')", r"raised ValueError: first \(.*line 1\)$"),
    "raises deep down": (
        "import torch\n\ndef f():\n    torch.zeros(2) @ torch.zeros(3)\n\nf()",
        r"raised RuntimeError: .*stranger_\d+\.py, line",
    ),
    "raises what has no text": ("raise Exception", r"raised Exception"),
    "raises what cannot be shown": (
        "class E(Exception):\n    def __str__(self): raise RuntimeError\n\nraise E",
        r"raised E",
    ),
    "fails an assertion": ("assert 1 == 2", r"raised AssertionError"),
    "exits": ("import sys\nsys.exit(3)", r"raised SystemExit: 3 \(.*line 2\)$"),
    "exits with a text": ("raise SystemExit('no GPU')", r"raised SystemExit: no GPU"),
    "is cancelled": ("import asyncio\nraise asyncio.CancelledError", r"raised CancelledError"),
    "recurses": ("def f(): return f()\nf()", r"raised RecursionError: "),
    "closes the output": (
        "import sys\nsys.stdout.close()\nraise ValueError('x')", r"raised ValueError: x"
    ),
    "has a syntax error": ("def f(:\n    pass", r"raised SyntaxError: .*stranger_\d+\.py, line 1"),
    "is no text": ("\x00", r"(SyntaxError|ValueError): .*null bytes"),
    "misses a module": (
        "import no_such_module_anywhere",
        r"raised ModuleNotFoundError: No module named 'no_such_module_anywhere' \(.*line 1\)$",
    ),
    "is empty": ("", r"has no VAE: .*It defines nothing\."),
    "has no VAE": (
        "class Thing: pass\ndef train(): pass", r"has no VAE: .*It defines Thing, train\."
    ),
    "has a VAE that is no module": (
        "class VAE:\n    def encode(self, x): pass\n    def decode(self, z): pass",
        r"has no VAE: .*It defines VAE\.",
    ),
    "has two": (
        varied(CONVOLUTIONAL.partition(LOSS)[0], ("def reparameterize", "def sample"),
               ("self.reparameterize", "self.sample"), after="class Other(ConvVAE): pass"),
        r"ConvVAE.*Other",
    ),
    "has two, and a loss": (
        varied(CONVOLUTIONAL, after="class Other(ConvVAE): pass"),
        r"ConvVAE.*Other",
    ),
    "needs arguments": (
        varied(SMALL, ("__init__(self)", "__init__(self, width, *, depth)")),
        r"VAE needs arguments \(width, depth\); name an instance, as in .*:model",
    ),
    "cannot be made": (
        varied(SMALL, ("super().__init__()", "raise OSError('no disk')")),
        r"raised OSError: no disk",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("source", "message"), BAD.values(), ids=BAD)
def test_a_bad_file_is_answered_in_one_line(write, source, message):
    path = write(source)
    with pytest.raises(TargetError, match=message) as error:
        load(path)
    assert "\n" not in str(error.value)
    assert path in str(error.value) or "needs arguments" in str(error.value)
    assert "recognition.py" not in str(error.value), "the place is in our file, not in theirs"


TRAINS = """
import torch
def training_step(model, x): return model(x).square().mean()
"""
MAIN = "if __name__ == '__main__':\n    training_step(None, None)"
LOOP = "w = torch.ones(1, requires_grad=True)\nfor _ in range(2):\n    (w * w).backward()"

SCRIPTS = {
    "needs a batch": (TRAINS + MAIN, "", "takes model, x; say how"),
    "needs a batch, by name": (TRAINS + MAIN, ":training_step", "takes model, x; say how"),
    "has no VAE": ("import torch\n" + LOOP, "", "has no VAE: "),
    "has a VAE with arguments": (
        varied(SMALL, ("__init__(self)", "__init__(self, width)"), after=MAIN),
        "", "VAE needs arguments",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("source", "name", "reason"), SCRIPTS.values(), ids=SCRIPTS)
def test_a_refusal_of_a_script_says_first_that_it_can_be_run(write, source, name, reason):
    path = write(source)
    with pytest.raises(TargetError) as error:
        load(path + name)
    advice = f"If it is a script that trains, try: vae-ref run {path}. "
    assert str(error.value).startswith(advice)
    assert reason in str(error.value)


@pytest.mark.parametrize(
    "source",
    [TRAINS, "def train(loss):\n    loss.backward()", "import jax\n" + TRAINS + MAIN],
    ids=["no main block", "backward in a function", "JAX, which run does not watch"],
)
def test_a_refusal_of_what_is_no_script_of_torch_does_not(write, source):
    with pytest.raises(TargetError) as error:
        load(write(source))
    assert "vae-ref run" not in str(error.value)


HANGING = {
    "at import": ("while True: pass", "0.3 s of CPU time"),
    "asleep": ("import time\ntime.sleep(600)", "0.2 s"),
    "past an except": (
        "while True:\n    try:\n        x = 1\n    except Exception:\n        pass",
        "0.3 s of CPU time",
    ),
    "when it is made": (
        varied(SMALL, ("super().__init__()", "while True: pass")), "0.3 s of CPU time"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("source", "spent"), HANGING.values(), ids=HANGING)
def test_a_file_that_hangs_is_left(write, monkeypatch, source, spent):
    monkeypatch.setattr(recognition, "_IMPORT_SECONDS", 0.3)
    if "sleep" in source:
        monkeypatch.setattr(recognition, "IMPORT_PATIENCE", 0.2)
    with pytest.raises(
        TargetError, match=f"took more than {spent}; put what trains under if __name__"
    ):
        load(write(source))


ENCODERS = {
    "nothing": "None",
    "a number": "1.0",
    "two numbers": "(1.0, 2.0)",
    "an empty tuple": "()",
    "an empty dict": "{}",
    "a dict without names": "dict(a=self.fc21(h1), b=self.fc22(h1))",
    "one tensor": "torch.cat([self.fc21(h1), self.fc22(h1)], 1)",
    "one head": "(self.fc21(h1),)",
    "strings": "('mu', 'logvar')",
    "a module": "self.fc1",
    "too few rows": "(self.fc21(h1)[:1], self.fc22(h1)[:1])",
    "no axis": "(self.fc21(h1).sum(), self.fc22(h1).sum())",
    "NaN": "(self.fc21(h1) * float('nan'), self.fc22(h1) * float('nan'))",
}


@pytest.mark.parametrize("answer", ENCODERS.values(), ids=ENCODERS)
def test_an_encoder_that_answers_nonsense_is_judged_by_the_claims(write, answer):
    """The file could be loaded, so that status 2 would be wrong, and say the wrong thing."""
    source = varied(SMALL, ("return self.fc21(h1), self.fc22(h1)", f"return {answer}"))
    report = verify(load(write(source)), only="model/*")
    assert report.verdict == "violated"
    assert all("\n" not in r.message for r in report.results)


@pytest.mark.parametrize("act", ["raise SystemExit(3)", "raise ValueError('no')"])
def test_an_encoder_that_raises_is_judged_by_the_claims(write, act):
    subject = load(write(varied(SMALL, ("h1 = F.relu(self.fc1(x))", act))))
    assert subject.encode is not None
    assert verify(subject, only="model/two-heads").verdict == "violated"


def test_an_encoder_that_hangs_is_not_blamed_on_the_import(write, monkeypatch):
    """Whether it counts as loaded or not: there is nothing to be put under a guard."""
    monkeypatch.setattr(recognition, "_IMPORT_SECONDS", 0.3)
    message = ""
    try:
        load(write(varied(SMALL, ("h1 = F.relu(self.fc1(x))", "while True: pass"))))
    except TargetError as error:
        message = str(error)
    assert "__main__" not in message


FORWARDS = {
    "nothing": "None",
    "a number": "1.0",
    "the reconstruction alone": "self.decode(z)",
    "a pair within": "(self.decode(z), (mu, logvar))",
    "mu and logvar alone": "(mu, logvar)",
    "an empty tuple": "()",
    "an empty dict": "{}",
}


@pytest.mark.parametrize("answer", FORWARDS.values(), ids=FORWARDS)
def test_a_forward_pass_that_answers_otherwise_is_told_what_is_missing(write, answer):
    """An exception of ours, about reshaping None, tells a stranger nothing."""
    report = verify(
        load(write(varied(SMALL, (RETURN, f"return {answer}")))), only="model/outputs-*"
    )
    (result,) = report.results
    assert result.status == "fail", f"{result.status}: {result.message}"
    assert "forward" in result.message


@pytest.mark.parametrize("answer", ["None", "1.0", "mu", "self.nothing"])
def test_an_error_met_again_and_again_is_reported_once(write, answer):
    """Of claims that build on each other, and meet it in another order than that."""
    report = verify(load(write(varied(SMALL, (RETURN, f"return {answer}")))), only="model/*")
    assert report.verdict == "violated"
    messages = [r.message for r in report.failures]
    assert messages
    assert len(messages) == len(set(messages))


TARGETS = {
    "": "",
    ".": "",
    "..": "",
    ":VAE": "",
    "/": "",
    "no_such.py": "there is no file no_such.py",
    "no/such.py": "there is no file no/such.py",
    "no_such.py:VAE": "there is no file no_such.py",
    "no_such_module": "there is no module no_such_module; name one",
    "no_such_module:VAE": "there is no module no_such_module; name one",
    "torch.no_such": "there is no module torch.no_such",
    "no_such_module.inner:VAE": "there is no module no_such_module.inner",
    "plain": "",
    "plain/": "",
    "plain.py": "",
    "notes.txt": "notes.txt",
    "./notes.txt": "notes.txt is no Python file",
    "good.py:": "",
    "good.py:Nothing": "good.py has no Nothing. It defines VAE, loss_function.",
    "good.py:VAE.nothing": "good.py has no VAE.nothing",
    "good.py:loss_function": "takes recon_x, x, mu, logvar; say how they are made with --batch",
    "good.py:torch": "is module, neither a torch module, nor a function that returns a loss",
    "good.py:1": "",
    "good.py:VAE:VAE": "",
    "math": "math has no VAE",
}


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_that_is_none_is_answered_in_one_line(write, tmp_path, target):
    write(SMALL, "good.py")
    write("1, 2", "notes.txt")
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain.py").mkdir()
    with pytest.raises(TargetError) as error:
        load(target)
    assert TARGETS[target] in str(error.value)
    assert "\n" not in str(error.value)
    # What Python's machinery says about a target that is none is no help.
    for inside in ("importlib", "__init__.py", "raised"):
        assert inside not in str(error.value)


def test_a_directory_is_called_one(tmp_path):
    (tmp_path / "models").mkdir()
    with pytest.raises(TargetError, match="director"):
        load(f"{tmp_path}/models")
