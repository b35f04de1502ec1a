r"""Write a claim's formula, which is LaTeX, in characters that a terminal has.

The part of LaTeX that the claims use is translated; a test holds that nothing of it is left.
"""

import re
from collections.abc import Iterator

__all__ = ["plain"]

_GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ϵ", "varepsilon": "ε",
    "eta": "η", "theta": "θ", "kappa": "κ", "lambda": "λ", "mu": "μ", "pi": "π", "sigma": "σ",
    "tau": "τ", "Delta": "Δ", "Gamma": "Γ", "Phi": "Φ",
}  # fmt: skip
_SYMBOLS = _GREEK | {
    "sum": "Σ", "prod": "Π", "int": "∫", "partial": "∂", "nabla": "∇", "infty": "∞", "ell": "ℓ",
    "|": "‖", "#": "#", "top": "ᵀ", "dots": "…", "pm": "±",
}  # fmt: skip
_RELATIONS = {
    "le": "≤", "ge": "≥", "ne": "≠", "approx": "≈", "sim": "∼", "in": "∈", "ni": "∋", "to": "→",
    "propto": "∝", "leftarrow": "←", "mapsto": "↦", "Rightarrow": "⇒", "perp": "⊥", "mid": "|",
    "times": "×", "bmod": "mod",
}  # fmt: skip
_FUNCTIONS = {"log", "exp", "min", "max", "arg", "det", "sin", "cos"}
_ACCENTS = {"hat": "\u0302", "bar": "\u0304", "tilde": "\u0303"}
_SPACES = {",": " ", ";": " ", ":": " ", " ": " ", "quad": "\n", "qquad": "\n", "\\": "; "}
_IGNORED = {"!", "big", "Big", "left", "right", "textstyle"}
_NAMES = {"mathrm", "text", "operatorname", "mathbb", "mathcal"}

_HIGH = str.maketrans("0123456789−+", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺")
_LOW = str.maketrans("0123456789−+", "₀₁₂₃₄₅₆₇₈₉₋₊")
_FRACTIONS = {"1/2": "½", "1/4": "¼", "3/4": "¾"}

_SIGNS = "=<>≤≥≠≈∼∈∋∝→←↦⇒⊥×"
_OPEN, _CLOSE, _FUNCTION, _LEFT, _RIGHT = "\ue000\ue001\ue002\ue003\ue004"
"""Marks: around a fraction, before the name of a function, and norms that begin and end."""

_OTHERS = {"lVert": _LEFT, "rVert": _RIGHT, "{": "{", "}": "}"}

_NARROW = str.maketrans({sign: chr(0xE100 + n) for n, sign in enumerate(f"{_SIGNS}+−±")})
_WIDE = {narrow: chr(sign) for sign, text in _NARROW.items() for narrow in map(ord, text)}
"""Signs in an index have no spaces around them."""


def plain(latex: str) -> str:
    r"""Return a formula as text.

    Example:
        >>> print(plain(r"\mathrm{KL} = \tfrac12 \sum_d (\mu_d^2 + e^{s_d} - \log\sigma^2)"))
        KL = ½ Σ_d (μ_d² + e^(s_d) − log σ²)
        >>> print(plain(r"L_K = \log\frac{p(x, z)}{q(z)}, \quad \frac{a + b}{c} \ne \hat x"))
        L_K = log(p(x, z)/q(z)),  (a + b)/c ≠ x̂
    """
    return _Formula(latex).text()


class _Formula:
    def __init__(self, latex: str) -> None:
        self.tokens: list[str] = re.findall(r"\\[A-Za-z]+|\\.|\s+|.", latex)
        self.at = 0

    def text(self) -> str:
        """Return all of the formula."""
        return _spaced(_bracketed("".join(self._until("")))).translate(_WIDE)

    def _until(self, end: str) -> Iterator[str]:
        """Yield the translated tokens up to one that ends a group."""
        while self.at < len(self.tokens):
            token = self._next()
            if token == end:
                return
            yield self._translated(token)

    def _next(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1]

    def _translated(self, token: str) -> str:
        if token == "{":
            return "".join(self._until("}"))
        if token in "^_":
            return _script(token, self._argument())
        if token.startswith("\\"):
            return self._command(token[1:])
        return " " if token.isspace() else {"-": "−", "'": "′", "&": ","}.get(token, token)

    def _argument(self) -> str:
        """Return the next group, or the next token that is not a space."""
        token = self._next()
        return self._argument() if token.isspace() else self._translated(token)

    def _command(self, name: str) -> str:  # noqa: PLR0911 - one line for each kind of command
        if name in ("frac", "tfrac"):
            return _fraction(self._argument(), self._argument())
        if name == "sqrt":
            return f"√({self._argument()})"
        if name in _ACCENTS:
            return self._argument() + _ACCENTS[name]
        if name in _NAMES:
            return self._argument()
        if name == "begin":
            self._argument()
            inside = "".join(self._until(r"\end"))
            self._argument()
            return f"({inside.strip()})"
        if name in ("partial", "nabla") and self.tokens[self.at].isspace():
            self.at += 1
        if name in _RELATIONS:
            return f" {_RELATIONS[name]} "
        if name in _FUNCTIONS:
            return _FUNCTION + name
        if name in _IGNORED:
            return ""
        return (_SYMBOLS | _SPACES | _OTHERS).get(name, f"\\{name}")


def _script(kind: str, text: str) -> str:
    """Return an index or an exponent: small digits, a name, or anything else in brackets."""
    if re.fullmatch(r"[−+]?\d+", text):
        return text.translate(_HIGH if kind == "^" else _LOW)
    if text in ("ᵀ", "*"):
        return text
    if re.fullmatch(r"[A-Za-z]+′?|[^\W_]|\(\w+\)", text):
        return kind + text
    narrow = re.sub(f" *([{_SIGNS}+−±,:]) *", r"\1", text.strip()).translate(_NARROW)
    return f"{kind}({narrow})"


def _fraction(above: str, below: str) -> str:
    above, below = above.strip(), below.strip()
    if f"{above}/{below}" in _FRACTIONS:
        return _FRACTIONS[f"{above}/{below}"]
    above, below = (
        f"({part})" if re.search(f"[ +−/{_FUNCTION}ΣΠ]", _outside(part)) else part
        for part in (above, below)
    )
    return f"{_OPEN}{above}/{below}{_CLOSE}"


def _outside(text: str) -> str:
    """Return what stands outside of all brackets."""
    while (shorter := re.sub(r"\([^()]*\)|\[[^][]*\]", "", text)) != text:
        text = shorter
    return text


def _bracketed(text: str) -> str:
    """Put brackets around the fractions that do not stand alone between two signs."""
    inner = re.compile(f"{_OPEN}([^{_OPEN}{_CLOSE}]*){_CLOSE}")
    while found := inner.search(text):
        before, after = text[: found.start()], text[found.end() :]
        begins = re.search(rf"(^|[{_SIGNS}+−,:;([|\n{_OPEN}]|{_FUNCTION}det)\s*$", before)
        alone = begins and re.match(rf"\s*($|[{_SIGNS}+−,:;)\]|\n])", after)
        text = f"{before}{found[1] if alone else f'({found[1]})'}{after}"
    return text


def _spaced(text: str) -> str:
    """Put spaces where a printed formula has them."""
    text = re.sub(rf"(?<=[^\W_]|[)\]])(?={_FUNCTION})", " ", text)
    names = "|".join(_FUNCTIONS)
    text = re.sub(rf"{_FUNCTION}({names})(?=[^\W_]|[∂∇Σ{_FUNCTION}])", r"\1 ", text)
    text = re.sub(r"([∂∇]) ", r"\1", text.replace(_FUNCTION, ""))
    text = re.sub(rf" *([{_SIGNS}]) *", r" \1 ", text)
    text = re.sub(rf"(?<=[^\s{_SIGNS}(\[,/;|\n]) *([+−±]) *(?=\S)", r" \1 ", text)
    text = re.sub(f"{_LEFT} *| *{_RIGHT}", "‖", text)
    text = re.sub(r" +(?=[,;)])|(?<=\() +", "", re.sub(r" {2,}", " ", text))
    return re.sub(r"\s*\n\s*", "  ", text).strip()
