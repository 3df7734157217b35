"""Inputs of an explanation: what a hypothetical request is judged by, each with its source.

given         stated in the request
looked_up     derived from what was stated: the country of an address
connection    the client is connected, and this is its connection's
device        stored with the device
undetermined  unknown; conditions that depend on it stay open
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from wardgate.model.addresses import IpAddress
from wardgate.model.ids import AuthProviderId
from wardgate.model.versions import ClientSoftware
from wardgate.policy.evaluation import UNDETERMINED, Facts
from wardgate.policy.explanation import TOKEN_UNDETERMINED, ExplainedInput, instant_text
from wardgate.policy.selection import Position
from wardgate.portal.access.facts import FACTS, FactSource, KnownClient
from wardgate.portal.bus import ClientPresence
from wardgate.portal.devices.tables import Device
from wardgate.portal.services import Services
from wardgate.portal.sign_in.tables import ClientToken
from wardgate.wire.user_agent import announced_version, client_software

Source = Literal["given", "looked_up", "connection", "device", "undetermined"]


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

    @property
    def known(self) -> KnownClient:
        return KnownClient(self.device, self.presence, self.token)


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
    inputs = {fact.name: _unknown() if client is None else _fact(fact, client) for fact in FACTS}
    position = None if client is None else _last_position(client.device)
    if said.remote_ip is not None:
        inputs["remote_ip"] = _known(said.remote_ip, "given")
        inputs["region"], position = _looked_up(services, said.remote_ip)
    if said.region is not None:
        inputs["region"] = _known(said.region, "given")
    if said.provider_id is not None:
        inputs["provider"] = _known(said.provider_id, "given")
    values = {fact.field: inputs[fact.name].or_undetermined() for fact in FACTS}
    inputs["software"] = user_agent = _user_agent(client)
    inputs["token_expires_at"] = expires_at = _expiry(client)
    return Assumptions(
        facts=Facts(**values),
        token_expires_at=expires_at.value or TOKEN_UNDETERMINED,
        user_agent=user_agent.value,
        position=position,
        inputs=tuple(ExplainedInput(name, one.text, one.source) for name, one in inputs.items()),
    )


@dataclass(frozen=True, slots=True)
class _Known:
    """A value with its source. `value` is None if there is none or, with the source `undetermined`, if it is
    unknown."""

    value: Any
    source: Source
    text: str | None

    def or_undetermined(self) -> Any:
        return UNDETERMINED if self.source == "undetermined" else self.value


def _known(value: object, source: Source, text: Callable[[Any], str] = str) -> _Known:
    return _Known(value, source, None if value is None else text(value))


def _unknown() -> _Known:
    return _Known(None, "undetermined", None)


def _fact(fact: FactSource, client: Client) -> _Known:
    value = fact.read(client.known)
    return _unknown() if value is UNDETERMINED else _known(value, fact.source, fact.text)


def _looked_up(services: Services, remote_ip: IpAddress) -> tuple[_Known, Position | None]:
    """Return country and position of a stated address: the connection's place is not its place."""
    place = services.geography.place_of(remote_ip)
    # Where a proxy would have told the country, that nobody else knows it says nothing.
    is_known = place.region is not None or not services.settings.trusted_proxies
    return _known(place.region, "looked_up") if is_known else _unknown(), place.position


def _expiry(client: Client | None) -> _Known:
    if client is None or client.token is None:
        return _unknown()
    return _known(client.token.expires_at, "connection", instant_text)


def _user_agent(client: Client | None) -> _Known:
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
