import json
from typing import Any
from uuid import UUID

import pytest

from wardgate.model.ids import ResourceId, SiteId
from wardgate.wire import messages as m
from wardgate.wire.dialect import Dialect, Generation, Malformed, PeerKind, Unknown
from wardgate.wire.errors import LocalProtocolError

V1, V2 = Dialect(PeerKind.CLIENT, Generation.V1), Dialect(PeerKind.CLIENT, Generation.V2)
GATEWAY = Dialect(PeerKind.GATEWAY)
ID = "5f2c5f2c-5f2c-4f2c-8f2c-5f2c5f2c5f2c"
REQUEST = {"resource_id": ID, "connected_gateway_ids": []}
GOOD = {
    "id": ID,
    "type": "cidr",
    "name": "a",
    "address": "10.0.0.0/8",
    "filters": [],
    "sites": [{"id": ID, "name": "s"}],
}
INIT = {"interface": {"ipv4": "100.64.0.1", "ipv6": "fd00:2021:1111::1"}}


def payload(value: Any) -> bytes:
    return json.dumps(value).encode()


def test_each_generation_asks_by_its_own_name_and_does_not_know_the_other() -> None:
    assert isinstance(V1.decode_from_peer("create_flow", payload(REQUEST)), m.RequestAuthorization)
    assert isinstance(V2.decode_from_peer("request_authorization", payload(REQUEST)), m.RequestAuthorization)
    assert V1.decode_from_peer("request_authorization", b"{}") == Unknown("request_authorization", b"{}")
    assert V2.decode_from_peer("create_flow", b"{}") == Unknown("create_flow", b"{}")


def test_one_event_name_means_different_messages_in_the_two_directions() -> None:
    assert GATEWAY.decode_from_peer("authorization_created", b'{"ref":"x"}') == m.AuthorizationAcknowledged(
        "x"
    )
    assert isinstance(GATEWAY.decode_from_portal("authorization_created", b"{}"), Unknown)


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        None,
        {"resource_id": "x"},
        {"resource_id": 1},
        {"resource_id": ID, "connected_gateway_ids": ["y"]},
    ],
)
def test_a_known_event_with_a_wrong_payload_is_malformed(value: Any) -> None:
    assert isinstance(V2.decode_from_peer("request_authorization", payload(value)), Malformed)


@pytest.mark.parametrize("value", [b"", b"{", b"[" * 100_000, b"\xff\xfe"])
def test_a_payload_that_is_no_json_is_malformed(value: bytes) -> None:
    assert isinstance(V2.decode_from_peer("request_authorization", value), Malformed)


@pytest.mark.parametrize("value", [b"null", b"{}", b'{"a":1}', b"[]"])
def test_a_join_ignores_its_payload_and_a_relays_does_not(value: bytes) -> None:
    assert V2.decode_from_peer("phx_join", value) == m.Join()
    assert isinstance(Dialect(PeerKind.RELAY).decode_from_peer("phx_join", value), Malformed)


@pytest.mark.parametrize("secret", ["", "ab" * 31, "zz" * 32, "ab" * 33])
def test_a_stamp_secret_is_64_hex_characters(secret: str) -> None:
    decoded = Dialect(PeerKind.RELAY).decode_from_peer("phx_join", payload({"stamp_secret": secret}))
    assert isinstance(decoded, Malformed)


def test_capabilities_default_to_false_and_unknown_ones_are_ignored() -> None:
    assert V2.decode_from_peer("set_snownet_capabilities", b'{"x":1}') == m.SetSnownetCapabilities(
        iceless=False
    )


@pytest.mark.parametrize(
    "bad",
    [{"type": "from_the_future", "id": ID}, {**GOOD, "filters": [{"protocol": "sctp"}]}, {"id": ID}, 7, None],
)
def test_a_resource_that_cannot_be_read_does_not_cost_the_init(bad: Any) -> None:
    init = V2.decode_from_portal("init", payload({**INIT, "resources": [bad, GOOD]}))
    assert isinstance(init, m.ClientInit)
    assert [str(one.id) for one in init.resources] == [ID]


@pytest.mark.parametrize(
    "change",
    [{"interface": {"ipv4": "100.64.0.1/32", "ipv6": "::1"}}, {"resources": 7}, {"relays": [{"type": "x"}]}],
)
def test_an_init_that_is_wrong_elsewhere_is_lost(change: Any) -> None:
    assert isinstance(V2.decode_from_portal("init", payload({**INIT, **change})), Malformed)


def test_both_or_neither_name_of_the_sites_is_an_error() -> None:
    both = {**GOOD, "gateway_groups": GOOD["sites"]}
    neither = {key: value for key, value in GOOD.items() if key != "sites"}
    for value in (both, neither):
        assert isinstance(V2.decode_from_portal("resource_created_or_updated", payload(value)), Malformed)
    old = {**neither, "gateway_groups": GOOD["sites"]}
    decoded = V2.decode_from_portal("resource_created_or_updated", payload(old))
    assert isinstance(decoded, m.ResourceCreatedOrUpdated)
    assert isinstance(decoded.resource, m.ClientCidrResource)
    assert decoded.resource.served_by == (m.Site(SiteId(UUID(ID)), "s"),)


def test_a_deleted_resource_is_a_bare_id_on_the_wire() -> None:
    assert V2.encode_to_peer(m.ResourceDeleted(ResourceId(UUID(ID)))) == ("resource_deleted", UUID(ID))


def test_the_alias_of_ice_candidates_is_accepted_and_the_short_name_sent() -> None:
    value = payload({"gateway_id": ID, "candidates": []})
    decoded = V2.decode_from_portal("gateway_ice_candidates", value)
    assert isinstance(decoded, m.GatewayIceCandidates)
    assert V2.encode_to_peer(decoded)[0] == "ice_candidates"


def test_device_pools_can_not_be_sent_to_a_gateway_and_lose_its_message() -> None:
    pool = {"id": ID, "type": "static_device_pool", "name": "p", "filters": [], "devices": []}
    assert isinstance(GATEWAY.decode_from_portal("resource_updated", payload(pool)), Malformed)


@pytest.mark.parametrize(
    ("dialect", "message"),
    [
        (V2, m.RelayInit()),
        (GATEWAY, m.RequestAuthorization(ResourceId(UUID(ID)))),
        (Dialect(PeerKind.RELAY), m.NoRelays()),
    ],
)
def test_what_a_connection_does_not_have_is_refused_before_sending(
    dialect: Dialect, message: m.Message
) -> None:
    with pytest.raises(LocalProtocolError):
        dialect.encode_to_peer(message) if isinstance(message, m.RelayInit) else dialect.encode_to_portal(
            message
        )
