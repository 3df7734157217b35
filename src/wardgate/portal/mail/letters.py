"""What the portal writes to people: one frozen class a letter, rendered as plain text and as simple HTML.

A letter that holds a code or a link which signs somebody in says so (`is_secret`): it waits sealed in the queue.

Rendering is pure: what a letter says is decided when it is posted, so that it stays true when its account is
gone by the time that it is sent. A letter's template has its class's name in snake case: the first line of
the `.txt` is the subject.
"""

import re
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import ClassVar, Final

from jinja2 import Environment as Templates
from jinja2 import FileSystemLoader, StrictUndefined, select_autoescape

from wardgate.model.addresses import IpAddress

MAX_SUBJECT_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class DeletionScheduled:
    """An administrator, or the operator, has scheduled the account's deletion."""

    account_name: str
    account_url: str
    deletion_at: datetime
    by: str


@dataclass(frozen=True, slots=True)
class DeletionCancelled:
    account_name: str
    account_url: str
    by: str


@dataclass(frozen=True, slots=True)
class DeletionNear:
    account_name: str
    account_url: str
    deletion_at: datetime


@dataclass(frozen=True, slots=True)
class AccountDeleted:
    account_name: str
    portal_url: str


@dataclass(frozen=True, slots=True)
class OutdatedGateway:
    """One line of the letter below."""

    name: str
    site: str
    software: str


@dataclass(frozen=True, slots=True)
class OutdatedGateways:
    """Gateways are online that are behind the newest level and release known; `clients` are two minor
    versions behind or more.
    """

    account_name: str
    account_url: str
    newest: str
    newest_release: str
    gateways: tuple[OutdatedGateway, ...]
    clients: int


@dataclass(frozen=True, slots=True)
class SignInCode:
    """`link` opens the page with the code filled in; None where another browser must not go on."""

    is_secret: ClassVar[bool] = True
    account_name: str
    portal_url: str
    code: str
    requested_at: datetime
    user_agent: str
    masked_ip: str
    link: str | None


@dataclass(frozen=True, slots=True)
class Welcome:
    """An administrator tells somebody that they have access, and where to sign in."""

    account_name: str
    account_url: str
    name: str
    by: str


@dataclass(frozen=True, slots=True)
class ChoosePassword:
    is_secret: ClassVar[bool] = True
    account_name: str
    link: str
    by: str
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class FoundAccount:
    """One line of the letter below."""

    name: str
    url: str


@dataclass(frozen=True, slots=True)
class AccountsOfAddress:
    portal_url: str
    accounts: tuple[FoundAccount, ...]


@dataclass(frozen=True, slots=True)
class SignUpLink:
    """Somebody wants to make an account with this address. What they typed is not in it: this letter goes to whom a
    stranger names, and shall not carry a stranger's words.
    """

    is_secret: ClassVar[bool] = True
    portal_url: str
    link: str
    ends_at: datetime
    masked_ip: str


@dataclass(frozen=True, slots=True)
class AccountMade:
    """To the first administrator of an account that was made by sign-up."""

    account_name: str
    account_url: str
    name: str


@dataclass(frozen=True, slots=True)
class SecondFactorsChanged:
    """To the person whose they are. `by`: the administrator who did it; None: whoever was signed in as the person."""

    account_name: str
    account_url: str
    name: str
    changes: tuple[str, ...]
    by: str | None
    masked_ip: str
    changed_at: datetime


Letter = (
    DeletionScheduled
    | DeletionCancelled
    | DeletionNear
    | AccountDeleted
    | OutdatedGateways
    | SignInCode
    | Welcome
    | ChoosePassword
    | AccountsOfAddress
    | SignUpLink
    | AccountMade
    | SecondFactorsChanged
)


@dataclass(frozen=True, slots=True)
class Rendered:
    """A letter as it is sent; `subject` is one line."""

    subject: str
    text: str
    html: str


def render(letter: Letter) -> Rendered:
    """Write a letter down."""
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(letter).__name__).lower()
    values = {field.name: getattr(letter, field.name) for field in fields(letter)}
    subject, _, text = _TEMPLATES.get_template(f"{name}.txt").render(values).partition("\n")
    html = _TEMPLATES.get_template(f"{name}.html").render(values, subject=one_line(subject))
    return Rendered(one_line(subject), text.strip() + "\n", html)


def is_secret_letter(letter: Letter) -> bool:
    """Return whether a letter signs in its reader."""
    return getattr(letter, "is_secret", False)


def one_line(text: str) -> str:
    """Return a text fit for a header: names that people choose may hold anything, line breaks and controls included."""
    printable = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(printable.split())[:MAX_SUBJECT_CHARS]


def masked(address: IpAddress) -> str:
    """Return an address as a letter shows it: enough to recognise one's own, too little to be passed on."""
    if isinstance(address, IPv4Address):
        first, second, *_ = str(address).split(".")
        return f"{first}.{second}.x.x"
    first, second, *_ = address.exploded.split(":")
    return f"{first}:{second}:…"


def _instant(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%A, %d %B %Y, %H:%M UTC")


_TEMPLATES: Final = Templates(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=select_autoescape(enabled_extensions=("html",), default=False),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters["instant"] = _instant
_TEMPLATES.filters["one_line"] = one_line
