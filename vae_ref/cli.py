"""The command ``vae-ref``."""

import dataclasses
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vae_ref import history, pictures
from vae_ref.checkpoint import CheckpointError
from vae_ref.checks import InputError
from vae_ref.data import DataError, ImageSet, fashion_mnist, mnist
from vae_ref.engines.platform import denormals_flushed
from vae_ref.glyphs import glyphs
from vae_ref.history import Record
from vae_ref.model import VAE
from vae_ref.run import DatasetName, LikelihoodName, ModelName, Recipe, Run
from vae_ref.training import DivergenceError, evaluate, fit, log_likelihood

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="The ground truth for variational autoencoders.",
)

_MISUSE, _INTERNAL, _INTERRUPTED = 2, 70, 130

DataOption = Annotated[
    Path,
    typer.Option(
        envvar="VAE_REF_DATA",
        metavar="DIR",
        help="Where MNIST and Fashion-MNIST are, or are downloaded to: a torchvision root, "
        "which holds MNIST/raw.",
    ),
]
DeviceOption = Annotated[
    Literal["auto", "cpu", "cuda"], typer.Option(help="auto is CUDA where there is one.")
]
CheckpointArgument = Annotated[Path, typer.Argument(help="A checkpoint that train wrote.")]


@app.command("train")
def train_command(
    *,
    dataset: Annotated[
        DatasetName, typer.Option(help="glyphs are drawn on the fly and need no download.")
    ] = "mnist",
    data: DataOption = Path("data"),
    model: Annotated[ModelName, typer.Option(help="What to train.")] = "vae",
    likelihood: Annotated[
        LikelihoodName,
        typer.Option(
            help="How a reconstruction is scored: bernoulli is the binary cross-entropy; gaussian "
            "the squared error, with its constant; continuous-bernoulli a density for grey pixels."
        ),
    ] = "bernoulli",
    beta: Annotated[
        float, typer.Option(help="Weight of the KL divergence; the ELBO has 1.")
    ] = 1.0,
    latent_dim: Annotated[
        int, typer.Option(help="Coordinates of a code. With 2, the latent plane is drawn.")
    ] = 20,
    hidden_dim: Annotated[int, typer.Option(help="Units of the hidden layers.")] = 400,
    epochs: Annotated[
        int, typer.Option(min=1, help="Where to end, resumed epochs included.")
    ] = 20,
    batch_size: Annotated[int, typer.Option(help="Examples per step.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="Adam's.")] = 1e-3,
    seed: Annotated[int, typer.Option(help="Of weights, order and noise.")] = 0,
    device: DeviceOption = "auto",
    engine: Annotated[
        Literal["auto", "eager"], typer.Option(help="How an epoch is executed.")
    ] = "auto",
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where to write.", show_default="runs/DATASET-MODEL"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out from its last epoch.")
    ] = False,
) -> None:
    """Train a VAE or an autoencoder; the defaults are the textbook's.

    Writes history.jsonl, checkpoint.safetensors, curves.png and images/ under --out. Losses are
    in nats per example. Everything is saved after every epoch: a run that is stopped, in
    whatever way, goes on with the same command and --resume, to exactly the result that it
    would have had.

    Try: vae-ref train --dataset glyphs --epochs 5
    """
    recipe = Recipe(
        dataset=dataset,
        model=model,
        likelihood=likelihood,
        beta=beta,
        latent_dim=latent_dim,
        hidden_dim=hidden_dim,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
    )
    chosen = _device(device)
    out = out or Path("runs") / f"{dataset}-{model}"
    checkpoint = out / "checkpoint.safetensors"
    if checkpoint.exists() and not resume:
        raise InputError(
            "--out", "not hold a run already", out, "Continue it with --resume, or name another."
        )
    run = Run.load(checkpoint, device=chosen) if checkpoint.exists() else None
    if run is not None:
        _check_same(recipe, run.recipe, out)
    train, test = (_load(dataset, data, train=part) for part in (True, False))
    train, test = train.to(chosen), test.to(chosen)
    run = run or Run.start(recipe, train.size, device=chosen)
    (out / "images").mkdir(parents=True, exist_ok=True)
    done = [r for r in history.read(out / "history.jsonl") if r.epoch <= run.epoch]
    try:
        with _Display(run.epoch, epochs) as display:
            for record in fit(run, train, test, epochs=epochs):
                done.append(record)
                _save_epoch(out, run, test, done)
                display.show(record)
    except KeyboardInterrupt:
        print(
            f"vae-ref: stopped; epoch {done[-1].epoch if done else 0} is saved. "
            "The same command with --resume continues.",
            file=sys.stderr,
        )
        raise typer.Exit(_INTERRUPTED) from None
    pictures.curves(out / "curves.png", done)
    _draw_latent_space(out / "images", run, test)
    print(f"{run.epoch} epochs are in {out}: test loss {done[-1].test_loss:.2f} nats per example")


@app.command("evaluate")
def evaluate_command(
    checkpoint: CheckpointArgument,
    *,
    data: DataOption = Path("data"),
    samples: Annotated[
        int,
        typer.Option(min=1, help="Importance samples K per image; more bound log p(x) closer."),
    ] = 50,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    device: DeviceOption = "auto",
) -> None:
    """Score a checkpoint on its test set: ELBO, and log-likelihood by importance weighting."""
    run = Run.load(checkpoint, device=_device(device))
    test = _load(run.recipe.dataset, data, train=False).to(_device(device))
    plan = dataclasses.replace(run.plan, seed=seed)
    averages = evaluate(run.model, test, plan.test_noise(len(test), run.model.latent_dim))
    print(f"{checkpoint}: {run.recipe.model}, {run.recipe.likelihood}, epoch {run.epoch}")
    print(f"{len(test)} test images of {run.recipe.dataset}, nats per example")
    print(f"reconstruction        {averages.reconstruction:10.3f}")
    if isinstance(run.model, VAE):
        print(f"KL divergence         {averages.divergence:10.3f}")
        print(f"ELBO                  {-sum(averages):10.3f}")
        bound = log_likelihood(run.model, test, samples=samples, plan=plan)
        print(f"log p(x), K = {samples:<6}  {bound.mean().item():10.3f}")


@app.command("sample")
def sample_command(
    checkpoint: CheckpointArgument,
    *,
    data: DataOption = Path("data"),
    count: Annotated[int, typer.Option(min=1, help="How many prior samples.")] = 64,
    seed: Annotated[int, typer.Option(help="Of the prior samples.")] = 0,
    device: DeviceOption = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where to write.", show_default="samples/ beside CHECKPOINT"
        ),
    ] = None,
) -> None:
    """Draw prior samples, interpolations and, of a two-dimensional latent space, its plane."""
    run = Run.load(checkpoint, device=_device(device))
    test = _load(run.recipe.dataset, data, train=False).to(_device(device))
    out = out or checkpoint.parent / "samples"
    out.mkdir(parents=True, exist_ok=True)
    eps = dataclasses.replace(run.plan, seed=seed).prior(count, run.model.latent_dim)
    pictures.samples(out / "sample.png", run.model, eps, run.size)
    _draw_latent_space(out, run, test)
    print(f"pictures are in {out}")


def main() -> None:
    """Run the command; answer bad input with one line and exit status 2."""
    try:
        with denormals_flushed():
            app()
    except (InputError, DataError, CheckpointError, DivergenceError, OSError) as error:
        print(f"vae-ref: {error}", file=sys.stderr)
        sys.exit(_MISUSE)
    except Exception as error:
        if "VAE_REF_TRACEBACK" in os.environ:
            raise
        first = next(iter(str(error).splitlines()), "")
        print(
            f"vae-ref: internal error, {type(error).__name__}: {first} "
            "(VAE_REF_TRACEBACK=1 in the environment shows where)",
            file=sys.stderr,
        )
        sys.exit(_INTERNAL)


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "--device", "be available", name, "Use cpu, or auto to take what is there."
        )
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _load(dataset: DatasetName, root: Path, *, train: bool) -> ImageSet:
    if dataset == "glyphs":
        return glyphs(60_000, seed=0) if train else glyphs(10_000, seed=1)
    load = {"mnist": mnist, "fashion-mnist": fashion_mnist}[dataset]
    try:
        return load(root, train=train, download=True)
    except DataError as error:
        raise DataError(
            f"{error} Name a torchvision root with --data or VAE_REF_DATA, "
            "or use --dataset glyphs, which needs no download."
        ) from error


def _check_same(recipe: Recipe, saved: Recipe, out: Path) -> None:
    for name, value in dataclasses.asdict(saved).items():
        if getattr(recipe, name) != value:
            raise InputError(
                f"--{name.replace('_', '-')}",
                f"be {value}, as in the run that {out} holds",
                getattr(recipe, name),
                "Repeat the command that began it, or name another --out.",
            )


def _save_epoch(out: Path, run: Run, test: ImageSet, done: list[Record]) -> None:
    """Write what belongs to an epoch; the checkpoint last, for it says that all is there."""
    images, epoch = out / "images", run.epoch
    pictures.reconstruction(images / f"reconstruction_{epoch}.png", run.model, test)
    prior = run.plan.prior(64, run.model.latent_dim)
    pictures.samples(images / f"sample_{epoch}.png", run.model, prior, run.size)
    history.write(out / "history.jsonl", done)
    run.save(out / "checkpoint.safetensors")


def _draw_latent_space(images: Path, run: Run, test: ImageSet) -> None:
    pictures.interpolation(images / "interpolation.png", run.model, test)
    if run.model.latent_dim == 2:
        pictures.manifold(images / "manifold.png", run.model, run.size)
        pictures.posterior(images / "posterior.png", run.model, test)


class _Display:
    """One line per epoch; on a terminal, also a bar with the loss and the speed."""

    def __init__(self, epoch: int, epochs: int) -> None:
        console = Console(soft_wrap=True, highlight=False)
        self._bar = Progress(
            TextColumn("epoch"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("", total=epochs, completed=epoch)

    def __enter__(self) -> "_Display":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, record: Record) -> None:
        speed = f"{record.examples_per_second:,.0f} examples/s"
        self._bar.console.print(
            f"epoch {record.epoch:3}  train {record.train_loss:8.3f}  "
            f"test {record.test_loss:8.3f} (reconstruction {record.test_reconstruction:.3f}, "
            f"KL {record.test_kl:.3f})  {record.seconds:.2f} s, {speed}"
        )
        self._bar.update(
            self._task,
            completed=record.epoch,
            description=f"loss {record.train_loss:.2f}, {speed}",
        )
