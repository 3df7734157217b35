"""What letters say, and that nothing a person chose can say more than it should."""

import runpy
from datetime import datetime
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest

from wardgate.portal.mail import letters
from wardgate.portal.mail.letters import (
    DeletionScheduled,
    Letter,
    OutdatedGateway,
    OutdatedGateways,
    render,
)
from wardgate.portal.mail.message import MailMessage, is_deliverable, is_sender

_SCRIPT = runpy.run_path(str(Path(__file__).parents[4] / "scripts" / "letters_reference.py"))
AT: datetime = _SCRIPT["AT"]
URL: str = _SCRIPT["URL"]
EVERY_LETTER: list[Letter] = _SCRIPT["SAMPLES"]
HOSTILE = "Acme\r\nBcc: eve@evil.example\r\n\r\n<script>alert(1)</script>\x00\x1b[31m"


@pytest.mark.parametrize("letter", EVERY_LETTER, ids=lambda letter: type(letter).__name__)
def test_a_letter_has_a_subject_a_text_and_the_same_in_html(letter: Letter) -> None:
    rendered = render(letter)
    assert "Acme" in rendered.subject
    assert "\n" not in rendered.subject
    assert "portal.example" in rendered.text
    assert "portal.example" in rendered.html
    assert "{{" not in rendered.text + rendered.html
    assert rendered == render(letter)


def test_the_page_of_letters_shows_each_as_it_is_sent() -> None:
    assert _SCRIPT["PAGE"].read_text() == _SCRIPT["page"](), "run `make letters-reference`"


def test_every_template_belongs_to_a_letter() -> None:
    named = {path.stem for path in (Path(letters.__file__).parent / "templates").iterdir()} - {"layout"}
    assert len(named) == len(EVERY_LETTER)


def test_the_time_of_the_deletion_is_told_in_full() -> None:
    assert "Tuesday, 01 December 2026, 12:30 UTC" in render(EVERY_LETTER[0]).text


def test_outdated_gateways_are_listed_and_clients_only_when_there_are_some() -> None:
    with_clients = render(EVERY_LETTER[-1]).text
    assert "gw-1 (Berlin): speaks 1.0.0" in with_clients
    assert "behind level 1.2.0 of the protocol or Wardgate 0.3.0" in with_clients
    assert "2 clients that were seen" in with_clients
    gateways = (OutdatedGateway("gw-1", "Berlin", "speaks 1.0.0"),)
    without = render(OutdatedGateways("Acme", URL, "1.2.0", "0.3.0", gateways, 0))
    assert "client" not in without.text


def test_a_hostile_name_adds_no_header_and_no_markup() -> None:
    rendered = render(DeletionScheduled(HOSTILE, URL, AT, HOSTILE))
    assert "<script>" not in rendered.html
    message = encoded(subject=rendered.subject, text=rendered.text, html=rendered.html)
    parsed = message_from_bytes(message, policy=default)
    assert parsed["Bcc"] is None
    assert set(parsed.keys()) == {
        "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type",
    }  # fmt: skip
    assert parsed["Subject"].strip().startswith("Acme Bcc: eve@evil.example")


@pytest.mark.parametrize("header", ["subject", "sender", "id"])
def test_a_line_break_in_a_header_is_refused_not_sent(header: str) -> None:
    with pytest.raises(ValueError, match=r"(?i)header|linefeed|carriage"):
        encoded(**{header: "wardgate@example.org\r\nBcc: eve@evil.example"})


def test_a_message_is_the_same_bytes_each_time_and_names_no_recipient() -> None:
    first = encoded(subject="Grüße – ünïcödé")
    assert first == encoded(subject="Grüße – ünïcödé")
    parsed = message_from_bytes(first, policy=default)
    assert parsed["To"] == "undisclosed-recipients:;"
    assert parsed["Message-ID"] == "<1@example.org>"
    assert parsed["Subject"] == "Grüße – ünïcödé"
    plain, html = parsed.iter_parts()
    assert (plain.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    assert plain.get_content().splitlines() == ["text"]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("ada@example.org", True),
        ("ada+x@sub.example.org", True),
        ("ada@example.org\r\nRCPT TO:<eve@evil.example>", False),
        ("ada@example.org>,<eve@evil.example", False),
        ("ada lovelace@example.org", False),
        ("ada@@example.org", False),
        ("ada", False),
        ("@example.org", False),
        ("ädä@example.org", False),
        ("a" * 250 + "@example.org", False),
    ],
)
def test_what_may_stand_in_an_envelope(address: str, expected: bool) -> None:
    assert is_deliverable(address) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("wardgate@example.org", True),
        ("Wardgate <wardgate@example.org>", True),
        ("Wardgate", False),
        ("", False),
        ("wardgate@example.org, eve@evil.example", False),
        ("Wardgate <wardgate@example.org>\nBcc: eve@evil.example", False),
    ],
)
def test_what_may_be_a_sender(text: str, expected: bool) -> None:
    assert is_sender(text) is expected


def encoded(**changes: str) -> bytes:
    values = {
        "id": "1@example.org", "sender": "Wardgate <wardgate@example.org>", "subject": "s", "text": "text",
        "html": "<p>html</p>",
    }  # fmt: skip
    return MailMessage(**{**values, **changes}, written_at=AT).encode()
