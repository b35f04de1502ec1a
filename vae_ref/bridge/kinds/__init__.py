"""The references of the kinds as subjects of the kit: they are judged like anybody else's."""

from vae_ref.bridge.kinds import (
    calibration,
    categorical,
    conditional,
    disentangling,
    estimators,
    evidence,
    families,
    flows,
    hierarchy,
    quantisation,
)

__all__ = ["REFERENCES"]

REFERENCES = {
    "conditional": conditional.reference,
    "hierarchy": hierarchy.reference,
    "categorical": categorical.reference,
    "quantisation": quantisation.reference,
    "families": families.reference,
    "disentangling": disentangling.reference,
    "estimators": estimators.reference,
    "flows": flows.reference,
    "evidence": evidence.reference,
    "calibration": calibration.reference,
}
"""Name of a kind -> what makes the subject, of a precision."""
