"""What `wardgate portal` warns of when it is ready."""

import logging

import pytest

from wardgate.cli.portal import warn_of
from wardgate.portal.settings import PortalSettings

EXPOSED = "this is plain HTTP on a public address"
NO_UPLOADS = "published peers upload no flow logs"


@pytest.mark.parametrize(
    ("external_url", "warnings"),
    [
        ("http://portal.example.org", [EXPOSED, NO_UPLOADS]),
        ("http://8.8.4.4:8080", [EXPOSED, NO_UPLOADS]),
        ("http://10.0.0.5:8080", [NO_UPLOADS]),
        ("http://localhost:8080", [NO_UPLOADS]),
        ("https://portal.example.org", []),
    ],
)
def test_plain_http_on_a_public_address_is_warned_of(
    external_url: str, warnings: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        warn_of(PortalSettings(external_url=external_url))
    assert [
        record.message[: len(said)] for record, said in zip(caplog.records, warnings, strict=True)
    ] == warnings
