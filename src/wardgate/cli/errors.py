"""How a command fails: one line that says what to do, and an exit code for scripts.

UserError        1   anything the user can fix
├── UsageError   2   the command line itself
├── NotFound     3   what was named does not exist
├── Refused      4   the portal does not accept the token, or its rules forbid this
└── Invalid      5   the portal did not accept the values, or they conflict with what is there
"""

from typing import ClassVar


class UserError(Exception):
    """Something the user can fix; only the message is printed, on stderr."""

    exit_code: ClassVar[int] = 1


class UsageError(UserError):
    exit_code = 2


class NotFound(UserError):
    exit_code = 3


class Refused(UserError):
    exit_code = 4


class Invalid(UserError):
    exit_code = 5
