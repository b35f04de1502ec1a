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
        looks: What one sees of it.
    """

    id: str
    title: str
    right: str
    wrong: str
    looks: str

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
        "Cross-entropy with its default reduction",
        _NLL,
        "nll = F.binary_cross_entropy(outputs, x)",
        "The loss is tiny: it is a mean over a whole batch, and the program still divides it by "
        "the number of images. The KL outweighs the reconstruction, the codes carry no "
        "information, and every picture is the mean digit.",
    ),
    Bug(
        "nll-mean-over-pixels",
        "Mean over the pixels, sum of the KL",
        _NLL,
        'nll = F.binary_cross_entropy(outputs, x, reduction="none").mean(1).sum()',
        "The loss is small, because its reconstruction is per pixel. The KL is not, and outweighs "
        "it: every picture is the mean digit.",
    ),
    Bug(
        "kl-mean-over-everything",
        "KL as a mean over everything",
        _KL,
        "kl = -0.5 * torch.mean(1 + logvar - mu**2 - logvar.exp())",
        "The loss is lower and the copies are sharper than those of the right program. Its "
        "draws are smoke.",
    ),
    Bug(
        "kl-mean-over-latents",
        "KL as a mean over the latents",
        _KL,
        "kl = -0.5 * torch.mean(1 + logvar - mu**2 - logvar.exp(), dim=1).sum()",
        "With 20 latents, the KL counts for a twentieth. The copies are sharp and the draws "
        "are cloudy.",
    ),
    Bug(
        "loss-sum-plus-batch-mean",
        "KL divided by the batch size",
        _LOSS,
        "return nll + kl / len(x)",
        "In training the KL counts for a 128th, and in the test, which is one batch of all the "
        "images, for even less. The loss is lower, the copies are sharper, and the draws are "
        "smoke.",
    ),
    Bug(
        "loss-no-kl",
        "No KL",
        _LOSS,
        "return nll",
        "The copies are among the best of this page. Nothing makes the codes fill the prior, "
        "and its draws are no digits.",
    ),
    Bug(
        "loss-kl-halved",
        "Half the KL",
        _LOSS,
        "return nll + 0.5 * kl",
        "The loss is lower, the copies are a little sharper, and nothing looks wrong.",
    ),
    Bug(
        "loss-beta-4",
        "A beta left over",
        _LOSS,
        "return nll + 4 * kl",
        "The draws are smooth and the copies are blurred. This is a choice if it is meant, "
        "and a bug if it is left over from an experiment.",
    ),
    Bug(
        "loss-kl-detached",
        "KL as a number, without a gradient",
        _LOSS,
        "return nll + kl.item()",
        "The KL is in the loss, but no gradient comes from it. It grows, and the loss rises "
        "while the program learns to copy.",
    ),
    Bug(
        "kl-no-half",
        "KL without its 1/2",
        _KL,
        "kl = -torch.sum(1 + logvar - mu**2 - logvar.exp())",
        "The KL counts twice. The copies are a little blurred, and nothing looks wrong.",
    ),
    Bug(
        "kl-negated",
        "KL with the wrong sign",
        _KL,
        "kl = 0.5 * torch.sum(1 + logvar - mu**2 - logvar.exp())",
        "The KL is rewarded, and grows without end. The loss is the lowest of this page.",
    ),
    Bug(
        "kl-no-one",
        "KL without its 1",
        _KL,
        "kl = -0.5 * torch.sum(logvar - mu**2 - logvar.exp())",
        "The model is the right one. Only the loss is wrong, by half a nat for each of 20 "
        "latents.",
    ),
    Bug(
        "kl-no-mu",
        "KL without mu",
        _KL,
        "kl = -0.5 * torch.sum(1 + logvar - logvar.exp())",
        "Nothing keeps mu small. The codes fly apart, and draws from the prior miss them.",
    ),
    Bug(
        "kl-logvar-as-log-sigma",
        "KL that takes logvar for log sigma",
        _KL,
        "kl = -0.5 * torch.sum(1 + 2 * logvar - mu**2 - (2 * logvar).exp())",
        "The pictures are right to the eye. The sigma of the noise is exp(logvar / 2), but the "
        "KL takes it for exp(logvar).",
    ),
    Bug(
        "model-outputs-swapped",
        "Logvar before mu",
        "return self.decode(z), mu, logvar",
        "return self.decode(z), logvar, mu",
        "The loss is lower and the copies are good. The KL takes mu for logvar, so nothing "
        "makes the codes fill the prior.",
    ),
    Bug(
        "model-sigmoid-twice",
        "Sigmoid twice",
        _NLL,
        'nll = F.binary_cross_entropy_with_logits(outputs, x, reduction="sum")',
        "The second sigmoid is given outputs between 0 and 1, so no probability is below one "
        "half. For a dark pixel an output of 0 is best, and almost everything is black.",
    ),
    Bug(
        "nll-half-of-bce",
        "Half a cross-entropy",
        _NLL,
        "nll = -torch.sum(x * outputs.log())",
        "It paints all pixels white, and reports almost no loss.",
    ),
    Bug(
        "nll-negated",
        "Reconstruction with the wrong sign",
        _NLL,
        'nll = -F.binary_cross_entropy(outputs, x, reduction="sum")',
        "The program is paid for what is wrong. It draws white where there is no ink, and "
        "the loss falls and falls.",
    ),
    Bug(
        "z-sigma-exp-logvar",
        "Variance for sigma",
        _SIGMA,
        "sigma = torch.exp(logvar)",
        "The loss is lower and the pictures are good. The sigma of the noise is exp(logvar), but "
        "the KL takes it for exp(logvar / 2).",
    ),
    Bug(
        "z-sigma-as-logvar",
        "Logvar for sigma",
        _SIGMA,
        "sigma = logvar",
        "A logvar of 0 switches the noise off, and to the KL it is the best one. The loss is "
        "lower and the copies are sharp.",
    ),
    Bug(
        "z-mean",
        "No noise",
        _Z,
        "return mu",
        "This is an autoencoder with a penalty for mu. Its loss is lower and its copies are "
        "sharp, but noise in its codes spoils them.",
    ),
    Bug(
        "z-mean-in-evaluation",
        "No noise in evaluation",
        _Z,
        "return mu + sigma * torch.randn_like(mu) if self.training else mu",
        "The model is trained right. Its test loss is too low, because the test has no noise.",
    ),
    Bug(
        "z-uniform-noise",
        "Uniform noise",
        _Z,
        "return mu + sigma * torch.rand_like(mu)",
        "The noise is small and never negative. The loss is lower, because less noise is "
        "easier to decode.",
    ),
    Bug(
        "z-noise-shared-over-batch",
        "One noise for the whole batch",
        _Z,
        "return mu + sigma * torch.randn_like(mu[:1])",
        "The whole batch moves the same way. The loss jumps, and learning is slow.",
    ),
    Bug(
        "z-from-distribution-sample",
        "Sample without a gradient",
        _Z,
        "return torch.distributions.Normal(mu, sigma).sample()",
        "No gradient of the reconstruction reaches the encoder. Every picture is the mean digit.",
    ),
    Bug(
        "model-one-head",
        "One head for both",
        _LOGVAR,
        "logvar = self.mu(h)",
        "A latent has a small sigma where its mean is below 0, and nowhere else. All is a "
        "little worse, and no picture tells why.",
    ),
    Bug(
        "model-relu-on-mu",
        "ReLU on mu",
        _MU,
        "mu = torch.relu(self.mu(h))",
        "In each latent, half of the prior is below 0, where mu never is. Many draws are no "
        "digits.",
    ),
    Bug(
        "model-relu-on-logvar",
        "ReLU on logvar",
        _LOGVAR,
        "logvar = torch.relu(self.logvar(h))",
        "No sigma is below 1, so the codes of different images overlap. The copies and the draws "
        "are blurred.",
    ),
    Bug(
        "train-gradients-not-zeroed",
        "No zero_grad",
        "            optimizer.zero_grad()\n",
        "",
        "The loss swings, and nothing is learned but where ink is likely.",
    ),
    Bug(
        "train-pixels-divided-twice",
        "Pixels divided by 255 again",
        _LOOP,
        f"images, held_out = images / 255, held_out / 255\n    {_LOOP}",
        "The test images are divided too, and black images are easy. The loss is tiny, and it "
        "draws black.",
    ),
    Bug(
        "train-on-both",
        "Test images in the training set",
        _LOOP,
        f"images = torch.cat([images, held_out])\n    {_LOOP}",
        "It has seen the test images, and makes a fifth more steps. So even its loss by the right "
        "formula is lower than the right program's, but says nothing of new images.",
    ),
    Bug(
        "train-first-batch-tested",
        "Test of the first batch alone",
        "test(model, held_out) /",
        "test(model, held_out[:128]) /",
        "The model is trained right. The loss of 128 images is divided by the number of all test "
        "images, so it looks far better than it is.",
    ),
)

ZOO = {bug.id: bug for bug in _BUGS}
