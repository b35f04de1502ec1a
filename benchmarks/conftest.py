"""What every benchmark may ask for: it measures what users run, and says on what."""

from pathlib import Path

import jaxtyping
import pytest
import torch

from vae_ref.engines.platform import denormals_flushed
from vae_ref.support import provenance

# Their examples are none, and not all of them can be imported everywhere.
collect_ignore = [p for p in Path(__file__).parent.rglob("*.py") if not p.name.startswith("test_")]


@pytest.fixture(autouse=True, scope="module")
def single_precision():
    """Fixtures of modules are made before any test's own."""
    torch.set_default_dtype(torch.float32)


@pytest.fixture(autouse=True)
def as_users_run(double_precision):
    """Compute in single precision, and do not let the type checker look at every call."""
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    jaxtyping.config.update("jaxtyping_disable", True)
    with denormals_flushed():
        yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def surroundings():
    return {
        name: provenance.record(threads=torch.get_num_threads(), device=name)
        for name in ("cpu", "cuda")
    }


@pytest.fixture
def measure(benchmark, device, surroundings):
    """Measure a call, which is over when the device is idle; return what the last one returned.

    Pass ``rounds`` for a call that does not do the same when repeated, or takes long.
    """

    def run(group, call, *arguments, rounds=0, warmup=0):
        def complete():
            result = call(*arguments)
            if device.type == "cuda":
                torch.cuda.synchronize()
            return result

        benchmark.group = f"{group} on {device.type}"
        benchmark.extra_info.update(surroundings[device.type])
        if not rounds:
            return benchmark(complete)
        return benchmark.pedantic(complete, rounds=rounds, warmup_rounds=warmup)

    return run


def pytest_benchmark_generate_machine_info(config):
    """Name the machine as every result file does, without its host name."""
    return provenance.record(threads=torch.get_num_threads())


def pytest_benchmark_update_json(config, benchmarks, output_json):
    """Keep the statistics; the single times would fill megabytes."""
    for found in output_json["benchmarks"]:
        found["stats"].pop("data", None)
