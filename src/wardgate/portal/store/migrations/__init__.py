"""Schema revisions (Alembic). A revision that was merged to main is never edited."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from wardgate.portal.store.errors import Unusable


def upgrade(connection: Connection) -> None:
    """Bring the database up to this program's schema, inside the caller's transaction.

    Raises:
        Unusable: a newer program wrote it.
    """
    config = _config(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    found = MigrationContext.configure(connection).get_current_revision()
    if found is not None and found not in known:
        raise Unusable(
            f"the database has schema revision {found}, which a newer Wardgate wrote: run that version"
        )
    if found != ScriptDirectory.from_config(config).get_current_head():
        command.upgrade(config, "head")


def downgrade(connection: Connection, revision: str) -> None:
    """Take the schema back to `revision` (`base`: to nothing), inside the caller's transaction; what it lacks is lost."""
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
