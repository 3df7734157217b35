"""From a grant to the flow that its ends report: the token that came with it is all that a report needs."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from msgspec import Raw, json

from portal.channels.test_authorization import grant
from support.browser import caller, make_api_token
from support.flow_records import flow_report
from support.pools import device_of, static_pair
from support.portal import World
from support.recording_engine import RecordingEngine
from wardgate.connect.deadlines import ClockOffset
from wardgate.connect.flow_logging import FlowAction, FlowLogging, KeepFlows
from wardgate.datapath.events import FlowsReported
from wardgate.wire.flow_records import UPLOAD_PATH, encode_upload
from wardgate.wire.ingest_tokens import IngestClaims, parse_ingest_token
from wardgate.wire.messages import FlowLogs
from wardgate.wire.user_agent import CLIENT_SPEAKS


async def test_a_flow_reported_with_a_grants_token_is_listed_as_the_grants(world: World) -> None:
    async with world.gateway() as gateway, world.client() as client:
        init = await gateway.join()
        await client.join()
        create, created = await grant(world, client, gateway)
    assert init["flow_logs"] == {
        "api_url": "http://127.0.0.1:8080/",
        "upload_interval_secs": 60,
        "upload_batch_size": 1000,
    }
    for number, (role, told) in enumerate((("initiator", created), ("responder", create))):
        answer = await report(world, told["flow_logs_ingest_token"], from_host=number)
        assert (answer.status_code, answer.json()) == (200, {"data": {"status": "ok"}}), role
    listed = {one["role"]: one for one in await flows(world)}
    device, other = await device_of(world, "client-1"), await device_of(world, "gateway-1")
    async with world.portal.services.store.reading() as tx:
        (row,) = await tx.of(world.account_id).authorizations.load_all()
    for role in ("initiator", "responder"):
        flow = listed[role]
        assert flow["initiator_device_id"] == str(device.id)
        assert flow["responder_device_id"] == str(other.id)
        assert flow["policy_authorization_id"] == str(row.id)
        assert flow["policy_id"] == str(world.policy.id)
        assert (flow["resource_id"], flow["resource_name"]) == (str(world.resource.id), "net")
        assert flow["resource_address"] == "10.20.0.0/16"
        assert (flow["initiator_actor_name"], flow["initiator_actor_email"]) == ("Ada", "ada@example.org")
        assert flow["initiator_client_version"] == str(CLIENT_SPEAKS)
        assert flow["initiator_device_os_name"] == "Debian"


async def test_the_two_ends_of_a_pool_report_flows_too(world: World) -> None:
    async with static_pair(world) as pair:
        to_target, to_initiator = await pair.grant()
        for number, told in enumerate((to_target, to_initiator)):
            answer = await report(world, told["flow_logs_ingest_token"], from_host=number)
            assert answer.status_code == 200
    listed = await flows(world)
    assert {one["role"] for one in listed} == {"initiator", "responder"}
    assert {one["responder_device_id"] for one in listed} == {to_initiator["client_id"]}
    assert {one["initiator_device_id"] for one in listed} == {to_target["client_id"]}


@pytest.mark.parametrize("end", ["client", "gateway"])
async def test_where_the_policy_forbids_it_nothing_can_be_reported(world: World, end: str) -> None:
    async with world.portal.services.store.writing() as tx:
        await tx.of(world.account_id).policies.save(replace(world.policy, flow_log_uploads_enabled=False))
    async with world.gateway() as gateway, world.client() as client:
        await gateway.join()
        await client.join()
        create, created = await grant(world, client, gateway)
    token = (created if end == "client" else create)["flow_logs_ingest_token"]
    assert claims(token).uploads_enabled is False
    assert (await report(world, token)).status_code == 401
    assert await flows(world) == []


async def test_a_token_outlives_its_grant_by_thirty_days_and_names_the_provider_of_the_sign_in(
    world: World,
) -> None:
    async with world.portal.services.store.writing() as tx:
        tables = tx.of(world.account_id)
        (provider,) = await tables.email_otp_auth_providers.load_all()
        token = await tables.client_tokens.load(world.client_token_id)
        assert token is not None
        await tables.client_tokens.save(replace(token, auth_provider_id=provider.id))
    async with world.gateway() as gateway, world.client() as client:
        await gateway.join()
        await client.join()
        create, created = await grant(world, client, gateway)
    told = claims(created["flow_logs_ingest_token"])
    assert told.initiator_auth_provider_id == provider.id
    assert told.exp == create["expires_at"] + 30 * 86_400
    assert datetime.fromisoformat(told.authorization_expires_at) == token.expires_at


async def test_what_our_peers_write_is_what_the_portal_takes(world: World) -> None:
    async with world.gateway() as gateway, world.client() as client:
        await gateway.join()
        await client.join()
        create, _ = await grant(world, client, gateway)
    token = create["flow_logs_ingest_token"]
    actions: list[FlowAction] = []
    flows_of_a_gateway = FlowLogging(RecordingEngine(), actions.append, clock=ClockOffset(0.0), prints=False)
    flows_of_a_gateway.handle_init(FlowLogs("http://portal.example/", 60, 1000))
    authorization_id = flows_of_a_gateway.handle_token(token)
    now_us = (
        int(datetime.now(UTC).timestamp()) * 1_000_000
    )  # the portal lists the latest, and deletes old ones
    reports = [
        flow_report(has_ended=is_end, domain="app.example", unix_us=now_us) for is_end in (False, True)
    ]
    for number, one in enumerate(reports):
        flows_of_a_gateway.handle_reports(FlowsReported((one,), lost=0))
        kept = actions[-1]
        assert isinstance(kept, KeepFlows)
        body = encode_upload(Raw(json.encode(flow.record)) for flow in kept.flows)
        answer = await upload(world, token, body, from_host=number)
        assert (answer.status_code, answer.json()) == (200, {"data": {"status": "ok"}})
    (listed,) = await flows(world)
    assert listed["policy_authorization_id"] == authorization_id
    assert (listed["inner_src_ip"], listed["inner_dst_port"]) == ("100.64.0.7", 443)
    assert (listed["tx_packets"], listed["rx_bytes"], listed["inner_domain"]) == (5, 0, "app.example")
    assert [outer.get("src_ip") for outer in listed["outers"]] == ["192.0.2.1", None]
    assert datetime.fromisoformat(listed["flow_end"]) > datetime.fromisoformat(listed["flow_start"])


async def upload(world: World, token: str, body: bytes, *, from_host: int) -> httpx2.Response:
    transport = httpx2.ASGITransport(app=world.portal, client=(f"192.0.2.{100 + from_host}", 40000))
    async with httpx2.AsyncClient(transport=transport, base_url="http://portal.example") as peer:
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        return await peer.post(UPLOAD_PATH, content=body, headers=headers)


async def report(world: World, token: str, *, from_host: int = 0) -> httpx2.Response:
    """Report one flow, each from another address: one report a second is what an address may make."""
    now = datetime.now(UTC)
    flow: dict[str, Any] = {
        "protocol": "tcp",
        "inner_src_ip": "100.64.0.7",
        "inner_src_port": 50122,
        "inner_dst_ip": "10.20.0.4",
        "inner_dst_port": 443,
        "flow_start": now.isoformat(),
    }
    transport = httpx2.ASGITransport(app=world.portal, client=(f"192.0.2.{100 + from_host}", 40000))
    async with httpx2.AsyncClient(transport=transport, base_url="http://portal.example") as peer:
        headers = {"authorization": f"Bearer {token}"}
        return await peer.post("/ingestion/flow_logs", json={"flow_logs": [flow]}, headers=headers)


async def flows(world: World) -> list[dict[str, Any]]:
    token, _ = await make_api_token(world)
    async with caller(world.portal, token) as api:
        answer = await api.get("/logs", params={"type": "flow"})
    entries: list[dict[str, Any]] = answer.json()["data"]
    return entries


def claims(token: str) -> IngestClaims:
    return parse_ingest_token(token)
