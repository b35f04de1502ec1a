"""The errors that a user has to mend, and the one base class of them all."""

__all__ = ["InputError", "UserError"]


class UserError(Exception):
    """The message says what is wrong and what to do; the command ends with status 2."""


class InputError(UserError, ValueError):
    """Says which argument broke which rule, with which value, and what to do about it."""

    def __init__(self, argument: str, rule: str, value: object, remedy: str) -> None:
        super().__init__(f"{argument} must {rule}; got {value}. {remedy}")
