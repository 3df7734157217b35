"""A device as panels show it: as it is connected now, or as it was last."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from wardgate.portal.bus import ClientPresence, GatewayPresence
from wardgate.portal.devices.tables import Device
from wardgate.portal.web.cells import Coordinates, coordinates
from wardgate.wire.user_agent import software_text

_PresenceT = TypeVar("_PresenceT", ClientPresence, GatewayPresence)


@dataclass(frozen=True, slots=True)
class DeviceLine(Generic[_PresenceT]):
    """A client or a gateway; `presence` is None while it is offline."""

    row: Device
    presence: _PresenceT | None

    @property
    def software(self) -> str:
        agent = self.presence.user_agent if self.presence else self.row.last_seen_user_agent
        return software_text(agent) if agent else "unknown"

    @property
    def remote_ip(self) -> str:
        return str(self.presence.remote_ip) if self.presence else self.row.last_seen_remote_ip or "–"

    @property
    def place(self) -> str:
        parts = (self.row.last_seen_remote_ip_location_city, self.row.last_seen_remote_ip_location_region)
        return ", ".join(part for part in parts if part)

    @property
    def point(self) -> Coordinates | None:
        """Where its address was when it connected last."""
        row = self.row
        return coordinates(row.last_seen_remote_ip_location_lat, row.last_seen_remote_ip_location_lon)
