"""Records of connects: what a session learns of its own (portal-domain §7.4)."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Any
from uuid import UUID

import pytest

from support.patience import PATIENCE_S
from support.pools import device_of
from support.portal import World
from wardgate.model.ids import ActorId, ResourceId
from wardgate.policy.engine import AccessRequest, Granted, authorize
from wardgate.policy.evaluation import Facts
from wardgate.portal.access.tables import PolicyAuthorization
from wardgate.portal.bus.messages import GrantQueued, WithdrawGrant
from wardgate.portal.channels.claims import Claim
from wardgate.portal.channels.connect_records import Connect
from wardgate.portal.channels.journal import CONNECTS_SHARE, CONNECTS_SLICE, ROWS_A_TURN, SLICE
from wardgate.portal.channels.precedence import Precedence
from wardgate.portal.channels.session import Record
from wardgate.portal.devices.tables import Device
from wardgate.portal.logs.streams import Logs, Stream
from wardgate.portal.store import Store

GONE = UUID("00000000-0000-4000-8000-000000000000")


@pytest.fixture
async def client(world: World) -> Device:
    async with world.client():
        await world.portal.journal.flush()
    return await device_of(world, "client-1")


@pytest.fixture
async def gateway(world: World) -> Device:
    async with world.gateway():
        await world.portal.journal.flush()
    return await device_of(world, "gateway-1")


async def test_a_connect_is_recorded_in_its_device_and_in_the_session_log(
    world: World, client: Device
) -> None:
    assert client.last_seen_at is not None
    assert client.client_token_id == world.client_token_id
    async with world.portal.services.store.reading() as tx:
        (entry,) = await Logs(tx, world.account_id).load(Stream.SESSION, limit=10)
    assert entry.subject["device_id"] == str(client.id)  # type: ignore[union-attr, index]


async def test_a_session_without_its_token_learns_so_and_the_others_are_recorded(
    world: World, client: Device, gateway: Device
) -> None:
    records: dict[str, Record] = {}
    journal, later = world.portal.journal, seen_at(client) + timedelta(seconds=5)
    for name, device, token_id in (
        ("client without token", client, GONE),
        ("gateway without token", gateway, GONE),
        ("gateway", gateway, world.gateway_token_id),
    ):
        journal.write_connect(connect(device, token_id, later, recorder(records, name)))
    stored: list[bool] = []
    journal.write_grant(await claim(world, client, gateway), stored.append)
    await journal.flush()
    assert records == {
        "client without token": Record.TOKEN_GONE,
        "gateway without token": Record.TOKEN_GONE,
        "gateway": Record.STORED,
    }
    assert stored == [True]
    assert (await device_of(world, "client-1")).last_seen_at == client.last_seen_at
    assert (await device_of(world, "gateway-1")).last_seen_at == later


async def test_a_session_whose_device_is_gone_learns_so(world: World, client: Device) -> None:
    records: dict[str, Record] = {}
    gone = replace(client, id=GONE)
    world.portal.journal.write_connect(
        connect(gone, world.client_token_id, seen_at(client), recorder(records, "it"))
    )
    await world.portal.journal.flush()
    assert records == {"it": Record.DEVICE_GONE}


async def test_connects_are_recorded_a_few_at_a_time_and_everybody_has_a_turn_in_between(
    world: World, client: Device
) -> None:
    turns, told = itertools.count(), list[int]()
    latest = 0

    async def take_turns() -> None:
        nonlocal latest
        for latest in turns:  # noqa: B007 - it is read below
            await asyncio.sleep(0)

    others = asyncio.create_task(take_turns())
    for _ in range(3 * CONNECTS_SLICE):
        world.portal.journal.write_connect(
            connect(client, world.client_token_id, seen_at(client), lambda _record: told.append(latest))
        )
    await world.portal.journal.flush()
    others.cancel()
    assert sorted(Counter(told).values()) == 3 * [CONNECTS_SLICE]


async def test_of_a_crowd_of_connects_a_share_is_recorded_together(world: World, client: Device) -> None:
    journal, told = world.portal.journal, list[Record]()
    crowd = 8 * CONNECTS_SLICE
    for _ in range(crowd):
        journal.write_connect(connect(client, world.client_token_id, seen_at(client), told.append))
    waiting = [journal.connects_waiting]
    flushing = asyncio.create_task(journal.flush())
    while not flushing.done():
        await asyncio.sleep(0)
        if journal.connects_waiting != waiting[-1]:
            waiting.append(journal.connects_waiting)
    await flushing
    assert waiting[:2] == [crowd, crowd - crowd // CONNECTS_SHARE]
    assert waiting[-1] == 0
    assert told == crowd * [Record.STORED]


async def test_everybody_has_turns_while_many_grants_are_committed(
    world: World, client: Device, gateway: Device
) -> None:
    turns, stored = 0, list[bool]()

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    one = await claim(world, client, gateway)
    for number in range(SLICE):
        row = replace(one.row, id=UUID(int=number, version=4))
        world.portal.journal.write_grant(replace(one, row=row), stored.append)
    others = asyncio.create_task(take_turns())
    await world.portal.journal.flush()
    others.cancel()
    assert stored == [True] * SLICE
    assert turns >= 2 * SLICE // ROWS_A_TURN


@pytest.mark.parametrize(("grants", "gives_way"), [(SLICE, True), (2 * SLICE + 1, False)])
async def test_peers_that_ask_go_first_unless_too_many_grants_wait(
    world: World,
    client: Device,
    gateway: Device,
    monkeypatch: pytest.MonkeyPatch,
    grants: int,
    gives_way: bool,
) -> None:
    journal, stored = world.portal.journal, list[bool]()
    waiting_then: list[int] = []
    give_way = Precedence.give_way

    async def note(precedence: Precedence) -> None:
        waiting_then.append(len(journal._grants))
        await give_way(precedence)

    monkeypatch.setattr(Precedence, "give_way", note)
    one = await claim(world, client, gateway)
    for number in range(grants):
        row = replace(one.row, id=UUID(int=number, version=4))
        journal.write_grant(replace(one, row=row), stored.append)
    async with journal._flushing:  # the portal's own run of the journal takes no slice meanwhile
        await journal._commit_slice()
        assert (len(waiting_then) > 0) == gives_way
    assert all(waiting <= SLICE for waiting in waiting_then)
    await journal.flush()
    assert stored == [True] * grants


async def test_an_older_connect_never_takes_the_place_of_a_newer(world: World, client: Device) -> None:
    records: dict[str, Record] = {}
    earlier = seen_at(client) - timedelta(seconds=1)
    world.portal.journal.write_connect(
        connect(client, world.client_token_id, earlier, recorder(records, "it"))
    )
    await world.portal.journal.flush()
    assert records == {"it": Record.STORED}
    assert (await device_of(world, "client-1")).last_seen_at == client.last_seen_at


async def test_a_grant_counts_as_stored_when_it_is_on_the_disk(
    world: World, client: Device, gateway: Device
) -> None:
    journal, disk = world.portal.journal, Disk()
    journal._store = HeldDisk(journal._store, disk)  # type: ignore[assignment]
    stored: list[bool] = []
    journal.write_grant(await claim(world, client, gateway), stored.append)
    flushing = asyncio.create_task(journal.flush())
    await asyncio.wait_for(disk.asked.wait(), PATIENCE_S)
    assert (await has_row(world), stored) == (True, [])
    disk.synced.set_result(None)
    await flushing
    assert stored == [True]


async def test_a_grant_that_may_not_have_reached_the_disk_is_withdrawn(
    world: World, client: Device, gateway: Device, caplog: pytest.LogCaptureFixture
) -> None:
    journal, disk = world.portal.journal, Disk()
    journal._store = HeldDisk(journal._store, disk)  # type: ignore[assignment]
    stored: list[bool] = []
    told: list[type] = []
    journal.follow(gateway.id, lambda news: told.append(type(news)))
    journal.write_grant(await claim(world, client, gateway), stored.append)
    disk.synced.set_exception(OSError("input/output error"))
    await journal.flush()
    assert (stored, told) == ([False], [GrantQueued, WithdrawGrant])
    assert "may not have reached the disk" in caplog.text


class Disk:
    """A disk that is synced when a test says so."""

    def __init__(self) -> None:
        self.synced: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.asked = asyncio.Event()


class HeldDisk:
    """The store of a journal, on another disk."""

    def __init__(self, store: Store, disk: Disk) -> None:
        self.writing = store.writing
        self._disk = disk

    def start_sync(self) -> Awaitable[None]:
        self._disk.asked.set()
        return asyncio.shield(self._disk.synced)


async def has_row(world: World) -> bool:
    async with world.portal.services.store.reading() as tx:
        return await tx.of(world.account_id).authorizations.count() > 0


@pytest.mark.parametrize(
    ("record", "event"), [(Record.TOKEN_GONE, "disconnect"), (Record.DEVICE_GONE, "phx_close")]
)
async def test_a_session_ends_as_its_record_says(world: World, record: Record, event: str) -> None:
    held_up: list[Connect] = []
    world.portal.journal.write_connect = held_up.append  # type: ignore[method-assign]
    async with world.client() as client:
        await client.join()
        held_up[0].recorded(record)
        assert (await client.receive())["event"] == event
        assert await client.receive_close() == 1000


def connect(device: Device, token_id: UUID, at: datetime, recorded: Callable[[Record], None]) -> Connect:
    name = "client_token_id" if device.type == "client" else "gateway_token_id"
    columns: dict[str, Any] = {name: token_id, "last_seen_at": at}
    return Connect(device, token_id, columns, {"device_id": str(device.id)}, recorded)


def recorder(records: dict[str, Record], name: str) -> Callable[[Record], None]:
    return lambda record: records.update({name: record})


def seen_at(device: Device) -> datetime:
    assert device.last_seen_at is not None
    return device.last_seen_at


async def claim(world: World, client: Device, gateway: Device) -> Claim:
    """Decide what a client with a gateway at its side would be granted."""
    expires_at = seen_at(client) + timedelta(hours=1)
    async with world.portal.services.accounts.using(world.account_id) as view:
        access = AccessRequest(
            ActorId(world.actor.id),
            ResourceId(world.resource.id),
            Facts(remote_ip=ip_address("192.0.2.7"), is_verified=False),
            expires_at,
        )
        decision = authorize(view.snapshot, access, now=seen_at(client))
        assert isinstance(decision, Granted)
        return Claim(_row(world, client, gateway, expires_at), decision, access, view, view.sequence)


def _row(world: World, client: Device, gateway: Device, expires_at: datetime) -> PolicyAuthorization:
    return PolicyAuthorization(
        id=UUID(int=5, version=4),
        account_id=world.account_id,
        policy_id=world.policy.id,
        resource_id=world.resource.id,
        initiating_device_id=client.id,
        receiving_device_id=gateway.id,
        token_id=world.client_token_id,
        membership_id=world.membership.id,
        initiator_remote_ip="192.0.2.7",
        initiator_user_agent="",
        receiver_remote_ip=None,
        expires_at=expires_at,
    )
