"""The data directory: database, master secret, lock; everything readable by its owner only.

wardgate.db     the store
secret.key      32 random bytes; every other key derives from it
lock            held by the running portal, so that two never serve one database
"""

import errno
import fcntl
import os
import pwd
import random
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final

from wardgate.portal.keys import MASTER_BYTES, Keys

if TYPE_CHECKING:  # commands that only read a profile here must not load a database's libraries
    from wardgate.portal.database.location import Database

SECRET_FILE: Final = "secret.key"  # noqa: S105 - a file name
LOCK_FILE: Final = "lock"


class DataDirectoryUnusable(Exception):
    """The message names the path and the cure."""


def prepare(path: Path) -> None:
    """Make the directory (mode 0700) if it is missing.

    Raises:
        DataDirectoryUnusable: it cannot be made, or is not a writable directory.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise DataDirectoryUnusable(f"the data directory {path} is no directory") from error
    except OSError as error:
        raise DataDirectoryUnusable(f"cannot make the data directory {path}: {error.strerror}") from error
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise DataDirectoryUnusable(f"the data directory {path} is not writable: check its owner and mode")


def require_own(path: Path) -> None:
    """Check that root writes no files that the portal of another user could not read then.

    Raises:
        DataDirectoryUnusable: this is root, and the directory is somebody else's.
    """
    owner = path.stat().st_uid if path.exists() else os.geteuid()
    if os.geteuid() == 0 and owner != 0:
        name = next((one.pw_name for one in pwd.getpwall() if one.pw_uid == owner), f"#{owner}")
        raise DataDirectoryUnusable(
            f"the data directory {path} is {name}'s: run this as that user, `sudo -u {name} wardgate …`"
        )


def load_keys(path: Path) -> Keys:
    """Read the master secret.

    Raises:
        DataDirectoryUnusable: it is missing (run `wardgate init`), unreadable or too short.
    """
    file = path / SECRET_FILE
    try:
        return Keys.derive(file.read_bytes())
    except FileNotFoundError as error:
        raise DataDirectoryUnusable(
            f"there is no installation in {path}: run `wardgate init --data-dir {path}` first"
        ) from error
    except OSError as error:
        raise DataDirectoryUnusable(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:
        raise DataDirectoryUnusable(f"{file} is damaged: {error}; restore it from a backup") from error


def has_keys(path: Path) -> bool:
    """Tell whether an installation was made here, so that its database must exist too."""
    return (path / SECRET_FILE).exists()


def require_database(path: Path, database: "Database | None") -> None:
    """Check that an installation's database file is still there: a new, empty one in its place would know
    nobody and deny everything.

    Whether a database on a server is empty is known only once it is open (`Store.open`).

    Raises:
        DataDirectoryUnusable: there is a master secret but no database file.
    """
    from wardgate.portal.database.location import SqliteFile

    if isinstance(database, SqliteFile) and has_keys(path) and not database.path.exists():
        raise DataDirectoryUnusable(
            f"there is an installation in {path}, but its database {database} is gone: restore it from a backup, "
            "or begin with an empty one by `wardgate init --new-database`"
        )


def make_keys(path: Path, rng: random.Random) -> Keys:
    """Read the master secret, drawing it first if there is none."""
    if not has_keys(path):
        write_private(path / SECRET_FILE, rng.randbytes(MASTER_BYTES))
    return load_keys(path)


def write_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600, whole or not at all.

    Raises:
        DataDirectoryUnusable: it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise DataDirectoryUnusable(f"cannot write {path}: {error.strerror}") from error


class Lock:
    """The portal's exclusive hold on a data directory, for the length of a `with` block."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def __enter__(self) -> "Lock":
        file = self._path / LOCK_FILE
        try:
            self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.__exit__(None, None, None)
            if (
                error.errno in (errno.EWOULDBLOCK, errno.EACCES)
                and self._path.exists()
                and os.access(file, os.R_OK)
            ):
                raise DataDirectoryUnusable(
                    f"another portal is running on {self._path}: stop it first"
                ) from error
            raise DataDirectoryUnusable(f"cannot lock {file}: {error.strerror}") from error
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
