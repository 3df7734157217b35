"""The driver of a tunnel endpoint, common to client and gateway.

```
 portal ◄──PortalConnection──► ┌───────────────┐ ◄──events, commands──► engine
 host   ◄──Reconciler───────── │ TunnelProcess │ ◄──actions──────────── machine
 DNS    ───DnsListener───────► └───────────────┘
```

After each input, the engine's events go to the machine and the machine's actions are carried out until none
is left. The machine makes the decisions; a subclass implements whatever else its kind of process does.
"""

import asyncio
import contextlib
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec import Raw

import wardgate
from wardgate.connect.connections import ConnectionView
from wardgate.connect.deadlines import ClockOffset
from wardgate.connect.flow_logging import KeepFlows, KeepToken, UploadFlows
from wardgate.connect.portal_session import PortalSession
from wardgate.datapath.engine import HostedEngine
from wardgate.datapath.engine_news import EngineStopped, ThreadWatch, follow_news
from wardgate.datapath.events import AnyEvent, HandshakeDone, PeerClosed, PeerFailed
from wardgate.net.boot_clock import ClockNews, watch_clocks
from wardgate.net.dns_listener import Begin, DnsListener, Query
from wardgate.net.flow_upload import FlowUpload
from wardgate.net.host_changes import HostChanges
from wardgate.net.host_dns import HostDns
from wardgate.net.name_lookup import NameLookup
from wardgate.net.netlink import Kernel
from wardgate.net.network_path import NetworkPath
from wardgate.net.otlp import Record
from wardgate.net.reconciler import Reconciler, Setting
from wardgate.net.service_manager import READY, STOPPING, keep_watchdog, notify
from wardgate.net.succession import Legacy, Successor, successor
from wardgate.net.supervision import run_until_first_ends, stop_signal
from wardgate.net.tun_configuration import ConfigurationText
from wardgate.net.tun_interface import TunInterface
from wardgate.peer.control_socket import control_socket
from wardgate.peer.flow_spool import FlowSpool
from wardgate.peer.flow_uploader import FlowUploader
from wardgate.peer.machine import Configure, Send, TunnelMachine
from wardgate.peer.portal_connection import MakeLink, PortalConnection
from wardgate.peer.status import HostSetting, Question, Refused, Status, Why
from wardgate.supervision import Tasks
from wardgate.wire.messages import Message

LEAVE_S: Final = 0.1
"""How long a route stays that nothing wants any more; ours. A policy that replaces another one takes a resource away
and gives it again: without the route, what a program sends meanwhile leaves by the host's own. The engine lets nothing
pass anyway.
"""

_Action = TypeVar("_Action")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TunnelParts:
    """What both kinds of process are built from.

    Attributes:
        settings: host settings to keep, in addition to those of the TUN interface and of DNS.
        control_socket: where `wardgate status` asks; None for nowhere.
        portal_url: as it was set, to be shown.
        legacy: of the process that this one succeeds.
    """

    engine: HostedEngine
    session: PortalSession
    link: MakeLink
    kernel: Kernel
    tun: TunInterface
    host_dns: HostDns
    flow_logs: "FlowLogs"
    settings: tuple[Setting[Any], ...] = ()
    control_socket: Path | None = None
    portal_url: str = ""
    legacy: Legacy | None = None


@dataclass(frozen=True, slots=True)
class FlowLogs:
    """What becomes of flow records on this host: `directory` keeps them until they are uploaded."""

    directory: Path
    prints: bool = False


class TunnelProcess(ABC, Generic[_Action]):
    """Does not own the parts it is given: the caller closes engine and TUN interface after `run`."""

    def __init__(self, parts: TunnelParts, machine: TunnelMachine[_Action], *, dns_port: int) -> None:
        """Take the parts; `dns_port` is where DNS is served on the addresses of the TUN interface."""
        self.host: Final = Reconciler((*parts.settings, *parts.tun.settings, *parts.host_dns.settings))
        self._engine: Final = parts.engine
        self._thread: Final = ThreadWatch(parts.engine)
        self._machine: Final = machine
        self._tun: Final = parts.tun
        self._portal: Final = PortalConnection(
            parts.session,
            parts.link,
            joined=self._handle_joined,
            received=self._handle_received,
            lost=self._handle_portal_lost,
        )
        self._path: Final = NetworkPath(parts.kernel, lambda: self._portal.addresses)
        self._listener: Final = DnsListener(
            self._answer_query, at_once=self._answer_at_once, begin=self._begin_query, port=dns_port
        )
        self._forwarded = self._unanswered = 0  # what name servers were asked, and did not answer
        self._tasks: Final = Tasks()
        self._spool: Final = FlowSpool(parts.flow_logs.directory)
        self._upload: Final = FlowUpload(NameLookup(parts.host_dns.system_resolvers).addresses)
        self._uploader: Final = FlowUploader(self._spool, self._upload)
        self._wanted: Final[asyncio.Queue[Configure]] = asyncio.Queue()
        self._is_up: Final = asyncio.Event()
        self._control_socket: Final = parts.control_socket
        self._portal_url: Final = parts.portal_url
        self._established_at: Final = dict[str, float]()
        self._addresses: tuple[str, ...] = ()
        self._legacy: Final = parts.legacy
        self._configured: Configure | None = None
        self._successor: Successor | None = None
        self._bequest: tuple[Legacy, int] | None = None
        self.record_span: Record | None = None
        """Takes spans of what was done; None: nobody collects them."""

    @property
    def is_ready(self) -> bool:
        return self._machine.is_joined and self.host.is_ready and self._thread.is_responsive

    def notes(self) -> tuple[str, ...]:
        """What `/readyz` says about the host and the engine's thread."""
        return (*self._thread.notes(), *map(str, self.host.notes()))

    def counts(self) -> dict[str, int]:
        """What `/metrics` says about the host and the engine; without the engine's own numbers while it hangs."""
        stats = self._engine.stats() if self._thread.is_responsive else {}
        flows = self._spool.counts() | self._uploader.counts()
        names = self._listener.counts() | {
            "dns_forwarded": self._forwarded,
            "dns_unanswered": self._unanswered,
        }
        return stats | self.host.counts() | self._thread.counts() | flows | names

    # ── for subclasses ──────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def _handle_message(self, message: Message) -> None:
        """Pass a message of the portal to the machine."""

    @abstractmethod
    def _handle_event(self, event: AnyEvent) -> None:
        """Pass an event of the engine to the machine."""

    @abstractmethod
    def _perform(self, action: _Action) -> None:
        """Carry out an action of the machine."""

    def _answer_at_once(self, _query: Query) -> bytes | None:
        """Answer what takes no waiting; None: `_answer_query` is asked."""
        return None

    _begin_query: Begin | None = None
    """Instead of `_answer_query` for queries over UDP, where there is something better than a task for each."""

    @abstractmethod
    async def _answer_query(self, query: Query) -> bytes | None:
        """Answer a DNS query that arrived on the TUN interface; None for no answer."""

    @abstractmethod
    def status(self) -> Status:
        """Return the state of the process."""

    async def _why(self, question: Question) -> Why | Refused:
        """Tell what becomes of a connection from this host; only a client knows."""
        return Refused(f"only a client knows what becomes of a connection to {question.host[:255]!r}")

    @abstractmethod
    async def _serve(self, wanted: Configure) -> None:
        """Start or move what depends on the addresses of the TUN interface, which are set by now."""

    @abstractmethod
    def _bequeath(self) -> msgspec.Struct:
        """Have the machine end its part for a process that takes over; return what that begins with."""

    def _want_dns(self, wanted: Configure) -> None:
        """The host's DNS is configured already, by the process before this one."""

    @abstractmethod
    def _handle_network_change(self) -> None:
        """The host reaches the portal or the Internet by another path than before."""

    @abstractmethod
    def _handle_clock_step(self, clock: ClockOffset) -> None:
        """The wall clock was set: grants end at other times of the engine's clock."""

    async def _read_host(self) -> None:
        """Tell the machine what it should know about the host; called at the start and after each change."""

    def _beside(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """Return what else is to run until the process ends."""
        return ()

    async def _wind_down(self) -> None:
        """Do what is still to be done when the process is told to stop, while everything goes on; a second signal ends
        it.
        """

    async def _close(self) -> None:
        """Close what the subclass has opened."""

    def _shown(self, part: str, interface: str) -> Status:
        """Return what client and gateway have in common."""
        return Status(
            part=part,
            version=wardgate.__version__,
            interface=interface,
            portal=self._portal_url,
            is_connected=self._machine.is_joined,
            is_ready=self.is_ready,
            addresses=self._addresses,
            connections=self._measured(self._machine.shown_connections()),
            relays=self._machine.shown_relays(),
            host=tuple(HostSetting(one.name, one.repairs, one.refusal) for one in self.host.conditions),
            counts=self.counts(),
            notes=self.notes(),
        )

    def _measured(self, connections: tuple[ConnectionView, ...]) -> tuple[ConnectionView, ...]:
        """Add what the engine knows; while it hangs it is not asked."""
        asked = [one.peer_id for one in connections] if self._thread.is_responsive else []
        figures = {one.peer_id: one for one in self._engine.figures(asked)}
        now = self._engine.clock()
        return tuple(
            msgspec.structs.replace(
                one,
                connected_s=None if since is None else round(now - since, 1),
                figures=figures.get(one.peer_id),
            )
            for one in connections
            for since in (self._established_at.get(one.peer_id),)
        )

    async def _answer_question(self, question: Question) -> Status | Why | Refused:
        match question.ask:
            case "status":
                return self.status()
            case "why":
                return await self._why(question)
            case _:
                return Refused(f"there is no such question: {question.ask[:40]!r}")

    # ── running ─────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self, *, until_configured: bool = False) -> None:
        """Serve until SIGTERM or SIGINT, then say goodbye. `until_configured`: only until the tunnel is up.

        Also end when a process that SIGUSR2 has started is ready to take over: the host is left to it as it is.

        Raises:
            PortalRefused, PortalUnreachable, SessionEnded: the portal is gone for good.
            HostRefused, OSError: the host refuses a setting.
            EngineStopped: the engine's thread has ended, as when the TUN device was deleted, or hangs.
        """
        self._engine.on_readable(self._pump)
        self._spool.start()
        try:
            async with contextlib.AsyncExitStack() as stack:
                changes = stack.enter_context(HostChanges())
                await stack.enter_async_context(control_socket(self._control_socket, self._answer_question))
                await self._set_up_host()
                await run_until_first_ends(
                    self._portal.run(),
                    self._configure_host(),
                    self._watch_host(changes),
                    follow_news(self._engine),
                    self._thread.run(),
                    watch_clocks(self._handle_clock_news),
                    self._uploader.run(),
                    stop_signal(self._wind_down),
                    self._await_successor(),
                    keep_watchdog(lambda: self._thread.is_responsive),
                    *self._beside(),
                    *([self._wait_until_up()] if until_configured else []),
                )
        finally:
            if self._successor is None:
                notify(STOPPING)
            with contextlib.suppress(EngineStopped):
                if self._successor is None:
                    self._machine.handle_shutdown()
                else:
                    self._bequest = self._last_will()
                self._pump()  # the ends of all flows
            await asyncio.to_thread(self._spool.close)
            await self._upload.close()
            await self._tasks.close()
            # DNS is served until the host's settings are undone: programs would ask a resolver that is gone.
            if self._bequest is None:
                await self.host.undo()
            await self._listener.close()
            await self._close()

    async def _await_successor(self) -> None:
        self._successor = await successor()

    def _last_will(self) -> tuple[Legacy, int]:
        wanted = self._configured
        return (
            Legacy(
                host=self.host.bequeath(),
                configured=Raw(msgspec.json.encode(None if wanted is None else _Configured.of(wanted))),
                machine=Raw(msgspec.json.encode(self._bequeath())),
            ),
            self._engine.share_tun(),
        )

    def hand_over(self) -> None:
        """Let the successor begin, if there is one; the last that this process does, when all else is closed."""
        if self._successor is not None and self._bequest is not None:
            self._successor.hand_over(*self._bequest)

    def _inherit(self, legacy: Legacy) -> None:
        """Want what is there: time matters, and the host is looked at with the first `Configure`."""
        self.host.inherit(legacy.host)
        try:
            configured = msgspec.json.decode(legacy.configured, type=_Configured | None)
            self._machine.inherit(legacy.machine, now=self._engine.clock())
            wanted = None if configured is None else configured.read()
        except (ValueError, msgspec.DecodeError) as error:
            log.warning("what the process before left was not understood", extra={"reason": str(error)})
            return
        if wanted is not None:
            self._tun.want(wanted.tun)
            self._want_dns(wanted)
        log.info("this process goes on for another")

    async def _set_up_host(self) -> None:
        if self._legacy is None:
            await self.host.establish()  # also undoes what a run that crashed has left
        else:
            self._inherit(self._legacy)
        await self._read_host()

    async def _configure_host(self) -> None:
        while True:
            wanted = self._configured = await self._next_wanted()
            self._tun.want(wanted.tun)
            self._addresses = (wanted.tun.ipv4, wanted.tun.ipv6)
            await self.host.establish()
            await self._serve(wanted)
            if not self._is_up.is_set():
                self._is_up.set()
                notify(READY)
                log.info("tunnel interface is up")

    async def _next_wanted(self) -> Configure:
        """What is to be set next; one that only takes routes away waits `LEAVE_S` for what may give them back."""
        wanted, former = await self._wanted.get(), self._configured
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                while former is not None and wanted.tun.routes < former.tun.routes:
                    wanted = await self._wanted.get()
        return wanted

    async def _wait_until_up(self) -> None:
        await self._is_up.wait()

    async def _watch_host(self, changes: HostChanges) -> None:
        await self._path.has_moved()  # the first call takes the baseline
        while True:
            await changes.next()
            await self.host.check()
            await self._read_host()
            if await self._path.has_moved():
                self._handle_network_change()

    def _handle_clock_news(self, news: ClockNews) -> None:
        if news.stepped_s:
            log.warning(
                "the wall clock was set; expiries are recalculated", extra={"by_s": round(news.stepped_s)}
            )
            self._handle_clock_step(clock_offset(self._engine))
        self._portal.handle_clock_news(news)
        self._pump()

    # ── the portal ──────────────────────────────────────────────────────────────────────────────────────────

    def _handle_joined(self) -> None:
        self._take_engine_events()
        self._machine.handle_joined()
        self._carry_out()

    def _handle_received(self, message: Message) -> None:
        self._take_engine_events()
        self._handle_message(message)
        self._carry_out()

    def _handle_portal_lost(self) -> None:
        self._take_engine_events()
        self._machine.handle_portal_lost()
        self._carry_out()

    # ── the engine and the machine ──────────────────────────────────────────────────────────────────────────

    def _pump(self) -> None:
        self._take_engine_events()
        self._carry_out()

    def _take_engine_events(self) -> None:
        # Comes first: a message may concern a peer whose end is already queued here.
        for event in self._engine.drain_events():
            if isinstance(event, HandshakeDone):
                self._established_at[event.peer_id] = self._engine.clock()
                if self.record_span is not None:
                    self.record_span("connect", event.took_s, {"wardgate.peer_id": event.peer_id}, {})
            elif isinstance(event, PeerFailed | PeerClosed):
                self._established_at.pop(event.peer_id, None)
            self._handle_event(event)

    def _carry_out(self) -> None:
        while (action := self._machine.poll_action()) is not None:
            if isinstance(action, Send):
                self._portal.send(action.message)
            elif isinstance(action, Configure):
                self._wanted.put_nowait(action)
            elif isinstance(action, UploadFlows):
                self._uploader.set(action)
            elif isinstance(action, KeepToken | KeepFlows):
                self._spool.put(action)
            else:
                self._perform(action)


class _Configured(msgspec.Struct, frozen=True):
    """As `Configure`, for another process to read."""

    tun: ConfigurationText
    search_domain: str | None = None

    @classmethod
    def of(cls, wanted: Configure) -> "_Configured":
        return cls(ConfigurationText.of(wanted.tun), wanted.search_domain)

    def read(self) -> Configure:
        """Raises ValueError."""
        return Configure(self.tun.read(), self.search_domain)


def clock_offset(engine: HostedEngine) -> ClockOffset:
    """How the wall clock stands to the engine's now."""
    return ClockOffset(unix_at_zero=time.time() - engine.clock())
