"""Keep the record of a training: one JSON object per line and epoch."""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

from vae_ref.running.checkpoint import CheckpointError
from vae_ref.support.atomic import replacing

__all__ = ["Record", "read", "write"]


@dataclasses.dataclass(frozen=True, kw_only=True)
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
        CheckpointError: If a line is not a record.
        OSError: If the file cannot be read.
    """
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            record = Record(**json.loads(line))
            if not all(isinstance(v, int | float) for v in dataclasses.astuple(record)):
                raise TypeError("a value is not a number")
            records.append(record)
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"{path}, line {number} is not a record ({error}).") from error
    return records
