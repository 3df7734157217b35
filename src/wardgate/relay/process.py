"""The relay process: the engine is the STUN/TURN server; this code keeps the relay registered with the
portal.

Nothing else goes over the control channel: a relay learns of neither users nor sessions, it checks
credentials against the stamp secret that it drew at its start (relay spec §15). It serves whether or not the
portal can be reached.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

from wardgate.connect.portal_session import PortalSession
from wardgate.datapath.engine_news import NewsSource, ThreadWatch, follow_news
from wardgate.net.boot_clock import ClockReading, read_clocks, watch_clocks
from wardgate.net.service_manager import READY, keep_watchdog, notify, notify_slow_stop
from wardgate.net.supervision import run_until_first_ends, stop_signal
from wardgate.peer.portal_connection import MakeLink, PortalConnection
from wardgate.wire.messages import Message

REPORT_INTERVAL_S: Final = 10.0  # operations §4: the summary line
DRAIN_CHECK_S: Final = 0.5
STOP_S: Final = 15.0  # what the end takes after a drain

# Counters that grow when a limit cuts a request short, and the warning for each.
LIMITS: Final = {
    "allocations_refused": "allocations were refused: no port or socket is left",
    "channels_refused": "channels were refused: an allocation, or the relay, has as many as it may",
    "rate_limited": "requests were left unanswered: a source asked too often",
    "udp_send_dropped": "datagrams were dropped: too many waited to be sent",
    "udp_receive_dropped": "datagrams were lost: the receive buffer was full",
}

log = logging.getLogger(__name__)


class Server(NewsSource, Protocol):
    """The hosted relay engine."""

    def drain(self) -> None: ...
    def stats(self) -> dict[str, int]: ...


class RelayProcess:
    """Does not own the parts it is given: the caller closes the server after `run`."""

    def __init__(
        self,
        *,
        server: Server,
        session: PortalSession,
        link: MakeLink,
        drain_s: float,
        read_clocks: Callable[[], ClockReading] = read_clocks,
    ) -> None:
        """Take the parts; `drain_s` is how long allocations may continue after SIGTERM, 0 for not at all."""
        self._server = server
        self._thread = ThreadWatch(server)
        self._portal = PortalConnection(session, link, joined=_nothing, received=_ignore, lost=_nothing)
        self._drain_s = drain_s
        self._read_clocks = read_clocks
        self._is_draining = False
        self._limits = LimitWatch()

    @property
    def is_ready(self) -> bool:
        return self._portal.is_joined and not self._is_draining and self._thread.is_responsive

    def notes(self) -> tuple[str, ...]:
        """What `/readyz` says about the server's thread."""
        return self._thread.notes()

    def counts(self) -> dict[str, int]:
        """What `/metrics` says about the server; without its own numbers while its thread hangs."""
        return (self._server.stats() if self._thread.is_responsive else {}) | self._thread.counts()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises:
            PortalRefused, PortalUnreachable, SessionEnded: the portal is gone for good.
            EngineStopped: the server's thread has ended, or hangs.
        """
        notify(READY)
        await run_until_first_ends(
            self._portal.run(),
            follow_news(self._server),
            self._thread.run(),
            watch_clocks(self._portal.handle_clock_news, read=self._read_clocks),
            self._report(),
            self._keep_watchdog(),
            stop_signal(),
        )
        notify_slow_stop(self._drain_s + STOP_S)
        self._is_draining = True
        if self._drain_s > 0:
            await run_until_first_ends(
                self._drain(),
                follow_news(self._server),
                self._thread.run(),
                self._keep_watchdog(),
                stop_signal(),
            )

    async def _keep_watchdog(self) -> None:
        await keep_watchdog(lambda: self._thread.is_responsive)

    async def _report(self) -> None:
        reported = (0, 0, 0)
        while True:
            await asyncio.sleep(REPORT_INTERVAL_S)
            stats = self._server.stats()
            for counter, refused in self._limits.newly_hit(stats):
                log.warning(LIMITS[counter], extra={"counter": counter, "count": refused})
            current = stats["allocations"], stats["channels"], stats["relayed_bytes"]
            if current != reported:
                allocations, channels, relayed_bytes = current
                log.info(
                    "relaying",
                    extra={
                        "allocations": allocations,
                        "channels": channels,
                        "bytes_per_s": round((relayed_bytes - reported[2]) / REPORT_INTERVAL_S),
                    },
                )
                reported = current

    async def _drain(self) -> None:
        """Refuse new allocations and wait, at most `drain_s`, for existing ones to end."""
        self._server.drain()
        log.info("draining", extra={"allocations": self._server.stats()["allocations"]})
        try:
            async with asyncio.timeout(self._drain_s):
                while self._server.stats()["allocations"] > 0:  # noqa: ASYNC110 - no such event exists
                    await asyncio.sleep(DRAIN_CHECK_S)
        except TimeoutError:
            log.info(
                "allocations remain at the end of the drain",
                extra={"allocations": self._server.stats()["allocations"]},
            )


def _ignore(message: Message) -> None:
    log.debug("message ignored", extra={"message_type": type(message).__name__})


def _nothing() -> None:
    """A relay serves whether the portal is reached or not."""


class LimitWatch:
    """Reports a limit when it starts being hit, and again only after an interval in which it was not."""

    def __init__(self) -> None:
        self._counted = dict.fromkeys(LIMITS, 0)
        self._hit: frozenset[str] = frozenset()

    def newly_hit(self, stats: dict[str, int]) -> list[tuple[str, int]]:
        """Take the counters of an interval; return those that grew in it but not before, and by how much."""
        growth = {name: stats.get(name, 0) - counted for name, counted in self._counted.items()}
        hit = frozenset(name for name, amount in growth.items() if amount > 0)
        new = [(name, growth[name]) for name in LIMITS if name in hit - self._hit]
        self._counted = {name: stats.get(name, 0) for name in LIMITS}
        self._hit = hit
        return new
