"""What `init`, `portal`, `sign-in-link` and `up` have in common: the data directory, the portal's settings, the profile file."""

import json
import os
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from wardgate.cli.errors import UserError
from wardgate.cli.settings import Settings
from wardgate.portal import data_directory
from wardgate.portal.data_directory import DataDirectoryUnusable
from wardgate.portal.settings import DEFAULT_PORT, PortalSettings
from wardgate.portal.store import Database, parse_database_url


def data_dir_of(settings: Settings, flag: Path | None) -> Path:
    """Return the data directory: as configured, else /var/lib/wardgate for root and ~/.local/share/wardgate."""
    default = Path("/var/lib/wardgate") if os.geteuid() == 0 else Path.home() / ".local/share/wardgate"
    return settings.path("data_dir", flag, default).absolute()


def parse_listen(text: str) -> tuple[str, int]:
    """Parse `HOST:PORT`, `[::]:PORT`, `:PORT` or `PORT`.

    Raises:
        UserError: anything else.
    """
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdecimal() and int(port) < 65536) or (
        ":" in host and not host.startswith("[")
    ):
        raise UserError(f"--listen {text!r} is not HOST:PORT, such as 127.0.0.1:8080 or [::]:8080")
    return host.strip("[]") or "127.0.0.1", int(port)


def portal_settings(
    settings: Settings, *, data_dir: Path, listen: str | None, external_url: str | None
) -> PortalSettings:
    """Read everything that one portal process is configured by.

    Raises:
        UserError: naming the setting that cannot be read.
    """
    host, port = parse_listen(settings.text("listen", listen, f"127.0.0.1:{DEFAULT_PORT}"))
    certificate, key = settings.path("tls_certificate", None, None), settings.path("tls_key", None, None)
    if (certificate is None) != (key is None):
        raise UserError("tls_certificate and tls_key go together: give both or neither")
    return PortalSettings(
        data_dir=data_dir,
        database_url=database_of(settings, None),
        host=host,
        port=port,
        external_url=external_url_of(settings, external_url, host, port, is_secure=certificate is not None),
        trusted_proxies=tuple(_network(text) for text in settings.texts("trusted_proxies", None, [])),
        metrics_port=settings.integer("metrics_port", None, None),
        api_refill_per_s=float(settings.integer("api_refill_rate", None, 10)),
        api_capacity=float(settings.integer("api_capacity", None, 200)),
        tls_certificate=certificate,
        tls_key=key,
    )


def external_url_of(
    settings: Settings, flag: str | None, host: str, port: int, *, is_secure: bool = False
) -> str:
    """Return how the portal is reached from outside, without trailing slash.

    Raises:
        UserError: not an http or https URL.
    """
    named = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}.get(host, host)  # noqa: S104 - compared, not bound
    authority = f"[{named}]" if ":" in named else named
    default = f"{'https' if is_secure else 'http'}://{authority}:{port}"
    url = settings.text("external_url", flag, default).rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise UserError(f"--external-url {url!r} does not begin with http:// or https://")
    return url


def database_of(settings: Settings, flag: str | None) -> Database | None:
    """Return the database that `WARDGATE_DATABASE_URL` names; none: SQLite in the data directory.

    Raises:
        UserError: it cannot be read; the URL is not repeated, it may hold a password.
    """
    text = settings.text("database_url", flag, None)
    if text is None:
        return None
    try:
        return parse_database_url(text)
    except ValueError as error:
        raise UserError(f"WARDGATE_DATABASE_URL cannot be read: {error}") from error


def sign_in_url(external_url: str, slug: str, link: str) -> str:
    """Return the address that a one-time link stands for."""
    return f"{external_url}/{slug}/sign_in/link/{link}"


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text, strict=False)
    except ValueError as error:
        raise UserError(f"trusted_proxies: {error}") from error


@dataclass(frozen=True, slots=True)
class Profile:
    """Where REST is and with what token, as `init` leaves it for the other commands (mode 0600)."""

    url: str
    token: str

    @staticmethod
    def path(settings: Settings, data_dir: Path) -> Path:
        """Return the profile file: as configured, else `profile.json` in the data directory."""
        return settings.path("profile", None, data_dir / "profile.json")

    def save(self, path: Path) -> None:
        """Write the file.

        Raises:
            UserError: it cannot be written.
        """
        try:
            data_directory.write_private(
                path, json.dumps({"url": self.url, "token": self.token}, indent=1).encode()
            )
        except DataDirectoryUnusable as error:
            raise UserError(str(error)) from error

    @classmethod
    def load(cls, path: Path) -> "Profile | None":
        """Read the file; none: there is none.

        Raises:
            UserError: it cannot be read.
        """
        try:
            stored = json.loads(path.read_text())
            return cls(str(stored["url"]), str(stored["token"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"cannot read the profile {path}: {error}; delete it or run `wardgate init`"
            ) from error
