"""How a command fails towards its user: one line that names the cure."""


class UserError(Exception):
    """Something the user can mend; the message is printed alone on stderr and the exit code is 1."""
