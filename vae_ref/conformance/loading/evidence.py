"""Try functions that were found by their names: what they take, and what convention they keep.

A name is a hint. Where a function cannot take the textbook's arguments, it is of another form, and
is not judged by them. Where sampler and KL agree on another convention than their names say, that
is the one that they are held to.
"""

import functools
import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vae_ref.conformance import guards
from vae_ref.conformance.foreign import Foreign, from_numpy
from vae_ref.conformance.subject import Spread

__all__ = [
    "agreed_spread",
    "as_torch",
    "code_shape",
    "jitter",
    "misfit",
    "number_of_pixels",
    "trials",
    "tried",
]

_CODES = ((3, 5), (3, 20), (3, 2, 4), (3, 1, 4, 4))
_IMAGES = ((3, 7), (3, 784), (3, 1, 28, 28), (3, 3, 32, 32), (3, 3, 64, 64))
_CLOSE = 1e-3


def misfit(function: Callable[..., Any], arguments: int, *, of_parts: bool = False) -> str:
    """Return why a function is of another form than the textbook's; nothing if it is not.

    It is if it needs other arguments than these, or if it fails for codes and images of all usual
    shapes, and for each in its own way; one that fails for all of them alike is broken instead.

    Args:
        function: Takes codes, or outputs and images before them.
        arguments: How many it takes.
        of_parts: Whether it may return several values, which `parts_of` tells apart.
    """
    errors = []
    for tensors in trials(arguments):
        try:
            answer = tried(function, tensors)
        except (KeyError, TypeError, AttributeError) as error:  # it needs what is not given
            return guards.kind_and_message(error)
        except Exception as error:
            errors.append(guards.kind_and_message(error))
            continue
        several = isinstance(answer, tuple | list) and len(answer) > 1
        if several and not of_parts and all(isinstance(a, Tensor) for a in answer):
            sizes = {a.numel() for a in answer}
            if len(sizes) == 1 and sizes != {1}:
                return "it returns several values of the same size, not one"
        return ""
    return errors[0] if len(set(errors)) > 1 else ""


def trials(arguments: int) -> Iterator[list[Tensor]]:
    """Yield arguments of the textbook's kinds: codes, or outputs and images before them."""
    if arguments == 2:
        for shape in (*_CODES, *_IMAGES):
            yield [torch.full(shape, 0.5, dtype=torch.float64) for _ in range(2)]
        return
    for images in _IMAGES:
        for codes in _CODES:
            if images[0] == codes[0]:
                yield [
                    torch.full(shape, 0.5, dtype=torch.float64)
                    for shape in (images, images, codes, codes)
                ]


def jitter(divergence: Callable[..., Any]) -> str:
    """Return why a KL cannot be judged to the last digit, if all but nothing is added in it."""
    zero, one = torch.zeros(3, 5, dtype=torch.float64), torch.ones(3, 5, dtype=torch.float64)
    for raw in (zero, one):
        try:
            value = abs(float(tried(divergence, [zero, raw]).double().sum()))
        except Exception:
            continue
        if 1e-13 < value < 1e-6:
            return f"it is {value:.2g} at the prior: a small number is added in it, for safety"
    return ""


def code_shape(divergence: Callable[..., Any]) -> tuple[int, ...]:
    """Return the shape of a code that a KL takes, if it takes none that is flat."""
    for shape in _CODES:
        try:
            tried(divergence, [torch.full(shape, 0.5, dtype=torch.float64)] * 2)
        except Exception:
            continue
        return shape[1:] if len(shape) > 2 else ()
    return ()


def number_of_pixels(loss: Callable[..., Any], arguments: int) -> int | None:
    """Return the number of pixels that a loss multiplies a mean over pixels by, if it does.

    Args:
        loss: Takes outputs and images, and mu and sigma after them; a cross-entropy.
        arguments: How many it takes.
    """
    for high, low in ((0.5, 0.3), (0.5, -0.5)):  # probabilities, or logits
        numbers = []
        for pixels in (7, 11):
            x, code = torch.full((1, pixels), 0.6), [torch.full((1, 5), 0.5)] * (arguments - 2)
            try:
                values = [
                    float(tried(loss, [torch.full_like(x, output), x, *code]).sum())
                    for output in (high, low)
                ]
            except Exception:
                return None
            cross_entropy = F.binary_cross_entropy
            if low < 0:
                cross_entropy = F.binary_cross_entropy_with_logits
            exact = [float(cross_entropy(torch.full_like(x, o), x)) for o in (high, low)]
            numbers.append((values[0] - values[1]) / (exact[0] - exact[1]))
        one, other = numbers
        if abs(one - other) <= _CLOSE * abs(one) and abs(one - round(one)) <= _CLOSE and one > 11:
            return round(one)
    return None


def as_torch(function: Callable[..., Any], arguments: int) -> Callable[..., Any]:
    """Return a function of NumPy arrays as one of tensors; return another as it is."""
    if isinstance(function, Foreign):
        return function
    tensors = [torch.full(_CODES[0], 0.5, dtype=torch.float64) for _ in range(arguments)]
    try:
        answer = tried(function, tensors)
        if isinstance(answer, Tensor) and _differentiable(function, tensors):
            return function
    except Exception:
        answer = None
    try:
        answer = tried(function, [t.numpy() for t in tensors])
    except Exception:
        return function
    if not isinstance(answer, np.ndarray | np.generic):
        return function
    foreign, signature = from_numpy(function), inspect.signature(function)

    @functools.wraps(function)
    def call(*tensors: Tensor, **named: Tensor) -> Tensor:
        return foreign(*signature.bind(*tensors, **named).arguments.values())

    call.differentiable = foreign.differentiable  # type: ignore[attr-defined]
    return call


def _differentiable(function: Callable[..., Any], tensors: Sequence[Tensor]) -> bool:
    """Whether a function takes tensors that require gradients; NumPy refuses them."""
    try:
        with torch.enable_grad(), guards.quiet(), guards.global_state_kept():
            function(*(t.clone().requires_grad_() for t in tensors))
    except RuntimeError as error:
        return "numpy" not in str(error)
    except Exception:
        return True
    return True


def tried(function: Callable[..., Any], arguments: Sequence[Any] | Mapping[str, Any]) -> Any:
    """Call a stranger's function, without gradients, and with the global state kept."""
    with guards.global_state_kept(), guards.quiet(), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        if isinstance(arguments, Mapping):
            return function(**arguments)
        return function(*arguments)


_SIGMA: dict[Spread, Callable[[float], float]] = {
    "logvar": lambda c: math.exp(c / 2),
    "log_sigma": math.exp,
    "sigma": lambda c: c,
    "variance": math.sqrt,
}


def agreed_spread(
    sample: Callable[..., Any] | None, divergence: Callable[..., Any] | None, named: Spread
) -> Spread:
    """Return the convention that sampler and KL agree on; the named one if they do not agree.

    Args:
        sample: ``(mu, raw)`` -> z.
        divergence: ``(mu, raw)`` -> the KL, or a loss but for what does not depend on them.
        named: What the names of their arguments say.
    """
    if sample is None or divergence is None or named not in _SIGMA:
        return named
    try:
        drawn, diverging = _spreads_of_sampler(sample), _spreads_of_divergence(divergence)
    except Exception:
        return named
    both = [s for s in get_args(Spread) if s in drawn and s in diverging]
    return both[0] if len(both) == 1 and named not in both else named


def _spreads_of_sampler(sample: Callable[..., Any]) -> set[Spread]:
    """Return the conventions in which the same noise is scaled as sigma is."""
    mu, noise = torch.zeros(3, 5, dtype=torch.float64), {}
    for c in (0.4, 1.3, 2.0):
        with guards.global_state_kept():
            guards.seed_everything(0)
            noise[c] = tried(sample, [mu, torch.full_like(mu, c)]).double()
    first = noise[0.4]
    return {
        name
        for name, sigma in _SIGMA.items()
        if all(
            torch.allclose(z * sigma(0.4), first * sigma(c), rtol=_CLOSE, atol=1e-6)
            for c, z in noise.items()
        )
    }


def _spreads_of_divergence(divergence: Callable[..., Any]) -> set[Spread]:
    """Return the conventions in which a divergence changes as the KL does, up to a factor."""
    mu = torch.zeros(3, 5, dtype=torch.float64)

    def value(m: float, c: float) -> float:
        return float(tried(divergence, [mu + m, torch.full_like(mu, c)]).double().sum())

    def expected(m: float, sigma: float) -> float:
        return 0.5 * (m**2 + sigma**2 - 1 - 2 * math.log(sigma))

    points = [(0.0, 0.4), (0.0, 1.3), (0.0, 2.0), (1.0, 0.4), (0.0, 0.9)]
    found = [value(*point) for point in points]
    fitting: set[Spread] = set()
    for name, sigma in _SIGMA.items():
        due = [expected(m, sigma(c)) for m, c in points]
        changes = [(f - found[0], d - due[0]) for f, d in zip(found[1:], due[1:], strict=True)]
        ratios = [f / d for f, d in changes if abs(d) > 1e-9]
        if ratios and all(abs(r - ratios[0]) <= _CLOSE * abs(ratios[0]) for r in ratios):
            fitting.add(name)
    return fitting
