"""Claims about a training loop, whatever it trains."""

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from vae_ref.conformance.answers.statistics import normal_quantile
from vae_ref.conformance.claims.registry import claim
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import Finding, Inconclusive, NotApplicable, Violation
from vae_ref.conformance.trainings import scoring
from vae_ref.conformance.trainings.trained import as_inputs, short_training, trained

_LOOP = ("module", "course", "forward", "loss", "encode", "decode", "train")
_FEW, _SHORT = 640, 2
"""The images and epochs of a short training: ten steps of the textbook's batch size."""

_LONGER = 24
"""The epochs of a short training after which its images score clearly better than others.

By then the reference gains 171 of 177 nats per example, and the specimen of the bank 2.2 of 5.4.
"""

_LEARNED = 0.02
"""The least share of the loss that a loop has to gain to show which images it learns from."""

_HALF = 0.5
"""The share of the gain of a right loop that decides.

A right loop gains the same, whatever the test set is. One that trains on both sets gains about
nothing if they differ, and one that trains on the test set loses as much.
"""

_COSINE = 0.999
"""The least cosine of a step's gradient with the right one.

Scaling leaves a cosine of 1. Gradients that are not zeroed bring it below 0.97 within ten steps.
"""

_ROUNDING = 1e-5
"""The relative error of a test loss that is summed in single precision."""

_DRAWS = 16
"""How many evaluations the variance of one is estimated from."""

_LOOPS = (
    "training/every-weight-learns",
    "training/learns-from-its-training-set",
    "training/fresh-noise",
    "training/follows-the-gradient",
)

_claim = partial(claim, slot="train", level="trained", seconds=120.0)


@_claim(
    "training/every-weight-learns",
    statement="Training changes every weight: the optimiser has those of the encoder and the "
    "decoder.",
    formula=r"\theta_j \ne \theta_j^{(0)} \text{ for each tensor } j",
    source="CompVis/latent-diffusion, whose optimiser lacks logvar",
    needs=_LOOP,
    kind="identity",
    tolerance="none: a tensor that is the same bit for bit has not learned",
    kills=("train-decoder-not-optimised", "train-encoder-not-optimised"),
    builds_on=("model/each-parameter-matters",),
)
def every_weight_learns(probe: Probe) -> None:
    module, x = probe.subject.module, as_inputs(probe, probe.course.train[:_FEW])
    assert module is not None  # noqa: S101
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    with short_training(probe, x, x, _SHORT):
        still = [n for n, p in module.named_parameters() if torch.equal(p, before[n])]
    if still:
        raise Violation(
            f"training does not change {', '.join(still)}: the optimiser does not have them",
            symptom="all still" if len(still) == len(before) else f"still {still[0]}",
        )


@_claim(
    "training/learns-from-its-training-set",
    statement="A loop learns from the images that it is given to train on, and not from those "
    "that it is given to test on.",
    formula=r"\mathrm{ELBO}(x_{\mathrm{train}}) > \mathrm{ELBO}(x_{\mathrm{test}}),"
    r" \quad x_{\mathrm{test}} \text{ with its pixels in another order}",
    source="the contract of a test set",
    needs=_LOOP,
    kind="identity",
    tolerance="half of the difference that a training on one kind of images makes",
    kills=("train-and-test-swapped", "train-on-both"),
    builds_on=("training/every-weight-learns",),
)
def learns_from_its_training_set(probe: Probe) -> None:
    course = probe.course
    order = torch.randperm(course.train.shape[1], generator=probe.generator("pixels"))
    shuffled = (slice(None), order)
    plain, mixed = (as_inputs(probe, course.train[:_FEW][part]) for part in ((), shuffled))
    held_out = [as_inputs(probe, course.held_out[:500][part]) for part in ((), shuffled)]
    gains = []
    for shown in (mixed, plain):
        with short_training(probe, plain, shown, _LONGER) as (networks, _):
            like, unlike = (scoring.score(networks, x).loss for x in held_out)
        gains.append(unlike - like)
    if not gains[1] > _LEARNED * like:
        raise NotApplicable("the loop learns too little to show from which images it learns")
    if not gains[0] > -_HALF * gains[1]:
        raise Violation(
            "after training, images like the test set score better than images like the training "
            f"set, by {-gains[0]:.2f} nats per example: the loop trains on the test set",
            symptom="swapped",
        )
    if not gains[0] > _HALF * gains[1]:
        raise Violation(
            f"images unlike the training set score {gains[0]:.2f} nats per example worse if the "
            f"test set is like them, and {gains[1]:.2f} worse if it is not: the loop trains on it",
            symptom="trains-on-both",
        )


@_claim(
    "training/reported-loss",
    statement="The test loss that the loop reports is the kit's score of the held-out images: "
    "all of them, in evaluation mode, with z drawn from q.",
    formula=r"L_{\mathrm{reported}} = \tfrac1N \sum_n \big(-\log p(x_n \mid z_n)"
    r" + \mathrm{KL}_n\big)",
    source="pytorch/examples pull request 419; YannDubs/disentangling-vae",
    needs=_LOOP,
    kind="statistical",
    tolerance="the noise of one evaluation, whose variance is estimated from 16 others",
    kills=("train-evaluates-mu", "train-evaluates-in-training-mode", "train-first-batch-tested"),
    builds_on=("objective/beta", *_LOOPS),
)
def reported_loss(probe: Probe) -> Finding:
    if probe.conventions.evaluation == "mean":
        raise NotApplicable("it is declared that z is the mean in evaluation mode")
    run = trained(probe)
    with run.loaded() as networks:
        x = as_inputs(probe, probe.course.held_out)
        losses = scoring.scores(networks, x, _DRAWS, "reported").sum(2)
    if not run.reported:
        raise NotApplicable("the weights are from a file, so it is not known what a loop reported")
    reported, scored = run.reported[-1], float(losses.mean())
    deviation = math.sqrt(float(losses.var(0).sum())) / len(x)
    allowed = normal_quantile(probe.alpha / 2) * deviation * math.sqrt(1 + 1 / _DRAWS)
    allowed += _ROUNDING * abs(scored)
    if not abs(reported - scored) <= allowed:
        raise Violation(
            f"the loop reports a test loss of {reported:.4f} nats per example; it is {scored:.4f}",
            symptom=_side(reported / scored),
        )
    both = f"{reported:.3f} nats per example, by the kit {scored:.3f}"
    return Finding(facts={"reported test loss": both})


def _side(ratio: float) -> str:
    """Return on which side of the right loss a reported one is, and whether it is far away."""
    if not ratio > 0.5:
        return "far below"
    return "below" if ratio < 1 else "above" if ratio < 2 else "far above"


class _Steps:
    """Watches the optimiser of a loop: are its gradients those of the last backward passes?"""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.cosines: list[float] = []
        self.gradients: dict[nn.Parameter, Tensor] = {}

    def _add(self, parameter: nn.Parameter, gradient: Tensor) -> None:
        before = self.gradients.get(parameter)
        self.gradients[parameter] = gradient.clone() if before is None else before + gradient

    def _step(self, optimiser: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        pairs = [(p.grad, g) for p, g in self.gradients.items() if p.grad is not None]
        if pairs:
            followed, computed = (
                torch.cat([t.flatten() for t in part]) for part in zip(*pairs, strict=True)
            )
            self.cosines.append(float(F.cosine_similarity(followed, computed, dim=0)))
        self.gradients.clear()

    def __enter__(self) -> "_Steps":
        self.handles = [
            p.register_hook(partial(self._add, p))
            for p in self.module.parameters()
            if p.requires_grad
        ]
        self.handles.append(register_optimizer_step_pre_hook(self._step))
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self.handles:
            handle.remove()


@_claim(
    "training/follows-the-gradient",
    statement="Each step follows the gradient that was computed since the last step, and no older "
    "one.",
    formula=r"g_t = \nabla_\theta L(x_t) \ne \textstyle\sum_{s \le t} \nabla_\theta L(x_s)",
    source="torch's zero_grad; Kingma and Ba 2015, algorithm 1",
    needs=_LOOP,
    kind="identity",
    tolerance="a cosine of 0.999; a gradient may be scaled, as clipping of its norm does",
    kills=("train-gradients-not-zeroed",),
    builds_on=("training/every-weight-learns",),
)
def follows_the_gradient(probe: Probe) -> None:
    x = as_inputs(probe, probe.course.train[:_FEW])
    assert probe.subject.module is not None  # noqa: S101
    with _Steps(probe.subject.module) as steps, short_training(probe, x, x[:1], 1):
        cosines = steps.cosines
    if not cosines:
        raise Inconclusive("no optimiser of torch takes a step; others cannot be watched")
    if not min(cosines) > _COSINE:
        raise Violation(
            f"step {1 + cosines.index(min(cosines))} follows a direction whose cosine with the "
            f"gradient computed for it is {min(cosines):.3f}: older gradients were not zeroed",
            symptom="older gradients",
        )


class _Noise(TorchDispatchMode):
    """Watches the normal numbers that torch draws."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: dict[bytes, int] = {}
        self.again = False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Tell torch not to wrap the next function, which would import its compiler, 2 s."""
        return False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN204
        answer = func(*args, **(kwargs or {}))
        if func.name().partition(".")[0].removeprefix("aten::") in _NORMAL:
            numbers = answer.detach().flatten()
            # A block is recognised by its beginning; if it is drawn again, it does not count.
            block = numbers[:64].cpu().double().numpy().tobytes()
            self.again |= block in self.seen
            self.seen[block] = numbers.numel()
        return answer


_NORMAL = ("randn", "randn_like", "normal", "normal_")


@_claim(
    "training/fresh-noise",
    statement="Every example gets fresh noise in every epoch: none is drawn once and kept.",
    formula=r"\varepsilon_{n,e} \sim N(0, I) \text{ independent}",
    source="Kingma and Welling 2014, algorithm 1: random samples of the noise in each step",
    needs=_LOOP,
    kind="identity",
    tolerance="none: the distinct numbers that are drawn are counted",
    kills=("train-frozen-noise", "train-reseeds-every-step"),
    builds_on=("reparameterization/fresh-noise", "training/every-weight-learns"),
)
def fresh_noise(probe: Probe) -> None:
    x = as_inputs(probe, probe.course.train[:_FEW])
    with _Noise() as noise, short_training(probe, x, x[:1], _SHORT) as (networks, _):
        latents = networks.latents
    drawn, needed = sum(noise.seen.values()), _SHORT * len(x) * latents
    if not drawn:
        raise Inconclusive("torch draws no normal numbers; other generators cannot be watched")
    if drawn < needed:
        raise Violation(
            f"{drawn} different normal numbers are drawn for {_SHORT} epochs of {len(x)} "
            f"images with {latents} latents, which need {needed}: noise is used again",
            symptom="drawn again" if noise.again else "kept",
        )
