"""Codes of authenticator apps (TOTP, RFC 6238): six digits of HMAC-SHA1, a new one every 30 seconds, which is what all
apps can do. A code of the step before or after is taken too, for clocks differ; none is taken twice (RFC 6238 §5.2).
"""

import base64
import hmac
from datetime import datetime
from typing import Final

import pyotp
import segno

SECRET_BYTES: Final = 20  # RFC 4226 §4, R6
STEP_S: Final = 30
STEPS_OFF: Final = 1
DIGITS: Final = 6


def step_at(now: datetime) -> int:
    """Return the time step of an instant."""
    return int(now.timestamp()) // STEP_S


def matching_step(secret: bytes, typed: str, *, now: datetime, after: int) -> int | None:
    """Return the step whose code was typed; None if it is that of no step that may be used now.

    Args:
        after: the last step that was used.
    """
    totp, found = _totp(secret), None
    for step in range(step_at(now) - STEPS_OFF, step_at(now) + STEPS_OFF + 1):
        if hmac.compare_digest(totp.generate_otp(step).encode(), typed.encode()) and step > after:
            found = step
    return found


def secret_text(secret: bytes) -> str:
    """Return a secret as people type it into an app: base32, in groups of four."""
    text = base64.b32encode(secret).decode()
    return " ".join(text[first : first + 4] for first in range(0, len(text), 4))


def setup_uri(secret: bytes, *, person: str, account: str) -> str:
    """Return the address that apps read from a QR code."""
    return _totp(secret).provisioning_uri(name=person, issuer_name=account)


def qr_svg(uri: str) -> str:
    """Return a QR code as an SVG element, dark on light in every theme, as cameras want it."""
    return segno.make(uri, error="m", micro=False).svg_inline(
        scale=4, border=3, dark="#000", light="#fff", svgclass=None, lineclass=None, omitsize=False
    )


def _totp(secret: bytes) -> pyotp.TOTP:
    return pyotp.TOTP(base64.b32encode(secret).decode(), digits=DIGITS, interval=STEP_S)
