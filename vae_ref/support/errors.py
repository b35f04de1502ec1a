"""The base class of all errors that a user has to mend, and the error of bad arguments."""

from vae_ref.support.excerpt import excerpt

__all__ = ["InputError", "UserError"]


class UserError(Exception):
    """The user has to mend something; the message says what. The command ends with status 2."""


class InputError(UserError, ValueError):
    """An argument is wrong; the message says the argument, the rule, the value, the remedy."""

    def __init__(self, argument: str, rule: str, value: object, remedy: str) -> None:
        super().__init__(f"{argument} must {rule}; got {excerpt(value)}. {remedy}")
