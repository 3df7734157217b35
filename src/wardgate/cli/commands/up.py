"""`wardgate up`: its settings. It reads the portal's too; what can be given on its command line stands here."""

from dataclasses import replace
from typing import Final

from wardgate.cli import values
from wardgate.cli.command_line import Command
from wardgate.cli.commands import installation, portal, shared
from wardgate.cli.parameters import CONFIG, Setting
from wardgate.model.addresses import IpAddress

PUBLIC_ADDRESS: Final = Setting[IpAddress | None](
    name="public_address",
    help="IP address at which others reach this machine",
    read=values.address,
    default=None,
    value="ADDRESS",
    fallback="the one it uses towards the internet",
)
ACCOUNT_NAME: Final = replace(installation.ACCOUNT_NAME, default="Home network", notes="`init` needs it")
ACCOUNT_SLUG: Final = replace(installation.ACCOUNT_SLUG, default="home", notes="`init` needs it")
ADMIN_EMAIL: Final = replace(
    installation.ADMIN_EMAIL, default="admin@wardgate.local", notes="`init` needs it"
)
LISTEN: Final = replace(portal.LISTEN, default=("0.0.0.0", 8080), written_default="0.0.0.0:8080")  # noqa: S104 - others shall reach it
EXTERNAL_URL: Final = replace(portal.EXTERNAL_URL, fallback="the public address")

DATA_DIR: Final = portal.DATA_DIR
LOG_FORMAT: Final = shared.LOG_FORMAT
LOG_LEVEL: Final = shared.LOG_LEVEL

SETTINGS: Final = (
    PUBLIC_ADDRESS, ACCOUNT_NAME, ACCOUNT_SLUG, ADMIN_EMAIL, LISTEN, EXTERNAL_URL, DATA_DIR, LOG_FORMAT,
    LOG_LEVEL,
)  # fmt: skip

COMMAND: Final = Command(
    name="up",
    help="Run portal, relay and gateway on this machine.",
    details="Ctrl-C stops them; the next start continues where they were. The account is made at the first"
    " start. What else the portal can be"
    " told is read from the environment and the settings file.",
    parameters=(*SETTINGS, CONFIG),
    examples=("sudo wardgate up --public-address 203.0.113.7 --admin-email ada@acme.example",),
    section="up",
    run="wardgate.cli.up:run",
)
