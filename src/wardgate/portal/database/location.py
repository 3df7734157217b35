"""Which database: read from `WARDGATE_DATABASE_URL`.

sqlite:////var/lib/wardgate/wardgate.db          a file (absolute path: four slashes)
sqlite:///wardgate.db?synchronous=normal         relative; a power cut may take the last commits, never the
                                                 file's integrity
postgresql://wardgate@db.example.org/wardgate    a server, 15 or newer; everything that libpq knows may stand behind `?`
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

_HOST: Final = re.compile(r"(?:\[[^\[\]]*\]|[^:\[\]]*)(?::(\d{1,9}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class SqliteFile:
    """A database file.

    Attributes:
        is_durable: a commit waits until the disk has it, so that it survives a power cut.
    """

    path: Path
    is_durable: bool = True

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A database on a server.

    Attributes:
        url: as libpq reads it; may hold a password, so it is not shown.
    """

    url: str

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        hosts = parts.netloc.rpartition("@")[2] or dict(parse_qsl(parts.query)).get("host", "localhost")
        return f"postgresql://{hosts}/{parts.path.lstrip('/')}"


Database = SqliteFile | PostgresServer


def parse_database_url(text: str) -> Database:
    """Parse the address of a database.

    Raises:
        ValueError: another scheme, no path, no port, or an unknown option.
    """
    scheme, separator, rest = text.partition("://")
    if separator and scheme in ("postgresql", "postgres"):
        _check_hosts(rest)
        return PostgresServer(f"postgresql://{rest}")
    if not separator or scheme != "sqlite":
        raise ValueError("a database URL begins with sqlite:/// or postgresql://")
    location, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    synchronous = options.pop("synchronous", "full")
    path = unquote(location.removeprefix("/"))
    if not location.startswith("/") or not path or options or synchronous not in ("full", "normal"):
        raise ValueError("a SQLite URL is sqlite:///PATH, with ?synchronous=normal at most")
    return SqliteFile(Path(path).absolute(), is_durable=synchronous == "full")


def _check_hosts(rest: str) -> None:
    """Refuse hosts that nobody could connect to; libpq takes several, with commas between, each with a port
    of its own.
    """
    for host in re.split("[/?#]", rest, maxsplit=1)[0].rpartition("@")[2].split(","):
        found = _HOST.fullmatch(host)
        if found is None:
            raise ValueError(f"{host!r} is no host or host:port")
        if found[1] and not 0 < int(found[1]) < 65536:
            raise ValueError(f"{found[1]} is no port: one between 1 and 65535 is")
