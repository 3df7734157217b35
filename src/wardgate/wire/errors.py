"""Errors of the control protocol.

ProtocolError
├── LocalProtocolError      we were about to send what the protocol forbids
└── RemoteProtocolError     the other end sent it
    ├── MalformedFrame      not a frame at all
    └── InvalidConnectParameters    the upgrade request's query does not validate
"""

from collections.abc import Sequence


class ProtocolError(Exception):
    """Base of all errors of `wardgate.wire`."""


class LocalProtocolError(ProtocolError):
    """We were about to send what the protocol forbids: our bug, let it surface."""


class RemoteProtocolError(ProtocolError):
    """The other end sent what the protocol forbids: answer or drop; never crash."""


class MalformedFrame(RemoteProtocolError):
    """A text frame that is not a Phoenix frame. `truncated`: the JSON ends too early, so a peer reconnects."""

    def __init__(self, message: str, *, truncated: bool = False) -> None:
        super().__init__(message)
        self.truncated = truncated


class InvalidConnectParameters(RemoteProtocolError):
    """The query of an upgrade request does not validate: 400 `invalid_connect_params`, `str()` is its `detail`."""

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{field} {message}" for field, message in problems))
        self.problems = tuple(problems)
