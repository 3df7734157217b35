"""`wardgate relay`: run a relay (STUN/TURN server)."""

import asyncio
import logging
import os
import secrets
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Annotated, Final

import typer
import wardgate_native

import wardgate
from wardgate.cli import logs
from wardgate.cli.errors import UserError
from wardgate.cli.peer import host_and_port, metrics_of, portal_account, run_peer
from wardgate.cli.settings import Settings
from wardgate.model.addresses import IpAddress, parse_ip
from wardgate.net.descriptor_limit import raise_descriptor_limit
from wardgate.net.errors import HostRefused
from wardgate.net.health import health_listener
from wardgate.relay.process import RelayProcess
from wardgate.wire.dialect import PeerKind
from wardgate.wire.reconnect import RELAY_BUDGET_S
from wardgate.wire.upgrade import RelayParameters

_DEFAULT_HEALTH: Final = "127.0.0.1:8082"
_OWN_DESCRIPTORS: Final = (
    256  # files and sockets that are no allocation's: listen ports, the portal, probes, logs
)

log = logging.getLogger(__name__)


def command(
    token: Annotated[
        str | None, typer.Argument(help="Relay token. [WARDGATE_TOKEN, FIREZONE_TOKEN]", show_default=False)
    ] = None,
    *,
    api_url: Annotated[
        str | None, typer.Option(help="The portal, wss://… [WARDGATE_API_URL, FIREZONE_API_URL]")
    ] = None,
    public_ip4_addr: Annotated[
        str | None, typer.Option(help="IPv4 address that peers reach us at. [PUBLIC_IP4_ADDR]")
    ] = None,
    public_ip6_addr: Annotated[
        str | None, typer.Option(help="IPv6 address that peers reach us at. [PUBLIC_IP6_ADDR]")
    ] = None,
    listen_port: Annotated[int | None, typer.Option(help="STUN/TURN port, UDP; 3478. [LISTEN_PORT]")] = None,
    lowest_port: Annotated[
        int | None, typer.Option(help="First allocation port; 49152. [LOWEST_PORT]")
    ] = None,
    highest_port: Annotated[
        int | None, typer.Option(help="Last allocation port; 65535. [HIGHEST_PORT]")
    ] = None,
    deny_private: Annotated[
        bool | None, typer.Option("--deny-private", help="Relay to no peer in a private range.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name in the portal. [FIREZONE_NAME]")] = None,
    max_partition_time: Annotated[
        str | None, typer.Option(help="Give up this long without a portal; 24h. [MAX_PARTITION_TIME]")
    ] = None,
    drain: Annotated[
        str | None, typer.Option(help="How long allocations may go on after SIGTERM; 0s.")
    ] = None,
    health_check_addr: Annotated[
        str | None, typer.Option(help="HTTP health listener; 127.0.0.1:8082. [HEALTH_CHECK_ADDR]")
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json. [LOG_FORMAT]")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with a table [relay].")] = None,
) -> None:
    """Run a relay: it carries sealed packets between peers that cannot reach each other directly.

    At least one public address is needed; UDP 3478 and the allocation ports must be reachable there.

    Examples:

      wardgate relay --api-url wss://portal.example.org --public-ip4-addr 203.0.113.7

      WARDGATE_TOKEN_FILE=/run/secrets/relay WARDGATE_CONFIG=/etc/wardgate.toml wardgate relay
    """
    settings = Settings.load("relay", os.environ, config)
    logs.set_up(
        settings.text("log_format", log_format, "text", env=("LOG_FORMAT",)),
        settings.text("log_level", log_level, "info", env=("RUST_LOG",)),
    )
    ipv4 = _address(settings.text("public_ip4_addr", public_ip4_addr, None, env=("PUBLIC_IP4_ADDR",)), 4)
    ipv6 = _address(settings.text("public_ip6_addr", public_ip6_addr, None, env=("PUBLIC_IP6_ADDR",)), 6)
    if ipv4 is None and ipv6 is None:
        raise UserError(
            "at which address do peers reach this relay? Give --public-ip4-addr or --public-ip6-addr"
        )
    port = settings.integer("listen_port", listen_port, 3478, env=("LISTEN_PORT",))
    first_port = settings.integer("lowest_port", lowest_port, 49152, env=("LOWEST_PORT",))
    last_port = settings.integer("highest_port", highest_port, 65535, env=("HIGHEST_PORT",))
    if not (0 < port < 65536 and 0 < first_port <= last_port < 65536):
        raise UserError("ports lie between 1 and 65535, --lowest-port not above --highest-port")
    account = portal_account(
        settings,
        PeerKind.RELAY,
        url=api_url,
        token=token,
        budget_s=settings.duration_s(
            "max_partition_time", max_partition_time, RELAY_BUDGET_S, env=("MAX_PARTITION_TIME",)
        ),
    )
    health = host_and_port(
        settings.text("health_check_addr", health_check_addr, _DEFAULT_HEALTH, env=("HEALTH_CHECK_ADDR",))
    )
    parameters = RelayParameters(
        ipv4=ipv4 if isinstance(ipv4, IPv4Address) else None,
        ipv6=ipv6 if isinstance(ipv6, IPv6Address) else None,
        port=port,
        name=settings.text("name", name, None, env=("FIREZONE_NAME",)),
    )
    drain_s = settings.duration_s("drain", drain, 0.0)
    denies_private = settings.boolean("deny_private", deny_private, False)

    async def run() -> None:
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
            process = RelayProcess(server=server, session=session, link=link, drain_s=drain_s)
            async with health_listener(
                *health,
                is_ready=lambda: process.is_ready,
                version=wardgate.__version__,
                metrics=metrics_of(PeerKind.RELAY, server.stats),
            ):
                await process.run()
        finally:
            server.close()

    run_peer(run())


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
            f"cannot serve UDP port {port}: {error.strerror or error}; stop what uses it or choose another --listen-port"
        ) from error


def _sockets_for_allocations(*, ports: int, families: int) -> int:
    """Raise the limit of open files and say how many allocations it leaves room for."""
    limit = raise_descriptor_limit(needed=ports * families + _OWN_DESCRIPTORS)
    sockets = max(limit - _OWN_DESCRIPTORS, 0)
    allocations = min(sockets // families, ports)
    log.info("room for allocations", extra={"allocations": allocations, "ports": ports, "open_files": limit})
    if allocations < ports:
        log.warning(
            "open files are limited to %d: with all ports in use it takes %d; raise the limit (LimitNOFILE=, ulimit -n)",
            limit,
            ports * families + _OWN_DESCRIPTORS,
        )
    return sockets


async def _look_up(name: str) -> list[IpAddress]:
    found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


def _address(text: str | None, version: int) -> IpAddress | None:
    if text is None:
        return None
    try:
        address = parse_ip(text)
    except ValueError:
        raise UserError(f"{text!r} is no IP address") from None
    if address.version != version:
        raise UserError(f"{text} is no IPv{version} address")
    return address
