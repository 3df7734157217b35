"""The file in which a client keeps the token of whoever is signed in (operations §3): nobody else may read it."""

import os
import stat
from pathlib import Path

from wardgate.cli.errors import UserError


def read_token(path: Path) -> str | None:
    """Return the token; None if there is no file.

    Raises:
        UserError: others may read the file, or it cannot be read.
    """
    try:
        found = path.stat()
        if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO | stat.S_IXUSR) or found.st_uid not in (
            0,
            os.geteuid(),
        ):
            raise UserError(f"the token file {path} is readable by others: chown root and chmod 600 it")
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"cannot read the token file {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"the token file {path} is not text") from error


def write_token(path: Path, token: str) -> None:
    """Write the token in one step: whoever reads sees the old one or the new one.

    Raises:
        UserError: it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(f"{token}\n")
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(f"cannot write the token file {path}: {error.strerror}") from error


def delete_token(path: Path) -> bool:
    """Delete the file; false: there was none.

    Raises:
        UserError: it cannot be deleted.
    """
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UserError(f"cannot delete the token file {path}: {error.strerror}") from error
    return True
