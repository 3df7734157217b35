"""Inputs of an explanation: what a hypothetical request is judged by, each with its source.

given         stated in the request
looked_up     derived from what was stated: the country of an address
connection    the client is connected, and this is its connection's
device        stored with the device
undetermined  unknown; conditions that depend on it stay open
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from wardgate.model.addresses import IpAddress
from wardgate.model.ids import AuthProviderId
from wardgate.model.versions import ClientSoftware
from wardgate.policy.evaluation import UNDETERMINED, Facts, Undetermined
from wardgate.policy.explanation import TOKEN_UNDETERMINED, ExplainedInput, InputName, instant_text
from wardgate.policy.selection import Position
from wardgate.portal.bus import ClientPresence
from wardgate.portal.devices.tables import Device
from wardgate.portal.services import Services
from wardgate.portal.sign_in.tables import ClientToken
from wardgate.wire.user_agent import announced_version, client_software

Source = Literal["given", "looked_up", "connection", "device", "undetermined"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Said:
    """What the request states about the hypothetical connection. None if not stated."""

    remote_ip: IpAddress | None
    region: str | None
    provider_id: AuthProviderId | None


@dataclass(frozen=True, slots=True)
class Client:
    """A client, for what the request does not state.

    Attributes:
        presence: its connection. None if it is not connected.
        token: what the connection was made with, if that is still there.
    """

    device: Device
    presence: ClientPresence | None
    token: ClientToken | None


@dataclass(frozen=True, slots=True)
class Assumptions:
    """The inputs of the policy engine and of gateway selection."""

    facts: Facts
    token_expires_at: datetime
    user_agent: str | None
    position: Position | None
    inputs: tuple[ExplainedInput, ...]

    @property
    def software(self) -> ClientSoftware | None:
        return None if self.user_agent is None else client_software(self.user_agent)

    @property
    def version(self) -> str | None:
        """The version that the client announced."""
        return None if self.user_agent is None else announced_version(self.user_agent)


def assume(services: Services, said: Said, client: Client | None) -> Assumptions:
    """Combine what is known. What was stated takes precedence over what the connection has."""
    remote_ip = _remote_ip(said, client)
    region, position = _place(services, said, client)
    provider = _provider(said, client)
    verified = _verified(client)
    user_agent = _user_agent(client)
    token = None if client is None else client.token
    expires_at: _Known[datetime] = (
        _unknown()
        if token is None
        else _Known(token.expires_at, "connection", instant_text(token.expires_at))
    )
    inputs: dict[InputName, _Known[Any]] = {
        "remote_ip": remote_ip,
        "region": region,
        "provider": provider,
        "verified": verified,
        "software": user_agent,
        "token_expires_at": expires_at,
    }
    return Assumptions(
        facts=Facts(
            remote_ip=UNDETERMINED if remote_ip.value is None else remote_ip.value,
            region=region.or_undetermined(),
            auth_provider_id=provider.or_undetermined(),
            is_verified=UNDETERMINED if verified.value is None else verified.value,
        ),
        token_expires_at=expires_at.value or TOKEN_UNDETERMINED,
        user_agent=user_agent.value,
        position=position,
        inputs=tuple(ExplainedInput(name, one.text, one.source) for name, one in inputs.items()),
    )


@dataclass(frozen=True, slots=True)
class _Known(Generic[_T]):
    """A value with its source. `value` is None if there is none or, with the source `undetermined`, if it is
    unknown."""

    value: _T | None
    source: Source
    text: str | None

    def or_undetermined(self) -> _T | Undetermined | None:
        return UNDETERMINED if self.source == "undetermined" else self.value


def _known(value: _T | None, source: Source) -> _Known[_T]:
    return _Known(value, source, None if value is None else str(value))


def _unknown() -> _Known[_T]:
    return _Known(None, "undetermined", None)


def _remote_ip(said: Said, client: Client | None) -> _Known[IpAddress]:
    if said.remote_ip is not None:
        return _known(said.remote_ip, "given")
    if client is None or client.presence is None:
        return _unknown()
    return _known(client.presence.remote_ip, "connection")


def _place(services: Services, said: Said, client: Client | None) -> tuple[_Known[str], Position | None]:
    """Return country and position. A stated address is looked up: the connection's place is not its place."""
    position: Position | None = None
    region: _Known[str] = _unknown()
    if said.remote_ip is not None:
        place = services.geography.place_of(said.remote_ip)
        position = place.position
        # Where a proxy would have told the country, that nobody else knows it says nothing.
        if place.region is not None or not services.settings.trusted_proxies:
            region = _known(place.region, "looked_up")
    elif client is not None:
        position = _last_position(client.device)
        if client.presence is not None:
            region = _known(client.presence.region, "connection")
    return (region if said.region is None else _known(said.region, "given")), position


def _provider(said: Said, client: Client | None) -> _Known[AuthProviderId]:
    if said.provider_id is not None:
        return _known(said.provider_id, "given")
    if client is None or client.token is None:
        return _unknown()
    id_ = client.token.auth_provider_id
    return _known(None if id_ is None else AuthProviderId(id_), "connection")


def _verified(client: Client | None) -> _Known[bool]:
    if client is None:
        return _unknown()
    is_verified = client.device.verified_at is not None
    return _Known(is_verified, "device", "yes" if is_verified else "no")


def _user_agent(client: Client | None) -> _Known[str]:
    """Return how the client announces itself, or did when last connected; the text names the component and
    its version."""
    if client is None:
        return _unknown()
    connected_as = None if client.presence is None else client.presence.user_agent
    announced = connected_as or client.device.last_seen_user_agent
    if announced is None:
        return _unknown()
    software = client_software(announced)
    version = announced_version(announced)
    return _Known(
        announced,
        "device" if client.presence is None else "connection",
        f"{software.component.value} {version or 'of unknown version'}",
    )


def _last_position(device: Device) -> Position | None:
    lat, lon = device.last_seen_remote_ip_location_lat, device.last_seen_remote_ip_location_lon
    return None if lat is None or lon is None else Position(lat, lon)
