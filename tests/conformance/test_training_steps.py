"""The implementations without their adapters: what their authors' training steps show of them.

Where an adapter's subject is right, its step must not be accused; where it is wrong, the step
must be accused of the same. What no step shows, and what is not judged, is listed with the reason.
"""

from dataclasses import replace

import pytest
import torch
from implementations import IMPLEMENTATIONS
from training_steps import STEPS

from vae_ref.conformance import audit_step, verify

BROKEN = {adapter.__name__: broken for adapter, broken in IMPLEMENTATIONS}

OF_PIXELS = "your reconstruction term is averaged over the pixels"

OTHERWISE = {
    "pytorch_examples_in_2017": ({"objective/beta"}, OF_PIXELS),
    "flax_nnx_toy": ({"objective/beta"}, OF_PIXELS),
    "compvis": ({"objective/beta"}, "its normaliser changes as that of 1e+06 times"),
    "sksq96_cnn": ({"objective/beta"}, "your KL is averaged over the batch and over the latents"),
    "nvae": (  # the prior has 0.01 added to its sigma too, and a tanh bounds mu
        {"kl/closed-form", "model/unconstrained-mu"},
        "a prior with the standard deviation 1.01, not 1",
    ),
    "wohlert": (  # its step adds 1e-8 inside of the logarithms, for which its adapter has no part
        {"model/unconstrained-logvar", "likelihood/value"},
        "it is never negative",
    ),
    "pyg_before_1368": (  # which of sampler and KL is wrong, no step can say
        {"reparameterization/affine"},
        "your sigma is exp(logvar), the variance",
    ),
    "irmae": ({"kl/closed-form"}, "your loss has no KL"),
    "antixk_lvae": (  # its logarithms are doubled, which is another prior but for a constant
        {"kl/closed-form", "kl/zero-at-prior"},
        "the KL at mu = 0, logvar = 0 is",
    ),
}
"""Steps whose bug breaks other claims than the adapter's: which, and what names the bug."""

EVALUATION = "the bug is in evaluation mode, and the loop calls the step in training mode"
FREE = "with a Gaussian likelihood any weights are right for some variance, which is said"

UNSEEN = {
    "pytorch_examples_before_419": EVALUATION,
    "antixk_vanilla": FREE,
    "diffusers": "all that is computed from the clamped numbers is right, and the encoder's "
    "heads may have bounds that wide",
    "bolts": FREE,
    "yanndubs": EVALUATION,
    "orybkin_mse": FREE,
    "wiseodd": "all batches of its loop have the 64 examples that its noise has",
}
"""Bugs that the step does not show, with the reason."""

NUMPY = "no loss was computed"
DRAWS = "the draws of an example are combined as neither an average nor the importance-weighted"
GRAPH = "the decoder multiplies codes by codes"

UNJUDGED = {
    "antixk_iwae": (DRAWS, "the bug is in the bound, of which this is said"),
    "pythae_iwae": (DRAWS, "the bug is in the bound, of which this is said"),
    "xqding": (DRAWS, "the bug is in the bound for tests; training has its gradient alone"),
    "flax": (NUMPY, "the step is a function of JAX, which the recorder of torch does not see"),
    "disentanglement_lib": (NUMPY, "the functions are NumPy's, in the place of TensorFlow's"),
    "scvi": (
        "the reconstruction has weights of its own",
        "the kit has no negative binomial distribution: only the rest is judged, and right",
    ),
    "pyg": (GRAPH, "and its KL clamps what the step has clamped before: that changes nothing"),
    "pyg_before_1368": (GRAPH, "the rest is judged, and shows the bug"),
}
"""Steps that are not judged, or not in full: what is said, and the reason."""

RAISES = {"rasbt": "the sampler names a device by its number: it raises on a CPU before any loss"}
"""Steps whose bug no audit is needed to find, with the reason."""


def declared(subject, meant):
    """Return a subject with what its author means, which no step shows."""
    what = {"beta": meant.beta, "variance": meant.variance}
    if meant.likelihood == "continuous-bernoulli":
        what["likelihood"] = meant.likelihood
    return replace(subject, conventions=replace(subject.conventions, **what))


def marks(name):
    """By default what takes no time, and one that is judged."""
    long = ("flax", "scvi", "pyg", "pyg_before_1368", "xqding", "pythae_iwae", "antixk_iwae")
    at_once = name in UNJUDGED.keys() | RAISES.keys() and name not in long
    return [pytest.mark.slow] * (name != "chendaichao" and not at_once)


@pytest.mark.sampled(6)
@pytest.mark.parametrize(
    "adapter",
    [
        pytest.param(adapter, id=adapter.__name__, marks=marks(adapter.__name__))
        for adapter, _ in IMPLEMENTATIONS
    ],
)
def test_a_step_shows_what_its_adapter_shows(adapter, user):
    name = adapter.__name__
    meant = adapter().conventions
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    step = STEPS[name]()
    if name in RAISES:
        with pytest.raises(RuntimeError, match="negative"):
            audit_step(step)
        return
    found = audit_step(step, name=name)
    said, _ = UNJUDGED.get(name, ("", ""))
    assert found.reason.startswith(said) if said else not found.reason, found.reason
    if found.subject is None:
        return
    report = verify(declared(found.subject, meant))
    left = "\n".join(f"{r.claim.id}: {r.message}\n{r.diagnosis}" for r in report.failures)
    unseen = name in UNSEEN.keys() | UNJUDGED.keys()
    claims, words = OTHERWISE.get(name, (set() if unseen else BROKEN[name], ""))
    assert {r.claim.id for r in report.failures} == claims, left
    assert words in left
    if UNSEEN.get(name) == FREE:
        assert "implied variance" in report.facts


def test_every_implementation_has_a_step_and_one_place():
    assert STEPS.keys() == BROKEN.keys()
    lists = [UNSEEN, UNJUDGED, RAISES]
    names = [name for some in lists for name in some]
    assert len(names) == len(set(names))
    assert all(BROKEN[name] for some in (OTHERWISE, UNSEEN, RAISES) for name in some)
    assert OTHERWISE.keys().isdisjoint(UNSEEN)


@pytest.mark.parametrize("weight", [1.0, 0.5, 3.0])
def test_a_squared_error_is_not_accused_of_its_weight_when_the_kl_is_subtracted(weight):
    """With any weight it is a Gaussian of some variance; only the sign is wrong."""
    torch.manual_seed(0)
    heads, decoder, x = torch.nn.Linear(12, 6), torch.nn.Linear(3, 12), torch.rand(5, 12)

    def step():
        mu, logvar = heads(x).chunk(2, 1)
        outputs = decoder(mu + torch.exp(logvar / 2) * torch.randn_like(mu))
        kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()
        return weight * (outputs - x).square().sum() - kl

    (found,) = [r.diagnosis for r in audit_step(step).report.results if r.diagnosis]
    assert found.explanation.startswith("your KL is subtracted: add it")
    assert "reconstruction" not in found.explanation
    assert found.yours == "NLL − KL"
