"""Trainings that the claims share: the textbook's, and those that vary it."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from vae_ref.conformance import scorer
from vae_ref.conformance.bench import Bench
from vae_ref.conformance.body import Body
from vae_ref.conformance.course import Course
from vae_ref.conformance.records import NotApplicable, Violation
from vae_ref.conformance.scorer import Score

__all__ = [
    "AUTOENCODER",
    "VAE",
    "Trained",
    "Variant",
    "beta",
    "numbers",
    "rehearsed",
    "trained",
]

BATCH, RATE = 128, 1e-3
_READY = "the weights are those of a finished training, so nothing is trained"


@dataclass(frozen=True)
class Variant:
    """How a training differs from the textbook's.

    Attributes:
        name: What reports call it.
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


def beta(weight: float) -> Variant:
    """Return the training whose KL has this weight."""
    return Variant(f"beta {weight:g}", beta=weight)


@dataclass
class Trained:
    """What came of a training; the module itself has its own weights back.

    Attributes:
        weights: The parameters and buffers at the end, or after the brief time.
        scores: The kit's own score of the held-out images, by epoch.
        train: The loss of every epoch as it was trained on, nats per example.
        reported: The test loss of every epoch as the subject's own loop reports it.
    """

    bench: Bench
    weights: list[Tensor] = field(default_factory=list)
    brief: list[Tensor] = field(default_factory=list)
    scores: dict[int, Score] = field(default_factory=dict)
    train: list[float] = field(default_factory=list)
    reported: list[float] = field(default_factory=list)

    @contextlib.contextmanager
    def loaded(self, *, brief: bool = False) -> Iterator[Body]:
        """Give the module its trained weights for a while, in evaluation mode."""
        if brief and self.bench.ready:
            raise NotApplicable(_READY)
        with _borrowed(self.bench) as module, self.bench.mode(training=False), torch.no_grad():
            _put(module, self.brief if brief else self.weights)
            yield Body.of(self.bench)


def trained(bench: Bench, variant: Variant = VAE) -> Trained:
    """Train once per run, from the weights that the subject has: Adam 1e-3, batches of 128."""
    if variant.name not in bench.trained:
        failed = f"the training called {variant.name} failed before"
        bench.trained[variant.name] = NotApplicable(failed)
        bench.trained[variant.name] = _train(bench, variant)
    found = bench.trained[variant.name]
    if isinstance(found, NotApplicable):
        raise found
    return found


def _train(bench: Bench, variant: Variant) -> Trained:
    if bench.ready:
        if variant != VAE:
            raise NotApplicable(_READY)
        return _as_it_comes(bench)
    course, result = bench.course, Trained(bench)
    own = variant == VAE
    epochs = course.epochs if own else course.brief
    held_out = numbers(bench, course.held_out)
    bench.subject.seed(bench.number(f"training {variant.name}"))
    with _borrowed(bench) as module, flushed(), torch.enable_grad():
        if own and bench.subject.train is not None:
            lines = iter(bench.subject.train(numbers(bench, course.train), held_out, epochs))
        else:
            lines = ((loss, float("nan")) for loss in loop(bench, variant, course, epochs))
        with bench.mode(training=True):
            for train, test in lines:
                result.train.append(float(train))
                result.reported.append(float(test))
                epoch = len(result.train)
                if epoch > epochs:
                    break
                if epoch in (course.brief, *course.milestones, epochs):
                    with bench.mode(training=False):
                        result.scores[epoch] = scorer.score(Body.of(bench), held_out)
                if epoch == course.brief:
                    result.brief = _copies(module)
        result.weights = _copies(module)
    if len(result.train) != epochs:
        raise Violation(
            f"the loop yields {len(result.train)} times or more for {epochs} epochs",
            symptom="epochs",
        )
    return result


@contextlib.contextmanager
def rehearsed(
    bench: Bench, images: Tensor, held_out: Tensor, epochs: int
) -> Iterator[tuple[Body, list[tuple[float, float]]]]:
    """Let the subject's own loop train on a few images; what it did lasts for the block."""
    assert bench.subject.train is not None  # noqa: S101 - the claims need it
    if bench.ready:
        raise NotApplicable(_READY)
    bench.subject.seed(bench.number("rehearsal"))
    with _borrowed(bench), flushed():
        with bench.mode(training=True), torch.enable_grad():
            lines = list(bench.subject.train(images, held_out, epochs))
        with bench.mode(training=False), torch.no_grad():
            yield Body.of(bench), lines


def _as_it_comes(bench: Bench) -> Trained:
    """Return the weights that came from a file."""
    module = bench.subject.module
    assert module is not None  # noqa: S101 - the claims need it
    result = Trained(bench, weights=_copies(module), brief=_copies(module))
    with result.loaded() as body:
        result.scores[bench.course.epochs] = scorer.score(
            body, numbers(bench, bench.course.held_out)
        )
    return result


def loop(bench: Bench, variant: Variant, course: Course, epochs: int) -> Iterator[float]:
    """Train the module with the subject's own loss, or with its terms in other proportions."""
    module, loss = bench.subject.module, _loss(bench, variant)
    assert module is not None  # noqa: S101 - the claims need it
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(parameters, RATE, fused=True)
    order, body = bench.generator(f"order {variant.name}"), Body.of(bench)
    for _ in range(epochs):
        total = torch.zeros((), dtype=torch.float64)
        for rows in torch.randperm(len(course.train), generator=order).split(BATCH):
            x = Course.numbers(course.train[rows], body.dtype).reshape(-1, *body.shape)
            optimiser.zero_grad()
            value = loss(x)
            value.backward()
            optimiser.step()
            total += value.detach()
        yield float(total) / len(course.train)


def _loss(bench: Bench, variant: Variant) -> Callable[[Tensor], Tensor]:
    """Return the loss of a batch, the sum over its examples."""
    body = Body.of(bench)

    def own(x: Tensor) -> Tensor:
        outputs, *posterior = body.forward(x)
        factor = len(x) if bench.in_loss[0].batch == "mean" else 1
        return bench.loss_as_is(outputs, x.flatten(1), *posterior).sum() * factor

    def varied(x: Tensor) -> Tensor:
        if not variant.distortion:
            return variant.beta * bench.kl(*body.encode(x))
        if variant.noisy:
            outputs, mu, logvar = body.forward(x)
        else:
            mu, logvar = body.encode(x)
            outputs = body.decode(mu)
        flat = x.flatten(1)
        loss = (outputs - flat).square().sum() if variant.squared else bench.nll(outputs, flat)
        loss = loss * variant.distortion
        return loss + variant.beta * bench.kl(mu, logvar) if variant.beta else loss

    return own if variant == VAE else varied


def numbers(bench: Bench, images: Tensor) -> Tensor:
    """Return images as the subject takes them."""
    body = Body.of(bench)
    return Course.numbers(images, body.dtype).reshape(-1, *body.shape)


def _copies(module: nn.Module) -> list[Tensor]:
    return [tensor.data.clone() for tensor in (*module.parameters(), *module.buffers())]


def _put(module: nn.Module, values: list[Tensor]) -> None:
    tensors = (*module.parameters(), *module.buffers())
    for tensor, value in zip(tensors, values, strict=True):
        tensor.data = value.clone()


@contextlib.contextmanager
def _borrowed(bench: Bench) -> Iterator[nn.Module]:
    """Give the module its weights back afterwards."""
    module = bench.subject.module
    assert module is not None  # noqa: S101 - the claims need it
    before = _copies(module)
    try:
        yield module
    finally:
        _put(module, before)
        for parameter in module.parameters():
            parameter.grad = None


@contextlib.contextmanager
def flushed() -> Iterator[None]:
    """Take denormal numbers for zero: Adam's moments of dead units are slow otherwise."""
    tiny = torch.tensor(torch.finfo(torch.float32).tiny)
    before = bool(tiny / 2 == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
