"""Indexes in the order of names, with what is searched: a page of a hundred thousand objects costs what it shows."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("actors_names_index", "actors", ["account_id", "name", "email", "type", "id"])
    op.create_index("devices_names_index", "devices", ["account_id", "type", "name", "id"])
    op.create_index("groups_names_index", "groups", ["account_id", "type", "name", "id"])
    op.create_index(
        "resources_names_index",
        "resources",
        ["account_id", sa.column("type") != sa.literal_column("'internet'"), "name", "address", "type", "id"],
    )


def downgrade() -> None:
    op.drop_index("resources_names_index", table_name="resources")
    op.drop_index("groups_names_index", table_name="groups")
    op.drop_index("devices_names_index", table_name="devices")
    op.drop_index("actors_names_index", table_name="actors")
