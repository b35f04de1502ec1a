"""What a bug of the bank is, and the decorator that puts it there."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vae_ref.conformance.mutants.specimen import specimen
from vae_ref.conformance.records import Level, Part, Slot
from vae_ref.conformance.subject import Subject

__all__ = ["BANK", "Mutant", "mutant"]

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
        id: Its name.
        slot: Which function of the specimen it replaces.
        explanation: The bug in a sentence, addressed to whoever wrote it.
        wrong: The formula that it computes, as text.
        right: The formula that it should compute.
        numpy: The wrong formula as a NumPy expression of ``mu, logvar``, ``outputs, x`` or
            ``log_w``, where that is possible.
        seen: Where it was seen: ``owner/repository#thread``, or in words.
        deterministic: Whether the same inputs always show it.
        function: What takes the place of the correct function.
        changes: Further changes of the specimen.
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
    changes: dict[str, Callable[..., Any]]

    @property
    def part(self) -> Part:
        """The part of a VAE that it breaks."""
        return _PARTS[self.slot]

    @property
    def level(self) -> Level:
        """The level at which it shows."""
        return "trained" if self.slot == "train" else "standard"

    @property
    def links(self) -> tuple[str, ...]:
        """Where known reports of it can be read."""
        return tuple(
            f"https://github.com/{place.replace('#', '/issues/')}"
            for place in self.seen
            if re.fullmatch(r"[\w.-]+/[\w.-]+(#\d+)?", place)
        )

    def subject(self, **options: Any) -> Subject:
        """Return the specimen with this bug; options are those of `specimen`."""
        changes: dict[str, Any] = {self.slot: self.function, **self.changes}
        return specimen(self.id, **changes, **options)


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
    **changes: Callable[..., Any],
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Put a function into the bank as a bug."""

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
