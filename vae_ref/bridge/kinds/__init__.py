"""The references of the kinds as subjects of the kit: they are judged like anybody else's."""

from vae_ref.bridge.kinds import conditional, quantisation

__all__ = ["REFERENCES"]

REFERENCES = {"conditional": conditional.reference, "quantisation": quantisation.reference}
from vae_ref.bridge.kinds import conditional, estimators

__all__ = ["REFERENCES"]

REFERENCES = {"conditional": conditional.reference, "estimators": estimators.reference}
from vae_ref.bridge.kinds import calibration, conditional, evidence

__all__ = ["REFERENCES"]

REFERENCES = {
    "conditional": conditional.reference,
    "evidence": evidence.reference,
    "calibration": calibration.reference,
}
from vae_ref.bridge.kinds import conditional, families

__all__ = ["REFERENCES"]

REFERENCES = {"conditional": conditional.reference, "families": families.reference}
from vae_ref.bridge.kinds import conditional, flows

__all__ = ["REFERENCES"]

REFERENCES = {"conditional": conditional.reference, "flows": flows.reference}
from vae_ref.bridge.kinds import conditional, hierarchy

__all__ = ["REFERENCES"]

REFERENCES = {"conditional": conditional.reference, "hierarchy": hierarchy.reference}
from vae_ref.bridge.kinds import conditional, disentangling

__all__ = ["REFERENCES"]

REFERENCES = {
    "conditional": conditional.reference,
    "disentangling": disentangling.reference,
}
from vae_ref.bridge.kinds import categorical, conditional

__all__ = ["REFERENCES"]

REFERENCES = {"conditional": conditional.reference, "categorical": categorical.reference}
"""Name of a kind -> what makes the subject, of a precision."""
