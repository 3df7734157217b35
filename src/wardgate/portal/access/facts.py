"""What is known of a client that conditions look at (portal-domain §5.2): each fact once, with its source.

A connected client is judged by these facts, and an explanation starts from them and names them. A further
fact is a field of `policy.evaluation.Facts` and an entry here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from wardgate.model.addresses import IpAddress
from wardgate.model.ids import AuthProviderId
from wardgate.policy.evaluation import UNDETERMINED, Facts, Undetermined
from wardgate.portal.devices.tables import Device
from wardgate.portal.sign_in.tables import ClientToken


class Connection(Protocol):
    """What facts need of a connection."""

    @property
    def remote_ip(self) -> IpAddress: ...

    @property
    def region(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class KnownClient:
    """A client, as far as facts go.

    Attributes:
        connection: None if it is not connected.
        token: what the connection was made with. None if that is unknown or gone.
    """

    device: Device
    connection: Connection | None
    token: ClientToken | None


@dataclass(frozen=True, slots=True)
class FactSource:
    """Where one fact comes from.

    Attributes:
        field: its name in `Facts`.
        name: its name in explanations.
        read: returns it, or `UNDETERMINED` if it is unknown.
        text: how explanations write a value.
    """

    field: str
    name: str
    source: Literal["connection", "device"]
    read: Callable[[KnownClient], object]
    text: Callable[[Any], str] = str


def _provider(client: KnownClient) -> AuthProviderId | Undetermined | None:
    if client.token is None:
        return UNDETERMINED
    id_ = client.token.auth_provider_id
    return None if id_ is None else AuthProviderId(id_)


FACTS: Final = (
    FactSource(
        "remote_ip",
        "remote_ip",
        "connection",
        lambda client: UNDETERMINED if client.connection is None else client.connection.remote_ip,
    ),
    FactSource(
        "region",
        "region",
        "connection",
        lambda client: UNDETERMINED if client.connection is None else client.connection.region,
    ),
    FactSource("auth_provider_id", "provider", "connection", _provider),
    FactSource(
        "is_verified",
        "verified",
        "device",
        lambda client: client.device.verified_at is not None,
        lambda is_verified: "yes" if is_verified else "no",
    ),
)


def facts_of(client: KnownClient) -> Facts:
    """Return the facts that a client is judged by."""
    values: dict[str, Any] = {fact.field: fact.read(client) for fact in FACTS}
    return Facts(**values)
