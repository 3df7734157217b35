"""What engine and gateways are told of names."""

import json
from uuid import UUID

import dns.message
import pytest

from support.recording_engine import RecordingEngine
from wardgate.client.names import ClientNames
from wardgate.client.pool_table import PoolTable
from wardgate.client.resource_table import ResourceTable
from wardgate.datapath import commands as c
from wardgate.dns.recent_answers import RecentAnswers
from wardgate.dns.stub_resolver import Answered, AskSite, Recurse
from wardgate.model.ids import DeviceId, GatewayId, ResourceId, SiteId
from wardgate.wire import messages as m

FIRST, SECOND = GatewayId(DeviceId(UUID(int=1))), GatewayId(DeviceId(UUID(int=2)))
WIDE, NARROW = ResourceId(UUID(int=3)), ResourceId(UUID(int=4))
SITE = m.Site(SiteId(UUID(int=5)), "site")


class World:
    """Two resources, and gateways that serve them as the test says."""

    def __init__(self) -> None:
        self.engine = RecordingEngine()
        self.serving: dict[ResourceId, list[GatewayId]] = {WIDE: [], NARROW: []}
        self.resources = ResourceTable(is_internet_active=False)
        for resource_id, address in ((WIDE, "**.example"), (NARROW, "*.corp.example")):
            self.resources.upsert(
                m.ClientDnsResource(id=resource_id, name="", address=address, filters=(), sites=(SITE,))
            )
        self.names = ClientNames(
            self.engine,
            self.resources,
            PoolTable(),
            recent=RecentAnswers(),
            gateways_of=self.serving.__getitem__,
        )
        self.names.handle_resources()

    def ask(self, name: str, now: float = 1.0) -> None:
        resolution = self.names.resolve(dns.message.make_query(name, "A"))
        assert isinstance(resolution, Answered)
        assert resolution.name == name
        self.names.handle_asked(name, now=now)

    def grant(self, resource_id: ResourceId, gateway_id: GatewayId, now: float = 1.0) -> None:
        self.serving[resource_id].append(gateway_id)
        entry = self.resources.get(resource_id)
        assert entry is not None
        self.names.handle_granted(gateway_id, entry, now=now)

    def announced(self) -> list[tuple[GatewayId, ResourceId, str]]:
        packets = self.engine.of(c.SendControlPacket)
        texts = [(packet.peer_id, json.loads(packet.payload)) for packet in packets]
        return [
            (GatewayId(DeviceId(UUID(peer_id))), ResourceId(UUID(text["resource"])), text["domain"])
            for peer_id, text in texts
        ]

    def status(
        self, gateway_id: GatewayId, resource_id: ResourceId, name: str, word: str
    ) -> ResourceId | None:
        payload = {"resource": str(resource_id), "domain": name, "status": word}
        return self.names.handle_status(gateway_id, json.dumps(payload))


@pytest.fixture
def world() -> World:
    return World()


def test_queries_are_answered_here_at_the_site_or_by_others(world: World) -> None:
    def resolve(name: str, kind: str) -> object:
        return world.names.resolve(dns.message.make_query(name, kind))

    assert isinstance(resolve("app.corp.example", "A"), Answered)
    assert resolve("app.corp.example", "TXT") == AskSite(NARROW)
    assert resolve("example.org", "A") == Recurse()


def test_a_grant_announces_the_names_that_its_resource_matches(world: World) -> None:
    world.ask("app.corp.example")
    world.ask("www.example")
    world.grant(NARROW, FIRST)
    world.grant(WIDE, SECOND)

    assert world.announced() == [
        (FIRST, NARROW, "app.corp.example"),
        (SECOND, WIDE, "app.corp.example"),
        (SECOND, WIDE, "www.example"),
    ]
    sizes = [(one.resource_id, len(one.addresses)) for one in world.engine.of(c.Authorize)]
    assert sizes == [(str(NARROW), 8), (str(WIDE), 16)]


def test_a_later_name_joins_every_grant_that_matches_it_once(world: World) -> None:
    world.grant(NARROW, FIRST)
    world.grant(WIDE, FIRST)
    world.grant(WIDE, SECOND)
    world.engine.forget()
    world.ask("app.corp.example")
    world.ask("app.corp.example", now=1.5)

    assert world.announced() == [
        (FIRST, NARROW, "app.corp.example"),
        (FIRST, WIDE, "app.corp.example"),
        (SECOND, WIDE, "app.corp.example"),
    ]
    assert [len(one.addresses) for one in world.engine.of(c.Authorize)] == [8, 8, 8]


@pytest.mark.parametrize(("word", "flush"), [("Active", True), ("Inactive", False), ("Whatever", False)])
def test_what_waited_is_sent_only_when_the_gateway_serves_the_name(
    world: World, word: str, flush: bool
) -> None:
    world.ask("app.corp.example")
    world.grant(NARROW, FIRST)
    world.status(FIRST, NARROW, "APP.corp.example", word)

    assert [one.flush for one in world.engine.of(c.ReleaseName)] == [flush]


def test_a_grant_is_in_doubt_when_a_query_finds_its_name_inactive(world: World) -> None:
    world.ask("app.corp.example")
    world.grant(NARROW, FIRST)
    assert world.status(FIRST, NARROW, "app.corp.example", "Inactive") is None
    world.ask("app.corp.example", now=20.0)
    assert world.status(FIRST, NARROW, "app.corp.example", "Inactive") == NARROW
    assert world.names.handle_status(FIRST, "junk") is None


def test_a_resource_that_another_gateway_serves_now_is_dropped_at_the_others(world: World) -> None:
    world.ask("app.corp.example")
    world.grant(NARROW, FIRST)
    world.grant(NARROW, SECOND)
    world.names.forget_resource(NARROW, except_at=SECOND)

    assert [(one.peer_id, one.flush) for one in world.engine.of(c.ReleaseName)] == [(str(FIRST), False)]


def test_an_announcement_is_repeated_only_while_the_tunnel_is_up(world: World) -> None:
    world.ask("app.corp.example")
    world.grant(NARROW, FIRST)
    assert world.names.poll_timeout() is None
    world.names.handle_established(FIRST, now=5.0)
    due_at = world.names.poll_timeout()
    assert due_at == 7.0
    world.engine.forget()
    world.names.handle_timeout(now=due_at)
    assert world.announced() == [(FIRST, NARROW, "app.corp.example")]
    world.names.forget_gateway(FIRST)
    assert world.names.poll_timeout() is None
