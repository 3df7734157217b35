import random

import pytest

from wardgate.connect.portal_session import PortalSession, SessionEnded
from wardgate.wire import messages as m
from wardgate.wire.control_channel import Lost, LostReason
from wardgate.wire.dialect import Dialect, PeerKind
from wardgate.wire.reconnect import Reconnect

OK = '{"topic":"gateway","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":0}'


def session() -> PortalSession:
    return PortalSession(Dialect(PeerKind.GATEWAY), reconnect=Reconnect(budget_s=None, rng=random.Random(7)))


def test_messages_go_to_the_channel_of_the_moment() -> None:
    made = session()
    made.send(m.NoRelays())
    first = made.open_channel(0.0)
    first.handle_frame(OK, now=0.1)
    made.send(m.NoRelays())
    frames = [first.poll_transmit(), first.poll_transmit(), first.poll_transmit()]

    assert [frame is not None and "no_relays" in frame for frame in frames] == [False, True, False]


def test_a_lost_channel_takes_no_more_messages() -> None:
    made = session()
    made.open_channel(0.0)
    made.handle_lost(Lost(LostReason.SOCKET_CLOSED))

    made.send(m.NoRelays())
    assert made.next_delay_s(None) is not None


def test_a_final_loss_ends_the_session_with_its_reason() -> None:
    made = session()
    made.open_channel(0.0)

    with pytest.raises(SessionEnded, match="expired or was revoked"):
        made.handle_lost(Lost(LostReason.TOKEN_EXPIRED))


def test_the_first_phase_gives_up_and_a_later_one_without_budget_does_not() -> None:
    early, late = session(), session()
    late.handle_joined()
    delays = [early.next_delay_s(None) for _ in range(16)]

    assert delays[:15] == [1.0] * 15
    assert delays[15] is None
    assert all(late.next_delay_s(None) is not None for _ in range(200))
