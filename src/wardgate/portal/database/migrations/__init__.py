"""Schema revisions (Alembic). A revision that was merged to main is never edited.

Almost every start finds the schema as it should be: then Alembic, which takes longer to load than to look, is
left alone.
"""

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text

from wardgate.portal.database.errors import Unusable

HEAD: Final = max(path.name.split("_")[1] for path in (Path(__file__).parent / "versions").glob("rev_*.py"))
"""The newest revision: files are named for theirs, and revisions are numbered."""

_VERSION_TABLE: Final = "alembic_version"


def upgrade(connection: Connection) -> None:
    """Bring the database up to this program's schema, inside the caller's transaction.

    Raises:
        Unusable: a newer program wrote it.
    """
    if _current(connection) != HEAD:
        from wardgate.portal.database.migrations.steps import upgrade_to_head

        upgrade_to_head(connection)


def upgrade_existing(connection: Connection) -> None:
    """Bring a database up to this program's schema that has one of Wardgate's already.

    Raises:
        Unusable: it has none, or a newer program wrote it.
    """
    if _current(connection) is None:
        raise Unusable(
            "the database is empty: restore it from a backup, or make it a new installation's by "
            "`wardgate init --new-database`"
        )
    upgrade(connection)


def _current(connection: Connection) -> str | None:
    if not inspect(connection).has_table(_VERSION_TABLE):
        return None
    revision: str | None = connection.execute(text(f"SELECT version_num FROM {_VERSION_TABLE}")).scalar()  # noqa: S608 - a constant
    return revision
