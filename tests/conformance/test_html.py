"""Reports as one HTML file, as a browser gets them."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from torch import nn

from vae_ref.conformance.claims import all_claims
from vae_ref.conformance.records import EDITION, Diagnosis, Note, Report, Result
from vae_ref.conformance.reports import charts
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


@pytest.fixture(autouse=True, scope="module")
def no_kill_matrix():
    """The largest picture, and the same for all, is left out where it is not what is tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charts, "KILL_MATRIX", Path("missing.json"))
        yield


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
        if "style" not in self.open:
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
    text = as_html(report, charts.pictures(report, probe) if parts else ())
    return Page(text), text


def captions(**parts) -> dict[str, str]:
    probe = probe_of(Subject(name="mine", **parts))
    return {picture.title: picture.caption for picture in charts.pictures(made(), probe)}


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
        *(Result(claim=claim, status="pass") for claim in CLAIMS[2:]),
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
    assert not {"script", "link", "img", "iframe", "image"} & {tag for tag, _ in page.elements}
    assert not re.search(r"url\((?!#)|@import", text)


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
            "66 of 68", f"{len(CLAIMS) - 2} of {len(CLAIMS)}"
        ),
        f"standard level, edition {EDITION}, seed 0, false-alarm budget 1e-06, 2.1 s",
        "your KL lacks the factor 1/2",
        "kl-no-half, score 0.99; runner-up kl-negated",
        "sum(mu^2 < 1)",
        "1/2 sum(mu^2 < 1)",
        "mu = [[1]]; expected 2.5, got 5",
        "print(kl(mu, logvar) < 1)",
        "javascript:alert(1)",
        "latent_shape",
        "(4, 8, 8)",
        "bernoulli",
        "printed 1 lines",
        "torch 2.99",
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


def test_kill_matrix_marks_the_subject_among_bugs_of_its_kind(monkeypatch, tmp_path):
    file = tmp_path / "kill_matrix.json"
    ids = [CLAIMS[0].id, CLAIMS[1].id]
    of_another_kind = next(claim.id for claim in CLAIMS if claim.part == "conditional")
    bugs = {"kl-no-half": ids, "kl-negated": [ids[1]], "prior-ignored": [of_another_kind]}
    file.write_text(json.dumps({"claims": [*ids, of_another_kind], "mutants": bugs}))
    monkeypatch.setattr(charts, "KILL_MATRIX", file)
    report = made(Result(claim=CLAIMS[0], status="fail", diagnosis=DIAGNOSIS))
    matrix = charts.pictures(report, probe_of(Subject(name="mine")))[-1]
    assert matrix.title == "The bank of bugs"
    labels = re.findall(r"<text style=\"([^\"]*)\"[^>]*>([^<]*)</text>", matrix.svg)
    marked = {label for style, label in labels if "var(--red)" in style}
    assert marked == {CLAIMS[0].id, "kl-no-half", "this subject"}
    assert {label for _, label in labels} == {*marked, CLAIMS[1].id, "kl-negated"}


def test_without_a_kill_matrix_nothing_is_said_of_it():
    assert "The bank of bugs" not in captions()


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
    assert "script" not in {tag for tag, _ in page.elements}
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


def test_failure_explained_by_an_expected_one_is_not_lost():
    page, _ = rendered(
        made(
            Result(claim=CLAIMS[0], status="expected-failure", message="known"),
            Result(claim=CLAIMS[1], status="fail", message="x", explained_by=CLAIMS[0].id),
        )
    )
    text = " ".join(page.text.split())
    assert f"Explained by {CLAIMS[0].id}, which is reported elsewhere: {CLAIMS[1].id}." in text


def test_equal_runs_give_equal_pages():
    report = made(Result(claim=CLAIMS[0], status="pass"))
    first, second = (rendered(report, kl=kl)[1] for _ in range(2))
    assert first == second


def test_subject_in_single_precision_is_drawn():
    module = nn.Linear(1, 1)
    conventions = Conventions(dtype="float32")
    found = captions(kl=kl, reparameterize=sample, module=module, conventions=conventions)
    assert not [caption for caption in found.values() if caption.startswith("not drawn")]
