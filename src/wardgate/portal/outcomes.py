"""How a rule refuses what was asked for, whoever asked: the API, a page, the command line, or the sync of a
directory.

Refused
├── Invalid       values are wrong; says of each field what
├── Missing       what is named does not exist
├── Forbidden     the account, the caller or the object itself does not allow it
├── Unsuitable    an object of this kind cannot have, or be, that
└── WrongState    not now: something else has to happen first

Each names a cause, not a status: the caller of a rule decides how to present it. A transaction in which one was
raised is not committed.
"""

from typing import Any

FieldErrors = dict[str, Any]
"""Field → list of messages, or nested structures of the same."""


class Refused(Exception):
    """Base of the outcomes; the message is for whoever asked."""


class Invalid(Refused):
    """Values are wrong.

    Attributes:
        errors: what is wrong, by field; `base` for what concerns several.
    """

    def __init__(self, errors: FieldErrors) -> None:
        super().__init__("; ".join(_sentence(field, messages) for field, messages in errors.items()))
        self.errors = errors


class Missing(Refused):
    """What is named does not exist in this account."""


class Forbidden(Refused):
    """The account, the caller or the object itself does not allow it."""


class Unsuitable(Refused):
    """An object of this kind cannot have, or be, what was asked for."""


class WrongState(Refused):
    """Not in the present state of the object."""


def _sentence(field: str, messages: object) -> str:
    """Say what is wrong with a field, as far as it is said in words."""
    plain = [one for one in messages if isinstance(one, str)] if isinstance(messages, list) else []
    return f"{field} {', '.join(plain) or 'is invalid'}"
