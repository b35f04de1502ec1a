"""Bugs in the sampler."""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from vae_ref.conformance.mutants.bank import mutant as _mutant
from vae_ref.conformance.mutants.specimen import Net, sample

mutant = partial(_mutant, "sample")


def _sigma(logvar: Tensor) -> Tensor:
    return torch.exp(logvar / 2)


def _with(noise: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda mu, logvar: mu + _sigma(logvar) * noise(mu)


@mutant(
    "z-sigma-exp-logvar",
    "your sigma is exp(logvar), the variance, not exp(logvar / 2)",
    wrong="z = μ + ε·exp(logvar)",
    numpy="mu + eps * np.exp(logvar)",
    seen=("rachtsingh/ibp_vae#3", "keras-team/keras#9972"),
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return mu + logvar.exp() * torch.randn_like(mu)


@mutant(
    "z-half-exp-logvar",
    "your sigma is exp(logvar) / 2, not exp(logvar / 2)",
    wrong="z = μ + ε·½ exp(logvar)",
    numpy="mu + eps * 0.5 * np.exp(logvar)",
    seen=("chendaichao/VAE-pytorch",),
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return mu + 0.5 * logvar.exp() * torch.randn_like(mu)


@mutant(
    "z-sigma-as-logvar",
    "your sigma is logvar itself",
    wrong="z = μ + ε·logvar",
    numpy="mu + eps * logvar",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return mu + logvar * torch.randn_like(mu)


@mutant(
    "z-root-of-sigma",
    "your sigma is exp(logvar / 4): the root is taken twice",
    wrong="z = μ + ε·exp(logvar/4)",
    numpy="mu + eps * np.exp(logvar / 4)",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return mu + torch.exp(logvar / 4) * torch.randn_like(mu)


@mutant(
    "z-sigma-inverse",
    "your sigma is exp(-logvar / 2), the inverse of sigma",
    wrong="z = μ + ε·exp(−logvar/2)",
    numpy="mu + eps * np.exp(-logvar / 2)",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return mu + torch.exp(-logvar / 2) * torch.randn_like(mu)


@mutant(
    "z-softplus-sigma",
    "your sigma is softplus(logvar), not exp(logvar / 2)",
    wrong="z = μ + ε·softplus(logvar)",
    numpy="mu + eps * np.log1p(np.exp(logvar))",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return mu + F.softplus(logvar) * torch.randn_like(mu)


@mutant(
    "z-no-mu", "your z lacks mu", wrong="z = ε·exp(logvar/2)", numpy="eps * np.exp(logvar / 2)"
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return _sigma(logvar) * torch.randn_like(mu)


@mutant(
    "z-mu-scaled",
    "your z scales mu by sigma too: (mu + eps) sigma",
    wrong="z = (μ + ε)·exp(logvar/2)",
    numpy="(mu + eps) * np.exp(logvar / 2)",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return (mu + torch.randn_like(mu)) * _sigma(logvar)


@mutant(
    "z-clamped-logvar",
    "your sampler clamps logvar",
    wrong="z = μ + ε·exp(clamp(logvar, −10, 10)/2)",
    numpy="mu + eps * np.exp(np.clip(logvar, -10, 10) / 2)",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return sample(mu, logvar.clamp(-10, 10))


@mutant(
    "z-sigma-floor",
    "your sampler adds a floor to sigma",
    wrong="z = μ + ε·(exp(logvar/2) + 0.001)",
    numpy="mu + eps * (np.exp(logvar / 2) + 1e-3)",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return mu + (_sigma(logvar) + 1e-3) * torch.randn_like(mu)


@mutant("z-detached-mu", "your z is detached from mu", wrong="z = stop(μ) + ε·exp(logvar/2)")
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return sample(mu.detach(), logvar)


@mutant(
    "z-detached-sigma",
    "your z is detached from logvar: sigma does not learn from the reconstruction",
    wrong="z = μ + ε·stop(exp(logvar/2))",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return sample(mu, logvar.detach())


@mutant(
    "z-no-grad",
    "your z is sampled under no_grad or detached: no gradient reaches the encoder",
    wrong="z = stop(μ + ε·exp(logvar/2))",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return sample(mu, logvar).detach() + 0 * mu * logvar


@mutant(
    "z-from-distribution-sample",
    "your z comes from Normal.sample(), which has no gradient; use rsample()",
    wrong="z ~ Normal(μ, σ).sample()",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    z: Tensor = torch.distributions.Normal(mu, _sigma(logvar)).sample()
    return z


@mutant(
    "z-gradient-doubled",
    "your z has the right value, but the gradient of logvar is doubled",
    wrong="∂z/∂logvar = ε·σ",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return sample(mu, 2 * logvar - logvar.detach())


_kept: dict[tuple[int, ...], Tensor] = {}


@mutant(
    "z-frozen-noise", "your noise is drawn once and used again and again", wrong="ε⁽¹⁾ = ε⁽²⁾ = …"
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    if tuple(mu.shape) not in _kept:
        _kept[tuple(mu.shape)] = torch.randn(mu.shape, dtype=torch.float64)
    return mu + _sigma(logvar) * _kept[tuple(mu.shape)].to(mu.dtype)


@mutant("z-mean", "your z is mu: nothing is sampled", wrong="z = μ", numpy="mu")
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return mu + 0 * logvar


_own = torch.Generator().manual_seed(1)


@mutant(
    "z-noise-of-its-own",
    "your noise comes from a generator that torch's seed does not reach; pass Subject.seed",
    wrong="ε(s) ≠ ε(s)",
    deterministic=False,
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return mu + _sigma(logvar) * torch.randn(mu.shape, generator=_own, dtype=mu.dtype)


@mutant(
    "z-reseeds",
    "your sampler seeds the global generator: every call draws the same noise",
    wrong="manual_seed(0) in every call",
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    torch.manual_seed(0)
    return sample(mu, logvar)


class _MeanInEvaluation(Net):
    def reparameterize(self, mu: Tensor, logvar: Tensor) -> Tensor:
        return sample(mu, logvar) if self.training else mu


@mutant(
    "z-mean-in-evaluation",
    "your sampler returns mu in evaluation mode: the loss computed there is not the ELBO; "
    "declare evaluation=mean if that is meant",
    wrong="z = μ in evaluation",
    seen=("pytorch/examples#419", "YannDubs/disentangling-vae"),
    net=_MeanInEvaluation,
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return sample(mu, logvar)


class _OneSigmaInEvaluation(Net):
    def reparameterize(self, mu: Tensor, logvar: Tensor) -> Tensor:
        return sample(mu, logvar) if self.training else mu + _sigma(logvar)


@mutant(
    "z-one-sigma-in-evaluation",
    "your sampler returns mu + sigma in evaluation mode: the noise is left out, but not its sigma",
    wrong="z = μ + σ in evaluation",
    seen=("Project-MONAI/MONAI#8413",),
    net=_OneSigmaInEvaluation,
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return sample(mu, logvar)


@mutant(
    "z-uniform-noise",
    "your noise is uniform on [0, 1): rand_like for randn_like",
    wrong="ε ~ U(0, 1)",
    seen=("dferendo, issue 3", "timbmg/VAE-CVAE-MNIST#7"),
    deterministic=False,
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    return mu + _sigma(logvar) * torch.rand_like(mu)


mutant(
    "z-uniform-noise-of-variance-1",
    "your noise is uniform, scaled to variance 1",
    wrong="ε ~ U(−√3, √3)",
    deterministic=False,
)(_with(lambda mu: (2 * torch.rand_like(mu) - 1) * math.sqrt(3)))

mutant(
    "z-biased-noise",
    "your noise has a mean other than 0",
    wrong="ε ~ N(0.05, 1)",
    deterministic=False,
)(_with(lambda mu: torch.randn_like(mu) + 0.05))

mutant(
    "z-noise-too-small",
    "your noise is far too small: its standard deviation is 0.01, not 1",
    wrong="ε ~ N(0, 0.01²)",
    seen=("keras-team/keras#4211",),
    deterministic=False,
)(_with(lambda mu: 0.01 * torch.randn_like(mu)))

mutant(
    "z-noise-2-percent-too-large",
    "your noise has a standard deviation of 1.02",
    wrong="ε ~ N(0, 1.02²)",
    deterministic=False,
)(_with(lambda mu: 1.02 * torch.randn_like(mu)))

mutant(
    "z-exponential-noise",
    "your noise is skewed: an exponential distribution, centred",
    wrong="ε ~ Exp(1) − 1",
    deterministic=False,
)(_with(lambda mu: torch.empty_like(mu).exponential_() - 1))

mutant(
    "z-laplace-noise",
    "your noise has heavy tails: a Laplace distribution",
    wrong="ε ~ Laplace(0, 1/√2)",
    deterministic=False,
)(
    _with(
        lambda mu: (
            (torch.empty_like(mu).exponential_() - torch.empty_like(mu).exponential_())
            / math.sqrt(2)
        )
    )
)

mutant(
    "z-truncated-noise",
    "your noise is clipped",
    wrong="ε ~ clip(N(0, 1), −2.9, 2.9)",
    deterministic=False,
)(_with(lambda mu: torch.randn_like(mu).clamp(-2.9, 2.9)))

mutant(
    "z-rounded-noise",
    "your noise takes only a few values",
    wrong="ε ~ round(4 N(0, 1)) / 4",
    deterministic=False,
)(_with(lambda mu: torch.round(4 * torch.randn_like(mu)) / 4 / math.sqrt(1 + 1 / 192)))

mutant(
    "z-noise-shared-over-batch",
    "your noise is shared by all examples of a batch",
    wrong="ε_n = ε_m",
    seen=("wiseodd/generative-models",),
    deterministic=False,
)(_with(lambda mu: torch.randn_like(mu[:1]).expand_as(mu)))

mutant(
    "z-noise-shared-over-latents",
    "your noise is shared by all latents of an example",
    wrong="ε_d = ε_e",
    deterministic=False,
)(_with(lambda mu: torch.randn_like(mu[:, :1]).expand_as(mu)))

mutant(
    "z-antithetic-halves",
    "the noise of the second half of your batch is that of the first, negated",
    wrong="ε_{n+N/2} = −ε_n",
    deterministic=False,
)(
    _with(
        lambda mu: torch.cat(
            [half := torch.randn_like(mu[: (len(mu) + 1) // 2]), -half[: len(mu) // 2]]
        )
    )
)

_last: dict[tuple[int, ...], Tensor] = {}


@mutant(
    "z-noise-drifts",
    "your noise is correlated from call to call",
    wrong="ε⁽ᵗ⁺¹⁾ = ½ ε⁽ᵗ⁾ + √¾ ξ",
    deterministic=False,
)
def _(mu: Tensor, logvar: Tensor) -> Tensor:
    new = torch.randn_like(mu)
    before = _last.get(tuple(mu.shape), new).to(mu.dtype)
    noise = 0.5 * before + math.sqrt(0.75) * new if before is not new else new
    _last[tuple(mu.shape)] = noise.detach()
    return mu + _sigma(logvar) * noise
