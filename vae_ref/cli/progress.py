"""Show the progress of a training."""

from types import TracebackType
from typing import TYPE_CHECKING

from rich import progress
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from vae_ref.cli.output import Output
from vae_ref.support.messages import say

if TYPE_CHECKING:
    from vae_ref.running.history import Record

__all__ = ["Progress"]

_STEP = 0.01
"""The share of an epoch from which on the bar is moved: a step of the training is shorter."""


class Progress:
    """One line per epoch; on a terminal, also a bar with the loss and the speed.

    Args:
        epoch: The epochs already completed.
        epochs: The epoch at which the training ends.
        examples: The examples of an epoch.
        output: The console to print to.
    """

    def __init__(self, epoch: int, epochs: int, examples: int, output: Output) -> None:
        self._epoch, self._examples, self._shown = epoch, examples, 0.0
        self._bar = progress.Progress(
            TextColumn(say("epoch")),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=output,
            disable=not output.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("", total=epochs, completed=epoch)

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def step(self, seen: int) -> None:
        """Move the bar within an epoch, of which so many examples have been seen."""
        part = seen / self._examples
        if abs(part - self._shown) >= _STEP:
            self._shown = part
            self._bar.update(self._task, completed=self._epoch + part)

    def show(self, record: "Record") -> None:
        """Print a line for an epoch, and move the bar."""
        self._epoch, self._shown = record.epoch, 0.0
        speed = say("{count:,.0f} examples/s", count=record.examples_per_second)
        self._bar.console.print(
            say(
                "epoch {epoch:3}  train {train:.2f}  test {test:.2f} (KL {kl:.2f})  "
                "{seconds:.1f} s, {speed}",
                epoch=record.epoch,
                train=record.train_loss,
                test=record.test_loss,
                kl=record.test_kl,
                seconds=record.seconds,
                speed=speed,
            )
        )
        description = say("loss {loss:.2f}, {speed}", loss=record.train_loss, speed=speed)
        self._bar.update(self._task, completed=record.epoch, description=description, refresh=True)
