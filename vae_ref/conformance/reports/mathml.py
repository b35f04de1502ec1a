"""Typeset formulas as MathML: of claims, which are in LaTeX, and of bugs, which are plain text."""

import re
import unicodedata
from collections.abc import Callable
from html import escape
from xml.etree import ElementTree

from markupsafe import Markup

from vae_ref.conformance.reports.wording import printable

__all__ = ["as_latex", "typeset", "typeset_text"]

_ELEMENTS = {
    *("mrow", "mi", "mn", "mo", "mtext", "mspace", "mstyle", "mfrac", "msqrt", "mover", "munder"),
    *("msub", "msup", "msubsup", "munderover", "mtable", "mtr", "mtd", "mpadded"),
}
_ATTRIBUTES = {
    *("mathvariant", "stretchy", "fence", "minsize", "maxsize", "accent", "movablelimits"),
    *("displaystyle", "scriptlevel", "width", "columnalign", "form"),
}
"""What a formula may consist of; a page shows any other as it is written."""

_FUNCTIONS = ("log", "exp", "max", "min", "tanh", "det", "sin", "cos")
_NAME = re.compile("(?!mod)[a-zA-Z]{2,}")  # of a function, in MathML
_TIGHT = set("([{,;.)]}=<>") | {""}
_RELATIONS = "=+−·<>≤≥≠≈∈∉∪→←↦~∝±/"
_COMMANDS = {
    **{"−": "-", "·": r"\cdot", "½": r"\tfrac12", "¾": r"\tfrac34", "‖": r"\|", "…": r"\ldots"},
    **{"≤": r"\le", "≥": r"\ge", "≠": r"\ne", "≈": r"\approx", "∈": r"\in", "∉": r"\notin"},
    **{"∪": r"\cup", "→": r"\to", "←": r"\leftarrow", "↦": r"\mapsto", "~": r"\sim"},
    **{"∝": r"\propto", "±": r"\pm", "∞": r"\infty", "∂": r"\partial", "∇": r"\nabla"},
    **{"Σ": r"\sum", "Π": r"\prod", "∏": r"\prod", "⌊": r"\lfloor", "⌋": r"\rfloor"},
    **{"ℓ": r"\ell", "\\": r"\backslash", "{": r"\{", "}": r"\}", "^": r"\text{^}"},
    **{c: f"\\{c}" for c in "#$%&"},
    "_": r"\text{_}",
}
_ACCENTS = {"\u0302": r"\hat", "\u0303": r"\tilde", "\u0304": r"\bar"}

# The notation of the bank: x_ij and x_{i, j}, e^x and e^(x + 1), √(x), words, and single signs.
_TOKEN = re.compile(
    r"""
    (?P<code>[A-Za-z]{2,}(?:_[A-Za-z]{3,})+ | [A-Za-z_]+\.[a-z_]{3,})
  | (?P<word>[A-Za-z]{2,}(?:-[a-z]{2,})*)
  | (?P<number>\d+(?:\.\d+)?(?:e[-+]?\d+)?)
  | _(?:\{(?P<braced>[^{}]*)\} | (?P<sub><?∏?[A-Za-z0-9α-ω]+(?:,\w(?!\w)(?:\+1)?)*))
  | \^(?:\{(?P<power>[^{}]*)\} | \((?P<bracketed>[^()]*)\) | (?P<sup>−?[^\s_^](?:_[A-Za-z0-9]+)?))
  | (?P<raised>[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺⁽⁾ᵀᵗ]+)
  | (?P<lowered>[₀₁₂₃₄₅₆₇₈₉]+)
  | √(?:\((?P<root>[^()]*)\) | (?P<rest>[Σ].*) | (?P<radicand>.[²³]?))
  | (?P<accented>[^\W\d_][\u0302\u0303\u0304])
  | (?P<space>[ ]+)
  | (?P<sign>.)
    """,
    re.VERBOSE | re.DOTALL,
)


def typeset(latex: str) -> Markup:
    """Return a formula in LaTeX as MathML, or as code if that cannot be done."""
    return _math(latex, str, "application/x-tex")


def typeset_text(text: str) -> Markup:
    """Return a formula in plain text as MathML, or as code if that cannot be done."""
    return _math(text, as_latex, "text/plain")


def as_latex(text: str) -> str:
    r"""Return a formula in plain text as LaTeX.

    Example:
        >>> print(as_latex("½ Σ_d (μ² + σ_p² − log x̂_ij)"))
        \tfrac12 \,\sum _{d}\,(μ^{2}+σ_{p}^{2}-\log \hat{x}_{ij})
    """
    text = "".join(unicodedata.normalize("NFD", c) if c.isalpha() else c for c in text)
    return "".join(_command(found, text) for found in _TOKEN.finditer(text)).strip()


def _command(found: re.Match[str], text: str) -> str:
    kind, token = next((k, v) for k, v in found.groupdict().items() if v is not None)
    if kind == "space":
        return _space(token, text[: found.start()][-40:], text[found.end() :][:40])
    return _WRITTEN[kind](token)


def _sign(sign: str) -> str:
    command = _COMMANDS.get(sign, sign)
    return f"{command} " if command[0] == "\\" and command[-1].isalnum() else command


def _word(word: str) -> str:
    if word in _FUNCTIONS:
        return rf"\{word} "
    is_product = len(word) == 2 and set(word) <= set("NPDKM")  # of sizes
    return word if is_product else _upright(word)


def _upright(word: str) -> str:
    return rf"\text{{{word}}}"


def _number(number: str) -> str:
    digits, _, exponent = number.partition("e")
    if not exponent:
        return digits
    power = f"10^{{{int(exponent)}}}"
    return power if digits == "1" else rf"{digits}\cdot {power}"


def _superscript(text: str) -> str:
    return f"^{{{as_latex(text)}}}"


def _raised(digits: str) -> str:
    power = unicodedata.normalize("NFKC", digits.replace("ᵀ", "⊤"))
    return f"^{{{power}}}".replace("⊤", r"\top ")


def _root(text: str) -> str:
    return rf"\sqrt{{{as_latex(text)}}}"


def _subscript(text: str) -> str:
    are_indices = text.isascii() and text.isalpha() and len(text) <= 3
    return f"_{{{text if are_indices else as_latex(text)}}}"


def _space(spaces: str, before: str, after: str) -> str:
    """Return the space between two tokens, unless a relation makes its own."""
    if not before or not after or before[-1] in _RELATIONS or after[0] in _RELATIONS:
        return ""
    if len(spaces) > 1:
        return r"\quad "
    ends = re.search(r"([a-zA-Z]{2,})\W?$", before), re.match(r"\W?([a-zA-Z]{2,})", after)
    words = [found[1] for found in ends if found]
    prose = before[-1] in ",;" or any(w not in _FUNCTIONS for w in words)
    return r"\ " if prose else "" if before.endswith(_FUNCTIONS) else r"\,"


_WRITTEN: dict[str, Callable[[str], str]] = {
    "code": _upright,
    "word": _word,
    "number": _number,
    **dict.fromkeys(("braced", "sub"), _subscript),
    **dict.fromkeys(("power", "bracketed", "sup"), _superscript),
    "raised": _raised,
    "lowered": lambda digits: f"_{{{unicodedata.normalize('NFKC', digits)}}}",
    **dict.fromkeys(("root", "rest", "radicand"), _root),
    "accented": lambda letter: f"{_ACCENTS[letter[1]]}{{{letter[0]}}}",
    "sign": _sign,
}


def _math(source: str, as_latex: Callable[[str], str], kind: str) -> Markup:
    source = printable(source)
    try:
        root = _tree(as_latex(source))
    except Exception:  # a formula that the library does not know
        return Markup("<code>%s</code>") % source
    body = ElementTree.tostring(root, encoding="unicode")
    annotation = f'<annotation encoding="{kind}">{escape(source)}</annotation>'
    return Markup(f"<math><semantics>{body}{annotation}</semantics></math>")


def _tree(latex: str) -> ElementTree.Element:
    """Return the row of a formula, of elements that cannot do harm."""
    from latex2mathml.converter import convert

    latex = re.sub(r"\\arg\\(max|min)", r"\\operatorname{arg\1}", latex)
    text = convert(latex.replace(r"\operatorname{", r"\operatorname*{"))
    root = ElementTree.fromstring(text.replace(' xmlns="http://www.w3.org/1998/Math/MathML"', ""))[
        0
    ]
    for element in root.iter():
        if element.tag not in _ELEMENTS or not element.attrib.keys() <= _ATTRIBUTES:
            raise ValueError(f"no formula consists of {element.tag} {element.attrib}")
        if element.tag == "mstyle":  # of a small fraction
            element.set("scriptlevel", "1")
        if element.tag == "mo" and _NAME.fullmatch(element.text or ""):  # which is set like mi
            element.tag, element.attrib = "mi", {}
        if element.text == "~":  # of a relation
            element.tag, element.text = "mo", "∼"
    for element in root.iter("mrow"):
        for index, child in reversed(list(enumerate(element))):
            follows = "".join(element[index + 1].itertext()) if index + 1 < len(element) else "("
            if _names(child) and follows[:1] not in _TIGHT:
                element.insert(index + 1, ElementTree.Element("mspace", width="0.167em"))
    return root


def _names(element: ElementTree.Element) -> bool:
    """Whether an element is the name of a function, perhaps with a subscript."""
    base = element[0] if element.tag in ("msub", "msup") else element
    return base.tag == "mi" and bool(_NAME.fullmatch(base.text or ""))
