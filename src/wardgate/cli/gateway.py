"""`wardgate gateway`: run a gateway in front of private resources."""

import wardgate
from wardgate.cli import logs
from wardgate.cli.commands import gateway as told
from wardgate.cli.peer import (
    metrics_of,
    own_external_id,
    portal_account,
    run_peer,
    socket_of,
    tell_without_effect,
)
from wardgate.cli.settings import Settings
from wardgate.cli.terminal import echo
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
from wardgate.peer.tunnel_process import FlowLogs, TunnelParts
from wardgate.wire.device_identity import GATEWAY_DERIVATION_KEY
from wardgate.wire.dialect import PeerKind
from wardgate.wire.upgrade import GatewayParameters


def run(settings: Settings) -> None:
    """Run the gateway until it is told to stop.

    Raises:
        UserError: it cannot start, or the portal does not let it in.
    """
    logs.set_up(settings[told.LOG_FORMAT], settings[told.LOG_LEVEL])
    tell_without_effect(settings, told.WITHOUT_EFFECT)
    account = portal_account(
        PeerKind.GATEWAY,
        url=settings[told.API_URL],
        token=settings[told.TOKEN],
        budget_s=settings[told.MAX_PARTITION_TIME],
    )
    health = settings[told.HEALTH_CHECK_ADDR]
    tun_name = settings[told.INTERFACE]
    port = settings[told.LISTEN_PORT]
    configured_id = settings[told.ID]
    display_name = device_id.device_name(settings[told.NAME])
    drain_s = settings[told.DRAIN]
    keeps_buffers = settings[told.NO_INC_BUF]

    if settings[told.CHECK]:
        echo("the settings are in order")
        return

    async def process() -> None:
        if not settings[told.NO_CHECK]:
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
                gateway = GatewayProcess(
                    TunnelParts(
                        engine=engine,
                        session=session,
                        link=link,
                        kernel=kernel,
                        tun=tun,
                        host_dns=host_dns,
                        flow_logs=FlowLogs(settings[told.FLOW_LOG_DIR], prints=settings[told.FLOW_LOGS]),
                        settings=firewall_settings(interface=tun_name, families=families),
                        control_socket=settings[told.CONTROL_SOCKET] or socket_of("gateway"),
                    ),
                    drain_s=drain_s,
                )
                async with health_listener(
                    *health,
                    is_ready=lambda: gateway.is_ready,
                    version=wardgate.__version__,
                    metrics=metrics_of(PeerKind.GATEWAY, gateway.counts),
                    notes=gateway.notes,
                ):
                    await gateway.run()
        finally:
            engine.close()
            await buffers.undo()

    run_peer(process(), has_identity=True)
