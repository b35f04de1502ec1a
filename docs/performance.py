"""The performance page: tables and plots of all result files that there are."""

import ast
import json
import subprocess
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.audit import TARGETS, ratios
from benchmarks.scaling import slope
from benchmarks.standings import CONTESTANTS, STEADY, Spread, Standings, interval
from vae_ref.gate import history, trend

__all__ = ["substitutions"]

HERE = Path(__file__).parent
RESULTS = HERE.parent / "benchmarks" / "results"
PICTURES = HERE / "_generated"  # made at every build, and no source

MARKS = {"met": "✓ met", "missed": "✗ missed", "void": "✗ void", "not measured": "– not measured"}
AXES = {
    "examples": "examples",
    "batch_size": "batch size",
    "latent_dim": "latent size",
    "hidden_dim": "hidden width",
    "threads": "threads",
    "seeds": "seeds together",
}
UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (0.0, "ns"))


def substitutions() -> dict[str, str]:
    """Return what the page takes from the results, as Markdown."""
    PICTURES.mkdir(exist_ok=True)
    return {
        "performance_summary": "\n".join(_summary()),
        "performance_race": _all("race", _race, "python -m benchmarks.race"),
        "performance_contestants": "\n".join(_contestants()),
        "performance_scaling": _all("scaling", _scaling, "python -m benchmarks.scaling"),
        "performance_suite": _all("suite", _suite, "pytest benchmarks"),
        "performance_audit": _all("audit", _audit, "python -m benchmarks.audit"),
        "performance_power": "\n".join(_power()),
        "performance_planted": "\n".join(_planted()),
        "performance_history": "\n".join(_history()),
        "performance_gpu": "\n\n".join(
            _all(kind, section, command, device="cuda")
            for kind, section, command in (
                ("race", _race, "python -m benchmarks.race --device cuda"),
                ("scaling", _scaling, "python -m benchmarks.scaling --device cuda"),
                ("suite", _suite, "pytest benchmarks"),
                ("gpu", _gpu, "python -m benchmarks.gpu"),
            )
        ),
    }


def _all(kind: str, section: Any, command: str, *, device: str = "cpu") -> str:
    """Join the sections of all machines, the latest first, or say that there are none."""
    measured = [(path, _content(path)) for path in sorted(RESULTS.glob(f"{kind}_*.json"))]
    measured.sort(key=lambda one: one[1]["environment"]["date"], reverse=True)
    lines = []
    for path, content in measured:
        if found := list(section(content, path.stem, device)):
            lines += [*found, "", _source(content, path, device), ""]
    return "\n".join(lines) or f"Not measured; `{command}` would."


def _content(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    content.setdefault("environment", content.get("machine_info", {}))
    return content


def _source(content: dict[str, Any], path: Path, device: str) -> str:
    on = content["environment"]
    gpu = on["gpu"] if device == "cuda" else None
    family = f"family {on['family']}" if on.get("family") else None
    memory = f"{on['memory_gib']} GiB" if on.get("memory_gib") else None
    cores = f"{on['cores']} cores"
    hardware = [gpu, on.get("processor"), family, on.get("vectors"), cores, memory]
    cuda = f" with CUDA {on['cuda']}" if gpu and on.get("cuda") else ""
    jax = f", jax {on['jax']}" if on.get("jax") else ""
    return (
        f"*{', '.join(filter(None, hardware))}, "
        f"{on['threads']} threads; torch {on['torch']}{cuda}{jax}, Python {on['python']}, "
        f"vae_ref {on['vae_ref']}, commit {on.get('commit', 'unknown')}, {on['date']}; "
        f"load before: {', '.join(map(str, on.get('load', []))) or 'unknown'}. "
        f"From `benchmarks/results/{path.name}`.*"
    )


def _summary() -> Iterator[str]:
    """Say on which processors the CPU engine was raced, and how it did on each."""
    races = [_content(path) for path in sorted(RESULTS.glob("race_*.json"))]
    races = [race for race in races if race["environment"]["device"] == "cpu"]
    if not races:
        yield "Not measured."
        return
    rivals = {"textbook": "textbook script", "scan": "JAX scan, from epoch 3"}
    yield (
        f"| processor | beside | {' | '.join(f'faster than: {t}' for t in rivals.values())} "
        "| time / floor, worst epoch | measured |"
    )
    yield "|---|---|--:|--:|--:|---|"
    for race in sorted(races, key=lambda race: race["environment"]["date"], reverse=True):
        on, standings = race["environment"], Standings.read(race)
        family = f"family {on['family']}" if on.get("family") else None
        cores = f"{on['cores']} cores"
        where = ", ".join(filter(None, (on.get("processor"), family, on.get("vectors"), cores)))
        cells = [
            standings.ratio(rival, "ours", first=STEADY if rival == "scan" else 1)
            for rival in rivals
        ]
        cells.append(standings.worst("ours", "floor"))
        beside = "a busy process" if race.get("busy") else "nothing"
        yield f"| {where} | {beside} | {' | '.join(map(str, cells))} | {on['date']} |"


def _race(content: dict[str, Any], name: str, device: str) -> Iterator[str]:
    if content["environment"]["device"] != device:
        return
    standings = Standings.read(content)
    names = standings.names
    if content.get("busy"):
        yield from ("Beside a process that computes all the time:", "")
    yield f"| | {' | '.join(CONTESTANTS[n] for n in names)} |"
    yield f"|---{'|--:' * len(names)}|"
    for epoch in standings.epochs:
        cells = (standings.seconds(n, epoch) for n in names)
        yield f"| epoch {epoch}, s | {' | '.join(map(str, cells))} |"
    void = {n: ", **void**" if standings.is_void(n) else "" for n in names}
    losses = (f"{standings.loss(n) or '–'}{void[n]}" for n in names)
    yield f"| test loss, nats | {' | '.join(losses)} |"
    for other in ("ours", "floor"):
        if other in names:
            cells = (f"{standings.ratio(n, other).median:.2f}{void[n]}" for n in names)
            yield f"| time / {CONTESTANTS[other]} | {' | '.join(cells)} |"
    low, high = interval(standings.epochs[-1])
    yield ""
    yield (
        f"Median and range of {content['repetitions']} repetitions; the loss has to be within "
        f"{low:.2f} to {high:.2f}. A ratio is the median over the repetitions, each the ratio of "
        "the sums over the epochs."
        + "".join(f" vae_ref's engine was `{engine}`." for engine in sorted(standings.engines))
    )
    yield ""
    yield "| target | reached | |"
    yield "|---|--:|---|"
    for target in standings.targets():
        yield f"| {target.statement} | {target.found or '–'} | {MARKS[target.verdict]} |"
    yield from ("", *_picture(name, _draw_race(standings), "Seconds of every epoch"))


def _audit(content: dict[str, Any], name: str, device: str) -> Iterator[str]:
    if content["environment"]["device"] != device:
        return
    found = content["repetitions"]
    yield "| | median and range |"
    yield "|---|--:|"
    for key in dict.fromkeys(key for pair in TARGETS for key in reversed(pair)):
        yield f"| {key} | {Spread.of(one[key] for one in found)} |"
    for ratio, spread, target in ratios(found):
        yield f"| {ratio}, at most {target} | {spread} |"
    yield ""
    yield (
        f"Of {len(found)} repetitions. The network has {found[0]['step parameters']:,} parameters."
    )


def _power() -> Iterator[str]:
    """Show how often the gate says that a head is slower, by how much slower it is."""
    file = RESULTS / "gate_power.json"
    if not file.exists():
        yield "Not measured; `python -m benchmarks.gate_power measure` would."
        return
    content = _content(file)
    slowdowns = list(next(iter(content["rates"]["quiet"].values())))
    heads = (*(f"{slowdown} slower" for slowdown in slowdowns), "chance of the groups")
    yield f"| of 1,000, found | {' | '.join(heads)} |"
    yield "|---|" + "--:|" * len(heads)
    for how, rates in content["rates"].items():
        for name, rows in rates.items():
            found = " | ".join(f"{rows[s]['found']:,}" for s in slowdowns)
            where = "beside a busy process" if how == "busy" else "alone"
            yield f"| {name}, {where} | {found} | {content['chances'][how][name]:.2f} |"
    yield ""
    for how, seconds in content["seconds"].items():
        groups = [rows[slowdowns[0]]["groups"] for rows in content["rates"][how].values()]
        yield (
            f"{'Beside a busy process' if how == 'busy' else 'Alone'}, a group of all workloads "
            f"takes {seconds:.0f} s, and equal revisions take {max(groups):.0f} groups on average "
            "in the workload with most."
        )
    on = content["on"]
    yield (
        f"*{on['processor']}, {on['cores']} cores, torch {on['torch']}, {on['date'][:10]}. From "
        f"`benchmarks/results/{file.name}`, made by `python -m benchmarks.gate_power`.*"
    )


def _planted() -> Iterator[str]:
    """Show which line the gate names for each regression that was planted."""
    file = RESULTS / "planted.json"
    if not file.exists():
        yield "Not measured; `python -m benchmarks.planted` would."
        return
    rows = json.loads(file.read_text())["planted"]
    yield f"Of {len(rows)} regressions {sum(row['named'] for row in rows)} are named:"
    yield ""
    yield "| planted | the line | the gate says |"
    yield "|---|---|---|"
    for row in rows:
        cause = row["causes"][0] if row["causes"] else {"what": "nothing", "base": 0, "head": 0}
        change = f"{cause['base']:,} → {cause['head']:,}"
        said = cause["what"] if row["by"] == "time" else f"{cause['what']}, {change}"
        said += f", {change} µs" if row["by"] == "time" else ""
        line = row["line"].splitlines()[0].replace("|", "∣")
        yield f"| {row['what']} | `{line}` | {said if row['named'] else 'another line'} |"
    yield ""
    yield f"*Made by `python -m benchmarks.planted`. From `benchmarks/results/{file.name}`.*"


def _history() -> Iterator[str]:
    """Say which commits changed a time, and make the page of all times and counts."""
    file = RESULTS / "history.jsonl"
    page = PICTURES / "history.html"
    if not file.exists():
        page.write_text('<!doctype html><html lang="en"><title>History</title></html>')
        yield "Not measured; `vae-ref-gate record --last 40` would."
        return
    lines = history.read(file)
    order = _order(lines)
    found = history.series(lines, order)
    page.write_text(trend.page(found, order, "vae_ref: what every commit costs"))
    changed = trend.changes([one for one in found if one.name.endswith("/time")], order)
    yield (
        f"{len({line['commit'] for line in lines})} commits of this repository were recorded. "
        '<a href="history.html">A page of its own</a> shows every time and every count of them. '
        f"A time changed {len(changed)} times:"
    )
    yield ""
    yield "| workload | from | to | change | commit |"
    yield "|---|--:|--:|--:|---|"
    for row in changed:
        subject = row["subject"].replace("|", "∣")
        yield (
            f"| {row['name'].removesuffix('/time')} | {row['before']} | {row['after']} "
            f"| {row['change']} | `{row['commit'][:10]}` {subject}{row['among']} |"
        )
    yield ""
    on = lines[-1]["on"]
    yield (
        f"*Times are relative to those of `{lines[-1]['reference'][:10]}`. {on['processor']}, "
        f"{on['cores']} cores, torch {on['torch']}, {on['date'][:10]}. From "
        f"`benchmarks/results/{file.name}`.*"
    )


def _order(lines: list[dict[str, Any]]) -> list[str]:
    """Return all commits, the oldest first; without the whole history, those recorded."""
    git = ["git", "rev-list", "--reverse", "HEAD"]
    answer = subprocess.run(git, cwd=HERE, check=False, capture_output=True, text=True)
    order = answer.stdout.split()
    if {line["commit"] for line in lines} <= set(order):
        return order
    return [line["commit"] for line in sorted(lines, key=lambda line: line["date"])]


def _draw_race(standings: Standings) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    epochs = list(standings.epochs)
    for name in standings.names:
        found = [standings.seconds(name, epoch) for epoch in epochs]
        middle = [spread.median for spread in found]
        reach = [[s.median - s.low for s in found], [s.high - s.median for s in found]]
        style = "k--" if name == "floor" else "o-"
        axis.errorbar(epochs, middle, reach, fmt=style, capsize=3, label=CONTESTANTS[name])
    axis.set(xlabel="epoch", ylabel="seconds", xticks=epochs)
    _logarithmic(axis)
    axis.grid(visible=True, alpha=0.3)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _logarithmic(axis: Any) -> None:
    """Make the second axis logarithmic, at least half a decade long, with readable numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = axis.dataLim.minpos[1] / 1.1, axis.dataLim.y1 * 1.1
    axis.set(yscale="log", ylim=(low, max(high, 3 * low)))
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())


def _picture(name: str, figure: Any, alternative: str) -> Iterator[str]:
    import matplotlib as mpl

    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(PICTURES / f"{name}.svg", metadata={"Date": None})
    yield from (f"```{{image}} _generated/{name}.svg", f":alt: {alternative}", "```")


def _contestants() -> Iterator[str]:
    """Describe the contestants with the docstrings of their files."""
    for name, title in CONTESTANTS.items():
        path = HERE.parent / "benchmarks" / "contestants" / f"{name}.py"
        head, *rest = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")
        yield f"**{title}** (`benchmarks/contestants/{name}.py`)"
        yield f": {' '.join(' '.join([head, *rest]).split())}"
        yield ""


def _scaling(content: dict[str, Any], name: str, device: str) -> Iterator[str]:
    if content["environment"]["device"] != device:
        return
    yield "| varied | from | to | seconds per epoch, from | to | exponent |"
    yield "|---|--:|--:|--:|--:|--:|"
    for key, points in content["curves"].items():
        ends = points[0], points[-1]
        values, seconds = ([point[part] for point in ends] for part in ("value", "seconds"))
        exponent = f"{slope(points):.2f}" if len(points) > 2 else "–"
        yield (
            f"| {AXES[key]} | {values[0]} | {values[1]} | {seconds[0]:.3f} | {seconds[1]:.3f} "
            f"| {exponent} |"
        )
    yield ""
    yield (
        f"An epoch has {content['examples']} examples, unless they are varied. The "
        "exponent $a$ of $\\mathrm{cost} \\propto \\mathrm{value}^a$ is fitted to the upper half "
        "of the values."
    )
    if content["memory"]:
        before, first, *_, last = content["memory"]
        count = len(content["memory"]) - 1
        of = " of the GPU's memory" if device == "cuda" else ""
        yield (
            f"The process held {before:.0f} MiB{of} before it trained, {first:.0f} after the "
            f"first epoch and {last:.0f} after epoch {count} of {content['memory_examples']} "
            "examples."
        )
    yield from ("", *_picture(name, _draw_scaling(content), "How the cost of training grows"))


def _draw_scaling(content: dict[str, Any]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5), layout="constrained")
    panels = list(figure.subplots(2, 4).flat)
    count = len(content["curves"])
    axes, last = panels[:count], panels[count]
    for unused in panels[count + 1 :]:
        unused.remove()
    for axis, (key, points) in zip(axes, content["curves"].items(), strict=True):
        values = [point["value"] for point in points]
        axis.plot(values, [point["seconds"] for point in points], "o-")
        axis.set(xlabel=AXES[key], ylabel="seconds per epoch")
        if key == "threads":
            axis.set(xticks=values, ylim=(0, None))
            continue
        _logarithmic(axis)
        axis.set_xscale("log")
        axis.set_xticks(values, map(str, values), rotation=45)
        axis.minorticks_off()
    last.plot(content["memory"])
    last.set(xlabel="epochs", ylabel="memory, MiB", ylim=(0, None))
    for axis in (*axes, last):
        axis.grid(visible=True, alpha=0.3)
    return figure


def _suite(content: dict[str, Any], name: str, device: str) -> Iterator[str]:
    found = [b for b in content["benchmarks"] if b["extra_info"]["device"] == device]
    if not found:
        return
    yield "| what | by | median | fastest | rounds | loss, nats |"
    yield "|---|---|--:|--:|--:|--:|"
    for group, members in groupby(found, lambda probe: probe["group"]):
        label = group.removesuffix(f" on {device}")
        for probe in members:
            stats, params = probe["stats"], probe["params"] or {}
            loss = probe["extra_info"].get("loss")
            whose = CONTESTANTS.get(params.get("contestant", "ours"), params.get("contestant"))
            yield (
                f"| {label} | {whose} | {_time(stats['median'])} | {_time(stats['min'])} "
                f"| {stats['rounds']} | {'' if loss is None else f'{loss:.2f}'} |"
            )
            label = ""


def _gpu(content: dict[str, Any], name: str, device: str) -> Iterator[str]:
    """Show the parts of a visit to a GPU that were measured."""
    if content["environment"]["device"] != device:
        return
    yield "| what | result |"
    yield "|---|--:|"
    for title, result in _gpu_rows({key: value for key, value in content.items() if value}):
        yield f"| {title} | {result} |"


def _gpu_rows(content: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for part in ("equal", "ladder", "twenty", "twenty_seeds", "parts_of_the_floor"):
        if why := content.get(part, {}).get("failed"):
            yield f"`{part}` failed", why.splitlines()[0]
            content.pop(part)
    for engine, found in content.get("equal", {}).items():
        if engine != "eager":
            loss, weights = found["loss_apart"], found["weights_apart"]
            said = f"loss {loss:.1e} nats, weights {weights:.1e}"
            yield f"`{engine}` and `eager` after an epoch: largest difference", said
    for engine, seconds in content.get("ladder", {}).items():
        yield f"an epoch with `{engine}`, fastest", _time(min(seconds))
    if found := content.get("twenty"):
        inside = "inside" if found["inside"] else "**outside**"
        yield "20 epochs with evaluation", f"{_time(found['seconds'])}; loss {inside} its interval"
    if found := content.get("twenty_seeds"):
        said = f"{_time(found['seconds'])}; {found['inside']} losses inside the interval"
        yield f"{found['seeds']} seeds, 20 epochs, side by side", said
    points = content.get("together", [])
    for point in points if isinstance(points, list) else []:
        yield f"an epoch of {point['seeds']} seeds side by side", _time(point["seconds"])
    for what, seconds in content.get("parts_of_the_floor", {}).items():
        yield f"floor of an epoch: {what}", _time(seconds)


def _time(seconds: float) -> str:
    unit, name = next((unit, name) for unit, name in UNITS if seconds >= unit)
    return f"{seconds / (unit or 1e-9):.3g} {name}"
