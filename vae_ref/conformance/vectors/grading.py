"""Grade the answers of another implementation, which has seen the questions alone."""

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vae_ref.conformance.vectors.bugs import whose
from vae_ref.conformance.vectors.documents import NAMES, load
from vae_ref.support import exchange
from vae_ref.support.atomic import replacing
from vae_ref.support.errors import UserError
from vae_ref.support.excerpt import excerpt

__all__ = ["ANSWERS", "QUESTIONS", "AnswerError", "Grade", "grade", "write_questions"]

QUESTIONS, ANSWERS = "questions.jsonl", "answers.jsonl"
_ASKED = ("id", "inputs", "weights")
"""What of a case is in a question."""
_MOST_BYTES, _LONGEST = 64 * 2**20, 2**20
"""A file of answers, and a line of it; the longest right ones have about 30 kB."""

Verdict = str


class AnswerError(UserError, ValueError):
    """A line of answers is malformed; the message says the line, the field and the rule."""


@dataclass
class Grade:
    """What became of the questions about one quantity.

    Attributes:
        counts: How many are right, wrong, missing or unsupported.
        wrong: The ids of wrong answers, with what is wrong.
        like: The bugs of the bank that give these wrong answers.
    """

    counts: Counter[Verdict] = field(default_factory=Counter)
    wrong: dict[str, str] = field(default_factory=dict)
    like: list[str] = field(default_factory=list)


def write_questions(folder: Path, seed: int = 0) -> int:
    """Write all questions without their answers, shuffled; return how many."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({key: case[key] for key in _ASKED if key in case} | {"quantity": name})
        for name in NAMES
        for case in load(name)["cases"]
    ]
    random.Random(seed).shuffle(lines)
    with replacing(folder / QUESTIONS) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())
    return len(lines)


def _answers(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the answers with the numbers of their lines."""
    if path.stat().st_size > _MOST_BYTES:
        raise AnswerError(f"{path.name} must have at most {_MOST_BYTES >> 20} MiB.")
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(_LONGEST + 1), b""), 1):
            if len(line) > _LONGEST:
                raise AnswerError(f"line {number} must have at most {_LONGEST >> 20} MiB.")
            if not line.strip():
                continue
            try:
                answer = exchange.parsed(line)
            except ValueError as error:
                why = excerpt(str(error).partition("\n")[0], 100)
                raise AnswerError(f"line {number} must be JSON: {why}.") from None
            if not isinstance(answer, dict) or not isinstance(answer.get("id"), str):
                raise AnswerError(f'line {number} must be an object with an "id".')
            yield number, answer


def _arrays(number: int, answer: dict[str, Any], part: str) -> dict[str, list[Any]]:
    """Return the lists of the outputs or the slopes, whose numbers are not read yet."""
    arrays = answer.get(part, {})
    if not isinstance(arrays, dict):
        raise AnswerError(f"line {number}, {part}: it must be an object of lists.")
    for name, numbers in arrays.items():
        if not isinstance(numbers, list):
            where = f"line {number}, {part}, {excerpt(name, 40)}"
            raise AnswerError(f"{where}: it must be a list of numbers, flat.")
    return arrays


def _numbers(where: str, texts: list[Any]) -> list[float]:
    try:
        return exchange.numbers(texts)
    except ValueError as error:
        raise AnswerError(f"{where}: a number {error}.") from None


def grade(folder: Path, dtype: str = "float64") -> dict[str, Grade]:
    """Grade the answers in a folder, by quantity.

    Args:
        folder: Where ``answers.jsonl`` is.
        dtype: The precision in which the answers were computed.

    Raises:
        AnswerError: If a line is malformed, or answers a question twice or none.
        OSError: If the file cannot be read.
    """
    cases = {case["id"]: (name, case) for name in NAMES for case in load(name)["cases"]}
    found: dict[str, Grade] = defaultdict(Grade)
    values: dict[str, list[tuple[dict[str, Any], list[float]]]] = defaultdict(list)
    seen = dict[str, int]()
    for number, answer in _answers(folder / ANSWERS):
        key = answer["id"]
        if key not in cases:
            raise AnswerError(f"line {number} must answer a question; {excerpt(key, 60)} is none.")
        if key in seen:
            raise AnswerError(f"line {number} answers the question of line {seen[key]} again.")
        seen[key] = number
        name, case = cases[key]
        is_asked = "unsupported" not in answer
        why = _fault(number, answer, case, dtype) if is_asked else ""
        verdict = "wrong" if why else "right" if is_asked else "unsupported"
        found[name].counts[verdict] += 1
        if why:
            found[name].wrong[key] = why
            value = _arrays(number, answer, "outputs").get("value")
            due = case.get("outputs", {})
            if value and "value" in due and len(value) == len(due["value"]["decimal"]):
                values[name].append((case, _numbers(f"line {number}", value)))
    for key, (name, _) in cases.items():
        if key not in seen:
            found[name].counts["missing"] += 1
    for name, answers in values.items():
        found[name].like = whose(name, answers)
    return {name: found[name] for name in NAMES}


def _fault(number: int, answer: dict[str, Any], case: dict[str, Any], dtype: str) -> str:
    """Return what is wrong with an answer; empty if nothing is."""
    if "refuse" in case or "refused" in answer:
        if "refuse" not in case:
            return "it is refused, and the inputs are right"
        return "" if "refused" in answer else f"it is not refused, but {case['refuse']}"
    training = case.get("training")
    known = {"outputs": {"loss": training}, "slopes": {}} if training else case
    missing = known["outputs"].keys() - _arrays(number, answer, "outputs").keys()
    if missing:
        return f"there is no output {', '.join(sorted(missing))}"
    faults = (
        _fault_of_list(f"line {number}, {part}, {name}", texts, known[part].get(name), dtype)
        for part in ("outputs", "slopes")
        for name, texts in _arrays(number, answer, part).items()
        if name in known[part] or name not in case["inputs"]  # that of the data may be there, too
    )
    return next(filter(None, faults), "")


def _fault_of_list(where: str, texts: list[Any], right: Any, dtype: str) -> str:
    """Return what is wrong with a list of numbers, for which there may be no right one."""
    name = where.partition(", ")[2]
    if right is None:
        return f"{excerpt(name, 60)}: there is none of that name"
    count = len(right.get("decimal", right.get("loss")))
    if len(texts) != count:
        return f"{name}: {len(texts)} numbers, not {count}"
    check = _fault_of_training if "loss" in right else _fault_of_array
    why = check(_numbers(where, texts), right, dtype)
    return why and f"{name}: {why}"


def _fault_of_array(got: list[float], entry: dict[str, Any], dtype: str) -> str:
    ulp, machine = entry["ulp"][dtype], np.finfo(dtype)
    if ulp is None:
        return ""
    for index, (a, b, scale) in enumerate(zip(got, entry["decimal"], entry["scale"], strict=True)):
        allowed = ulp * float(machine.eps) * float(scale) + float(machine.tiny)
        if not abs(a - float(b)) <= allowed:
            return f"number {index} is {a:.9g}, not {float(b):.9g} within {allowed:.2g}"
    return ""


def _fault_of_training(got: list[float], case: dict[str, Any], dtype: str) -> str:
    for step, a, b, allowed in zip(
        case["steps"], got, case["loss"], case["tolerance"][dtype], strict=True
    ):
        if not abs(a - float(b)) <= float(allowed):
            return f"that of step {step} is {a:.9g}, not {float(b):.9g} within {allowed}"
    return ""
