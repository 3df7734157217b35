"""Makes the devices of clients that connect for the first time, and changes those that report other hardware.

A crowd of new clients comes together: those that wait for the writer share its transaction, and one sync of the disk.
"""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from wardgate.portal.devices.rules import PSK_BASE_BYTES
from wardgate.portal.devices.tables import Device
from wardgate.portal.people.tables import Actor
from wardgate.portal.store import UNAVAILABLE, Store, Transaction
from wardgate.wire.upgrade import ClientParameters

AT_ONCE: Final = 50
"""Devices in one transaction."""


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


class ClientDevices:
    """Saves devices of clients, those of the same moment together; none in the name of another actor."""

    def __init__(self, store: Store) -> None:
        self._store = store
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
            # Whoever comes first writes for all who wait by then; they find it done.
            async with self._writing:
                if wanted.outcome is None:
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
            saved = [await _save(transaction, one.actor, one.parameters) for one in some]
        for one, outcome in zip(some, saved, strict=True):
            one.outcome, one.synced = outcome, self._store.start_sync()


def reported(parameters: ClientParameters) -> Mapping[str, Any]:
    """Return the hardware identifiers that this connection reports; one that it omits keeps its stored value."""
    names = ("device_serial", "device_uuid", "identifier_for_vendor", "firebase_installation_id")
    return {name: value for name in names if (value := getattr(parameters, name)) is not None}


def is_reported(device: Device, parameters: ClientParameters) -> bool:
    """Tell whether a device's row has the hardware identifiers that this connection reports."""
    return all(getattr(device, name) == value for name, value in reported(parameters).items())


async def find_device(transaction: Transaction, actor: Actor, parameters: ClientParameters) -> Device | None:
    """Return the device that an actor's client names, if it has connected before."""
    devices = transaction.on_behalf_of(actor).devices
    return await devices.find_by(actor_id=actor.id, firezone_id=parameters.external_id)


async def _save(transaction: Transaction, actor: Actor, parameters: ClientParameters) -> Saved:
    devices = transaction.on_behalf_of(actor).devices
    device = await find_device(transaction, actor, parameters)
    if device is not None:
        return Saved(await devices.save(replace(device, **reported(parameters))), is_new=False)
    made = Device(
        id=transaction.new_id(),
        account_id=actor.account_id,
        type="client",
        name=parameters.name or _memorable_name(transaction),
        psk_base=transaction.random_bytes(PSK_BASE_BYTES),
        firezone_id=parameters.external_id,
        actor_id=actor.id,
        **reported(parameters),
    )
    return Saved(await devices.insert(made), is_new=True)


_FIRST: Final = ("amber", "brisk", "calm", "dapper", "eager", "fond", "gentle", "hardy", "ivory", "jolly", "keen",
                 "lucid", "merry", "noble", "quiet", "royal")  # fmt: skip
_SECOND: Final = ("badger", "crane", "dolphin", "egret", "falcon", "gecko", "heron", "ibis", "jackdaw", "koala",
                  "lynx", "marten", "newt", "otter", "puffin", "raven")  # fmt: skip


def _memorable_name(transaction: Transaction) -> str:
    first, second, number = transaction.random_bytes(3)
    return f"{_FIRST[first % 16]}-{_SECOND[second % 16]}-{number}"
