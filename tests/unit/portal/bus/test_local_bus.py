"""Who is reachable, who is present, and who is woken."""

from dataclasses import replace
from uuid import UUID

from wardgate.portal.bus import Address, LocalBus, Presence

ACCOUNT, OTHER = UUID(int=1), UUID(int=2)
SITE, TOKEN = UUID(int=3), UUID(int=4)


def presence(
    number: int, *, kind: str = "gateway", account: UUID | None = ACCOUNT, connection: int = 0
) -> Presence:
    return Presence(
        address=Address(kind, UUID(int=100 + number)),  # type: ignore[arg-type]
        account_id=account,
        connection_id=UUID(int=1000 + number + connection),
        token_id=TOKEN,
        group=SITE if number % 2 else None,
        facts={"number": number},
    )


def test_a_message_reaches_the_connection_at_its_address() -> None:
    bus, got = LocalBus(), []
    bus.register(presence(1), got.append)
    assert bus.send(presence(1).address, "hello")
    assert got == ["hello"]


def test_nobody_there_is_the_answer_to_a_message_for_nobody() -> None:
    bus = LocalBus()
    assert not bus.send(presence(1).address, "hello")
    bus.register(presence(1), lambda _message: None)
    bus.unregister(presence(1))
    assert not bus.send(presence(1).address, "hello")
    assert bus.find(presence(1).address) is None


def test_a_newer_connection_takes_the_address_and_the_older_cannot_give_it_up() -> None:
    bus, got = LocalBus(), []
    older, newer = presence(1), presence(1, connection=50)
    bus.register(older, lambda _message: got.append("older"))
    bus.register(newer, lambda _message: got.append("newer"))
    bus.unregister(older)
    bus.update(replace(older, facts={}))
    assert bus.send(older.address, "hello")
    assert got == ["newer"]
    assert bus.members("gateway", ACCOUNT) == [newer]
    assert bus.holders(TOKEN) == [newer]


def test_members_are_of_one_kind_and_account_and_may_be_narrowed_to_a_group() -> None:
    bus = LocalBus()
    everybody = [
        presence(1),
        presence(2),
        presence(3, kind="client"),
        presence(4, account=OTHER),
        presence(5),
    ]
    for one in everybody:
        bus.register(one, lambda _message: None)
    assert [one.facts["number"] for one in bus.members("gateway", ACCOUNT)] == [1, 2, 5]
    assert [one.facts["number"] for one in bus.members("gateway", ACCOUNT, SITE)] == [1, 5]
    assert bus.members("gateway", None) == []
    assert len(bus.holders(TOKEN)) == 5


def test_facts_can_be_replaced_while_the_connection_lives() -> None:
    bus = LocalBus()
    bus.register(presence(1), lambda _message: None)
    bus.update(replace(presence(1), facts={"name": "new"}))
    for found in (bus.find(presence(1).address), bus.members("gateway", ACCOUNT)[0], bus.holders(TOKEN)[0]):
        assert found is not None
        assert found.facts == {"name": "new"}


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
