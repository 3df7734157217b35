"""The portal's certificate: two PEM files that may change while it runs.

The listener's context hands every new connection to the newest certificate that could be loaded, so that
renewing one needs neither a restart nor a signal. The files are looked at once a second. Connections that
exist keep what they began with.
"""

import logging
import ssl
from pathlib import Path
from typing import Final

from wardgate.portal.environment import Clock
from wardgate.portal.followed_files import FollowedFiles
from wardgate.portal.http2 import ALPN as HTTP2

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 1.0


class CertificateUnusable(Exception):
    """The message names the file and what is wrong with it."""


class Certificate:
    """A certificate with its key, by files; both are read at once.

    Attributes:
        context: what the listener is given.

    Raises:
        CertificateUnusable: a file is missing, or the two are no pair.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self._followed = FollowedFiles(certificate, key)
        self._newest = self._load()
        self.context = self._load()
        self.context.sni_callback = self._choose

    async def watch(self, clock: Clock) -> None:
        """Follow the files for ever."""
        while True:
            await clock.sleep(LOOK_EVERY_S)
            self.look()

    def look(self) -> None:
        """Load the files if they have changed."""
        if not self._followed.take_change():
            return
        try:
            self._newest = self._load()
        except CertificateUnusable as error:
            log.warning(
                "the new TLS files cannot be used, the old certificate stays", extra={"error": str(error)}
            )
        else:
            log.info("a new TLS certificate is in use", extra={"certificate": str(self._files[0])})

    def _choose(
        self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext
    ) -> None:
        """Called in every handshake, also in those that name no host."""
        connection.context = self._newest

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols([HTTP2, "http/1.1"])
        certificate, key = self._files
        try:
            # Without a password the key would be asked for on the terminal.
            context.load_cert_chain(certificate, key, password=b"")
        except OSError as error:
            raise CertificateUnusable(_why(certificate, key, error)) from error
        return context


def _why(certificate: Path, key: Path, error: OSError) -> str:
    """Say in words why OpenSSL does not take two files; its own message names neither."""
    try:
        shown, secret = certificate.read_bytes(), key.read_bytes()
    except OSError as unreadable:
        return f"cannot read {unreadable.filename}: {unreadable.strerror}"
    if b"-----BEGIN CERTIFICATE-----" not in shown:
        return f"{certificate} holds no certificate in PEM format"
    if b"PRIVATE KEY-----" not in secret:
        return f"{key} holds no private key in PEM format"
    if b"ENCRYPTED" in secret:
        return f"the key {key} has a password: take it off"
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return f"the key {key} does not belong to the certificate {certificate}"
    return f"{certificate} or {key} is damaged"
