"""Draw the VAE of a step that was audited, as SVG: in layers, from the data down to the loss."""

import unicodedata
from dataclasses import dataclass, field
from itertools import pairwise
from xml.sax.saxutils import escape

from vae_ref.conformance.records import Claim, Diagram, Node, Report
from vae_ref.conformance.reports.wording import printable

__all__ = ["described", "draw", "drawing", "marks", "share"]

_NAME, _SMALL = 13, 11.5  # the sizes of type
_WIDEST = 200  # of a box, in pixels
_PAD, _LINE, _GAP, _BETWEEN, _MARGIN = 10, 16, 22, 44, 10
_THREAD = 14  # the place that an edge takes in a layer that it passes
_NETWORKS = ("encoder", "decoder", "network")
_LEGIBLE = 0.85  # of its size: a page does not show it smaller
_SWEEPS = 60
_STIFF = 6.0  # how much rather an edge that passes goes straight on than to a box

_STYLE = """
.vae rect { fill: var(--raised); stroke: var(--quiet); }
.vae .network rect { stroke: var(--ink); }
.vae .noise rect { stroke-dasharray: 4 3; }
.vae .violated rect { stroke: var(--red); stroke-width: 3; }
.vae text { fill: var(--ink); }
.vae { font-family: system-ui, -apple-system, "Segoe UI", Arial, sans-serif; }
.vae .small { fill: var(--muted); font-size: 11.5px; }
.vae .name { font-size: 13px; font-weight: 600; }
.vae .claim { fill: var(--red); font-size: 11.5px; font-weight: 600; }
.vae .edge { fill: none; stroke: var(--muted); stroke-width: 1.25; }
.vae .head { fill: var(--muted); }
.vae .paper { fill: var(--paper); stroke: none; }
"""
_COLOURS = """
:root { --paper: #ffffff; --raised: #f6f7f8; --ink: #1c2126; --muted: #59636e; --quiet: #98a1ab;
  --red: #b42318; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #15181b; --raised: #1d2125; --ink: #dde2e7; --muted: #9aa4ae; --quiet: #6c757e;
    --red: #ff8a7d; }
}
"""
"""The colours of the page, for a drawing that is a file of its own."""

# The widths of characters in DejaVu Sans, which is wide, as shares of the size of type.
_WIDTHS = (
    dict.fromkeys("ijl'|", 0.3)
    | dict.fromkeys(" .,:;!()[]/ft-I\\", 0.4)
    | dict.fromkeys('rJ"{}', 0.5)
    | dict.fromkeys("mMW@%", 1.0)
    | dict.fromkeys("w+=<>^~#&OQ", 0.84)
)


def drawing(report: Report, *, alone: bool = False) -> str:
    """Return the drawing of a report's subject; empty if it was not audited.

    Args:
        report: The report of a run.
        alone: Whether the drawing is a file of its own, and not part of a page.
    """
    return draw(report.diagram, marks(report), alone=alone) if report.diagram else ""


def marks(report: Report) -> dict[str, list[str]]:
    """Return the claims that are violated by the parts that they are about."""
    found: dict[str, list[str]] = {}
    nodes = report.diagram.nodes if report.diagram else ()
    for result in report.failures:
        for node in nodes:
            if node.kind in _about(result.claim):
                found.setdefault(node.id, []).append(result.claim.id)
    return found


def _about(claim: Claim) -> tuple[str, ...]:
    """Return the kinds of the parts that a violation of a claim puts in doubt."""
    if claim.slot == "net":
        needs = {need for needs in claim.needs for need in needs.split("|")}
        return tuple(kind for kind in ("encoder", "decoder") if kind.removesuffix("r") in needs)
    known = {"kl": "divergence", "sample": "code", "nll": "reconstruction", "loss": "loss"}
    return (known[claim.slot],) if claim.slot in known else ()


def described(diagram: Diagram) -> str:
    """Return a diagram in words, for those who cannot see the drawing."""
    names = {node.id: node.name for node in diagram.nodes}
    parts = "; ".join(_title(node) for node in diagram.nodes)
    flow = "; ".join(f"{names[source]} to {names[target]}" for source, target in diagram.edges)
    return f"Parts: {parts}. Flow of data: {flow}."


def _title(node: Node) -> str:
    shape = "" if node.shape is None else f"shape {node.shape}"
    return ", ".join(part for part in (node.name, shape, node.note, node.place) if part)


# Boxes.


@dataclass
class _Box:
    """A place in a layer: that of a node, or that of an edge which passes.

    Attributes:
        node: The node; None of an edge.
        lines: What is written in it, each with its class.
    """

    node: Node | None = None
    lines: list[tuple[str, str]] = field(default_factory=list)
    width: float = _THREAD
    height: float = 0.0
    x: float = 0.0
    above: list["_Box"] = field(default_factory=list)
    below: list["_Box"] = field(default_factory=list)


def _box(node: Node, claims: list[str]) -> _Box:
    lines = [("name", node.name)]
    if node.shape:  # the shape of a scalar says nothing
        lines.append(("small", str(node.shape)))
    lines += [("small", text) for text in (node.note, node.place) if text]
    lines += [("claim", f"violated: {claim}") for claim in claims[:2]]
    lines += [("claim", f"and {len(claims) - 2} more violated")] if len(claims) > 2 else []
    lines = [(kind, _shortened(printable(text), kind)) for kind, text in lines]
    width = max(_width(text, kind) for kind, text in lines) + 2 * _PAD
    return _Box(node, lines, max(width, 72.0), _LINE * len(lines) + 12.0)


def _width(text: str, kind: str) -> float:
    """Estimate how wide a text is, rather too wide."""
    size = _NAME if kind == "name" else _SMALL
    bold = 1.0 if kind == "small" else 1.13
    return sum(map(share, text)) * size * bold


def share(character: str) -> float:
    """Estimate how wide a character is, as a share of the size of type."""
    if character in _WIDTHS:
        return _WIDTHS[character]
    if not character.isascii():
        return 1.05
    return 0.8 if character.isupper() else 0.65


def _shortened(text: str, kind: str) -> str:
    """Leave out the middle of a text that is too long; a line number is at its end."""
    text = " ".join(unicodedata.normalize("NFC", text).split())
    if _width(text, kind) <= _WIDEST - 2 * _PAD:
        return text
    head, tail = text[: len(text) // 2][:60], text[len(text) // 2 :][-60:]
    while _width(f"{head}...{tail}", kind) > _WIDEST - 2 * _PAD:
        head, tail = (head[:-1], tail) if len(head) > len(tail) else (head, tail[1:])
    return f"{head}...{tail}"


# The layout: layers by the longest way, their order by the middle of the neighbours.


def _layers(diagram: Diagram, boxes: dict[str, _Box]) -> tuple[list[list[_Box]], list[list[_Box]]]:
    """Return the boxes of each layer, and the boxes that each edge goes through."""
    order = {node.id: index for index, node in enumerate(diagram.nodes)}
    down = [(s, t) if order[s] < order[t] else (t, s) for s, t in diagram.edges]
    depth: dict[str, int] = {}
    for node in diagram.nodes:
        sources = [s for s, t in down if t == node.id]
        depth[node.id] = max((depth[s] + 1 for s in sources), default=0)
    for node in diagram.nodes:
        if all(t != node.id for _, t in down):
            depth[node.id] = min((depth[t] for s, t in down if s == node.id), default=1) - 1
    layers: list[list[_Box]] = [[] for _ in range(max(depth.values()) + 1)]
    for node in diagram.nodes:
        layers[depth[node.id]].append(boxes[node.id])
    ways = []
    for (upper, lower), (source, _) in zip(down, diagram.edges, strict=True):
        way = [boxes[upper]]
        for layer in layers[depth[upper] + 1 : depth[lower]]:
            way.append(_Box())
            layer.append(way[-1])
        way.append(boxes[lower])
        for a, b in pairwise(way):
            a.below.append(b)
            b.above.append(a)
        ways.append(way if source == upper else way[::-1])
    return layers, ways


def _ordered(layers: list[list[_Box]]) -> list[list[_Box]]:
    """Return the layers in the order with the fewest crossings that was met."""
    best, least = [list(layer) for layer in layers], _crossings(layers)
    for sweep in range(_SWEEPS):
        upwards = sweep % 2
        for layer in layers[::-1] if upwards else layers:
            place = {id(b): (i + 0.5) / len(each) for each in layers for i, b in enumerate(each)}
            wanted = {}
            for box in layer:
                near = [place[id(b)] for b in (box.below if upwards else box.above) or [box]]
                wanted[id(box)] = sum(near) / len(near)
            layer.sort(key=lambda box, wanted=wanted: wanted[id(box)])  # type: ignore[misc]
        if (crossings := _crossings(layers)) < least:
            best, least = [list(layer) for layer in layers], crossings
    return best


def _crossings(layers: list[list[_Box]]) -> int:
    count = 0
    for upper, lower in pairwise(layers):
        place = {id(box): i for i, box in enumerate(lower)}
        lines = [(i, place[id(b)]) for i, box in enumerate(upper) for b in box.below]
        count += sum(a[0] < b[0] and a[1] > b[1] for a in lines for b in lines)
    return count


def _placed(layers: list[list[_Box]]) -> float:
    """Set where boxes are from left to right, near their neighbours; return the whole width."""
    for layer in layers:
        _apart(layer, [0.0] * len(layer))
    for _ in range(_SWEEPS):
        for layer in (*layers, *layers[::-1]):
            _apart(layer, [_wanted(box) for box in layer])
    left = min(box.x - box.width / 2 for layer in layers for box in layer)
    for layer in layers:
        for box in layer:
            box.x += _MARGIN - left
    return max(box.x + box.width / 2 for layer in layers for box in layer) + _MARGIN


def _wanted(box: _Box) -> float:
    """Return the middle of a box's neighbours; an edge that passes goes rather straight on."""
    near = [*box.above, *box.below]
    weights = [_STIFF if box.node is None and b.node is None else 1.0 for b in near]
    return sum(w * b.x for w, b in zip(weights, near, strict=True)) / sum(weights)


def _apart(layer: list[_Box], wanted: list[float]) -> None:
    """Set boxes where they are wanted, as nearly as they do not overlap."""
    gaps = [(a.width + b.width) / 2 + _GAP for a, b in pairwise(layer)]
    right, left = list(wanted), list(wanted)
    for i, gap in enumerate(gaps):
        right[i + 1] = max(right[i + 1], right[i] + gap)
    for i, gap in reversed(list(enumerate(gaps))):
        left[i] = min(left[i], left[i + 1] - gap)
    for box, a, b in zip(layer, left, right, strict=True):
        box.x = (a + b) / 2


# The picture.


def draw(
    diagram: Diagram, marked: dict[str, list[str]] | None = None, *, alone: bool = False
) -> str:
    """Return a diagram as SVG.

    Args:
        diagram: The parts and the edges.
        marked: For the parts that are to be marked, the violated claims.
        alone: Whether it is a file of its own, with its own colours.
    """
    marked = marked or {}
    boxes = {node.id: _box(node, marked.get(node.id, [])) for node in diagram.nodes}
    layers, ways = _layers(diagram, boxes)
    layers = _ordered(layers)
    width = _placed(layers)
    tops, y = {}, float(_MARGIN)
    height = 0.0
    for layer in layers:
        height = max(box.height for box in layer)
        for box in layer:
            box.height = box.height or height
            tops[id(box)] = y + (height - box.height) / 2
        y += height + _BETWEEN
    size = f'width="{width:.0f}" height="{y - _BETWEEN + _MARGIN:.0f}"'
    view = f'viewBox="0 0 {width:.0f} {y - _BETWEEN + _MARGIN:.0f}"'
    space = ' xmlns="http://www.w3.org/2000/svg"' if alone else ""
    legible = "" if alone else f' style="min-width: {_LEGIBLE * width:.0f}px"'
    parts = [
        f'<svg{space} class="vae" {size} {view}{legible} role="img" '
        'aria-labelledby="vae-title vae-desc">',
        '<title id="vae-title">The VAE as found</title>',
        f'<desc id="vae-desc">{escape(printable(described(diagram)))}</desc>',
        f"<style>{_COLOURS if alone else ''}{_STYLE}</style>",
    ]
    parts += ['<rect class="paper" width="100%" height="100%"/>'] if alone else []
    parts += _edges(ways, tops)
    parts += [_drawn(box, tops[id(box)], marked) for box in boxes.values()]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _drawn(box: _Box, top: float, marked: dict[str, list[str]]) -> str:
    node = box.node
    assert node is not None  # noqa: S101 - edges are drawn elsewhere
    is_network = node.kind in _NETWORKS
    kinds = [
        "network" if is_network else "noise" if node.kind == "noise" else "",
        "violated" if node.id in marked else "",
    ]
    corner = 2 if is_network else 9
    rows = [
        f'<text class="{kind}" text-anchor="middle" x="{box.x:.1f}" '
        f'y="{top + 18 + _LINE * i:.1f}">{escape(text)}</text>'
        for i, (kind, text) in enumerate(box.lines)
    ]
    return (
        f'<g class="{" ".join(filter(None, ["node", *kinds]))}">'
        f"<title>{escape(printable(_title(node)))}</title>"
        f'<rect x="{box.x - box.width / 2:.1f}" y="{top:.1f}" width="{box.width:.1f}" '
        f'height="{box.height:.1f}" rx="{corner}"/>{"".join(rows)}</g>'
    )


def _edges(ways: list[list[_Box]], tops: dict[int, float]) -> list[str]:
    """Return the edges, each from its port at one box to its port at another."""
    ports = _ports(ways, tops)
    lines = []
    for number, way in enumerate(ways):
        downwards = tops[id(way[0])] < tops[id(way[-1])]
        points = []
        for index, box in enumerate(way):
            top, bottom = tops[id(box)], tops[id(box)] + box.height
            x = ports.get((number, index), box.x)
            ends = [(x, top), (x, bottom)] if downwards else [(x, bottom), (x, top)]
            points += ends[1:] if index == 0 else ends[:1] if box is way[-1] else ends
        step = 7.0 if downwards else -7.0
        tip_x, tip_y = points[-1]
        points[-1] = (tip_x, tip_y - step)
        path = f"M{points[0][0]:.1f},{points[0][1]:.1f}"
        for (a, b), (c, d) in pairwise(points):
            middle = (b + d) / 2
            path += f"C{a:.1f},{middle:.1f} {c:.1f},{middle:.1f} {c:.1f},{d:.1f}"
        head = (
            f"M{tip_x:.1f},{tip_y:.1f}L{tip_x - 3.5:.1f},{tip_y - step:.1f}"
            f"L{tip_x + 3.5:.1f},{tip_y - step:.1f}Z"
        )
        lines.append(f'<path class="edge" d="{path}"/><path class="head" d="{head}"/>')
    return lines


def _ports(ways: list[list[_Box]], tops: dict[int, float]) -> dict[tuple[int, int], float]:
    """Return where edges leave and enter boxes: beside each other, in the order of their ends."""
    at: dict[tuple[int, bool], list[tuple[float, int, int]]] = {}
    for number, way in enumerate(ways):
        for index, near in ((0, 1), (len(way) - 1, len(way) - 2)):
            box = way[index]
            is_top = tops[id(way[near])] < tops[id(box)]
            at.setdefault((id(box), is_top), []).append((way[near].x, number, index))
    boxes = {id(box): box for way in ways for box in way}
    found = {}
    for (key, _), ends in at.items():
        box = boxes[key]
        apart = min(24.0, (box.width - 2 * _PAD) / len(ends))
        for place, (_, number, index) in enumerate(sorted(ends)):
            found[number, index] = box.x + (place - (len(ends) - 1) / 2) * apart
    return found
