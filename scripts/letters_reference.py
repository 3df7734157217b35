"""Write docs/letters.md: what each letter of the portal says; a test compares the page with them."""

import inspect
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from wardgate.portal.mail.letters import (
    AccountDeleted,
    AccountMade,
    AccountsOfAddress,
    ChoosePassword,
    DeletionCancelled,
    DeletionNear,
    DeletionScheduled,
    FoundAccount,
    Letter,
    OutdatedGateway,
    OutdatedGateways,
    SecondFactorsChanged,
    SignInCode,
    SignUpLink,
    Welcome,
    render,
)

PAGE: Final = Path(__file__).parent.parent / "docs" / "letters.md"

HEAD: Final = """# Letters

What the portal writes to people, each with a made-up account. A letter goes out as plain text, shown here,
and as HTML that says the same. Written by `make letters-reference` from `src/wardgate/portal/mail/templates`.
"""

AT: Final = datetime(2026, 12, 1, 12, 30, tzinfo=UTC)
URL: Final = "https://portal.example/acme"
SAMPLES: Final[list[Letter]] = [
    DeletionScheduled("Acme", URL, AT, "Ada"),
    DeletionCancelled("Acme", URL, "Ada"),
    DeletionNear("Acme", URL, AT),
    AccountDeleted("Acme", "https://portal.example"),
    AccountsOfAddress("https://portal.example/Acme", (FoundAccount("Acme", URL),)),
    ChoosePassword("Acme", f"{URL}/sign_in/password/x", "Ada", AT),
    SignInCode("Acme", URL, "ab12cd", AT, "Firefox", "192.0.x.x", f"{URL}/sign_in"),
    Welcome("Acme", URL, "Grace", "Ada"),
    SignUpLink(
        "https://portal.example/Acme", "https://portal.example/verify_sign_up?token=x", AT, "192.0.x.x"
    ),
    AccountMade("Acme", URL, "Grace"),
    SecondFactorsChanged("Acme", URL, "Grace", ("“Phone” was added.",), None, "192.0.x.x", AT),
    OutdatedGateways("Acme", URL, "1.2.0", "0.3.0", (OutdatedGateway("gw-1", "Berlin", "speaks 1.0.0"),), 2),
]


def page() -> str:
    return "\n".join([HEAD, *(_section(letter) for letter in SAMPLES)])


def _section(letter: Letter) -> str:
    rendered = render(letter)
    return f"## {rendered.subject}\n\n{_reason(letter)}\n\n```text\n{rendered.text}```\n"


def _reason(letter: Letter) -> str:
    """Return what the letter's class says of it, on one line; a dataclass without a docstring says its signature."""
    told = inspect.cleandoc(type(letter).__doc__ or "")
    return f"`{type(letter).__name__}`" if told.startswith(type(letter).__name__) else " ".join(told.split())


if __name__ == "__main__":
    PAGE.write_text(page())
