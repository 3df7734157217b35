"""The log streams of an account."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import ColumnElement

from support.portal import World, make_world, portal_running
from wardgate.portal.database.log_reading import LogReader, Window
from wardgate.portal.logs.streams import LOGS, Logs, Stream, by_actor, containing, find, within
from wardgate.portal.logs.tables import FLOW_LOGS, SESSION_LOGS, FlowLog
from wardgate.portal.store import Transaction

NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=7)
"""Of the last weeks: the portal deletes old entries meanwhile."""


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with portal_running() as portal:
        yield await make_world(portal)


def flow(world: World, log_id: str, **fields: object) -> FlowLog:
    return replace(
        FlowLog(
            account_id=world.account_id,
            log_id=log_id,
            role="initiator",
            initiator_device_id=UUID(int=1),
            responder_device_id=UUID(int=2),
            policy_authorization_id=UUID(int=3),
            policy_id=world.policy.id,
            resource_id=world.resource.id,
            resource_name="net",
            resource_address=None,
            initiator_actor_id=world.actor.id,
            initiator_actor_name="Ada",
            initiator_actor_email=None,
            initiator_auth_provider_id=None,
            authorized_at=NOON,
            authorization_expires_at=NOON,
            initiator_client_version=None,
            initiator_device_os_name=None,
            initiator_device_os_version=None,
            initiator_device_serial=None,
            initiator_device_uuid=None,
            initiator_device_identifier_for_vendor=None,
            initiator_device_firebase_installation_id=None,
            protocol="tcp",
            inner_src_ip="100.64.0.7",
            inner_src_port=50122,
            inner_dst_ip="10.9.0.4",
            inner_dst_port=5432,
            inner_domain=None,
            outers=None,
            flow_start=NOON,
            flow_end=None,
            last_packet=None,
            rx_packets=None,
            tx_packets=None,
            rx_bytes=None,
            tx_bytes=None,
            inserted_at=NOON,
        ),
        **fields,  # type: ignore[arg-type]
    )


async def flows(transaction: Transaction, world: World) -> list[FlowLog]:
    entries = await Logs(transaction, world.account_id).load(Stream.FLOW, limit=10)
    return [entry for entry in entries if isinstance(entry, FlowLog)]


async def count(
    world: World, stream: Stream, *conditions: ColumnElement[bool], window: Window | None = None
) -> int:
    reader = LogReader(
        world.portal.services.store.reading,
        LOGS[stream],
        world.account_id,
        *conditions,
        window=window or Window(),
    )
    found = await reader.count()
    assert found.is_exact
    return found.number


async def test_an_open_flow_is_closed_once_and_keeps_its_id(world: World) -> None:
    async with world.portal.services.store.writing() as transaction:
        logs = Logs(transaction, world.account_id)
        await logs.report_flows([flow(world, "f1")])
        closed = {"flow_end": NOON + timedelta(minutes=4), "rx_bytes": 901, "outers": [{"dst_port": 1}]}
        await logs.report_flows([flow(world, "f2", **closed)])
        await logs.report_flows([flow(world, "f3"), flow(world, "f4", **{**closed, "rx_bytes": 5})])
        (only,) = await flows(transaction, world)
    assert (only.log_id, only.rx_bytes, only.outers) == ("f1", 901, [{"dst_port": 1}])


async def test_the_two_sides_of_a_flow_are_two_entries(world: World) -> None:
    async with world.portal.services.store.writing() as transaction:
        logs = Logs(transaction, world.account_id)
        await logs.report_flows([flow(world, "f1"), flow(world, "f2", role="responder")])
        assert len(await flows(transaction, world)) == 2


@pytest.mark.parametrize(
    ("begin_min", "end_min", "found"), [(-9, -1, False), (-1, 0, True), (3, 9, True), (4, 9, False)]
)
async def test_a_flow_is_within_what_it_overlaps(
    world: World, begin_min: int, end_min: int, found: bool
) -> None:
    async with world.portal.services.store.writing() as transaction:
        logs = Logs(transaction, world.account_id)
        await logs.report_flows([flow(world, "f1", flow_end=NOON + timedelta(minutes=4))])
    window = within(Stream.FLOW, NOON + timedelta(minutes=begin_min), NOON + timedelta(minutes=end_min))
    assert (await count(world, Stream.FLOW, window=window) == 1) is found


async def test_sessions_are_found_by_actor_and_by_words_and_in_their_account_only(world: World) -> None:
    async with world.portal.services.store.writing() as transaction:
        logs = Logs(transaction, world.account_id)
        subject = {"actor_id": str(world.actor.id), "actor_name": "Ada 100%"}
        await logs.append_session("client", subject)
        await logs.append_session("gateway", {"actor_id": None})
        (entry,) = await logs.load(Stream.SESSION, by_actor(Stream.SESSION, world.actor.id), limit=9)
        assert (entry.log_id[0], len(entry.log_id)) == ("5", 24)
    reading = world.portal.services.store.reading
    assert await find(reading, world.account_id, Stream.SESSION, entry.log_id.upper()) == entry
    assert await find(reading, UUID(int=9), Stream.SESSION, entry.log_id) is None
    for words, number in (("aDA", 1), ("100%", 1), ("1%0", 0), ("null", 1)):
        assert await count(world, Stream.SESSION, containing(Stream.SESSION, words)) == number, words
    elsewhere = LogReader(reading, LOGS[Stream.SESSION], UUID(int=9))
    assert (await elsewhere.count()).number == 0


async def test_internal_changes_are_not_in_the_log(world: World) -> None:
    async with world.portal.services.store.writing() as transaction:
        logs = Logs(transaction, world.account_id)
        changes = await logs.load(Stream.CHANGE, limit=100)
        assert {getattr(change, "audience", None) for change in changes} == {"audit"}
        assert [change.log_id for change in changes] == sorted(
            (change.log_id for change in changes), reverse=True
        )


async def test_old_sessions_flows_and_kept_answers_are_forgotten(world: World) -> None:
    async with world.portal.services.store.writing() as transaction:
        logs = Logs(transaction, world.account_id)
        await logs.append_session("portal", {})
        await logs.report_flows([flow(world, "f1")])
        assert await transaction.delete_oldest(FLOW_LOGS.c.flow_start, NOON) == 0
        assert await transaction.delete_oldest(FLOW_LOGS.c.flow_start, NOON + timedelta(days=1)) == 1
        soon = transaction.now + timedelta(seconds=1)
        assert await transaction.delete_oldest(SESSION_LOGS.c.timestamp, soon) == 1
        assert await logs.load(Stream.SESSION, limit=1) == []
