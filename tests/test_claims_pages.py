"""Every claim and every bug is on one page, which the indexes lead to, and the filter finds it."""

import importlib.util
import json
import re
import subprocess
from collections import Counter
from functools import cache

import pytest

from tests.transcripts import ROOT
from vae_ref.conformance.claims import all_claims
from vae_ref.conformance.diagnosis.explain import kill_matrix
from vae_ref.conformance.mutants import BANK

DOCS = ROOT / "docs"
SCRIPT = DOCS / "_static" / "filter.js"
PARTS = list(dict.fromkeys(claim.part for claim in all_claims()))
IDS = {
    "claims": {claim.id: claim.id.replace("/", "-") for claim in all_claims()},
    "bugs": {bug: f"bug-{bug}" for bug in BANK},
}
LINK = re.compile(r"\[`([^`]+)`\]\(#([^)]+)\)")


@cache
def shown():
    spec = importlib.util.spec_from_file_location("docs_claims", DOCS / "claims.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.substitutions()


@cache
def entries(part):
    """Return what the page of a part says of each claim and each bug, by its anchor."""
    page = shown()[f"page_of_{part}"]
    found = re.split(
        r"^\((\S+)\)=\n### .*$|^\[`\S+`\]\{#(\S+)\}$|^\(\S+-bugs\)=$", page, flags=re.M
    )
    anchors = [claim or bug for claim, bug in zip(found[1::3], found[2::3], strict=True)]
    return {anchor: text for anchor, text in zip(anchors, found[3::3], strict=True) if anchor}


def test_every_part_has_a_page_that_the_index_lists():
    assert {page.stem for page in (DOCS / "claims").glob("*.md")} == set(PARTS)
    listed = re.findall(r"^claims/(\w+)$", (DOCS / "claims.md").read_text(), re.MULTILINE)
    assert listed == PARTS
    for part in PARTS:
        shows = re.findall(r"\{\{ (\w+) \}\}", (DOCS / "claims" / f"{part}.md").read_text())
        assert shows == [f"page_of_{part}"]


def test_every_claim_and_every_bug_is_on_the_page_of_its_part_alone():
    here = Counter(anchor for part in PARTS for anchor in entries(part))
    assert here == Counter([*IDS["claims"].values(), *IDS["bugs"].values()])
    for known in (*all_claims(), *BANK.values()):
        kind = "bugs" if known.id in BANK else "claims"
        assert IDS[kind][known.id] in entries(known.part)


@pytest.mark.parametrize("kind", IDS)
def test_the_index_lists_each_once(kind):
    rows = re.findall(r"^\| \[`(.+?)`\]\(#(.+?)\)<br>\S", shown()[f"{kind}_index"], re.MULTILINE)
    assert sorted(rows) == sorted(IDS[kind].items())


def test_every_link_of_a_page_leads_to_an_entry():
    pages = [text for name, text in shown().items() if name.startswith("page_of_")]
    links = LINK.findall("".join([*pages, shown()["claims_index"], shown()["bugs_index"]]))
    assert len(links) > len(BANK)
    known = IDS["claims"] | IDS["bugs"]
    assert all(known[name] == anchor for name, anchor in links)


def test_claims_and_bugs_name_each_other():
    """And all that the kill matrix and the claims themselves say."""
    names = {anchor: name for kind in IDS.values() for name, anchor in kind.items()}
    links = {
        names[anchor]: {name for name, _ in LINK.findall(text)}
        for part in PARTS
        for anchor, text in entries(part).items()
    }
    of_bugs = {(claim, bug) for bug in BANK for claim in links[bug]}
    of_claims = {(c.id, bug) for c in all_claims() for bug in links[c.id] if bug in BANK}
    known = {(claim, bug) for bug in BANK for claim in kill_matrix()[bug]}
    known |= {(claim.id, bug) for claim in all_claims() for bug in claim.kills}
    assert of_bugs == of_claims == known


def test_a_claim_is_shown_in_full():
    for claim in all_claims():
        entry = entries(claim.part)[IDS["claims"][claim.id]]
        assert f"$$\n{claim.formula}\n$$" in entry
        assert ("\n:False alarms: at most " in entry) == (claim.kind == "statistical")
    assert "\n:Needs: `kl` or `loss`\n" in entries("kl")["kl-closed-form"]


NAMES = ["claim", "part", "check"]
ROWS = [
    *([f"kl/{i} The gradient.", "kl", "exact"] for i in range(20)),
    *([f"model/{i} A tail.", "model", "exact"] for i in range(19)),
    ["model/all Each weight", "model", "gradient"],
]


def run(expression):
    """Evaluate an expression of the script's functions, with these rows."""
    code = (
        f"const {{ choices, matches, written }} = require({json.dumps(str(SCRIPT))});"
        f"const names = {json.dumps(NAMES)}, rows = {json.dumps(ROWS)};"
        f"console.log(JSON.stringify({expression}))"
    )
    done = subprocess.run(["node", "-e", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_columns_whose_values_repeat_are_offered():
    assert run("choices(names, rows)") == {"part": ["kl", "model"], "check": ["exact", "gradient"]}


@pytest.mark.parametrize(
    ("chosen", "count"),
    [
        ({}, 40),
        ({"words": "gradient"}, 21),
        ({"words": "  GRADIENT exact "}, 20),
        ({"words": "kl/1"}, 11),
        ({"words": "tail gradient"}, 0),
        ({"part": "model"}, 20),
        ({"part": "model", "check": "gradient"}, 1),
        ({"part": "model", "words": "tail"}, 19),
        ({"part": "mod"}, 0),
    ],
)
def test_the_filter_shows_the_rows_that_have_it_all(chosen, count):
    filter_ = {"words": "", "part": "", "check": ""} | chosen
    matching = f"rows.filter((row) => matches(names, row, {json.dumps(filter_)})).length"
    assert run(matching) == count


def test_the_address_has_the_filter_without_what_chooses_all():
    assert run('written({words: "mu & sigma", part: "", check: "exact"})') == (
        "words=mu+%26+sigma&check=exact"
    )
    assert run('written({words: "", part: ""})') == ""
