import dataclasses
import json

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


WORDS = json.dumps({**dataclasses.asdict(RECORD), "epoch": "1"})


@pytest.mark.parametrize("line", ["{", "[]", '{"epoch": 1}', "7", '"text"', WORDS])
def test_a_line_that_is_no_record_is_named(tmp_path, line):
    path = tmp_path / "history.jsonl"
    history.write(path, [RECORD])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(CheckpointError, match=r"history.jsonl, line 2 is not a record"):
        history.read(path)


def test_what_json_cannot_express_is_not_written(tmp_path):
    path = tmp_path / "history.jsonl"
    with pytest.raises(ValueError, match="JSON"):
        history.write(path, [dataclasses.replace(RECORD, test_loss=float("nan"))])
    assert list(tmp_path.iterdir()) == []
