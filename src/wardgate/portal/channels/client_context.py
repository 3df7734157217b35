"""What the parts of one client's session share: the client, the inputs of decisions, and where to send."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Final
from uuid import UUID

from wardgate.model.ids import ActorId, AuthProviderId, ClientId, DeviceId, ResourceId
from wardgate.policy.engine import AccessRequest
from wardgate.policy.snapshot import Snapshot
from wardgate.portal.access.facts import KnownClient, facts_of
from wardgate.portal.bus import Address
from wardgate.portal.channels.connecting import ConnectedClient
from wardgate.portal.channels.journal import Journal
from wardgate.portal.devices.tables import Device
from wardgate.portal.services import Services
from wardgate.portal.snapshot.accounts import AccountView
from wardgate.wire import messages as wire
from wardgate.wire.derived_secrets import unix_seconds
from wardgate.wire.user_agent import DeviceOs, announced_version, client_software, device_os

ACKNOWLEDGEMENT_S: Final = 15.0  # protocol §8

MOST_SECRETS: Final = 4
"""Gateways whose shared secrets a client's session keeps."""


@dataclass(frozen=True, slots=True)
class PairSecrets:
    """What a client and a gateway share (protocol §4.1, §4.2): ICE credentials of each end and the pre-shared key; and
    how the client is introduced to the gateway.
    """

    client_ice: wire.IceCredentials = field(repr=False)
    gateway_ice: wire.IceCredentials = field(repr=False)
    psk: str = field(repr=False)
    client: wire.AuthorizedClient = field(repr=False)


class ClientContext:
    """One connected client. Only its device's row changes; `push` sends a message to it."""

    def __init__(
        self,
        connected: ConnectedClient,
        *,
        services: Services,
        journal: Journal,
        view: AccountView,
        push: Callable[[wire.Message], None],
    ) -> None:
        self.services = services
        self.environment = services.environment
        self.bus = services.environment.bus
        self.journal = journal
        self.view = view
        self.push = push
        self.account = connected.account
        self.actor = connected.actor
        self.token = connected.token
        self.origin = connected.origin
        self.public_key = connected.public_key
        self.software = client_software(connected.origin.user_agent)
        self.announced_version = announced_version(connected.origin.user_agent)
        self.client_id = ClientId(DeviceId(connected.device.id))
        self.address = Address("client", connected.device.id)
        self.device: Device = connected.device
        self.secrets_with: dict[UUID, PairSecrets] = {}  # by the gateway's connection
        self.facts = facts_of(KnownClient(self.device, self.origin, self.token))

    @cached_property
    def os(self) -> DeviceOs:
        return device_os(self.origin.user_agent)

    @cached_property
    def subject(self) -> wire.Subject:
        """Who is asking (protocol §5.7)."""
        origin, provider_id = self.origin, self.token.auth_provider_id
        return wire.Subject(
            actor_id=ActorId(self.actor.id),
            actor_name=self.actor.name,
            actor_email=self.actor.email,
            actor_type=self.actor.type,
            auth_provider_id=None if provider_id is None else AuthProviderId(provider_id),
            ip=str(origin.remote_ip),
            ip_region=origin.region,
            ip_city=origin.city,
            ip_lat=None if origin.position is None else origin.position.lat,
            ip_lon=None if origin.position is None else origin.position.lon,
            user_agent=origin.user_agent,
        )

    def remember_secrets(self, connection_id: UUID, secrets: PairSecrets) -> PairSecrets:
        """Keep what was derived for a gateway's connection, and return it."""
        if len(self.secrets_with) >= MOST_SECRETS:
            self.secrets_with.clear()
        self.secrets_with[connection_id] = secrets
        return secrets

    @property
    def snapshot(self) -> Snapshot:
        return self.view.snapshot

    def now(self) -> datetime:
        return self.environment.clock.now()

    def now_unix(self) -> int:
        return unix_seconds(self.environment.clock.now())

    def monotonic(self) -> float:
        return self.environment.clock.monotonic()

    def access(self, resource_id: ResourceId) -> AccessRequest:
        """Return the policy engine's input for a request of a resource."""
        return AccessRequest(
            ActorId(self.actor.id), resource_id, self.facts, self.token.expires_at, self.software
        )

    def replace_device(self, device: Device) -> None:
        self.device = device
        self.secrets_with.clear()
        self.facts = facts_of(KnownClient(device, self.origin, self.token))
