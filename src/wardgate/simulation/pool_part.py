"""What the portal tells a client about device pools: those it is shown, what others are granted to it, and the answers
to what it asked for.

The client itself acts on them; here they are noted as they come, to be compared with the portal's records.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final
from uuid import UUID

from msgspec import UNSET

from wardgate.wire import messages as m

AUTHORIZED: Final = "authorized"


class PoolPart:
    """Fed with every message of the portal.

    Attributes:
        shown: the addresses of a static pool's members, none for a dynamic one, by pool.
    """

    def __init__(self) -> None:
        self.shown: dict[UUID, frozenset[str]] = {}
        self._held: dict[tuple[UUID, UUID], float | None] = {}
        self._asked: dict[tuple[UUID, str], asyncio.Future[str]] = {}

    def held(self, *, unix_now: float) -> set[tuple[UUID, UUID]]:
        """Client and pool of every grant to this device that is in force."""
        return {pair for pair, ends_at in self._held.items() if ends_at is None or unix_now < ends_at}

    def expect(self, pool_id: UUID, ipv4: str) -> asyncio.Future[str]:
        """Return what will be answered to a request for a device of a pool: `AUTHORIZED`, or why not."""
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._asked[pool_id, ipv4] = answer
        return answer

    def handle_message(self, message: m.Message) -> None:
        match message:
            case m.ClientInit(resources=resources, authorizations=authorizations):
                self.shown = {}
                self._show(resources)
                self._held = {(one.client_id, one.resource_id): one.expires_at for one in authorizations}
            case m.ResourceCreatedOrUpdated(resource=resource):
                self._show((resource,))
            case m.ResourceDeleted(resource_id=resource_id):
                self.shown.pop(resource_id, None)
            case m.DeviceAccessAuthorized(client_ipv4=ipv4, resource=resource) if resource is UNSET:
                # To whom it was asked for is told by the device alone.
                self._answer(AUTHORIZED, ipv4=str(ipv4))
            case m.DeviceAccessAuthorized(client_id=client_id, resource=resource, expires_at=ends_at):
                assert resource is not UNSET
                self._held[client_id, resource.id] = None if ends_at is UNSET else ends_at
            case m.DeviceAccessDenied(ipv4=str(ipv4), reason=reason):
                self._answer(reason, ipv4=ipv4)
            case m.AuthorizationCreationFailed(resource_id=resource_id, reason=reason):
                self._answer(reason, pool_id=resource_id)
            case m.RejectAccess(client_id=client_id, resource_id=resource_id):
                self._held.pop((client_id, resource_id), None)

    def _show(self, resources: Iterable[m.ClientResource]) -> None:
        for resource in resources:
            match resource:
                case m.ClientStaticDevicePool(id=id_, devices=devices):
                    self.shown[id_] = frozenset(device.ipv4.partition("/")[0] for device in devices)
                case m.ClientDynamicDevicePool(id=id_):
                    self.shown[id_] = frozenset()

    def _answer(self, answer: str, *, ipv4: str | None = None, pool_id: UUID | None = None) -> None:
        for asked in [key for key in self._asked if pool_id == key[0] or ipv4 == key[1]]:
            waiting = self._asked.pop(asked)
            if not waiting.done():
                waiting.set_result(answer)
