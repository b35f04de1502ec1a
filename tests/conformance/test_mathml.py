"""Formulas as MathML: those of all claims, and those of all bugs."""

import re
from unicodedata import normalize
from xml.etree import ElementTree

import pytest

from vae_ref.conformance.claims import all_claims
from vae_ref.conformance.mutants import BANK
from vae_ref.conformance.reports.mathml import as_latex, typeset, typeset_text

CLAIMS = sorted({claim.formula for claim in all_claims()})
BUGS = sorted({text for bug in BANK.values() for text in (bug.wrong, bug.right)})


def shown(math):
    """Return what a reader sees: all but the annotation."""
    row, _ = ElementTree.fromstring(math)[0]
    return "".join(row.itertext())


@pytest.mark.parametrize("formula", CLAIMS)
def test_formula_of_a_claim_is_typeset(formula):
    assert not re.search(r"\\|[{}]", shown(typeset(formula).replace("{", "(").replace("}", ")")))


@pytest.mark.parametrize("formula", BUGS)
def test_formula_of_a_bug_is_typeset_whole(formula):
    text = shown(typeset_text(formula))

    plain = formula.translate(str.maketrans("⁰¹²³⁴ᵗ₀₁₂₃₆", "01234t01236"))
    plain = re.sub(r"1e-(\d)", r"10\1", plain.replace("½", "12").replace("¾", "34"))
    letters = "[A-Za-z0-9α-ωΔΓ]"
    assert re.findall(letters, text) == re.findall(letters, normalize("NFD", plain))


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("1/(2ND) Σ_n", r"1/(2ND)\ \sum _{n}"),
        ("σ_p²", "σ_{p}^{2}"),
        ("z_l,n", "z_{l,n}"),
        ("f(z_n, m)", r"f(z_{n},\ m)"),
        ("z_<l", "z_{<l}"),
        ("x_{i−1}", "x_{i-1}"),
        ("L_joint", r"L_{\text{joint}}"),
        ("y_k^(−τ−1)", "y_{k}^{-τ-1}"),
        ("e^ℓ_dk", r"e^{\ell _{dk}}"),
        ("(1 − w)^K", "(1-w)^{K}"),
        ("w̃_k wᵀû", r"\tilde{w}_{k}\,w^{\top }\hat{u}"),
        ("ε⁽ᵗ⁺¹⁾", "ε^{(t+1)}"),
        ("√(1 − w²)", r"\sqrt{1-w^{2}}"),
        ("√χ² v", r"\sqrt{χ^{2}}\,v"),
        ("log₂ K", r"\log _{2}\,K"),
        ("0.025 NLL", r"0.025\ \text{NLL}"),
        ("2.5e-05 KL", r"2.5\cdot 10^{-5}\ \text{KL}"),
        ("z of p,  x ~ q", r"z\ \text{of}\ p,\quad x\sim q"),
        ("BCE_with_logits(x.float())", r"\text{BCE_with_logits}(\text{x.float}())"),
        ("KL(q ‖ p)", r"\text{KL}(q\,\|\,p)"),
        (r"#{a_} \& 1 %", r"\#\{a\text{_}\}\,\backslash \&\,1\,\%"),
    ],
)
def test_notation_of_the_bank(text, latex):
    assert as_latex(text) == latex


@pytest.mark.parametrize("typeset", [typeset, typeset_text])
@pytest.mark.parametrize(
    "hostile",
    [
        "</math><script>alert(1)</script>",
        r"\text{<script>alert(1)</script>}",
        r"\text{<b onclick='alert(1)'>x</b>}",
        r"\href{javascript:alert(1)}{x}",
        r"\style{color:red}{x} \class{a}{b}",
        r"\undefined{",
        "\x1b[31m\x00 \u202e \ud800 & <",
        "√Σ" * 2000,
        "_{" * 2000,
        "",
    ],
)
def test_a_formula_carries_no_markup(typeset, hostile):
    math = typeset(hostile)
    root = ElementTree.fromstring(math)
    assert root.tag in ("math", "code")
    assert not {e.tag for e in root.iter()} & {"script", "b", "a", "style", "img"}
    assert not {name for e in root.iter() for name in e.attrib} & {"onclick", "href", "style"}
    math.encode()


def test_a_formula_that_cannot_be_typeset_is_shown_as_it_is():
    assert typeset(r"\text{<b>}") == r"<code>\text{&lt;b&gt;}</code>"
