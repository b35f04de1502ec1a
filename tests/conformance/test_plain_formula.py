"""Formulas in characters that a terminal has."""

import re

import pytest

from vae_ref.conformance.claims import all_claims
from vae_ref.conformance.reports.plain_formula import plain


@pytest.mark.parametrize("formula", sorted({claim.formula for claim in all_claims()}))
def test_nothing_of_latex_is_left(formula):
    text = plain(formula)
    assert not re.search(r"\\|[\^_]\{|[\ue000-\uf8ff]|\s{3}|^\s|\s$", text), text
    for begin, end in ("()", "[]"):
        assert text.count(begin) >= formula.count(begin)
        assert text.count(begin) - formula.count(begin) == text.count(end) - formula.count(end)


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        (r"\mathrm{KL}(N(0, I)\,\|\,N(0, I)) = 0", "KL(N(0, I) ‖ N(0, I)) = 0"),
        (r"(\mu, \log\sigma^2) \ne 0 \;\Rightarrow\; -L > 0", "(μ, log σ²) ≠ 0 ⇒ −L > 0"),
        (r"\partial \mathrm{KL} / \partial \mu = \tfrac12 (e^{s} - 1)", "∂KL / ∂μ = ½ (e^s − 1)"),
        (r"\sum_{j \ne k} w_j^{-1}, \quad |s| \le 40", "Σ_(j≠k) w_j⁻¹,  |s| ≤ 40"),
        (r"\frac{\mu - \mu_p}{\sigma_p^2} = \frac1K", "(μ − μ_p)/σ_p² = 1/K"),
        (r"x \log\frac{q(z)}{p(z)} \,dz", "x log(q(z)/p(z)) dz"),
        (r"\arg\max_k y_k \text{ of logits}", "arg max_k y_k of logits"),
        (r"\lVert \hat x - e_k \rVert^2", "‖x̂ − e_k‖²"),
        (r"\begin{pmatrix} 1 & \epsilon \\ 0 & 1 \end{pmatrix}", "(1, ϵ; 0, 1)"),
        (r"e^{\log\sigma^2} \unknown", r"e^(log σ²) \unknown"),
    ],
)
def test_a_formula_reads_as_it_is_printed(formula, text):
    assert plain(formula) == text
