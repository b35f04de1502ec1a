"""The command ``vae-ref verify``."""

import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from vae_ref.cli.claims import complete
from vae_ref.cli.files import require_outputs, write_files
from vae_ref.cli.judge import Request, judge
from vae_ref.cli.output import Output, complain
from vae_ref.cli.supervision import supervise
from vae_ref.conformance.records import Report, Result
from vae_ref.names import CourseName, LevelName
from vae_ref.support.errors import InputError
from vae_ref.support.messages import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from vae_ref.conformance.reports.picture import Picture

__all__ = ["verify_command"]

_SEED_DIGITS = 100


def _file(name: str, what: str) -> Any:
    return typer.Option(f"--{name}", metavar="FILE", help=f"Write the report there as {what}.")


def verify_command(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="TARGET",
            help="What to judge: module, module:name, file.py or file.py:name, where name may be "
            "a step that returns a loss, or a call such as 'VAE(784, 400, 20)'. By default the "
            "reference.",
            show_default=False,
        ),
    ] = None,
    *,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="GLOB",
            help="Check only these claims, such as 'kl/*'.",
            autocompletion=complete,
        ),
    ] = None,
    seed: Annotated[
        str | None,
        typer.Option(
            metavar="N|fresh",
            help="The seed of all draws; fresh draws a new one, and prints it.",
            show_default="0, and fresh with --isolated",
        ),
    ] = None,
    declare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Declare a convention that differs from the textbook, such as beta=4.",
        ),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|SHAPES",
            help="How the input of a step is made: by a function in the file, or with these "
            "shapes, such as 16x784,16x10 or 16x20:int.",
        ),
    ] = None,
    command: Annotated[
        str | None,
        typer.Option(
            "--exec",
            metavar="COMMAND",
            help="Judge a program in any language, such as 'node my_vae.js': it is asked line by "
            "line over its standard input.",
        ),
    ] = None,
    expect_failures: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Read known failures, one in each line: claim id, colon, reason."
        ),
    ] = None,
    level: Annotated[
        LevelName | None,
        typer.Option(
            help="The level trained also trains the VAE.", show_default="trained for the reference"
        ),
    ] = None,
    edition: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="The edition of the claims. No claim of an edition ever changes.",
            show_default="the newest",
        ),
    ] = None,
    train: Annotated[
        CourseName | None,
        typer.Option(
            help="Train on these images, and compare the result with the reference's seeds. "
            "glyphs needs no download; mnist takes far longer.",
            show_default="glyphs for the reference",
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Score these trained weights, a state dict of torch or safetensors, and train "
            "nothing. They are scored on mnist unless --train says otherwise.",
        ),
    ] = None,
    data: Annotated[
        Path,
        typer.Option(
            envvar="VAE_REF_DATA", metavar="DIR", help="The torchvision root that holds MNIST."
        ),
    ] = Path("data"),
    measures: Annotated[
        bool, typer.Option("--measures", help="Print all measures with their intervals.")
    ] = False,
    json_file: Annotated[Path | None, _file("json", "JSON")] = None,
    junit: Annotated[Path | None, _file("junit", "JUnit XML")] = None,
    html: Annotated[Path | None, _file("html", "one HTML page, with pictures")] = None,
    memory: Annotated[
        float,
        typer.Option(metavar="GIB", min=1.0, help="The memory that the target may use, in GiB."),
    ] = 8.0,
    isolated: Annotated[
        bool,
        typer.Option(
            "--isolated",
            help="Load the target in a process that has nothing of the judge, and ask it there: "
            "it can neither see what is expected nor write the report.",
        ),
    ] = False,
    in_process: Annotated[
        bool,
        typer.Option(
            "--in-process", help="Judge in this process, without supervision, for debuggers."
        ),
    ] = False,
) -> None:
    """Hold a VAE against every claim, and name its bug.

    A file in the textbook's form needs no adapter: a class VAE with encode, reparameterize,
    decode and forward, and a function loss_function(recon_x, x, mu, logvar). In any other form,
    name the step that computes the loss, as in train.py:step: it is run once, and its VAE is
    found by the flow of data. The status is 0 if every claim that applies holds, 1 if one is
    violated, 2 if the target cannot be loaded, and 3 if a claim could not be decided or none was
    judged.

    Try: vae-ref verify my_model.py --html report.html
    """
    outputs = {"--json": json_file, "--junit": junit, "--html": html}
    require_outputs(outputs, [target, checkpoint, expect_failures])
    named = target or command
    if command is not None and (target or batch or train or checkpoint):
        other = target or "--batch, --train or --checkpoint"
        raise InputError("--exec", "be the only thing to judge", other, "Leave out the other.")
    request = Request(
        target=target,
        declarations=declare or [],
        batch=batch,
        command=command,
        only=only,
        seed=_seed(seed if seed is not None else "fresh" if isolated else "0"),
        level=level or ("standard" if named and not (train or checkpoint) else "trained"),
        edition=edition,
        train=train,
        checkpoint=str(checkpoint) if checkpoint else None,
        data=str(data),
        expect_failures=str(expect_failures) if expect_failures else None,
        pictures=html is not None,
        memory=memory,
        isolated=isolated,
    )
    if isolated:
        _require_parts_alone(
            target,
            {
                "--exec": command,
                "--batch": batch,
                "--train": train,
                "--level": level,
                "--checkpoint": checkpoint,
                "--in-process": in_process or None,
            },
        )
    here = in_process or isolated  # of which no line runs here
    try:
        with _Waiting() as waiting:
            judging = judge_here if here else supervise
            report, pictures = judging(request, waiting.say, expect=waiting.expect)
    except KeyboardInterrupt:
        complain("stopped")
        raise typer.Exit(130) from None
    write_files(report, pictures, json_file=json_file, junit=junit, html=html)
    from vae_ref.conformance.reports.terminal import show

    show(report, Output(), measures=measures)
    file = target and target.partition(".py:")[0].removesuffix(".py") + ".py"
    if file and not report.judged and not report.broken and Path(file).is_file():
        complain(
            say(
                "an adapter names the parts: vae-ref adapt {file} > subject.py prints one",
                file=file,
            )
        )
    raise typer.Exit(report.exit_status)


def _require_parts_alone(target: str | None, others: dict[str, object]) -> None:
    """Raise if ``--isolated`` has no target, or comes with what needs the target's own objects."""
    given = [name for name, value in others.items() if value is not None]
    if target is None:
        raise InputError("--isolated", "come with a TARGET", "none", "Name a file or a module.")
    if given:
        raise InputError(
            "--isolated",
            "stand without options about steps or training",
            given[0],
            "Leave it out.",
        )


class _Waiting:
    """Shows, on a terminal, how far the run has come."""

    def __init__(self) -> None:
        # The stream itself: what is printed later is the subject's.
        self._status = Console(file=sys.stderr).status(say("verifying"))
        self._total, self._done = 0, set[str]()

    def __enter__(self) -> "_Waiting":
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def expect(self, count: int) -> None:
        """Take the number of claims."""
        self._total = count

    def say(self, result: Result) -> None:
        """Tell of a result."""
        self._done.add(result.claim.id)
        progress = say(
            "{done} of {total} claims, last {claim}",
            done=len(self._done),
            total=self._total,
            claim=result.claim.id,
        )
        self._status.update(progress)


def judge_here(
    request: Request,
    say: "Callable[[Result], None]",
    *,
    expect: "Callable[[int], None]" = lambda count: None,
) -> "tuple[Report, list[Picture]]":
    """Judge in this process; the arguments are those of `supervise`."""
    running = None
    if request.isolated and request.target is not None:
        from vae_ref.conformance.loading.spawning import command_of, environment, spawned

        command = command_of(request.target, request.declared, request.memory)
        running = spawned(command, environment())  # it imports torch while this process does
    from vae_ref.support.denormals import denormals_flushed

    with denormals_flushed():
        return judge(
            request,
            begin=lambda report, count: expect(count),
            progress=say,
            running=running,
        )


def _seed(text: str) -> int:
    if text == "fresh":
        return secrets.randbelow(2**31)
    if not text.isdecimal():
        raise InputError("--seed", "be a number or fresh", text, "Use 0, 1, 2, ...")
    if len(text) > _SEED_DIGITS:
        raise InputError("--seed", f"have at most {_SEED_DIGITS} digits", text, "Use 0, 1, 2, ...")
    return int(text)
