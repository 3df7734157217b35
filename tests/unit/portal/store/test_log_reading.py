"""Logs are read slice by slice; lines of JSON that the database writes say what the API shows of the same rows."""

import json
import re
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import insert

from support.migrated_file import migrated_file
from unit.portal.store.conftest import make_account, make_api_request
from wardgate.portal.database import log_reading as log_reading_module
from wardgate.portal.database.log_reading import Count, LogReader
from wardgate.portal.database.sqlite_driver import InlineCursor
from wardgate.portal.database.transaction import change_id, microseconds_of
from wardgate.portal.environment import Environment
from wardgate.portal.logs.streams import LOGS, Stream, by_actor, containing, entry, within
from wardgate.portal.logs.tables import ApiRequest, FlowLog, SessionLog
from wardgate.portal.logs.views import log_entry, shape_of
from wardgate.portal.schema.change_feed import Change
from wardgate.portal.sign_in.api_calls import append_api_requests
from wardgate.portal.store import Store

pytestmark = pytest.mark.slow

NOON = datetime(2026, 8, 1, 12, tzinfo=UTC)
AWKWARD = (
    'quotes " and \\ and / and %s and :name',
    "zwei\nZeilen\tund\r\u0001\u001f\u2028\u007f",
    "München 東京 \U0001f642",
    "",
    "'; --",
)
FLOATS = (None, 0.0, 52.5, -13.404954, 0.1 + 0.2, 48.13743333333333, -179.99999999999997, 1e-7, 13.0)
SUBJECTS: tuple[dict[str, Any], ...] = (
    {},
    {"actor_id": str(UUID(int=7)), "actor_name": AWKWARD[0], "ip": "2001:db8::1", "more": {"a": [1]}},
    {
        "actor_id": None,
        "actor_name": AWKWARD[2],
        "user_agent": AWKWARD[1],
        "ip_lat": 0.1 + 0.2,
        "ip_lon": -9.0,
        "device_id": str(UUID(int=2**128 - 1)),
    },
)
IMAGES: tuple[dict[str, Any] | None, ...] = (
    None,
    {},
    {
        "name": AWKWARD[1],
        "secret_hash": "[redacted]",
        "n": 2**53,
        "f": 0.1 + 0.2,
        "l": [None, True, {"": ""}],
    },
)
OUTERS: tuple[list[dict[str, Any]] | None, ...] = (
    None,
    [],
    [
        {"dst_ip": "192.0.2.1", "dst_port": 51820, "gone": 1},
        {
            "src_ip": "2001:db8::1",
            "src_port": 1,
            "dst_ip": "192.0.2.2",
            "dst_port": 2,
            "path_activated_at": "2026-08-01T12:00:00Z",
        },
    ],
)


def calls(account_id: UUID) -> list[ApiRequest]:
    return [
        ApiRequest(
            account_id=account_id,
            log_id=f"a{number:023x}",
            actor_id=None if number % 2 else uuid4(),
            token_id=UUID(int=number),
            method="GET",
            path=AWKWARD[number % len(AWKWARD)],
            content_length=None if number % 3 else 2**40,
            request_id="r",
            user_agent=AWKWARD[(number + 1) % len(AWKWARD)],
            ip="2001:db8::1",
            ip_region="DE" if number % 2 else None,
            ip_city=AWKWARD[2],
            ip_lat=number_,
            ip_lon=None if number_ is None else -number_,
            inserted_at=NOON + timedelta(microseconds=number % 3),
        )
        for number, number_ in enumerate(FLOATS)
    ]


def sessions(account_id: UUID) -> list[SessionLog]:
    return [
        SessionLog(
            account_id=account_id,
            log_id=f"5{number:023x}",
            context="client",
            subject=subject,
            timestamp=NOON.replace(microsecond=0),
        )
        for number, subject in enumerate(SUBJECTS)
    ]


def changes(account_id: UUID) -> list[Change]:
    return [
        Change(
            account_id=account_id,
            sequence=1000 + number,
            log_id=change_id(microseconds_of(NOON), number),
            object="sites",
            operation="update",
            audience="internal" if number == 4 else "audit",
            before=IMAGES[number % 3],
            after=IMAGES[(number + 1) % 3],
            subject=(None, *SUBJECTS)[number % 4],
            committed_at=NOON,
        )
        for number in range(9)
    ]


def flows(account_id: UUID) -> list[FlowLog]:
    values: dict[str, Any] = {
        field.name: None for field in fields(FlowLog)
    } | {
        "account_id": account_id, "role": "initiator", "initiator_device_id": UUID(int=1),
        "responder_device_id": UUID(int=2), "policy_authorization_id": UUID(int=3), "policy_id": UUID(int=4),
        "resource_id": UUID(int=5), "resource_name": AWKWARD[0], "initiator_actor_id": UUID(int=6),
        "initiator_actor_name": AWKWARD[2], "authorized_at": NOON, "authorization_expires_at": NOON,
        "protocol": "udp", "inner_src_ip": "100.64.0.1", "inner_src_port": 1, "inner_dst_ip": "10.0.0.1",
        "flow_start": NOON, "inserted_at": NOON + timedelta(microseconds=1),
    }  # fmt: skip
    return [
        FlowLog(
            **values
            | {
                "log_id": f"f{number:023x}",
                "inner_dst_port": number,
                "outers": OUTERS[number % 3],
                "flow_end": NOON if number < 3 else None,
                "last_packet": NOON if number < 3 else None,
                "rx_bytes": 2**62 if number < 3 else None,
                "initiator_auth_provider_id": UUID(int=9) if number else None,
            }
        )
        for number in range(6)
    ]


MAKERS: Mapping[Stream, Callable[[UUID], Sequence[Any]]] = {
    Stream.API_REQUEST: calls,
    Stream.SESSION: sessions,
    Stream.CHANGE: changes,
    Stream.FLOW: flows,
}


async def store_entries(store: Store, stream: Stream, account_id: UUID) -> int:
    rows = MAKERS[stream](account_id)
    names = [field.name for field in fields(rows[0]) if field.name != "seq"]
    async with store.writing() as transaction:
        await transaction.execute(
            insert(LOGS[stream].table), [{name: getattr(row, name) for name in names} for row in rows]
        )
    return len(rows)


@pytest.mark.parametrize("stream", Stream)
async def test_a_line_says_what_the_api_shows(
    store: Store, account_id: UUID, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = await store_entries(store, stream, account_id)
    monkeypatch.setattr(log_reading_module, "LINES_AT_ONCE", 2)
    reader = LogReader(store.reading, LOGS[stream], account_id)
    texts = [text async for text in reader.lines(shape_of(stream))]
    shown = [log_entry(entry(stream, row)).model_dump_json() for row in await reader.load(limit=100)]
    assert len(shown) >= stored - 1
    lines = "".join(texts).split("\n")
    assert lines.pop() == ""
    assert [json.loads(line) for line in lines] == [json.loads(text) for text in shown]
    assert [list(json.loads(line)) for line in lines] == [list(json.loads(text)) for text in shown]
    assert all(text.count("\n") <= 2 for text in texts)


async def test_an_internal_change_is_neither_listed_nor_exported(store: Store, account_id: UUID) -> None:
    await store_entries(store, Stream.CHANGE, account_id)
    reader = LogReader(store.reading, LOGS[Stream.CHANGE], account_id)
    everything = {change.log_id: change.audience for change in changes(account_id)}
    listed = {row["log_id"] for row in await reader.load(limit=100)}
    exported = (
        "".join([text async for text in reader.lines(shape_of(Stream.CHANGE))]).rstrip("\n").split("\n")
    )
    assert {everything[id_] for id_ in everything.keys() & listed} == {"audit"}
    assert {json.loads(line)["log_id"] for line in exported} == listed


@pytest.mark.parametrize("stream", Stream)
async def test_every_slice_is_read_from_its_place_to_its_end(
    tmp_path: Path, environment: Environment, monkeypatch: pytest.MonkeyPatch, stream: Stream
) -> None:
    """Windows and conditions tempt the planner to begin elsewhere, and then each slice would cost as much as
    all before it.
    """
    opened = await Store.open(migrated_file(tmp_path / "wardgate.db"), environment)
    try:
        account_id = await make_account(opened, "acme")
        await store_entries(opened, stream, account_id)
        monkeypatch.setattr(log_reading_module, "SCANNED_AT_ONCE", 1)
        monkeypatch.setattr(log_reading_module, "LINES_AT_ONCE", 1)
        statements: list[tuple[str, Sequence[Any]]] = []
        execute = InlineCursor.execute

        async def recorded(
            self: InlineCursor, statement: str, parameters: Sequence[Any] = ()
        ) -> InlineCursor:
            statements.append((statement, parameters))
            return await execute(self, statement, parameters)

        monkeypatch.setattr(InlineCursor, "execute", recorded)
        window = within(stream, NOON - timedelta(days=90), NOON + timedelta(days=90))
        conditions = (by_actor(stream, UUID(int=2)), containing(stream, "nowhere"))
        reader = LogReader(opened.reading, LOGS[stream], account_id, *conditions, window=window)
        place = window.newest
        await reader.load(limit=10)
        await reader.load(limit=10, beyond=place)
        await reader.load(limit=10, beyond=window.oldest or (NOON - timedelta(1), ""), oldest_first=True)
        await reader.count()
        assert [line async for line in reader.lines(shape_of(stream))] == []
        monkeypatch.undo()
        assert len(statements) > 20
        connection = sqlite3.connect(tmp_path / "wardgate.db")
        for statement, parameters in statements:
            plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            steps = [step for _id, _parent, _unused, step in plan]
            (reading,) = [step for step in steps if LOGS[stream].table.name in step]
            assert re.match(r"SEARCH \w+ USING (COVERING )?INDEX \w+ \(account_id=\? AND .*<", reading), steps
            # A window of flows has no beginning: one may have begun before and not ended yet.
            assert ">" in reading or (stream is Stream.FLOW and " >= " not in statement.partition("WHERE")[2])
            assert not [step for step in steps if "TEMP B-TREE" in step], steps
        connection.close()
    finally:
        await opened.close()


async def test_what_many_slices_hold_is_found_as_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_reading_module, "SCANNED_AT_ONCE", 3)
    store = await Store.open(migrated_file(tmp_path / "wardgate.db"), Environment.of_this_process())
    try:
        account_id = await make_account(store, "acme")
        async with store.writing() as transaction:
            request = make_api_request(transaction, account_id)
            # Several of one moment, so that the id decides; every fifth is wanted.
            await append_api_requests(
                transaction,
                [
                    replace(
                        request,
                        log_id=f"a{number:023x}",
                        path="/wanted" if number % 5 == 0 else "/other",
                        inserted_at=request.inserted_at + timedelta(seconds=number // 4),
                    )
                    for number in range(31)
                ],
            )
        wanted = LogReader(
            store.reading,
            LOGS[Stream.API_REQUEST],
            account_id,
            containing(Stream.API_REQUEST, "/wanted"),
        )
        everything = LogReader(store.reading, LOGS[Stream.API_REQUEST], account_id)
        page = [row["log_id"] for row in await everything.load(limit=4)]
        assert page == [f"a{number:023x}" for number in range(30, 26, -1)]
        ids = [f"a{number:023x}" for number in range(30, -1, -5)]
        assert [row["log_id"] for row in await wanted.load(limit=100)] == ids
        assert [row["log_id"] for row in await wanted.load(limit=3)] == ids[:3]
        third = (request.inserted_at + timedelta(seconds=20 // 4), ids[2])
        assert [row["log_id"] for row in await wanted.load(limit=9, beyond=third)] == ids[3:]
        back = await wanted.load(limit=9, beyond=third, oldest_first=True)
        assert [row["log_id"] for row in back] == [ids[1], ids[0]]
        assert await wanted.count() == Count(7, is_exact=True)
        monkeypatch.setattr(log_reading_module, "COUNTED", 12)
        assert await wanted.count() == Count(3, is_exact=False)
        monkeypatch.setattr(log_reading_module, "LINES_AT_ONCE", 4)
        lines = "".join([text async for text in wanted.lines(shape_of(Stream.API_REQUEST))]).splitlines()
        assert [json.loads(line)["log_id"] for line in lines] == ids
        first, last = request.inserted_at + timedelta(seconds=2), request.inserted_at + timedelta(seconds=5)
        part = LogReader(
            store.reading,
            LOGS[Stream.API_REQUEST],
            account_id,
            window=within(Stream.API_REQUEST, first, last),
        )
        numbers = [int(row["log_id"][1:], 16) for row in await part.load(limit=100)]
        assert numbers == list(range(23, 7, -1))
        assert (
            numbers
            == [int(row["log_id"][1:], 16) for row in await part.load(limit=100, oldest_first=True)][::-1]
        )
    finally:
        await store.close()


async def test_an_account_without_entries_has_no_lines(store: Store, account_id: UUID) -> None:
    reader = LogReader(store.reading, LOGS[Stream.FLOW], account_id)
    assert [text async for text in reader.lines(shape_of(Stream.FLOW))] == []
    assert not (await reader.count()).number
