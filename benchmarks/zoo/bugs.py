"""The bugs of the zoo: each changes one line of the program, as a bug of the bank does."""

from dataclasses import dataclass
from pathlib import Path

from vae_ref.conformance.mutants import BANK, Mutant

__all__ = ["PROGRAM", "RIGHT", "ZOO", "Bug"]

PROGRAM = (Path(__file__).parent / "program.py").read_text()
RIGHT = "right"
"""The name of the unchanged program among the bugs."""

_NLL = 'nll = F.binary_cross_entropy(outputs, x, reduction="sum")'
_KL = "kl = -0.5 * torch.sum(1 + logvar - mu**2 - logvar.exp())"
_LOSS = "return nll + kl"
_SIGMA = "sigma = torch.exp(logvar / 2)"
_Z = "return mu + sigma * torch.randn_like(mu)"
_MU = "mu = self.mu(h)"
_LOGVAR = "logvar = self.logvar(h)"
_LOOP = "for _ in range(epochs):"


@dataclass(frozen=True)
class Bug:
    """A bug of the bank, as a change of the program.

    Attributes:
        id: The name of the bug in the bank.
        title: The bug in a few words.
        right: What the program says.
        wrong: What stands there instead.
    """

    id: str
    title: str
    right: str
    wrong: str

    @property
    def mutant(self) -> Mutant:
        """The bug in the bank."""
        return BANK[self.id]

    @property
    def program(self) -> str:
        """The program with the bug."""
        assert PROGRAM.count(self.right) == 1, self.right
        return PROGRAM.replace(self.right, self.wrong)


_BUGS = (
    Bug(
        "nll-mean-over-everything",
        "The default reduction of the cross-entropy",
        _NLL,
        "nll = F.binary_cross_entropy(outputs, x)",
    ),
    Bug(
        "nll-mean-over-pixels",
        "A mean over pixels",
        _NLL,
        'nll = F.binary_cross_entropy(outputs, x, reduction="none").mean(1).sum()',
    ),
    Bug(
        "kl-mean-over-everything",
        "A mean where the KL has a sum",
        _KL,
        "kl = -0.5 * torch.mean(1 + logvar - mu**2 - logvar.exp())",
    ),
    Bug(
        "kl-mean-over-latents",
        "A mean over latents",
        _KL,
        "kl = -0.5 * torch.mean(1 + logvar - mu**2 - logvar.exp(), dim=1).sum()",
    ),
    Bug(
        "loss-sum-plus-batch-mean",
        "The KL divided by the batch size",
        _LOSS,
        "return nll + kl / len(x)",
    ),
    Bug("loss-no-kl", "The KL forgotten", _LOSS, "return nll"),
    Bug("loss-kl-halved", "Half the KL", _LOSS, "return nll + 0.5 * kl"),
    Bug("loss-beta-4", "A beta left over", _LOSS, "return nll + 4 * kl"),
    Bug("loss-kl-detached", "The KL as a number", _LOSS, "return nll + kl.item()"),
    Bug(
        "kl-no-half",
        "The factor 1/2 lost",
        _KL,
        "kl = -torch.sum(1 + logvar - mu**2 - logvar.exp())",
    ),
    Bug(
        "kl-negated",
        "The sign of the KL",
        _KL,
        "kl = 0.5 * torch.sum(1 + logvar - mu**2 - logvar.exp())",
    ),
    Bug(
        "kl-no-one",
        "The KL without its 1",
        _KL,
        "kl = -0.5 * torch.sum(logvar - mu**2 - logvar.exp())",
    ),
    Bug(
        "kl-no-mu",
        "The KL without mu",
        _KL,
        "kl = -0.5 * torch.sum(1 + logvar - logvar.exp())",
    ),
    Bug(
        "kl-logvar-as-log-sigma",
        "A KL that takes logvar for log sigma",
        _KL,
        "kl = -0.5 * torch.sum(1 + 2 * logvar - mu**2 - (2 * logvar).exp())",
    ),
    Bug(
        "kl-reversed",
        "The KL the wrong way round",
        _KL,
        "kl = -0.5 * torch.sum(1 - logvar - (1 + mu**2) / logvar.exp())",
    ),
    Bug(
        "model-outputs-swapped",
        "Logvar before mu",
        "return self.decode(z), mu, logvar",
        "return self.decode(z), logvar, mu",
    ),
    Bug(
        "model-sigmoid-twice",
        "The sigmoid twice",
        _NLL,
        'nll = F.binary_cross_entropy_with_logits(outputs, x, reduction="sum")',
    ),
    Bug(
        "nll-swapped",
        "The cross-entropy with its arguments swapped",
        _NLL,
        'nll = F.binary_cross_entropy(x.clamp(1e-6, 1 - 1e-6), outputs, reduction="sum")',
    ),
    Bug("nll-half-of-bce", "Half a cross-entropy", _NLL, "nll = -torch.sum(x * outputs.log())"),
    Bug(
        "nll-root-of-squares",
        "A norm for a squared error",
        _NLL,
        "nll = torch.linalg.vector_norm(outputs - x, dim=1).sum()",
    ),
    Bug(
        "nll-negated",
        "The sign of the reconstruction",
        _NLL,
        'nll = -F.binary_cross_entropy(outputs, x, reduction="sum")',
    ),
    Bug("z-sigma-exp-logvar", "The variance for sigma", _SIGMA, "sigma = torch.exp(logvar)"),
    Bug("z-sigma-as-logvar", "Logvar for sigma", _SIGMA, "sigma = logvar"),
    Bug("z-mean", "No noise", _Z, "return mu"),
    Bug(
        "z-mean-in-evaluation",
        "No noise in evaluation",
        _Z,
        "return mu + sigma * torch.randn_like(mu) if self.training else mu",
    ),
    Bug("z-uniform-noise", "Uniform noise", _Z, "return mu + sigma * torch.rand_like(mu)"),
    Bug(
        "z-noise-shared-over-batch",
        "One noise for the whole batch",
        _Z,
        "return mu + sigma * torch.randn_like(mu[:1])",
    ),
    Bug(
        "z-from-distribution-sample",
        "A sample without a gradient",
        _Z,
        "return torch.distributions.Normal(mu, sigma).sample()",
    ),
    Bug("z-no-mu", "A code without mu", _Z, "return sigma * torch.randn_like(mu)"),
    Bug("model-one-head", "One head for both", _LOGVAR, "logvar = self.mu(h)"),
    Bug("model-relu-on-mu", "A ReLU on mu", _MU, "mu = torch.relu(self.mu(h))"),
    Bug(
        "model-relu-on-logvar",
        "A ReLU on logvar",
        _LOGVAR,
        "logvar = torch.relu(self.logvar(h))",
    ),
    Bug(
        "train-gradients-not-zeroed",
        "No zero_grad",
        "            optimizer.zero_grad()\n",
        "",
    ),
    Bug(
        "train-pixels-divided-twice",
        "Pixels divided by 255 again",
        _LOOP,
        f"images, held_out = images / 255, held_out / 255\n    {_LOOP}",
    ),
    Bug(
        "train-on-both",
        "The test set in the training set",
        _LOOP,
        f"images = torch.cat([images, held_out])\n    {_LOOP}",
    ),
    Bug(
        "train-first-batch-tested",
        "A test of one batch",
        "test(model, held_out) /",
        "test(model, held_out[:128]) /",
    ),
)

ZOO = {bug.id: bug for bug in _BUGS}
