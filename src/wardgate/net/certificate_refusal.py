"""Why the certificate of the portal is not accepted, in words that tell a wrong clock from a wrong certificate."""

import ssl
from datetime import UTC, datetime
from typing import Final

_NOT_YET_VALID: Final = 9  # X509_V_ERR_CERT_NOT_YET_VALID of OpenSSL's x509_vfy.h
_HAS_EXPIRED: Final = 10  # X509_V_ERR_CERT_HAS_EXPIRED


def certificate_refusal(error: ssl.SSLCertVerificationError, *, now: datetime | None = None) -> str:
    """Return OpenSSL's reason; where it is a matter of time, with the time it is on this host (`now`: of the clock)."""
    if error.verify_code not in {_NOT_YET_VALID, _HAS_EXPIRED}:
        return error.verify_message
    now = datetime.now(UTC) if now is None else now
    return f"{error.verify_message}, says this host's clock, on which it is {now:%Y-%m-%d %H:%M} UTC"
