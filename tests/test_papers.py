"""The recipes of published figures: what they compute, that they resume, and how far they fall."""

import dataclasses
import io
import itertools
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy import stats
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.papers import iwae, iwae_training
from benchmarks.papers.iwae_model import (
    BINARISATION,
    active_units,
    binarised,
    binarised_test,
    bound,
    log_weights,
    mean_logits,
    negative_log_likelihood,
    network,
)
from benchmarks.papers.iwae_training import (
    ENDS,
    SCHEDULE,
    Evaluation,
    Settings,
    Training,
    follow,
    learning_rate,
    record_of,
)
from vae_ref import ImageSet, InputError, Plan, glyphs
from vae_ref.running import checkpoint
from vae_ref.running.checkpoint import CheckpointError
from vae_ref.running.training import DivergenceError

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
SETTINGS = Settings(objective="iwae", k=5, train_images=50)  # a short last minibatch of ten
EVALUATION = Evaluation(samples=3, images=12)
TRAIN, TEST = glyphs(60), glyphs(20, seed=1)


def tiny(**changes) -> Training:
    return Training.start(dataclasses.replace(SETTINGS, **changes), TRAIN, device=CPU)


def grey(count: int, level: int = 128) -> ImageSet:
    images = torch.full((count, 784), level, dtype=torch.uint8)
    return ImageSet(images, torch.zeros(count, dtype=torch.long), (28, 28))


# The published schedule.


def test_the_schedule_has_the_papers_3280_epochs():
    assert sum(epochs for epochs, _ in SCHEDULE) == ENDS[-1] == 3280
    assert [epochs for epochs, _ in SCHEDULE] == [1, 3, 9, 27, 81, 243, 729, 2187]


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [
        (1, 1e-3),
        (2, 1e-3 * 10 ** (-1 / 7)),
        (4, 1e-3 * 10 ** (-1 / 7)),
        (5, 1e-3 * 10 ** (-2 / 7)),
        (1093, 1e-3 * 10 ** (-6 / 7)),
        (1094, 1e-4),
        (3280, 1e-4),
    ],
)
def test_the_learning_rate_changes_with_the_stage(epoch, rate):
    assert learning_rate(epoch) == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize("epochs", [1, 2])
def test_an_epoch_is_trained_by_adam_at_its_learning_rate(epochs):
    run = tiny()
    for _ in range(epochs):
        run.run_epoch()
    (group,) = run.optimizer.param_groups
    assert (group["lr"], group["betas"], group["eps"]) == (
        learning_rate(epochs),
        (0.9, 0.999),
        1e-4,
    )
    steps = {int(state["step"]) for state in run.optimizer.state.values()}
    assert steps == {epochs * 3}, "minibatches of 20, 20 and 10"


# The network.


def test_the_network_is_784_200_200_50_and_back_with_tanh():
    model = network(TRAIN, Plan(0))
    chain = [*model.encoder, model.mu, *model.decoder]
    shapes = [tuple(layer.weight.shape[::-1]) for layer in chain if isinstance(layer, nn.Linear)]
    assert shapes == [(784, 200), (200, 200), (200, 50), (50, 200), (200, 200), (200, 784)]
    kinds = [type(layer) for layer in (*model.encoder, *model.decoder)]
    assert kinds == [nn.Linear, nn.Tanh] * 4 + [nn.Linear]
    assert model.logvar.weight.shape == (50, 200)


def test_the_encoder_puts_out_log_sigma():
    model = network(TRAIN, Plan(0))
    x = torch.rand(3, 784)
    log_sigma = model.encoder(x) @ model.logvar.weight.T + model.logvar.bias
    torch.testing.assert_close(torch.exp(model.encode(x)[1] / 2), log_sigma.exp())


def test_weights_are_glorots_and_biases_zero_but_the_pixels():
    model = network(TRAIN, Plan(0))
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear):
            limit = (6 / sum(layer.weight.shape)) ** 0.5
            largest = layer.weight.abs().max().item()
            assert 0.99 * limit < largest <= limit
            expected = mean_logits(TRAIN) if name == "decoder.4" else torch.zeros_like(layer.bias)
            torch.testing.assert_close(layer.bias.data, expected)


def test_pixels_start_at_the_training_mean():
    logits = mean_logits(TRAIN)
    mean = (TRAIN.images.numpy() / 255).mean(0).clip(0.001, 0.999)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits.numpy())), mean, rtol=1e-10)


def test_initial_weights_are_a_function_of_the_seed_and_no_layer_repeats_another():
    one, same, other = (network(TRAIN, Plan(seed)).state_dict() for seed in (0, 0, 1))
    assert all(one[name].equal(same[name]) for name in one)
    assert not one["mu.weight"].equal(other["mu.weight"])
    assert not one["mu.weight"].equal(one["logvar.weight"])


# The objectives.


def log_w_by_distributions(model, x, eps) -> torch.Tensor:
    """One sample at a time, from torch.distributions and the layers themselves."""
    h = model.encoder(x)
    q = torch.distributions.Normal(model.mu(h), torch.exp(model.logvar(h) / 2))
    rows = []
    for noise in eps:
        z = q.loc + q.scale * noise
        p = torch.distributions.Bernoulli(logits=model.decoder(z))
        prior = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
        rows.append(p.log_prob(x).sum(-1) + prior - q.log_prob(z).sum(-1))
    return torch.stack(rows)


@pytest.fixture
def batch():
    torch.manual_seed(0)
    model = network(TRAIN, Plan(0), hidden_dim=7, latent_dim=3)
    return model, (torch.rand(4, 784) < 0.3).to(torch.float64)


@pytest.mark.parametrize("k", [1, 5])
def test_log_weights_are_those_of_torch_distributions(batch, k):
    model, x = batch
    eps = torch.randn(k, 4, 3)
    torch.testing.assert_close(
        log_weights(model, x, eps), log_w_by_distributions(model, x, eps), rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("objective", ["vae", "iwae"])
def test_the_gradient_is_the_weighted_sum_of_the_log_weights_gradients(batch, objective, k):
    r"""For the IWAE :math:`\sum_k \tilde w_k \nabla \log w_k`, for the VAE their mean."""
    model, x = batch
    eps = torch.randn(k, 4, 3)
    parameters = list(model.parameters())
    log_w = log_w_by_distributions(model, x, eps)
    w = np.exp(log_w.detach().numpy() - log_w.detach().numpy().max(0))
    share = w / w.sum(0) if objective == "iwae" else np.full_like(w, 1 / k)
    expected = [torch.zeros_like(parameter) for parameter in parameters]
    for i, n in itertools.product(range(k), range(4)):
        gradients = torch.autograd.grad(log_w[i, n], parameters, retain_graph=True)
        for total, gradient in zip(expected, gradients, strict=True):
            total += share[i, n] * gradient
    value = bound(log_weights(model, x, eps), objective).sum()
    gradients = torch.autograd.grad(value, parameters)
    torch.testing.assert_close(list(gradients), expected, rtol=1e-8, atol=1e-10)


def test_the_values_are_the_mean_and_the_log_mean_exp():
    log_w = torch.tensor([[0.0, -1000.0], [np.log(3.0), -1000.0]])
    torch.testing.assert_close(bound(log_w, "vae"), torch.tensor([np.log(3.0) / 2, -1000.0]))
    torch.testing.assert_close(bound(log_w, "iwae"), torch.tensor([np.log(2.0), -1000.0]))


def parameters_after(epochs: int, **changes) -> dict[str, torch.Tensor]:
    run = tiny(**changes)
    for _ in range(epochs):
        run.run_epoch()
    return run.model.state_dict()


def test_with_one_sample_vae_and_iwae_are_one_training_bit_for_bit():
    vae, same = (parameters_after(2, objective=name, k=1) for name in ("vae", "iwae"))
    assert all(vae[name].equal(same[name]) for name in vae)


def test_with_five_samples_they_are_two():
    vae, other = (parameters_after(1, objective=name, k=5) for name in ("vae", "iwae"))
    assert not vae["mu.weight"].equal(other["mu.weight"])


def test_the_training_bound_is_the_objectives_mean_over_the_epoch():
    """At a learning rate of zero the parameters stay, and the bound is that of one model."""
    run = tiny()
    run.optimizer.step = lambda: None
    run.run_epoch()
    order, lit = run.plan.permutation(1, 50), binarised(run.train.images, run.plan, 1)
    noise = torch.randn(5, 50, 50, generator=run.plan.generator("noise", 1), dtype=torch.float32)
    log_w = log_w_by_distributions(run.model, lit[order].double(), noise.double())
    expected = (torch.logsumexp(log_w, 0) - np.log(5)).mean().item()
    assert run.train_bound == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("objective", ["vae", "iwae"])
def test_a_step_ascends_the_sum_over_the_minibatch(objective):
    """Not its mean: with the paper's epsilon the scale decides how far Adam goes."""
    run = tiny(objective=objective, train_images=20)
    run.optimizer.step = lambda: None
    run.run_epoch()
    order, lit = run.plan.permutation(1, 20), binarised(run.train.images, run.plan, 1)
    noise = torch.randn(5, 20, 50, generator=run.plan.generator("noise", 1), dtype=torch.float32)
    log_w = log_w_by_distributions(run.model, lit[order].double(), noise.double())
    value = log_w.mean(0) if objective == "vae" else torch.logsumexp(log_w, 0)
    expected = torch.autograd.grad(-value.sum(), list(run.model.parameters()))
    found = [parameter.grad for parameter in run.model.parameters()]
    torch.testing.assert_close(found, list(expected), rtol=1e-8, atol=1e-10)


def test_a_bound_that_is_not_finite_stops_the_run():
    run = tiny()
    nn.init.constant_(run.model.mu.bias, torch.nan)
    with pytest.raises(DivergenceError, match="the bound is nan in epoch 1"):
        run.run_epoch()
    assert run.epoch == 0


# The binarisation.


@pytest.mark.parametrize("level", [1, 64, 128, 254])
def test_a_pixel_is_lit_with_its_own_probability(level):
    lit = int(binarised(grey(100, level).images, Plan(0), 1).sum())
    assert stats.binomtest(lit, 78_400, level / 255).pvalue > 1e-6


@pytest.mark.parametrize(("level", "lit"), [(0, False), (255, True)])
def test_black_and_white_pixels_stay(level, lit):
    assert (binarised(grey(100, level).images, Plan(0), 1) == lit).all()


def test_pixels_and_images_are_binarised_independently():
    lit = binarised(grey(1000).images, Plan(0), 1).double()
    for table in (lit[:, :500], lit[:500].T):
        correlation = np.corrcoef(table.T.numpy())
        off = correlation[~np.eye(len(correlation), dtype=bool)]
        assert np.abs(off).max() < 7 / len(table) ** 0.5


def test_a_binarisation_is_a_function_of_seed_and_epoch():
    images = grey(10).images
    first = binarised(images, Plan(0), 1)
    assert first.equal(binarised(images, Plan(0), 1))
    assert not first.equal(binarised(images, Plan(0), 2))
    assert not first.equal(binarised(images, Plan(1), 1))


def presented(run: Training) -> torch.Tensor:
    """Return the images of one epoch as the network sees them."""
    seen = []
    hook = run.model.encoder.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0]))
    run.run_epoch()
    hook.remove()
    return torch.cat(seen)


def test_each_presentation_is_binarised_anew():
    run = Training.start(dataclasses.replace(SETTINGS, k=1), grey(50), device=CPU)
    first, second = presented(run), presented(run)
    assert set(first.unique().tolist()) == {0, 1}
    patterns = torch.cat([first, second]).unique(dim=0)
    assert len(patterns) == 100, "an image was presented twice in one binarisation"


@pytest.mark.parametrize("epoch", [1, 2])
def test_an_epoch_presents_every_image_once_in_the_plans_order(epoch):
    black_or_white = TRAIN.images // 128 * 255  # what binarisation leaves as it is
    run = Training.start(SETTINGS, dataclasses.replace(TRAIN, images=black_or_white), device=CPU)
    run.epoch = epoch - 1
    order = Plan(0).permutation(epoch, 50)
    assert presented(run).equal(black_or_white[:50][order].double() / 255)


def test_a_test_set_is_binarised_once_for_all_evaluations_of_a_run():
    images = binarised_test(grey(10), Plan(0)).images
    assert images.unique().tolist() == [0, 255]
    assert images.equal(binarised_test(grey(10), Plan(0)).images)
    assert not images.equal(binarised_test(grey(10), Plan(1)).images)
    assert not (images == 255).equal(binarised(grey(10).images, Plan(0), 1))


# The evaluation.


@pytest.mark.parametrize("samples", [1, 7, 60])
def test_where_the_code_is_ignored_the_estimate_is_the_exact_likelihood(samples):
    """Every draw has the same weight if q is the prior and the decoder ignores z."""
    model = network(TRAIN, Plan(0))
    for head in (model.mu, model.logvar):
        nn.init.zeros_(head.weight)
    nn.init.zeros_(model.decoder[-1].weight)
    test = binarised_test(TEST, Plan(0))
    pixels = torch.distributions.Bernoulli(logits=mean_logits(TRAIN))
    exact = -pixels.log_prob(test.images.double() / 255).sum(-1)
    nll = negative_log_likelihood(model, test, Plan(0), samples=samples)
    torch.testing.assert_close(nll, exact, rtol=1e-11, atol=0)


class LargestTensor(TorchDispatchMode):
    """Remembers the elements of the largest tensor that any operation returned."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.elements = max(self.elements, result.numel())
        return result


@pytest.mark.parametrize(("images", "samples"), [(100, 50), (100, 400), (300, 100)])
def test_the_memory_of_an_evaluation_grows_neither_with_images_nor_with_samples(images, samples):
    """It decodes 100 images times 50 samples of 784 pixels at a time."""
    run = Training.start(SETTINGS, TRAIN, device=CPU)
    with LargestTensor() as largest:
        record_of(run, glyphs(images), 1, Evaluation(samples=samples, images=images))
    assert largest.elements == 100 * 50 * 784


@pytest.mark.parametrize("k", [1, 50])
def test_the_noise_of_an_epoch_is_not_in_memory_at_once(k, monkeypatch):
    monkeypatch.setattr(iwae_training, "NOISE_STEPS", 1)
    run = tiny(k=k)
    with LargestTensor() as largest:
        run.run_epoch()
    assert largest.elements == max(k * 20 * 784, 784 * 200)


class Waits(TorchDispatchMode):
    """Counts the values that the host looks at, and the network's steps."""

    values = steps = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        self.values += name == "_local_scalar_dense"
        self.steps += name == "_fused_adam_"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("count", [20, 50])
def test_the_host_waits_for_the_device_once_per_epoch_however_many_its_steps(count, device):
    run = Training.start(dataclasses.replace(SETTINGS, train_images=count), TRAIN, device=device)
    with Waits() as waits:
        run.run_epoch()
    assert (waits.values, waits.steps) == (1, -(-count // 20))


def test_a_unit_is_active_where_its_mean_varies_by_more_than_a_hundredth():
    """Pixels 0 and 1 by halves vary by 1/4, and means that scale them by s**2 / 4."""
    model = network(TRAIN, Plan(0), hidden_dim=784, latent_dim=4)
    model.encoder = nn.Identity()
    scales = torch.tensor([0.0, 0.199, 0.201, -3.0])
    with torch.no_grad():
        model.mu.weight.copy_(torch.diag(scales) @ torch.eye(4, 784))
        model.mu.bias.copy_(torch.tensor([5.0, 0.0, 0.0, 1.0]))
    images = grey(1100, 0).images
    images[::2] = 255
    assert active_units(model, dataclasses.replace(grey(1100), images=images)) == 2


def test_a_record_says_what_was_measured_and_on_what():
    run = tiny()
    run.run_epoch()
    record = record_of(run, TEST, 1, EVALUATION)
    assert record["binarisation"] == BINARISATION
    assert "anew at every presentation; test: " in BINARISATION
    facts = {
        "objective": "iwae",
        "k": 5,
        "seed": 0,
        "stage": 1,
        "epoch": 1,
        "train_images": 50,
        "evaluation_images": 12,
        "evaluation_samples": 3,
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
    }
    assert record.items() >= facts.items()
    assert record["train_bound"] == pytest.approx(run.train_bound, abs=1e-4)
    test = ImageSet(TEST.images[:12], TEST.labels[:12], TEST.size)
    for name, samples in (("test_nll", 3), ("test_negative_elbo", 1)):
        nll = negative_log_likelihood(
            run.model, binarised_test(test, run.plan), run.plan, samples=samples
        )
        assert record[name] == pytest.approx(nll.mean().item(), abs=1e-4)


# Resuming.


def state_of(out: Path) -> tuple[dict, list[dict]]:
    directory = out / SETTINGS.name
    tensors, _facts = checkpoint.load(directory / "checkpoint.safetensors")
    records = iwae_training.read(directory / "records.jsonl")
    return tensors, [{**record, "seconds": None} for record in records]


def go(out: Path, *, stages: int = 2, settings: Settings = SETTINGS) -> list[dict]:
    return follow(settings, TRAIN, TEST, out, stages=stages, evaluation=EVALUATION, device=CPU)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    torch.set_default_dtype(torch.float64)
    out = tmp_path_factory.mktemp("whole")
    go(out)
    return state_of(out)


class Killed(BaseException):
    """As a signal would: nothing catches it."""


def killed_at(monkeypatch, owner, name: str, call: int, *, after: bool) -> None:
    """Have the given call of a function end the process, before or after its work."""
    original, calls = getattr(owner, name), itertools.count(1)

    def deadly(*args):
        if (number := next(calls)) == call and not after:
            raise Killed
        original(*args)
        if number == call:
            raise Killed

    monkeypatch.setattr(owner, name, deadly)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    "point", [("run_epoch", 3), ("save", 1), ("save", 3), ("save", 4), ("write", 1)], ids=str
)
def test_a_run_killed_anywhere_goes_on_to_the_same_bits(
    uninterrupted, tmp_path, monkeypatch, point, after
):
    function, call = point
    with monkeypatch.context() as patch:
        owner = iwae_training if function == "write" else Training
        killed_at(patch, owner, function, call, after=after)
        with pytest.raises(Killed):
            go(tmp_path)
    go(tmp_path)
    tensors, records = state_of(tmp_path)
    expected, expected_records = uninterrupted
    assert tensors.keys() == expected.keys()
    assert all(tensors[name].equal(expected[name]) for name in expected)
    assert records == expected_records
    assert [record["epoch"] for record in records] == [1, 4]


def test_more_stages_continue_a_run(uninterrupted, tmp_path):
    assert [record["stage"] for record in go(tmp_path, stages=1)] == [1]
    assert [record["stage"] for record in go(tmp_path, stages=2)] == [1, 2]
    tensors, _records = state_of(tmp_path)
    assert all(tensors[name].equal(uninterrupted[0][name]) for name in tensors)


def test_a_finished_run_is_left_as_it_is(tmp_path, monkeypatch):
    records = go(tmp_path, stages=1)
    monkeypatch.setattr(Training, "run_epoch", None)
    monkeypatch.setattr(iwae_training, "record_of", None)
    assert go(tmp_path, stages=1) == records


def test_a_directory_belongs_to_one_computation(tmp_path):
    go(tmp_path, stages=1)
    other = dataclasses.replace(SETTINGS, train_images=40)
    with pytest.raises(InputError, match=r"(?s)settings must be those of .*'train_images': 50"):
        go(tmp_path, stages=1, settings=other)


def test_a_lost_record_is_not_made_up(tmp_path):
    go(tmp_path)
    (tmp_path / SETTINGS.name / "records.jsonl").unlink()
    with pytest.raises(CheckpointError, match="records.jsonl lacks stage 1"):
        go(tmp_path)


def test_a_run_has_the_images_that_its_settings_say():
    with pytest.raises(InputError, match="train_images must lie in 1 to 60; got 61"):
        tiny(train_images=61)


def test_there_is_one_line_per_epoch(tmp_path, capsys):
    go(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert [re.search(r"epoch (\d)/3280", line)[1] for line in lines] == ["1", "2", "3", "4"]


# The report and the command.


def whole_record(**changes) -> dict:
    return {
        "objective": "iwae",
        "k": 5,
        "seed": 0,
        "epoch": 3280,
        "train_images": 59_600,
        "batch_size": 20,
        "evaluation_samples": 5000,
        "evaluation_images": 10_000,
        "test_nll": 12.3456,
        "active_units": 7,
        **changes,
    }


def reported(records: list[dict]) -> list[str]:
    console = Console(file=io.StringIO(), width=200)
    iwae.report(records, console=console)
    return console.file.getvalue().splitlines()


def row(records: list[dict], objective: str, k: int) -> str:
    (line,) = (line for line in reported(records) if re.search(rf"│ {objective} +│ {k} +│", line))
    return line


@pytest.mark.parametrize(
    ("objective", "k", "published"),
    [
        ("VAE", 1, 86.76),
        ("VAE", 5, 86.47),
        ("VAE", 50, 86.35),
        ("IWAE", 1, 86.76),
        ("IWAE", 5, 85.54),
        ("IWAE", 50, 84.78),
    ],
)
def test_the_report_has_the_published_figures_and_says_what_was_not_run(objective, k, published):
    line = row([], objective, k)
    assert str(published) in line
    assert "not run" in line


def test_the_report_names_the_source_and_the_binarisation():
    lines = reported([])
    assert f"Published: {iwae.SOURCE}." in lines
    assert f"Binarisation: {BINARISATION}." in lines


def test_a_whole_run_is_reported():
    assert "12.35" in row([whole_record()], "IWAE", 5)
    assert "not run" not in row([whole_record()], "IWAE", 5)
    assert "not run" in row([whole_record()], "VAE", 5)


def test_several_seeds_are_averaged():
    records = [whole_record(), whole_record(seed=1, test_nll=14.3456)]
    assert "13.35 (2 seeds)" in row(records, "IWAE", 5)


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": 1093},
        {"train_images": 30_000},
        {"batch_size": 100},
        {"evaluation_samples": 200},
        {"evaluation_images": 1000},
    ],
    ids=str,
)
def test_a_lesser_run_is_not_set_beside_the_published_figure(change):
    line = row([whole_record(**change)], "IWAE", 5)
    assert "not run" in line
    (value,) = change.values()
    assert str(value) in line or change == {"batch_size": 100}


def test_the_command_reports(tmp_path):
    directory = tmp_path / "iwae-k5-seed0"
    directory.mkdir()
    iwae_training.write(directory / "records.jsonl", [whole_record(test_nll=11.1111)])
    arguments = "-m", "benchmarks.papers.iwae", "--report", "--out", str(tmp_path)
    result = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "11.11" in result.stdout
    assert "84.78" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name --objective and --k"),
        (["--objective", "vae", "--k", "0"], "name --objective and --k"),
        (["--objective", "vae", "--k", "1", "--data", "nowhere"], "MNIST is not in nowhere"),
    ],
    ids=str,
)
def test_the_command_says_in_one_line_what_is_missing(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        iwae.main([*arguments, "--out", str(tmp_path)])
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_the_command_trains_the_stages_it_is_told_and_resumes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(iwae, "mnist", lambda _root, *, train: TRAIN if train else TEST)
    arguments = "--objective iwae --k 5 --train-images 50 --device cpu --evaluation-samples 3"
    words = [*arguments.split(), "--evaluation-images", "12", "--out", str(tmp_path)]
    iwae.main([*words, "--stages", "1"])
    iwae.main([*words, "--stages", "2"])
    tensors, records = state_of(tmp_path)
    whole = tmp_path / "whole"
    go(whole)
    assert records == state_of(whole)[1]
    assert all(tensors[name].equal(state_of(whole)[0][name]) for name in tensors)
    lines = capsys.readouterr().out.splitlines()
    assert any("4/3280 on 50 images" in line and "by L_3 of 12" in line for line in lines)


def test_the_shortened_runs_are_collected_and_not_repeated(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(iwae, "mnist", lambda _root, *, train: TRAIN if train else TEST)
    monkeypatch.setattr(iwae, "SHORT_TRAIN_IMAGES", 50)
    monkeypatch.setattr(iwae, "SHORT_EVALUATION", EVALUATION)
    results = tmp_path / "short.jsonl"
    iwae.short("", tmp_path, 1, results=results)
    records = iwae_training.read(results)
    found = {(r["objective"], r["k"], r["seed"], r["stage"]) for r in records}
    assert found == {(o, k, 0, stage) for o, k in iwae.SHORT_RUNS for stage in (1, 2)}
    assert len(records) == 6
    capsys.readouterr()
    iwae.short("", tmp_path, 2, results=results)
    assert "seed0" not in capsys.readouterr().out
    assert iwae_training.read(results)[:6] == records
    assert len(iwae_training.read(results)) == 12


# What was measured: the shortened runs of benchmarks/results/iwae_short.jsonl.

MEASURED = iwae_training.read(iwae.SHORT_RESULTS)
SEEDS = 10


def measured(quantity: str, objective: str, k: int, stage: int) -> np.ndarray:
    """Return a quantity, one value for each seed in order."""
    key = objective, k, stage
    found = [r for r in MEASURED if (r["objective"], r["k"], r["stage"]) == key]
    assert sorted(r["seed"] for r in found) == list(range(SEEDS))
    return np.array([r[quantity] for r in sorted(found, key=lambda r: r["seed"])])


def standard_errors(difference: np.ndarray) -> float:
    return difference.mean() / (difference.std(ddof=1) / len(difference) ** 0.5)


def test_every_measured_figure_names_its_binarisation():
    assert {record["binarisation"] for record in MEASURED} == {BINARISATION}


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize(("objective", "k"), iwae.SHORT_RUNS)
def test_shortened_runs_stay_above_the_published_final_value(objective, k, stage):
    assert measured("test_nll", objective, k, stage).min() > iwae.PUBLISHED[objective, k]


@pytest.mark.parametrize("quantity", ["test_nll", "test_negative_elbo"])
@pytest.mark.parametrize(("objective", "k"), iwae.SHORT_RUNS)
def test_they_fall_from_stage_to_stage(objective, k, quantity):
    fall = measured(quantity, objective, k, 1) - measured(quantity, objective, k, 2)
    assert fall.min() > 0


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize(("objective", "k"), iwae.SHORT_RUNS)
def test_more_samples_bound_more_tightly(objective, k, stage):
    """L_200 exceeds L_1 of the same model."""
    gap = measured("test_negative_elbo", objective, k, stage) - measured(
        "test_nll", objective, k, stage
    )
    assert gap.min() > 0


@pytest.mark.parametrize(("stage", "least"), [(1, 3), (2, 5)])
def test_five_weighted_samples_train_better_than_one_by_many_standard_errors(stage, least):
    """Of the mean over seeds of the difference in -log p(x), each seed paired with itself."""
    gain = measured("test_nll", "iwae", 1, stage) - measured("test_nll", "iwae", 5, stage)
    assert standard_errors(gain) > least
    bounds = measured("train_bound", "iwae", 5, stage) - measured("train_bound", "iwae", 1, stage)
    assert standard_errors(bounds) > least


def test_so_early_five_samples_of_the_elbo_are_ahead_of_five_weighted_ones():
    """As docs/papers.md says: the order of the published table is that of whole trainings."""
    lead = measured("test_nll", "iwae", 5, 2) - measured("test_nll", "vae", 5, 2)
    assert standard_errors(lead) > 5


# The shortened run itself. Its seed is not among those measured, so that it is a draw of its own,
# which leaves one of the intervals with a probability of 1e-4, if runs are normal over seeds.

NEW_SEED = 100
QUANTITIES = ("test_nll", "test_negative_elbo", "train_bound")
ALPHA = 1e-4 / (len(QUANTITIES) * 4)


def interval(quantity: str, k: int, stage: int) -> tuple[float, float]:
    """Predict one more seed from those measured: mean -+ t s sqrt(1 + 1 / n)."""
    values = measured(quantity, "iwae", k, stage)
    t = stats.t.isf(ALPHA / 2, len(values) - 1)
    reach = t * values.std(ddof=1) * np.sqrt(1 + 1 / len(values))
    return values.mean() - reach, values.mean() + reach


@pytest.mark.parametrize(("k", "stage", "shift"), [(1, 1, 7), (1, 2, 5), (5, 1, 7.1), (5, 2, 3)])
def test_what_the_intervals_find(k, stage, shift):
    """A shift of -log p(x) by so many nats, with probability 1 - 1e-4; exact errors are above."""
    low, high = interval("test_nll", k, stage)
    deviation = measured("test_nll", "iwae", k, stage).std(ddof=1)
    assert (high - low) / 2 + stats.norm.isf(1e-4) * deviation < shift


@pytest.fixture(scope="module")
def shortened(mnist_sets, tmp_path_factory):
    """Train the IWAE with 1 and 5 samples, as they were measured; its records and its model."""
    before, out = torch.get_default_dtype(), tmp_path_factory.mktemp("short")
    torch.set_default_dtype(torch.float32)
    runs = {}
    for k in (1, 5):
        settings = iwae.short_settings("iwae", k, NEW_SEED)
        records = follow(
            settings,
            *mnist_sets,
            out,
            stages=iwae.SHORT_STAGES,
            evaluation=iwae.SHORT_EVALUATION,
            device=CPU,
        )
        path = out / settings.name / "checkpoint.safetensors"
        runs[k] = records, Training.load(path, settings, mnist_sets[0], device=CPU)
    torch.set_default_dtype(before)
    return runs


def likelihoods(run: Training, test: ImageSet, samples: int) -> np.ndarray:
    """Return -L_K of each of the evaluated test images."""
    count = iwae.SHORT_EVALUATION.images
    test = ImageSet(test.images[:count], test.labels[:count], test.size)
    test = binarised_test(test, run.plan)
    return negative_log_likelihood(run.model, test, run.plan, samples=samples).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("k", [1, 5])
def test_a_shortened_run_follows_the_measured_curve(shortened, k, stage, quantity):
    low, high = interval(quantity, k, stage)
    assert low <= shortened[k][0][stage - 1][quantity] <= high


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 5])
def test_a_shortened_run_falls_towards_the_published_value_from_above(shortened, k):
    first, second = (record["test_nll"] for record in shortened[k][0])
    assert first > second > iwae.PUBLISHED["iwae", k]


@pytest.mark.slow
def test_five_weighted_samples_are_ahead_of_one_by_five_standard_errors(shortened, mnist_sets):
    """Of the mean over the test images of the difference in -log p(x), image by image."""
    one, five = (likelihoods(shortened[k][1], mnist_sets[1], 200) for k in (1, 5))
    assert standard_errors(one - five) > 5


@pytest.mark.slow
@pytest.mark.parametrize(("fewer", "more"), [(1, 5), (5, 50), (50, 200)])
def test_the_bound_rises_with_its_samples(shortened, mnist_sets, fewer, more):
    """By three standard errors of the mean over the test images."""
    low, high = (likelihoods(shortened[5][1], mnist_sets[1], samples) for samples in (more, fewer))
    assert standard_errors(high - low) > 3
