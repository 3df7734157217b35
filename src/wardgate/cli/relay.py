"""`wardgate relay`: run a relay (STUN/TURN server)."""

import asyncio
import logging
import secrets
import socket
from ipaddress import ip_address
from typing import Final

import wardgate_native

import wardgate
from wardgate.cli import logs
from wardgate.cli.commands import relay as options
from wardgate.cli.errors import UserError
from wardgate.cli.peer import exported, forget, metrics_of, portal_account, run_peer, warn_of_ignored_options
from wardgate.cli.settings import Settings
from wardgate.cli.terminal import echo
from wardgate.model.addresses import IpAddress
from wardgate.net.descriptor_limit import raise_descriptor_limit
from wardgate.net.errors import HostRefused
from wardgate.net.health import health_listener
from wardgate.relay.process import RelayProcess
from wardgate.wire.dialect import PeerKind
from wardgate.wire.upgrade import RelayParameters

_OWN_DESCRIPTORS: Final = (
    256  # files and sockets that are no allocation's: listen ports, the portal, probes, logs
)

log = logging.getLogger(__name__)


def run(settings: Settings) -> None:
    """Run the relay until it is told to stop.

    Raises:
        UserError: it cannot start, or the portal does not let it in.
    """
    logs.set_up(settings[options.LOG_FORMAT], settings[options.LOG_LEVEL])
    warn_of_ignored_options(settings, options.WITHOUT_EFFECT)
    ipv4, ipv6 = settings[options.PUBLIC_IP4_ADDR], settings[options.PUBLIC_IP6_ADDR]
    if ipv4 is None and ipv6 is None:
        raise UserError(
            "at which address do peers reach this relay? Give --public-ip4-addr or --public-ip6-addr"
        )
    port = settings[options.LISTEN_PORT]
    first_port, last_port = settings[options.LOWEST_PORT], settings[options.HIGHEST_PORT]
    if first_port > last_port:
        raise UserError(f"the lowest of the ports, {first_port}, is above the highest, {last_port}")
    account = portal_account(
        PeerKind.RELAY,
        url=settings[options.API_URL],
        token=settings[options.TOKEN],
        budget_s=settings[options.MAX_PARTITION_TIME],
    )
    forget(options.TOKEN)
    health = settings[options.HEALTH_CHECK_ADDR]
    parameters = RelayParameters(ipv4=ipv4, ipv6=ipv6, port=port, name=settings[options.NAME])
    drain_s = settings[options.DRAIN]
    denies_private = settings[options.DENY_PRIVATE]
    if settings[options.CHECK]:
        echo("the settings are in order")
        return

    async def process() -> None:
        # Drawn at each start: peers see a restarted relay, whose allocations are gone, as another one.
        stamp_secret = secrets.token_hex(32)
        server = _open(
            stamp_secret,
            ipv4=None if ipv4 is None else str(ipv4),
            ipv6=None if ipv6 is None else str(ipv6),
            ports=(port, first_port, last_port),
            deny_private=denies_private,
            max_sockets=_sockets_for_allocations(
                ports=last_port - first_port + 1,
                families=sum(address is not None for address in (ipv4, ipv6)),
            ),
        )
        try:
            session = account.session(stamp_secret=stamp_secret)
            link = account.link(session, parameters=lambda: parameters, look_up=_look_up, mark=None)
            relay = RelayProcess(server=server, session=session, link=link, drain_s=drain_s)
            metrics = metrics_of(PeerKind.RELAY, relay.counts)
            async with (
                health_listener(
                    *health,
                    is_ready=lambda: relay.is_ready,
                    version=wardgate.__version__,
                    metrics=metrics,
                    notes=relay.notes,
                ),
                exported("relay", settings.environment, metrics),
            ):
                await relay.run()
        finally:
            server.close()

    run_peer(PeerKind.RELAY, process())


def _open(
    stamp_secret: str,
    *,
    ipv4: str | None,
    ipv6: str | None,
    ports: tuple[int, int, int],
    deny_private: bool,
    max_sockets: int,
) -> wardgate_native.RelayHost:
    port, first_port, last_port = ports
    try:
        return wardgate_native.RelayHost(
            stamp_secret=stamp_secret,
            ipv4=ipv4,
            ipv6=ipv6,
            port=port,
            first_port=first_port,
            last_port=last_port,
            deny_private=deny_private,
            max_sockets=max_sockets,
        )
    except OSError as error:
        raise HostRefused(
            f"cannot serve UDP port {port}: {error.strerror or error}; stop what uses it or choose another"
            f" --listen-port"
        ) from error


def _sockets_for_allocations(*, ports: int, families: int) -> int:
    """Raise the limit of open files and say how many allocations it leaves room for."""
    limit = raise_descriptor_limit(needed=ports * families + _OWN_DESCRIPTORS)
    sockets = max(limit - _OWN_DESCRIPTORS, 0)
    allocations = min(sockets // families, ports)
    log.info("room for allocations", extra={"allocations": allocations, "ports": ports, "open_files": limit})
    if allocations < ports:
        log.warning(
            "open files are limited to %d: with all ports in use it takes %d; raise the limit"
            " (LimitNOFILE=, ulimit -n)",
            limit,
            ports * families + _OWN_DESCRIPTORS,
        )
    return sockets


async def _look_up(name: str) -> list[IpAddress]:
    found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
