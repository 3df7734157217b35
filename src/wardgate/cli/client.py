"""`wardgate client`: run the headless client."""

import logging
import os
import stat
from pathlib import Path
from typing import Annotated, Final

import typer

import wardgate
from wardgate.cli import logs
from wardgate.cli.errors import UserError
from wardgate.cli.peer import (
    DEFAULT_PORT,
    host_and_port,
    metrics_of,
    own_external_id,
    portal_account,
    run_peer,
)
from wardgate.cli.settings import Settings
from wardgate.client.process import ClientProcess
from wardgate.datapath.engine import HostedEngine, generate_private_key, public_key
from wardgate.net import device_id
from wardgate.net.descriptor_limit import raise_descriptor_limit
from wardgate.net.families import families_of
from wardgate.net.health import health_listener
from wardgate.net.host_dns import RESOLV_CONF, Method, host_dns, usual_method
from wardgate.net.name_lookup import NameLookup
from wardgate.net.netlink import Netlink
from wardgate.net.privileges import buffer_limits, client_needs, require, tunnel_refusal
from wardgate.net.reconciler import Reconciler
from wardgate.net.socket_mark import SOCKET_MARK
from wardgate.net.tun_interface import GSO_MAX_SEGMENTS, Role, TunInterface
from wardgate.wire.device_identity import CLIENT_DERIVATION_KEY
from wardgate.wire.dialect import PeerKind
from wardgate.wire.upgrade import ClientParameters

log = logging.getLogger(__name__)

_DEFAULT_HEALTH: Final = "127.0.0.1:8083"
_DEFAULT_INTERFACE: Final = "wardgate"
_DEFAULT_TOKEN_PATH: Final = Path("/etc/dev.firezone.client/token")


def command(
    *,
    api_url: Annotated[
        str | None,
        typer.Option("--api-url", "-u", help="The portal, wss://… [WARDGATE_API_URL, FIREZONE_API_URL]"),
    ] = None,
    token_path: Annotated[
        Path | None,
        typer.Option(
            help="File with the token, used when WARDGATE_TOKEN and FIREZONE_TOKEN are unset. [FIREZONE_TOKEN_PATH]"
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", "--firezone-name", help="Name in the portal; host name. [FIREZONE_NAME]"),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option("--id", "--firezone-id", "-i", help="Stable identity of this device. [FIREZONE_ID]"),
    ] = None,
    dns_control: Annotated[
        str | None,
        typer.Option(
            help="systemd-resolved, etc-resolv-conf or disabled; the first where it runs, else the second. [FIREZONE_DNS_CONTROL]"
        ),
    ] = None,
    activate_internet_resource: Annotated[
        bool | None,
        typer.Option(
            "--activate-internet-resource",
            help="Send everything else too. [FIREZONE_ACTIVATE_INTERNET_RESOURCE]",
        ),
    ] = None,
    interface: Annotated[str | None, typer.Option(help="Name of the TUN interface; wardgate.")] = None,
    listen_port: Annotated[int | None, typer.Option(help="Preferred UDP port; 52625.")] = None,
    max_partition_time: Annotated[
        str | None,
        typer.Option(
            "--max-partition-time", "-m", help="Give up this long without a portal. [MAX_PARTITION_TIME]"
        ),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Check the settings and leave.")] = False,
    leave_when_up: Annotated[
        bool, typer.Option("--exit", help="Leave once the tunnel is up.", hidden=True)
    ] = False,
    inc_buf: Annotated[
        bool | None,
        typer.Option("--inc-buf", help="Raise the kernel's socket buffer limits. [FIREZONE_INC_BUF]"),
    ] = None,
    health_check_addr: Annotated[
        str | None, typer.Option(help="HTTP health listener; 127.0.0.1:8083. [HEALTH_CHECK_ADDR]")
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json. [FIREZONE_LOG_FORMAT]")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with a table [client].")] = None,
) -> None:
    """Run the headless client: it carries this host's packets to the resources that are granted to it.

    SIGHUP tells it that the network changed. SIGTERM ends it and puts the host's DNS settings back.

    Examples:

      sudo wardgate client --api-url wss://portal.example.org --token-path /etc/wardgate/client-token

      sudo wardgate client --config /etc/wardgate.toml --check
    """
    settings = Settings.load("client", os.environ, config)
    logs.set_up(
        settings.text("log_format", log_format, "text", env=("FIREZONE_LOG_FORMAT",)),
        settings.text("log_level", log_level, "info", env=("RUST_LOG",)),
    )
    chosen_path = settings.path("token_path", token_path, _DEFAULT_TOKEN_PATH, env=("FIREZONE_TOKEN_PATH",))
    account = portal_account(
        settings,
        PeerKind.CLIENT,
        url=api_url,
        token=settings.secret("token", None, None, env=("FIREZONE_TOKEN",)) or _token_file(chosen_path),
        budget_s=settings.duration_s(
            "max_partition_time", max_partition_time, None, env=("MAX_PARTITION_TIME",)
        ),
    )
    for variable in ("WARDGATE_TOKEN", "FIREZONE_TOKEN"):
        os.environ.pop(variable, None)  # children and /proc readers have no business with it
    method = _method(settings.text("dns_control", dns_control, None, env=("FIREZONE_DNS_CONTROL",)))
    health = host_and_port(
        settings.text("health_check_addr", health_check_addr, _DEFAULT_HEALTH, env=("HEALTH_CHECK_ADDR",))
    )
    tun_name = settings.text("interface", interface, _DEFAULT_INTERFACE)
    port = settings.integer("listen_port", listen_port, DEFAULT_PORT)
    is_internet_active = settings.boolean(
        "activate_internet_resource",
        activate_internet_resource,
        False,
        env=("FIREZONE_ACTIVATE_INTERNET_RESOURCE",),
    )
    raises_buffers = settings.boolean("inc_buf", inc_buf, False, env=("FIREZONE_INC_BUF",))
    configured_id = settings.text("id", device, None, env=("FIREZONE_ID",))
    display_name = device_id.device_name(settings.text("name", name, None, env=("FIREZONE_NAME",)))

    async def run() -> None:
        identity = own_external_id(
            configured_id, stored_in=device_id.CLIENT_FILE, derivation_key=CLIENT_DERIVATION_KEY
        )
        if check:
            typer.echo("the settings are in order")
            return
        require("wardgate client", client_needs(writes=RESOLV_CONF if method is Method.RESOLV_CONF else None))
        private_key = generate_private_key()
        keys = {"public": public_key(private_key)}
        resolver = host_dns(method, tun_name)
        session = account.session()
        link = account.link(
            session,
            parameters=lambda: ClientParameters(identity, keys["public"], display_name),
            look_up=NameLookup(resolver.system_resolvers).addresses,
            mark=SOCKET_MARK,
        )
        raise_descriptor_limit()
        buffers = Reconciler(buffer_limits() if raises_buffers else ())
        await buffers.establish()
        try:
            engine = HostedEngine(
                role="client",
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
                tun = TunInterface(
                    tun_name,
                    kernel,
                    role=Role.CLIENT,
                    families=families_of(tun_name),
                    gso_max_segs=GSO_MAX_SEGMENTS,
                )
                process = ClientProcess(
                    engine=engine,
                    session=session,
                    kernel=kernel,
                    tun=tun,
                    host_dns=resolver,
                    settings=(),
                    link=link,
                    set_private_key=lambda new: keys.update(public=public_key(new)),
                    is_internet_active=is_internet_active,
                )
                async with health_listener(
                    *health,
                    is_ready=lambda: process.is_ready,
                    version=wardgate.__version__,
                    metrics=metrics_of(PeerKind.CLIENT, lambda: engine.stats() | process.host.counts()),
                    notes=process.host.notes,
                ):
                    await process.run(until_configured=leave_when_up)
        finally:
            engine.close()
            await buffers.undo()

    run_peer(run(), has_identity=True)


def _method(text: str | None) -> Method:
    if text is None:
        method = usual_method()
        log.info("DNS control chosen for this host", extra={"dns_control": method.value})
        return method
    try:
        return Method(text)
    except ValueError:
        raise UserError(f"unknown --dns-control {text!r}; choose {', '.join(Method)}") from None


def _token_file(path: Path) -> str | None:
    """Read the token file, which nobody but its owner may be able to read (operations §3)."""
    try:
        found = path.stat()
        if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO | stat.S_IXUSR) or found.st_uid not in (
            0,
            os.geteuid(),
        ):
            raise UserError(f"the token file {path} is readable by others: chown root and chmod 600 it")
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"cannot read the token file {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"the token file {path} is not text") from error
