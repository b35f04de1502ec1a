"""What is true of a training loop, whatever it trains."""

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
from vae_ref.conformance.trainings.trained import numbers, short_training, trained

_LOOP = ("module", "course", "forward", "loss", "encode", "decode", "train")
_FEW, _REHEARSAL = 640, 2
_LOOPS = (
    "training/every-weight-learns",
    "training/learns-from-its-training-set",
    "training/fresh-noise",
    "training/follows-the-gradient",
)

_claim = partial(claim, slot="train", level="trained", seconds=120.0)


@_claim(
    "training/every-weight-learns",
    statement="Training moves every weight: the optimiser knows the encoder and the decoder.",
    formula=r"\theta_j \ne \theta_j^{(0)} \text{ for each tensor } j",
    source="CompVis/latent-diffusion, whose logvar is left out",
    needs=_LOOP,
    kind="identity",
    tolerance="none: a tensor that is the same bit for bit has not learned",
    kills=("train-decoder-not-optimised", "train-encoder-not-optimised"),
    builds_on=("model/each-parameter-matters",),
)
def every_weight_learns(probe: Probe) -> None:
    module, x = probe.subject.module, numbers(probe, probe.course.train[:_FEW])
    assert module is not None  # noqa: S101
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    with short_training(probe, x, x, _REHEARSAL):
        still = [n for n, p in module.named_parameters() if torch.equal(p, before[n])]
    if still:
        raise Violation(
            f"training leaves {', '.join(still)} as they were: the optimiser does not have them",
            symptom="all still" if len(still) == len(before) else f"still {still[0]}",
        )


@_claim(
    "training/learns-from-its-training-set",
    statement="A loop learns from the images it is given to train on, not from those it is given "
    "to test on.",
    formula=r"\mathrm{ELBO}(x_{\mathrm{train}}) > \mathrm{ELBO}(x_{\mathrm{test}}),"
    r" \quad x_{\mathrm{test}} \text{ with its pixels in another order}",
    source="the contract of a test set",
    needs=_LOOP,
    kind="identity",
    tolerance="the sign; and half of what the images differ by when only one kind is shown",
    kills=("train-and-test-swapped", "train-on-both"),
    builds_on=("training/every-weight-learns",),
)
def learns_from_its_training_set(probe: Probe) -> None:
    course = probe.course
    order = torch.randperm(course.train.shape[1], generator=probe.generator("pixels"))
    few, apart = 5 * _FEW, (slice(None), order)
    kept, mixed = (numbers(probe, course.train[:few][part]) for part in ((), apart))
    held_out = [numbers(probe, course.held_out[:500][part]) for part in ((), apart)]
    gains = []
    for shown in (mixed, kept):
        with short_training(probe, kept, shown, 6 * _REHEARSAL) as (body, _):
            own, other = (scoring.score(body, x).loss for x in held_out)
        gains.append(other - own)
    if not gains[1] > 0.02 * own:
        raise NotApplicable("too little is learned to tell from which images")
    if not gains[0] > -0.5 * gains[1]:
        raise Violation(
            "images like those to test on score better after training than images like those to "
            f"train on, by {-gains[0]:.2f} nats per example: it trains on the test set",
            symptom="swapped",
        )
    if not gains[0] > 0.5 * gains[1]:
        raise Violation(
            f"images unlike the training set score {gains[0]:.2f} nats per example worse if the "
            f"loop is shown such images to test on, and {gains[1]:.2f} if not: it trains on them",
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
    tolerance="a difference beyond the noise of one evaluation, whose variance 16 others give",
    kills=("train-evaluates-mu", "train-evaluates-in-training-mode", "train-first-batch-tested"),
    builds_on=("objective/beta", *_LOOPS),
)
def reported_loss(probe: Probe) -> Finding:
    if probe.conventions.evaluation == "mean":
        raise NotApplicable("the mean is declared to be taken for z in evaluation")
    run, draws = trained(probe), 16
    with run.loaded() as body:
        x = numbers(probe, probe.course.held_out)
        losses = scoring.scores(body, x, draws, "reported").sum(2)
    if not run.reported:
        raise NotApplicable("the training is over, and what it reported is not known")
    reported, own = run.reported[-1], float(losses.mean())
    spread = math.sqrt(float(losses.var(0).sum())) / len(x)
    reach = normal_quantile(probe.alpha / 2) * spread * math.sqrt(1 + 1 / draws)
    reach += 1e-5 * abs(own)  # sums in float32
    if not abs(reported - own) <= reach:
        raise Violation(
            f"the loop reports a test loss of {reported:.4f} nats per example; it is {own:.4f}",
            symptom=_far(reported / own),
        )
    words = f"{reported:.3f} nats per example, by the kit {own:.3f}"
    return Finding(facts={"reported test loss": words})


def _far(ratio: float) -> str:
    if not ratio > 0.5:
        return "far below"
    return "below" if ratio < 1 else "above" if ratio < 2 else "far above"


class _Steps:
    """Watch a loop's optimiser: is what it follows what the backward passes brought?"""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.cosines: list[float] = []
        self.brought: dict[nn.Parameter, Tensor] = {}

    def _bring(self, parameter: nn.Parameter, gradient: Tensor) -> None:
        before = self.brought.get(parameter)
        self.brought[parameter] = gradient.clone() if before is None else before + gradient

    def _step(self, optimiser: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        pairs = [(p.grad, g) for p, g in self.brought.items() if p.grad is not None]
        if pairs:
            followed, brought = (
                torch.cat([t.flatten() for t in part]) for part in zip(*pairs, strict=True)
            )
            self.cosines.append(float(F.cosine_similarity(followed, brought, dim=0)))
        self.brought.clear()

    def __enter__(self) -> "_Steps":
        self.handles = [
            p.register_hook(partial(self._bring, p))
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
    statement="Each step follows the gradient that was computed since the step before, and no "
    "older one.",
    formula=r"g_t = \nabla_\theta L(x_t) \ne \textstyle\sum_{s \le t} \nabla_\theta L(x_s)",
    source="torch's zero_grad; Kingma and Ba 2015, algorithm 1",
    needs=_LOOP,
    kind="identity",
    tolerance="a cosine of 0.999: the gradient may be scaled, as clipping its norm does",
    kills=("train-gradients-not-zeroed",),
    builds_on=("training/every-weight-learns",),
)
def follows_the_gradient(probe: Probe) -> None:
    x = numbers(probe, probe.course.train[:_FEW])
    assert probe.subject.module is not None  # noqa: S101
    with _Steps(probe.subject.module) as steps, short_training(probe, x, x[:1], 1):
        cosines = steps.cosines
    if not cosines:
        raise Inconclusive("no step of an optimiser of torch's; others cannot be watched")
    if not min(cosines) > 0.999:
        raise Violation(
            f"step {1 + cosines.index(min(cosines))} follows a direction whose cosine with the "
            f"gradient computed for it is {min(cosines):.3f}: older gradients are still there",
            symptom="older gradients",
        )


class _Noise(TorchDispatchMode):
    """Watch the normal numbers that torch draws."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: dict[bytes, int] = {}
        self.again = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN204
        answer = func(*args, **(kwargs or {}))
        if func.name().partition(".")[0].removeprefix("aten::") in _NORMAL:
            numbers = answer.detach().flatten()
            # A block is known by its beginning; drawn again, it adds nothing.
            block = numbers[:64].cpu().double().numpy().tobytes()
            self.again |= block in self.seen
            self.seen[block] = numbers.numel()
        return answer


_NORMAL = ("randn", "randn_like", "normal", "normal_")


@_claim(
    "training/fresh-noise",
    statement="Every example gets noise of its own in every epoch: none is drawn once and kept.",
    formula=r"\varepsilon_{n,e} \sim N(0, I) \text{ independent}",
    source="Kingma and Welling 2014, algorithm 1: random samples from the noise in each step",
    needs=_LOOP,
    kind="identity",
    tolerance="none: distinct numbers drawn are counted",
    kills=("train-frozen-noise", "train-reseeds-every-step"),
    builds_on=("reparameterization/fresh-noise", "training/every-weight-learns"),
)
def fresh_noise(probe: Probe) -> None:
    x = numbers(probe, probe.course.train[:_FEW])
    with _Noise() as noise, short_training(probe, x, x[:1], _REHEARSAL) as (body, _):
        latents = body.latents
    drawn, due = sum(noise.seen.values()), _REHEARSAL * len(x) * latents
    if not drawn:
        raise Inconclusive("no noise of torch's is drawn; that of others cannot be watched")
    if drawn < due:
        raise Violation(
            f"{drawn} different normal numbers are drawn for {_REHEARSAL} epochs of {len(x)} "
            f"images with {latents} latents, which need {due}: noise is used again",
            symptom="drawn again" if noise.again else "kept",
        )
