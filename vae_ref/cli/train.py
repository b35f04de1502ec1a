"""The commands that train a model, score it and draw from it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.cells import set_cell_size

from vae_ref.cli.output import Output, complain
from vae_ref.cli.progress import Progress
from vae_ref.names import MOST_EPOCHS, DatasetName, EngineOption, LikelihoodName, ModelName
from vae_ref.support.errors import InputError
from vae_ref.support.messages import say

if TYPE_CHECKING:
    import torch

    from vae_ref.data import ImageSet

__all__ = ["evaluate_command", "sample_command", "train_command"]

_INTERRUPTED = 130
DataOption = Annotated[
    Path,
    typer.Option(
        envvar="VAE_REF_DATA",
        metavar="DIR",
        help="A torchvision root, which contains MNIST/raw. Data that it lacks are downloaded to "
        "it.",
    ),
]
DeviceOption = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option(help="The device; auto is CUDA if it is available."),
]
SeedOption = Annotated[
    int | None, typer.Option(help="The seed of the noise.", show_default="the training's")
]
CheckpointArgument = Annotated[Path, typer.Argument(help="A checkpoint of vae-ref train.")]


def train_command(
    *,
    dataset: Annotated[
        DatasetName,
        typer.Option(help="The data set; glyphs are drawn on the fly, without a download."),
    ] = "mnist",
    data: DataOption = Path("data"),
    model: Annotated[ModelName, typer.Option(help="The model to train.")] = "vae",
    likelihood: Annotated[
        LikelihoodName,
        typer.Option(
            help="The likelihood of the pixels: bernoulli is the binary cross-entropy, gaussian "
            "is the squared error with its constant, continuous-bernoulli is a density of grey "
            "pixels."
        ),
    ] = "bernoulli",
    beta: Annotated[
        float, typer.Option(help="The weight of the KL divergence; 1 gives the ELBO.")
    ] = 1.0,
    latent_dim: Annotated[
        int, typer.Option(help="The number of coordinates of a code; with 2, the plane is drawn.")
    ] = 20,
    hidden_dim: Annotated[
        int, typer.Option(help="The number of units in the hidden layers.")
    ] = 400,
    epochs: Annotated[
        int,
        typer.Option(
            min=1,
            max=MOST_EPOCHS,
            help="The total number of epochs, including those before --resume.",
        ),
    ] = 20,
    batch_size: Annotated[int, typer.Option(help="The number of examples per step.")] = 128,
    learning_rate: Annotated[float, typer.Option(help="Adam's learning rate.")] = 1e-3,
    seed: Annotated[
        int, typer.Option(help="The seed of the weights, the order and the noise.")
    ] = 0,
    device: DeviceOption = "auto",
    engine: Annotated[
        EngineOption, typer.Option(help="The way to execute an epoch; auto is the fastest.")
    ] = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="The directory to write to.", show_default="runs/DATASET-MODEL"
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out from its last epoch.")
    ] = False,
) -> None:
    """Train a VAE or an autoencoder; the defaults are the textbook's.

    Writes history.jsonl, checkpoint.safetensors, curves.png and images/ to --out. Losses are in
    nats per example. Everything is saved after every epoch. To continue a run that was stopped,
    repeat the command with --resume; the result is exactly the same as without the stop.

    Try: vae-ref train --dataset glyphs --epochs 5
    """
    from vae_ref.running.directory import RunDirectory
    from vae_ref.running.recipe import Recipe
    from vae_ref.running.run import Run
    from vae_ref.running.training import fit
    from vae_ref.support.denormals import denormals_flushed

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
    chosen, output = _device(device), Output()
    directory = RunDirectory(out or Path("runs") / f"{dataset}-{model}")
    begun = directory.checkpoint.exists()
    if begun and not resume:
        remedy = "Continue the run with --resume, or name another directory."
        raise InputError("--out", "not hold a run already", directory.path, remedy)
    with denormals_flushed():
        run, records = directory.resume(recipe, chosen, engine) if begun else (None, [])
        train, test = (_load(dataset, data, train=part).to(chosen) for part in (True, False))
        run = run or Run.start(recipe, train.size, device=chosen, engine=engine)
        if run.environment != run.here:
            complain(
                say(
                    "the run began with {before} and continues with {now}; "
                    "the last digits will differ.",
                    before=run.environment,
                    now=run.here,
                )
            )
        saved = run.epoch
        try:
            with directory.opened(), Progress(run.epoch, epochs, len(train), output) as progress:
                for record in fit(run, train, test, epochs=epochs, progress=progress.step):
                    records.append(record)
                    directory.save(run, records, test)
                    saved = record.epoch
                    progress.show(record)
                directory.finish(run, records, test)
        except KeyboardInterrupt:
            complain(
                say(
                    "stopped. {directory} holds {epochs} epochs. --resume continues the run.",
                    directory=directory.path,
                    epochs=saved,
                )
            )
            raise typer.Exit(_INTERRUPTED) from None
    output.print(
        say(
            "{directory} holds {epochs} epochs, test loss {loss:.2f} nats per example",
            directory=directory.path,
            epochs=run.epoch,
            loss=records[-1].test_loss,
        )
    )
    output.print(say("Its pictures:"))
    for picture in directory.pictures(run.epoch):
        output.print(f"  {picture}")


def evaluate_command(
    checkpoint: CheckpointArgument,
    *,
    data: DataOption = Path("data"),
    samples: Annotated[
        int,
        typer.Option(
            min=1,
            max=100_000,
            help="The number K of importance samples per image; more give a tighter bound.",
        ),
    ] = 50,
    seed: SeedOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Score a checkpoint on its test set, by the ELBO and by importance weighting."""
    from vae_ref.model import VAE
    from vae_ref.plan import Plan
    from vae_ref.running.run import Run
    from vae_ref.running.training import evaluate, log_likelihood
    from vae_ref.support.denormals import denormals_flushed

    run, output = Run.load(checkpoint, device=_device(device)), Output()
    test = _load(run.recipe.dataset, data, train=False).to(_device(device))
    plan = run.plan if seed is None else Plan(seed)
    with denormals_flushed():
        averages = evaluate(run.model, test, plan.test_noise(len(test), run.model.latent_dim))
        output.print(
            f"{checkpoint}: {run.recipe.model}, {run.recipe.likelihood}, "
            f"{say('epoch')} {run.epoch}"
        )
        output.print(
            say(
                "{count} test images of {dataset}, nats per example",
                count=len(test),
                dataset=run.recipe.dataset,
            )
        )
        scores = {say("reconstruction"): averages.reconstruction}
        if isinstance(run.model, VAE):
            bound = log_likelihood(run.model, test, samples=samples, plan=plan)
            scores[say("KL divergence")] = averages.divergence
            scores[say("ELBO")] = -sum(averages)
            scores[f"log p(x), K = {samples}"] = bound.mean().item()
        for name, score in scores.items():
            output.print(f"{set_cell_size(name, 22)}{score:10.3f}")


def sample_command(
    checkpoint: CheckpointArgument,
    *,
    data: DataOption = Path("data"),
    count: Annotated[
        int, typer.Option(min=1, max=10_000, help="The number of prior samples.")
    ] = 64,
    seed: SeedOption = None,
    device: DeviceOption = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The directory to write to.",
            show_default="samples/ next to CHECKPOINT",
        ),
    ] = None,
) -> None:
    """Draw prior samples, interpolations and, if the latent space is a plane, the plane."""
    from vae_ref.data import DataError
    from vae_ref.plan import Plan
    from vae_ref.running import pictures
    from vae_ref.running.directory import draw_latent_space
    from vae_ref.running.run import Run

    run = Run.load(checkpoint, device=_device(device))
    out = out or checkpoint.parent / "samples"
    out.mkdir(parents=True, exist_ok=True)
    plan = run.plan if seed is None else Plan(seed)
    eps = plan.prior(count, run.model.latent_dim)
    pictures.samples(out / "sample.png", run.model, eps, run.size)
    try:
        test = _load(run.recipe.dataset, data, train=False).to(run.model.device)
    except DataError as error:
        complain(say("pictures with test images are not drawn. {why}", why=error))
        test = None
    draw_latent_space(out, run, test)
    Output().print(say("pictures are in {directory}", directory=out))


def _device(name: str) -> "torch.device":
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device", "be available", name, "Use cpu or auto.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _load(dataset: DatasetName, root: Path, *, train: bool) -> "ImageSet":
    from vae_ref.data import DataError, fashion_mnist, mnist
    from vae_ref.data.glyphs import glyphs

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
