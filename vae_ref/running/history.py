"""Keep the record of a training: one JSON object per line and epoch."""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

from vae_ref.checks import is_integer, is_number
from vae_ref.names import MOST_EPOCHS
from vae_ref.running.checkpoint import CheckpointError, parse
from vae_ref.support.atomic import replacing
from vae_ref.support.excerpt import excerpt

__all__ = ["Record", "read", "write"]

_LINE_BYTES = 1000  # ours have 200


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What one epoch did. Losses are nats per example; the test set is seen as a whole.

    Args:
        epoch: The epoch, from 1.
        train_loss: The mean loss of the epoch's examples, each as it was trained on.
        test_loss: ``test_reconstruction + beta * test_kl``.
        test_reconstruction: The negative log-likelihood of the test images under one draw of z.
        test_kl: The divergence of the posterior from the prior; 0 for an autoencoder.
        seconds: What the training pass took, evaluation not included.
        examples_per_second: The training examples over those seconds.
    """

    epoch: int
    train_loss: float
    test_loss: float
    test_reconstruction: float
    test_kl: float
    seconds: float
    examples_per_second: float


def write(path: Path, records: Iterable[Record]) -> None:
    """Write a history atomically.

    Raises:
        OSError: If the file cannot be written.
    """
    lines = (json.dumps(dataclasses.asdict(record), allow_nan=False) + "\n" for record in records)
    with replacing(path) as file:
        file.write("".join(lines).encode())


def read(path: Path) -> list[Record]:
    """Read a history; a missing file is an empty one.

    Raises:
        CheckpointError: If a line is not a record, or not of a later epoch than that before it.
        OSError: If the file cannot be read.
    """
    if not path.exists():
        return []
    records: list[Record] = []
    with path.open("rb") as file:
        while line := file.readline(_LINE_BYTES + 1):
            try:
                records.append(_record(line, after=records[-1].epoch if records else 0))
            except (ValueError, TypeError) as error:
                number = len(records) + 1
                raise CheckpointError(
                    f"{path}, line {number} is not a record ({excerpt(error, 250)})."
                ) from error
    return records


def _record(line: bytes, after: int) -> Record:
    if len(line) > _LINE_BYTES:
        raise ValueError(f"it has more than {_LINE_BYTES} bytes")
    record = Record(**parse(line.decode()))
    for name, value in dataclasses.asdict(record).items():
        if not is_number(value):
            raise TypeError(f"{name} must be a finite number; got {excerpt(value)}")
    if not is_integer(record.epoch) or not after < record.epoch <= MOST_EPOCHS:
        raise ValueError(f"epoch must be {after + 1} or later; got {excerpt(record.epoch)}")
    return record
