"""Serve the VAE of a target over the standard streams, in the words of docs/process.md.

This runs in the process of the target. What judges it is in another one: no claim, no expected
answer and no report is imported here.
"""

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, BinaryIO

import torch
from torch import Tensor

from vae_ref.conformance import guards
from vae_ref.conformance.foreign import NoGradientError
from vae_ref.conformance.loading.process import (
    FUNCTIONS,
    RESULTS,
    read_array,
    read_arrays,
    written,
)
from vae_ref.conformance.loading.recognition import load
from vae_ref.conformance.records import TEXTBOOK
from vae_ref.conformance.subject import Conventions, Subject, from_spread, to_spread
from vae_ref.conformance.supervisor import limit_memory
from vae_ref.support.denormals import denormals_flushed
from vae_ref.support.errors import UserError

__all__ = ["Server", "main"]

_KEPT = 4
"""How many values are kept, with what computed them, until their slopes are asked for."""


class Server:
    """Answers requests with the functions of a subject.

    Args:
        load: Returns the subject; it is called when the first request comes.
    """

    def __init__(self, load: Callable[[], Subject]) -> None:
        self._load = load
        self._values: dict[object, tuple[tuple[Tensor, ...], list[Tensor]]] = {}

    def reply(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a request, whatever the subject does."""
        try:
            with torch.enable_grad():
                return self.case(request) if request["do"] == "case" else self.start()
        except NoGradientError:
            return {"id": request.get("id"), "unsupported": "it comes without a gradient"}
        except UserError as error:
            return {"error": str(error)}
        except (Exception, SystemExit) as error:
            return {"id": request.get("id"), "error": guards.kind_and_message(error)}

    def start(self) -> dict[str, Any]:
        """Load the subject, and say what it is."""
        subject = self._subject = _with_logvar(self._load())
        supports = [name for name in FUNCTIONS if getattr(subject, name) is not None]
        weights = [] if subject.module is None else list(subject.module.parameters())
        told = {
            f.name: getattr(subject.conventions, f.name)
            for f in fields(Conventions)
            if getattr(subject.conventions, f.name) != f.default
        }
        return {
            "name": subject.name,
            "language": "Python",
            "gradients": [
                name
                for name in supports
                if getattr(getattr(subject, name), "differentiable", True)
            ],
            "supports": supports,
            "conventions": told,
            **({"weights": str(weights[0].dtype).removeprefix("torch.")} if weights else {}),
            "accepts": ["axes", "base64", "dtype", "of", "training"],
            "found": dict(subject.found),
            "undecided": subject.undecided,
        }

    def case(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one case."""
        name = request["function"]
        kept = self._values.pop(request.get("of"), None)
        values, leaves = kept or self._computed(request)
        if "cotangent" not in request:
            self._values[request["id"]] = values, leaves
            while len(self._values) > _KEPT:
                del self._values[next(iter(self._values))]
            arrays = [_array(value) for value in values]
            names = RESULTS.get(name)
            value = dict(zip(names, arrays, strict=True)) if names else arrays[0]
            return {"id": request["id"], "value": value}
        slopes = _slopes(values, leaves, _cotangents(name, request["cotangent"]))
        arrays = [_array(slope) for slope in slopes]
        return {"id": request["id"], "slopes": dict(zip(FUNCTIONS[name], arrays, strict=True))}

    def _computed(self, request: Mapping[str, Any]) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        """Return the values of a function, and the leaves that they depend on."""
        name, subject = request["function"], self._subject
        arrays = [request["inputs"][n] for n in FUNCTIONS[name]]
        dtypes = [getattr(torch, array.get("dtype", "float64")) for array in arrays]
        if subject.module is not None:
            subject.module.train(request.get("training", True))
            if name in ("encode", "decode", "forward"):
                dtypes = [next((p.dtype for p in subject.module.parameters()), dtypes[0])]
        leaves = [
            torch.from_numpy(read_array(array, "an input", trusted=True))
            .to(dtype)
            .requires_grad_()
            for array, dtype in zip(arrays, dtypes, strict=True)
        ]
        if "seed" in request:
            subject.seed(request["seed"])
        answer = getattr(subject, name)(*leaves)
        several = len(RESULTS.get(name, ("value",)))
        entries = list(answer) if isinstance(answer, tuple | list) else [answer]
        if len(entries) != several or not all(isinstance(entry, Tensor) for entry in entries):
            kinds = ", ".join(type(entry).__name__ for entry in entries)
            raise TypeError(f"{name} returned {kinds}")
        return tuple(entries), leaves


def _cotangents(name: str, given: Any) -> list[Tensor]:
    names = RESULTS.get(name)
    if names is None:
        return [torch.tensor(read_array(given, "cotangent", trusted=True))]
    return [torch.tensor(array) for array in read_arrays(given, "cotangent", names, trusted=True)]


def _slopes(
    values: Sequence[Tensor], leaves: list[Tensor], cotangents: Sequence[Tensor]
) -> Iterator[Tensor]:
    """Yield the slope by each leaf; zeros where nothing depends on it."""
    pairs = [(v, c) for v, c in zip(values, cotangents, strict=True) if v.requires_grad]
    found: Sequence[Tensor | None] = [None] * len(leaves)
    if pairs:
        weighed = [(value * c.reshape(value.shape).to(value)).sum() for value, c in pairs]
        found = torch.autograd.grad(sum(weighed), leaves, allow_unused=True)  # type: ignore[arg-type]
    for slope, leaf in zip(found, leaves, strict=True):
        yield torch.zeros_like(leaf) if slope is None else slope


def _array(tensor: Tensor) -> dict[str, Any]:
    return written(tensor.detach().cpu().double().numpy(), packed=True, folded=False, ordered=True)


def _with_logvar(subject: Subject) -> Subject:
    """Return a subject whose distributions are numbers: mu and log sigma^2."""
    if subject.conventions.spread != "distribution":
        return subject

    def taking(function: Callable[..., Any] | None) -> Callable[..., Any] | None:
        return function and (
            lambda *given: function(*given[:-2], *to_spread("distribution", *given[-2:]))
        )

    def forward(x: Tensor) -> tuple[Tensor, ...]:
        outputs, posterior = subject.forward(x)  # type: ignore[misc]
        return outputs, *from_spread("distribution", posterior)

    encode = subject.encode
    return replace(
        subject,
        kl=taking(subject.kl),
        reparameterize=taking(subject.reparameterize),
        loss=taking(subject.loss),
        encode=encode and (lambda x: from_spread("distribution", encode(x))),
        forward=subject.forward and forward,  # type: ignore[arg-type]
        conventions=replace(subject.conventions, spread="logvar"),
    )


def _loaded(target: str, declarations: Mapping[str, str]) -> Subject:
    """Load a target.

    Raises:
        UserError: If it cannot be loaded, or is a step.
    """
    subject = load(target, declarations)
    if subject.weights is not None or subject.diagram is not None or subject.rounding != 1:
        raise UserError(
            f"{target} has no parts that could be asked one by one, and is audited as a step: "
            "leave out --isolated, or name its parts in a Subject"
        )
    if subject.parts != TEXTBOOK:
        raise UserError(
            f"{target} is a {type(subject).__name__}; another process is asked for parts of the "
            "textbook's VAE alone: leave out --isolated"
        )
    if not any(getattr(subject, name) is not None for name in FUNCTIONS):
        raise UserError(f"{target} has no function that could be asked for")
    return subject


def _requests(stream: BinaryIO) -> Iterator[dict[str, Any]]:
    for line in stream:
        request = json.loads(line)
        if request["do"] == "stop":
            return
        yield request


def main() -> None:
    """Answer requests until the end; what the target prints goes to the standard error."""
    told = json.loads(sys.argv[1])
    sys.argv[1:] = []
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    limit_memory(told["memory"])
    warnings.simplefilter("ignore")
    server = Server(lambda: _loaded(told["target"], told["declarations"]))
    with denormals_flushed(), guards.one_thread():
        for request in _requests(requests):
            replies.write(json.dumps(server.reply(request)).encode() + b"\n")
            replies.flush()
    os._exit(0)  # what the target has left to do at the end of its process is not waited for
