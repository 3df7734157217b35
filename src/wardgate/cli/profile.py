"""The data directory and the profile in it: where the portal is and with what tokens, for the commands that
only call it.

Apart from `portal_settings`, so that a caller of REST loads neither the store nor the portal.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from wardgate.cli.commands import rest
from wardgate.cli.commands.portal import DATA_DIR
from wardgate.cli.errors import UserError
from wardgate.cli.settings import Settings

_OF_THE_SERVICE: Final = Path("/var/lib/wardgate")


def data_dir_of(settings: Settings) -> Path:
    """Return the data directory: as configured, else /var/lib/wardgate for root and the service's own user (whose home
    it is), and ~/.local/share/wardgate for anybody else.
    """
    is_of_the_service = os.geteuid() == 0 or Path.home() == _OF_THE_SERVICE
    default = _OF_THE_SERVICE if is_of_the_service else Path.home() / ".local/share/wardgate"
    return (settings[DATA_DIR] or default).absolute()


@dataclass(frozen=True, slots=True)
class Profile:
    """Where REST is and with what tokens, as `init` leaves it for the other commands (mode 0600).

    Attributes:
        web_url: how browsers reach the portal; None in a profile that an earlier version wrote.
    """

    url: str
    token: str
    operator_token: str | None = None
    web_url: str | None = None

    @staticmethod
    def path(settings: Settings, data_dir: Path) -> Path:
        """Return the profile file: as configured, else `profile.json` in the data directory."""
        return settings[rest.PROFILE] or data_dir / "profile.json"

    def save(self, path: Path) -> None:
        """Write the file.

        Raises:
            UserError: it cannot be written.
        """
        from wardgate.portal import (
            data_directory,
        )  # it loads the cryptography that only a data directory needs

        try:
            data_directory.write_private(path, json.dumps(asdict(self), indent=1).encode())
        except data_directory.DataDirectoryUnusable as error:
            raise UserError(str(error)) from error

    @classmethod
    def load(cls, path: Path) -> "Profile | None":
        """Return the profile in a file, or None if there is no file.

        Raises:
            UserError: it cannot be read, or others than its owner can.
        """
        try:
            if path.stat().st_mode & 0o077:
                raise UserError(f"the profile {path} holds tokens and is open to other users: chmod 600 it")
            stored = json.loads(path.read_text())
            operator_token, web_url = stored.get("operator_token"), stored.get("web_url")
            return cls(
                str(stored["url"]),
                str(stored["token"]),
                None if operator_token is None else str(operator_token),
                None if web_url is None else str(web_url),
            )
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise UserError(f"cannot read the profile {path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"the profile {path} is damaged: delete it and run `wardgate init --new-tokens`"
            ) from error


def find_profile(settings: Settings, *, is_operator: bool = False) -> Profile:
    """Find address and token: options, `WARDGATE_URL` and `WARDGATE_TOKEN`, then the profile file of
    `wardgate init`.

    For what is the operator's, `WARDGATE_OPERATOR_TOKEN` comes before `WARDGATE_TOKEN`, and the profile's
    operator token takes the place of its API token.

    Raises:
        UserError: neither place has them, or the profile is open to others.
    """
    url, token = settings[rest.URL], settings[rest.TOKEN_FILE]
    if token is None and is_operator:
        token = settings[rest.OPERATOR_TOKEN]
    token = token or settings[rest.TOKEN]
    stored: Profile | None = None
    if url is None or token is None:
        stored = Profile.load(Profile.path(settings, data_dir_of(settings)))
    if stored is not None:
        url = url or stored.url
        token = token or (stored.operator_token if is_operator else stored.token)
    if url is None or token is None:
        wanted = "WARDGATE_OPERATOR_TOKEN" if is_operator else "WARDGATE_TOKEN"
        raise UserError(
            f"where is the portal, and with what token? Set WARDGATE_URL and {wanted}, or run `wardgate init`"
        )
    return Profile(url.rstrip("/"), token)
