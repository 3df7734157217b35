"""A process's connection to the portal: link and session, kept in step."""

import logging
from collections.abc import Callable, Iterable
from typing import Final, assert_never

from wardgate.connect.portal_session import PortalSession
from wardgate.model.addresses import IpAddress
from wardgate.net.boot_clock import ClockNews
from wardgate.net.portal_link import PortalLink
from wardgate.wire.control_channel import ChannelEvent, Joined, Lost, Received
from wardgate.wire.messages import Message

MakeLink = Callable[[Callable[[ChannelEvent], None]], PortalLink[ChannelEvent]]
"""Creates the link, given a function that takes its events."""

log = logging.getLogger(__name__)


class PortalConnection:
    """Stays connected while `run` runs, and reports when it is connected."""

    def __init__(
        self,
        session: PortalSession,
        link: MakeLink,
        *,
        joined: Callable[[], None],
        received: Callable[[Message], None],
        lost: Callable[[], None],
    ) -> None:
        """Take callbacks for the channel being joined, a message received and the channel lost."""
        self._session: Final = session
        self._link: Final = link(self._handle)
        self._joined: Final = joined
        self._received: Final = received
        self._lost: Final = lost
        self._is_joined = False

    @property
    def is_joined(self) -> bool:
        return self._is_joined

    @property
    def addresses(self) -> Iterable[IpAddress]:
        """The portal's addresses, as resolved at the last attempt to connect."""
        return self._link.portal_addresses

    async def run(self) -> None:
        """Connect, and reconnect whenever the connection is lost.

        Raises:
            PortalRefused, PortalUnreachable, SessionEnded: the portal is gone for good.
        """
        await self._link.run()

    def send(self, message: Message) -> None:
        """Queue a message; it is dropped while the portal is out of reach."""
        self._session.send(message)
        self._link.flush()

    def reconnect(self) -> None:
        """Drop the connection and dial again without delay: the network changed."""
        self._session.reset_pacing()
        self._link.reconnect()

    def handle_clock_news(self, news: ClockNews) -> None:
        """Reconnect after a long sleep, during which the portal has closed the connection."""
        if news.is_long_sleep:
            log.info("the machine slept: reconnecting", extra={"slept_s": round(news.slept_s)})
            self.reconnect()

    def _handle(self, event: ChannelEvent) -> None:
        match event:
            case Joined():
                self._is_joined = True
                self._session.handle_joined()
                self._joined()
                log.info("connected to the portal")
            case Received(message=message):
                self._received(message)
            case Lost():
                self._is_joined = False
                try:
                    self._session.handle_lost(event)
                finally:
                    self._lost()
            case _:
                assert_never(event)
