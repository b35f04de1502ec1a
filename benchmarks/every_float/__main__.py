"""Compare functions of one float with correctly rounded answers, for every float there is.

    python -m benchmarks.every_float [--stride N] [--others N] [--workers N] [--json FILE]
                                     [--again]

The functions are those of `exact.FUNCTIONS`, value and derivative, as the reference computes them,
as scripts often do, and as torch does (`contestants.CONTESTANTS`). With the defaults, the command
takes every float there is, and writes benchmarks/results/every_float.json. The reference comes
first, and takes about a third of the time; --others 16 gives the others every 16th float. A run
that was interrupted goes on where it was; --again begins anew. The right answers come from a
kernel in C, which needs GCC.
"""

import argparse
import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from benchmarks.every_float.contestants import CONTESTANTS
from benchmarks.every_float.exact import NoCompilerError, library
from benchmarks.every_float.judging import blocks, judge, merge, prepare
from vae_ref.support import provenance
from vae_ref.support.atomic import replacing

RESULTS = Path(__file__).parents[1] / "results" / "every_float.json"
MADE_BY = ("torch", "python", "vectors", "processor")  #: the parts of a run must agree on these


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.every_float", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("--stride", type=positive, default=1, metavar="N", help="take every Nth float; default: 1")
    add(
        "--others",
        type=positive,
        default=1,
        metavar="N",
        help="of these, every Nth for the others",
    )
    add("--workers", type=positive, default=provenance.cores(), metavar="N", help="processes")
    add("--json", type=Path, default=RESULTS, metavar="FILE", help=f"output; default: {RESULTS}")
    add("--again", action="store_true", help="begin anew, even if a run was interrupted")
    options = parser.parse_args(words)
    try:
        library()
    except NoCompilerError as error:
        print(f"benchmarks.every_float: the kernel needs GCC as CC: {error}", file=sys.stderr)
        return 2
    partial = options.json.with_suffix(".partial")
    if options.again:
        partial.unlink(missing_ok=True)
    state = begin(options.stride, options.others)
    if partial.exists():
        found = json.loads(partial.read_text())
        if differing := different(found, state):
            print(
                f"benchmarks.every_float: {partial} is of a run with another {differing}. "
                "Go on as that run began, or begin anew with --again.",
                file=sys.stderr,
            )
            return 2
        state = found
    try:
        run(state, partial, options.workers)
    except KeyboardInterrupt:
        print(f"\nInterrupted; {partial} has what is done. Run the same again to go on.")
        return 130
    del state["blocks"], state["of_blocks"]
    write(options.json, state)
    partial.unlink(missing_ok=True)
    show(state)
    return 0


def begin(stride: int, others: int = 1) -> dict[str, Any]:
    """Return the state of a run before its first block."""
    return {
        "command": "python -m benchmarks.every_float",
        "environment": provenance.record(threads=1),
        "stride": stride,
        "others": others,
        "blocks": 0,
        "of_blocks": sum(1 for _ in blocks(stride, others)),
        "functions": {
            name: {who: {} for who in contestants} for name, contestants in CONTESTANTS.items()
        },
    }


def different(found: dict[str, Any], state: dict[str, Any]) -> str | None:
    """Name in what an interrupted run differs from one that begins now, if in anything."""
    for key in ("stride", "others"):
        if found[key] != state[key]:
            return key
    if found["of_blocks"] != state["of_blocks"]:
        return "division into blocks"
    if any(list(found["functions"].get(f, ())) != list(c) for f, c in CONTESTANTS.items()):
        return "list of contestants"
    environments = (one["environment"] for one in (found, state))
    before, now = ([on.get(key) for key in MADE_BY] for on in environments)
    return next((k for k, b, n in zip(MADE_BY, before, now, strict=True) if b != n), None)


def run(state: dict[str, Any], partial: Path, workers: int) -> None:
    """Compute the blocks that are left, and write the state after each."""
    todo = list(blocks(state["stride"], state["others"]))
    left = todo[state["blocks"] :]
    context = multiprocessing.get_context("spawn")  # a fork does not copy torch's threads
    with ProcessPoolExecutor(workers, context, initializer=prepare) as pool:
        done = tqdm(pool.map(judge, left), initial=state["blocks"], total=len(todo))
        for block, tallies in zip(left, done, strict=True):
            merge(state["functions"][block.function], tallies)
            state["blocks"] += 1
            write(partial, state)


def write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    with replacing(path) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())


def show(content: dict[str, Any]) -> None:
    columns = ("", "", "largest error, ulp", "at", "over 1 ulp", "not rounded", "exceptional")
    table = Table(*columns)
    for name, contestants in content["functions"].items():
        for who, orders in contestants.items():
            for order, tally in orders.items():
                at = "" if tally["worst_at"] is None else f"{float.fromhex(tally['worst_at']):.9g}"
                counts = (tally[key] for key in ("over_1_ulp", "not_rounded", "exceptional"))
                label = f"{name}, {order}"
                table.add_row(label, who, f"{tally['worst']:.4g}", at, *map("{:,}".format, counts))
    Console().print(table)


def positive(word: str) -> int:
    number = int(word)
    if number < 1:
        raise ValueError
    return number


if __name__ == "__main__":
    sys.exit(main())
