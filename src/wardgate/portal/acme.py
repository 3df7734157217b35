"""A certificate from an ACME server (RFC 8555): got when there is none, and renewed in time.

The proof is `http-01` (RFC 8555 §8.3): the server asks for a file over plain HTTP, which `portal.plain_http` answers
from `proofs`. Key and chain are one file, replaced in one step, so that nobody sees half of a renewal; the
listener follows it (`portal.tls`). Until the first certificate is there, the file holds a self-signed one: the
portal answers, and a browser warns.

The ACME library is an extra (`wardgate[acme]`) and blocking: it is imported and called in a thread of its own.
"""

import logging
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from wardgate.portal.environment import Clock, in_own_thread
from wardgate.portal.settings import AcmeSettings

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 3600.0
FIRST_PAUSE_S: Final = 60.0
LONGEST_PAUSE_S: Final = 6 * 3600.0
"""Let's Encrypt takes five failed proofs of a name an hour; a pause doubles until it is this long."""

_TEMPORARY: Final = timedelta(days=7)


class OrderFailed(Exception):
    """No certificate was issued; the message says why in the server's words."""


def certificate_file(data_dir: Path, settings: AcmeSettings) -> Path:
    """Return where the certificate of a server's is kept, with its key.

    Each server has a directory of its own: a change from a server for trials to the real one begins afresh.
    """
    directory = urlsplit(settings.directory_url)
    return data_dir / "acme" / (directory.netloc or "server").replace(":", "_") / "certificate.pem"


class AcmeCertificate:
    """Keeps one file valid.

    Attributes:
        proofs: key authorizations by token, while an order is under way.
    """

    def __init__(self, settings: AcmeSettings, file: Path, *, clock: Clock, rng: Random) -> None:
        self._settings = settings
        self._file = file
        self._clock = clock
        self._rng = rng
        self.proofs: dict[str, str] = {}

    def prepare(self) -> None:
        """See to it that the file exists.

        Raises:
            OrderFailed: the library is missing, or the directory cannot be written.
        """
        try:
            import acme  # noqa: F401
        except ImportError:
            raise OrderFailed(
                "acme_domain needs the ACME library: install wardgate with the extra `acme`"
            ) from None
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._leaf() is None:
                _write(self._file, _self_signed(self._settings.domains, self._clock.now()))
        except OSError as error:
            raise OrderFailed(
                f"cannot keep a certificate in {self._file.parent}: {error.strerror}"
            ) from error

    async def keep_valid(self) -> None:
        """Order a certificate whenever one is due, for ever."""
        pause_s = FIRST_PAUSE_S
        while True:
            if self.is_due(self._clock.now()):
                try:
                    await self._order()
                except OrderFailed as failure:
                    log.warning(
                        "no certificate from the ACME server, trying again",
                        extra={"error": str(failure), "in_s": round(pause_s)},
                    )
                    await self._clock.sleep(pause_s * self._rng.uniform(0.9, 1.1))
                    pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                    continue
                pause_s = FIRST_PAUSE_S
            await self._clock.sleep(LOOK_EVERY_S * self._rng.uniform(0.9, 1.1))

    def is_due(self, now: datetime) -> bool:
        """Tell whether the certificate is no server's, lacks a name, or has less than a third of its life left."""
        leaf = self._leaf()
        if leaf is None or leaf.issuer == leaf.subject or not set(self._settings.domains) <= _names(leaf):
            return True
        ends = leaf.not_valid_after_utc
        return now >= ends - (ends - leaf.not_valid_before_utc) / 3

    async def _order(self) -> None:
        log.info("ordering a certificate", extra={"domains": ", ".join(self._settings.domains)})
        pem = await in_own_thread(self._ordered)
        try:
            leaf = _leaf_of(pem)
            if not set(self._settings.domains) <= _names(leaf):
                raise OrderFailed("the server's certificate is for other names")
            _write(self._file, pem)
        except (OSError, ValueError) as failure:
            raise OrderFailed(f"the server's certificate cannot be used: {failure}") from failure
        log.info("a certificate was issued", extra={"until": f"{leaf.not_valid_after_utc:%Y-%m-%d}"})

    def _ordered(self) -> bytes:
        """Go through an order (RFC 8555 §7.4), blocking; return key and chain in PEM.

        Raises:
            OrderFailed
        """
        from acme import challenges, errors, messages
        from josepy.errors import Error as JoseError
        from requests.exceptions import RequestException

        try:
            client = self._client()
            key = ec.generate_private_key(ec.SECP256R1())
            order = client.new_order(_signing_request(key, self._settings.domains))
            for authorization in order.authorizations:
                if authorization.body.status == messages.STATUS_VALID:
                    continue  # proved a short while ago
                offered = [
                    one for one in authorization.body.challenges if isinstance(one.chall, challenges.HTTP01)
                ]
                if not offered:
                    raise OrderFailed(f"{authorization.body.identifier.value}: the server offers no http-01")
                response, validation = offered[0].response_and_validation(client.net.key)
                self.proofs[offered[0].chall.encode("token")] = validation
                client.answer_challenge(offered[0], response)
            done = client.poll_and_finalize(order)
        except errors.ValidationError as failure:
            raise OrderFailed("; ".join(_told(one) for one in failure.failed_authzrs)) from failure
        except (errors.Error, messages.Error, JoseError, RequestException, OSError, ValueError) as failure:
            raise OrderFailed(str(failure) or type(failure).__name__) from failure
        finally:
            self.proofs.clear()
        chain: str = done.fullchain_pem
        return _pem(key) + chain.encode()

    def _client(self) -> Any:
        """Return a client with an account at the server: the one of our key, made if there is none."""
        from acme import client, errors, messages
        from josepy.jwa import ES256
        from josepy.jwk import JWKEC

        key = self._account_key()
        net = client.ClientNetwork(JWKEC(key=key), alg=ES256, user_agent="wardgate", timeout=30)
        if self._settings.ca is not None:
            # `requests` takes a file as well as a boolean.
            net.verify_ssl = str(self._settings.ca)  # type: ignore[assignment]
        directory = client.ClientV2.get_directory(self._settings.directory_url, net)
        connected = client.ClientV2(directory, net)
        if connected.external_account_required():
            raise OrderFailed("the server wants an account made elsewhere (external account binding)")
        registration = messages.NewRegistration.from_data(
            email=self._settings.email, terms_of_service_agreed=True
        )
        try:
            connected.new_account(registration)
        except errors.ConflictError as there:
            known = messages.RegistrationResource(uri=there.location, body=messages.Registration())
            connected.query_registration(known)
        return connected

    def _account_key(self) -> ec.EllipticCurvePrivateKey:
        file = self._file.with_name("account.pem")
        if file.exists():
            key = serialization.load_pem_private_key(file.read_bytes(), password=None)
            if not isinstance(key, ec.EllipticCurvePrivateKey):
                raise OrderFailed(f"{file} is not the key of an account; remove it to have another one")
            return key
        key = ec.generate_private_key(ec.SECP256R1())
        _write(file, _pem(key))
        return key

    def _leaf(self) -> x509.Certificate | None:
        """Return the certificate in the file; None if there is none that can be read."""
        try:
            return _leaf_of(self._file.read_bytes())
        except (OSError, ValueError):
            return None


def _leaf_of(pem: bytes) -> x509.Certificate:
    """Return the first certificate behind a key. Raises ValueError: there is none."""
    return x509.load_pem_x509_certificate(pem[pem.index(b"-----BEGIN CERT") :])


def _told(authorization: Any) -> str:
    """Say why a proof was not taken: the server's `detail` names the address and what it found there."""
    why = [str(one.error.detail) for one in authorization.body.challenges if one.error is not None]
    return f"{authorization.body.identifier.value}: {', '.join(why) or 'the proof was not taken'}"


def _signing_request(key: ec.EllipticCurvePrivateKey, domains: tuple[str, ...]) -> bytes:
    """Return a request (PKCS #10) in PEM."""
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in domains]), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


def _self_signed(domains: tuple[str, ...], now: datetime) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Wardgate, until a certificate is issued")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _TEMPORARY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in domains]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _pem(key) + certificate.public_bytes(serialization.Encoding.PEM)


def _names(certificate: x509.Certificate) -> set[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return set()
    return set(found.value.get_values_for_type(x509.DNSName))


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(file: Path, content: bytes) -> None:
    """Replace a secret file in one step."""
    new = file.with_suffix(".new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600, exist_ok=False)
    new.write_bytes(content)
    new.replace(file)
