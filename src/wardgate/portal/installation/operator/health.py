"""The health of the installation: checks that ask nobody outside, each with what to do about it.

It is the process that answers which is looked at; of several nodes each tells its own counters.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509

import wardgate
from wardgate.model.addresses import parse_ip
from wardgate.portal.database.location import PostgresServer, SqliteFile
from wardgate.portal.geography.city_database import DatabaseState
from wardgate.portal.installation.job_queue import JobQueue
from wardgate.portal.services import Services
from wardgate.portal.settings import PortalSettings
from wardgate.portal.web.cells import Grid, Status, Text
from wardgate.portal.web.page import Live, Section, TemplatePage
from wardgate.portal.web.toasts import Tone
from wardgate.portal.web.visit import OperatorVisit

EVERY_S: Final = 5.0
LITTLE_DISK: Final = 0.1
VERY_LITTLE_DISK: Final = 0.03
LAGGING_S: Final = 1.0  # the budget is 0.25 s, for a change that another process made
RENEWED_BEFORE: Final = timedelta(days=21)
_GIB: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Check:
    """One check; `advice` says what to do if it is not good."""

    name: str
    tone: Tone
    told: str
    advice: str = ""

    @property
    def status(self) -> Status:
        words = {"good": "OK", "caution": "Warning", "bad": "Problem", "neutral": "Not set up"}
        return Status(words[self.tone], self.tone)


@dataclass(frozen=True, slots=True)
class Health:
    """Ready to be written down; problems first."""

    checks: tuple[Check, ...]
    numbers: tuple[tuple[str, str], ...]
    counters: Grid

    @property
    def is_good(self) -> bool:
        return not any(check.tone in ("bad", "caution") for check in self.checks)


async def load_health(visit: OperatorVisit) -> Health:
    services = visit.services
    settings, bus, now = services.settings, services.environment.bus, services.environment.clock.now()
    async with visit.reading() as transaction:
        accounts = await transaction.accounts.count()
        jobs = await JobQueue(transaction).counts()
    files = await services.environment.executor.run(lambda: tuple(_of_files(settings, now)))
    checks = [
        _database(settings),
        *files,
        _feed(services),
        _address(settings),
        _mail(services),
        *_sign_up(services),
        _relays(bus.count("relay")),
        _jobs(jobs),
        _background(services),
        _places(services.geography.database_state),
    ]
    order: list[Tone] = ["bad", "caution", "neutral", "good"]
    return Health(
        tuple(sorted(checks, key=lambda check: order.index(check.tone))),
        (
            ("Version", wardgate.__version__),
            ("Accounts", f"{accounts:,}"),
            ("Clients online", f"{bus.count('client'):,}"),
            ("Gateways online", f"{bus.count('gateway'):,}"),
            ("Relays online", f"{bus.count('relay'):,}"),
            ("Jobs waiting", f"{jobs['available']:,}"),
            ("Time here", now.strftime("%Y-%m-%d %H:%M:%S UTC")),
        ),
        Grid(
            ("Event", "Since the start"),
            [
                (Text(name.replace("_", " ")), Text(f"{count:,}"))
                for name, count in sorted(services.counters.items())
            ],
            empty="Nothing has been counted yet.",
        ),
    )


PAGE: Final = TemplatePage(
    name="Health",
    path="",
    icon="activity",
    section=Section.HOME,
    live=Live(presence=frozenset({"relay"}), every_s=EVERY_S),
    template="installation/operator/health.html",
    load=load_health,
)


def _database(settings: PortalSettings) -> Check:
    database = settings.database
    if isinstance(database, PostgresServer):
        return Check("Database", "good", f"It answers: {database}.")
    if settings.data_dir is None and settings.database_url is None:
        return Check(
            "Database", "caution", "It is in memory, and gone with the process.", "Set a data directory."
        )
    return Check("Database", "good", f"SQLite answers, in {database}.")


def _of_files(settings: PortalSettings, now: datetime) -> Iterator[Check]:
    """Look at files; away from the event loop, for a file system may be slow."""
    database = settings.database
    place = settings.data_dir or (database.path.parent if isinstance(database, SqliteFile) else None)
    if place is not None:
        yield _disk(place)
    if settings.tls_certificate is not None:
        yield _certificate(settings.tls_certificate, is_renewed=settings.acme is not None, now=now)


def _disk(place: Path) -> Check:
    try:
        usage = shutil.disk_usage(place)
    except OSError as error:
        return Check("Disk", "bad", f"{place} cannot be read: {error.strerror}.", "Look at the file system.")
    share = usage.free / usage.total if usage.total else 0.0
    told = f"{usage.free / _GIB:.1f} of {usage.total / _GIB:.1f} GiB are free at {place}."
    if share < LITTLE_DISK:
        tone: Tone = "bad" if share < VERY_LITTLE_DISK else "caution"
        return Check("Disk", tone, told, "Make room: without any, no change can be stored.")
    return Check("Disk", "good", told)


def _certificate(path: Path, *, is_renewed: bool, now: datetime) -> Check:
    name = "Certificate"
    try:
        ends_at = x509.load_pem_x509_certificates(path.read_bytes())[0].not_valid_after_utc
    except (OSError, ValueError) as error:
        return Check(name, "bad", f"{path} cannot be read: {error}.", "Put the certificate there again.")
    left = ends_at - now
    told = f"It is valid until {ends_at:%Y-%m-%d %H:%M} UTC ({left.days} days)."
    if left <= timedelta(0):
        told = f"It has ended on {ends_at:%Y-%m-%d %H:%M} UTC."
    advice = (
        "The portal renews it by itself: its log says what keeps it from doing so."
        if is_renewed
        else "Renew the file; the portal takes it up without a restart."
    )
    if left < RENEWED_BEFORE:
        return Check(name, "bad" if left < timedelta(days=7) else "caution", told, advice)
    return Check(name, "good", told)


def _feed(services: Services) -> Check:
    def sample(name: str) -> float:
        return services.metrics.registry.get_sample_value(f"wardgate_portal_feed_lag_seconds_{name}") or 0.0

    count = sample("count")
    if not count:
        return Check("Changes", "good", "None had to be passed on since the start.")
    mean_s = sample("sum") / count
    told = f"{count:,.0f} deliveries since the start, {mean_s * 1000:,.0f} ms after the change on average."
    if mean_s > LAGGING_S:
        return Check("Changes", "caution", told, "The process or its database has too much to do.")
    return Check("Changes", "good", told)


def _address(settings: PortalSettings) -> Check:
    url = settings.web_url
    if settings.is_secure:
        return Check("Address", "good", f"People and peers come by {url}.")
    if _is_local(urlsplit(url).hostname or ""):
        return Check("Address", "good", f"{url} is this machine only, so that plain HTTP is safe.")
    return Check(
        "Address",
        "bad",
        f"{url} is plain HTTP: passwords, sessions and tokens cross the network readable.",
        "Give the portal a certificate: --acme-domain, --tls-certificate, or a proxy with an https:// external URL.",
    )


def _is_local(host: str) -> bool:
    try:
        return parse_ip(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _mail(services: Services) -> Check:
    if services.environment.mailer is None:
        return Check(
            "Mail",
            "neutral",
            "No mail is sent: codes to sign in with stand in the log, and nobody is warned of deletions.",
            "Set WARDGATE_SMTP_URL and WARDGATE_MAIL_FROM.",
        )
    return Check("Mail", "good", f"It is sent as {services.settings.mail_from}.")


def _sign_up(services: Services) -> Iterator[Check]:
    settings = services.settings
    if not settings.sign_up:
        return
    name, domains = "Sign-up", settings.sign_up_domains
    if services.environment.mailer is None:
        yield Check(
            name,
            "caution",
            "It is open, and no mail is sent: the links stand in the log.",
            "Set WARDGATE_SMTP_URL and WARDGATE_MAIL_FROM.",
        )
    elif domains:
        yield Check(name, "good", f"Whoever has an address at {', '.join(domains)} can make an account.")
    else:
        yield Check(
            name,
            "caution",
            "Anybody with a mailbox can make an account.",
            "Name domains in sign_up_domains, unless that is meant.",
        )


def _relays(count: int) -> Check:
    if not count:
        return Check(
            "Relays",
            "bad",
            "No relay is online: clients and gateways cannot find each other.",
            "Start one: Relays, New relay.",
        )
    if count == 1:
        return Check(
            "Relays", "good", "One is online. A second one keeps paths alive while this one restarts."
        )
    return Check("Relays", "good", f"{count:,} are online.")


def _jobs(counts: dict[str, int]) -> Check:
    told = (
        f"{counts['available']:,} wait, {counts['executing']:,} run, {counts['discarded']:,} were given up."
    )
    if counts["discarded"]:
        return Check(
            "Jobs", "caution", told, "Look at those that were given up, mend the cause, run them again."
        )
    return Check("Jobs", "good", told)


def _background(services: Services) -> Check:
    count = services.counters["background_failures"]
    if count:
        told = f"{count:,} failures since the start."
        return Check("Background work", "caution", told, "The log of the process tells of each.")
    return Check("Background work", "good", "No failure since the start.")


def _places(state: DatabaseState | None) -> Check:
    name = "Where addresses are"
    if state is None:
        return Check(name, "good", "Countries come from the registries' tables, which know no cities.")
    if state.error is not None:
        return Check(
            name, "caution", f"The IP database cannot be used: {state.error}.", "Put the file there again."
        )
    return Check(name, "good", f"The IP database was built on {state.built_at:%Y-%m-%d}.")
