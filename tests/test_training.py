import dataclasses
import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vae_ref import (
    VAE,
    ImageSet,
    InputError,
    Plan,
    Recipe,
    Run,
    evaluate,
    fit,
    glyphs,
    log_likelihood,
)
from vae_ref.engines import eager
from vae_ref.running.training import DivergenceError
from vae_ref.support.denormals import denormals_flushed

SMALL = Recipe(dataset="glyphs", hidden_dim=32, latent_dim=3)


@pytest.mark.parametrize(("beta", "size", "epoch"), [(1.0, 128, 1), (4.0, 50, 2)])
def test_an_epoch_is_the_textbooks_loop(small, beta, size, epoch):
    """The same steps written out, with torch's default Adam and a summed loss."""
    train, plan = small[0], Plan(0)
    run = Run.start(SMALL, (28, 28))
    loss = eager.run_epoch(
        run.model, run.optimizer, train, plan, epoch, batch_size=size, beta=beta
    )

    model = SMALL.build(784)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    order, noise = plan.permutation(epoch, 600), plan.noise(epoch, 600, 3).to(model.dtype)
    total, seen = 0.0, 0
    for start in range(0, 600, size):
        x = train.images[order[start : start + size]].to(model.dtype) / 255
        optimizer.zero_grad()
        reconstruction, divergence = model.terms(x, noise[start : start + size])
        expected = (reconstruction + beta * divergence).sum()
        expected.backward()
        optimizer.step()
        total += expected.item()
        seen += len(x)
    assert seen == 600
    assert loss == pytest.approx(total / 600, rel=1e-12)
    for ours, theirs in zip(run.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_records_are_of_the_whole_test_set_at_the_end_of_each_epoch(small):
    run = Run.start(dataclasses.replace(SMALL, beta=4.0), (28, 28))
    for number, record in enumerate(fit(run, *small, epochs=2), start=1):
        assert record.epoch == run.epoch == number
        averages = evaluate(run.model, small[1], run.plan.test_noise(200, 3))
        found = record.test_reconstruction, record.test_kl
        assert found == pytest.approx(averages, rel=1e-14)
        assert record.test_loss == record.test_reconstruction + 4 * record.test_kl
        assert record.examples_per_second == 600 / record.seconds


@pytest.mark.parametrize("engine", ["eager", "analytic", "native"])
def test_progress_is_told_after_every_step(small, single_precision, engine):
    told = []
    run = Run.start(dataclasses.replace(SMALL, batch_size=250), (28, 28), engine=engine)
    list(fit(run, *small, epochs=2, progress=told.append))
    assert told == [250, 500, 600] * 2


@pytest.mark.parametrize("engine", ["eager", "analytic", "native"])
def test_torchs_default_device_decides_nothing(tmp_path, engine):
    """What is random comes from generators of the CPU; on "meta" no number exists at all."""

    def everything():
        train, test = glyphs(200), glyphs(50, seed=1)
        run = Run.start(SMALL, (28, 28), engine=engine)
        records = list(fit(run, train, test, epochs=1))
        run.save(tmp_path / "c.safetensors")
        again = Run.load(tmp_path / "c.safetensors", engine=engine)
        records += fit(again, train, test, epochs=2)
        bound = log_likelihood(again.model, test, samples=2, plan=run.plan)
        return [(r.train_loss, r.test_loss) for r in records], bound.tolist()

    expected = everything()
    torch.set_default_device("meta")
    try:
        assert everything() == expected
    finally:
        torch.set_default_device(None)


def test_training_learns(small):
    run = Run.start(dataclasses.replace(SMALL, learning_rate=1e-2), (28, 28))
    records = list(fit(run, *small, epochs=6))
    assert records[-1].train_loss < records[0].train_loss / 1.5
    assert records[-1].test_loss < records[0].test_loss


@pytest.mark.parametrize("chunk", [1, 7, 64, 200, 1000])
def test_averages_do_not_depend_on_the_chunks(small, chunk, device):
    model, data = VAE().to(device), small[1].to(device)
    eps = torch.randn(200, 20)
    x = data.batch(torch.arange(200, device=device), torch.float64)
    expected = [term.mean().item() for term in model.terms(x, eps.to(device))]
    assert evaluate(model, data, eps, chunk=chunk) == pytest.approx(expected, rel=1e-12)


def test_the_bound_of_one_sample_is_the_elbo_and_of_more_is_higher(small):
    run = Run.start(dataclasses.replace(SMALL, learning_rate=1e-2), (28, 28))
    list(fit(run, *small, epochs=6))
    # The noise of both estimates: differences of log w around the ELBO, one per example.
    elbos = [-sum(evaluate(run.model, small[1], Plan(s).test_noise(200, 3))) for s in range(20)]
    one, many = (
        log_likelihood(run.model, small[1], samples=k, plan=run.plan).mean() for k in (1, 120)
    )
    spread = torch.tensor(elbos).std().item()
    assert one.item() == pytest.approx(sum(elbos) / 20, abs=10 * spread)
    assert many > one


@pytest.mark.parametrize("samples", [1, 49, 50, 51, 100])
def test_a_bound_of_k_samples_uses_k(small, samples):
    """With a decoder that ignores z and q equal to the prior, every bound is log p(x) exactly."""
    model = VAE(latent_dim=2)
    for parameter in (*model.mu.parameters(), *model.logvar.parameters()):
        torch.nn.init.zeros_(parameter)
    torch.nn.init.zeros_(model.decoder[0].weight)
    x = small[1].batch(torch.arange(150), torch.float64)
    exact = -model.terms(x, torch.zeros(150, 2)).loss()
    data = ImageSet(small[1].images[:150], small[1].labels[:150], (28, 28))
    bound = log_likelihood(model, data, samples=samples, plan=Plan(0))
    torch.testing.assert_close(bound, exact.detach(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("samples", [3, 60])
def test_a_bound_is_the_log_mean_of_independent_weights(small, samples):
    """Against a loop over images and samples, with noise of its own for each."""
    torch.manual_seed(0)
    model = VAE(latent_dim=2)
    data = ImageSet(small[1].images[:120], small[1].labels[:120], (28, 28))
    bound = log_likelihood(model, data, samples=samples, plan=Plan(5))
    generator = Plan(5).generator("importance")
    drawn = []
    for chunk in torch.arange(120).split(100):
        parts = [
            torch.randn(
                min(50, samples - k), len(chunk), 2, generator=generator, dtype=torch.float32
            )
            for k in range(0, samples, 50)
        ]
        drawn.append(torch.cat(parts).double())
    eps = torch.cat(drawn, 1)
    assert len(set(eps.flatten().tolist())) > 0.999 * eps.numel(), "noise is shared"
    normal = torch.distributions.Normal
    for n in (0, 1, 99, 100, 119):
        x = data.batch(torch.tensor([n]), torch.float64)
        mu, logvar = model.encode(x)
        sigma = torch.exp(logvar / 2)
        weights = []
        for k in range(samples):
            z = mu + sigma * eps[k, n]
            p = torch.distributions.Bernoulli(logits=model.decoder(z), validate_args=False)
            log_p = p.log_prob(x).sum() + normal(0.0, 1.0).log_prob(z).sum()
            weights.append((log_p - normal(mu, sigma).log_prob(z).sum()).item())
        expected = torch.tensor(weights).logsumexp(0) - math.log(samples)
        torch.testing.assert_close(bound[n], expected, rtol=1e-12, atol=0)


class LargestTensor(TorchDispatchMode):
    """Remembers the elements of the largest tensor that any operation returned."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.elements = max(self.elements, result.numel())
        return result


@pytest.mark.slow
@pytest.mark.parametrize(("images", "samples"), [(100, 50), (100, 400), (300, 100)])
def test_the_memory_of_a_bound_grows_neither_with_images_nor_with_samples(images, samples):
    """It decodes 100 images times 50 samples of 784 pixels at a time."""
    data, plan = glyphs(images), Plan(0)
    with LargestTensor() as largest:
        log_likelihood(VAE(), data, samples=samples, plan=plan)
    assert largest.elements == 100 * 50 * 784


@pytest.mark.parametrize("samples", [0, -1])
def test_no_sample_is_no_bound(small, samples):
    with pytest.raises(InputError, match=f"^samples must be a positive integer; got {samples}"):
        log_likelihood(VAE(), small[1], samples=samples, plan=Plan(0))


@pytest.mark.parametrize("empty", ["train", "test"])
def test_an_empty_set(small, empty):
    nothing = glyphs(0)
    sets = (nothing, small[1]) if empty == "train" else (small[0], nothing)
    with pytest.raises(InputError, match=f"^{empty} must hold an image"):
        list(fit(Run.start(SMALL, (28, 28)), *sets, epochs=1))


def test_a_test_loss_that_diverges_stops_a_training_too(small):
    torch.set_default_dtype(torch.float32)
    recipe = dataclasses.replace(SMALL, learning_rate=1e18, batch_size=600)
    run = Run.start(recipe, (28, 28))
    with pytest.raises(DivergenceError, match="the test loss is (nan|inf) in epoch 1"):
        list(fit(run, *small, epochs=1))
    assert run.epoch == 0


def test_a_training_that_diverges_stops_and_says_so(small):
    run = Run.start(dataclasses.replace(SMALL, learning_rate=1e18), (28, 28))
    with pytest.raises(DivergenceError, match=r"is (nan|inf) in epoch 1.*\(it is 1e\+18\)"):
        list(fit(run, *small, epochs=2))
    assert run.epoch == 0


def test_nothing_happens_between_two_records(small):
    run = Run.start(SMALL, (28, 28))
    records = fit(run, *small, epochs=3)
    assert run.epoch == 0
    next(records)
    assert run.epoch == 1


class _Counter(TorchDispatchMode):
    """Counts operations by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        self.counts[name] = self.counts.get(name, 0) + 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("count", [128, 600])
def test_the_host_waits_once_per_epoch_however_many_steps_it_has(small, count):
    """Every .item(), and every look at a value in Python, is a `_local_scalar_dense`."""
    train = ImageSet(small[0].images[:count], small[0].labels[:count], (28, 28))
    run = Run.start(SMALL, (28, 28))
    with _Counter() as counter:
        eager.run_epoch(run.model, run.optimizer, train, Plan(0), 1, batch_size=128, beta=1.0)
    assert counter.counts["addmm"] % math.ceil(count / 128) == 0, "not the steps it should have"
    assert counter.counts["_local_scalar_dense"] == 1


def test_denormals_are_flushed_for_as_long_as_asked():
    smallest = torch.tensor(torch.finfo(torch.float32).tiny, dtype=torch.float32)
    with denormals_flushed():
        assert smallest / 2 == 0
    assert smallest / 2 > 0


def test_flushing_denormals_changes_no_parameter(small):
    plain, flushed = Run.start(SMALL, (28, 28)), Run.start(SMALL, (28, 28))
    list(fit(plain, *small, epochs=2))
    with denormals_flushed():
        list(fit(flushed, *small, epochs=2))
    for ours, theirs in zip(flushed.model.parameters(), plain.model.parameters(), strict=True):
        assert ours.equal(theirs)
