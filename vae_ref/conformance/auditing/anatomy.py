"""Find the parts of a VAE in the graph of its step, by the flow of data alone.

Noise comes in at a random operation. The code z is what it has become where the next operation
with weights takes it in; the posterior is what z is made of beside the noise, as late as it is
still the only way from the encoder to z and to the loss; the outputs are what the decoder's last
operation with weights has become before it meets the data.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from vae_ref.conformance.auditing.graph import Graph, Operation
from vae_ref.support.errors import UserError

__all__ = ["Anatomy", "Latent", "NoVAEError", "dissect"]

WEIGHTED = {
    *("linear", "bilinear", "conv1d", "conv2d", "conv3d"),
    *("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    *("matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "addmm", "baddbmm", "einsum", "mv"),
    *("tensordot", "embedding", "lstm", "gru", "rnn_tanh", "rnn_relu"),
    *("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell", "multi_head_attention_forward"),
    *("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "prelu", "dot"),
}
PRODUCTS = {"mul", "multiply", "matmul", "__matmul__", "mm", "bmm", "einsum"}
STRUCTURAL = {
    *("view", "reshape", "flatten", "unflatten", "permute", "transpose", "t", "T", "mT"),
    *("unsqueeze", "squeeze", "contiguous", "expand", "expand_as", "to", "float", "double"),
    *("half", "bfloat16", "type_as", "type", "clone", "__getitem__", "chunk", "split", "unbind"),
    *(
        "cat",
        "concat",
        "stack",
        "select",
        "narrow",
        "movedim",
        "view_as",
        "reshape_as",
        "swapaxes",
    ),
    *(
        "repeat",
        "repeat_interleave",
        "broadcast_to",
        "broadcast_tensors",
        "moveaxis",
        "tensor_split",
    ),
    *("pad", "roll", "flip", "unfold", "zero_", "detach"),
}


_ADDING = {
    *("add", "add_", "__add__", "__radd__", "__iadd__", "sub", "sub_", "__sub__", "__isub__"),
    *("rsub", "__rsub__", "neg", "__neg__", "sum", "mean", "stack", "cat", *STRUCTURAL),
}
"""The operations whose result is a sum of what they take."""

_SCALING = {"mul", "mul_", "__mul__", "__rmul__", "__imul__", "div", "div_", "__truediv__"}


class NoVAEError(UserError, ValueError):
    """The step has no VAE that can be judged; the message says why.

    Attributes:
        kind: What it has in its place, if that is told.
    """

    kind = ""


@dataclass
class Latent:
    """One code: its noise, z, and what its posterior is read from.

    Attributes:
        noise: The random values that reach z.
        law: Their distribution, by the operation that draws them.
        z: The code.
        posterior: The values that z and the divergence are computed from, beside the noise.
        reparameterized: Whether z is a function of the posterior and of noise that does not
            depend on it.
    """

    noise: tuple[int, ...]
    law: str
    z: int
    posterior: tuple[int, ...]
    reparameterized: bool = True


@dataclass
class Anatomy:
    """The parts of a step.

    Attributes:
        graph: The step.
        latents: Its codes.
        outputs: The decoder's outputs, as the reconstruction term takes them.
        earlier: What they were computed from, one value after the other, the last first.
        data: The values that are compared with the outputs.
        unmapped: What a single one of these was made of, number by number, the last first.
        penalties: The last values that depend on the posterior and not on the outputs.
        distortions: The last values that depend on the outputs and not on the posterior otherwise.
        asides: Further terms that are left out of whatever is judged: those of parameters that
            reach the rest only by way of the known parts, such as a classifier of the images.
        beside: What the divergence is computed from beside the posterior and that is learned, such
            as mu and sigma of a prior.
        dropped: Random operations that are dropout.
        is_graph: Whether the decoder multiplies codes by codes, as those of a graph's nodes.
        weighted: The operations that mix their inputs with weights, by their numbers.
    """

    graph: Graph
    latents: list[Latent]
    outputs: tuple[int, ...] = ()
    earlier: tuple[int, ...] = ()
    data: tuple[int, ...] = ()
    unmapped: tuple[int, ...] = ()
    penalties: tuple[int, ...] = ()
    distortions: tuple[int, ...] = ()
    asides: tuple[int, ...] = ()
    beside: tuple[int, ...] = ()
    dropped: list[Operation] = field(default_factory=list)
    is_graph: bool = False
    weighted: frozenset[int] = frozenset()

    def plain(self, operation: Operation) -> bool:
        """Whether an operation does without weights."""
        return operation.index not in self.weighted

    @property
    def parts(self) -> set[int]:
        """What the networks put out, and the codes between them."""
        return {*self.outputs, *(v for x in self.latents for v in (x.z, *x.posterior))}

    def of_parameters(self) -> list[int]:
        """Return the addends of parameters that reach the rest only by way of the known parts."""
        graph, parts = self.graph, self.parts
        moved = graph.descendants(parts)
        learned = graph.descendants(v.index for v in graph.values if v.parameter)
        found, ends, seen, left = [], [], set[int](), [graph.loss]
        while left:
            value = left.pop()
            maker = graph.values[value].maker
            if value in seen or value in parts:
                continue
            seen.add(value)
            if value not in moved:
                found += [value] if value in learned else []
            elif maker is not None:
                added = _added(maker, moved | learned)
                left += added
                ends += [] if added else [value]
        rest = graph.ancestors(ends, through=lambda o: parts.isdisjoint(o.outputs))
        taken = {v for v in rest if graph.values[v].parameter}
        return [v for v in sorted(found) if taken.isdisjoint(graph.ancestors([v]))]


def _added(operation: Operation, varying: set[int]) -> Sequence[int]:
    """Return what an operation adds up, if it does."""
    moving = [v for v in operation.reads if v in varying]
    adds = operation.name in _ADDING or (operation.name in _SCALING and len(moving) == 1)
    return moving if adds else ()


def dissect(graph: Graph) -> Anatomy:
    """Find the parts.

    Raises:
        NoVAEError: If there is none, or none that can be judged.
    """
    return _Dissection(graph).anatomy()


class _Dissection:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.users = graph.users()
        parameters = [v.index for v in graph.values if v.parameter]
        self.from_parameters = graph.descendants(parameters)
        self.random = [o for o in graph.operations if o.law and o.law != "dropout"]
        self.of_noise = graph.descendants(v for o in self.random for v in o.outputs)
        self.in_loss = graph.ancestors([graph.loss])
        self.products: set[int] = set()

    def weighted(self, operation: Operation) -> bool:
        """Whether an operation mixes its inputs with weights, or codes where nothing else does."""
        return operation.index in self.products or (
            operation.name in WEIGHTED and any(map(self._is_weight, operation.reads))
        )

    def _is_product(self, operation: Operation) -> bool:
        """Whether an operation multiplies some of a code by some other of it."""
        if operation.name not in PRODUCTS or len(set(operation.reads) & self.of_noise) != 2:
            return False
        first, second = (self._unshaped(value, self.of_noise) for value in operation.reads)
        return first == second

    def _is_weight(self, value: int) -> bool:
        """Whether a value is a parameter, or made of parameters alone (as a normalised weight)."""
        if self.graph.values[value].parameter:
            return len(self.graph.values[value].shape) > 0
        if value not in self.from_parameters or value in self.of_noise:
            return False
        above = [self.graph.values[v] for v in self.graph.ancestors([value])]
        if any(v.maker and v.maker.law for v in above):
            return False
        return all(v.parameter or v.numel <= 1 for v in above if v.maker is None)

    def anatomy(self) -> Anatomy:
        graph = self.graph
        if not self.of_noise & self.in_loss:
            raise self._without_noise()
        latents = self._latents()
        if not latents:
            self.products = {o.index for o in graph.operations if self._is_product(o)}
            latents = self._latents()
        outside = NoVAEError(
            "noise enters this loss, but not between an encoder and a decoder: no operation "
            "with weights comes both before and after it"
        )
        if not latents:
            raise outside
        self.of_noise = graph.descendants(n for latent in latents for n in latent.noise)
        dropped = [o for o in graph.operations if o.law == "dropout"]
        weighted = frozenset(o.index for o in graph.operations if self.weighted(o))
        anatomy = Anatomy(graph, latents, dropped=dropped, weighted=weighted)
        for latent in latents:
            latent.posterior = self._posterior(latent, is_only=len(latents) == 1)
        anatomy.outputs, anatomy.earlier = self._outputs(latents)
        anatomy.data = self._data(anatomy.outputs)
        if not anatomy.data and len(latents) == 1 and (draws := self._draws(latents[0])) > 1:
            anatomy.data = self._data(anatomy.outputs, draws)
        anatomy.unmapped = self._unmapped(anatomy.data)
        anatomy.penalties, anatomy.distortions = self._terms(anatomy)
        anatomy.asides = tuple(anatomy.of_parameters())
        anatomy.is_graph = bool(self.products)
        if anatomy.is_graph and not anatomy.penalties:
            raise outside
        return anatomy

    def _without_noise(self) -> NoVAEError:
        chosen = [o for o in self.graph.operations if o.name in ("argmin", "argmax", "topk")]
        if chosen:
            where = f" ({chosen[0].place})" if chosen[0].place else ""
            error = NoVAEError(
                f"the code is chosen by {chosen[0].name}{where}, as in a VQ-VAE: discrete codes "
                "are not judged yet"
            )
            error.kind = "a VQ-VAE"
            return error
        return NoVAEError(
            "no noise enters this loss: it is that of an autoencoder, or the step samples "
            "elsewhere; call the step in training mode"
        )

    # z and the noise.

    def _latents(self) -> list[Latent]:
        found: dict[int, set[int]] = {}
        for operation in self.random:
            for drawn in operation.outputs:
                reached = self.graph.descendants([drawn], through=lambda o: not self.weighted(o))
                for z in self._codes(reached):
                    found.setdefault(z, set()).add(drawn)
        latents = []
        for z, noise in found.items():
            first = self.graph.ancestors([z]) & found.keys()
            if any(found[other] == noise for other in first - {z}):
                continue  # a later layer of the decoder, beside which z goes along, or a flow
            makers = [self.graph.values[n].maker for n in noise]
            laws = {maker.law for maker in makers if maker}
            free = self.from_parameters.isdisjoint(v for n in noise for v in self.graph.inputs(n))
            latents.append(
                Latent(
                    tuple(sorted(noise)), " and ".join(sorted(laws)), z, (), reparameterized=free
                )
            )
        return sorted(latents, key=lambda latent: latent.z)

    def _codes(self, reached: set[int]) -> set[int]:
        """Return the codes: what enters an operation with weights, before it is shaped for it."""
        codes = set()
        for operation in self.graph.operations:
            if not self.weighted(operation) or self.in_loss.isdisjoint(operation.outputs):
                continue
            for value in set(operation.reads) & reached:
                codes |= self._unshaped(value, reached)
        return {z for z in codes if self._has_encoder(z)}

    def _unshaped(self, value: int, within: set[int]) -> set[int]:
        maker = self.graph.values[value].maker
        if maker is None or not (maker.law == "dropout" or maker.name in STRUCTURAL):
            return {value}
        before = [v for v in maker.reads if v in within]
        return set().union(*(self._unshaped(v, within) for v in before)) if before else {value}

    def _has_encoder(self, z: int) -> bool:
        above = self.graph.ancestors([z])
        return any(
            self.weighted(o)
            and not above.isdisjoint(o.outputs)
            and any(v not in self.from_parameters or not self._is_weight(v) for v in o.reads)
            for o in self.graph.operations
        )

    # The posterior.

    def _posterior(self, latent: Latent, *, is_only: bool) -> tuple[int, ...]:
        """Return the latest values through which all that z and the loss take must pass.

        Beside other codes, what does not reach z without weights belongs to one of them.
        """
        of_noise = self.graph.descendants(latent.noise)
        region = (self.graph.ancestors([latent.z]) & self.from_parameters) - of_noise
        region = {v for v in region if not self._is_weight(v)}
        heads = {
            v for v in region if (maker := self.graph.values[v].maker) and self.weighted(maker)
        }
        below = (of_noise | self._penal(latent.z, region)) & self.in_loss
        sources, near = set(), set[int]()
        for head in heads:
            reached = self.graph.descendants([head], through=lambda o: not self.weighted(o))
            if not (is_only or latent.z in reached):
                continue
            reached &= region
            if any(below & set(o.outputs) for v in reached for o in self.users.get(v, ())):
                sources.add(head)
                near |= reached
        return self._bottleneck(sources, near)

    def _penal(self, z: int, region: set[int]) -> set[int]:
        """Return what is computed from a posterior beside z."""
        return self.graph.descendants(region) - self.graph.descendants([z]) - region

    def _bottleneck(
        self, sources: Iterable[int], region: set[int], beyond: set[int] | None = None
    ) -> tuple[int, ...]:
        """Return the cut with the fewest numbers between sources and what leaves a region.

        Of several such cuts it is the latest. What leaves it must be in the loss, and ``beyond``.
        """
        import networkx as nx  # a tenth of a second, which only an audit needs

        beyond = self.in_loss if beyond is None else beyond & self.in_loss
        network = nx.DiGraph()
        big = 10**12
        for value in region:
            size = self.graph.values[value].numel
            network.add_edge(("in", value), ("out", value), capacity=size)
            leaves = False
            for operation in self.users.get(value, ()):
                inside = [o for o in operation.outputs if o in region]
                for output in inside:
                    network.add_edge(("out", value), ("in", output), capacity=big)
                leaves |= not beyond.isdisjoint(set(operation.outputs) - region)
            if leaves or value == self.graph.loss:
                network.add_edge(("out", value), "exit", capacity=big)
        for source in sources:
            if source in region:
                network.add_edge("entry", ("in", source), capacity=big)
        if "entry" not in network or "exit" not in network:
            return tuple(sorted(sources))
        _, (_, late) = nx.minimum_cut(network, "entry", "exit")  # the side of the exit is least
        cut = [v for v in region if ("out", v) in late and ("in", v) not in late]
        return tuple(sorted(cut))

    # The decoder's outputs.

    def _outputs(self, latents: list[Latent]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        codes = [latent.z for latent in latents]
        decoded = self.graph.descendants(
            v
            for o in self.graph.operations
            if self.weighted(o) and not self.graph.descendants(codes).isdisjoint(o.reads)
            for v in o.outputs
        )
        last = [
            o
            for o in self.graph.operations
            if self.weighted(o)
            and not decoded.isdisjoint(o.outputs)
            and not self.in_loss.isdisjoint(o.outputs)
        ]
        mixed = {v for o in last for v in o.outputs}
        ends = [
            v
            for v in mixed
            if v in self.in_loss
            and not any(
                self.weighted(o)
                for o in self.graph.operations
                if not (self.graph.descendants([v]) - {v}).isdisjoint(o.outputs)
                and not self.in_loss.isdisjoint(o.outputs)
            )
        ]
        if not ends:
            raise NoVAEError("the loss depends on no output of a decoder")
        if len(latents) > 1:
            ends = [v for v in ends if not self._is_of_prior(v, latents)] or ends
        ends = [self._with_border(value) for value in ends]
        tail = self._tail(ends)
        largest = max(self.graph.values[v].numel for v in ends)
        tail = {v for v in tail if self.graph.values[v].numel * 8 >= largest or v in ends}
        outputs = self._bottleneck(ends, tail)
        return outputs, self._chain(outputs, tail) if len(outputs) == 1 else ()

    def _is_of_prior(self, value: int, latents: list[Latent]) -> bool:
        """Whether a value meets a posterior, as what a prior is computed from, and not data."""
        near = self.graph.descendants([value], through=lambda o: not self.weighted(o))
        codes = {latent.z for latent in latents}
        above = self.graph.ancestors([value], through=lambda o: codes.isdisjoint(o.outputs))
        for latent in latents:
            if latent.z in above:  # it is decoded from this one
                continue
            own = {latent.z, *latent.posterior}
            beside = self.graph.descendants(own, through=lambda o: not self.weighted(o))
            for operation in self.graph.operations:
                met = near & set(operation.reads)
                others = [v for v in operation.reads if v not in near]
                if met and any(self.graph.values[v].numel > 1 for v in others):
                    if not beside.isdisjoint(others):
                        return True
                    break
        return False

    def _tail(self, ends: Iterable[int]) -> set[int]:
        """Return what is computed from some values alone, they included."""
        tail, beyond = set(ends), self.graph.descendants(ends)
        for operation in self.graph.operations:
            inside = [v for v in operation.reads if v in beyond]
            if not inside or not all(v in tail for v in inside):
                continue
            others = [v for v in operation.reads if v not in beyond]
            if all(self._is_weight(v) or self.graph.values[v].numel <= 1 for v in others):
                tail.update(operation.outputs)
        return tail

    def _with_border(self, value: int) -> int:
        """Return what outputs become by a border that is put around them; else the outputs."""
        found = value
        while True:
            users = [
                o for o in self.users.get(value, ()) if not self.in_loss.isdisjoint(o.outputs)
            ]
            if len(users) != 1 or users[0].name not in STRUCTURAL or len(users[0].outputs) != 1:
                return found
            (value,) = users[0].outputs
            found = value if users[0].name == "pad" else found

    def _chain(self, outputs: tuple[int, ...], region: set[int]) -> tuple[int, ...]:
        """Return the values in a region that alone make the outputs, the last first."""
        values, size = self.graph.values, self.graph.values[outputs[0]].numel
        near = self.graph.ancestors(outputs) & region
        sources = [v for v in near if near.isdisjoint(self.graph.inputs(v))]

        def alone(value: int) -> bool:
            """Whether no way leads around a value."""
            others = [v for v in sources if v != value]
            around = self.graph.descendants(others, through=lambda o: value not in o.outputs)
            return outputs[0] not in around

        chain = [v for v in near if v not in outputs and values[v].numel == size and alone(v)]
        return tuple(sorted(chain, reverse=True))

    def _draws(self, latent: Latent) -> int:
        """Return how many codes are drawn for each example, if mu and sigma are of one size."""
        sizes = {self.graph.values[v].numel for v in latent.posterior}
        whole = self.graph.values[latent.z].numel
        return whole // min(sizes) if len(sizes) == 1 and whole % min(sizes) == 0 else 1

    def _data(self, outputs: tuple[int, ...], draws: int = 1) -> tuple[int, ...]:
        """Return what meets the outputs: values without weights or noise, of their size.

        Where several codes are drawn, it may have the size of one draw.
        """
        below = self.graph.descendants(outputs)
        size = max(self.graph.values[v].numel for v in outputs) // draws
        region = {
            value.index
            for value in self.graph.values
            if value.index not in below | self.from_parameters | self.of_noise | self.graph.uniform
            and not value.parameter
            and value.numel == size
        }
        sources = {v for v in region if region.isdisjoint(self.graph.inputs(v))}
        used = {
            v
            for v in region
            for o in self.users.get(v, ())
            if below & self.in_loss & set(o.outputs)
        }
        near = self.graph.ancestors(used) & region
        return self._bottleneck(sources & near, near, below) if used else ()

    def _unmapped(self, data: tuple[int, ...]) -> tuple[int, ...]:
        """Return what the data were before each of the operations on them alone, as 2 x - 1."""
        values, found = self.graph.values, list(data) if len(data) == 1 else []
        while found:
            read = self.graph.inputs(found[-1])
            reads = [v for v in read if values[v].numel > 1 and not values[v].is_one_number]
            if len(reads) != 1 or values[reads[0]].numel != values[data[0]].numel:
                break
            found.append(reads[0])
        return tuple(found[1:])

    # What of the loss is not the reconstruction.

    def _terms(self, anatomy: Anatomy) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the last values that depend on the posterior alone, and on the outputs alone."""
        of_outputs = self.graph.descendants(anatomy.outputs)
        decoded = self.graph.ancestors(anatomy.outputs)
        starts = [v for latent in anatomy.latents for v in (*latent.posterior, latent.z)]
        penal = (self.graph.descendants(starts) - of_outputs - decoded) & self.in_loss
        known = {v for latent in anatomy.latents for v in latent.posterior}
        above = self.graph.ancestors(
            self._last(penal, of_outputs), through=lambda o: known.isdisjoint(o.outputs)
        )
        anatomy.beside = self._beside(above - known - of_outputs)
        of_penal = self.graph.descendants(penal)
        distorted = (of_outputs - of_penal) & self.in_loss
        return self._last(penal, of_outputs), self._last(distorted, of_penal)

    def _beside(self, above: set[int]) -> tuple[int, ...]:
        """Return the fewest numbers by which weights reach what is computed without weights."""
        plain = [
            o
            for o in self.graph.operations
            if not self.weighted(o) and not above.isdisjoint(o.outputs)
        ]
        mixed = {v for o in self.graph.operations if self.weighted(o) for v in o.outputs}
        ends = {
            v
            for o in plain
            for v in o.reads
            if v in above and (v in mixed or self.graph.values[v].parameter)
        }
        return self._bottleneck(ends, self._tail(ends)) if ends else ()

    def _last(self, values: set[int], others: set[int]) -> tuple[int, ...]:
        """Return the values that meet others, or are the loss."""
        return tuple(
            value
            for value in sorted(values)
            if value == self.graph.loss
            or any(
                set(o.outputs) & self.in_loss & others - values for o in self.users.get(value, ())
            )
        )
