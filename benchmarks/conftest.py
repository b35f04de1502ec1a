"""Fixtures of the benchmarks: they run the code as users do, and say what made a result."""

from pathlib import Path

import jaxtyping
import pytest
import torch

from vae_ref.support import provenance
from vae_ref.support.denormals import denormals_flushed

# They have no examples to test, and some cannot be imported everywhere.
collect_ignore = [p for p in Path(__file__).parent.rglob("*.py") if not p.name.startswith("test_")]


@pytest.fixture(autouse=True, scope="module")
def single_precision():
    """Compute fixtures of modules in single precision; they are made before those of a test."""
    torch.set_default_dtype(torch.float32)


@pytest.fixture(autouse=True)
def as_users_run(double_precision):
    """Compute in single precision, without the type checker, which looks at every call."""
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    jaxtyping.config.update("jaxtyping_disable", True)
    with denormals_flushed():
        yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def environments():
    return {
        name: provenance.record(threads=torch.get_num_threads(), device=name)
        for name in ("cpu", "cuda")
    }


@pytest.fixture
def measure(benchmark, device, environments):
    """Measure a call until the device is idle, and return the last result.

    Pass ``rounds`` for a call that takes long, or does something else when it is repeated.
    """

    def run(group, call, *arguments, rounds=0, warmup=0):
        def complete():
            result = call(*arguments)
            if device.type == "cuda":
                torch.cuda.synchronize()
            return result

        benchmark.group = f"{group} on {device.type}"
        benchmark.extra_info.update(environments[device.type])
        if not rounds:
            return benchmark(complete)
        return benchmark.pedantic(complete, rounds=rounds, warmup_rounds=warmup)

    return run


def pytest_benchmark_generate_machine_info(config):
    """Describe the machine as all result files do, without its host name."""
    return provenance.record(threads=torch.get_num_threads())


def pytest_benchmark_update_json(config, benchmarks, output_json):
    """Keep the statistics, but not the single times, which would fill megabytes."""
    for found in output_json["benchmarks"]:
        found["stats"].pop("data", None)
