"""What `gateway`, `client` and `relay` have in common: token, portal URL, link, health address, and how they
fail."""

import asyncio
import contextlib
import logging
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import wardgate
from wardgate.cli import logs
from wardgate.cli.errors import UserError
from wardgate.cli.parameters import Parameter, Setting
from wardgate.cli.settings import Settings
from wardgate.connect.portal_session import PortalSession, SessionEnded
from wardgate.datapath.engine_news import EngineStopped
from wardgate.model.addresses import IpAddress
from wardgate.net import otlp
from wardgate.net.device_id import device_id, operating_system
from wardgate.net.errors import HostRefused
from wardgate.net.exposition import exposition
from wardgate.net.portal_link import (
    SAME_DEVICE,
    Decisions,
    Dial,
    PortalLink,
    PortalRefused,
    PortalUnreachable,
)
from wardgate.wire.control_channel import ChannelEvent, LostReason
from wardgate.wire.device_identity import derived_device_id, external_id, random_device_id
from wardgate.wire.dialect import Dialect, PeerKind
from wardgate.wire.reconnect import Reconnect
from wardgate.wire.tokens import TokenKind, kind_of
from wardgate.wire.upgrade import ConnectParameters, build_upgrade_request, parse_refusal
from wardgate.wire.user_agent import build_user_agent

log = logging.getLogger(__name__)

_FOREIGN_TOKEN: Final = ".SFMyNTY."  # noqa: S105 - the published portal's form (control-plane-protocol §2.1)
_TOKEN_KINDS: Final = {
    PeerKind.CLIENT: TokenKind.CLIENT,
    PeerKind.GATEWAY: TokenKind.GATEWAY,
    PeerKind.RELAY: TokenKind.RELAY,
}


@dataclass(frozen=True, slots=True)
class PortalAccount:
    """Where the portal is and how a peer presents itself there."""

    kind: PeerKind
    url: str
    token: str
    budget_s: float | None

    def session(self, *, stamp_secret: str | None = None) -> PortalSession:
        reconnect = Reconnect(budget_s=self.budget_s, rng=random.SystemRandom())
        return PortalSession(Dialect(self.kind), reconnect=reconnect, stamp_secret=stamp_secret)

    def link(
        self,
        session: PortalSession,
        *,
        parameters: Callable[[], ConnectParameters],
        look_up: Callable[[str], Awaitable[Iterable[IpAddress]]],
        mark: int | None,
    ) -> Callable[[Callable[[ChannelEvent], None]], PortalLink[ChannelEvent]]:
        """Return what makes the link around a function that takes its events; `parameters` is asked per
        attempt."""
        system = operating_system()
        user_agent = build_user_agent(
            self.kind,
            os_name=system.name,
            os_version=system.version,
            product_version=wardgate.__version__,
            arch=system.arch,
            kernel=system.kernel,
        )

        def dial() -> Dial:
            request = build_upgrade_request(
                base_url=self.url, parameters=parameters(), token=self.token, user_agent=user_agent
            )
            return Dial(request.url, request.headers)

        def make(handle: Callable[[ChannelEvent], None]) -> PortalLink[ChannelEvent]:
            return PortalLink(
                Decisions(
                    dial=dial,
                    open_channel=session.open_channel,
                    look_up=look_up,
                    read_refusal=lambda status, headers, body: parse_refusal(
                        status, headers, body, now=datetime.now(UTC)
                    ),
                    next_delay_s=session.next_delay_s,
                    handle=handle,
                ),
                mark=mark,
            )

        return make


def portal_account(
    kind: PeerKind, *, url: str | None, token: str | None, budget_s: float | None
) -> PortalAccount:
    """Check that there are a URL and a token before anything is opened.

    Raises:
        UserError: either is missing, or the token cannot be right.
    """
    if url is None:
        raise UserError(
            "where is the portal? Give --api-url wss://portal.example.org or set WARDGATE_API_URL"
        )
    return PortalAccount(kind, url, checked_token(token, kind), budget_s)


def forget(token: Setting[str | None]) -> None:
    """Take the token out of this process's environment: what it starts has no business with it."""
    for variable in token.variables:
        os.environ.pop(variable, None)


def checked_token(token: str | None, kind: PeerKind) -> str:
    """Refuse what cannot be a token of this kind; only the portal knows whether it is valid.

    Raises:
        UserError: missing, malformed or of another kind.
    """
    cure = (
        f"make a {kind.value} token in the portal and set WARDGATE_TOKEN, or WARDGATE_TOKEN_FILE to a file"
        " with it"
    )
    if not token:
        raise UserError(f"a {kind.value} needs a token; {cure}")
    found = kind_of(token)
    if found is None and _FOREIGN_TOKEN not in token:
        raise UserError(f"the token is malformed (was it copied whole?); {cure}")
    if found is not None and found is not _TOKEN_KINDS[kind]:
        raise UserError(f"this is {found.noun}, a {kind.value} token is needed; {cure}")
    return token


def own_external_id(configured: str | None, *, stored_in: Any, derivation_key: bytes) -> str:
    """The identity that the portal knows this device by (control-plane-protocol §2.6)."""
    known = device_id(
        configured,
        stored_in=stored_in,
        derive=lambda machine_id: derived_device_id(machine_id, derivation_key),
        draw=lambda: random_device_id(uuid4()),
    )
    return external_id(known)


def warn_of_ignored_options(settings: Settings, options: Iterable[Parameter[Any]]) -> None:
    """Log which options of the published program were given and change nothing here."""
    for one in options:
        if settings[one]:
            log.warning("an option has no effect here", extra={"option": one.flag, "why": one.help})


def socket_of(part: str) -> Path:
    """Return the usual control socket of `client` or `gateway`; their units make its directory."""
    return Path(f"/run/wardgate-{part}/control.sock")


def metrics_of(kind: PeerKind, stats: Callable[[], dict[str, int]]) -> Callable[[], str | None]:
    """What `/metrics` of a peer says; nothing once its engine has stopped."""

    def metrics() -> str | None:
        with contextlib.suppress(RuntimeError):  # the extension module's word for a stopped thread
            return exposition(kind.value, stats())
        return None

    return metrics


@contextlib.asynccontextmanager
async def exported(
    part: str, environment: Mapping[str, str], metrics: Callable[[], str | None]
) -> AsyncIterator[otlp.Record | None]:
    """Push a peer's metrics to a collector, if one is set; yields what records spans.

    Raises:
        UserError: the `OTEL_*` variables ask for what cannot be done.
    """

    async def read() -> str | None:
        return metrics()

    try:
        async with otlp.exported(part, environment, read) as record:
            yield record
    except otlp.OtlpUnusable as error:
        raise UserError(str(error)) from error


def run_peer(part: PeerKind, process: Coroutine[Any, Any, None], *, has_identity: bool = False) -> None:
    """Say that it starts, run it to its end and turn what stopped it into one line for the user.

    Args:
        has_identity: the portal lets only one process of its device id in.
    """
    logs.say_start(part.value)
    try:
        asyncio.run(process)
    except HostRefused as error:
        raise UserError(str(error)) from error
    except EngineStopped as error:
        raise UserError(f"packets no longer pass: {error}; restart it, as a service manager would") from error
    except PortalRefused as error:
        raise UserError(
            f"the portal refused the token ({error.detail}); make a new one in the portal"
        ) from error
    except PortalUnreachable as error:
        raise UserError(
            f"cannot reach the portal: {error}; check --api-url and that the portal runs"
        ) from error
    except SessionEnded as error:
        cure = "make a new token in the portal"
        if has_identity and error.reason is LostReason.TOKEN_EXPIRED:
            # On the wire, the end of a token and a second process of one device are the same message (§1.11).
            cure += f"; or {SAME_DEVICE}"
        raise UserError(f"the portal ended the session: {error}; {cure}") from error
    except OSError as error:
        raise UserError(f"the operating system refused: {error.strerror or error}") from error
