"""Show the progress of a training."""

from types import TracebackType
from typing import TYPE_CHECKING

from rich import progress
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from vae_ref.cli.output import Output

if TYPE_CHECKING:
    from vae_ref.running.history import Record

__all__ = ["Progress"]


class Progress:
    """One line per epoch; on a terminal, also a bar with the loss and the speed.

    Args:
        epoch: The epochs already completed.
        epochs: The epoch at which the training ends.
        output: The console to print to.
    """

    def __init__(self, epoch: int, epochs: int, output: Output) -> None:
        self._bar = progress.Progress(
            TextColumn("epoch"),
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

    def show(self, record: "Record") -> None:
        """Print a line for an epoch, and move the bar."""
        speed = f"{record.examples_per_second:,.0f} examples/s"
        self._bar.console.print(
            f"epoch {record.epoch:3}  train {record.train_loss:8.3f}  "
            f"test {record.test_loss:8.3f} (reconstruction {record.test_reconstruction:.3f}, "
            f"KL {record.test_kl:.3f})  {record.seconds:.2f} s, {speed}"
        )
        description = f"loss {record.train_loss:.2f}, {speed}"
        self._bar.update(self._task, completed=record.epoch, description=description)
