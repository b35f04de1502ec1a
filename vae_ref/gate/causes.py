"""Name the lines that make a count or a time rise, with what they did before.

Lines of the base are looked up where they are now, as `diff` pairs them. What a changed line does
is set off against what other lines of its file no longer do, so that the difference is left. Of
the lines that do more than before, three are named: of those that were changed, the one that adds
most; the first in the order of execution, because what follows may only inherit it, as double
precision is inherited; and the one that adds most of all. If such a line is as it was, the change
is in what calls it: the nearest caller that was changed is named too. A change elsewhere, such as
a decorator or what runs before the count begins, is named by no line: then `edits` lists all that
was changed.
"""

import difflib
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from vae_ref.gate.verdict import Change

__all__ = ["Cause", "causes", "edits", "slower_line"]

LONG = 100  #: characters of a line that are shown
LEAST = 0.02  #: of an increase, which a line must make up to be named

Sites = Sequence[Mapping[str, Any]]
Place = tuple[str, int]
Chain = tuple[Place, ...]
Key = tuple[Chain, str]
"""Lines, each called by the next, and what is done."""


@dataclass(frozen=True)
class Cause:
    """A line that does more than before.

    Args:
        line: Its file, relative to the source directory, its number in the head, and its text.
        what: An operation, such as ``add``, or ``import``.
        base: What it did, in the unit of the count.
        head: What it does.
        shape: The type and shape of its first result.
        before: Those that the operation had on the same line of the base.
        caller: The line that was changed, if it is another one, which calls this one.
        changed: Whether this line or its caller was changed.
    """

    line: str
    what: str
    base: int
    head: int
    shape: str = ""
    before: str = ""
    caller: str = ""
    changed: bool = False

    @property
    def where(self) -> str:
        """The line, and the one that calls it."""
        return self.line + (f", called by {self.caller}" if self.caller else "")

    @property
    def action(self) -> str:
        """What is done, and of what shape a result is and was."""
        was = f" (was {self.before})" if self.before not in ("", self.shape) else ""
        return self.what + (f" of {self.shape}{was}" if self.shape else "")


def causes(
    changes: Iterable[Change],
    base: Mapping[str, Sites],
    head: Mapping[str, Sites],
    trees: tuple[Path, Path],
) -> dict[str, list[Cause]]:
    """Name the causes of every count that has risen.

    Args:
        changes: The counts on both sides.
        base: The counts of each line, by workload.
        head: The same of the head.
        trees: The directories to which the files of both are relative.
    """
    files = _Files(*trees)
    found = {}
    for change in changes:
        workload, _, counter = change.name.rpartition("/")
        if change.head > change.base and workload in base and workload in head:
            found[change.name] = _named(counter, base[workload], head[workload], files)
    return found


def _named(counter: str, base: Sites, head: Sites, files: "_Files") -> list[Cause]:
    """Name the first and the heaviest of the operations that do more on a line."""
    was, now = _Totals(counter), _Totals(counter)
    for site in base:
        was.add(site, tuple(files.now(*place) for place in site["chain"]))
    for site in head:
        now.add(site, tuple((file, line) for file, line in site["chain"]))
    _pair_what_moved(was, now, files)
    _set_off_what_was_rewritten(was, now, files)
    rises = {key: now.here[key] - was.here[key] for key in now.here}
    rises = {key: rise for key, rise in rises.items() if rise > 0}
    least = LEAST * sum(rises.values())
    first = next((key for key, rise in rises.items() if rise >= least), None)
    most = max(rises, key=lambda key: rises[key], default=None)
    edited = [key for key in rises if rises[key] >= least and files.is_changed(key)]
    most_edited = max(edited, key=lambda key: rises[key], default=None)
    callers = {key: _caller(key, was, now, files) for key in (most_edited, first, most) if key}
    return [
        Cause(
            files.text(key[0][0] if key[0] else None),
            key[1],
            was.here[key],
            now.here[key],
            now.shapes[key],
            was.shapes.get(key, ""),
            files.text(caller) if caller else "",
            files.is_changed(key) or bool(caller and files.is_new(caller)),
        )
        for key, caller in callers.items()
    ]


def _pair_what_moved(was: "_Totals", now: "_Totals", files: "_Files") -> None:
    """Move what a line did that is gone to a new line of the same text, in whichever file."""
    new = {
        (files.code(key[0], new=True), key[1]): key
        for key in now.here
        if key[0] and key not in was.here
    }
    for key in [key for key in was.here if key[0] and key not in now.here]:
        if moved := new.pop((files.code(key[0], new=False), key[1]), None):
            was.here[moved] = was.here.pop(key)
            was.shapes[moved] = was.shapes[key]


def _set_off_what_was_rewritten(was: "_Totals", now: "_Totals", files: "_Files") -> None:
    """Move what lines of a file no longer do to its changed lines that do the same.

    Results of the same shape come first. A line that was split, joined or written in another way
    does what it did; only what it does beside that is more than before.
    """
    new = [key for key in now.here if files.is_changed(key)]
    for same_shape in (True, False):
        for key in new:
            for other in list(was.here):
                alike = other != key and other[0] and other[0][0][0] == key[0][0][0]
                alike = alike and other[1] == key[1]
                if same_shape and was.shapes.get(other) != now.shapes[key]:
                    continue
                moved = min(now.here[key] - was.here[key], was.here[other] - now.here[other])
                if alike and moved > 0:
                    was.here[key] += moved
                    was.here[other] -= moved
                    was.shapes.setdefault(key, was.shapes[other])


class _Totals:
    """What is done in all: by the innermost line, and by the whole chain of callers."""

    def __init__(self, counter: str) -> None:
        self.counter = counter
        self.here: Counter[Key] = Counter()
        self.chains: Counter[Key] = Counter()
        self.shapes: dict[Key, str] = {}

    def add(self, site: Mapping[str, Any], chain: Chain) -> None:
        key, amount = (chain[:1], site["what"]), site["counts"].get(self.counter, 0)
        self.here[key] += amount
        self.chains[chain, site["what"]] += amount
        self.shapes.setdefault(key, site.get("shape", ""))


def _caller(key: Key, was: _Totals, now: _Totals, files: "_Files") -> Place | None:
    """Return the caller that was changed, or else the nearest in no chain that is as it was."""
    rises, still = {}, set[Place]()
    for (chain, what), amount in now.chains.items():
        if (chain[:1], what) == key:
            if amount > was.chains[chain, what]:
                rises[chain] = amount - was.chains[chain, what]
            else:
                still |= set(chain)
    changed = (place for chain in rises for place in chain[1:] if files.is_new(place))
    if files.is_changed(key):
        return None
    if (caller := next(changed, None)) is None and still and rises:
        heaviest = max(rises, key=lambda chain: rises[chain])
        caller = next((place for place in heaviest if place not in still), None)
    return caller


def slower_line(
    base: Sequence[Sites],
    head: Sequence[Sites],
    trees: tuple[Path, Path],
    *,
    least: float = 0.0,
) -> list[Cause]:
    """Name the line whose time has risen most, and its caller that was changed.

    Args:
        base: What each line does in a call, from several calls.
        head: The same of the head.
        trees: The directories to which the files of both are relative.
        least: By how many seconds the time must have risen.
    """
    files = _Files(*trees)
    was = _medians(base, lambda place: files.now(*place))
    now = _medians(head, lambda place: place)
    nothing = dict.fromkeys(("own", "total", "hits"), 0.0)

    def rise(place: Place, what: str) -> float:
        return now[place][what] - was.get(place, nothing)[what]

    slower = max(now, key=lambda place: rise(place, "own"), default=None)
    if slower is None or rise(slower, "own") <= least:
        return []
    changed = [place for place in now if files.is_new(place)]
    caller = max(changed, key=lambda place: rise(place, "total"), default=slower)
    explains = 2 * rise(caller, "total") > rise(slower, "own") and slower not in changed
    old, new = was.get(slower, nothing), now[slower]
    return [
        Cause(
            files.text(slower),
            f"executed {old['hits']:,.0f} -> {new['hits']:,.0f} times",
            round(old["own"] * 1e6),
            round(new["own"] * 1e6),
            caller=files.text(caller) if explains else "",
            changed=explains or slower in changed,
        )
    ]


def edits(trees: tuple[Path, Path]) -> list[str]:
    """List the lines that were changed, and those that are gone, of the files of the base.

    Args:
        trees: The directories of base and head.
    """
    base, head = trees
    found = []
    for path in sorted(base.rglob("*.py")):
        file = str(path.relative_to(base))
        before, after = _lines(path), _lines(head / file)
        if before == after:
            continue
        matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
        for how, low, high, at, end in matcher.get_opcodes():
            if how == "equal":
                continue
            lines = [(n, "", after[n].strip()) for n in range(at, end)]
            if how == "delete":
                lines = [(n, "without ", before[n].strip()) for n in range(low, high)]
            found += [f"{file}:{n + 1} {what}`{text[:LONG]}`" for n, what, text in lines if text]
    return found


def _medians(
    calls: Sequence[Sites], now: Callable[[Place], Place]
) -> dict[Place, dict[str, float]]:
    """Return the medians over calls of what each line does; a line that is not reached does 0."""
    found: dict[Place, list[Mapping[str, Any]]] = {}
    for call in calls:
        for line in call:
            found.setdefault(now(tuple(line["place"])), []).append(line)
    return {
        place: {
            what: statistics.median(
                [line[what] for line in lines] + [0] * (len(calls) - len(lines))
            )
            for what in ("own", "total", "hits")
        }
        for place, lines in found.items()
    }


class _Files:
    """The files of both sides, and where the lines of the base are in the head."""

    def __init__(self, base: Path, head: Path) -> None:
        self.base, self.head = base, head
        self.lines = cache(_lines)
        self.moved = cache(self._moved)

    def text(self, place: Place | None) -> str:
        if not place:
            return "outside of the project"
        lines = self.lines(self.head / place[0])
        text = lines[place[1] - 1].strip() if place[1] <= len(lines) else ""
        text = text if len(text) <= LONG else f"{text[:LONG]}…"
        return f"{place[0]}:{place[1]} `{text}`"

    def now(self, file: str, line: int) -> Place:
        """Return where a line of the base is; what is gone has a line that there is not."""
        return file, self.moved(file)[0].get(line, -line)

    def code(self, chain: Chain, *, new: bool) -> str:
        """Return the text of the innermost line: of the head, or of a line of the base now."""
        file, line = chain[0]
        back = {at: was for was, at in self.moved(file)[0].items()}
        lines = self.lines((self.head if new else self.base) / file)
        number = line if new else (-line if line < 0 else back[line])
        return lines[number - 1].strip() if 0 < number <= len(lines) else ""

    def is_new(self, place: Place) -> bool:
        """Whether a line of the head is new, or was changed."""
        return place[1] in self.moved(place[0])[1]

    def is_changed(self, key: Key) -> bool:
        """Whether what is done is done by such a line."""
        return bool(key[0]) and self.is_new(key[0][0])

    def _moved(self, file: str) -> tuple[dict[int, int], set[int]]:
        """Pair the lines of both sides, and return those that are new or were changed.

        Lines of a block that was replaced are paired in order, as far as it goes.
        """
        base, head = self.lines(self.base / file), self.lines(self.head / file)
        pairs, new = {}, set()
        matcher = difflib.SequenceMatcher(None, base, head, autojunk=False)
        for how, low, high, at, end in matcher.get_opcodes():
            for offset in range(min(high - low, end - at)):
                pairs[low + offset + 1] = at + offset + 1
            if how != "equal":
                new |= set(range(at + 1, end + 1))
        return pairs, new


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return []
