"""The conformance kit: hold any VAE against every claim, and name its bug.

It imports nothing of the code that it judges, the reference included.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vae_ref.conformance.audited import Audit, audit, audit_step
    from vae_ref.conformance.claims import all_claims
    from vae_ref.conformance.course import Course
    from vae_ref.conformance.foreign import from_jax, from_numpy
    from vae_ref.conformance.loading.recognition import TargetError, load
    from vae_ref.conformance.pytest_plugin import parametrize_with_claims
    from vae_ref.conformance.records import Report, Result
    from vae_ref.conformance.runner import UnknownClaimError, verify
    from vae_ref.conformance.subject import Conventions, DeclarationError, Subject

__all__ = [
    "Audit",
    "Conventions",
    "Course",
    "DeclarationError",
    "Report",
    "Result",
    "Subject",
    "TargetError",
    "UnknownClaimError",
    "all_claims",
    "audit",
    "audit_step",
    "from_jax",
    "from_numpy",
    "load",
    "parametrize_with_claims",
    "verify",
]

_HOME = {
    "Audit": "audited",
    "Conventions": "subject",
    "Course": "course",
    "DeclarationError": "subject",
    "Report": "records",
    "Result": "records",
    "Subject": "subject",
    "TargetError": "loading.recognition",
    "UnknownClaimError": "runner",
    "all_claims": "claims",
    "audit": "audited",
    "audit_step": "audited",
    "from_jax": "foreign",
    "from_numpy": "foreign",
    "load": "loading.recognition",
    "parametrize_with_claims": "pytest_plugin",
    "verify": "runner",
}


def __getattr__(name: str) -> object:
    """Import a public name where it is used: pytest loads this package on every start."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
