"""Makes the devices of clients that connect for the first time, and changes those that report other hardware.

A crowd of new clients comes together: those that wait for the writer share its transaction, and one sync of the disk.
"""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple
from uuid import UUID

from wardgate.portal.devices.rules import PSK_BASE_BYTES
from wardgate.portal.devices.tables import Device
from wardgate.portal.environment import Clock
from wardgate.portal.people.tables import Actor
from wardgate.portal.store import UNAVAILABLE, Store, Transaction
from wardgate.wire.upgrade import ClientParameters

AT_ONCE: Final = 50
"""Devices in one transaction."""

_Key = tuple[UUID, str]


class Saved(NamedTuple):
    """A device as stored; `is_new`: nobody knew of it before."""

    device: Device
    is_new: bool


@dataclass(eq=False, slots=True)
class _Wanted:
    actor: Actor
    parameters: ClientParameters
    outcome: Saved | Exception | None = None
    synced: Awaitable[None] | None = None

    @property
    def key(self) -> _Key:
        """The device, by its actor and by what the client calls it."""
        return self.actor.id, self.parameters.external_id


class ClientDevices:
    """Saves devices of clients, those of the same moment together; none in the name of another actor."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._waiting: dict[_Wanted, None] = {}
        self._writing = asyncio.Lock()

    async def save(self, actor: Actor, parameters: ClientParameters) -> Saved:
        """Make the device that an actor's client names, or change it to what it reports; returns it as stored, when
        a power cut would not undo it.

        Raises:
            StoreError: it cannot be stored; as `Repository.insert` and `save`.
        """
        wanted = _Wanted(actor, parameters)
        self._waiting[wanted] = None
        try:
            # Whoever comes first writes for all who wait by then; they find it done. Those that come in the same
            # iteration of the event loop do: SQLite would let each of them write before the next one comes.
            async with self._writing:
                if wanted.outcome is None:
                    await self._clock.sleep(0)
                    await self._write()
        finally:
            self._waiting.pop(wanted, None)
        if wanted.synced is not None:
            await wanted.synced
        assert wanted.outcome is not None
        if isinstance(wanted.outcome, Exception):
            raise wanted.outcome
        return wanted.outcome

    async def _write(self) -> None:
        some = list(self._waiting)[:AT_ONCE]
        try:
            await self._write_together(some)
        except UNAVAILABLE as error:
            for one in some:
                one.outcome = error
        except Exception:  # noqa: BLE001 - what one of them asks cannot be stored: each for itself
            for one in some:
                try:
                    await self._write_together([one])
                except Exception as error:  # noqa: BLE001 - its own caller raises it
                    one.outcome = error
        for one in some:
            self._waiting.pop(one, None)

    async def _write_together(self, some: Sequence[_Wanted]) -> None:
        async with self._store.writing(is_synced=False) as transaction:
            await transaction.hold(*(one.actor.account_id for one in some))
            saved = await _save(transaction, some)
        for one, outcome in zip(some, saved, strict=True):
            one.outcome, one.synced = outcome, self._store.start_sync()


def reported(parameters: ClientParameters) -> Mapping[str, Any]:
    """Return the hardware identifiers that this connection reports; one that it omits keeps its stored value."""
    names = ("device_serial", "device_uuid", "identifier_for_vendor", "firebase_installation_id")
    return {name: value for name in names if (value := getattr(parameters, name)) is not None}


def is_reported(device: Device, parameters: ClientParameters) -> bool:
    """Tell whether a device's row has the hardware identifiers that this connection reports."""
    return all(getattr(device, name) == value for name, value in reported(parameters).items())


async def find_devices(
    transaction: Transaction, wanted: Sequence[tuple[Actor, str] | None]
) -> list[Device | None]:
    """Return the devices that clients of actors name, at most `MOST_AMONG`, in their order; None: it has not connected
    before.
    """
    # Each type of actor passes the gate for itself.
    by_role: dict[tuple[UUID, str], list[tuple[Actor, str]]] = {}
    for one in wanted:
        if one is not None:
            by_role.setdefault((one[0].account_id, one[0].type), []).append(one)
    found: dict[tuple[UUID | None, str | None], Device] = {}
    for some in by_role.values():
        for device in await transaction.on_behalf_of(some[0][0]).devices.load_among(
            actor_id=list({actor.id for actor, _external_id in some}),
            firezone_id=list({external_id for _actor, external_id in some}),
        ):
            found[device.actor_id, device.firezone_id] = device
    return [None if one is None else found.get((one[0].id, one[1])) for one in wanted]


async def _save(transaction: Transaction, wanted: Sequence[_Wanted]) -> list[Saved]:
    """Make the devices that are not there, together; then change those that are, one after the other."""
    keys = [(one.actor, one.parameters.external_id) for one in wanted]
    devices: dict[_Key, Device] = {
        (actor.id, external_id): device
        for (actor, external_id), device in zip(keys, await find_devices(transaction, keys), strict=True)
        if device is not None
    }
    made: dict[_Key, _Wanted] = {}
    for one in wanted:
        if one.key not in devices:
            made.setdefault(one.key, one)
    by_role: dict[tuple[UUID, str], list[_Wanted]] = {}
    for one in made.values():
        by_role.setdefault((one.actor.account_id, one.actor.type), []).append(one)
    for some in by_role.values():
        stored = await transaction.on_behalf_of(some[0].actor).devices.insert_all(
            [_new_device(transaction, one.actor, one.parameters) for one in some]
        )
        devices |= {one.key: device for one, device in zip(some, stored, strict=True)}
    saved: list[Saved] = []
    for one in wanted:
        is_new = made.get(one.key) is one
        if not is_new:
            changed = replace(devices[one.key], **reported(one.parameters))
            devices[one.key] = await transaction.on_behalf_of(one.actor).devices.save(changed)
        saved.append(Saved(devices[one.key], is_new))
    return saved


def _new_device(transaction: Transaction, actor: Actor, parameters: ClientParameters) -> Device:
    return Device(
        id=transaction.new_id(),
        account_id=actor.account_id,
        type="client",
        name=parameters.name or _memorable_name(transaction),
        psk_base=transaction.random_bytes(PSK_BASE_BYTES),
        firezone_id=parameters.external_id,
        actor_id=actor.id,
        **reported(parameters),
    )


_FIRST: Final = ("amber", "brisk", "calm", "dapper", "eager", "fond", "gentle", "hardy", "ivory", "jolly", "keen",
                 "lucid", "merry", "noble", "quiet", "royal")  # fmt: skip
_SECOND: Final = ("badger", "crane", "dolphin", "egret", "falcon", "gecko", "heron", "ibis", "jackdaw", "koala",
                  "lynx", "marten", "newt", "otter", "puffin", "raven")  # fmt: skip


def _memorable_name(transaction: Transaction) -> str:
    first, second, number = transaction.random_bytes(3)
    return f"{_FIRST[first % 16]}-{_SECOND[second % 16]}-{number}"
