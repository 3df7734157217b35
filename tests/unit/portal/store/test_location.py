"""Which database an address names."""

from pathlib import Path

import pytest

from wardgate.portal.store import PostgresServer, SqliteFile, parse_database_url


@pytest.mark.parametrize(
    ("text", "database"),
    [
        ("sqlite:////var/lib/wardgate/a.db", SqliteFile(Path("/var/lib/wardgate/a.db"))),
        ("sqlite:///a.db", SqliteFile(Path("a.db").absolute())),
        ("sqlite:////a%20b.db", SqliteFile(Path("/a b.db"))),
        ("sqlite:////a.db?synchronous=normal", SqliteFile(Path("/a.db"), is_durable=False)),
        ("sqlite:////a.db?synchronous=full", SqliteFile(Path("/a.db"))),
        (
            "postgresql://u:p@h:5433/d?sslmode=require",
            PostgresServer("postgresql://u:p@h:5433/d?sslmode=require"),
        ),
        ("postgres://h/d", PostgresServer("postgresql://h/d")),
        ("postgresql://u:p@h1:5432,h2,[::1]:6/d", PostgresServer("postgresql://u:p@h1:5432,h2,[::1]:6/d")),
        ("postgresql:///d?host=/run/postgresql", PostgresServer("postgresql:///d?host=/run/postgresql")),
    ],
)
def test_an_address_names_a_database(text: str, database: SqliteFile | PostgresServer) -> None:
    assert parse_database_url(text) == database


@pytest.mark.parametrize(
    "text",
    [
        "",
        "wardgate.db",
        "mysql://h/d",
        "sqlite://",
        "sqlite:///",
        "sqlite://host/a.db",
        "sqlite:////a.db?synchronous=off",
        "sqlite:////a.db?mode=ro",
        "postgresql:h/d",
    ],
)
def test_what_names_no_database_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"database URL|SQLite URL"):
        parse_database_url(text)


def test_a_password_is_not_shown() -> None:
    assert str(PostgresServer("postgresql://u:secret@h:5433/d?password=secret")) == "postgresql://h:5433/d"
    assert str(PostgresServer("postgresql://u:secret@/d?host=/run/pg")) == "postgresql:///run/pg/d"


@pytest.mark.parametrize("host", ["h:port", "h:99999", "h:0", "[::1", "u:secret@h:1:2", "h,h:x"])
def test_hosts_and_ports_that_cannot_be_are_refused_without_the_password(host: str) -> None:
    with pytest.raises(ValueError, match=r"is no (host|port)") as refused:
        parse_database_url(f"postgresql://{host}/d")
    assert "secret" not in str(refused.value)
