"""The headers by which browsers protect their users."""

from typing import Final

from wardgate.portal.http.headers import RawHeaders, raw_headers

HSTS: Final = "max-age=63072000; includeSubDomains; preload"  # rest-api §1, identity §16


def transport_security(*, is_secure: bool) -> RawHeaders:
    """Return the header that makes browsers insist on HTTPS, if the portal is reached over HTTPS."""
    return raw_headers({"strict-transport-security": HSTS}) if is_secure else []


def page_security(nonce: str) -> RawHeaders:
    """Return the headers of every page and asset: scripts and styles need the nonce, and framing is
    forbidden.
    """
    policy = (
        "default-src 'none'",
        f"script-src 'nonce-{nonce}'",
        f"style-src 'nonce-{nonce}'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
    return raw_headers(
        {
            "content-security-policy": "; ".join(policy),
            "x-content-type-options": "nosniff",
            "x-frame-options": "DENY",
            "referrer-policy": "no-referrer",
            "cross-origin-opener-policy": "same-origin",
        }
    )


API_SECURITY: Final = raw_headers({"x-content-type-options": "nosniff", "cache-control": "no-store"})
"""What every answer of the API carries."""
