"""A connection's place on the bus, where messages may be lost or late."""

from uuid import UUID

from msgspec.structs import replace

from unit.portal.bus.test_local_bus import client
from wardgate.portal.bus import EncodingBus
from wardgate.portal.bus.messages import Superseded
from wardgate.portal.channels.registration import Registration, supersede


def test_the_older_connection_is_told_and_nobody_if_there_is_none() -> None:
    bus, got = EncodingBus(), []
    supersede(bus, client(1))
    registration = Registration(bus, client(1), got.append)
    supersede(bus, client(1))
    assert got == [Superseded(client(1).connection_id)]
    assert registration.is_superseded_by(got[0])


def test_a_late_message_to_the_older_connection_does_not_end_the_newer() -> None:
    registration = Registration(EncodingBus(), client(1), lambda _message: None)
    assert not registration.is_superseded_by(Superseded(UUID(int=7)))


def test_a_connection_that_was_not_told_finds_out_that_its_address_was_taken() -> None:
    bus = EncodingBus()
    older = Registration(bus, client(1), lambda _message: None)
    assert older.is_current()
    newer = Registration(bus, replace(client(1), connection_id=UUID(int=7)), lambda _message: None)
    assert not older.is_current()
    assert newer.is_current()
    older.end()
    assert newer.is_current()


def test_a_bus_that_lost_a_presence_is_given_it_again() -> None:
    bus, got = EncodingBus(), []
    registration = Registration(bus, client(1), got.append)
    registration.update(name="renamed")
    bus.unregister(client(1))
    assert registration.is_current()
    assert bus.find(client(1).address) == replace(client(1), name="renamed")
    bus.send(client(1).address, Superseded(UUID(int=7)))
    assert got == [Superseded(UUID(int=7))]
