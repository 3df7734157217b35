"""`wardgate client`: run the headless client."""

import logging

import wardgate
from wardgate.cli import logs
from wardgate.cli.client_token_file import read_token
from wardgate.cli.commands import client as options
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
from wardgate.client.process import ClientProcess
from wardgate.datapath.engine import generate_private_key, public_key
from wardgate.net import device_id
from wardgate.net.families import families_of
from wardgate.net.health import health_listener
from wardgate.net.host_dns import RESOLV_CONF, Method, host_dns, usual_method
from wardgate.net.name_lookup import NameLookup
from wardgate.net.netlink import Netlink
from wardgate.net.privileges import client_needs, require
from wardgate.net.socket_mark import SOCKET_MARK
from wardgate.net.succession import inherit
from wardgate.net.tun_interface import GSO_MAX_SEGMENTS, Role, TunInterface
from wardgate.peer.tunnel_process import FlowLogs, TunnelParts
from wardgate.wire.device_identity import CLIENT_DERIVATION_KEY
from wardgate.wire.dialect import PeerKind
from wardgate.wire.upgrade import ClientParameters

log = logging.getLogger(__name__)


def run(settings: Settings) -> None:
    """Run the client until it is told to stop.

    Raises:
        UserError: it cannot start, or the portal does not let it in.
    """
    logs.set_up(settings[options.LOG_FORMAT], settings[options.LOG_LEVEL], settings[options.LOG_DIR])
    warn_of_ignored_options(settings, options.WITHOUT_EFFECT)
    account = portal_account(
        PeerKind.CLIENT,
        url=settings[options.API_URL],
        token=settings[options.TOKEN] or read_token(settings[options.TOKEN_PATH]),
        budget_s=settings[options.MAX_PARTITION_TIME],
    )
    forget(options.TOKEN)
    method = _method(settings[options.DNS_CONTROL])
    health = settings[options.HEALTH_CHECK_ADDR]
    tun_name = settings[options.INTERFACE]
    port = settings[options.LISTEN_PORT]
    is_internet_active = settings[options.ACTIVATE_INTERNET_RESOURCE]
    raises_buffers = settings[options.INC_BUF]
    configured_id = settings[options.ID]
    display_name = device_id.device_name(settings[options.NAME])
    hardware = device_id.hardware()

    if settings[options.CHECK]:
        echo("the settings are in order")
        return

    async def process() -> None:
        inheritance = inherit()
        identity = own_external_id(
            configured_id, stored_in=device_id.CLIENT_FILE, derivation_key=CLIENT_DERIVATION_KEY
        )
        require("wardgate client", client_needs(writes=RESOLV_CONF if method is Method.RESOLV_CONF else None))
        private_key = generate_private_key()
        keys = {"public": public_key(private_key)}
        resolver = host_dns(method, tun_name)
        session = account.session()
        link = account.link(
            session,
            parameters=lambda: ClientParameters(
                identity,
                keys["public"],
                display_name,
                device_serial=hardware.serial,
                device_uuid=hardware.uuid,
            ),
            look_up=NameLookup(resolver.system_resolvers).addresses,
            mark=SOCKET_MARK,
        )
        async with (
            hosted_engine(
                "client",
                tun_device=None if inheritance is None else inheritance.tun_device,
                private_key=private_key,
                tun_name=tun_name,
                listen_port=port,
                raises_buffers=raises_buffers,
            ) as engine,
            Netlink() as kernel,
        ):
            tun = TunInterface(
                tun_name,
                kernel,
                role=Role.CLIENT,
                families=families_of(tun_name),
                gso_max_segs=GSO_MAX_SEGMENTS,
            )
            client = ClientProcess(
                TunnelParts(
                    engine=engine,
                    session=session,
                    link=link,
                    kernel=kernel,
                    tun=tun,
                    host_dns=resolver,
                    flow_logs=FlowLogs(settings[options.FLOW_LOG_DIR], prints=settings[options.FLOW_LOGS]),
                    legacy=None if inheritance is None else inheritance.legacy,
                    control_socket=settings[options.CONTROL_SOCKET] or socket_of("client"),
                    portal_url=settings[options.API_URL] or "",
                ),
                set_private_key=lambda new: keys.update(public=public_key(new)),
                is_internet_active=is_internet_active,
            )
            metrics = metrics_of(PeerKind.CLIENT, client.counts)
            async with (
                health_listener(
                    *health,
                    is_ready=lambda: client.is_ready,
                    version=wardgate.__version__,
                    metrics=metrics,
                    notes=client.notes,
                ),
                exported("client", settings.environment, metrics) as record,
            ):
                client.record_span = record
                await client.run(until_configured=settings[options.EXIT])
        client.hand_over()

    run_peer(PeerKind.CLIENT, process(), has_identity=True)


def _method(chosen: str | None) -> Method:
    if chosen is not None:
        return Method(chosen)
    method = usual_method()
    log.info("DNS control chosen for this host", extra={"dns_control": method.value})
    return method
