"""Addresses of mail servers."""

import pytest

from wardgate.portal.mail.server import SmtpServer, Tls


@pytest.mark.parametrize(
    ("url", "host", "port", "tls"),
    [
        ("smtp://mail.example.org", "mail.example.org", 587, Tls.IF_OFFERED),
        ("smtp://127.0.0.1:2525", "127.0.0.1", 2525, Tls.IF_OFFERED),
        ("smtp://[::1]:2525/", "::1", 2525, Tls.IF_OFFERED),
        ("smtp://mail.example.org?tls=required", "mail.example.org", 587, Tls.REQUIRED),
        ("smtp://mail.example.org:25?tls=none", "mail.example.org", 25, Tls.NONE),
        ("smtps://mail.example.org", "mail.example.org", 465, Tls.AT_ONCE),
    ],
)
def test_a_server_is_read_from_its_url(url: str, host: str, port: int, tls: Tls) -> None:
    server = SmtpServer.parse(url)
    assert (server.host, server.port, server.tls) == (host, port, tls)


def test_a_password_is_decoded_needs_tls_and_is_not_shown() -> None:
    server = SmtpServer.parse("smtp://ada%40example.org:s3%2Fcret@mail.example.org")
    assert (server.user, server.password, server.tls) == ("ada@example.org", "s3/cret", Tls.REQUIRED)
    assert "s3" not in repr(server)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mail.example.org",
        "http://mail.example.org",
        "smtp://",
        "smtp://mail.example.org:0x19",
        "smtp://mail.example.org:99999",
        "smtp://mail.example.org/path",
        "smtp://user@mail.example.org",
        "smtp://mail.example.org?tls=maybe",
        "smtps://mail.example.org?tls=none",
        "smtp://mail.example.org?timeout=3",
        "smtp://user:s3cret@[::1",
    ],
)
def test_what_is_no_server_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match=r".") as refusal:
        SmtpServer.parse(url)
    assert "s3cret" not in str(refusal.value)
