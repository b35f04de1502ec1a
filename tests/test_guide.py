"""What the documentation shows is what happens."""

import dataclasses
import re

import pytest

import vae_ref.conformance
from tests import transcripts
from tests.transcripts import CHINESE_FRONT, DOCS, FRONT, README, files, with_sessions
from vae_ref.conformance import Conventions, Subject, load, verify
from vae_ref.conformance.reports.wording import STATUS

SUBJECTS = [name for name, text in files().items() if "Subject(" in text]
WRONG = {"clamped.py": {"kl/large-logvar"}}


WITH_SESSIONS = [
    pytest.param(
        page,
        id=str(page.relative_to(DOCS.parent)),
        marks=[pytest.mark.slow] * (page not in (FRONT, README)),
    )
    for page in with_sessions()
]


@pytest.mark.parametrize("page", WITH_SESSIONS)
def test_sessions_go_as_shown(page, tmp_path, request):
    """If they rightly go otherwise, run `python -m tests.transcripts`."""
    if page != README:  # where Python and the commands are as users have them
        request.getfixturevalue("forked")
    answers = transcripts.run(page, tmp_path)
    for session, answered in zip(transcripts.sessions(page), answers, strict=True):
        for shown, found in zip(transcripts.steps(session), answered, strict=True):
            answer = transcripts.shortened(found.answer, shown.answer)
            assert transcripts.comparable(answer) == transcripts.comparable(shown.answer)


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_the_drawing_is_that_of_the_audited_file():
    """If it rightly changes, run `python -m tests.transcripts`."""
    assert transcripts.drawing() == transcripts.DRAWING.read_text()
    assert f"](images/{transcripts.DRAWING.name})" in (DOCS / "audit.md").read_text()


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * (i > 0)) for i, n in enumerate(SUBJECTS)],
)
def test_the_subjects_of_the_guide_are_as_it_says(name, tmp_path):
    (tmp_path / name).write_text(files()[name])
    report = verify(load(str(tmp_path / name)))
    assert {result.claim.id for result in report.failures} == WRONG.get(name, set())
    assert report.counts.keys() <= {"pass", "not-applicable", "fail"}
    assert report.counts["pass"] > 5


def test_every_status_is_explained():
    for status, words in STATUS.items():
        page = (DOCS / "verify.md").read_text()
        assert re.search(rf"^\| (is )?{words} \|", page, re.MULTILINE), status


@pytest.mark.parametrize("record", [Conventions, Subject])
def test_every_field_is_documented(record):
    """The tables of docs/verify.md are made of these docstrings."""
    for field in dataclasses.fields(record):
        assert f"    {field.name}: " in record.__doc__


@pytest.mark.parametrize("name", vae_ref.conformance.__all__)
def test_all_that_is_public_of_the_kit_is_in_the_api(name):
    assert re.search(rf":members:.*\b{name}\b", (DOCS / "api" / "kit.md").read_text())


def test_the_front_pages_show_the_same():
    """In English and in Chinese: the code, the session, the picture and the doors."""
    shown = re.compile(r"^```.*?^```|(?:images/)\w+\.png|^:link: \S+|\{\{ \w+ \}\}", re.M | re.S)
    ours, theirs = (
        [text for text in shown.findall(page.read_text()) if "{toctree}" not in text]
        for page in (FRONT, CHINESE_FRONT)
    )
    assert len(ours) == 9
    assert [text.replace("../", "").replace("/zh/", "/") for text in theirs] == ours


def test_every_page_of_a_task_is_short_and_found_from_the_index():
    index = (DOCS / "howto" / "index.md").read_text()
    navigation = FRONT.read_text()
    for page in (DOCS / "howto").glob("*.md"):
        assert f"\nhowto/{page.stem}\n" in navigation, page
        if page.stem != "index":
            assert f"]({page.name})" in index, page
            assert len(page.read_text().splitlines()) <= 130, page
