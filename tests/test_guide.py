"""What the documentation shows is what happens."""

import dataclasses
import re

import pytest

import vae_ref.conformance
from tests import transcripts
from tests.transcripts import GUIDE, PAGES, README, ROOT, VECTORS, files
from vae_ref.conformance import Conventions, Subject, load, verify
from vae_ref.conformance.reports.wording import STATUS

SUBJECTS = [name for name, text in files().items() if "Subject(" in text]
WRONG = {"clamped.py": {"kl/large-logvar"}}


# The pages whose sessions take long.
LONG = [
    pytest.param(page, id=page.name, marks=[pytest.mark.slow] * (page in (GUIDE, VECTORS)))
    for page in PAGES
]


@pytest.mark.parametrize("page", LONG)
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
def test_the_drawing_is_that_of_the_guides_first_file():
    """If it rightly changes, run `python -m tests.transcripts`."""
    assert transcripts.drawing() == transcripts.DRAWING.read_text()
    assert f"](images/{transcripts.DRAWING.name})" in GUIDE.read_text()


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
        assert re.search(rf"^\| (is )?{words} \|", GUIDE.read_text(), re.MULTILINE), status


@pytest.mark.parametrize("record", [Conventions, Subject])
def test_every_field_is_documented(record):
    """The guide's tables are made of these docstrings."""
    for field in dataclasses.fields(record):
        assert f"    {field.name}: " in record.__doc__


@pytest.mark.parametrize("name", vae_ref.conformance.__all__)
def test_all_that_is_public_of_the_kit_is_in_the_api(name):
    assert re.search(rf":members:.*\b{name}\b", (ROOT / "docs" / "api.md").read_text())
