"""Reports of flows from clients and gateways."""

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx2
import msgspec
import pytest

from support.browser import caller
from support.portal import World, portal_with_held_clock
from wardgate.model.ids import AccountId, ActorId, AuthorizationId, DeviceId, PolicyId, ResourceId
from wardgate.portal.logs.ingestion import MAX_BODY_BYTES, MAX_OUTERS, ONE_AUTHORIZATION
from wardgate.portal.logs.streams import Logs, Stream
from wardgate.wire.ingest_tokens import IngestClaims, mint_ingest_token

PATH = "/ingestion/flow_logs"
DAY = (datetime.now(UTC) - timedelta(days=7)).date().isoformat()
"""Of the last weeks: the portal deletes old flows meanwhile."""

OPEN = {
    "protocol": "tcp",
    "inner_src_ip": "100.64.0.7",
    "inner_src_port": 50122,
    "inner_dst_ip": "10.9.0.4",
    "inner_dst_port": 5432,
    "domain": "db.corp.example",
    "flow_start": f"{DAY}T10:00:00.000000Z",
}
CLOSED = {
    **OPEN,
    "outers": [
        {"src_ip": "198.51.100.8", "src_port": 52625, "dst_ip": "203.0.113.9", "dst_port": 52625},
    ],
    "flow_end": f"{DAY}T10:04:10.000000Z",
    "last_packet": f"{DAY}T10:04:09.000000Z",
    "rx_packets": 12,
    "tx_packets": 9,
    "rx_bytes": 4312,
    "tx_bytes": 901,
}

Report = Callable[..., Awaitable[httpx2.Response]]


def claims_of(world: World) -> IngestClaims:
    now = datetime.now(UTC)
    return IngestClaims(
        account_id=AccountId(world.account_id),
        policy_authorization_id=AuthorizationId(UUID(int=3)),
        policy_id=PolicyId(world.policy.id),
        resource_id=ResourceId(world.resource.id),
        initiator_device_id=DeviceId(UUID(int=1)),
        responder_device_id=DeviceId(UUID(int=2)),
        initiator_actor_id=ActorId(world.actor.id),
        resource_name="net",
        initiator_actor_name="Ada",
        initiator_actor_email="ada@example.org",
        iat=int(now.timestamp()),
        exp=int(now.timestamp()) + 60,
        authorized_at=now.isoformat(),
        authorization_expires_at=(now + timedelta(hours=1)).isoformat(),
        uploads_enabled=True,
        role="initiator",
    )


@pytest.fixture
def report(world: World) -> Report:
    """Report flows, each time from another address: one report a second is what an address may make."""
    from_hosts = iter(range(1, 250))

    async def send(
        flows: Any, *, claims: IngestClaims | None = None, key: bytes | None = None
    ) -> httpx2.Response:
        async with world.portal.services.store.reading() as transaction:
            account = await transaction.accounts.load(world.account_id)
        assert account is not None
        token = mint_ingest_token(claims or claims_of(world), key or account.ingest_signing_key)
        transport = httpx2.ASGITransport(app=world.portal, client=(f"192.0.2.{next(from_hosts)}", 40000))
        headers = {"authorization": f"Bearer {token}"}
        async with httpx2.AsyncClient(transport=transport, base_url="http://portal.example") as peer:
            body = flows if isinstance(flows, bytes) else msgspec.json.encode({"flow_logs": flows})
            if body.startswith(b"\x1f\x8b"):
                headers["content-encoding"] = "gzip"
            return await peer.post(PATH, content=body, headers=headers)

    return send


async def listed(api: httpx2.AsyncClient) -> list[dict[str, Any]]:
    params = {"type": "flow", "begin": f"{DAY}T00:00:00Z"}
    entries: list[dict[str, Any]] = (await api.get("/logs", params=params)).json()["data"]
    return entries


async def test_a_flow_is_listed_open_and_then_closed(
    api: httpx2.AsyncClient, world: World, report: Report
) -> None:
    assert (await report([{**OPEN, "outers": CLOSED["outers"]}])).json() == {"data": {"status": "ok"}}
    (flow,) = await listed(api)
    assert (flow["outers"], flow["flow_end"], flow["tx_bytes"]) == (None, None, None)
    assert (flow["role"], flow["initiator_actor_email"]) == ("initiator", "ada@example.org")
    assert (flow["policy_id"], flow["inner_domain"]) == (str(world.policy.id), "db.corp.example")
    assert (await report([CLOSED, OPEN])).status_code == 200
    (closed,) = await listed(api)
    assert (closed["log_id"], closed["tx_bytes"], closed["outers"][0]["dst_ip"]) == (
        flow["log_id"],
        901,
        "203.0.113.9",
    )
    assert (await api.get(f"/logs/{flow['log_id']}")).json()["data"] == closed


async def test_right_records_are_stored_beside_wrong_ones(api: httpx2.AsyncClient, report: Report) -> None:
    wrong = [
        {**OPEN, "protocol": "icmp"},
        5,
        {**OPEN, "inner_dst_port": 65536},
        {**CLOSED, "outers": []},
        {**CLOSED, "rx_bytes": 2**63},
        {**OPEN, "inner_src_ip": "x"},
        {**OPEN, "flow_start": "yesterday"},
        {**CLOSED, "outers": [{"src_ip": "192.0.2.1", "dst_ip": "192.0.2.2", "dst_port": 1}]},
    ]
    answer = await report([*wrong, OPEN])
    assert (answer.status_code, answer.json()["detail"]) == (422, "Some flow log records failed validation")
    assert answer.json()["validation_errors"] == {
        "0": {"protocol": ["is invalid"]},
        "1": {"record": ["must be a JSON object"]},
        "2": {"inner_dst_port": ["is invalid"]},
        "3": {"outers": ["can't be blank"]},
        "4": {"rx_bytes": ["is invalid"]},
        "5": {"inner_src_ip": ["is invalid"]},
        "6": {"flow_start": ["is invalid"]},
        "7": {"outers": ["is invalid"]},
    }
    assert len(await listed(api)) == 1


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"{", "The request could not be processed."),
        (b"[]", 'Expected a "flow_logs" array'),
        (b'{"flow_logs":{}}', 'Expected a "flow_logs" array'),
        (b'{"flow_logs":[' + b"0," * 10_000 + b"0]}", "Batch size exceeds maximum of 10000"),
        (b'{"flow_logs":' + b"[" * 1_000_000, "The request could not be processed."),
        # Nothing is unpacked: a megabyte stays a megabyte.
        (gzip.compress(b'{"flow_logs":[]}', mtime=0), "The request could not be processed."),
    ],
)
async def test_a_body_that_is_no_list_of_flows(report: Report, body: bytes, detail: str) -> None:
    answer = await report(body)
    assert (answer.status_code, answer.json()["detail"]) == (400, detail)


@pytest.mark.parametrize("other", [[], {}, 5, "x", str(UUID(int=4))])
async def test_only_flows_of_the_tokens_authorization_are_taken(report: Report, other: object) -> None:
    """Whatever stands there, of whatever type."""
    answer = await report([OPEN, {**OPEN, "policy_authorization_id": other}])
    assert (answer.status_code, answer.json()["detail"]) == (422, ONE_AUTHORIZATION)
    assert (await report([{**OPEN, "policy_authorization_id": str(UUID(int=3))}])).status_code == 200


async def test_a_flow_with_more_paths_than_there_can_be_is_refused(report: Report) -> None:
    """Thousands of them would be looked at one by one."""
    path = {"dst_ip": "203.0.113.9", "dst_port": 52625}
    assert (await report([{**CLOSED, "outers": [path] * MAX_OUTERS}])).status_code == 200
    answer = await report([{**CLOSED, "outers": [path] * (MAX_OUTERS + 1)}])
    assert answer.json()["validation_errors"] == {"0": {"outers": ["is invalid"]}}


async def test_a_large_report_leaves_others_their_turn(report: Report, world: World) -> None:
    """The portal has one loop: a report of ten thousand flows would keep everybody waiting for seconds."""
    flows = [{**CLOSED, "inner_src_port": port} for port in range(1_200)]
    async with world.client() as client:
        await client.join()
        sending = asyncio.create_task(report([*flows, 5]))
        answered = 0
        while not sending.done():
            await client.news()
            answered += 1
    assert answered > 6
    wrong = {"record": ["must be a JSON object"]}
    assert (await sending).json()["validation_errors"] == {str(len(flows)): wrong}
    async with world.portal.services.store.reading() as transaction:
        stored = await Logs(transaction, world.account_id).load(Stream.FLOW, limit=len(flows) + 1)
    assert len(stored) == len(flows)


async def test_a_body_beyond_the_bound_is_not_read(report: Report) -> None:
    answer = await report(b'{"flow_logs":[' + b" " * MAX_BODY_BYTES + b"]}")
    assert answer.status_code == 413


async def test_only_a_valid_token_of_an_existing_account_is_taken(
    api: httpx2.AsyncClient, world: World, report: Report
) -> None:
    claims = claims_of(world)
    replaced = msgspec.structs.replace
    for refused in (
        await report([OPEN], key=b"x" * 32),
        await report([OPEN], claims=replaced(claims, exp=1)),
        await report([OPEN], claims=replaced(claims, account_id=AccountId(UUID(int=9)))),
    ):
        assert (refused.status_code, refused.json()["detail"]) == (
            401,
            "Authentication credentials were missing or invalid.",
        )
    off = await report([OPEN], claims=replaced(claims, uploads_enabled=False))
    assert (off.status_code, off.json()["detail"]) == (
        401,
        "Flow log uploads are not enabled for this authorization",
    )
    other = await report([OPEN, {**OPEN, "policy_authorization_id": str(UUID(int=4))}])
    assert other.status_code == 422
    assert await listed(api) == []


@pytest.mark.one_database  # a held clock stands on SQLite
async def test_an_address_may_report_ten_times_a_second_and_save_up_for_a_gateways_authorizations() -> None:
    async with portal_with_held_clock() as (portal, clock), caller(portal) as peer:
        saved_up = [(await peer.post(PATH)).status_code for _ in range(200)]
        refused = await peer.post(PATH)
        clock.at_s += 0.1
        later = [(await peer.post(PATH)).status_code for _ in range(2)]
    assert saved_up == [401] * 200
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert refused.json()["detail"] == "Rate limit exceeded, retry after 1s"
    assert later == [401, 429]


@pytest.mark.one_database  # a held clock stands on SQLite
async def test_what_a_stranger_sends_is_not_read() -> None:
    async with portal_with_held_clock() as (portal, _), caller(portal) as peer:
        refused = await peer.post(PATH, content=b"x" * 20_000_000)
    assert refused.status_code == 401


async def test_there_is_nothing_else(world: World) -> None:
    async with caller(world.portal) as peer:
        assert (await peer.get(PATH)).status_code == 405
        assert (await peer.post("/ingestion/x")).status_code == 404
