"""Taking a schema from revision to revision, by Alembic."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from wardgate.portal.database.errors import Unusable


def upgrade_to_head(connection: Connection) -> None:
    """Take the schema to the newest revision, inside the caller's transaction.

    Raises:
        Unusable: a newer program wrote it.
    """
    found = MigrationContext.configure(connection).get_current_revision()
    if found is not None and found not in revisions():
        raise Unusable(
            f"the database has schema revision {found}, which a newer Wardgate wrote: run that version, or go back by"
            " `wardgate restore` of a backup made before the upgrade"
        )
    upgrade_to(connection, "head")


def upgrade_to(connection: Connection, revision: str) -> None:
    """Take the schema up to `revision`, inside the caller's transaction."""
    command.upgrade(_config(connection), revision)


def downgrade(connection: Connection, revision: str) -> None:
    """Take the schema back to `revision` (`base`: to nothing), inside the caller's transaction; what it lacks
    is lost.
    """
    command.downgrade(_config(connection), revision)


def revisions() -> list[str]:
    """Return all revisions, the oldest first."""
    script = ScriptDirectory(str(Path(__file__).parent))
    return [revision.revision for revision in script.walk_revisions()][::-1]


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config
