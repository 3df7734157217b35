"""`wardgate gateway`: run a gateway in front of private resources."""

import wardgate
from wardgate.cli import logs
from wardgate.cli.commands import gateway as options
from wardgate.cli.peer import (
    exported,
    forget,
    metrics_of,
    own_external_id,
    portal_account,
    run_peer,
    socket_of,
    warn_of_ignored_options,
)
from wardgate.cli.settings import Settings
from wardgate.cli.terminal import echo
from wardgate.cli.tunnel_engine import hosted_engine
from wardgate.datapath.engine import generate_private_key, public_key
from wardgate.gateway.process import GatewayProcess
from wardgate.net import device_id
from wardgate.net.families import families_of
from wardgate.net.firewall import firewall_settings
from wardgate.net.health import health_listener
from wardgate.net.host_dns import UnmanagedDns
from wardgate.net.name_lookup import NameLookup
from wardgate.net.netlink import Netlink
from wardgate.net.privileges import Capability, require
from wardgate.net.socket_mark import SOCKET_MARK
from wardgate.net.succession import inherit
from wardgate.net.tun_interface import Role, TunInterface
from wardgate.peer.tunnel_process import FlowLogs, TunnelParts
from wardgate.wire.device_identity import GATEWAY_DERIVATION_KEY
from wardgate.wire.dialect import PeerKind
from wardgate.wire.upgrade import GatewayParameters


def run(settings: Settings) -> None:
    """Run the gateway until it is told to stop.

    Raises:
        UserError: it cannot start, or the portal does not let it in.
    """
    logs.set_up(settings[options.LOG_FORMAT], settings[options.LOG_LEVEL])
    warn_of_ignored_options(settings, options.WITHOUT_EFFECT)
    account = portal_account(
        PeerKind.GATEWAY,
        url=settings[options.API_URL],
        token=settings[options.TOKEN],
        budget_s=settings[options.MAX_PARTITION_TIME],
    )
    forget(options.TOKEN)
    health = settings[options.HEALTH_CHECK_ADDR]
    tun_name = settings[options.INTERFACE]
    port = settings[options.LISTEN_PORT]
    configured_id = settings[options.ID]
    display_name = device_id.device_name(settings[options.NAME])
    drain_s = settings[options.DRAIN]
    keeps_buffers = settings[options.NO_INC_BUF]

    if settings[options.CHECK]:
        echo("the settings are in order")
        return

    async def process() -> None:
        inheritance = inherit()
        if not settings[options.NO_CHECK]:
            require("wardgate gateway", [Capability.CAP_NET_ADMIN])
        identity = own_external_id(
            configured_id, stored_in=device_id.GATEWAY_FILE, derivation_key=GATEWAY_DERIVATION_KEY
        )
        private_key = generate_private_key()
        parameters = GatewayParameters(identity, public_key(private_key), display_name)
        host_dns = UnmanagedDns()
        session = account.session()
        link = account.link(
            session,
            parameters=lambda: parameters,
            look_up=NameLookup(host_dns.system_resolvers).addresses,
            mark=SOCKET_MARK,
        )
        async with (
            hosted_engine(
                "gateway",
                tun_device=None if inheritance is None else inheritance.tun_device,
                private_key=private_key,
                tun_name=tun_name,
                listen_port=port,
                raises_buffers=not keeps_buffers,
            ) as engine,
            Netlink() as kernel,
        ):
            families = families_of(tun_name)
            tun = TunInterface(tun_name, kernel, role=Role.GATEWAY, families=families)
            gateway = GatewayProcess(
                TunnelParts(
                    engine=engine,
                    session=session,
                    link=link,
                    kernel=kernel,
                    tun=tun,
                    host_dns=host_dns,
                    flow_logs=FlowLogs(settings[options.FLOW_LOG_DIR], prints=settings[options.FLOW_LOGS]),
                    settings=firewall_settings(interface=tun_name, families=families),
                    legacy=None if inheritance is None else inheritance.legacy,
                    control_socket=settings[options.CONTROL_SOCKET] or socket_of("gateway"),
                    portal_url=settings[options.API_URL] or "",
                ),
                drain_s=drain_s,
            )
            metrics = metrics_of(PeerKind.GATEWAY, gateway.counts)
            async with (
                health_listener(
                    *health,
                    is_ready=lambda: gateway.is_ready,
                    version=wardgate.__version__,
                    metrics=metrics,
                    notes=gateway.notes,
                ),
                exported("gateway", settings.environment, metrics) as record,
            ):
                gateway.record_span = record
                await gateway.run()
        gateway.hand_over()

    run_peer(PeerKind.GATEWAY, process(), has_identity=True)
