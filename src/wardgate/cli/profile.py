"""The data directory and the profile in it: where the portal is and with what tokens, for the commands that only call it.

Apart from `portal_settings`, so that a caller of REST loads neither the store nor the portal.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from wardgate.cli.errors import UserError
from wardgate.cli.settings import Settings
from wardgate.portal import data_directory
from wardgate.portal.data_directory import DataDirectoryUnusable


def data_dir_of(settings: Settings, flag: Path | None) -> Path:
    """Return the data directory: as configured, else /var/lib/wardgate for root and ~/.local/share/wardgate."""
    default = Path("/var/lib/wardgate") if os.geteuid() == 0 else Path.home() / ".local/share/wardgate"
    return settings.path("data_dir", flag, default).absolute()


@dataclass(frozen=True, slots=True)
class Profile:
    """Where REST is and with what tokens, as `init` leaves it for the other commands (mode 0600).

    Attributes:
        web_url: how browsers reach the portal; none: a profile of an earlier version, where it is not told.
    """

    url: str
    token: str
    operator_token: str | None = None
    web_url: str | None = None

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
            data_directory.write_private(path, json.dumps(asdict(self), indent=1).encode())
        except DataDirectoryUnusable as error:
            raise UserError(str(error)) from error

    @classmethod
    def load(cls, path: Path) -> "Profile | None":
        """Read the file; none: there is none.

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
