"""The mutant, a bug of the bank, and the decorator that registers it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vae_ref.conformance.mutants.specimen import specimen
from vae_ref.conformance.records import Level, Part, Slot
from vae_ref.conformance.subject import Subject

__all__ = ["BANK", "Mutant", "describe", "mutant"]

_PARTS: dict[Slot, Part] = {
    "kl": "kl",
    "sample": "reparameterization",
    "nll": "likelihood",
    "loss": "objective",
    "bound": "objective",
    "net": "model",
    "train": "training",
}


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A bug: a small variation of a correct subject.

    Attributes:
        id: The name of the bug.
        slot: Which function of the specimen it replaces.
        explanation: The bug in a sentence, addressed to the author of the code.
        wrong: The formula that the code computes, as text.
        right: The formula that it should compute, as text.
        numpy: The wrong formula as a NumPy expression of ``mu, logvar``, ``outputs, x`` or
            ``log_w``, where there is one.
        seen: Where the bug was seen: ``owner/repository#thread``, or in words.
        deterministic: Whether the same inputs always show the bug.
        function: The function that replaces the correct one.
        changes: Other parts of the specimen that are replaced, by name.
    """

    id: str
    slot: Slot
    explanation: str
    wrong: str
    right: str
    numpy: str
    seen: tuple[str, ...]
    deterministic: bool
    function: Callable[..., Any]
    changes: dict[str, Any]

    @property
    def specimen(self) -> Callable[..., Subject]:
        """The maker of the correct subject, which takes functions in place of its own by name."""
        return _SPECIMENS.get(self.slot, specimen)

    @property
    def part(self) -> Part:
        """The part of a VAE that the bug is in."""
        return _PARTS[self.slot]

    @property
    def level(self) -> Level:
        """The level of the claims that notice the bug."""
        return "trained" if self.slot == "train" else "standard"

    @property
    def links(self) -> tuple[str, ...]:
        """The addresses of the places where the bug was seen."""
        return tuple(
            f"https://github.com/{place.replace('#', '/issues/')}"
            for place in self.seen
            if re.fullmatch(r"[\w.-]+/[\w.-]+(#\d+)?", place)
        )

    def subject(self, **options: Any) -> Subject:
        """Return the specimen with this bug; options are those of its maker."""
        changes: dict[str, Any] = {self.slot: self.function, **self.changes}
        return self.specimen(self.id, **changes, **options)


BANK: dict[str, Mutant] = {}

_RIGHT: dict[Slot, str] = {
    "kl": "½ Σ_d (μ² + σ² − log σ² − 1)",
    "sample": "z = μ + ε·exp(logvar/2),  ε ~ N(0, 1)",
    "nll": "−Σ_i [x log x̂ + (1 − x) log(1 − x̂)]",
    "loss": "Σ_n (NLL_n + KL_n), or the mean over n of both",
    "bound": "log (1/K) Σ_k w_k",
    "net": "x → (μ, logvar) → z → x̂",
    "train": "θ ← θ − Adam(∂ Σ_n (NLL_n + KL_n) / ∂θ)",
}
_SPECIMENS: dict[Slot, Callable[..., Subject]] = {}


def describe(part: Part, specimen: Callable[..., Subject], **right: str) -> None:
    """Add a kind of VAE to put bugs into.

    Args:
        part: The part that the claims about this kind begin with.
        specimen: Makes its correct subject: of a name, and functions in place of its own by name.
        **right: The names of its functions, and the formulas that they should compute.
    """
    for slot, formula in right.items():
        if slot in _PARTS:
            raise ValueError(f"two kinds of VAE have a function called {slot}")
        _PARTS[slot], _SPECIMENS[slot], _RIGHT[slot] = part, specimen, formula


def mutant(
    slot: Slot,
    identifier: str,
    explanation: str,
    *,
    wrong: str,
    numpy: str = "",
    seen: tuple[str, ...] = (),
    right: str = "",
    deterministic: bool = True,
    **changes: Any,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function in the bank as a bug; see `Mutant` for the arguments."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        if identifier in BANK:
            raise ValueError(f"two mutants are called {identifier}")
        BANK[identifier] = Mutant(
            id=identifier,
            slot=slot,
            explanation=explanation,
            wrong=wrong,
            right=right or _RIGHT[slot],
            numpy=numpy,
            seen=seen,
            deterministic=deterministic,
            function=function,
            changes=changes,
        )
        return function

    return register
