"""Blind grading: the other side sees the questions alone, and its answers are graded."""

import json

import pytest
import torch

from tests.conformance.test_vectors import REFERENCE, answers_of_trained_network, tensors
from vae_ref import InputError
from vae_ref.conformance.vectors import grading
from vae_ref.conformance.vectors.documents import NAMES, load
from vae_ref.conformance.vectors.grading import AnswerError, grade, write_questions
from vae_ref.conformance.vectors.make import trained
from vae_ref.support import exchange


def answered(question, functions):
    """Answer as a program in another language would: from the question alone."""
    name, answer = question["quantity"], {"id": question["id"]}
    if name == "training" and name in functions:
        return answer | {"outputs": {"loss": functions[name](question, torch.float64)}}
    if name == "trained-network" and name in functions:
        parts = functions[name](question, torch.float64)
        lists = [{key: flat(value) for key, value in part.items()} for part in parts]
        return answer | dict(zip(("outputs", "slopes"), lists, strict=True))
    if name not in functions:
        return answer | {"unsupported": "not written yet"}
    given = tensors(question, torch.float64)
    try:
        value = functions[name](*given.values())
    except InputError as reason:
        return answer | {"refused": str(reason)}
    slopes = {}
    if value.requires_grad:
        value.sum().backward()
        slopes = {n: t.grad.flatten().tolist() for n, t in given.items() if t.grad is not None}
    return answer | {"outputs": {"value": flat(value)}, "slopes": slopes}


def flat(tensor):
    return [number.hex() for number in tensor.detach().flatten().tolist()]


def answers(folder, functions):
    lines = (folder / grading.QUESTIONS).read_text().splitlines()
    found = [answered(json.loads(line), functions) for line in lines]
    text = "\n".join(map(json.dumps, found))
    (folder / grading.ANSWERS).write_text(text)


@pytest.fixture
def blind(tmp_path, user):
    write_questions(tmp_path)
    return tmp_path


def test_the_questions_hold_no_answers(blind):
    lines = [json.loads(line) for line in (blind / grading.QUESTIONS).read_text().splitlines()]
    assert all(line.keys() - {"weights"} == {"id", "quantity", "inputs"} for line in lines)
    assert len(lines) == sum(len(load(name)["cases"]) for name in NAMES)
    assert [line["id"] for line in lines] != [c["id"] for n in NAMES for c in load(n)["cases"]]


@pytest.mark.slow
def test_the_reference_has_no_wrong_answer(blind):
    whole = {"training": trained, "trained-network": answers_of_trained_network}
    answers(blind, REFERENCE | whole)
    grades = grade(blind)
    assert {n: of.wrong for n, of in grades.items() if of.wrong} == {}
    counts = sum((of.counts for of in grades.values()), grading.Counter())
    assert counts == {"right": sum(len(load(n)["cases"]) for n in NAMES) - 1, "unsupported": 1}


def no_half(mu, logvar):
    if mu.shape != logvar.shape:
        raise InputError("mu", "have the shape of logvar", mu.shape, "")
    return (mu**2 + logvar.exp() - 1 - logvar).sum(1)


def test_a_bug_is_named(blind):
    answers(blind, {"kl-to-standard-normal": no_half})
    found = grade(blind)["kl-to-standard-normal"]
    assert found.like == ["kl-no-half"]
    assert "outputs, value: number 0 is" in next(iter(found.wrong.values()))


def test_the_command_writes_and_grades(vae_ref_command, tmp_path):
    assert vae_ref_command("vectors", "golden")[0] == 0
    assert len(list((tmp_path / "golden").glob("*.json"))) == len(NAMES) + 1
    assert vae_ref_command("vectors", "--blind", "there")[0] == 0
    folder = tmp_path / "there"
    assert (folder / "trained-network.safetensors").is_file()
    answers(folder, {"kl-to-standard-normal": REFERENCE["kl-to-standard-normal"]})
    status, output, _ = vae_ref_command("grade", "there")
    assert status == 0, output
    answers(folder, {"kl-to-standard-normal": no_half})
    status, output, _ = vae_ref_command("grade", "there")
    assert status == 1
    assert "these are the answers of kl-no-half\n" in output
    lines = (folder / grading.ANSWERS).read_text().splitlines()
    none = [json.dumps({"id": json.loads(line)["id"], "unsupported": "no"}) for line in lines]
    (folder / grading.ANSWERS).write_text("\n".join(none))
    assert vae_ref_command("grade", "there")[0] == 3
    assert vae_ref_command("grade", "nowhere")[0] == 2


KNOWN = load("entropy")["cases"][0]["id"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1 must be JSON"),
        ("[" * 100_000, "line 1 must be JSON"),
        ("\ud800".encode("utf-8", "surrogatepass"), "line 1 must be JSON"),
        ("[]", 'line 1 must be an object with an "id"'),
        ('{"id": 3}', 'line 1 must be an object with an "id"'),
        ('{"id": "entropy-1"}', "line 1 must answer a question; entropy-1 is none"),
        ({"outputs": []}, "line 1, outputs: it must be an object of lists"),
        ({"outputs": {"value": 3}}, "line 1, outputs, value: it must be a list of numbers, flat"),
        ({"refused": "no", "outputs": []}, "line 1, outputs: it must be an object of lists"),
        ({"refused": "no", "outputs": {"value": 3}}, "it must be a list of numbers, flat"),
        ({"outputs": {"value": [[1], 2, 3]}}, "line 1, outputs, value: a number is no number"),
        ({"outputs": {"value": [True, 2, 3]}}, "line 1, outputs, value: a number is no number"),
        ({"outputs": {"value": ["one", 2, 3]}}, "line 1, outputs, value: a number is no number"),
        (f'{{"id": "{KNOWN}", "outputs": {{"value": [NaN]}}}}', "NaN is no number of JSON"),
        (
            f'{{"id": "{KNOWN}", "outputs": {{"value": [1e9999, 2, 3]}}}}',
            "is larger than any float",
        ),
        (f'{{"id": "{KNOWN}", "unsupported": 1}}\n{{"id": "{KNOWN}"}}', "of line 1 again"),
        ('{"id": "' + "x" * 2**20 + '"}', "line 1 must have at most 1 MiB"),
    ],
)
def test_a_malformed_line_is_answered(tmp_path, line, message):
    if isinstance(line, dict):
        line = json.dumps({"id": KNOWN, **line})
    content = line if isinstance(line, bytes) else line.encode()
    (tmp_path / grading.ANSWERS).write_bytes(content)
    with pytest.raises(AnswerError, match=message.replace("[", r"\[")):
        grade(tmp_path)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({}, "there is no output value"),
        ({"value": [1]}, "value: 1 numbers, not 3"),
        ({"value": ["nan", 1, 1]}, "value: number 0 is nan, not"),
        ({"value": ["0x1p+9999", 1, 1]}, "a number is no number"),
        ({"value": ["inf", "-inf", 1]}, "value: number 0 is inf, not"),
        ({"value": [1e308, 1e308, 1e308]}, "value: number 0 is 1e+308, not"),
        ({"value": [1] * 100_000}, "value: 100000 numbers, not 3"),
        ({"values": [], "value": [1, 1, 1]}, "outputs, values: there is none of that name"),
    ],
)
def test_a_wrong_answer_is_described(tmp_path, outputs, message):
    (tmp_path / grading.ANSWERS).write_text(json.dumps({"id": KNOWN, "outputs": outputs}))
    try:
        said = grade(tmp_path)["entropy"].wrong[KNOWN]
    except AnswerError as error:
        said = str(error)
    assert message in said


@pytest.mark.parametrize("text", ["0x1.8p+1", "3", "3.0", 3, 3.0, "30e-1"])
def test_numbers_are_read_in_all_their_forms(text):
    assert exchange.number(text) == 3


@pytest.mark.parametrize("others", [[], ["2.5"]])
@pytest.mark.parametrize("one", [3.0, 3, -0.0, 5e-324, 2**80, 1e308])
def test_many_numbers_are_read_as_one_is(one, others):
    assert [repr(n) for n in exchange.numbers([one, *others])] == [
        repr(exchange.number(n)) for n in [one, *others]
    ]


@pytest.mark.parametrize("one", [float("inf"), 10**400, True, None, "1e", "1_0", [1]])
def test_among_many_numbers_one_that_is_none_is_refused(one):
    with pytest.raises(ValueError, match="is"):
        exchange.numbers([1.0, one, 2])
