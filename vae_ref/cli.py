"""The command ``vae-ref``."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer

from vae_ref.checkpoint import MOST_EPOCHS, CheckpointError
from vae_ref.checks import InputError
from vae_ref.data import DataError, ImageSet, fashion_mnist, mnist
from vae_ref.display import Display
from vae_ref.drawing import glyphs
from vae_ref.engines import EngineOption
from vae_ref.engines.platform import denormals_flushed
from vae_ref.excerpt import excerpt
from vae_ref.model import VAE
from vae_ref.plan import Plan
from vae_ref.recipe import DatasetName, LikelihoodName, ModelName, Recipe
from vae_ref.run import Run
from vae_ref.training import DivergenceError, evaluate, fit, log_likelihood
from vae_ref.verification import MISUSE, claims_command, verify_command

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="The ground truth for variational autoencoders.",
)

app.command("verify")(verify_command)
app.command("claims")(claims_command)

_UsageError: Any = typer.BadParameter.__bases__[0]  # typer has no public name for it
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
SeedOption = Annotated[
    int | None, typer.Option(help="Of the noise.", show_default="that of the training")
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
        int,
        typer.Option(min=1, max=MOST_EPOCHS, help="Where to end, resumed epochs included."),
    ] = 20,
    batch_size: Annotated[int, typer.Option(help="Examples per step.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="Adam's.")] = 1e-3,
    seed: Annotated[int, typer.Option(help="Of weights, order and noise.")] = 0,
    device: DeviceOption = "auto",
    engine: Annotated[
        EngineOption, typer.Option(help="How an epoch is executed; auto is the fastest that can.")
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
    in nats per example. Everything is saved after every epoch: a run that is stopped goes on
    with the same command and --resume, to exactly the result that it would have had.

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
    from vae_ref.directory import RunDirectory

    chosen = _device(device)
    directory = RunDirectory(out or Path("runs") / f"{dataset}-{model}")
    begun = directory.checkpoint.exists()
    if begun and not resume:
        remedy = "Continue it with --resume, or name another."
        raise InputError("--out", "not hold a run already", directory.path, remedy)
    run, records = directory.resume(recipe, chosen, engine) if begun else (None, [])
    train, test = (_load(dataset, data, train=part).to(chosen) for part in (True, False))
    run = run or Run.start(recipe, train.size, device=chosen, engine=engine)
    if run.environment != run.here:
        _say(f"the run began with {run.environment}, this is {run.here}; digits will differ.")
    directory.make()
    saved = run.epoch
    try:
        with Display(run.epoch, epochs) as display:
            for record in fit(run, train, test, epochs=epochs):
                records.append(record)
                directory.save(run, records, test)
                saved = record.epoch
                display.show(record)
        directory.finish(run, records, test)
    except KeyboardInterrupt:
        _say(f"stopped; {directory.path} holds {saved} epochs. --resume continues.")
        raise typer.Exit(_INTERRUPTED) from None
    loss = f"test loss {records[-1].test_loss:.2f} nats per example"
    print(f"{directory.path} holds {run.epoch} epochs, {loss}")


@app.command("evaluate")
def evaluate_command(
    checkpoint: CheckpointArgument,
    *,
    data: DataOption = Path("data"),
    samples: Annotated[
        int,
        typer.Option(
            min=1,
            max=100_000,
            help="Importance samples K per image; more bound log p(x) closer.",
        ),
    ] = 50,
    seed: SeedOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Score a checkpoint on its test set: ELBO, and log-likelihood by importance weighting."""
    run = Run.load(checkpoint, device=_device(device))
    test = _load(run.recipe.dataset, data, train=False).to(_device(device))
    plan = run.plan if seed is None else Plan(seed)
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
    count: Annotated[int, typer.Option(min=1, max=10_000, help="How many prior samples.")] = 64,
    seed: SeedOption = None,
    device: DeviceOption = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where to write.", show_default="samples/ beside CHECKPOINT"
        ),
    ] = None,
) -> None:
    """Draw prior samples, interpolations and, of a two-dimensional latent space, its plane."""
    from vae_ref import pictures
    from vae_ref.directory import draw_latent_space

    run = Run.load(checkpoint, device=_device(device))
    out = out or checkpoint.parent / "samples"
    out.mkdir(parents=True, exist_ok=True)
    plan = run.plan if seed is None else Plan(seed)
    eps = plan.prior(count, run.model.latent_dim)
    pictures.samples(out / "sample.png", run.model, eps, run.size)
    try:
        test = _load(run.recipe.dataset, data, train=False).to(run.model.device)
    except DataError as error:
        _say(f"what takes test images is not drawn. {error}")
        test = None
    draw_latent_space(out, run, test)
    print(f"pictures are in {out}")


def main() -> None:
    """Run the command; answer bad input with one line and exit status 2."""
    try:
        with denormals_flushed():
            sys.exit(app(standalone_mode=False))
    except _UsageError as error:
        if message := error.format_message():  # of a call without arguments: the help was printed
            _say(excerpt(message, 200))
        sys.exit(_MISUSE)
    except typer.Abort:
        sys.exit(_INTERRUPTED)
    except (InputError, DataError, CheckpointError, DivergenceError, OSError, *MISUSE) as error:
        _say(str(error))
        sys.exit(_MISUSE)
    except Exception as error:
        if "VAE_REF_TRACEBACK" in os.environ:
            raise
        first = next(iter(str(error).splitlines()), "")
        _say(
            f"internal error, {type(error).__name__}: {first} "
            "(VAE_REF_TRACEBACK=1 in the environment shows where)"
        )
        sys.exit(_INTERNAL)


def _say(message: str) -> None:
    print(f"vae-ref: {message}", file=sys.stderr)


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
