"""Bugs in the networks, and functions with side effects."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vae_ref.conformance.mutants.bank import mutant as _mutant
from vae_ref.conformance.mutants.specimen import HIDDEN, LATENTS, PIXELS, Net, sample

mutant = partial(_mutant, "net")

Activation = Callable[[Tensor], Tensor]


@mutant("model-one-head", "your mu and logvar come from one head", wrong="logvar = μ")
class _OneHead(Net):
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu, _ = super().encode(x)
        return mu, mu


@mutant(
    "model-heads-of-other-sizes",
    "your heads have different sizes: one sigma for all latents",
    wrong="logvar ∈ R",
)
class _HeadsOfOtherSizes(Net):
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu, logvar = super().encode(x)
        return mu, logvar[:, :1]


class _HeadsWithActivation(Net):
    """A network whose heads go through an activation function."""

    mu_activation: Activation = staticmethod(torch.clone)
    logvar_activation: Activation = staticmethod(torch.clone)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu, logvar = super().encode(x)
        return self.mu_activation(mu), self.logvar_activation(logvar)


@mutant(
    "model-relu-on-mu", "your mu goes through a ReLU: it is never negative", wrong="μ = ReLU(·)"
)
class _ReluOnMu(_HeadsWithActivation):
    mu_activation: Activation = staticmethod(F.relu)


@mutant("model-tanh-on-mu", "your mu goes through a tanh: it is bounded", wrong="μ = tanh(·)")
class _TanhOnMu(_HeadsWithActivation):
    mu_activation: Activation = staticmethod(torch.tanh)


@mutant(
    "model-relu-on-logvar",
    "your logvar goes through a ReLU: no sigma is below 1",
    wrong="logvar = ReLU(·)",
    seen=("TensorflowProjects (pull request 1)",),
)
class _ReluOnLogvar(_HeadsWithActivation):
    logvar_activation: Activation = staticmethod(F.relu)


@mutant(
    "model-softplus-on-logvar",
    "your logvar goes through a softplus: no sigma is below 1",
    wrong="logvar = softplus(·)",
    seen=("wohlert/semi-supervised-pytorch",),
)
class _SoftplusOnLogvar(_HeadsWithActivation):
    logvar_activation: Activation = staticmethod(F.softplus)


@mutant(
    "model-negative-logvar",
    "your logvar is never positive: no sigma is above 1",
    wrong="logvar = −softplus(·)",
)
class _NegativeLogvar(_HeadsWithActivation):
    logvar_activation: Activation = staticmethod(lambda logvar: -F.softplus(logvar))


@mutant(
    "model-tanh-on-logvar",
    "your logvar goes through a tanh: it is bounded",
    wrong="logvar = tanh(·)",
)
class _TanhOnLogvar(_HeadsWithActivation):
    logvar_activation: Activation = staticmethod(torch.tanh)


@mutant(
    "model-no-sigmoid",
    "your decoder returns logits, but the loss takes probabilities",
    wrong="x̂ = W h + b",
)
class _NoSigmoid(Net):
    def decode(self, z: Tensor) -> Tensor:
        logits: Tensor = self.pixels(torch.tanh(self.outer(z)))
        return logits


@mutant(
    "model-tanh-decoder",
    "your decoder ends in a tanh, but pixels are in [0, 1]",
    wrong="x̂ = tanh(·)",
    seen=("AntixK/PyTorch-VAE",),
)
class _TanhDecoder(Net):
    def decode(self, z: Tensor) -> Tensor:
        return torch.tanh(self.pixels(torch.tanh(self.outer(z))))


@mutant(
    "model-sigmoid-twice",
    "your decoder ends in a sigmoid, and the loss applies another",
    wrong="BCE_with_logits(sigmoid(·), x)",
    nll=lambda outputs, x: F.binary_cross_entropy_with_logits(outputs, x, reduction="none").sum(1),
)
class _SigmoidTwice(Net):
    pass


@mutant(
    "model-half-range",
    "your decoder reaches only a part of [0, 1]",
    wrong="x̂ = sigmoid(·) / 2",
)
class _HalfRange(Net):
    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z) / 2


@mutant(
    "model-batch-centred-codes",
    "your encoder centres the codes over the batch: examples leak into each other",
    wrong="μ_n − mean_m μ_m",
)
class _BatchCentredCodes(Net):
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu, logvar = super().encode(x)
        return mu - 0.5 * mu.mean(0, keepdim=True), logvar


@mutant(
    "model-decoder-mixes-batch",
    "your decoder normalises over the batch in evaluation too: examples leak into each other",
    wrong="x̂_n = x̂(z_n, mean_m z_m)",
)
class _DecoderMixesBatch(Net):
    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z - 0.5 * z.mean(0, keepdim=True))


@mutant(
    "model-half-the-pixels",
    "your encoder uses only a part of the pixels",
    wrong="x ↦ encode(x_{1…P/2})",
)
class _HalfThePixels(Net):
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().encode(F.pad(x[:, : PIXELS // 2], (0, PIXELS // 2)))


@mutant("model-constant-encoder", "your encoder ignores its input", wrong="x ↦ encode(0)")
class _ConstantEncoder(Net):
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().encode(0 * x)


@mutant(
    "model-first-latents-only",
    "your decoder ignores some latents",
    wrong="x̂ = decode(z₁, …, z_{D/2}, 0, …)",
)
class _FirstLatentsOnly(Net):
    def decode(self, z: Tensor) -> Tensor:
        return super().decode(F.pad(z[:, : LATENTS // 2], (0, LATENTS - LATENTS // 2)))


@mutant("model-decoder-ignores-code", "your decoder ignores the code", wrong="x̂ = decode(0)")
class _DecoderIgnoresCode(Net):
    def decode(self, z: Tensor) -> Tensor:
        return super().decode(0 * z)


@mutant(
    "model-unused-layer",
    "one of your layers is never used: no gradient reaches its weights",
    wrong="∂L/∂θ_j does not exist",
    seen=("CompVis/latent-diffusion (logvar)",),
)
class _UnusedLayer(Net):
    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.spare = nn.Linear(HIDDEN, HIDDEN)


@mutant(
    "model-frozen-layer",
    "one of your layers does not require gradients: it never learns",
    wrong="requires_grad = False",
)
class _FrozenLayer(Net):
    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.outer.requires_grad_(requires_grad=False)


@mutant(
    "model-forward-decodes-mu",
    "your forward pass decodes mu: nothing is sampled",
    wrong="x̂ = decode(μ)",
)
class _ForwardDecodesMu(Net):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mu, logvar = self.encode(x)
        return self.decode(mu + 0 * logvar), mu, logvar


@mutant(
    "model-mean-in-evaluation",
    "your forward pass decodes mu in evaluation mode; declare evaluation=mean if that is meant",
    wrong="x̂ = decode(μ) in evaluation",
    seen=("pytorch/examples#419",),
)
class _MeanInEvaluation(Net):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mu, logvar = self.encode(x)
        z = self.reparameterize(mu, logvar)
        return self.decode(z if self.training else mu.clone()), mu, logvar


@mutant(
    "model-forward-samples-twice-the-noise",
    "your forward pass does not use your sampler: its noise has another scale",
    wrong="x̂ = decode(μ + 2σε)",
)
class _ForwardSamplesTwiceTheNoise(Net):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mu, logvar = self.encode(x)
        return self.decode(mu + 2 * (sample(mu, logvar) - mu)), mu, logvar


@mutant(
    "model-outputs-swapped",
    "your forward pass returns logvar before mu",
    wrong="x ↦ (x̂, logvar, μ)",
)
class _OutputsSwapped(Net):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        outputs, mu, logvar = super().forward(x)
        return outputs, logvar, mu


@mutant(
    "model-posterior-detached",
    "your forward pass detaches mu and logvar: the KL trains nothing",
    wrong="x ↦ (x̂, stop(μ), stop(logvar))",
)
class _PosteriorDetached(Net):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        outputs, mu, logvar = super().forward(x)
        return outputs, mu.detach(), logvar.detach()


@mutant(
    "model-logvar-detached",
    "your forward pass detaches logvar: the KL does not train it",
    wrong="x ↦ (x̂, μ, stop(logvar))",
)
class _LogvarDetached(Net):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        outputs, mu, logvar = super().forward(x)
        return outputs, mu, logvar.detach()


@mutant(
    "model-unregistered-layer",
    "one of your layers is in a plain list: the module does not know its weights",
    wrong="θ_j ∉ parameters()",
)
class _UnregisteredLayer(Net):
    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.hidden = [nn.Linear(HIDDEN, HIDDEN)]

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.hidden[0](torch.tanh(self.inner(x))))
        return self.mu(h), self.logvar(h)


@mutant(
    "model-casts-to-float32",
    "your networks cast to single precision, whatever they are given",
    wrong="x.float()",
)
class _CastsToFloat32(Net):
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(F.linear(x.float(), self.inner.weight.float(), self.inner.bias.float()))
        return (
            F.linear(h, self.mu.weight.float(), self.mu.bias.float()),
            F.linear(h, self.logvar.weight.float(), self.logvar.bias.float()),
        )


@mutant("conduct-mutates-inputs", "your encoder changes its input in place", wrong="x.mul_(2)")
class _ConductMutatesInputs(Net):
    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            x.mul_(2).sub_(1)
        return super().encode(x)


@mutant(
    "conduct-reseeds",
    "your forward pass seeds the global generator",
    wrong="manual_seed(0) in forward",
)
class _ConductReseeds(Net):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        torch.manual_seed(0)
        return super().forward(x)


@mutant(
    "conduct-default-dtype",
    "your functions change torch's default dtype",
    wrong="set_default_dtype(…)",
)
class _ConductDefaultDtype(Net):
    def decode(self, z: Tensor) -> Tensor:
        torch.set_default_dtype(torch.bfloat16)
        return super().decode(z)


@mutant(
    "conduct-grad-mode",
    "your functions leave gradients switched off",
    wrong="set_grad_enabled(False)",
)
class _ConductGradMode(Net):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        answer = super().forward(x)
        torch.set_grad_enabled(mode=False)
        return answer
