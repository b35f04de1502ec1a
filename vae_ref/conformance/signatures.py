"""Read the names of arguments and results: who calls something log_sigma has declared it so."""

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from vae_ref.conformance.subject import Spread

__all__ = ["adapt", "first", "outputs", "posterior", "required", "spread_of"]

Role = Literal["outputs", "x", "mu", "spread"]

_ROLES: tuple[tuple[Role, str], ...] = (
    ("spread", r"log.?var|lv|log.?std|log.?sigma|sigma|std|stddev|scale|var|variance|log.?v"),
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


def _bare(name: str) -> str:
    """Drop what says whose it is: z_mean, q_logvar, mu_z."""
    return re.sub(r"^(z|q|latent|enc|post)_|_(z|q|latent)$", "", name.lower())


def _role(name: str) -> Role | None:
    return next((role for role, p in _ROLES if re.fullmatch(p, _bare(name))), None)


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []


def required(function: Callable[..., Any]) -> list[str]:
    """Name the arguments without which a function cannot be called."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in _parameters(function) if p.kind in named and p.default is p.empty]


def spread_of(*functions: Callable[..., Any] | None) -> Spread:
    """Tell from the names of arguments what the second head is; logvar if nothing else is said."""
    for function in functions:
        for parameter in _parameters(function) if function else ():
            if _role(parameter.name) == "spread":
                bare = _bare(parameter.name)
                return next((s for s, p in _SPREADS if re.fullmatch(p, bare)), "logvar")
    return "logvar"


def adapt(function: Callable[..., Any], order: Sequence[Role]) -> Callable[..., Any]:
    """Call a function with arguments in the textbook's order, by its own names if they tell."""
    roles = {_role(name): name for name in required(function)}
    by_name = set(order) <= set(roles)

    def call(*arguments: Tensor) -> Any:
        if by_name and len(arguments) == len(order):
            pairs = zip(order, arguments, strict=True)
            return first(function(**{roles[role]: argument for role, argument in pairs}))
        return first(function(*arguments))

    return call


def first(answer: Any) -> Any:
    """Return the loss, or the z, of an answer that has more to it."""
    if isinstance(answer, dict):
        named = [v for k, v in answer.items() if re.search("loss|elbo|z|recon|sample", str(k))]
        return answer.get("loss", next(iter(named or answer.values())))
    if isinstance(answer, (tuple, list)):
        return answer[0]
    return answer.loss if isinstance(getattr(answer, "loss", None), Tensor) else answer


def posterior(answer: Any) -> Any:
    """Return (mu, logvar) from a tuple, a dict or an object; a distribution as it is."""
    if isinstance(answer, torch.distributions.Distribution):
        return answer
    if isinstance(answer, (tuple, list)):
        return tuple(answer[:2])
    if isinstance(answer, Tensor):
        raise TypeError("one tensor; split it into mu and logvar")
    items = answer.items() if isinstance(answer, dict) else vars(answer).items()
    found = {_role(str(key)): value for key, value in items if isinstance(value, Tensor)}
    return (found["mu"], found["spread"]) if {"mu", "spread"} <= set(found) else answer


def outputs(answer: Any, x: Tensor, latents: tuple[int, ...] | None) -> Any:
    """Return (outputs, mu, logvar) from what a forward pass returned.

    Of a tuple, the first entry of an image's size is the reconstruction, and the first two of a
    code's size are mu and logvar: x itself, or z, may stand between them.
    """
    if not isinstance(answer, (tuple, list)):
        items = answer.items() if isinstance(answer, dict) else vars(answer).items()
        found: dict[Any, Any] = {_role(str(k)): v for k, v in items if isinstance(v, Tensor)}
        return found.get("outputs"), found.get("mu"), found.get("spread")
    if latents is None:
        return answer[0], *answer[1:3]
    codes = [v for v in answer[1:] if isinstance(v, Tensor) and v.shape[1:] == latents]
    rest = [v for v in answer if isinstance(v, torch.distributions.Distribution)]
    return answer[0], *(rest[:1] or codes[:2])
