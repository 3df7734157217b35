"""What a place changes: conditions, the choice of gateways and relays, what is recorded, and who is answered at all."""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from support.api_requests import newest_api_requests
from support.browser import caller, make_api_token, sign_in_link
from support.ip_databases import city, write_ip_database
from support.portal import Refused, World, make_world, portal_running
from wardgate.portal.logs.streams import Logs, Stream
from wardgate.portal.settings import PortalSettings

BERLIN = ("198.51.100.7", (52.52, 13.4))
PARIS = ("198.51.100.71", (48.85, 2.35))
SYDNEY = ("198.51.100.135", (-33.87, 151.21))
NOWHERE = "192.0.2.7"
PYONGYANG = "198.51.100.201"
REGISTERED = "193.0.6.139"  # RIPE NCC's own, in the Netherlands since 1992
NETWORKS = {
    "198.51.100.0/26": city("DE", "Berlin", BERLIN[1]),
    "198.51.100.64/26": city("FR", "Paris", PARIS[1]),
    "198.51.100.128/26": city("AU", "Sydney", SYDNEY[1]),
    "198.51.100.192/26": city("KP"),
}
IN_GERMANY = [{"property": "remote_ip_location_region", "operator": "is_in", "values": ["DE", "NL"]}]
NOT_IN_FRANCE = [{"property": "remote_ip_location_region", "operator": "is_not_in", "values": ["FR"]}]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    settings = PortalSettings(
        geoip_database=write_ip_database(tmp_path / "city.mmdb", NETWORKS),
        country_code_blocklist=frozenset({"KP"}),
        trusted_proxies=(ip_network("192.0.2.9"),),
        connect_capacity=100.0,
    )
    async with portal_running(settings) as portal:
        yield await make_world(portal)


@pytest.mark.parametrize(
    ("conditions", "remote_ip", "outcome"),
    [
        (IN_GERMANY, BERLIN[0], "granted"),
        (IN_GERMANY, REGISTERED, "granted"),
        (IN_GERMANY, PARIS[0], "denied"),
        (IN_GERMANY, NOWHERE, "denied"),
        (NOT_IN_FRANCE, BERLIN[0], "granted"),
        (NOT_IN_FRANCE, PARIS[0], "denied"),
        (NOT_IN_FRANCE, NOWHERE, "denied"),
    ],
)
async def test_a_condition_on_countries_goes_by_where_the_client_connects_from(
    world: World, conditions: list[dict[str, Any]], remote_ip: str, outcome: str
) -> None:
    await _set_conditions(world, conditions)
    async with world.gateway() as gateway, world.client(remote_ip=remote_ip) as client:
        await gateway.join()
        init = await client.join()
        assert len(init["resources"]) == (1 if outcome == "granted" else 0)
        client.send("request_authorization", {"resource_id": str(world.resource.id)})
        if outcome == "granted":
            await gateway.receive("create_authorization")
        else:
            await client.receive("authorization_creation_failed")


@pytest.mark.parametrize(("remote_ip", "nearest"), [(PARIS[0], "berlin"), (SYDNEY[0], "sydney")])
async def test_the_nearest_gateway_is_chosen(world: World, remote_ip: str, nearest: str) -> None:
    async with AsyncExitStack() as stack:
        gateways = {}
        for name, address in (("berlin", BERLIN[0]), ("sydney", SYDNEY[0]), ("nowhere", NOWHERE)):
            gateways[name] = await stack.enter_async_context(
                world.gateway(external_id=name, remote_ip=address)
            )
            await gateways[name].join()
        client = await stack.enter_async_context(world.client(remote_ip=remote_ip))
        await client.join()
        client.send("request_authorization", {"resource_id": str(world.resource.id)})
        create = await gateways[nearest].receive("create_authorization")
        assert create["payload"]["resource"]["id"] == str(world.resource.id)


async def test_the_two_nearest_relays_are_given_by_where_they_connect_from(world: World) -> None:
    async with AsyncExitStack() as stack:
        for number, address in enumerate((SYDNEY[0], BERLIN[0], NOWHERE, PARIS[0])):
            relay = await stack.enter_async_context(
                world.relay(remote_ip=address, query={"ipv4": f"203.0.113.{number}"})
            )
            await relay.join({"stamp_secret": f"{number:02x}" * 32})
        client = await stack.enter_async_context(world.client(remote_ip=PARIS[0]))
        given = (await client.join())["relays"]
    assert {entry["addr"] for entry in given} == {"203.0.113.1:3478", "203.0.113.3:3478"}


async def test_devices_tokens_sessions_and_logs_record_the_place(world: World) -> None:
    paris = {"x-forwarded-for": PARIS[0]}
    async with world.client(remote_ip=PARIS[0]) as client:
        await client.join()
    await world.portal.journal.flush()
    token, actor_id = await make_api_token(world)
    async with caller(world.portal, token, **paris) as api:
        assert (await api.get("/account")).status_code == 200
    async with caller(world.portal, **paris) as browser:
        assert (await browser.get(await sign_in_link(world))).status_code == 303
    expected = ("FR", "Paris", *PARIS[1])
    async with world.portal.services.store.reading() as transaction:
        tables = transaction.of(world.account_id)
        (device,) = await tables.devices.load_all()
        (session,) = await tables.portal_sessions.load_all()
        (api_token,) = await tables.api_tokens.load_all(tables.api_tokens.c.actor_id == actor_id)
        (call,) = await newest_api_requests(transaction.of(world.account_id), limit=10)
        entries = await Logs(transaction, world.account_id).load(Stream.SESSION, limit=10)
    for row in (device, api_token):
        assert _columns(row, "last_seen_remote_ip_location_{}") == expected
    assert _columns(session, "remote_ip_location_{}") == expected
    assert _columns(call, "ip_{}") == expected
    subjects = [entry.subject for entry in entries]
    assert len(subjects) == 2
    for subject in subjects:
        assert tuple(subject[f"ip_{name}"] for name in ("region", "city", "lat", "lon")) == expected


@pytest.mark.parametrize(
    ("query", "outcome"),
    [
        ({"remote_ip": BERLIN[0]}, "granted"),
        ({"remote_ip": PARIS[0]}, "denied"),
        ({"remote_ip": PARIS[0], "region": "DE"}, "granted"),
    ],
)
async def test_explain_derives_the_country_of_an_assumed_address(
    world: World, query: dict[str, str], outcome: str
) -> None:
    await _set_conditions(world, IN_GERMANY)
    token, _ = await make_api_token(world)
    asked = {"actor_id": str(world.actor.id), "resource_id": str(world.resource.id), **query}
    async with world.gateway() as gateway, caller(world.portal, token) as api:
        await gateway.join()
        answer = (await api.get("/wardgate/explain", params=asked)).json()["data"]
    assert answer["outcome"] == outcome


async def test_a_blocked_country_is_refused_before_anything_else(world: World) -> None:
    for path in ("/account", "/openapi.json", "/acme", "/", "/assets/wardgate.css"):
        async with caller(world.portal, **{"x-forwarded-for": PYONGYANG}) as visitor:
            answer = await visitor.get(path)
            assert (answer.status_code, answer.text) == (403, "Forbidden")
            assert answer.headers["content-type"].startswith("text/plain")
        async with caller(world.portal, **{"x-forwarded-for": PARIS[0]}) as visitor:
            assert (await visitor.get(path)).status_code != 403
    async with caller(world.portal, **{"x-forwarded-for": PYONGYANG}) as probe:
        assert (await probe.get("/healthz")).status_code == 200
        assert (await probe.get("/readyz")).status_code == 200


async def test_peers_of_a_blocked_country_are_refused_whatever_their_token(world: World) -> None:
    for peer in (world.client, world.gateway, world.relay):
        with pytest.raises(Refused) as refused:
            await peer(remote_ip=PYONGYANG).__aenter__()
        refusal = refused.value.refusal
        assert (refusal.status, refusal.body) == (403, b"Forbidden")


async def test_a_proxys_word_places_whom_the_database_does_not_know(world: World) -> None:
    told = {"x-forwarded-for": "203.0.113.9", "x-azure-geo-country": "fr"}
    await _set_conditions(world, NOT_IN_FRANCE)
    async with world.client(remote_ip="192.0.2.9", headers=told) as client:
        assert (await client.join())["resources"] == []
    await world.portal.journal.flush()
    async with world.portal.services.store.reading() as transaction:
        devices = transaction.of(world.account_id).devices
        (device,) = await devices.load_all(devices.c.type == "client")
    assert device.last_seen_remote_ip_location_region == "FR"
    assert device.last_seen_remote_ip_location_lat == pytest.approx(46.6)


async def test_the_operator_sees_how_old_the_database_is(world: World) -> None:
    async with caller(world.portal, world.operator_token) as operator:
        told = (await operator.get("/wardgate/health")).json()["data"]["geoip_database"]
    assert told["error"] is None
    built_at = datetime.fromisoformat(told["built_at"])
    scraped = (await world.portal.export_metrics()).decode()
    (value,) = re.findall(r"^wardgate_portal_geoip_database_built_seconds (\S+)$", scraped, re.MULTILINE)
    assert float(value) == built_at.timestamp()


async def test_the_operator_sees_that_the_database_is_missing(tmp_path: Path) -> None:
    async with portal_running(PortalSettings(geoip_database=tmp_path / "absent.mmdb")) as portal:
        world = await make_world(portal)
        async with caller(portal, world.operator_token) as operator:
            told = (await operator.get("/wardgate/health")).json()["data"]["geoip_database"]
        scraped = (await portal.export_metrics()).decode()
    assert told == {"built_at": None, "error": "No such file or directory"}
    assert not re.search(r"^wardgate_portal_geoip_database_built_seconds ", scraped, re.MULTILINE)


async def _set_conditions(world: World, conditions: list[dict[str, Any]]) -> None:
    async with world.portal.services.store.writing() as transaction:
        policies = transaction.of(world.account_id).policies
        await policies.save(replace(world.policy, conditions=conditions))


def _columns(row: object, pattern: str) -> tuple[Any, ...]:
    return tuple(getattr(row, pattern.format(name)) for name in ("region", "city", "lat", "lon"))
