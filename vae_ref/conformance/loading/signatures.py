"""Read the names of arguments and results: what is called log_sigma is taken for log sigma."""

import functools
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from vae_ref.conformance.subject import Spread, from_spread, to_spread

__all__ = [
    "Role",
    "adapt",
    "attribute",
    "by_role",
    "deterministic_entries",
    "forward_answer",
    "has_argument",
    "losses",
    "main_value",
    "named",
    "posterior",
    "required_arguments",
    "role_of",
    "spread_named",
    "spread_of",
    "takes",
    "takes_one",
    "takes_posterior",
]

Role = Literal["outputs", "x", "mu", "spread"]

LOSS = r"loss|elbo|objective|criterion"
LOSS_ROLES: tuple[Role, ...] = ("outputs", "x", "mu", "spread")
"""How a loss of the textbook's arguments is named, and what it takes."""

_ROLES: tuple[tuple[Role, str], ...] = (
    (
        "spread",
        r"log.?var\w*|lv|log.?std\w*|log.?sigma\w*|log.?scale|sigma\w*|std\w*|scale|var|variance"
        r"|log.?v",
    ),
    ("mu", r"mu|mean|loc|m"),
    ("outputs", r".*rec.*|.*hat.*|out|output|outputs|.*pred.*|.*dec.*|.*logit.*|probs?|y"),
    ("x", r"x|.*input.*|.*target.*|data|imgs?|images?|.*orig.*|.*true.*|batch"),
)
_SPREADS: tuple[tuple[Spread, str], ...] = (
    ("logvar", r"log.?var\w*|lv|log.?v"),
    ("log_sigma", r"log.?(std|sigma|scale)\w*"),
    ("sigma", r"sigma|std|stddev|scale"),
    ("variance", r"var|variance|sigma2|sigma.?sq\w*"),
)


def _without_affixes(name: str) -> str:
    """Drop what names the distribution, as in z_mean, q_logvar and mu_z."""
    return re.sub(r"^(z|q|latent|enc|post)_|_(z|q|latent)$", "", name.lower())


def role_of(name: str) -> Role | None:
    """Return what an argument is, by its name."""
    return next((role for role, p in _ROLES if re.fullmatch(p, _without_affixes(name))), None)


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    while isinstance(function, functools.partial):
        function = function.func
    function = function.forward if isinstance(function, torch.nn.Module) else function
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []


def required_arguments(function: Callable[..., Any]) -> list[str]:
    """Return the names of the arguments without which a function cannot be called."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in _parameters(function) if p.kind in named and p.default is p.empty]


def has_argument(function: Callable[..., Any], name: str) -> bool:
    """Return whether a function has an argument of this name."""
    return any(parameter.name == name for parameter in _parameters(function))


def attribute(place: Any, name: str) -> Any:
    """Return an attribute by its name, in whatever case; None if there is none."""
    if hasattr(place, name):
        return getattr(place, name)
    owned = vars(place) if hasattr(place, "__dict__") else {}
    return next((value for key, value in owned.items() if key.lower() == name), None)


def takes(function: Any, arguments: int) -> bool:
    """Return whether a function can be called with this many arguments, and is not a library's."""
    if (
        not callable(function)
        or _is_foreign(function)
        or type(function).__module__.startswith("torch")
    ):
        return False
    try:
        inspect.signature(function).bind(*range(arguments))
    except (TypeError, ValueError):
        return False
    return True


def spread_of(*functions: Callable[..., Any] | None) -> Spread | None:
    """Return what the second head is, by the names of the functions' arguments."""
    for function in functions:
        for parameter in _parameters(function) if function else ():
            if role_of(parameter.name) == "spread":
                return spread_named(parameter.name)
    return None


def spread_named(name: str) -> Spread | None:
    """Return what the second head is, by the name of an argument."""
    return next((s for s, p in _SPREADS if re.fullmatch(p, _without_affixes(name))), None)


def takes_one(function: Any) -> bool:
    """Return whether a method or a module can be called with one argument."""
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def by_role(function: Callable[..., Any]) -> dict[Role, str]:
    """Return the names of the arguments by what they are, where the names tell."""
    roles = {role_of(name): name for name in required_arguments(function)}
    return {role: name for role, name in roles.items() if role is not None}


def takes_posterior(function: Callable[..., Any]) -> bool:
    """Return whether a function takes mu and sigma, by the names of its arguments."""
    return {"mu", "spread"} <= by_role(function).keys()


def named(place: Any, pattern: str, roles: Sequence[Role]) -> list[Any]:
    """Return the functions of a module or an object with such a name that take just these roles.

    Only what the user wrote counts, not what is imported or inherited from a library.
    """
    if inspect.ismodule(place):
        own = {n: v for n, v in vars(place).items() if _module_of(v) == place.__name__}
    else:
        kinds = [kind for kind in type(place).__mro__ if not _is_foreign(kind)]
        own = {name: getattr(place, name) for kind in kinds for name in vars(kind)}
    return [
        value
        for name, value in own.items()
        if re.search(pattern, name, re.IGNORECASE)
        and inspect.isroutine(value)
        and len(required_arguments(value)) == len(roles)
        and by_role(value).keys() == set(roles)
    ]


def losses(*places: Any) -> list[Any]:
    """Return the functions that take outputs, data, mu and sigma, and are named like a loss."""
    return [loss for place in places for loss in named(place, LOSS, LOSS_ROLES)]


def _module_of(value: Any) -> str:
    return str(getattr(value, "__module__", ""))


def _is_foreign(value: Any) -> bool:
    return _module_of(value).partition(".")[0] in ("torch", "numpy", "builtins", "keras")


def adapt(
    function: Callable[..., Any], order: Sequence[Role], spread: Spread, held: bool = False
) -> Callable[..., Any]:
    """Return a function that takes its arguments in the textbook's order.

    If the names of its own arguments tell what they are, the order follows from them. If its name
    for the second head differs from that of the other functions, the values are converted, unless
    all are held to one convention.
    """
    roles = by_role(function)
    by_name = set(order) <= roles.keys()
    own = spread if held else spread_of(function) or spread

    def call(*arguments: Any) -> Any:
        if own != spread and len(arguments) >= 2:
            *rest, mu, second = arguments
            arguments = (*rest, *to_spread(own, *from_spread(spread, (mu, second))))
        if by_name and len(arguments) == len(order):
            pairs = zip(order, arguments, strict=True)
            return main_value(function(**{roles[role]: argument for role, argument in pairs}))
        return main_value(function(*arguments))

    call.differentiable = getattr(function, "differentiable", True)  # type: ignore[attr-defined]
    return call


def main_value(answer: Any) -> Any:
    """Return the loss, or z, from an answer that holds more than that."""
    if isinstance(answer, dict):
        known = ("loss", "total_loss", "total", "elbo", "z", "sample")
        named = [answer[key] for key in known if key in answer]
        return next(iter(named or answer.values()), None)
    if isinstance(answer, (tuple, list)):
        return answer[0] if answer else None
    return answer.loss if isinstance(getattr(answer, "loss", None), Tensor) else answer


def deterministic_entries(one: Any, again: Any) -> tuple[int, ...]:
    """Return the indices of the entries of a tuple that two calls share; a sample of z differs."""
    if not isinstance(one, (tuple, list)) or len(one) <= 2:
        return ()
    pairs = [(a, b) for a, b in zip(one, again, strict=True)]
    return tuple(
        i for i, (a, b) in enumerate(pairs) if isinstance(a, Tensor) and torch.equal(a, b)
    )


def posterior(answer: Any, heads: tuple[int, ...] = ()) -> Any:
    """Return (mu, logvar) from a tuple, a dict or an object; return a distribution as it is."""
    if isinstance(answer, torch.distributions.Distribution):
        return answer
    if isinstance(answer, (tuple, list)):
        entries = [answer[i] for i in heads] if len(heads) >= 2 else list(answer)
        return tuple(entries[:2])
    if isinstance(answer, (Tensor, torch.nn.Module)):
        return answer
    found = _by_role(answer)
    return (found["mu"], found["spread"]) if {"mu", "spread"} <= set(found) else answer


def _by_role(answer: Any) -> dict[Role | None, Tensor]:
    items = answer.items() if isinstance(answer, dict) else getattr(answer, "__dict__", {}).items()
    return {role_of(str(key)): value for key, value in items if isinstance(value, Tensor)}


def forward_answer(answer: Any, x: Tensor, encoded: Any) -> Any:
    """Return (outputs, mu, logvar) from what a forward pass returned.

    In a tuple, the reconstruction is the first entry that has the size of an image. mu and logvar
    are the entries that the encoder returns too, in the order of the tuple.

    Args:
        answer: What the forward pass returned.
        x: Its input.
        encoded: What the encoder returns for the same input.
    """
    if not isinstance(answer, (tuple, list)):
        found = _by_role(answer)
        return (
            tuple(found[role] for role in ("outputs", "mu", "spread") if role in found) or answer
        )
    distributions = [v for v in answer if isinstance(v, torch.distributions.Distribution)]
    tensors = [v for v in answer if isinstance(v, Tensor)]
    heads = [h for h in encoded if isinstance(h, Tensor)] if isinstance(encoded, tuple) else []
    codes = [v for v in tensors if heads and v.shape == heads[0].shape]
    equal = [v for v in codes if any(torch.allclose(v, h) for h in heads)]
    images = [v for v in tensors if v.numel() == x.numel() and not any(v is c for c in codes)]
    if distributions and tensors:
        return (images or tensors)[0], distributions[0]
    if len(codes) < 2 or not images:
        return tuple(answer[:3])
    return ((images or tensors)[0], *(equal if len(equal) >= 2 else codes)[:2])
