"""Write the migration between the newest revision and what the tables' declarations say: `make revision MESSAGE="…"`.

What it writes is a beginning that is right for most changes: tables, columns and indexes that came or went. What
becomes of the rows that are there, of renamed columns and of changed checks is for the author to add; the tests of
migrations compare the result with the declarations, on both databases, up and down.
"""

import argparse
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any, Final, Literal

import sqlalchemy as sa
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.migration import MigrationContext

from wardgate.portal.database.migrations import HEAD, steps, upgrade
from wardgate.portal.schema.column_types import UtcDateTime, Uuid
from wardgate.portal.tables import metadata

VERSIONS: Final = Path(steps.__file__).parent / "versions"
FILE: Final = '''"""{message}"""

import sqlalchemy as sa
from alembic import op{more_imports}

revision = "{revision}"
down_revision = "{former}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    {up}


def downgrade() -> None:
    {down}
'''


def written(message: str) -> str | None:
    """Return a revision as Python; None if the declarations are what the newest revision makes."""
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection, warnings.catch_warnings():
        # Indexes over expressions are not compared: SQLite does not tell what they are over.
        warnings.simplefilter("ignore")
        upgrade(connection)
        context = MigrationContext.configure(
            connection,
            opts={
                "target_metadata": metadata,
                "compare_type": False,
                "include_object": _is_compared,
            },
        )
        script = produce_migrations(context, metadata)
    assert script.upgrade_ops is not None
    assert script.downgrade_ops is not None
    if script.upgrade_ops.is_empty():
        return None
    up, down = (_code(ops) for ops in (script.upgrade_ops, script.downgrade_ops))
    more = "\nfrom sqlalchemy.dialects.postgresql import JSONB" if "JSONB(" in up + down else ""
    revision = f"{int(HEAD) + 1:04}"
    text = FILE.format(
        message=message[:1].upper() + message[1:].rstrip(".") + ".",
        revision=revision,
        former=HEAD,
        up=up,
        down=down,
        more_imports=more,
    )
    return text if "sa." in up + down else text.replace("import sqlalchemy as sa\n", "")


def _code(ops: Any) -> str:
    code = render_python_code(ops, render_item=_rendered)
    return "\n".join(line for line in code.splitlines() if not line.strip().startswith("#")).strip()


def _rendered(kind: str, item: object, _context: object) -> str | Literal[False]:
    """Write the types of our own as those they are in the database: a revision knows no code that changes."""
    if kind != "type":
        return False
    match item:
        case UtcDateTime():
            return "sa.DateTime(timezone=True)"
        case Uuid():
            return "sa.Uuid()"
        case sa.JSON():
            return 'sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")'
        case _:
            return False


def _is_compared(_item: object, name: str | None, kind: str, is_there: bool, _other: object) -> bool:
    return not (kind == "table" and is_there and name == "alembic_version")


def main() -> None:
    parser = argparse.ArgumentParser(prog="make revision MESSAGE=...")
    parser.add_argument("message", help="what changes, in a line: the docstring, and the file's name")
    message = parser.parse_args().message
    text = written(message)
    if text is None:
        sys.exit("The newest revision makes what the tables declare: there is nothing to write.")
    words = re.sub(r"\W+", "_", message.lower()).strip("_")
    path = VERSIONS / f"rev_{int(HEAD) + 1:04}_{words}.py"
    path.write_text(text)
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", path], check=True)
    print(path)


if __name__ == "__main__":
    main()
