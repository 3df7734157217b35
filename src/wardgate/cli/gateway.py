"""`wardgate gateway`: run a gateway in front of private resources."""

import os
from pathlib import Path
from typing import Annotated, Final

import typer

import wardgate
from wardgate.cli import logs
from wardgate.cli.peer import (
    DEFAULT_PORT,
    host_and_port,
    metrics_of,
    own_external_id,
    portal_account,
    run_peer,
)
from wardgate.cli.settings import Settings
from wardgate.datapath.engine import HostedEngine, generate_private_key, public_key
from wardgate.gateway.process import GatewayProcess
from wardgate.net import device_id
from wardgate.net.descriptor_limit import raise_descriptor_limit
from wardgate.net.families import families_of
from wardgate.net.firewall import firewall_settings
from wardgate.net.health import health_listener
from wardgate.net.host_dns import Untouched
from wardgate.net.name_lookup import NameLookup
from wardgate.net.netlink import Netlink
from wardgate.net.privileges import Capability, buffer_limits, require, tunnel_refusal
from wardgate.net.reconciler import Reconciler
from wardgate.net.socket_mark import SOCKET_MARK
from wardgate.net.tun_interface import Role, TunInterface
from wardgate.wire.device_identity import GATEWAY_DERIVATION_KEY
from wardgate.wire.dialect import PeerKind
from wardgate.wire.reconnect import GATEWAY_BUDGET_S
from wardgate.wire.upgrade import GatewayParameters

_DEFAULT_HEALTH: Final = "127.0.0.1:8081"
_DEFAULT_INTERFACE: Final = "wardgate-gw"


def command(
    token: Annotated[
        str | None, typer.Argument(help="Gateway token. [WARDGATE_TOKEN, FIREZONE_TOKEN]", show_default=False)
    ] = None,
    *,
    api_url: Annotated[
        str | None,
        typer.Option("--api-url", "-u", help="The portal, wss://… [WARDGATE_API_URL, FIREZONE_API_URL]"),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", "--firezone-name", "-n", help="Name in the portal; host name. [FIREZONE_NAME]"
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option("--id", "--firezone-id", "-i", help="Stable identity of this gateway. [FIREZONE_ID]"),
    ] = None,
    interface: Annotated[str | None, typer.Option(help="Name of the TUN interface; wardgate-gw.")] = None,
    listen_port: Annotated[int | None, typer.Option(help="Preferred UDP port; 52625.")] = None,
    max_partition_time: Annotated[
        str | None,
        typer.Option(
            "--max-partition-time",
            "-m",
            help="Give up this long without a portal; 24h. [FIREZONE_MAX_PARTITION_TIME]",
        ),
    ] = None,
    no_check: Annotated[bool, typer.Option("--no-check", help="Skip the check for privileges.")] = False,
    no_inc_buf: Annotated[
        bool | None,
        typer.Option("--no-inc-buf", help="Leave the kernel's socket buffer limits. [FIREZONE_NO_INC_BUF]"),
    ] = None,
    health_check_addr: Annotated[
        str | None, typer.Option(help="HTTP health listener; 127.0.0.1:8081. [HEALTH_CHECK_ADDR]")
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json. [FIREZONE_LOG_FORMAT]")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with a table [gateway].")] = None,
) -> None:
    """Run a gateway: it lets granted clients reach the resources of its site.

    Forwarding and masquerading are set up by the gateway itself, in an nftables table of its own.

    Examples:

      sudo WARDGATE_TOKEN_FILE=/etc/wardgate/gateway-token wardgate gateway --api-url wss://portal.example.org

      WARDGATE_TOKEN_FILE=/run/secrets/gateway wardgate gateway --config /etc/wardgate.toml
    """
    settings = Settings.load("gateway", os.environ, config)
    logs.set_up(
        settings.text("log_format", log_format, "text", env=("FIREZONE_LOG_FORMAT",)),
        settings.text("log_level", log_level, "info", env=("RUST_LOG",)),
    )
    account = portal_account(
        settings,
        PeerKind.GATEWAY,
        url=api_url,
        token=token,
        budget_s=settings.duration_s(
            "max_partition_time", max_partition_time, GATEWAY_BUDGET_S, env=("FIREZONE_MAX_PARTITION_TIME",)
        ),
    )
    health = host_and_port(
        settings.text("health_check_addr", health_check_addr, _DEFAULT_HEALTH, env=("HEALTH_CHECK_ADDR",))
    )
    tun_name = settings.text("interface", interface, _DEFAULT_INTERFACE)
    port = settings.integer("listen_port", listen_port, DEFAULT_PORT)
    configured_id = settings.text("id", device, None, env=("FIREZONE_ID",))
    display_name = device_id.device_name(settings.text("name", name, None, env=("FIREZONE_NAME",)))
    keeps_buffers = settings.boolean("no_inc_buf", no_inc_buf, False, env=("FIREZONE_NO_INC_BUF",))

    async def run() -> None:
        if not no_check:
            require("wardgate gateway", [Capability.CAP_NET_ADMIN])
        identity = own_external_id(
            configured_id, stored_in=device_id.GATEWAY_FILE, derivation_key=GATEWAY_DERIVATION_KEY
        )
        private_key = generate_private_key()
        parameters = GatewayParameters(identity, public_key(private_key), display_name)
        host_dns = Untouched()
        session = account.session()
        link = account.link(
            session,
            parameters=lambda: parameters,
            look_up=NameLookup(host_dns.system_resolvers).addresses,
            mark=SOCKET_MARK,
        )
        raise_descriptor_limit()
        buffers = Reconciler(() if keeps_buffers else buffer_limits())
        await buffers.establish()
        try:
            engine = HostedEngine(
                role="gateway",
                private_key=private_key,
                tun_name=tun_name,
                listen_port=port,
                firewall_mark=SOCKET_MARK,
            )
        except OSError as error:
            await buffers.undo()
            raise tunnel_refusal(error, tun_name) from error
        try:
            async with Netlink() as kernel:
                families = families_of(tun_name)
                tun = TunInterface(tun_name, kernel, role=Role.GATEWAY, families=families)
                process = GatewayProcess(
                    engine=engine,
                    session=session,
                    kernel=kernel,
                    tun=tun,
                    settings=firewall_settings(interface=tun_name, families=families),
                    host_dns=host_dns,
                    link=link,
                )
                async with health_listener(
                    *health,
                    is_ready=lambda: process.is_ready,
                    version=wardgate.__version__,
                    metrics=metrics_of(PeerKind.GATEWAY, lambda: engine.stats() | process.host.counts()),
                    notes=process.host.notes,
                ):
                    await process.run()
        finally:
            engine.close()
            await buffers.undo()

    run_peer(run(), has_identity=True)
