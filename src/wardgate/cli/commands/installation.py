"""Commands on a data directory and its database: `init`, `db`, `sign-in-link`."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

from wardgate.cli import values
from wardgate.cli.command_line import Command
from wardgate.cli.commands.portal import DATA_DIR, DATABASE_URL, EXTERNAL_URL, read_database
from wardgate.cli.parameters import AS_JSON, CONFIG, Form, Parameter, Setting, switch

if TYPE_CHECKING:
    from wardgate.portal.store import Database


def _account_name(text: str) -> str:
    name = text.strip()
    if not 3 <= len(name) <= 64:
        raise ValueError(f"{text!r} must have 3 to 64 characters")
    return name


def _slug(text: str) -> str:
    from wardgate.portal.provisioning import check_slug
    from wardgate.portal.segments import RESERVED_SLUGS

    return check_slug(text, RESERVED_SLUGS)


def _email(text: str) -> str:
    from wardgate.portal.provisioning import check_email

    return check_email(text)


def _search_domain(text: str) -> str:
    from wardgate.portal.provisioning import check_search_domain

    return check_search_domain(text)


ACCOUNT_NAME: Final = Setting(
    name="account_name", help="name of the account", read=_account_name, default="", value="NAME"
)
ACCOUNT_SLUG: Final = Setting(
    name="account_slug", help="its short name in URLs", read=_slug, default="", value="SLUG"
)
ADMIN_EMAIL: Final = Setting(
    name="admin_email", help="e-mail address of its first admin", read=_email, default="", value="ADDRESS"
)
SEARCH_DOMAIN: Final = Setting[str | None](
    name="search_domain",
    help="DNS search domain of the account's clients",
    read=_search_domain,
    default=None,
    value="DOMAIN",
)

INIT_SETTINGS: Final = (ACCOUNT_NAME, ACCOUNT_SLUG, ADMIN_EMAIL, SEARCH_DOMAIN)
NEW_DATABASE: Final = switch("new_database", "make an empty database although the directory has a secret.key")
NEW_TOKENS: Final = switch("new_tokens", "replace the API and operator tokens that an earlier run made")

INIT: Final = Command(
    name="init",
    help="Create a data directory, the first account and its admin.",
    details="Running it again changes nothing and prints a new sign-in link. It may run while the portal"
    " does. The account's name, its"
    " slug and the admin's address are needed.",
    parameters=(DATA_DIR, *INIT_SETTINGS, EXTERNAL_URL, NEW_TOKENS, NEW_DATABASE, AS_JSON, CONFIG),
    examples=(
        "wardgate init --data-dir ./data --account-name Acme --account-slug acme --admin-email"
        " ada@acme.example",
    ),
    section="portal",
    run="wardgate.cli.init:run",
)

ONE_OF_SEVERAL: Final = Parameter[str | None](
    name="account_slug",
    help="which account; needed when there are several",
    read=values.text,
    default=None,
    value="SLUG",
)
EMAIL: Final = Parameter[str | None](
    name="email",
    help="which admin; the first one by default",
    read=values.text,
    default=None,
    value="ADDRESS",
)

OPERATOR: Final = switch("operator", "a link for the operator of the installation, who belongs to no account")

SIGN_IN_LINK: Final = Command(
    name="sign-in-link",
    help="Print a one-time sign-in link for an admin or the operator.",
    details="It needs the data directory, not a token, so that nobody is locked out. The link works once,"
    " within an hour, and leads to the"
    " external URL that `wardgate init` was given, unless another is set. The portal may be running.",
    parameters=(ONE_OF_SEVERAL, EMAIL, OPERATOR, DATA_DIR, EXTERNAL_URL, CONFIG),
    examples=(
        "wardgate sign-in-link --data-dir ./data --account-slug acme",
        "wardgate sign-in-link --data-dir ./data --operator",
    ),
    section="portal",
    run="wardgate.cli.sign_in_link:run",
)

SOURCE: "Final[Parameter[Database | None]]" = Parameter(
    name="source",
    option="from",
    help="database to read, such as sqlite:////path/wardgate.db",
    read=read_database,
    default=None,
    value="URL",
    is_required=True,
)
TARGET: "Final[Parameter[Database | None]]" = Parameter(
    name="target",
    option="to",
    help="empty database to fill, such as postgresql://…",
    read=read_database,
    default=None,
    value="URL",
    is_required=True,
)
_UPGRADE: Final = Command(
    name="upgrade",
    help="Bring the schema up to date; `wardgate portal` does the same when it starts.",
    parameters=(DATABASE_URL, DATA_DIR, CONFIG),
    examples=("wardgate db upgrade --database-url postgresql://wardgate@db.example.org/wardgate",),
    section="portal",
    run="wardgate.cli.db:upgrade",
)
_COPY: Final = Command(
    name="copy",
    help="Copy everything from one database to an empty one and verify it.",
    details="Rows are counted and their hashes compared. The portal must be stopped.",
    parameters=(SOURCE, TARGET),
    examples=(
        "wardgate db copy --from sqlite:////var/lib/wardgate/wardgate.db"
        " --to postgresql://wardgate@db.example.org/wardgate",
    ),
    run="wardgate.cli.db:copy",
)
DB: Final = Command(
    name="db",
    help="Bring a database up to date, or move an installation to another one.",
    examples=(*_UPGRADE.examples, *_COPY.examples),
    children=lambda: (_UPGRADE, _COPY),
)

BACKUP_TARGET: Final = Parameter[Path | None](
    name="target",
    help="directory to make; it must not exist",
    read=values.path,
    default=None,
    form=Form.ARGUMENT,
    value="DIRECTORY",
    is_required=True,
)
BACKUP: Final = Command(
    name="backup",
    help="Back up the installation: its database and its key. The portal may run.",
    details="SQLite is copied by its own online backup, PostgreSQL by pg_dump. The directory appears when the backup is"
    " whole, and only its owner can read it.",
    parameters=(BACKUP_TARGET, DATA_DIR, DATABASE_URL, AS_JSON, CONFIG),
    examples=("sudo -u wardgate-portal wardgate backup /var/backups/wardgate-2026-11-29",),
    section="portal",
    run="wardgate.cli.backup:back_up",
)
BACKUP_SOURCE: Final = Parameter[Path | None](
    name="source",
    help="directory of a backup",
    read=values.path,
    default=None,
    form=Form.ARGUMENT,
    value="DIRECTORY",
    is_required=True,
)
VERIFY: Final = switch("verify", "restore to a place of its own, compare, and remove it again")
RESTORE: Final = Command(
    name="restore",
    help="Restore a backup into an empty data directory, and compare what arrived with what was backed up.",
    details="With --verify nothing stays: do that after each backup. A backup of PostgreSQL needs --database-url: an"
    " empty database, or with --verify one of a user who may make another.",
    parameters=(BACKUP_SOURCE, VERIFY, DATA_DIR, DATABASE_URL, AS_JSON, CONFIG),
    examples=(
        "wardgate restore --verify /var/backups/wardgate-2026-11-29",
        "sudo -u wardgate-portal wardgate restore /var/backups/wardgate-2026-11-29 --data-dir /var/lib/wardgate",
    ),
    section="portal",
    run="wardgate.cli.backup:restore",
)
CHECK_ONLY: Final = switch(
    "check", "say what an upgrade would do; needed, for the portal does it when it starts"
)
UPGRADE: Final = Command(
    name="upgrade",
    help="Tell what starting this release on an installation would do.",
    details="Looks at the schema and at the versions of the peers as they were seen last. Nothing is changed.",
    parameters=(CHECK_ONLY, DATA_DIR, DATABASE_URL, AS_JSON, CONFIG),
    examples=("wardgate upgrade --check --data-dir /var/lib/wardgate",),
    notes="Exit codes: 0 it can be started · 1 it cannot, and why.",
    section="portal",
    run="wardgate.cli.backup:check_upgrade",
)
