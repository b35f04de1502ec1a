"""Make a diagram of the VAE that was found: its parts, and which is computed from which."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from vae_ref.conformance.auditing.addends import MOST, Addends
from vae_ref.conformance.auditing.anatomy import STRUCTURAL, Anatomy, Latent
from vae_ref.conformance.auditing.graph import Operation, at
from vae_ref.conformance.auditing.pieces import NotReplayableError, Pieces
from vae_ref.conformance.auditing.posterior import Posterior
from vae_ref.conformance.records import Diagram, Edge, Node, NodeKind

__all__ = ["diagram_of"]

_CONSTANT = {
    *("zeros", "ones", "full", "empty", "eye", "arange", "linspace", "tril_indices"),
    *("zeros_like", "ones_like", "empty_like", "full_like", "scalar_tensor"),
    *("new_zeros", "new_ones", "new_empty", "new_full", "zero_", "fill_"),
}


def diagram_of(anatomy: Anatomy, pieces: Pieces | None, addends: Addends) -> Diagram:
    """Return the parts as nodes, from the data to the loss, and the flow of data as edges.

    Args:
        anatomy: Where the parts are.
        pieces: The parts as functions; None if they cannot be replayed.
        addends: What the loss is a sum of.
    """
    return _Making(anatomy, pieces, addends).diagram()


class _Making:
    def __init__(self, anatomy: Anatomy, pieces: Pieces | None, addends: Addends) -> None:
        self.anatomy, self.graph = anatomy, anatomy.graph
        self.addends, self.pieces = addends, pieces
        self.users = self.graph.users()
        self.in_loss = self.graph.ancestors([self.graph.loss])
        self.nodes: dict[str, Node] = {}
        self.of_value: dict[int, str] = {}
        self.of_operation: dict[int, str] = {}
        self.sources: dict[str, dict[str, None]] = {}

    def diagram(self) -> Diagram:
        networks = self._networks()
        self._inputs()
        self._network("encoder", "encoder", networks.pop("encoder", []))
        many = len(self.anatomy.latents)
        groups = [[x] for x in self.anatomy.latents] if many <= MOST else [self.anatomy.latents]
        for number, latents in enumerate(groups, 1):
            self._network("network", "between codes", networks.pop(f"code {number}", []))
            self._latent(latents)
        self._network("decoder", "decoder", networks.pop("decoder", []))
        self._each("outputs", "outputs", self.addends.outputs)
        for part in ("divergence", "further"):
            self._network("network", f"{part} network", networks.pop(part, []))
        self._terms()
        self._flow()
        self._name_inputs()
        edges = [Edge(s, t) for t, sources in self.sources.items() for s in sources]
        joined = {end for edge in edges for end in edge}
        self.nodes = {key: node for key, node in self.nodes.items() if key in joined}
        self._number()
        return Diagram(tuple(self.nodes.values()), tuple(edges))

    # Nodes.

    def _put(self, kind: NodeKind, name: str, values: Iterable[int], note: str = "") -> None:
        """Add a node that stands for values which no other stands for."""
        own = [v for v in values if v not in self.of_value]
        if not own:
            return
        key = self._key(kind)
        self.of_value |= dict.fromkeys(own, key)
        shapes = {self.graph.values[v].shape for v in own}
        shape = self.graph.values[own[0]].shape if kind == "input" else None
        shape, place = shapes.pop() if len(shapes) == 1 else shape, self._line(own[0])
        self.nodes[key] = Node(id=key, kind=kind, name=name, shape=shape, note=note, place=place)

    def _key(self, kind: NodeKind) -> str:
        """Return a new name for a node: its kind, and a number from the second on."""
        count = sum(node.kind == kind for node in self.nodes.values())
        return f"{kind} {count + 1}" if count else kind

    def _each(self, kind: NodeKind, name: str, values: tuple[int, ...], note: str = "") -> None:
        """Add a node for each value, or one for all if they are many."""
        groups = [[v] for v in values] if len(values) <= MOST else [list(values)]
        for group in groups:
            self._put(kind, name, group, note or self._made(group[0]))

    def _line(self, value: int) -> str:
        """Return the line that makes a value, or the first that takes it."""
        maker = self.graph.values[value].maker
        makers = [maker] if maker else []
        lines = [o.place for o in [*makers, *self.users.get(value, ())] if o.place]
        return at(lines[0]) if lines else ""

    def _made(self, value: int) -> str:
        maker = self.graph.values[value].maker
        return maker.name.strip("_") if maker else ""

    def _inputs(self) -> None:
        """Add the tensors that come from outside, or are drawn, and have a row for an example."""
        anatomy, noise = self.anatomy, {n for x in self.anatomy.latents for n in x.noise}
        many = len(anatomy.data) > MOST
        for data in [anatomy.data] if many else [(v,) for v in anatomy.data]:
            own = [v for value in data for v in self._unshaped(value)]
            self._put("input", f"{len(data)} data" if many else "data", own, self._made(own[0]))
        rows = self.graph.values[anatomy.latents[0].z].shape[:1]
        found = [
            value.index
            for value in self.graph.values
            if value.index in self.in_loss - noise
            and not value.parameter
            and value.shape[:1] == rows
            and value.numel > 1
            and (
                value.maker is None
                or (not value.maker.reads and value.maker.name not in _CONSTANT)
            )
        ]
        if len(found) <= MOST:
            for value in found:
                self._put("input", "input", [value])
        else:
            self._put("input", f"{len(found)} inputs", found)

    def _unshaped(self, value: int) -> list[int]:
        """Return a value and what has the same numbers in another shape, back to the first."""
        found, size = [value], self.graph.values[value].numel
        while (maker := self.graph.values[value].maker) and maker.name in STRUCTURAL:
            before = [v for v in maker.reads if self.graph.values[v].numel == size]
            if len(before) != 1:
                break
            (value,) = before
            found.append(value)
        return found

    def _networks(self) -> dict[str, list[Operation]]:
        """Return the operations with weights, by the part that they are first needed for."""
        graph, anatomy = self.graph, self.anatomy
        codes = [x.z for x in anatomy.latents]
        below = graph.descendants(codes)
        needed: list[tuple[str, set[int]]] = []
        above: set[int] = set()
        for number, latent in enumerate(anatomy.latents, 1):
            above = above | graph.ancestors(latent.posterior)
            needed.append((f"code {number if len(codes) <= MOST else 1}", above))
        needed += [
            ("decoder", graph.ancestors(self.addends.outputs)),
            ("divergence", graph.ancestors(self.addends.divergence)),
            ("further", graph.ancestors(v for values in self.addends.further for v in values)),
        ]
        found: dict[str, list[Operation]] = {}
        for operation in graph.operations:
            made = set(operation.outputs)
            if anatomy.plain(operation) or not made & self.in_loss:
                continue
            part = next((name for name, values in needed if made & values), "")
            if part.startswith("code") and not made & below:
                part = "encoder"
            found.setdefault(part, []).append(operation)
        return found

    def _network(self, kind: NodeKind, name: str, operations: list[Operation]) -> None:
        """Add a node that stands for operations with weights."""
        if not operations:
            return
        key = self._key(kind)
        self.of_operation |= dict.fromkeys((o.index for o in operations), key)
        counts = Counter(o.name.strip("_") for o in operations)
        note = ", ".join(f"{n} {what}" if n > 1 else what for what, n in counts.items())
        self.nodes[key] = Node(
            id=key, kind=kind, name=name, note=note, place=at(operations[0].place)
        )

    def _latent(self, latents: list[Latent]) -> None:
        """Add the posterior, the noise and the code; several codes may share them."""
        how = self._posterior()
        many = len(latents) > 1
        if how is None:
            posterior = [v for x in latents for v in x.posterior]
            self._put("posterior", "posteriors" if many else "posterior", posterior)
        else:
            self._put("mu", "mu", [how.mu], self._made(how.mu))
            self._put("spread", how.spread, [how.raw], self._made(how.raw))
        noise = [n for x in latents for n in x.noise]
        name = f"{len(noise)} draws of noise" if many else "noise"
        self._put("noise", name, noise, " and ".join(dict.fromkeys(x.law for x in latents)))
        plain = how is not None and not how.by_density
        made = "mu + sigma * noise" if plain else self._made(latents[0].z)
        name = f"{len(latents)} codes" if many else "code"
        self._put("code", name, [x.z for x in latents], made)

    def _posterior(self) -> Posterior | None:
        if self.pieces is None or len(self.anatomy.latents) > 1:
            return None
        try:
            return self.pieces.posterior
        except NotReplayableError:
            return None

    def _terms(self) -> None:
        addends, graph = self.addends, self.graph
        kind = ("sampled" if self.pieces.is_sampled else "analytic") if self.pieces else ""
        note = _weighed(kind, addends.kl)
        self._each("divergence", "divergence", addends.divergence, note)
        note = _weighed(addends.likelihood, addends.nll)
        self._each("reconstruction", "reconstruction", addends.reconstruction, note)
        for values, worth in addends.further.items():
            name = f"{len(values)} further terms" if len(values) > 1 else "further term"
            self._put("term", name, values, f"{self._made(values[0])}, adds {worth:.3g}")
        recorded = graph.values[graph.loss].external
        note = "" if recorded is None else f"{float(recorded):.4g} here"
        self.nodes["loss"] = Node(
            id="loss", kind="loss", name="loss", shape=(), note=note, place=self._line(graph.loss)
        )

    # Edges.

    def _flow(self) -> None:
        """Find what each part is computed from: follow each until it meets the next."""
        near: dict[int, dict[str, None]] = {
            value: {key: None} for value, key in self.of_value.items()
        }
        for operation in self.graph.operations:
            reached: dict[str, None] = {}
            for value in operation.reads:
                reached |= near.get(value, {})
            if part := self.of_operation.get(operation.index):
                self._join(reached, part)
                reached = {part: None}
            for value in operation.outputs:
                if part := self.of_value.get(value):
                    self._join(reached, part)
                else:
                    near[value] = reached
        self._join(near.get(self.graph.loss, {}), "loss")

    def _join(self, sources: dict[str, None], target: str) -> None:
        self.sources.setdefault(target, {}).update({s: None for s in sources if s != target})

    # Names.

    def _name_inputs(self) -> None:
        """Call an input what it is by where it goes."""
        for key, node in self.nodes.items():
            if node.kind != "input" or node.name.endswith("data"):
                continue
            drawn = [
                maker.law
                for value, part in self.of_value.items()
                if part == key and (maker := self.graph.values[value].maker)
            ]
            if any(drawn):
                on_the_input = key in self.sources.get("encoder", ())
                self._rename(key, "noise on the input" if on_the_input else "noise")
            elif key in self.sources.get("decoder", ()):
                self._rename(key, "condition")

    def _number(self) -> None:
        """Number the names that several nodes have."""
        counts = Counter(node.name for node in self.nodes.values())
        numbers = Counter[str]()
        for key, node in self.nodes.items():
            if counts[node.name] > 1:
                numbers[node.name] += 1
                self._rename(key, f"{node.name} {numbers[node.name]}")

    def _rename(self, key: str, name: str) -> None:
        self.nodes[key] = replace(self.nodes[key], name=name)


def _weighed(what: str, weight: float | None) -> str:
    """Say what a term is, with its weight in the loss."""
    return ", ".join(filter(None, [what, "" if weight is None else f"weight {abs(weight):.4g}"]))
