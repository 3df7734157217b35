"""`wardgate client sign-in`, `sign-out` and `status`: their settings."""

import re
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from wardgate.cli.command_line import Command
from wardgate.cli.commands import client
from wardgate.cli.parameters import CONFIG, Setting, switch

_SLUG: Final = re.compile(r"[A-Za-z0-9_-]{3,100}")


def _web_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{text!r} is not a URL such as https://portal.example.org")
    return text


def _slug(text: str) -> str:
    if not _SLUG.fullmatch(text):
        raise ValueError(f"{text!r} is no account's slug")
    return text


AUTH_BASE_URL: Final = Setting[str | None](
    name="auth_base_url",
    help="where people sign in, such as https://portal.example.org",
    read=_web_url,
    default=None,
    value="URL",
    foreign=("FIREZONE_AUTH_BASE_URL",),
    fallback="the host of --api-url",
)
ACCOUNT_SLUG: Final = Setting[str | None](
    name="account_slug",
    help="the account to sign in to",
    read=_slug,
    default=None,
    value="SLUG",
    foreign=("FIREZONE_ACCOUNT_SLUG",),
    fallback="the portal asks",
)

SETTINGS: Final = (AUTH_BASE_URL, ACCOUNT_SLUG)
FORCE: Final = replace(
    switch("force", "do not ask first; nobody is asked without a terminal"), aliases=("-f",)
)

SIGN_IN: Final = Command(
    name="sign-in",
    help="Sign a person in: prints an address for a browser, takes the token that it shows.",
    details="The browser may be on another machine. The token is written for root, or whoever runs this, to read.",
    parameters=(AUTH_BASE_URL, ACCOUNT_SLUG, client.API_URL, client.TOKEN, client.TOKEN_PATH, CONFIG),
    examples=(
        "sudo wardgate client sign-in --auth-base-url https://portal.example.org --account-slug example",
    ),
    section="client",
    run="wardgate.cli.client_sign_in:sign_in",
)
SIGN_OUT: Final = Command(
    name="sign-out",
    help="Delete the token.",
    details="A client that runs keeps its connection until it ends; an administrator can end the token itself.",
    parameters=(FORCE, client.TOKEN, client.TOKEN_PATH, CONFIG),
    examples=("sudo wardgate client sign-out", "sudo wardgate client sign-out --force"),
    section="client",
    run="wardgate.cli.client_sign_in:sign_out",
)
STATUS: Final = Command(
    name="status",
    help="Tell whether there is a token, and whether the client runs.",
    parameters=(client.TOKEN, client.TOKEN_PATH, client.HEALTH_CHECK_ADDR, CONFIG),
    examples=("sudo wardgate client status",),
    notes="Exit codes: 0 there is a token · 1 there is none.",
    section="client",
    run="wardgate.cli.client_sign_in:status",
)

COMMANDS: Final = (SIGN_IN, SIGN_OUT, STATUS)
