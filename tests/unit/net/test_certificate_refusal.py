"""Why a certificate is not accepted: who reads it can tell a wrong clock from a wrong certificate."""

import ssl
from datetime import UTC, datetime

import pytest

from wardgate.net.certificate_refusal import certificate_refusal

NOW = datetime(2028, 1, 4, 18, 20, tzinfo=UTC)


OF_TIME = ", says this host's clock, on which it is 2028-01-04 18:20 UTC"


@pytest.mark.parametrize(
    ("code", "reason", "added"),
    [
        (9, "certificate is not yet valid", OF_TIME),
        (10, "certificate has expired", OF_TIME),
        (62, "Hostname mismatch", ""),
    ],
)
def test_the_time_here_is_told_where_it_is_the_reason(code: int, reason: str, added: str) -> None:
    error = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed")
    error.verify_code, error.verify_message = code, reason
    assert certificate_refusal(error, now=NOW) == reason + added
