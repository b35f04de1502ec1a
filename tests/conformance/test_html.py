"""Reports as one HTML file, as a browser gets them."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from vae_ref.conformance.claims import all_claims
from vae_ref.conformance.diagnosis.explain import kill_matrix
from vae_ref.conformance.records import EDITION, Diagnosis, Note, Report, Result
from vae_ref.conformance.reports import charts, wording
from vae_ref.conformance.reports.html import as_html
from vae_ref.conformance.runner import probe_of
from vae_ref.conformance.subject import Conventions, Subject

CLAIMS = all_claims()
VOID = {"meta", "br", "path", "use", "rect"}
DIAGNOSIS = Diagnosis(
    bug="kl-no-half",
    explanation="your KL lacks the factor 1/2",
    score=0.987,
    runner_up="kl-negated",
    yours="sum(mu^2 < 1)",
    right="1/2 sum(mu^2 < 1)",
    reproduction="print(kl(mu, logvar) < 1)",
    links=("https://example.org/issues/1", "javascript:alert(1)"),
)


class Page(HTMLParser):
    """Collects the elements and the visible text; refuses tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.elements, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names))
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.text += data

    def attributes(self, name):
        return [attributes[name] for _, attributes in self.elements if name in attributes]


def kl(mu, logvar):
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()


def sample(mu, logvar):
    return mu + torch.exp(logvar / 2) * torch.randn_like(mu)


def wrong(mu, logvar):
    return 2 * kl(mu, logvar)


def raises(*arguments):
    raise OSError("<b>no</b>\nsecond line")


def exits(*arguments):
    raise SystemExit(3)


def made(*results: Result, **rest) -> Report:
    defaults = {"subject": "mine", "seed": 0, "level": "standard", "in_level": len(results)}
    return Report(**{**defaults, "budget": 1e-6, "seconds": 2.14, **rest}, results=results)


def rendered(report: Report, **parts) -> tuple[Page, str]:
    """Render a page, with pictures where the subject has parts."""
    probe = probe_of(Subject(name="mine", **parts))
    text = as_html(report, charts.pictures(probe) if parts else ())
    return Page(text), text


def captions(**parts) -> dict[str, str]:
    probe = probe_of(Subject(name="mine", **parts))
    return {picture.title: picture.caption for picture in charts.pictures(probe)}


@pytest.fixture(scope="module")
def full():
    """The page of a subject with a failure, all pictures drawn."""
    root = Result(
        claim=CLAIMS[0],
        status="fail",
        message="the KL is 5, not 2.5",
        diagnosis=DIAGNOSIS,
        counterexample={"inputs": {"mu": [[1.0]]}, "expected": 2.5, "got": 5.0},
    )
    report = made(
        root,
        Result(claim=CLAIMS[1], status="fail", message="too", explained_by=CLAIMS[0].id),
        *(Result(claim=claim, status="pass") for claim in CLAIMS[2:-1]),
        Result(claim=CLAIMS[-1], status="not-applicable", message="there is no module"),
        facts={"likelihood": "bernoulli"},
        declared={"latent_shape": (4, 8, 8)},
        notes=(Note("prints", "kl/near-prior", "printed 1 lines"),),
        versions={"torch": "2.99"},
    )
    return rendered(report, kl=wrong, reparameterize=sample)


def test_page_needs_nothing_else(full):
    page, text = full
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert [link for link in links if not link.startswith("#")] == ["https://example.org/issues/1"]
    assert set(re.findall(r"https?://[^\"<\s]*", text)) == {"https://example.org/issues/1"}
    assert all(a["href"].startswith("#") for tag, a in page.elements if tag == "use")
    assert not page.attributes("src")
    assert not {"link", "img", "iframe", "image"} & {tag for tag, _ in page.elements}
    assert not re.search(r"url\((?!#)|@import", text)
    assert len(text.encode()) < 2_000_000


def test_no_script_may_run_but_the_page_s_own(full):
    _, text = full
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in text


def test_sections_stand_in_the_order_in_which_they_are_read(full):
    _, text = full
    headings = [re.sub("<.*?>", "", h) for h in re.findall(r"<h[12].*?>(.*?)</h", text)]
    assert headings == [
        "This VAE has a bug: your KL lacks the factor 1/2.",
        "The VAE as found",
        "What is wrong",
        "Plots",
        "What was not judged",
        "Noted",
        "What holds",
    ]


def test_headings_skip_no_level(full):
    levels = [int(tag[1]) for tag, _ in full[0].elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))


def test_page_is_described_for_those_who_cannot_see_it(full):
    elements = full[0].elements
    assert next(a for tag, a in elements if tag == "html")["lang"] == "en"
    assert all(a["scope"] in ("row", "col") for tag, a in elements if tag == "th")
    assert all(a["role"] == "img" and a["aria-label"] for tag, a in elements if tag == "svg")


def test_formulas_are_typeset(full):
    page, text = full
    failure = text[text.index('<article class="failure"') : text.index("</article>")]
    assert failure.count("<math>") == 3
    assert [tag for tag, _ in page.elements].count("math") == len(CLAIMS)


def test_what_holds_is_folded(full):
    holds = full[1][full[1].index("What holds") :]
    assert "<table" not in re.sub("<details>.*?</details>", "", holds, flags=re.DOTALL)


@pytest.mark.parametrize(
    ("result", "copied"),
    [
        ({"diagnosis": DIAGNOSIS}, "print(kl(mu, logvar) &lt; 1)"),
        ({"counterexample": {"inputs": {"mu": [[1.0] * 40]}, "got": 2.0}}, f"mu = {[[1.0] * 40]}"),
        (
            {"counterexample": {"inputs": {"mu": [[0.1] * 9999]}}},
            f"--only {CLAIMS[0].id} --seed 0",
        ),
        ({}, f"--only {CLAIMS[0].id} --seed 0"),
    ],
)
def test_every_failure_has_something_to_copy(result, copied):
    page, text = rendered(made(Result(claim=CLAIMS[0], status="fail", message="x", **result)))
    (target,) = page.attributes("aria-controls")
    code = text[text.index(f'<pre id="{target}"') :]
    assert copied in code[: code.index("</pre>")]


def luminance(colour):
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("theme", [0, 1])
@pytest.mark.parametrize("ground", ["paper", "raised"])
@pytest.mark.parametrize("text", ["ink", "muted", "red", "green", "amber", "blue"])
def test_text_stands_out(full, theme, ground, text):
    light, dark = (dict(re.findall(r"--(\w+): (#\w+)", block)) for block in themes(full[1]))
    colours = (light, dark)[theme]
    lower, upper = sorted(luminance(colours[name]) for name in (ground, text))
    assert (upper + 0.05) / (lower + 0.05) >= 4.5


def themes(page):
    return re.findall(r":root \{(.*?)\}", page[: page.index("</style>")], re.DOTALL)


def test_inner_links_lead_somewhere_and_identifiers_are_unique(full):
    page, text = full
    identifiers = page.attributes("id")
    assert len(identifiers) == len(set(identifiers))
    targets = {link[1:] for link in page.attributes("href") if link.startswith("#")}
    clips = set(re.findall(r"url\(#(\w+)\)", text))
    assert targets | clips <= set(identifiers)


@pytest.mark.parametrize(
    "visible",
    [
        "violated: 66 of 68 claims hold".replace(
            "66 of 68", f"{len(CLAIMS) - 3} of {len(CLAIMS)}"
        ),
        f"standard level, edition {EDITION}, seed 0, false-alarm budget 1e-06, 2.1 s",
        "your KL lacks the factor 1/2",
        "kl-no-half, score 0.99; runner-up kl-negated",
        "sum(mu^2 < 1)",
        "1/2 sum(mu^2 < 1)",
        "input mu",
        "[[1]]",
        "print(kl(mu, logvar) < 1)",
        "javascript:alert(1)",
        "latent_shape",
        "(4, 8, 8)",
        "bernoulli",
        "printed 1 lines",
        "torch 2.99",
        "there is no module (1 claim not applicable)",
        "To have it judged: give the subject these parts",
        *(claim.statement for claim in CLAIMS[::10]),
        *(claim.formula for claim in CLAIMS[::10]),
    ],
)
def test_page_shows(full, visible):
    assert visible in full[0].text


def test_pictures_are_drawn_in_the_colours_of_the_page(full):
    page, text = full
    assert [tag for tag, _ in page.elements].count("svg") == 5
    assert "40 of 40 elements are off the diagonal" in page.text
    assert re.search(r"[56]\d\d,\d{3} draws", page.text)
    assert "The subject's KL is 7.7171, outside the band at its end" in page.text
    pictures = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert "currentColor" in pictures
    assert "var(--red)" in pictures
    assert not re.search("#[0-9a-f]{6}[^0-9a-f]", re.sub(r"#[mp][0-9a-f]{10}", "", pictures))


def test_what_is_right_lies_on_the_diagonal():
    found = captions(kl=kl, reparameterize=sample)
    assert (
        "The subject's KL is 3.8585, within the band at its end"
        in found["The KL divergence, by Monte Carlo"]
    )
    for title in ("dKL/dmu", "dKL/dlogvar", "dz/dsigma"):
        assert found[title] == "All 40 elements lie on the diagonal."


@pytest.mark.parametrize(
    ("parts", "title", "reason"),
    [
        ({}, "The noise of the sampler", "the subject has no reparameterize."),
        ({}, "dKL/dmu", "the subject has no kl or loss."),
        ({"kl": raises}, "dKL/dmu", "not drawn, OSError: <b>no</b>."),
        ({"kl": exits}, "dKL/dlogvar", "not drawn, SystemExit: 3."),
        ({"kl": lambda m, s: None}, "dKL/dmu", "not drawn, kl returned NoneType, not a tensor"),
        ({"kl": lambda m, s: kl(m, s).detach()}, "dKL/dmu", "not drawn, no gradient flows"),
        (
            {"reparameterize": lambda m, s: m * torch.nan},
            "The noise of the sampler",
            "not drawn, no draw is a finite number.",
        ),
        (
            {"reparameterize": sample, "conventions": Conventions(seeded=False)},
            "dz/dsigma",
            "not drawn, the noise cannot be repeated by seeding",
        ),
    ],
)
def test_picture_that_cannot_be_drawn_says_why(parts, title, reason):
    assert captions(**parts)[title].startswith(reason)


def test_page_without_pictures_says_why():
    page, _ = rendered(made(), kl=raises)
    assert "dKL/dmu: not drawn, OSError: <b>no</b>." in page.text
    assert "The noise of the sampler: the subject has no reparameterize." in page.text
    assert "b" not in {tag for tag, _ in page.elements}


def test_picture_that_takes_too_long_is_left_out(monkeypatch):
    def endless(mu, logvar):
        while True:
            pass

    monkeypatch.setattr(charts, "_SECONDS", 0.05)
    assert captions(kl=endless)["dKL/dmu"] == "not drawn, no answer within 0.05 s of CPU time."


def test_drawing_prints_nothing_and_leaves_the_generators_alone(capsys):
    def prints(mu, logvar):
        print("hello")
        return sample(mu, logvar)

    before = torch.get_rng_state()
    captions(reparameterize=prints)
    assert torch.equal(torch.get_rng_state(), before)
    assert capsys.readouterr() == ("", "")


def test_the_bug_that_was_named_is_held_against_its_symptoms():
    (bug, symptoms), *_ = (
        (bug, found) for bug, found in kill_matrix().items() if CLAIMS[0].id in found
    )
    diagnosis = replace(DIAGNOSIS, bug=bug, runner_up="a-bug-of-no-bank")
    failed = Result(claim=CLAIMS[0], status="fail", diagnosis=diagnosis)
    page, _ = rendered(made(failed))
    text = f"1 of the {len(symptoms)} claims that notice {bug} are violated"
    assert f"{text}, {len(symptoms) - 1} were not judged" in page.text
    assert "notice a-bug-of-no-bank" not in page.text


def test_what_a_subject_says_is_shown_literally():
    hostile = "</td><script>alert(1)</script> & \x1b[31m\x00 [red] {{ 7 * 7 }} \ud800 \u202e"
    literal = r"</td><script>alert(1)</script> & \x1b[31m\x00 [red] {{ 7 * 7 }} \ud800 \u202e"
    diagnosis = Diagnosis(
        bug=hostile,
        explanation=hostile,
        score=0.5,
        runner_up=hostile,
        yours=hostile,
        right=hostile,
        reproduction=hostile,
        links=(hostile, 'https://example.org/"onclick="alert(1)'),
    )
    page, text = rendered(
        made(
            Result(
                claim=CLAIMS[0],
                status="fail",
                message=hostile,
                diagnosis=diagnosis,
                counterexample={"inputs": {hostile: hostile}},
            ),
            subject=hostile,
            facts={hostile: hostile},
            declared={"latent_shape": hostile},
            notes=(Note(hostile, hostile, hostile),),
            versions={hostile: hostile},
        )
    )
    assert page.text.count(literal) == 21
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert not page.attributes("onclick")
    text.encode()  # half of a surrogate pair could not be
    assert not set(text) & set("\x1b\x00\u202e")


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        ("pass", "conformant"),
        ("not-applicable", "could not judge"),
        ("inconclusive", "could not judge"),
        ("expected-failure", "no bug found"),
        ("fail", "violated"),
        ("error", "violated"),
        ("timeout", "violated"),
        ("unexpected-pass", "violated"),
    ],
)
def test_page_of_every_status(status, verdict):
    page, _ = rendered(made(Result(claim=CLAIMS[0], status=status, message="why")))
    assert f"{verdict}: " in page.text
    assert ("What is wrong" in page.text) == (verdict == "violated")
    assert "why" in page.text


def test_page_of_a_run_of_nothing():
    assert "could not judge: 0 of 68 claims hold" in rendered(made(in_level=68))[0].text


@pytest.mark.parametrize("part", wording._REMEDIES)
def test_a_remedy_is_for_what_the_kit_says(part):
    kit = Path(wording.__file__).parents[1]
    said = "".join(file.read_text() for file in kit.rglob("*.py") if file.name != "wording.py")
    assert part in said


@pytest.mark.parametrize(
    ("report", "advice", "reason"),
    [
        ({"parts": {"module": True}}, "add --train glyphs", "the claims about a trained model"),
        ({"in_level": 9}, "leave out --only", "8 claims were not selected"),
        ({"undecided": "the codes are discrete"}, "Not to be judged", "the codes are discrete"),
    ],
)
def test_page_says_what_was_not_asked(report, advice, reason):
    page, _ = rendered(made(Result(claim=CLAIMS[0], status="pass"), **report))
    assert advice in page.text
    assert reason in page.text


@pytest.mark.parametrize(
    ("results", "rest", "sentence"),
    [
        (["fail", "error"], {}, "This VAE has a bug: x. 1 more failure may have other causes."),
        (["pass"], {"broken": "it ended"}, "The run broke off: it ended."),
        (["pass", "inconclusive"], {}, "No bug was found, but 1 claim could not be decided."),
        (["not-applicable"], {}, "Nothing was judged: no claim applies to this subject."),
        (["pass"], {"undecided": "so"}, "No bug was found, but so."),
        (["pass"], {"in_level": 3}, "No bug was found in 1 claim."),
        (
            ["pass", "expected-failure"],
            {},
            "No bug was found in 2 claims, of which 1 failed as expected.",
        ),
        (["pass", "pass"], {}, "No bug was found: all 2 claims hold."),
    ],
)
def test_verdict_in_a_sentence(results, rest, sentence):
    found = [
        Result(claim=claim, status=status, message="x. More of it")
        for claim, status in zip(CLAIMS, results, strict=False)
    ]
    assert wording.sentence(made(*found, **rest)) == sentence


def test_failure_explained_by_an_expected_one_is_not_lost():
    page, _ = rendered(
        made(
            Result(claim=CLAIMS[0], status="expected-failure", message="known"),
            Result(claim=CLAIMS[1], status="fail", message="x", explained_by=CLAIMS[0].id),
        )
    )
    text = " ".join(page.text.split())
    expected = f"Explained by {CLAIMS[0].id}, which was expected to fail: {CLAIMS[1].id}"
    assert expected in text


def test_equal_runs_give_equal_pages():
    report = made(Result(claim=CLAIMS[0], status="pass"))
    first, second = (rendered(report, kl=kl)[1] for _ in range(2))
    assert first == second


def test_subject_in_single_precision_is_drawn():
    module = nn.Linear(1, 1)
    conventions = Conventions(dtype="float32")
    found = captions(kl=kl, reparameterize=sample, module=module, conventions=conventions)
    assert not [caption for caption in found.values() if caption.startswith("not drawn")]
