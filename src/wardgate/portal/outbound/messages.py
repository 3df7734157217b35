"""What is asked of the outside and what comes back."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Protocol
from urllib.parse import urlencode

MAX_ANSWER_BYTES: Final = 1024 * 1024  # identity §5.2


class Failure(Enum):
    """Why a question got no answer; the values are sentences for whoever named the host."""

    INVALID_URL = "the address is not a valid URL"
    SCHEME_REFUSED = "the address does not begin with https://"
    NAME_UNKNOWN = "the host name cannot be resolved"
    ADDRESS_REFUSED = "the host has a private or otherwise reserved address"
    CONNECTION_REFUSED = "the host refuses the connection"
    CERTIFICATE_REFUSED = "the host's certificate is not trusted"
    TIMED_OUT = "the host does not answer in time"
    TOO_LARGE = "the answer is too large"
    REDIRECTED = "the host redirects where that is not allowed, or too often"
    BROKEN = "the host does not speak HTTP as it should"
    NOT_JSON = "the answer is not valid JSON"


class OutboundFailed(OSError):
    """There is no answer; `failure` is why, `detail` what an administrator of the portal may want to know."""

    def __init__(self, failure: Failure, detail: str = "") -> None:
        super().__init__(f"{failure.value}: {detail}" if detail else failure.value)
        self.failure = failure
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Question:
    """One request; `get` and `form` are the ways to make one.

    Attributes:
        form: what to POST, as `application/x-www-form-urlencoded`; None for a GET.
        headers: besides those that every request has. Names in lower case. With any, no redirect is followed,
            for they may be credentials.
    """

    url: str
    form: Mapping[str, str] | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def body(self) -> bytes | None:
        return None if self.form is None else urlencode(self.form).encode()

    @property
    def follows_redirects(self) -> bool:
        return self.form is None and not self.headers


@dataclass(frozen=True, slots=True)
class Answer:
    """What the host answered, whatever the status; the names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    def json_object(self) -> dict[str, Any]:
        """Return the body, which is to be a JSON object.

        Raises:
            OutboundFailed: it is not.
        """
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise OutboundFailed(Failure.NOT_JSON)
        return value


class Outbound(Protocol):
    """The one guarded way to hosts that a user named."""

    async def ask(self, question: Question) -> Answer:
        """Ask a host over HTTPS, or over HTTP in a network that the operator allows.

        Raises:
            OutboundFailed: the guard, the network or the host refuses.
        """
