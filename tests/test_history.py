import dataclasses
import json
import math

import pytest

from vae_ref.running import history
from vae_ref.running.checkpoint import CheckpointError

RECORD = history.Record(
    epoch=1,
    train_loss=164.5,
    test_loss=128.25,
    test_reconstruction=107.0,
    test_kl=21.25,
    seconds=2.0,
    examples_per_second=30000.0,
)


def test_one_object_per_line_with_the_agreed_keys(tmp_path):
    path = tmp_path / "history.jsonl"
    records = [dataclasses.replace(RECORD, epoch=epoch) for epoch in (1, 2, 3)]
    history.write(path, records)
    objects = [json.loads(line) for line in path.read_text().splitlines()]
    assert [set(o) for o in objects] == 3 * [
        {
            "epoch",
            "train_loss",
            "test_loss",
            "test_reconstruction",
            "test_kl",
            "seconds",
            "examples_per_second",
        }
    ]
    assert history.read(path) == records


def test_no_file_is_no_history(tmp_path):
    assert history.read(tmp_path / "history.jsonl") == []


def line_with(**changed):
    return json.dumps({**dataclasses.asdict(RECORD), "epoch": 2, **changed})


@pytest.mark.usefixtures("user")
@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"epoch": 1}',
        "7",
        '"text"',
        "null",
        "[" * 900,
        line_with(more="x" * 1000),
        line_with(test_kl=0.0).replace("0.0", "9" * 5000),
        line_with(unknown=1),
        *(line_with(epoch=value) for value in ("2", 2.0, True, 0, -1, 1, 10**7, None)),
        *(
            line_with(test_kl=value)
            for value in (math.nan, math.inf, -math.inf, True, "1", None, 10**400, [1.0])
        ),
    ],
)
def test_a_line_that_is_no_record_is_named(tmp_path, line):
    path = tmp_path / "history.jsonl"
    history.write(path, [RECORD])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(CheckpointError, match=r"history.jsonl, line 2 is not a record") as error:
        history.read(path)
    assert len(str(error.value)) < len(str(path)) + 250


def test_what_json_cannot_express_is_not_written(tmp_path):
    path = tmp_path / "history.jsonl"
    with pytest.raises(ValueError, match="JSON"):
        history.write(path, [dataclasses.replace(RECORD, test_loss=float("nan"))])
    assert list(tmp_path.iterdir()) == []
