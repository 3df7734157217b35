"""The ASGI endpoint of the control channels: upgrade checks, then a pump between one socket and one session.

The pump is three things: the task of the request reads frames, a callback of the loop writes what has come up since the
last one, and a timer calls `handle_timeout`. Where the network does not take everything at once, or the connection
ends, a second task writes. The session decides everything; nothing here looks into a frame.

A request for access is waited for, so it does not wait for turns of the loop in which everybody else works: a frame
for which the reader is waiting is handled where it arrives, without waking the reader, and what a session calls urgent
is written where it comes up.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl, urlsplit

from wardgate.model.ids import ActorId
from wardgate.portal.bus import Address
from wardgate.portal.channels.client_devices import ClientDevices
from wardgate.portal.channels.client_session import ClientSession
from wardgate.portal.channels.connect_records import Connect
from wardgate.portal.channels.connecting import (
    Connected,
    ConnectedClient,
    ConnectedGateway,
    ConnectedRelay,
    Refused,
    connect_client,
    connect_gateway,
    connect_relay,
    has_foreign_key,
    invalid_token,
    latest_session,
)
from wardgate.portal.channels.early import Early
from wardgate.portal.channels.gateway_session import GatewaySession
from wardgate.portal.channels.journal import GrantListener, Journal
from wardgate.portal.channels.known_clients import KnownClients
from wardgate.portal.channels.precedence import Precedence
from wardgate.portal.channels.recording import Recorder, Recording
from wardgate.portal.channels.relay_session import RelaySession
from wardgate.portal.channels.session import CloseCode, Session
from wardgate.portal.channels.turns import Full, Turns
from wardgate.portal.http.asgi import Receive, Scope, Send
from wardgate.portal.http.headers import headers_of
from wardgate.portal.http.origin import Origin, origin_of
from wardgate.portal.http.rate_limit import Pace, TokenBuckets, retry_after
from wardgate.portal.http.traced_request import NO_CONTEXT, context_of
from wardgate.portal.services import Services
from wardgate.portal.snapshot.accounts import AccountView
from wardgate.portal.snapshot.audience import Interest
from wardgate.portal.store import INSTALLATION, UNAVAILABLE
from wardgate.wire.dialect import Dialect, PeerKind
from wardgate.wire.frames import Framing
from wardgate.wire.tokens import InvalidToken, Token, TokenKind, parse_token
from wardgate.wire.upgrade import PROBLEM_JSON, bearer_token, channel_of, problem_document

log = logging.getLogger(__name__)

TRANSPORT_EXTENSION: Final = "wardgate.transport"
"""ASGI scope extension of our server: a `Transport`."""

PROGRESS_CHECK_S: Final = 5.0
"""How often the progress of a frame that is being sent is checked."""

FLUSH_S: Final = 2.0
"""How long a closing session's last frames may take."""

DATABASE_RETRY_S: Final = 5

CONFLICT_RETRY_S: Final = 5
"""A gateway that crashed without closing its socket is refused until its old one idles out (37 s)."""


CONNECTS_AT_ONCE: Final = 2000.0
CONNECTS_PER_S: Final = 1000.0
"""More than one core lets in, so that 15,000 peers are back within 30 s: what it can do beside its other work is found
out by the queue, and who is told to come back comes at the pace at which the queue moves.
"""

LONGEST_RETRY_S: Final = 60.0

MOST_UNDER_WAY: Final = 16
"""Upgrades that are looked at beside each other; one after the other would leave the core idle while the database or
the disk is waited for, and with more of them all would take longer.
"""

EXPECTED_PER_S: Final = 500.0
"""How many upgrades a core takes in in a second, until it is known."""

MOST_WAITING: Final = 4096
MOST_WAITING_OF_ONE: Final = 2048
"""Upgrades that wait for that, and those of one token from one address, half of all: at most what a fast host takes in
in `PATIENCE_S`; a slow one lets fewer wait as soon as it knows its pace. To tell one to come back costs half of what it
costs to let it in.
"""

PATIENCE_S: Final = 8.0
"""How long an upgrade waits. Peers give up after 15 s (protocol §1.10), and what was done for those who have gone would
be done again.
"""

MOST_UNRECORDED: Final = 1000
"""Connects that wait to be recorded before nobody else is let in: what a slow disk takes in a few seconds. A session
whose connect is not recorded within `RECORD_S` ends, and its peer would come once more.
"""

WRITTEN_AT_ONCE: Final = 16 * 1024
"""Characters of frames that leave by one system call; more wait until everybody else had a turn."""

DRAINED_AT_ONCE: Final = 500
DRAIN_PAUSE_S: Final = 0.1
"""15,000 channels are closed in 3 s, and everybody else has a turn meanwhile."""


_TOKENS: Final = {
    PeerKind.CLIENT: TokenKind.CLIENT,
    PeerKind.GATEWAY: TokenKind.GATEWAY,
    PeerKind.RELAY: TokenKind.RELAY,
}


class _Abandoned(Exception):
    """The peer has closed its socket before it was answered."""


class Transport(Protocol):
    """What a server offers for a socket beyond ASGI."""

    def is_gone(self) -> bool:
        """Tell whether the peer has closed the socket."""

    def unsent_bytes(self) -> int:
        """Return how many of the sent bytes still wait in this process."""

    def has_unread(self) -> bool:
        """Tell whether a message of the peer waits to be received."""

    def hand_over(self, take: Callable[[str], bool]) -> None:
        """From now on, offer a text frame to `take` first while `receive` waits for one, and at most one in a turn of
        the loop; it is received as usual if `take` returns false, and as `take` then was not called.
        """

    def is_writable(self) -> bool:
        """Tell whether the socket is open and takes more at once."""

    def write(self, texts: Sequence[str]) -> None:
        """Send text frames together, when `is_writable`."""

    def fail(self, code: int) -> None:
        """End a socket whose peer does not read."""


class ChannelEndpoint:
    """Serves WebSocket scopes of the five paths; `journal` writes what sessions decide, and gives way to peers that
    ask, of which `precedence` is told.

    Attributes:
        recorder: writes down what is said; None: nobody does.
    """

    def __init__(self, services: Services, journal: Journal, precedence: Precedence) -> None:
        self._services = services
        self._precedence = precedence
        self._journal = journal
        self._connects = TokenBuckets(
            capacity=services.settings.connect_capacity, refill_per_s=services.settings.connect_refill_per_s
        )
        self._pace = Pace(at_once=CONNECTS_AT_ONCE, per_s=CONNECTS_PER_S, longest_s=LONGEST_RETRY_S)
        self._is_draining = False
        self._turns = Turns(
            at_once=MOST_UNDER_WAY,
            most_waiting=MOST_WAITING,
            most_of_one=MOST_WAITING_OF_ONE,
            patience_s=PATIENCE_S,
            expected_per_s=EXPECTED_PER_S,
            monotonic=services.environment.clock.monotonic,
        )
        self._known_clients = KnownClients(services.store, self._count_failure)
        self._client_devices = ClientDevices(services.store, services.environment.clock)
        self._pumps: set[_Pump] = set()
        self.recorder: Recorder | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        framing = Framing.negotiate(query.get("vsn"))
        key = channel_of(scope["path"])
        try:
            if key is None:
                raise Refused(HTTPStatus.NOT_FOUND, "not_found", "No such control channel")
            headers = headers_of(scope)
            if framing is None or not self._is_at_home(headers):
                raise Refused(HTTPStatus.FORBIDDEN, None, "")
            _require_present(scope)
            self._require_open()
            token = self._genuine(key[0], query, headers)
            self._precedence.note()  # who shows no good token holds up nothing
            connected, early = await self._connect_in_turn(key[0], token, query, origin_of(scope), scope)
        except _Abandoned:
            # A crowd at a slow host: it waited too long, and tries again by another socket.
            self._services.counters["connects_abandoned"] += 1
            return
        except Refused as refused:
            await _refuse(scope, send, refused)
            return
        except UNAVAILABLE:
            # The store has said so in the log, once a minute.
            unavailable = Refused(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "database_unavailable",
                "The database does not answer",
                retry_after_s=DATABASE_RETRY_S,
            )
            await _refuse(scope, send, unavailable)
            return
        except Exception:
            # A bug of ours must not look like a dead token: 500 makes the peer try again (protocol §1.5).
            log.exception("an upgrade failed")
            failure = Refused(
                HTTPStatus.INTERNAL_SERVER_ERROR, "unhandled_connect_error", "Internal error", retry_after_s=1
            )
            await _refuse(scope, send, failure)
            return
        await self._serve(Dialect(*key), framing, connected, early, receive, send, scope)

    async def rehearse(self) -> None:
        """Do for nobody what the first client would have to wait for: it takes as long as twenty connects."""
        with contextlib.suppress(*UNAVAILABLE):  # each client will be told
            await self._known_clients.rehearse()
            async with self._services.accounts.using(INSTALLATION):
                """Its statements are those of every account."""

    async def drain(self) -> None:
        """Close every channel with 1012, a batch at a time, and let nobody in any more (protocol §1.9, point 10).

        Peers connect anew as they are closed, so they come to the next process a batch at a time too.
        """
        self._is_draining = True
        left = list(self._pumps)
        while left:
            batch, left = left[:DRAINED_AT_ONCE], left[DRAINED_AT_ONCE:]
            for pump in batch:
                pump.drain()
            await self._services.environment.clock.sleep(DRAIN_PAUSE_S)

    async def refuse_unknown(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an upgrade that came to a host where there are no channels."""
        await receive()  # websocket.connect
        await _refuse(scope, send, Refused(HTTPStatus.NOT_FOUND, "not_found", "No such control channel"))

    def counts(self) -> dict[str, int]:
        """Return how many sockets are open, by kind of peer."""
        counts = {kind.value: 0 for kind in PeerKind}
        for pump in self._pumps:
            counts[pump.kind] += 1
        return counts

    def _is_at_home(self, headers: Mapping[str, str]) -> bool:
        """Tell whether a page of this portal asks, or no page at all: peers send no `Origin` (protocol §1.1)."""
        if "origin" not in headers:
            return True
        host = _host_of(headers["origin"])
        settings = self._services.settings
        return host is not None and host in {
            _host_of(f"//{headers.get('host', '')}"),
            _host_of(settings.external_url),
        }

    def _genuine(self, kind: PeerKind, query: Mapping[str, str], headers: Mapping[str, str]) -> Token:
        """Return the token. Whoever shows none that this portal has made never waits for a turn.

        Raises:
            Refused: there is none, or it was made by nobody here.
        """
        text = bearer_token(headers, query)
        if text is None:
            raise Refused(HTTPStatus.UNAUTHORIZED, "missing_token", "Missing token")
        try:
            return parse_token(text, expected=_TOKENS[kind], key=self._services.keys.tokens)
        except InvalidToken:
            raise invalid_token() from None

    async def _connect_in_turn(
        self, kind: PeerKind, token: Token, query: Mapping[str, str], origin: Origin, scope: Scope
    ) -> tuple[Connected, Early]:
        """Spread the peers that come back together, as after a restart; return who connected, and what listens for it
        since before it was looked for.
        """
        now = self._services.environment.clock.monotonic
        key = (origin.remote_ip, token.token_id)
        if self._connects.take(key, now=now()) > 0:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "rate_limit", "Too many connects", retry_after_s=1)
        try:
            async with self._turns.turn(key):
                if self._journal.connects_waiting >= MOST_UNRECORDED:
                    raise Full
                self._require_open()
                _require_present(scope)
                view = None if token.account_id is None else self._services.accounts.loaded(token.account_id)
                early = Early(self._journal, view)
                try:
                    connected = await self._connect(kind, token, query, origin, early)
                    # Only now: whoever has no good token takes nobody's place.
                    if (wait_s := self._pace.take(now=now())) > 0:
                        raise self._later(wait_s)
                except BaseException:
                    early.end()
                    raise
        except Full:
            raise self._later(self._pace.call_back(now=now(), per_s=self._turns.per_s)) from None
        return connected, early

    def _require_open(self) -> None:
        if self._is_draining:
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE, "draining", "The portal is stopping", retry_after_s=1
            )

    def _later(self, wait_s: float) -> Refused:
        self._services.counters["connects_paced"] += 1
        return Refused(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "rate_limit",
            "Too many connects at once",
            retry_after_s=retry_after(wait_s),
        )

    async def _connect(
        self, kind: PeerKind, token: Token, query: Mapping[str, str], origin: Origin, early: Early
    ) -> Connected:
        match kind:
            case PeerKind.CLIENT:
                client = await connect_client(
                    self._known_clients,
                    self._client_devices,
                    token,
                    query,
                    origin,
                    early,
                    is_one_of_many=self._turns.is_crowded,
                )
                self._require_own_key(client, Address("client", client.device.id))
                return client
            case PeerKind.GATEWAY:
                connected = await connect_gateway(self._services, token, query, origin)
                if self._services.environment.bus.find(Address("gateway", connected.device.id)) is not None:
                    raise Refused(
                        HTTPStatus.CONFLICT,
                        "gateway_already_connected",
                        "This gateway is connected already",
                        retry_after_s=CONFLICT_RETRY_S,
                    )
                self._require_own_key(connected, Address("gateway", connected.device.id))
                return connected
            case PeerKind.RELAY:
                return await connect_relay(self._services, token, query, origin)

    def _require_own_key(self, connected: ConnectedClient | ConnectedGateway, address: Address) -> None:
        bus = self._services.environment.bus
        if has_foreign_key(bus, connected.account.id, address, connected.public_key):
            self._services.counters["public_keys_in_use"] += 1
            raise Refused(
                HTTPStatus.CONFLICT,
                "public_key_in_use",
                "Another device is connected with this public key",
                retry_after_s=CONFLICT_RETRY_S,
            )

    async def _serve(
        self,
        dialect: Dialect,
        framing: Framing,
        connected: Connected,
        early: Early,
        receive: Receive,
        send: Send,
        scope: Scope,
    ) -> None:
        account_id = INSTALLATION if isinstance(connected, ConnectedRelay) else connected.account.id
        async with contextlib.AsyncExitStack() as stack:
            try:
                view = await stack.enter_async_context(self._services.accounts.using(account_id))
                if not early.has_heard_all(view) or connected.held is None:
                    early.end()
                    early = Early(self._journal, view)
                    connected = await self._read_again(connected, early)
                session = self._make_session(dialect, framing, connected, view, self._trace_of(scope))
            except Refused as refused:
                await _refuse(scope, send, refused)
                return
            finally:
                early.end()
            view.attach(session, _interest_of(connected))
            unfollow = self._follow_grants(connected, session.handle_message)
            early.replay(session)
            del early
            if not isinstance(connected, ConnectedRelay):
                self._record(connected, session)
            recording = self._begin_recording(dialect, scope)
            pump = _Pump(
                session,
                dialect.kind.value,
                self._services,
                scope,
                receive,
                send,
                recording,
                self._precedence.note,
            )
            self._pumps.add(pump)
            try:
                await pump.run()
            finally:
                view.detach(session)
                unfollow()
                session.handle_disconnect()
                self._pumps.discard(pump)

    def _count_failure(self) -> None:
        self._services.counters["background_failures"] += 1

    def _trace_of(self, scope: Scope) -> Mapping[str, str]:
        """Return the trace that the upgrade belongs to, and what is decided on its channel."""
        return NO_CONTEXT if self._services.spans.record is None else context_of(scope)

    def _begin_recording(self, dialect: Dialect, scope: Scope) -> Recording | None:
        if self.recorder is None:
            return None
        query = scope["query_string"].decode("latin-1")
        return self.recorder.begin(dialect, scope["path"], query, headers_of(scope))

    def _follow_grants(self, connected: Connected, listener: GrantListener) -> Callable[[], None]:
        """Subscribe to grants to this peer that are not stored yet. A relay is granted nothing."""
        if isinstance(connected, ConnectedRelay):
            return _nothing
        return self._journal.follow(connected.device.id, listener)

    def _make_session(
        self,
        dialect: Dialect,
        framing: Framing,
        connected: Connected,
        view: AccountView,
        trace: Mapping[str, str],
    ) -> Session:
        """Make the session from what was read; later changes reach it as they happen."""
        services = self._services
        match connected:
            case ConnectedClient():
                connected = connected._replace(account=view.shared(connected.account))
                return ClientSession(
                    dialect,
                    framing,
                    services=services,
                    journal=self._journal,
                    connected=connected,
                    view=view,
                    trace=trace,
                )
            case ConnectedGateway():
                return GatewaySession(dialect, framing, services=services, connected=connected, view=view)
            case ConnectedRelay():
                return RelaySession(dialect, framing, services=services, connected=connected)

    async def _read_again(self, connected: Connected, early: Early) -> Connected:
        """Return a peer as it is stored now (a client may have been unverified since it was found), with its grants.

        Raises:
            Refused: the token or device has been deleted since it was found.
        """
        if isinstance(connected, ConnectedRelay):
            return connected
        early.follow(connected.device.id)
        async with self._services.store.reading() as transaction:
            tables = transaction.of(connected.account.id)
            device = await tables.devices.load(connected.device.id)
            grants = tables.authorizations
            if isinstance(connected, ConnectedClient):
                client_token = await tables.client_tokens.load(connected.token.id)
                if client_token is None:
                    raise invalid_token()
                if device is None:
                    raise _device_gone()
                held = await grants.load_held([device.id])
                return connected._replace(token=client_token, device=device, held=held[device.id])
            gateway_token = await tables.gateway_tokens.load(connected.token.id)
            if gateway_token is None:
                raise invalid_token()
            if device is None:
                raise _device_gone()
            to_it = await grants.load_all(
                grants.c.receiving_device_id == device.id, grants.c.expires_at > transaction.now
            )
            return connected._replace(token=gateway_token, device=device, held=to_it)

    def _record(self, connected: ConnectedClient | ConnectedGateway, session: Session) -> None:
        name = "client_token_id" if isinstance(connected, ConnectedClient) else "gateway_token_id"
        columns = {
            **latest_session(connected.origin),
            name: connected.token.id,
            "public_key": connected.public_key,
            "last_seen_at": self._services.environment.clock.now(),
        }
        session.expect_record()
        self._journal.write_connect(
            Connect(connected.device, connected.token.id, columns, _subject(connected), session.handle_record)
        )


def _subject(connected: ConnectedClient | ConnectedGateway) -> dict[str, Any]:
    """Return who connected, for the session log (portal-domain §10.3); a gateway has no actor."""
    origin = connected.origin
    subject = {
        "token_id": str(connected.token.id),
        "ip": str(origin.remote_ip),
        "ip_region": origin.region,
        "ip_city": origin.city,
        "ip_lat": None if origin.position is None else origin.position.lat,
        "ip_lon": None if origin.position is None else origin.position.lon,
        "user_agent": origin.user_agent[:255],
    }
    if isinstance(connected, ConnectedGateway):
        return {"gateway_id": str(connected.device.id), **subject}
    actor, provider_id = connected.actor, connected.token.auth_provider_id
    return {
        "actor_id": str(actor.id),
        "actor_name": actor.name,
        "actor_email": actor.email,
        "actor_type": actor.type,
        "auth_provider_id": None if provider_id is None else str(provider_id),
        "device_id": str(connected.device.id),
        **subject,
    }


def _interest_of(connected: Connected) -> Interest | None:
    """Return whose changes concern a connection; a relay, of which there are few, receives all."""
    match connected:
        case ConnectedClient():
            actor_id = ActorId(connected.actor.id)
            return Interest.in_(connected.device.id, connected.token.id, actor_id, actor_id=actor_id)
        case ConnectedGateway():
            return Interest.in_(connected.device.id, connected.token.id)
        case ConnectedRelay():
            return None


class _Pump:
    """Moves frames between one socket and one session until either ends."""

    def __init__(
        self,
        session: Session,
        kind: str,
        services: Services,
        scope: Scope,
        receive: Receive,
        send: Send,
        recording: Recording | None,
        note_frame: Callable[[], None],
    ) -> None:
        self.kind = kind
        self._note_frame = note_frame
        self._recording = recording
        self._session = session
        self._clock = services.environment.clock
        self._counters = services.counters
        self._metrics = services.metrics
        self._is_end_counted = False
        self._transport = _transport_of(scope)
        self._receive = receive
        self._send = send
        self._reader: asyncio.Task[Any] | None = None
        self._writer: asyncio.Task[None] | None = None
        self._flushing: asyncio.Handle | None = None
        self._is_over = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._flush_timer: asyncio.TimerHandle | None = None
        self._progress_timer: asyncio.TimerHandle | None = None
        self._frames_sent = 0

    def drain(self) -> None:
        """End the session as the process ends."""
        self._session.handle_drain()

    async def run(self) -> None:
        self._reader = asyncio.current_task()
        await self._send({"type": "websocket.accept"})
        self._session.on_output = self._handle_output
        self._session.on_urgent_output = self._flush_at_once
        self._transport.hand_over(self._take)
        self._handle_output()
        try:
            with contextlib.suppress(OSError):  # a broken socket is no failure
                await self._read()
        except asyncio.CancelledError:
            if not self._is_over or self._reader is None or self._reader.uncancel() > 0:
                # Not by `_end`, or not by it alone.
                raise
        except Exception:
            log.exception("a control channel's pump failed")
            self._counters["channel_crashes"] += 1
        finally:
            self._is_over = True
            self._session.on_output = self._session.on_urgent_output = _deaf
            if self._recording is not None:
                self._recording.closed(None, by="peer")
            for timer in (self._flushing, self._timer, self._flush_timer, self._progress_timer):
                if timer is not None:
                    timer.cancel()
            if self._writer is not None:
                self._writer.cancel()
                await asyncio.wait((self._writer,))

    async def _read(self) -> None:
        while True:
            event = await self._receive()
            if event["type"] == "websocket.disconnect":
                code = event.get("code")
                if code == CloseCode.TOO_BIG and self._session.poll_close() is None:
                    self._counters["frames_too_big"] += 1
                self._count_end(code, by="peer")
                return
            text = event.get("text")
            if text is None:
                self._session.handle_binary()
                self._handled()
            else:
                # Of a frame that was handed over.
                delay_s = self._session.read_delay_s()
                if delay_s > 0:
                    await self._clock.sleep(delay_s)
                self._handle_frame(text)
            delay_s = self._session.read_delay_s()
            # Even without a delay: a burst of frames from one peer must not keep all others waiting.
            if delay_s > 0 or self._transport.has_unread():
                await self._clock.sleep(delay_s)

    def _take(self, text: str) -> bool:
        """Handle a frame for which the reader waits, unless the peer has to wait itself."""
        if self._is_over or self._session.read_delay_s() > 0:
            return False
        try:
            self._handle_frame(text)
        except Exception:
            log.exception("a control channel's pump failed")
            self._counters["channel_crashes"] += 1
            self._end()
        return True

    def _handle_frame(self, text: str) -> None:
        self._note_frame()
        if self._recording is not None:
            self._recording.received(text)
        self._session.handle_text(text)
        self._handled()

    def _handled(self) -> None:
        if self._flushing is None:
            self._arm()

    def _flush_at_once(self) -> None:
        """Write now what a callback would write in the next turn of the loop."""
        if self._flushing is not None:
            self._flushing.cancel()
        self._flush()

    def _flush(self) -> None:
        """Write what there is at once; what the network does not take now is left to a task, and so is the end."""
        self._flushing = None
        if self._is_over or self._writer is not None:
            return
        try:
            self._write_at_once()
        except Exception:
            log.exception("a control channel's pump failed")
            self._counters["channel_crashes"] += 1
            self._end()
        self._arm()

    def _write_at_once(self) -> None:
        texts: list[str] = []
        room = WRITTEN_AT_ONCE
        if self._transport.is_writable():
            while room > 0 and (text := self._session.poll_transmit()) is not None:
                texts.append(text)
                room -= len(text)
                self._session.handle_transmitted()
                if self._recording is not None:
                    self._recording.sent(text)
            if texts:
                self._transport.write(texts)
                self._frames_sent += len(texts)
        if self._session.poll_close() is not None or not self._transport.is_writable():
            self._writer = asyncio.create_task(self._write())
        elif room <= 0:
            self._flushing = asyncio.get_running_loop().call_soon(self._flush)

    async def _write(self) -> None:
        """Write what there is; the task ends with it, and with the session."""
        try:
            while (text := self._session.poll_transmit()) is not None:
                self._watch_progress()
                if self._recording is not None:
                    self._recording.sent(text)
                await self._send({"type": "websocket.send", "text": text})
                self._session.handle_transmitted()
                self._frames_sent += 1
            code = self._session.poll_close()
            if code is not None:
                self._count_end(code, by="portal")
                await self._send({"type": "websocket.close", "code": int(code)})
                self._end()
        except OSError:
            self._end()
        except Exception:
            log.exception("a control channel's pump failed")
            self._counters["channel_crashes"] += 1
            self._end()
        finally:
            self._writer = None

    def _end(self) -> None:
        """End the reader, and with it the connection."""
        if not self._is_over and self._reader is not None:
            self._is_over = True
            self._reader.cancel()

    def _watch_progress(self) -> None:
        """Check again later: a frame behind a large one may wait long although the peer is reading."""
        if self._progress_timer is None:
            self._progress_timer = asyncio.get_running_loop().call_later(
                PROGRESS_CHECK_S, self._check_progress, self._frames_sent, self._transport.unsent_bytes()
            )

    def _check_progress(self, frames_sent_before: int, unsent_bytes_before: int) -> None:
        self._progress_timer = None
        if self._session.is_sending:
            if (
                self._frames_sent == frames_sent_before
                and self._transport.unsent_bytes() < unsent_bytes_before
            ):
                self._session.handle_progress()
            self._watch_progress()

    def _handle_output(self) -> None:
        if self._writer is None and self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_soon(self._flush)
        if self._session.poll_close() is not None and self._flush_timer is None:
            self._flush_timer = asyncio.get_running_loop().call_later(FLUSH_S, self._give_up)

    def _give_up(self) -> None:
        """The peer does not read the last frames: end without it."""
        code = self._session.poll_close() or CloseCode.NORMAL
        self._count_end(code, by="portal")
        self._transport.fail(int(code))
        self._end()

    def _count_end(self, code: int | None, *, by: str) -> None:
        """Count a socket's end once. Application codes that a peer may send (RFC 6455 §7.4.2) share one
        label.
        """
        if not self._is_end_counted:
            self._is_end_counted = True
            if self._recording is not None:
                self._recording.closed(code, by=by)
            known = 1005 if code is None else int(code)
            label = str(known) if 1000 <= known < 1016 else "other"
            self._metrics.channels_closed.labels(self.kind, label, by).inc()

    def _arm(self) -> None:
        """Set the timer to the session's next deadline, unless an earlier timer is set, which will check
        again.
        """
        due_at = self._session.poll_timeout()
        if due_at is None or (self._timer_at is not None and self._timer_at <= due_at):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due_at
        delay_s = max(0.0, due_at - self._clock.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._handle_timer)

    def _handle_timer(self) -> None:
        self._timer = self._timer_at = None
        due_at = self._session.poll_timeout()
        if due_at is not None and due_at <= self._clock.monotonic():
            self._session.handle_timeout()
        self._arm()


def _transport_of(scope: Scope) -> Transport:
    transport: Transport | None = scope.get("extensions", {}).get(TRANSPORT_EXTENSION)
    return transport or _NoTransport()


class _NoTransport:
    """For a transport without buffers of its own, as in tests."""

    def is_gone(self) -> bool:
        return False

    def unsent_bytes(self) -> int:
        return 0

    def has_unread(self) -> bool:
        return True

    def hand_over(self, take: Callable[[str], bool]) -> None: ...

    def is_writable(self) -> bool:
        return False

    def write(self, texts: Sequence[str]) -> None: ...

    def fail(self, code: int) -> None: ...


def _require_present(scope: Scope) -> None:
    if _transport_of(scope).is_gone():
        raise _Abandoned


def _host_of(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _device_gone() -> Refused:
    """500: the peer connects again, and its device is created again."""
    return Refused(
        HTTPStatus.INTERNAL_SERVER_ERROR, "unhandled_connect_error", "The device is gone", retry_after_s=1
    )


def _nothing() -> None:
    """Nothing to unsubscribe."""


def _deaf() -> None:
    """The pump has ended; nobody needs to know of output any more."""


async def _refuse(scope: Scope, send: Send, refused: Refused) -> None:
    """Answer the upgrade with a problem document; without the ASGI extension for that, with a bare 403."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": int(CloseCode.NORMAL)})
        return
    headers = [(b"content-type", PROBLEM_JSON.encode())] if refused.code is not None else []
    if refused.retry_after_s is not None:
        headers.append((b"retry-after", str(refused.retry_after_s).encode()))
    body = b"" if refused.code is None else problem_document(refused.status, refused.code, refused.detail)
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "websocket.http.response.start", "status": int(refused.status), "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
