"""The headless client takes no part in device pools: messages about them have no effect."""

from ipaddress import IPv4Address, IPv6Address
from uuid import UUID

import pytest

from support.recording_engine import RecordingEngine
from unit.client.builders import CIDR_RESOURCE, KEY, drained, init
from wardgate.client.machine import Client
from wardgate.model.ids import ClientId, DeviceId, ResourceId
from wardgate.wire import messages as m

PEER = ClientId(DeviceId(UUID(int=7, version=4)))
POOL = ResourceId(UUID(int=8, version=4))
STATIC = m.ClientStaticDevicePool(
    id=POOL,
    name="devices",
    filters=(),
    devices=(m.PoolDevice(PEER, "100.64.0.7/32", "fd00:2021:1111::7/128"),),
)
DYNAMIC = m.ClientDynamicDevicePool(id=POOL, name="devices", address="*.lab.example", filters=())
AUTHORIZED = m.DeviceAccessAuthorized(
    client_id=PEER,
    client_name="nas",
    client_public_key=KEY,
    client_ipv4=IPv4Address("100.64.0.7"),
    client_ipv6=IPv6Address("fd00:2021:1111::7"),
    preshared_key=KEY,
    local_ice_credentials=m.IceCredentials("aaaa", "a" * 22),
    remote_ice_credentials=m.IceCredentials("bbbb", "b" * 22),
    ice_role="controlled",
    resource=STATIC,
    expires_at=1_800_000_000,
)


@pytest.mark.parametrize("pool", [STATIC, DYNAMIC])
def test_a_pool_among_the_resources_costs_nothing_but_itself(pool: m.ClientResource) -> None:
    with_pool, without = RecordingEngine(), RecordingEngine()
    for engine, resources in ((with_pool, (pool, CIDR_RESOURCE)), (without, (CIDR_RESOURCE,))):
        client = Client(engine)
        client.handle_joined()
        client.handle_message(init(*resources), now=0.0)
        drained(client)
    assert with_pool.commands == without.commands


@pytest.mark.parametrize(
    "message",
    [
        m.ResourceCreatedOrUpdated(STATIC),
        m.ResourceDeleted(POOL),
        AUTHORIZED,
        m.DeviceAccessDenied(ipv4="100.64.0.7", reason="offline", client_id=PEER),
        m.RejectAccess(PEER, POOL),
        m.ResourceFiltersUpdated(POOL, ()),
        m.PeerIceCandidates(PEER, ("candidate:1",)),
        m.InvalidatePeerIceCandidates(PEER, ("candidate:1",)),
        m.PeerIceCandidateError(PEER, "offline"),
        m.DevicePoolDomainResolutionFailed(POOL, "nas.lab.example", "not_found"),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_concerns_pools_only_leaves_the_engine_as_it_is(message: m.Message) -> None:
    engine = RecordingEngine()
    client = Client(engine)
    client.handle_joined()
    client.handle_message(init(CIDR_RESOURCE), now=0.0)
    drained(client)
    before = list(engine.commands)
    client.handle_message(message, now=1.0)
    # At most the routes are set once more, to what they are.
    assert engine.commands[len(before) :] in ([], before[-1:])
