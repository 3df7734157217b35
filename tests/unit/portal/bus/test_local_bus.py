"""Who is reachable, who is present, and who is woken."""

from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from uuid import UUID

import pytest
from msgspec.structs import replace

from wardgate.model.ids import (
    AccountId,
    ActorId,
    AuthorizationId,
    ClientId,
    DeviceId,
    GatewayId,
    SiteId,
    TokenId,
)
from wardgate.portal.bus import Bus, ClientPresence, EncodingBus, GatewayPresence, LocalBus
from wardgate.portal.bus.messages import GrantAcknowledged

ACCOUNT, OTHER = AccountId(UUID(int=1)), AccountId(UUID(int=2))
SITE, TOKEN = SiteId(UUID(int=3)), TokenId(UUID(int=4))
HELLO = GrantAcknowledged(AuthorizationId(UUID(int=5)))


def presence(number: int, *, account: AccountId = ACCOUNT, connection: int = 0) -> GatewayPresence:
    return GatewayPresence(
        gateway_id=GatewayId(DeviceId(UUID(int=100 + number))),
        account_id=account,
        site_id=SITE if number % 2 else None,
        connection_id=UUID(int=1000 + number + connection),
        token_id=TOKEN,
        name=f"gateway {number}",
        ipv4=IPv4Address("100.64.0.1") + number,
        ipv6=IPv6Address("fd00:2021:1111::1") + number,
        public_key=f"key {number}",
        psk_base=b"secret",
        user_agent="Debian/12.0.0 gateway/1.5.0",
        version="1.5.0",
        remote_ip=IPv4Address("203.0.113.5"),
        position=None,
        connected_at=datetime(2026, 11, 22, tzinfo=UTC),
    )


def client(number: int) -> ClientPresence:
    facts = presence(number)
    return ClientPresence(
        client_id=ClientId(DeviceId(UUID(int=100 + number))),
        account_id=ACCOUNT,
        connection_id=UUID(int=1000 + number),
        token_id=TOKEN,
        actor_id=ActorId(UUID(int=6)),
        name=f"client {number}",
        ipv4=facts.ipv4,
        ipv6=facts.ipv6,
        public_key=f"client's key {number}",
        psk_base=b"secret",
        user_agent="Debian/12.0.0 headless-client/1.5.0",
        version="1.5.0",
        remote_ip=IPv6Address("2001:db8::5"),
        region="DE",
        position=None,
        connected_at=facts.connected_at,
    )


@pytest.fixture(params=[LocalBus, EncodingBus])
def bus(request: pytest.FixtureRequest) -> Bus:
    made: Bus = request.param()
    return made


def test_a_message_reaches_the_connection_at_its_address(bus: Bus) -> None:
    got: list[object] = []
    bus.register(presence(1), got.append)
    bus.send(presence(1).address, HELLO)
    assert got == [HELLO]


def test_a_message_for_nobody_is_lost_and_presence_says_that_nobody_is_there(bus: Bus) -> None:
    got: list[object] = []
    bus.send(presence(1).address, HELLO)
    bus.register(presence(1), got.append)
    assert bus.find(presence(1).address) == presence(1)
    bus.unregister(presence(1))
    bus.send(presence(1).address, HELLO)
    assert bus.find(presence(1).address) is None
    assert got == []


def test_a_newer_connection_takes_the_address_and_the_older_cannot_give_it_up(bus: Bus) -> None:
    got: list[str] = []
    older, newer = presence(1), presence(1, connection=50)
    bus.register(older, lambda _message: got.append("older"))
    bus.register(newer, lambda _message: got.append("newer"))
    bus.unregister(older)
    bus.update(replace(older, name="renamed"))
    bus.send(older.address, HELLO)
    assert got == ["newer"]
    assert bus.members("gateway", ACCOUNT) == [newer]


def test_what_cannot_survive_a_network_is_refused_when_it_is_sent() -> None:
    bus = EncodingBus()
    there: list[object] = []
    bus.register(presence(1), there.append)
    with pytest.raises(NotImplementedError, match="does not cross the bus"):
        bus.send(presence(1).address, replace(HELLO, authorization_id=object()))
    assert there == []


def test_members_are_of_one_kind_and_account_and_may_be_narrowed_to_a_site(bus: Bus) -> None:
    everybody = [presence(1), presence(2), client(3), presence(4, account=OTHER), presence(5)]
    for one in everybody:
        bus.register(one, lambda _message: None)
    assert bus.members("gateway", ACCOUNT) == [presence(1), presence(2), presence(5)]
    assert bus.members("gateway", ACCOUNT, SITE) == [presence(1), presence(5)]
    assert bus.members("client", ACCOUNT) == [client(3)]
    assert bus.members("relay", None) == []


def test_who_is_online_is_counted_by_kind_over_all_accounts(bus: Bus) -> None:
    for one in [presence(1), presence(2), client(3), presence(4, account=OTHER), presence(1, connection=50)]:
        bus.register(one, lambda _message: None)
    bus.update(presence(2))
    bus.unregister(presence(1))
    assert [bus.count(kind) for kind in ("client", "gateway", "relay")] == [1, 3, 0]
    bus.unregister(presence(1, connection=50))
    bus.unregister(presence(4, account=OTHER))
    assert [bus.count(kind) for kind in ("client", "gateway", "relay")] == [1, 1, 0]


def test_a_public_key_leads_to_its_holder_within_the_account(bus: Bus) -> None:
    bus.register(presence(1), lambda _message: None)
    assert bus.holder_of_key(ACCOUNT, "key 1") == presence(1)
    assert bus.holder_of_key(OTHER, "key 1") is None
    bus.unregister(presence(1))
    assert bus.holder_of_key(ACCOUNT, "key 1") is None


def test_presence_can_be_replaced_while_the_connection_lives(bus: Bus) -> None:
    bus.register(presence(1), lambda _message: None)
    renamed = replace(presence(1), name="new")
    bus.update(renamed)
    assert bus.find(renamed.address) == renamed
    assert bus.members("gateway", ACCOUNT) == [renamed]


def test_coming_and_going_wakes_those_who_watch() -> None:
    bus, woken = LocalBus(), []
    unwatch = bus.watch("presence:gateway", lambda: woken.append("kind"))
    bus.watch(f"presence:{ACCOUNT}", lambda: woken.append("account"))
    bus.register(presence(1), lambda _message: None)
    assert woken == ["kind", "account"]
    unwatch()
    unwatch()
    bus.unregister(presence(1))
    assert woken == ["kind", "account", "account"]


def test_a_watcher_may_end_its_watch_while_it_is_woken() -> None:
    bus, woken = LocalBus(), []

    def once() -> None:
        woken.append("once")
        unwatch()

    unwatch = bus.watch("topic", once)
    bus.watch("topic", lambda: woken.append("always"))
    bus.wake("topic")
    bus.wake("topic")
    assert woken == ["once", "always", "always"]
