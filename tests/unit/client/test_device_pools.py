"""Client to client: reaching devices of pools, being reached by them, and the names of dynamic pools."""

from ipaddress import IPv4Address, IPv6Address, ip_address
from uuid import UUID

import dns.rcode
import pytest
from msgspec import UNSET
from msgspec.structs import replace

from support.recording_engine import RecordingEngine
from unit.client.builders import (
    CIDR,
    CIDR_RESOURCE,
    CLOCK,
    KEY,
    answers,
    connect,
    drained,
    init,
    interface,
    query,
    sent,
)
from wardgate.client.machine import Client
from wardgate.client.pool_names import MAX_WAITING
from wardgate.connect.deadlines import ClockOffset
from wardgate.datapath import commands as c
from wardgate.datapath import events as e
from wardgate.model.ids import ClientId, DeviceId, ResourceId
from wardgate.peer.status import Why
from wardgate.wire import messages as m

NAS = ClientId(DeviceId(UUID(int=7, version=4)))
POOL, OTHER_POOL = (ResourceId(UUID(int=number, version=4)) for number in (8, 9))
V4, V6 = "100.64.0.7", "fd00:2021:1111::7"
OTHER_KEY = KEY[:-2] + "E="
SSH = m.Filter("tcp", 22, 22)
STATIC = m.ClientStaticDevicePool(
    id=POOL, name="devices", filters=(SSH,), devices=(m.PoolDevice(NAS, f"{V4}/32", f"{V6}/128"),)
)
EMPTY = replace(STATIC, devices=())
DYNAMIC = m.ClientDynamicDevicePool(id=POOL, name="devices", address="*.lab.example", filters=())
REACHED = m.DeviceAccessAuthorized(
    client_id=NAS,
    client_name="nas",
    client_public_key=KEY,
    client_ipv4=IPv4Address(V4),
    client_ipv6=IPv6Address(V6),
    preshared_key=KEY,
    local_ice_credentials=m.IceCredentials("aaaa", "a" * 22),
    remote_ice_credentials=m.IceCredentials("bbbb", "b" * 22),
    ice_role="controlling",
)
LET_IN = replace(
    REACHED,
    local_ice_credentials=m.IceCredentials("dddd", "d" * 22),
    remote_ice_credentials=m.IceCredentials("eeee", "e" * 22),
    ice_role="controlled",
    resource=replace(EMPTY, name="inbound"),
    expires_at=1_800_000_000,
)
GRANT = c.Grant(str(NAS), str(POOL), "device", (), (c.Filter("tcp", 22, 22),), 1_800_000_000.0)


@pytest.fixture
def client(engine: RecordingEngine) -> Client:
    made = Client(engine, clock=CLOCK)
    made.handle_joined()
    made.handle_message(init(CIDR_RESOURCE, STATIC), now=0.0)
    drained(made)
    return made


@pytest.fixture
def named(engine: RecordingEngine) -> Client:
    made = Client(engine, clock=CLOCK)
    made.handle_joined()
    made.handle_message(init(DYNAMIC), now=0.0)
    drained(made)
    return made


def intend(client: Client, address: str = V4, now: float = 1.0, pool_id: ResourceId = POOL) -> None:
    client.handle_event(e.Intent(str(pool_id), address, "device"), now=now)


def reach(client: Client, now: float = 1.0) -> None:
    intend(client, now=now)
    client.handle_message(REACHED, now=now)
    drained(client)


def routes(engine: RecordingEngine) -> list[str]:
    return [route.prefix for route in engine.last(c.SetRoutes).routes if route.table == "device"]


def resolved(name: str = "nas.lab.example", v4: str = V4, v6: str = V6) -> m.DevicePoolDomainResolved:
    return m.DevicePoolDomainResolved(POOL, name, IPv4Address(v4), IPv6Address(v6))


def denied(reason: str, **addresses: str) -> m.DeviceAccessDenied:
    return m.DeviceAccessDenied(reason=reason, **addresses)


# ── reaching a device ────────────────────────────────────────────────────────────────────────────────────────


def test_members_of_a_static_pool_are_routed_with_its_filters(
    client: Client, engine: RecordingEngine
) -> None:
    of_pool = [route for route in engine.last(c.SetRoutes).routes if route.table == "device"]
    assert of_pool == [
        c.Route(prefix, str(POOL), "device", (c.Filter("tcp", 22, 22),))
        for prefix in (f"{V4}/32", f"{V6}/128")
    ]


@pytest.mark.parametrize(
    ("ipv4", "ipv6"), [("8.8.8.8/32", f"{V6}/128"), (f"{V4}/32", "2001:db8::1/128"), ("nas", f"{V6}/128")]
)
def test_a_member_without_tunnel_addresses_is_left_out(engine: RecordingEngine, ipv4: str, ipv6: str) -> None:
    client = Client(engine, clock=CLOCK)
    odd = replace(STATIC, devices=(m.PoolDevice(NAS, ipv4, ipv6), *STATIC.devices))
    client.handle_message(init(odd), now=0.0)
    assert routes(engine) == [f"{V4}/32", f"{V6}/128"]


@pytest.mark.parametrize(("address", "field"), [(V4, "ipv4"), (V6, "ipv6")])
def test_a_packet_to_a_device_asks_for_it_by_its_address_once_in_two_seconds(
    client: Client, address: str, field: str
) -> None:
    for now in (1.0, 2.9, 3.0):
        intend(client, address, now)
    assert sent(client) == [m.RequestAuthorization(POOL, (), **{field: address})] * 2


def test_a_grant_brings_the_device_with_both_of_its_addresses(
    client: Client, engine: RecordingEngine
) -> None:
    engine.forget()
    reach(client)
    peer = engine.last(c.UpsertPeer)
    assert (peer.id, peer.role, peer.profile) == (str(NAS), "controlling", "client")
    assert (peer.local_ice.username, peer.remote_ice.username) == ("aaaa", "bbbb")
    assert engine.of(c.Authorize) == [c.Authorize(str(POOL), str(NAS), (), one) for one in (V4, V6)]
    assert [type(one) for one in engine.commands] == [c.UpsertPeer, c.Authorize, c.Authorize]


def test_a_grant_nobody_asked_for_is_ignored(client: Client, engine: RecordingEngine) -> None:
    client.handle_message(REACHED, now=1.0)
    intend(client, "100.64.0.8")
    client.handle_message(REACHED, now=1.0)
    assert engine.of(c.UpsertPeer) == []


def test_candidates_go_to_the_device_and_come_from_it(client: Client, engine: RecordingEngine) -> None:
    reach(client)
    client.handle_event(e.LocalCandidatesAdded(str(NAS), ("candidate:1",)), now=1.0)
    client.handle_event(e.LocalCandidatesRemoved(str(NAS), ("candidate:1",)), now=1.0)
    assert sent(client) == [
        m.NewPeerIceCandidates(NAS, ("candidate:1",)),
        m.InvalidateNewPeerIceCandidates(NAS, ("candidate:1",)),
    ]
    client.handle_message(m.PeerIceCandidates(NAS, ("candidate:2",)), now=1.0)
    client.handle_message(m.InvalidatePeerIceCandidates(NAS, ("candidate:2",)), now=1.0)
    assert engine.last(c.AddRemoteCandidates) == c.AddRemoteCandidates(str(NAS), ("candidate:2",))
    assert engine.last(c.RemoveRemoteCandidates) == c.RemoveRemoteCandidates(str(NAS), ("candidate:2",))


def test_candidates_of_strangers_are_ignored(client: Client, engine: RecordingEngine) -> None:
    client.handle_message(m.PeerIceCandidates(NAS, ("candidate:2",)), now=1.0)
    client.handle_message(m.InvalidatePeerIceCandidates(NAS, ("candidate:2",)), now=1.0)
    assert engine.of(c.AddRemoteCandidates) == engine.of(c.RemoveRemoteCandidates) == []


def test_candidates_wait_for_the_portal_under_the_devices_name(client: Client) -> None:
    reach(client)
    client.handle_portal_lost()
    client.handle_event(e.LocalCandidatesAdded(str(NAS), ("candidate:1",)), now=1.0)
    assert sent(client) == []
    client.handle_joined()
    assert m.NewPeerIceCandidates(NAS, ("candidate:1",)) in sent(client)


def test_a_failed_device_is_asked_for_again(client: Client) -> None:
    reach(client)
    client.handle_event(e.PeerFailed(str(NAS), "ice_timeout"), now=2.0)
    intend(client, now=2.1)
    assert sent(client) == [m.RequestAuthorization(POOL, (), ipv4=V4)]


def test_a_device_that_refuses_is_asked_for_again_at_intervals(client: Client) -> None:
    reach(client)
    for now in (2.0, 5.0, 12.1):
        client.handle_event(e.AccessProhibited(str(NAS), str(POOL), V4), now=now)
    assert sent(client) == [m.RequestAuthorization(POOL, (), ipv4=V4)] * 2


def test_a_removed_member_ends_access_to_it_alone(client: Client, engine: RecordingEngine) -> None:
    reach(client)
    client.handle_message(m.ResourceCreatedOrUpdated(EMPTY), now=2.0)
    assert engine.of(c.Deauthorize) == [c.Deauthorize(str(POOL), one) for one in (V4, V6)]
    assert routes(engine) == []


def test_changed_filters_and_names_keep_access(client: Client, engine: RecordingEngine) -> None:
    reach(client)
    client.handle_message(m.ResourceCreatedOrUpdated(replace(STATIC, name="nas", filters=())), now=2.0)
    assert engine.of(c.Deauthorize) == []
    assert engine.last(c.SetRoutes).routes[0].filters == ()


@pytest.mark.parametrize(
    "message",
    [
        m.ResourceDeleted(POOL),
        init(CIDR_RESOURCE),
        m.ResourceCreatedOrUpdated(replace(CIDR_RESOURCE, id=POOL)),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_pool_that_goes_takes_its_access_along(
    client: Client, engine: RecordingEngine, message: m.Message
) -> None:
    reach(client)
    client.handle_message(message, now=2.0)
    assert engine.of(c.Deauthorize) == [c.Deauthorize(str(POOL), one) for one in (V4, V6)]
    assert routes(engine) == []
    intend(client, now=9.0)
    assert [one for one in sent(client) if isinstance(one, m.RequestAuthorization)] == []


def test_a_resource_that_becomes_a_pool_ends_the_access_to_what_it_was(
    client: Client, engine: RecordingEngine
) -> None:
    connect(client, CIDR)
    client.handle_message(m.ResourceCreatedOrUpdated(replace(EMPTY, id=CIDR)), now=2.0)
    assert engine.of(c.Deauthorize) == [c.Deauthorize(str(CIDR))]


def test_a_refused_request_drops_what_waits_and_is_repeated_no_sooner(
    client: Client, engine: RecordingEngine
) -> None:
    intend(client)
    client.handle_message(denied("offline", ipv4=V4), now=1.1)
    assert engine.of(c.Deauthorize) == [c.Deauthorize(str(POOL), V4)]
    client.handle_message(REACHED, now=1.2)  # too late
    assert engine.of(c.UpsertPeer) == []
    for now in (1.3, 3.0):
        intend(client, now=now)
    assert sent(client) == [m.RequestAuthorization(POOL, (), ipv4=V4)] * 2


def test_an_answer_about_one_address_leaves_other_access_alone(
    client: Client, engine: RecordingEngine
) -> None:
    reach(client)
    client.handle_message(denied("offline", ipv4="100.64.0.8"), now=2.0)
    client.handle_message(denied("invalid_address", ipv4="nas"), now=2.0)
    client.handle_message(denied("missing_address"), now=2.0)
    client.handle_message(denied("offline", ipv4=V4), now=2.0)
    assert engine.of(c.Deauthorize) == []


def test_a_device_that_left_every_pool_loses_our_access(client: Client, engine: RecordingEngine) -> None:
    reach(client)
    client.handle_message(denied("forbidden", ipv4=V4, ipv6=V6), now=2.0)
    assert engine.of(c.Deauthorize) == [c.Deauthorize(str(POOL), one) for one in (V4, V6)]


@pytest.mark.parametrize("is_established", [True, False])
def test_a_device_away_from_the_portal_loses_a_connection_that_does_not_stand(
    client: Client, engine: RecordingEngine, is_established: bool
) -> None:
    reach(client)
    if is_established:
        client.handle_event(e.HandshakeDone(str(NAS), 0.1), now=1.5)
    client.handle_message(m.PeerIceCandidateError(NAS, "offline"), now=2.0)
    assert engine.of(c.RemovePeer) == ([] if is_established else [c.RemovePeer(str(NAS))])


def test_what_devices_say_about_names_is_ignored(client: Client, engine: RecordingEngine) -> None:
    reach(client)
    engine.forget()
    client.handle_event(e.ControlPacket(str(NAS), 1, "{}"), now=2.0)
    assert (engine.commands, sent(client)) == ([], [])


# ── being reached ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_device_is_let_in_by_the_pools_filters_until_the_grant_ends(
    client: Client, engine: RecordingEngine
) -> None:
    client.handle_message(LET_IN, now=1.0)
    assert engine.last(c.UpsertPeer).role == "controlled"
    assert engine.of(c.Grant) == [GRANT]
    assert engine.of(c.Authorize) == []
    assert client.held() == {(NAS, POOL)}


def test_the_end_of_a_grant_is_read_under_its_old_name_too(client: Client, engine: RecordingEngine) -> None:
    of_v1 = replace(LET_IN, expires_at=UNSET, authorization_expires_at=1_700_000_000)
    client.handle_message(of_v1, now=1.0)
    assert engine.last(c.Grant).expires_deadline_s == 1_700_000_000.0


def test_a_revoked_grant_ends(client: Client, engine: RecordingEngine) -> None:
    client.handle_message(LET_IN, now=1.0)
    client.handle_message(m.RejectAccess(NAS, POOL), now=2.0)
    assert engine.of(c.Revoke) == [c.Revoke(str(NAS), str(POOL))]
    assert client.held() == frozenset()


def test_new_filters_are_handed_on(client: Client, engine: RecordingEngine) -> None:
    client.handle_message(m.ResourceFiltersUpdated(POOL, (m.Filter("icmp"),)), now=2.0)
    assert engine.of(c.UpdateFilters) == [c.UpdateFilters(str(POOL), (c.Filter("icmp"),))]


def test_init_keeps_the_grants_that_it_lists_until_when_it_says(
    client: Client, engine: RecordingEngine
) -> None:
    client.handle_message(LET_IN, now=1.0)
    client.handle_message(replace(LET_IN, resource=replace(EMPTY, id=OTHER_POOL)), now=1.0)
    listed = (m.Authorization(NAS, OTHER_POOL, 1_700_000_000), m.Authorization(NAS, CIDR, 1_900_000_000))
    client.handle_message(m.ClientInit(interface=interface(), authorizations=listed), now=2.0)
    assert engine.last(c.RetainGrants).grants == (
        c.RetainedGrant(str(NAS), str(OTHER_POOL), 1_700_000_000.0),
    )
    assert client.held() == {(NAS, OTHER_POOL)}


def test_an_expired_grant_is_forgotten(client: Client) -> None:
    client.handle_message(LET_IN, now=1.0)
    client.handle_event(e.GrantExpired(str(NAS), str(POOL)), now=2.0)
    assert client.held() == frozenset()
    client.handle_event(e.GrantExpired(str(UUID(int=1)), str(POOL)), now=2.0)


def test_a_closed_connection_takes_the_grants_along(client: Client, engine: RecordingEngine) -> None:
    client.handle_message(LET_IN, now=1.0)
    client.handle_event(e.PeerClosed(str(NAS), "remote"), now=2.0)
    assert client.held() == frozenset()
    client.handle_message(m.PeerIceCandidates(NAS, ("candidate:2",)), now=2.0)
    assert engine.of(c.AddRemoteCandidates) == []


def test_a_stepped_clock_moves_every_deadline(client: Client, engine: RecordingEngine) -> None:
    client.handle_message(LET_IN, now=1.0)
    client.handle_clock_step(ClockOffset(1_000_000_000.0))
    assert engine.last(c.RetainGrants).grants[0].expires_deadline_s == 800_000_000.0


def test_a_reset_forgets_both_directions(client: Client, engine: RecordingEngine) -> None:
    client.handle_message(LET_IN, now=1.0)
    reach(client)
    client.handle_reset(KEY, now=0.0)
    assert client.held() == frozenset()
    client.handle_joined()
    client.handle_message(m.PeerIceCandidates(NAS, ("candidate:2",)), now=2.0)
    assert engine.of(c.AddRemoteCandidates) == []


def test_a_device_in_use_when_the_network_changed_is_asked_for_without_a_packet(client: Client) -> None:
    """Once for each pool, whichever of its addresses programs use: a grant covers both."""
    reach(client)
    client.handle_reset(KEY, in_use={str(NAS)}, now=1.5)
    client.handle_portal_lost()
    client.handle_reset(KEY, now=1.6)  # once more, before the portal was there
    client.handle_joined()
    drained(client)  # it has not been told yet what may be asked for
    client.handle_message(init(CIDR_RESOURCE, STATIC), now=2.0)
    assert sent(client) == [m.RequestAuthorization(POOL, (), ipv4=V4)]
    client.handle_message(init(CIDR_RESOURCE, STATIC), now=9.0)
    assert not sent(client), "once"


def test_a_name_of_a_pool_leads_to_its_device_after_the_network_changed(named: Client) -> None:
    named.handle_message(resolved(), now=1.0)
    reach(named)
    named.handle_reset(KEY, in_use={str(NAS)}, now=1.5)
    named.handle_joined()
    drained(named)
    named.handle_message(init(DYNAMIC), now=2.0)
    assert sent(named) == [m.RequestAuthorization(POOL, (), ipv4=V4)]


@pytest.mark.parametrize(("in_use", "pool"), [((), STATIC), ((str(NAS),), EMPTY)], ids=["idle", "gone"])
def test_a_device_that_was_idle_or_has_left_waits_for_a_packet(
    client: Client, in_use: tuple[str, ...], pool: m.ClientStaticDevicePool
) -> None:
    reach(client)
    client.handle_reset(KEY, in_use=in_use, now=1.5)
    client.handle_joined()
    drained(client)
    client.handle_message(init(CIDR_RESOURCE, pool), now=2.0)
    assert not sent(client)


def test_who_only_reaches_us_is_not_asked_for_after_the_network_changed(client: Client) -> None:
    client.handle_message(LET_IN, now=1.0)
    client.handle_reset(KEY, in_use={str(NAS)}, now=1.5)
    client.handle_joined()
    drained(client)
    client.handle_message(init(CIDR_RESOURCE, STATIC), now=2.0)
    assert not sent(client)


@pytest.mark.parametrize(
    "message",
    [replace(LET_IN, expires_at=UNSET), replace(LET_IN, resource=CIDR_RESOURCE)],
    ids=["end", "pool"],
)
def test_a_grant_without_end_or_pool_lets_nobody_in(
    client: Client, engine: RecordingEngine, message: m.DeviceAccessAuthorized
) -> None:
    client.handle_message(message, now=1.0)
    assert engine.of(c.Grant) == engine.of(c.UpsertPeer) == []
    assert client.held() == frozenset()


def test_without_a_relay_nobody_is_let_in(client: Client, engine: RecordingEngine) -> None:
    engine.refused.add(c.UpsertPeer)
    client.handle_message(LET_IN, now=1.0)
    assert engine.of(c.Grant) == []
    client.handle_event(e.NoRelays(str(NAS)), now=1.0)
    assert sent(client) == [m.NoRelays()]


# ── both at once ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("own", ["100.64.0.1", "100.64.0.9"])
@pytest.mark.parametrize("let_in_first", [True, False])
def test_of_two_connections_stays_the_one_that_the_lower_address_controls(
    engine: RecordingEngine, own: str, let_in_first: bool
) -> None:
    client = Client(engine, clock=CLOCK)
    client.handle_joined()
    ours = m.ClientInterface(IPv4Address(own), IPv6Address("fd00:2021:1111::9"))
    client.handle_message(m.ClientInit(interface=ours, resources=(STATIC,)), now=0.0)
    intend(client)
    for message in (LET_IN, REACHED) if let_in_first else (REACHED, LET_IN):
        client.handle_message(message, now=1.0)
    kept = engine.last(c.UpsertPeer)
    assert kept.role == ("controlling" if own == "100.64.0.1" else "controlled")
    assert kept.local_ice.username == ("aaaa" if kept.role == "controlling" else "dddd")
    assert engine.of(c.Grant) == [GRANT]
    assert len(engine.of(c.Authorize)) == 2


def test_a_restarted_device_replaces_its_connection_and_inherits_nothing(
    client: Client, engine: RecordingEngine
) -> None:
    reach(client)
    client.handle_message(LET_IN, now=1.0)
    client.handle_message(replace(LET_IN, resource=replace(EMPTY, id=OTHER_POOL)), now=1.0)
    engine.forget()
    client.handle_message(replace(LET_IN, client_public_key=OTHER_KEY), now=2.0)
    assert engine.last(c.UpsertPeer).public_key == OTHER_KEY
    assert engine.of(c.Revoke) == [c.Revoke(str(NAS), str(OTHER_POOL))]
    assert engine.of(c.Deauthorize) == [c.Deauthorize(str(POOL), one) for one in (V4, V6)]
    # The engine closes a peer of which nothing is left: first what the new one has.
    assert [type(one) for one in engine.commands][:2] == [c.UpsertPeer, c.Grant]
    assert client.held() == {(NAS, POOL)}


# ── names ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_name_of_a_dynamic_pool_is_asked_for_and_then_known(named: Client, engine: RecordingEngine) -> None:
    query(named, 1, "NAS.lab.example.")
    query(named, 2, "nas.lab.example", "AAAA")
    assert sent(named) == [m.ResolveDevicePoolDomain(POOL, "nas.lab.example")]
    named.handle_message(resolved(), now=1.5)
    got = answers(named)
    assert [str(got[one].answer[0][0]) for one in (1, 2)] == [V4, V6]  # type: ignore[union-attr]
    assert got[1].answer[0].ttl == 1  # type: ignore[union-attr]
    assert routes(engine) == [f"{V4}/32", f"{V6}/128"]
    query(named, 3, "nas.lab.example")
    (known,) = answers(named).values()
    assert known is not None
    assert str(known.answer[0][0]) == V4
    intend(named, V6)
    assert sent(named) == [m.RequestAuthorization(POOL, (), ipv6=V6)]


def test_other_types_of_such_a_name_are_empty(named: Client) -> None:
    query(named, 1, "nas.lab.example", "TXT")
    (answer,) = answers(named).values()
    assert answer is not None
    assert (answer.rcode(), answer.answer) == (dns.rcode.NOERROR, [])


def test_a_name_beside_the_pattern_is_no_affair_of_the_pool(named: Client) -> None:
    query(named, 1, "lab.example")
    query(named, 2, "a.nas.lab.example")
    assert sent(named) == []


@pytest.mark.parametrize(
    ("reason", "rcode"), [("not_found", dns.rcode.NXDOMAIN), ("busy", dns.rcode.SERVFAIL)]
)
def test_a_name_that_is_not_resolved_is_answered_so(
    named: Client, reason: str, rcode: dns.rcode.Rcode
) -> None:
    asked = query(named, 1, "gone.lab.example").to_wire()
    drained(named)
    named.handle_message(m.DevicePoolDomainResolutionFailed(POOL, "gone.lab.example", reason), now=1.5)
    (answer,) = answers(named).values()
    assert answer is not None
    assert answer.rcode() == rcode
    assert named.answer_again(asked, is_udp=True, now=1.6) is None


def test_an_unanswered_name_fails_after_five_seconds(named: Client) -> None:
    query(named, 1, "nas.lab.example", now=1.0)
    drained(named)
    assert named.poll_timeout() == 6.0
    named.handle_timeout(now=5.9)
    assert answers(named) == {}
    named.handle_timeout(now=6.0)
    (answer,) = answers(named).values()
    assert answer is not None
    assert answer.rcode() == dns.rcode.SERVFAIL
    assert named.poll_timeout() is None


def test_the_same_question_again_takes_the_place_of_the_former(named: Client) -> None:
    query(named, 1, "nas.lab.example")
    drained(named)
    query(named, 2, "nas.lab.example", now=2.0)
    assert answers(named) == {1: None}
    named.handle_message(resolved(), now=2.5)
    assert list(answers(named)) == [2]


@pytest.mark.parametrize("ending", ["lost", "reset", "away"])
def test_without_the_portal_names_fail(named: Client, ending: str) -> None:
    if ending == "away":
        named.handle_portal_lost()
    query(named, 1, "nas.lab.example")
    if ending == "lost":
        named.handle_portal_lost()
    elif ending == "reset":
        named.handle_reset(KEY, now=0.0)
    (answer,) = answers(named).values()
    assert answer is not None
    assert answer.rcode() == dns.rcode.SERVFAIL
    named.handle_message(resolved(), now=2.0)
    assert answers(named) == {}


def test_few_names_wait_at_a_time(named: Client) -> None:
    for number in range(MAX_WAITING + 1):
        query(named, number, f"n{number}.lab.example")
    assert list(answers(named)) == [0]


@pytest.mark.parametrize(("v4", "v6"), [("8.8.8.8", V6), (V4, "2001:db8::1")])
def test_a_name_never_leads_out_of_the_tunnels(
    named: Client, engine: RecordingEngine, v4: str, v6: str
) -> None:
    query(named, 1, "nas.lab.example")
    drained(named)
    named.handle_message(resolved(v4=v4, v6=v6), now=1.5)
    (answer,) = answers(named).values()
    assert answer is not None
    assert answer.rcode() == dns.rcode.SERVFAIL
    assert routes(engine) == []


def test_names_nobody_asked_for_lead_where_the_pattern_covers_them_only(
    named: Client, engine: RecordingEngine
) -> None:
    named.handle_message(resolved("nas.other.example"), now=1.5)
    named.handle_message(replace(resolved(), resource_id=OTHER_POOL), now=1.5)
    assert routes(engine) == []


def test_a_device_that_left_is_looked_up_anew(named: Client, engine: RecordingEngine) -> None:
    named.handle_message(resolved(), now=1.0)
    asked = query(named, 0, "nas.lab.example").to_wire()
    assert list(answers(named)) == [0]
    assert named.answer_again(asked, is_udp=True, now=1.1) is not None
    named.handle_message(denied("forbidden", ipv4=V4), now=2.0)
    assert named.answer_again(asked, is_udp=True, now=2.1) is None
    assert routes(engine) == []
    query(named, 1, "nas.lab.example")
    assert sent(named) == [m.ResolveDevicePoolDomain(POOL, "nas.lab.example")]


def test_another_device_of_the_name_ends_access_to_the_former(named: Client, engine: RecordingEngine) -> None:
    named.handle_message(resolved(), now=1.0)
    reach(named)
    named.handle_message(resolved(v4="100.64.0.8", v6="fd00:2021:1111::8"), now=2.0)
    assert engine.of(c.Deauthorize) == [c.Deauthorize(str(POOL), one) for one in (V4, V6)]
    assert routes(engine) == ["100.64.0.8/32", "fd00:2021:1111::8/128"]


def test_another_pattern_ends_what_the_former_led_to(named: Client, engine: RecordingEngine) -> None:
    named.handle_message(resolved(), now=1.0)
    reach(named)
    named.handle_message(m.ResourceCreatedOrUpdated(replace(DYNAMIC, name="same")), now=2.0)
    assert engine.of(c.Deauthorize) == []
    named.handle_message(m.ResourceCreatedOrUpdated(replace(DYNAMIC, address="*.office.example")), now=2.0)
    assert engine.of(c.Deauthorize) == [c.Deauthorize(str(POOL), one) for one in (V4, V6)]
    assert routes(engine) == []


def test_a_pattern_that_cannot_be_read_leaves_its_pool_out(named: Client, engine: RecordingEngine) -> None:
    named.handle_message(resolved(), now=1.0)
    named.handle_message(m.ResourceCreatedOrUpdated(replace(DYNAMIC, address="a**.example")), now=2.0)
    assert routes(engine) == []


# ── what people are told ─────────────────────────────────────────────────────────────────────────────────────


def test_what_a_person_is_told_of_a_device_follows_from_refusal_to_grant(client: Client) -> None:
    def why(port: int = 22) -> Why:
        return client.why(ip_address(V4), protocol="tcp", port=port, now=9.0)

    unknown = why()
    assert unknown.resource is not None
    assert (unknown.outcome, unknown.resource.kind, unknown.resource.name) == (
        "no answer",
        "device pool",
        "devices",
    )
    assert (why(80).is_filtered, why(80).filters) == (True, ("22/tcp",))

    client.ask_access(str(POOL), ip_address(V4), now=1.0)
    assert sent(client) == [m.RequestAuthorization(POOL, ipv4=V4)]
    client.handle_message(denied("forbidden", ipv4=V4), now=1.0)
    assert (why().outcome, why().reason) == ("refused", "forbidden")
    (pool,) = [one for one in client.shown_resources(now=2.0) if one.kind == "device pool"]
    assert (pool.state, pool.refusal) == ("unknown", "forbidden")

    client.ask_access(str(POOL), ip_address(V4), now=4.0)
    assert why().outcome == "no answer", "the old refusal is not told as the new answer"
    client.handle_message(REACHED, now=4.0)
    client.handle_event(e.HandshakeDone(str(NAS), 0.1), now=4.0)
    granted = why()
    assert granted.outcome == "authorized"
    assert granted.connection is not None
    assert granted.connection.names == {"device": "nas"}
    (pool,) = [one for one in client.shown_resources(now=5.0) if one.kind == "device pool"]
    assert (pool.state, pool.gateway_id, pool.refusal) == ("online", str(NAS), None)


def test_a_name_in_a_dynamic_pool_is_told_and_asked_for_once_it_is_resolved(named: Client) -> None:
    def why() -> Why:
        return named.why("nas.lab.example", protocol="tcp", port=22, now=9.0)

    assert why().outcome == "no answer"
    named.ask_access(str(POOL), "nas.lab.example", now=1.0)
    assert sent(named) == [], "nobody knows which device that is"
    named.handle_message(resolved(), now=1.0)
    named.ask_access(str(POOL), "nas.lab.example", now=1.0)
    assert sent(named) == [m.RequestAuthorization(POOL, ipv4=V4)]
    named.handle_message(REACHED, now=1.0)
    assert why().outcome == "authorized"
    assert named.why("nas.elsewhere.example", protocol="tcp", port=22, now=9.0).outcome == "no resource"


def test_whom_a_pool_lets_in_here_is_told_with_its_end(client: Client) -> None:
    client.handle_message(LET_IN, now=1.0)
    (grant,) = client.shown_grants()
    assert (grant.client_id, grant.actor, grant.expires_at) == (str(NAS), "nas", 1_800_000_000)


def test_what_was_refused_is_forgotten_with_its_pool(client: Client) -> None:
    intend(client)
    client.handle_message(denied("forbidden", ipv4=V4), now=1.0)
    client.handle_message(m.ResourceDeleted(POOL), now=2.0)
    client.handle_message(m.ResourceCreatedOrUpdated(STATIC), now=3.0)
    assert client.why(ip_address(V4), protocol="tcp", port=22, now=3.0).outcome == "no answer"
