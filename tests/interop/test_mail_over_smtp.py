"""The mail adapter against a real SMTP server (aiosmtpd) on loopback."""

import asyncio
import json
import os
import re
import ssl
import sys
from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import httpx2
import pytest
from aiosmtpd.smtp import AuthResult, LoginPassword

from support.browser import caller
from support.certificates import write_certificate
from support.patience import PATIENCE_S
from support.portal import make_world, portal_running
from support.sign_in import ask_for_code, send_form
from support.smtp_sink import Sink, mailer, serving
from wardgate.portal.mail.message import MailMessage, Refusal

WARDGATE = (sys.executable, "-m", "wardgate.cli.main")

MESSAGE = MailMessage(
    id="1@example.org",
    sender="Wardgate <wardgate@example.org>",
    subject="Grüße",
    text=".a line that begins with a dot\n",
    html="<p>text</p>",
    written_at=datetime(2026, 12, 1, tzinfo=UTC),
)


async def test_a_message_arrives_as_it_was_written() -> None:
    async with serving(Sink()) as sink:
        refused = await mailer(sink).send(MESSAGE, ["ada@example.org", "bob@example.org"])
    assert refused == {}
    (envelope,) = sink.taken
    assert (envelope.mail_from, envelope.rcpt_tos) == (
        "wardgate@example.org",
        ["ada@example.org", "bob@example.org"],
    )
    assert isinstance(envelope.content, bytes)
    parsed = message_from_bytes(envelope.content, policy=default)
    assert (parsed["Subject"], parsed["Message-ID"]) == ("Grüße", "<1@example.org>")
    assert next(parsed.iter_parts()).get_content().strip() == ".a line that begins with a dot"
    assert b"ada@example.org" not in envelope.content
    assert sink.hosts == ["example.org"]


async def test_refused_recipients_are_told_with_their_codes_and_the_others_get_it() -> None:
    to_recipient = {"gone@example.org": "550 no such user", "full@example.org": "452 try later"}
    async with serving(Sink(to_recipient=to_recipient)) as sink:
        refused = await mailer(sink).send(
            MESSAGE, ["gone@example.org", "ada@example.org", "full@example.org"]
        )
    assert refused == {"gone@example.org": Refusal(550), "full@example.org": Refusal(452)}
    assert [refused[one].is_permanent for one in sorted(refused)] == [False, True]
    assert [envelope.rcpt_tos for envelope in sink.taken] == [["ada@example.org"]]


async def test_when_all_recipients_are_refused_nothing_is_taken() -> None:
    async with serving(Sink(to_recipient={"gone@example.org": "550 no such user"})) as sink:
        assert await mailer(sink).send(MESSAGE, ["gone@example.org"]) == {"gone@example.org": Refusal(550)}
    assert sink.taken == []


async def test_a_refused_message_is_an_error_with_the_servers_code() -> None:
    async with serving(Sink(to_message="554 we do not like it")) as sink:
        with pytest.raises(OSError, match="554 we do not like it"):
            await mailer(sink).send(MESSAGE, ["ada@example.org"])


async def test_a_server_that_is_not_there_is_an_error() -> None:
    async with serving(Sink()) as sink:
        pass
    with pytest.raises(OSError, match=r"(?i)connect"):
        await mailer(sink).send(MESSAGE, ["ada@example.org"])


async def test_a_hostile_sender_is_not_sent() -> None:
    async with serving(Sink()) as sink:
        with pytest.raises(ValueError, match=r"(?i)header|linefeed|carriage"):
            await mailer(sink).send(
                replace(MESSAGE, sender="wardgate@example.org\r\nBcc: eve@evil.example"), ["ada@example.org"]
            )
    assert sink.taken == []


@pytest.mark.filterwarnings("ignore:Requiring AUTH", "ignore:Session.login_data")  # the server's own
@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
async def test_a_password_is_used_over_tls_that_a_known_authority_signed(tmp_path: Path, scheme: str) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    write_certificate(certificate, key, name="localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    asked: list[LoginPassword] = []

    def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        asked.append(data)
        return AuthResult(success=data == LoginPassword(b"ada@example.org", b"s3cret"), handled=False)

    at_once = scheme == "smtps"
    async with serving(
        Sink(),
        tls=context if at_once else None,
        tls_context=None if at_once else context,
        authenticator=authenticate,
        auth_required=True,
        auth_require_tls=not at_once,
    ) as sink:
        options = f"?ca_file={certificate}"
        await mailer(sink, scheme, "ada%40example.org:s3cret@", options).send(MESSAGE, ["ada@example.org"])
        assert (len(sink.taken), sink.was_encrypted) == (1, [True])
        with pytest.raises(OSError, match="535"):
            await mailer(sink, scheme, "ada%40example.org:wrong@", options).send(MESSAGE, ["ada@example.org"])
        with pytest.raises(OSError, match=r"(?i)certificate"):
            await mailer(sink, scheme, "ada%40example.org:s3cret@").send(MESSAGE, ["ada@example.org"])
    assert asked[0].password == b"s3cret"


async def test_a_password_is_not_sent_in_clear() -> None:
    async with serving(Sink()) as sink:
        with pytest.raises(OSError, match=r"(?i)starttls"):
            await mailer(sink, user="ada:s3cret@").send(MESSAGE, ["ada@example.org"])
    assert sink.taken == []


async def test_a_portal_writes_to_the_admins_of_an_account_that_is_to_be_deleted(tmp_path: Path) -> None:
    arrived = asyncio.Event()
    async with serving(Sink(on_message=arrived.set)) as sink:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "WARDGATE_DATA_DIR": str(tmp_path / "data"),
            "WARDGATE_LISTEN": "127.0.0.1:0",
            "WARDGATE_LOG_FORMAT": "json",
            "WARDGATE_SMTP_URL": f"smtp://127.0.0.1:{sink.port}",
            "WARDGATE_MAIL_FROM": "Wardgate <wardgate@example.org>",
        }
        names = ["--account-name", "Acme", "--account-slug", "acme", "--admin-email", "ada@acme.example"]
        init = await asyncio.create_subprocess_exec(
            *WARDGATE, "init", "--json", *names, env=environment, stdout=asyncio.subprocess.PIPE
        )
        told = json.loads((await init.communicate())[0])
        portal = await asyncio.create_subprocess_exec(
            *WARDGATE, "portal", env=environment, stderr=asyncio.subprocess.PIPE
        )
        try:
            headers = {"authorization": f"Bearer {told['operator_token']}"}
            async with httpx2.AsyncClient(base_url=await url_of(portal), headers=headers) as operator:
                assert (await operator.get("/wardgate/health")).json()["data"]["mail"] == "smtp"
                path = f"/wardgate/accounts/{told['account_id']}/deletion"
                answer = await operator.post(path, json={"deletion": {"slug": "acme"}})
                assert answer.status_code == 201
            await asyncio.wait_for(arrived.wait(), PATIENCE_S)
        finally:
            portal.terminate()
            await portal.communicate()
    (envelope,) = sink.taken
    assert (envelope.mail_from, envelope.rcpt_tos) == ("wardgate@example.org", ["ada@acme.example"])


async def url_of(portal: asyncio.subprocess.Process) -> str:
    """Return where a portal that was just started answers; it says so in its log."""
    assert portal.stderr is not None
    while line := await asyncio.wait_for(portal.stderr.readline(), PATIENCE_S):
        if "portal ready" in (said := json.loads(line))["event"]:
            return f"http://{said['listen']}"
    raise AssertionError("the portal did not start")


async def test_a_sign_in_code_arrives_and_signs_in() -> None:
    arrived = asyncio.Event()
    async with (
        serving(Sink(on_message=arrived.set)) as sink,
        portal_running(mailer=mailer(sink)) as portal,
        caller(portal) as browser,
    ):
        await make_world(portal)
        page = await ask_for_code(browser, "admin@acme.example")
        await asyncio.wait_for(arrived.wait(), PATIENCE_S)
        (envelope,) = sink.taken
        assert envelope.rcpt_tos == ["admin@acme.example"]
        assert isinstance(envelope.content, bytes)
        parsed = message_from_bytes(envelope.content, policy=default)
        text, page_of_it = (part.get_content() for part in parsed.iter_parts())
        found = re.search(r"^  ([a-z0-9]{6})\r?$", text, re.MULTILINE)
        assert found is not None
        assert found[1] in page_of_it
        assert found[1] in parsed["Subject"]
        signed_in = await send_form(browser, page, {"secret": found[1]}, action="/verify")
        assert signed_in.headers["location"] == "/acme"
