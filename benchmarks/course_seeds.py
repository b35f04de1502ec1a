"""Measure the courses of the conformance kit with many seeds of the reference.

    python -m benchmarks.course_seeds COURSE [--data DIR] [--seeds 20] [--jobs 2] [--weights DIR]

COURSE is mnist, glyphs, or halves (of the kit's own specimen). The command adds one line per seed
to benchmarks/results/course_COURSE.jsonl: all that the claims measure, and what made it. It then
writes the mean and deviation over the seeds into vae_ref/conformance/intervals.json, from which
the claims compute their intervals. Seeds that the file already has are skipped, so the command
resumes. --weights keeps the trained weights; measuring again then trains nothing.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

import vae_ref.conformance
from vae_ref.bridge.courses import glyphs_course, mnist_course
from vae_ref.bridge.reference import reference
from vae_ref.conformance import Course, Subject
from vae_ref.conformance.mutants.specimen import halves, specimen
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.runner import check, probe_of, select
from vae_ref.conformance.trainings.trained import Trained
from vae_ref.support import provenance

RESULTS = Path(__file__).parent / "results"
INTERVALS = Path(vae_ref.conformance.__file__).parent / "answers" / "intervals.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("course", choices=("mnist", "glyphs", "halves"))
    parser.add_argument("--data", default="data", help="a torchvision root")
    parser.add_argument("--seeds", type=int, default=20, help="number of seeds, from 0 on")
    parser.add_argument("--jobs", type=int, default=2, help="processes, with one thread each")
    parser.add_argument("--weights", type=Path, help="a directory for the trained weights")
    arguments = parser.parse_args()
    file = RESULTS / f"course_{arguments.course}.jsonl"
    done = {row["seed"] for row in rows(file)}
    left = [seed for seed in range(arguments.seeds) if seed not in done]
    one = partial(measure, arguments.course, arguments.data, arguments.weights)
    with multiprocessing.get_context("spawn").Pool(arguments.jobs, maxtasksperchild=4) as pool:
        for row in pool.imap_unordered(one, left):
            with file.open("a") as lines:
                lines.write(json.dumps(row) + "\n")
            print(f"seed {row['seed']}: {row['seconds']} s", file=sys.stderr, flush=True)
    summarise(arguments.course, rows(file))


def rows(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def course(name: str, data: str) -> Course:
    return {"mnist": lambda: mnist_course(data), "glyphs": glyphs_course, "halves": halves}[name]()


def subject(name: str, data: str, seed: int) -> Subject:
    model = specimen(seed=seed) if name == "halves" else reference(seed=seed)
    return replace(model, course=partial(course, name, data))


def weights_file(weights: Path, name: str, seed: int) -> Path:
    return weights / f"{name}_{seed}.pt"


def probe_with_trainings(name: str, data: str, weights: Path | None, seed: int) -> Probe:
    """Return a seed of the reference on a course, with the trainings that were kept."""
    probe = probe_of(subject(name, data, seed), seed)
    if weights and (file := weights_file(weights, name, seed)).exists():
        found = torch.load(file, weights_only=False)
        probe.answers |= {key: replace(run, probe=probe) for key, run in found.items()}
    return probe


def measure(name: str, data: str, weights: Path | None, seed: int) -> dict:
    """Let the claims measure one seed, whether they hold or not."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    probe = probe_with_trainings(name, data, weights, seed)
    measured: dict[str, float] = {}
    for claim in select("training/*", "trained"):
        result = check(claim, probe)
        measured |= {name: round(found.value, 6) for name, found in result.measured.items()}
        if result.status in ("error", "timeout"):
            raise RuntimeError(f"{claim.id}: {result.status}, {result.message}")
    if weights:
        weights.mkdir(parents=True, exist_ok=True)
        state = {
            key: replace(found, probe=None)
            for key, found in probe.answers.items()
            if isinstance(found, Trained)
        }
        torch.save(state, weights_file(weights, name, seed))
    return {
        "seed": seed,
        "measured": measured,
        "seconds": round(time.perf_counter() - start, 1),
        **provenance.record(threads=torch.get_num_threads()),
    }


def summarise(name: str, results: list[dict]) -> None:
    """Write the mean and deviation of every measure, and what made them."""
    values = {key: [row["measured"][key] for row in results] for key in results[0]["measured"]}
    summary = {
        "measures": {
            key: {
                "mean": round(statistics.mean(found), 6),
                "deviation": round(statistics.stdev(found), 6),
                "count": len(found),
            }
            for key, found in values.items()
        },
        "command": f"python -m benchmarks.course_seeds {name} --seeds {len(results)}",
        **provenance.merge(results),
    }
    known = json.loads(INTERVALS.read_text()) if INTERVALS.exists() else {}
    INTERVALS.write_text(json.dumps(known | {name: summary}, indent=1) + "\n")


if __name__ == "__main__":
    main()
