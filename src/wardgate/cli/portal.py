"""`wardgate portal`: run the portal on a data directory until it is told to stop."""

import asyncio
import logging
import signal
import socket
from collections.abc import Mapping
from contextlib import ExitStack

from wardgate.cli import logs
from wardgate.cli.commands import portal as options
from wardgate.cli.errors import UserError
from wardgate.cli.garbage import collect_in_a_quiet_moment, settle
from wardgate.cli.portal_settings import (
    listener_of,
    metrics_listener_of,
    plain_listener_of,
    portal_settings,
)
from wardgate.cli.profile import data_dir_of
from wardgate.cli.settings import Settings
from wardgate.net.descriptor_limit import raise_descriptor_limit
from wardgate.net.otlp import OtlpUnusable, exported
from wardgate.net.service_manager import READY, STOPPING, keep_watchdog, notify
from wardgate.net.supervision import run_until_first_ends
from wardgate.portal import data_directory
from wardgate.portal.acme import OrderFailed
from wardgate.portal.app import Portal
from wardgate.portal.channels.recording import Recorder
from wardgate.portal.data_directory import DataDirectoryUnusable, Lock
from wardgate.portal.database.sqlite_log import require_matching_log
from wardgate.portal.environment import Environment
from wardgate.portal.keys import Keys
from wardgate.portal.mail.smtp import SmtpMailer
from wardgate.portal.outbound.client import GuardedClient
from wardgate.portal.server import BackgroundFailed, serve
from wardgate.portal.settings import PortalSettings
from wardgate.portal.store import SqliteFile, Unusable
from wardgate.portal.strangers import Listener
from wardgate.portal.tls import CertificateUnusable

log = logging.getLogger(__name__)


def run(settings: Settings) -> None:
    """Run the portal until it is told to stop.

    Raises:
        UserError: it cannot start.
    """
    settle()
    directory = data_dir_of(settings)
    portal = portal_settings(settings, data_dir=directory, listen=options.LISTEN)
    logs.set_up(settings[options.LOG_FORMAT], settings[options.LOG_LEVEL])
    raise_descriptor_limit()  # a socket for each peer and page
    try:
        keys = data_directory.load_keys(directory)
        data_directory.require_database(directory, portal.database)
        with Lock(directory), listener_of(portal) as listener, ExitStack() as stack:
            if isinstance(portal.database, SqliteFile):
                require_matching_log(portal.database.path)
            plain, metrics = plain_listener_of(settings, portal), metrics_listener_of(portal)
            for further in (plain, metrics):
                if further is not None:
                    stack.enter_context(further)
            asyncio.run(_run(portal, keys, listener, plain, metrics, settings.environment))
    except (
        DataDirectoryUnusable, Unusable, CertificateUnusable, OrderFailed, BackgroundFailed, OtlpUnusable,
    ) as error:  # fmt: skip
        raise UserError(str(error)) from error


async def _run(
    settings: PortalSettings,
    keys: Keys,
    listener: Listener,
    plain: Listener | None,
    metrics: socket.socket | None,
    environ: Mapping[str, str],
) -> None:
    stop = asyncio.Event()

    def asked_to_stop() -> None:
        notify(STOPPING)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, asked_to_stop)
    mailer = None if settings.smtp is None else SmtpMailer(settings.smtp)
    environment = Environment.of_this_process(mailer=mailer, outbound=_outbound(settings))
    portal = await Portal.open(settings, keys, environment, database_must_exist=True)
    _record(portal, settings)
    portal.precedence.on_quiet = collect_in_a_quiet_moment
    host, port = listener.getsockname()[:2]

    def ready() -> None:
        settle()
        notify(READY)
        logs.say_start("portal")  # only now: of one that cannot start, the reason is all that is said
        log.info("portal ready", extra={"listen": f"{host}:{port}", "url": settings.external_url})
        warn_of(settings)

    async def read() -> str:
        return (await portal.export_metrics()).decode()

    async with exported("portal", environ, read) as portal.services.spans.record:
        await run_until_first_ends(
            serve(portal, listener, plain=plain, metrics=metrics, on_ready=ready, until=stop), keep_watchdog()
        )


def warn_of(settings: PortalSettings) -> None:
    """Log what of the addresses at which the portal is reached will surprise people."""
    if settings.is_exposed:
        log.warning(
            "this is plain HTTP on a public address: anyone on the path can read passwords and tokens; "
            "see acme_domain, tls_certificate and external_url",
            extra={"url": settings.web_url},
        )
    if settings.flow_log_upload_interval_s and not settings.are_flow_logs_reachable:
        log.warning(
            "published peers upload no flow logs: they do so to https:// on port 443 only; see external_url",
            extra={"url": settings.rest_url},
        )


def _record(portal: Portal, settings: PortalSettings) -> None:
    if settings.record_frames is None:
        return
    try:
        portal.channels.recorder = Recorder(settings.record_frames, portal.services.environment.clock)
    except OSError as error:
        raise UserError(
            f"record_frames: {settings.record_frames} is no directory to write to: {error.strerror}"
        ) from error
    log.warning("control channels are recorded", extra={"directory": str(settings.record_frames)})


def _outbound(settings: PortalSettings) -> GuardedClient:
    try:
        return GuardedClient(settings.reachable_addresses, ca_file=settings.outbound_ca)
    except OSError as error:
        raise UserError(
            f"outbound_ca: {settings.outbound_ca} holds no certificates in PEM: {error.strerror or error}"
        ) from error
