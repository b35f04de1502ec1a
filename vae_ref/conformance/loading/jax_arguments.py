"""Find what a training step in JAX is called with: its weights, its key, and data of a shape."""

import re
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from vae_ref.conformance.auditing.jaxpr import is_key
from vae_ref.conformance.auditing.tracing import holds_weights

__all__ = ["batches"]

_EXAMPLES = 5
_MOST_SHAPES = 12
_KEY = re.compile(r"(.*_)?(key|rng|prng|rng_key|prng_key)", re.IGNORECASE)
_SIDES = (28, 32, 64)


def batches(
    module: ModuleType, required: list[str], data: Any = None
) -> Iterator[tuple[Any, ...]]:
    """Yield arguments for a step, the likeliest first; nothing if they are not found.

    Args:
        module: Where the step is from, and what it is called with.
        required: The names of its arguments.
        data: All arguments, or those that are neither a key nor in the module; by default arrays
            of shapes that the weights take are tried for one of them.
    """
    given = data if isinstance(data, tuple | list) else () if data is None else (data,)
    if data is not None and len(given) == len(required):
        yield tuple(given)
        return
    known = _known(module, required)
    missing = [name for name in required if name not in known]
    if data is not None and (len(missing) == 1 or len(given) == len(missing)):
        parts = [data] if len(missing) == 1 else given
        known |= dict(zip(missing, parts, strict=True))
        yield tuple(known[name] for name in required)
    elif data is None and not missing:
        yield tuple(known[name] for name in required)
    elif data is None and len(missing) == 1:
        for shape in _shapes([v for v in known.values() if holds_weights(v)] or _trees(module)):
            images = np.random.default_rng(0).random((_EXAMPLES, *shape), dtype=np.float32)
            yield tuple(known.get(name, images) for name in required)


def _known(module: ModuleType, required: list[str]) -> dict[str, Any]:
    """Return the arguments that are keys, or what the module has: by name, or its only weights."""
    import jax

    known: dict[str, Any] = {}
    for name in required:
        value = getattr(module, name, None)
        if _KEY.fullmatch(name):
            known[name] = value if is_key(value) else jax.random.key(0)
        elif name == "rngs" and "flax.nnx" in sys.modules:
            known[name] = sys.modules["flax.nnx"].Rngs(0)
        elif value is not None and jax.tree_util.tree_leaves(value) and not _is_function(value):
            known[name] = value
    rest = [name for name in required if name not in known]
    trees = _trees(module)
    if rest and len(trees) == 1 and not any(value is trees[0] for value in known.values()):
        known[rest[0]] = trees[0]  # as JAX differentiates the first argument
    return known


def _is_function(value: Any) -> bool:
    """Whether a value is a function, without arrays."""
    return callable(value) and not holds_weights(value)


def _trees(module: ModuleType) -> list[Any]:
    """Return the modules and the trees of weights that a module holds."""
    found = {
        id(value): value
        for name, value in vars(module).items()
        if not name.startswith("__") and not isinstance(value, type) and holds_weights(value)
    }
    return list(found.values())


def _shapes(trees: list[Any]) -> Iterator[tuple[int, ...]]:
    """Yield shapes of an example that a first layer with some of the weights could take."""
    import jax

    sizes = [np.shape(leaf) for leaf in jax.tree_util.tree_leaves(trees) if np.ndim(leaf) > 1]
    flat = sorted({s for shape in sizes if len(shape) == 2 for s in shape}, reverse=True)
    found: list[tuple[int, ...]] = [(size,) for size in flat[:_MOST_SHAPES]]
    channels = sorted({s for shape in sizes if len(shape) == 4 for s in (shape[1], shape[2])})
    for number in channels[:4]:
        for side in _SIDES:
            found += [(side, side, number), (number, side, side)]
    yield from found
