"""Claims about the networks, and about how the forward pass puts them together."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from vae_ref.conformance.answers.comparison import plain
from vae_ref.conformance.claims import registry
from vae_ref.conformance.probe.networks import Networks, changed
from vae_ref.conformance.probe.probe import Probe
from vae_ref.conformance.records import NotApplicable, Violation

__all__ = ["evaluating", "require_composition", "require_independent"]

claim = partial(registry.claim, slot="net")

_SOURCE = "Kingma and Welling 2014, appendix C"
_HEADS = ("model/two-heads",)

_REACH = 8.0
"""How far a head has to reach on either side of 0; a logvar of 8 is a sigma of 55."""

_FACTORS, _SIGNS = (8.0, 64.0), 6
"""By how much the weights are enlarged, and with how many sets of random signs each time."""

_FAR = (4096.0,)
"""The same for heads: behind a layer of tanh, weights that begin at 0.01 take them no further.

So far out a softplus is 0, too: which activation it is shows before.
"""

_PROBABILITIES, _LOGIT = (0.1, 0.9), 2.0
"""What probabilities, or else logits, have to reach on either side.

A sigmoid reaches 0.1 and 0.9 at logits of -2.2 and 2.2. If a sigmoid is applied twice, the result
never does; and "logits" that are really probabilities stay in [0, 1].
"""

_SAME = 1e-4
"""How far answers in single precision may differ that should be equal, relative to the largest.

Sums of a few hundred numbers in another order differ by about a hundredth of that.
"""

_SAME_IN_DOUBLE = 1e-3
"""The same, between answers in single and in double precision."""


@contextlib.contextmanager
def evaluating(probe: Probe) -> Iterator[Networks]:
    """Yield the networks in evaluation mode, without gradients."""
    with probe.mode(training=False), torch.no_grad():
        yield Networks.of(probe)


_NORMALISATIONS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


@claim(
    "model/two-heads",
    statement="The encoder returns one mu and one logvar for every latent of every example.",
    formula=r"x \mapsto (\mu(x), \log\sigma^2(x)) \in R^D \times R^D",
    source=_SOURCE,
    needs=("encode",),
    kind="metamorphic",
    tolerance="none",
    kills=("model-one-head", "model-heads-of-other-sizes"),
)
def two_heads(probe: Probe) -> None:
    with evaluating(probe) as networks:
        mu, logvar = networks.encode(networks.images(3))
    if mu.shape != logvar.shape or len(mu) != 3:
        raise Violation(
            f"mu has shape {tuple(mu.shape)}, logvar {tuple(logvar.shape)}, for 3 examples",
            symptom="shape",
        )
    if torch.equal(mu, logvar):
        raise Violation("mu and logvar are the same numbers", symptom="one-head")


def _with_larger_weights(
    probe: Probe,
    outputs: Callable[[Networks], Tensor],
    factors: tuple[float, ...] = _FACTORS,
) -> Iterator[Tensor]:
    """Yield what the networks return as they are, and with larger weights of random signs.

    So a linear layer reaches far on either side. Where the networks raise, nothing is yielded.
    """
    networks, signs = Networks.of(probe), probe.generator("signs")
    with evaluating(probe):
        yield outputs(networks)
    for factor in factors if probe.subject.module is not None else ():
        for _ in range(_SIGNS):
            with (
                contextlib.suppress(RuntimeError, ValueError),
                evaluating(probe),
                changed(probe.subject.module, factor=factor, signs=signs),
            ):
                values = outputs(networks)
                yield values[torch.isfinite(values)]


def _require_unconstrained(probe: Probe, which: int) -> None:
    """Raise `Violation` if mu (0) or logvar (1) does not reach far on either side of 0."""
    name = ("mu", "logvar")[which]
    low, high, zeros = 0.0, 0.0, False
    x = Networks.of(probe).images(64)
    for factors in (_FACTORS, _FAR):
        for values in _with_larger_weights(probe, lambda nets: nets.encode(x)[which], factors):
            if values.numel():
                low, high = min(low, float(values.min())), max(high, float(values.max()))
            zeros = zeros or (factors is _FACTORS and int((values == 0).sum()) > 1)
            if low < -_REACH and high > _REACH:
                return
    if probe.subject.module is None and (low < 0 < high or probe.subject.elsewhere):
        raise NotApplicable("without the module, the weights cannot be enlarged")
    symptom = "never-negative" if low >= 0 else "never-positive" if high <= 0 else "bounded"
    raise Violation(
        f"{name} stays in [{low:.3g}, {high:.3g}] however large the weights are: it is "
        f"{'bounded' if symptom == 'bounded' else symptom.replace('-', ' ')}",
        symptom=symptom + ("-often-zero" if zeros else ""),
    )


@claim(
    "model/unconstrained-mu",
    statement="mu may be any real number.",
    formula=r"\mu(x) \in R",
    source=_SOURCE,
    needs=("encode",),
    kind="metamorphic",
    tolerance="with weights made larger, values beyond 8 on both sides are reached",
    kills=("model-relu-on-mu", "model-tanh-on-mu"),
    builds_on=_HEADS,
)
def unconstrained_mu(probe: Probe) -> None:
    _require_unconstrained(probe, 0)


@claim(
    "model/unconstrained-logvar",
    statement="logvar may be any real number; for a sigma below 1 it has to be negative.",
    formula=r"\log\sigma^2(x) \in R",
    source=_SOURCE,
    needs=("encode",),
    kind="metamorphic",
    tolerance="with weights made larger, values beyond 8 on both sides are reached",
    kills=("model-relu-on-logvar", "model-softplus-on-logvar", "model-tanh-on-logvar"),
    builds_on=_HEADS,
)
def unconstrained_logvar(probe: Probe) -> None:
    _require_unconstrained(probe, 1)


@claim(
    "model/decoder-range",
    statement="The decoder's outputs fill the range that the likelihood takes.",
    formula=r"\hat x \in (0, 1) \text{ for probabilities}, \quad \hat x \in R \text{ for logits}",
    source=_SOURCE,
    needs=("decode",),
    kind="metamorphic",
    tolerance="probabilities lie in [0, 1] and reach below 0.1 and above 0.9; logits beyond +-2",
    kills=("model-no-sigmoid", "model-tanh-decoder", "model-sigmoid-twice", "model-half-range"),
)
def decoder_range(probe: Probe) -> None:
    if probe.found_likelihood is None:
        raise NotApplicable("no likelihood is declared or could be inferred")
    likelihood = probe.found_likelihood
    low, high = torch.inf, -torch.inf
    with evaluating(probe) as networks:
        codes = networks.codes(64, 2.0)
    for outputs in _with_larger_weights(probe, lambda networks: networks.decode(codes)):
        if outputs.numel():
            low, high = min(low, float(outputs.min())), max(high, float(outputs.max()))
    if likelihood.bounded and not (low >= 0 and high <= 1):
        raise Violation(
            f"outputs reach from {low:.3g} to {high:.3g}, but the likelihood takes probabilities",
            symptom="outside" if low < -1 or high > 1 else "outside-within-1",
        )
    short = low > _PROBABILITIES[0] or high < _PROBABILITIES[1]
    if probe.subject.module is None or not likelihood.absolute:
        return
    if likelihood.bounded and short:
        raise Violation(f"outputs stay in [{low:.3g}, {high:.3g}], within (0, 1)", symptom="short")
    if not likelihood.bounded and low > -_LOGIT and high < _LOGIT:
        raise Violation(
            f"outputs stay in [{low:.3g}, {high:.3g}], but the likelihood takes logits: the "
            "sigmoid is applied twice",
            symptom="sigmoid-twice",
        )


def require_independent(what: str, function: Callable[[Tensor], Tensor], rows: Tensor) -> None:
    """Raise `Violation` if what is computed from an example depends on the rest of the batch."""
    together = function(rows)
    alone = torch.cat([function(rows[i : i + 1]) for i in range(len(rows))])
    size = 1 + float(together.abs().max())
    if not float((together - alone).abs().max()) <= _SAME * size:
        worst = int((together - alone).abs().amax(1).argmax())
        raise Violation(
            f"{what} depends on the other examples of the batch",
            symptom="leak",
            counterexample={
                "inputs": {"example": worst},
                "expected": plain(alone[worst][:5]),
                "got": plain(together[worst][:5]),
            },
        )


@claim(
    "model/no-leakage-encoder",
    statement="In evaluation mode, the code of an example depends on that example alone.",
    formula=r"q(z_n \mid x_{1:N}) = q(z_n \mid x_n)",
    source=_SOURCE,
    needs=("encode",),
    kind="metamorphic",
    tolerance="1e-4 of the largest output",
    kills=("model-batch-centred-codes",),
    builds_on=_HEADS,
)
def no_leakage_encoder(probe: Probe) -> None:
    with evaluating(probe) as networks:
        require_independent(
            "the code", lambda x: torch.cat(networks.encode(x), 1), networks.images(3)
        )


@claim(
    "model/no-leakage-decoder",
    statement="In evaluation mode, the reconstruction of an example depends on its code alone.",
    formula=r"p(x_n \mid z_{1:N}) = p(x_n \mid z_n)",
    source=_SOURCE,
    needs=("decode",),
    kind="metamorphic",
    tolerance="1e-4 of the largest output",
    kills=("model-decoder-mixes-batch",),
)
def no_leakage_decoder(probe: Probe) -> None:
    with evaluating(probe) as networks:
        require_independent("the reconstruction", networks.decode, networks.codes(3))


@claim(
    "model/each-pixel-matters",
    statement="The code depends on every pixel.",
    formula=r"\partial (\mu, \log\sigma^2) / \partial x_i \ne 0",
    source=_SOURCE,
    needs=("encode",),
    kind="gradient",
    tolerance="a derivative that is not zero at one of 32 inputs",
    kills=("model-half-the-pixels", "model-constant-encoder"),
    builds_on=_HEADS,
)
def each_pixel_matters(probe: Probe) -> None:
    networks = Networks.of(probe)
    images = networks.images(32)
    effect = _effect(probe, lambda x: torch.cat(networks.encode(x), 1), images)
    if dead := int((~effect).sum()):
        pixels = images[0].numel()
        if _is_lattice(effect.reshape(images.shape[1:])):
            raise NotApplicable(
                f"{dead} of {pixels} pixels have no effect, in regular gaps, as a convolution "
                "leaves them whose stride is larger than its kernel"
            )
        raise Violation(
            f"{dead} of {pixels} pixels have no effect",
            symptom="all-dead" if dead == pixels else "dead",
        )


@claim(
    "model/each-latent-matters",
    statement="The reconstruction depends on every latent.",
    formula=r"\partial \hat x / \partial z_d \ne 0",
    source=_SOURCE,
    needs=("decode",),
    kind="gradient",
    tolerance="a derivative that is not zero at one of 32 codes",
    kills=("model-first-latents-only", "model-decoder-ignores-code"),
)
def each_latent_matters(probe: Probe) -> None:
    with evaluating(probe) as networks:
        codes = networks.codes(32)
    effect = _effect(probe, networks.decode, codes)
    if dead := int((~effect).sum()):
        latents = codes[0].numel()
        raise Violation(
            f"{dead} of {latents} latents have no effect",
            symptom="all-dead" if dead == latents else "dead",
        )


def _is_lattice(effect: Tensor) -> bool:
    """Whether what has an effect is a lattice: on every axis, all of it or a pattern that repeats.

    A pattern of one number in two is none, for that is also a half that was taken by mistake.
    """
    masks = [
        effect.transpose(0, axis).flatten(1).any(1) if effect.dim() > 1 else effect
        for axis in range(effect.dim())
    ]
    product = masks[0]
    for mask in masks[1:]:
        product = product[..., None] & mask
    is_product = bool(effect.any()) and torch.equal(product, effect)
    return is_product and all(
        bool(mask.all())
        or any(torch.equal(mask[n:], mask[:-n]) for n in range(3, len(mask) // 2 + 1))
        for mask in masks
    )


def _effect(probe: Probe, function: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """Return which inputs have an effect, whatever the signs of the weights.

    Other signs switch on units that happen to be off for all inputs.
    """
    signs = probe.generator("dead")
    effect = torch.zeros(inputs[0].numel(), dtype=torch.bool)
    for flipped in (None, signs, signs, signs):
        with probe.mode(training=False), changed(probe.subject.module, signs=flipped):
            slope = probe.gradient(function, inputs)[0]
        effect |= (slope.flatten(1) != 0).any(0)
        if effect.all():
            break
    return effect


@claim(
    "model/each-parameter-matters",
    statement="The gradient of the loss reaches every parameter.",
    formula=r"\partial L / \partial \theta_j \ne 0",
    source=_SOURCE,
    needs=("module", "forward"),
    kind="gradient",
    tolerance="a gradient that is not zero in every parameter tensor",
    kills=("model-unused-layer", "model-frozen-layer", "model-decoder-ignores-code"),
    builds_on=(
        "model/decoder-range",
        "model/global-state-intact",
        "likelihood/gradient",
        "objective/constant-weights",
        "objective/gradient",
    ),
)
def each_parameter_matters(probe: Probe) -> None:
    module = probe.subject.module
    assert module is not None  # noqa: S101 - the claim needs it
    networks = Networks.of(probe)
    x = networks.images(32)
    if probe.is_of_bits:
        x = x.round()
    probe.subject.seed(probe.number("parameters"))
    outputs, mu, logvar = networks.forward(x)
    if probe.subject.loss is not None:
        value = probe.loss_as_is(outputs, x.flatten(1), mu, logvar).sum()
    else:
        value = (outputs**2).sum() + (mu**2).sum() + (logvar**2).sum()
    fixed = {
        id(parameter)
        for part in module.modules()
        if isinstance(part, _NORMALISATIONS)
        for parameter in part.parameters(recurse=False)
        if not parameter.requires_grad  # as the scale of the means in a BN-VAE
    }
    named = [(name, p) for name, p in module.named_parameters() if id(p) not in fixed]
    wanted = [parameter for _, parameter in named if parameter.requires_grad]
    gradients = torch.autograd.grad(value, wanted, allow_unused=True) if wanted else ()
    reached = {
        id(p) for p, g in zip(wanted, gradients, strict=True) if g is not None and bool(g.any())
    }
    missed = [name for name, parameter in named if id(parameter) not in reached]
    if missed:
        frozen = all(not p.requires_grad for name, p in named if name in missed)
        why = "they do not require gradients" if frozen else "the loss does not depend on them"
        raise Violation(
            f"no gradient of the loss reaches {', '.join(missed[:4])}"
            + (f" and {len(missed) - 4} more" if len(missed) > 4 else "")
            + f": {why}",
            symptom="frozen" if frozen else "unused",
        )


@claim(
    "model/forward-is-the-composition",
    statement="The forward pass encodes, samples and decodes; it does nothing else.",
    formula=r"\hat x = \mathrm{decode}(\mu + \sigma\varepsilon), \quad (\mu, \sigma) ="
    r" \mathrm{encode}(x)",
    source=_SOURCE,
    needs=("forward", "encode", "decode", "reparameterize"),
    kind="identity",
    tolerance="1e-4 of the largest output",
    kills=("model-forward-decodes-mu", "model-forward-samples-twice-the-noise"),
    builds_on=("reparameterization/reproducible", "model/outputs-in-order"),
)
def forward_is_the_composition(probe: Probe) -> None:
    require_composition(probe, Networks.of(probe).images(3))


def require_composition(probe: Probe, x: Tensor) -> None:
    """Raise `Violation` unless forward encodes, samples and decodes these images."""
    seed = probe.number("composition")
    with evaluating(probe) as networks:
        mu, logvar = networks.encode(x)
        if probe.conventions.evaluation == "sample":
            probe.eps((mu.shape[0], mu.shape[1]), seed)
        z = probe.z(mu, logvar, seed)
        probe.subject.seed(seed)
        outputs = networks.forward(x)[0]
        composed, at_mean = networks.decode(z), networks.decode(mu)
        allowed = _SAME * (1 + float(composed.abs().max()))
        if float((outputs - composed).abs().max()) <= allowed:
            return
        with contextlib.suppress(Exception):  # the layout in memory decides which noise is where
            as_it_is = networks.composed(x, seed)
            if float((outputs - as_it_is).abs().max()) <= allowed:
                return
    mean = float((outputs - at_mean).abs().max()) <= allowed
    raise Violation(
        "forward decodes mu, not a sample of z"
        if mean
        else "with the same seed, forward(x) is not decode(reparameterize(*encode(x)))",
        symptom="decodes-mean" if mean else "other-z",
    )


@claim(
    "model/outputs-in-order",
    statement="forward returns the reconstruction, mu and logvar, in that order.",
    formula=r"x \mapsto (\hat x, \mu, \log\sigma^2)",
    source="pytorch/examples vae",
    needs=("forward", "encode"),
    kind="metamorphic",
    tolerance="1e-4 of the largest value",
    kills=("model-outputs-swapped",),
    builds_on=_HEADS,
)
def outputs_in_order(probe: Probe) -> None:
    with evaluating(probe) as networks:
        x = networks.images(3)
        mu, logvar = networks.encode(x)
        _, *posterior = networks.forward(x)

    def same(a: Tensor, b: Tensor) -> bool:
        return a.shape == b.shape and bool(((a - b).abs() <= _SAME * (1 + b.abs().max())).all())

    if same(posterior[0], mu) and same(posterior[1], logvar):
        return
    swapped = same(posterior[0], logvar) and same(posterior[1], mu)
    raise Violation(
        "forward returns logvar before mu"
        if swapped
        else "forward returns other mu and logvar than encode",
        symptom="swapped" if swapped else "other",
    )


@claim(
    "model/posterior-carries-gradients",
    statement="The mu and logvar that forward returns carry gradients to the encoder.",
    formula=r"\partial\,\mathrm{KL}(\mu, \sigma) / \partial \theta \ne 0",
    source="Kingma and Welling 2014, section 2.4",
    needs=("module", "forward", "encode"),
    kind="gradient",
    tolerance="a gradient that is not zero in a parameter",
    kills=("model-posterior-detached", "model-logvar-detached"),
    builds_on=("model/outputs-in-order", "model/each-parameter-matters"),
)
def posterior_carries_gradients(probe: Probe) -> None:
    module = probe.subject.module
    assert module is not None  # noqa: S101 - the claim needs it
    networks = Networks.of(probe)
    x = networks.images(3)
    weights = [parameter for parameter in module.parameters() if parameter.requires_grad]

    def learns(part: Tensor) -> bool:
        if not part.requires_grad:
            return False
        slopes = torch.autograd.grad(part.sum(), weights, allow_unused=True, retain_graph=True)
        return any(slope is not None and bool(slope.any()) for slope in slopes)

    _, *returned = networks.forward(x)
    parts = zip(("mu", "logvar"), networks.encode(x), returned, strict=True)
    lost = [name for name, encoded, part in parts if learns(encoded) and not learns(part)]
    if lost:
        raise Violation(
            f"no gradient passes through the {' and the '.join(lost)} that forward returns, "
            "though encode has one: a KL of them trains nothing",
            symptom="-".join(lost),
        )


@claim(
    "model/forward-samples-in-evaluation",
    statement="In evaluation mode too, forward decodes a fresh sample of z.",
    formula=r"\hat x^{(1)} \ne \hat x^{(2)}",
    source="Kingma, pytorch/examples pull request 419",
    needs=("forward",),
    kind="metamorphic",
    tolerance="none: bit for bit",
    kills=("model-forward-decodes-mu", "model-mean-in-evaluation"),
    builds_on=("reparameterization/samples-in-evaluation", "reparameterization/fresh-noise"),
)
def forward_samples_in_evaluation(probe: Probe) -> None:
    with evaluating(probe) as networks:
        x = networks.images(3)
        probe.subject.seed(probe.number("evaluation"))
        first, second = networks.forward(x)[0], networks.forward(x)[0]
    if probe.conventions.evaluation == "mean":
        raise NotApplicable("it is declared that z is the mean in evaluation mode")
    if torch.equal(first, second):
        with probe.mode(training=True), torch.no_grad():
            always = torch.equal(networks.forward(x)[0], networks.forward(x)[0])
        raise Violation(
            f"two passes {'' if always else 'in evaluation mode '}give the same reconstruction: "
            "the loss computed from it is not the ELBO",
            symptom="mean" if always else "mean-in-evaluation",
        )


@claim(
    "model/double-precision",
    statement="In double precision the networks compute the same, up to rounding.",
    formula=r"f_{64}(x) \approx f_{32}(x)",
    source="Higham 2002, section 3.1",
    needs=("module", "encode"),
    kind="metamorphic",
    tolerance="1e-3 of the largest output",
    kills=("model-unregistered-layer", "model-casts-to-float32"),
    builds_on=_HEADS,
)
def double_precision(probe: Probe) -> None:
    with evaluating(probe) as networks:
        x = networks.images(3)
        single = [*networks.encode(x)]
        if probe.subject.decode is not None:
            codes = networks.codes(3)
            single.append(networks.decode(codes))
        with changed(probe.subject.module, dtype=torch.float64):
            try:
                double = [*networks.encode(x.double())]
                if probe.subject.decode is not None:
                    double.append(networks.decode(codes.double()))
            except RuntimeError as error:
                raise Violation(
                    f"converted to double precision, a network raises "
                    f"{str(error).splitlines()[0]}: a tensor is always in single precision, or a "
                    "layer is not registered",
                    symptom="raises",
                ) from error
    if any(tensor.dtype != torch.float64 for tensor in double):
        raise Violation("given doubles, a network returns another precision", symptom="single")
    for one, other in zip(single, double, strict=True):
        allowed = _SAME_IN_DOUBLE * (1 + float(other.abs().max()))
        if not float((one.double() - other).abs().max()) <= allowed:
            raise Violation("double precision gives other answers", symptom="other")
