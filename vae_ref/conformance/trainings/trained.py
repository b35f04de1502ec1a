"""Train the subject, once for all claims: as the textbook does, and in variations of that."""

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from vae_ref.conformance import guards
from vae_ref.conformance.ahead import Ahead, can_fork
from vae_ref.conformance.course import Course
from vae_ref.conformance.probe.networks import Networks
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import Claim, NotApplicable, Violation
from vae_ref.conformance.trainings import scoring
from vae_ref.conformance.trainings.scoring import Score
from vae_ref.support.denormals import denormals_flushed
from vae_ref.support.platform import Adam

__all__ = [
    "AUTOENCODER",
    "KL_ALONE",
    "SQUARED",
    "VAE",
    "VARIANTS",
    "WEIGHTS",
    "Trained",
    "Variant",
    "as_inputs",
    "beta",
    "comparisons",
    "require_textbook",
    "short_training",
    "trained",
    "trained_ahead",
]

BATCH, RATE = 128, 1e-3
_READY = "the weights are those of a finished training, so nothing is trained"


@dataclass(frozen=True)
class Variant:
    """How a training differs from the textbook's.

    Attributes:
        name: The name that reports and claims use.
        beta: The weight of the KL.
        distortion: The weight of the reconstruction.
        noisy: Whether z is drawn; without noise z = mu, and the network is an autoencoder.
        squared: Whether the reconstruction is the squared error.
    """

    name: str
    beta: float = 1.0
    distortion: float = 1.0
    noisy: bool = True
    squared: bool = False


VAE = Variant("vae")
AUTOENCODER = Variant("autoencoder", beta=0.0, noisy=False)
KL_ALONE = Variant("KL alone", distortion=0.0)
SQUARED = Variant("squared error", squared=True)
WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""The weights of the KL that a course may have."""


def beta(weight: float) -> Variant:
    """Return the variant whose KL has this weight."""
    return VAE if weight == 1 else Variant(f"beta {weight:g}", beta=weight)


VARIANTS = {
    variant.name: variant
    for variant in (VAE, AUTOENCODER, KL_ALONE, SQUARED, *map(beta, (0, *WEIGHTS, 100)))
}
"""The trainings that claims name as those which they need."""


@dataclass
class Trained:
    """What a training resulted in; the module itself has its old weights back.

    Attributes:
        probe: The probe of the subject.
        weights: The parameters and buffers after the last epoch.
        brief: The parameters and buffers after as many epochs as a variant is trained.
        scores: The kit's own score of the held-out images, by epoch.
        train: The training loss of every epoch, nats per example.
        reported: The test loss that the subject's own loop reports for every epoch.
    """

    probe: Probe
    weights: list[Tensor] = field(default_factory=list)
    brief: list[Tensor] = field(default_factory=list)
    scores: dict[int, Score] = field(default_factory=dict)
    train: list[float] = field(default_factory=list)
    reported: list[float] = field(default_factory=list)

    @contextlib.contextmanager
    def loaded(self, *, brief: bool = False) -> Iterator[Networks]:
        """Give the module its trained weights for a while, in evaluation mode."""
        if brief and self.probe.ready:
            raise NotApplicable(_READY)
        with _borrowed(self.probe) as module, self.probe.mode(training=False), torch.no_grad():
            _restore(module, self.brief if brief else self.weights)
            yield Networks.of(self.probe)


def trained(probe: Probe, variant: Variant = VAE) -> Trained:
    """Return a training of the subject, made once per run: Adam 1e-3, batches of 128."""
    failed = NotApplicable(f"the training called {variant.name} failed before")

    def make() -> Trained:
        made = probe.ahead.get(variant) if probe.ahead else None
        return Trained(probe, **made) if made else _train(probe, variant)

    return probe.once(("training", variant), make, failed=failed)


def comparisons(claims: Iterable[Claim], course: Course) -> list[Variant]:
    """Return the variations of the textbook's training that claims compare with it on a course."""
    left_out = {beta(weight).name for weight in WEIGHTS if weight not in course.weights}
    names = dict.fromkeys(name for claim in claims for name in claim.trains)
    return [VARIANTS[name] for name in names if name not in left_out | {VAE.name}]


@contextlib.contextmanager
def trained_ahead(probe: Probe, claims: Iterable[Claim]) -> Iterator[None]:
    """Let a second process make what claims train, where there is a core for one.

    The textbook's training is left to this process: the claims begin with it.
    """
    train = [claim for claim in claims if claim.trains]
    variants = list[Variant]()
    if train and not probe.ready and probe.subject.module and can_fork():
        with contextlib.suppress(Exception):  # a course that fails is reported by the claims
            variants = comparisons(train, probe.course)
    if not variants:
        yield
        return

    def make(variant: Variant) -> dict[str, Any]:
        with guards.quiet(), warnings.catch_warnings(), probe.mode(training=True):
            warnings.simplefilter("ignore")
            made = vars(_train(probe, variant))
        del made["probe"]  # which the other process has
        return made

    probe.ahead = Ahead(make, variants)
    try:
        yield
    finally:
        probe.ahead.stop()
        probe.ahead = None


def _train(probe: Probe, variant: Variant) -> Trained:
    if probe.ready:
        if variant != VAE:
            raise NotApplicable(_READY)
        return _from_file(probe)
    course, result = probe.course, Trained(probe)
    textbook = variant == VAE
    epochs = course.epochs if textbook else course.brief
    held_out = as_inputs(probe, course.held_out)
    probe.subject.seed(probe.number(f"training {variant.name}"))
    with _borrowed(probe) as module, denormals_flushed(), torch.enable_grad():
        if textbook and probe.subject.train is not None:
            losses = iter(probe.subject.train(as_inputs(probe, course.train), held_out, epochs))
        else:
            losses = ((loss, float("nan")) for loss in loop(probe, variant, course, epochs))
        with probe.mode(training=True):
            for train, test in losses:
                result.train.append(float(train))
                result.reported.append(float(test))
                epoch = len(result.train)
                if epoch > epochs:
                    break
                if epoch in (course.brief, epochs) or (textbook and epoch in course.milestones):
                    with probe.mode(training=False):
                        result.scores[epoch] = scoring.score(Networks.of(probe), held_out)
                if epoch == course.brief:
                    result.brief = _copies(module)
        result.weights = _copies(module)
    if len(result.train) != epochs:
        more = " or more" if len(result.train) > epochs else ""
        raise Violation(
            f"the loop yields {len(result.train)} times{more} for {epochs} epochs",
            symptom="epochs",
        )
    return result


@contextlib.contextmanager
def short_training(
    probe: Probe, images: Tensor, held_out: Tensor, epochs: int
) -> Iterator[tuple[Networks, list[tuple[float, float]]]]:
    """Let the subject's own loop train on a few images; the new weights last for the block."""
    assert probe.subject.train is not None  # noqa: S101 - the claims need it
    if probe.ready:
        raise NotApplicable(_READY)
    probe.subject.seed(probe.number("rehearsal"))
    with _borrowed(probe), denormals_flushed():
        with probe.mode(training=True), torch.enable_grad():
            losses = list(islice(probe.subject.train(images, held_out, epochs), epochs + 1))
        with probe.mode(training=False), torch.no_grad():
            yield Networks.of(probe), losses


def _from_file(probe: Probe) -> Trained:
    """Return the weights that were loaded from a file, as a training."""
    module = probe.subject.module
    assert module is not None  # noqa: S101 - the claims need it
    result = Trained(probe, weights=_copies(module), brief=_copies(module))
    with result.loaded() as networks:
        result.scores[probe.course.epochs] = scoring.score(
            networks, as_inputs(probe, probe.course.held_out)
        )
    return result


def loop(probe: Probe, variant: Variant, course: Course, epochs: int) -> Iterator[float]:
    """Train the module with the subject's own loss, or with its terms as a variant has them."""
    module, loss = probe.subject.module, _loss(probe, variant)
    assert module is not None  # noqa: S101 - the claims need it
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimiser = Adam(parameters, RATE, fused=True)
    order, networks = probe.generator(f"order {variant.name}"), Networks.of(probe)
    for _ in range(epochs):
        total = torch.zeros((), dtype=torch.float64)
        for rows in torch.randperm(len(course.train), generator=order).split(BATCH):
            x = Course.numbers(course.train[rows], networks.dtype).reshape(-1, *networks.shape)
            optimiser.zero_grad()
            value = loss(x)
            value.backward()
            optimiser.step()
            total += value.detach()
        yield float(total) / len(course.train)


def _loss(probe: Probe, variant: Variant) -> Callable[[Tensor], Tensor]:
    """Return the loss of a batch as a function of its images, summed over examples."""
    networks = Networks.of(probe)

    def own(x: Tensor) -> Tensor:
        outputs, *posterior = networks.forward(x)
        factor = len(x) if probe.in_loss[0].batch == "mean" else 1
        return probe.loss_as_is(outputs, x.flatten(1), *posterior).sum() * factor

    def varied(x: Tensor) -> Tensor:
        if not variant.distortion:
            return variant.beta * probe.kl(*networks.encode(x))
        if variant.noisy:
            outputs, mu, logvar = networks.forward(x)
        else:
            mu, logvar = networks.encode(x)
            outputs = networks.decode(mu)
        flat = x.flatten(1)
        loss = (outputs - flat).square().sum() if variant.squared else probe.nll(outputs, flat)
        loss = loss * variant.distortion
        return loss + variant.beta * probe.kl(mu, logvar) if variant.beta else loss

    return own if variant == VAE else varied


def require_textbook(probe: Probe) -> None:
    """Raise `NotApplicable` unless the intervals of the course were measured on such a model."""
    module, course = probe.subject.module, probe.course
    if not course.name:
        raise NotApplicable("the course has no intervals; --train glyphs and --train mnist have")
    shapes = sorted(tuple(p.shape) for p in module.parameters()) if module else []
    if tuple(shapes) != course.form:
        raise NotApplicable("the intervals are those of the textbook's networks, 784-400-20")
    if probe.likelihood.name != "bernoulli":
        raise NotApplicable("the intervals are those of a Bernoulli likelihood with probabilities")


def as_inputs(probe: Probe, images: Tensor) -> Tensor:
    """Return images in the subject's shape and precision."""
    networks = Networks.of(probe)
    return Course.numbers(images, networks.dtype).reshape(-1, *networks.shape)


def _copies(module: nn.Module) -> list[Tensor]:
    return [tensor.data.clone() for tensor in (*module.parameters(), *module.buffers())]


def _restore(module: nn.Module, values: list[Tensor]) -> None:
    tensors = (*module.parameters(), *module.buffers())
    for tensor, value in zip(tensors, values, strict=True):
        tensor.data = value.clone()


@contextlib.contextmanager
def _borrowed(probe: Probe) -> Iterator[nn.Module]:
    """Lend the module of a subject; afterwards it has its old weights again."""
    module = probe.subject.module
    assert module is not None  # noqa: S101 - the claims need it
    before = _copies(module)
    try:
        yield module
    finally:
        _restore(module, before)
        for parameter in module.parameters():
            parameter.grad = None
