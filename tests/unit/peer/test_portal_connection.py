"""What a process is told of its connection to the portal."""

import pytest

from support.process_parts import OpenLink, session, with_link
from wardgate.connect.portal_session import SessionEnded
from wardgate.net.boot_clock import ClockNews
from wardgate.peer.portal_connection import PortalConnection
from wardgate.wire import messages as m
from wardgate.wire.control_channel import Joined, Lost, LostReason, Received
from wardgate.wire.dialect import PeerKind

Told = list[object]


@pytest.fixture
def connection() -> tuple[PortalConnection, OpenLink, Told]:
    told: Told = []
    made, link = with_link(
        lambda link: PortalConnection(
            session(PeerKind.RELAY),
            link,
            joined=lambda: told.append("joined"),
            received=told.append,
            lost=lambda: told.append("lost"),
        )
    )
    return made, link, told


def test_it_tells_of_each_event_and_is_joined_in_between(
    connection: tuple[PortalConnection, OpenLink, Told],
) -> None:
    portal, link, told = connection
    seen = [portal.is_joined]
    for event in (Joined(), Received(m.RelayInit()), Lost(LostReason.SOCKET_CLOSED)):
        link.handle(event)
        seen.append(portal.is_joined)

    assert told == ["joined", m.RelayInit(), "lost"]
    assert seen == [False, True, True, False]


def test_a_revoked_token_is_told_before_it_ends_the_process(
    connection: tuple[PortalConnection, OpenLink, Told],
) -> None:
    _, link, told = connection

    with pytest.raises(SessionEnded):
        link.handle(Lost(LostReason.TOKEN_EXPIRED))
    assert told == ["lost"]


@pytest.mark.parametrize(("slept_s", "reconnects"), [(3.0, 0), (3600.0, 1)])
def test_only_after_a_long_sleep_it_connects_anew(
    connection: tuple[PortalConnection, OpenLink, Told], slept_s: float, reconnects: int
) -> None:
    portal, link, _ = connection
    portal.handle_clock_news(ClockNews(slept_s=slept_s, stepped_s=0.0))

    assert link.reconnects == reconnects
