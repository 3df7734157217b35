"""The headers by which browsers protect their users."""

from typing import Final

from wardgate.portal.http.headers import RawHeaders, raw_headers

HSTS: Final = "max-age=63072000; includeSubDomains; preload"  # rest-api §1, identity §16


def transport_security(*, is_secure: bool) -> RawHeaders:
    """Return what makes browsers insist on HTTPS; nothing for a portal that people reach over plain HTTP."""
    return raw_headers({"strict-transport-security": HSTS}) if is_secure else []


def page_security(nonce: str) -> RawHeaders:
    """Return what every page and asset carries: scripts and styles run only if they show the nonce, and nobody frames the page."""
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
