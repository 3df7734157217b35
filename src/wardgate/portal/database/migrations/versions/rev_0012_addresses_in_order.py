"""An index in the order of addresses: a page of a hundred thousand resources costs what it shows in this order too."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "resources_addresses_index",
        "resources",
        [
            "account_id",
            sa.column("type") != sa.literal_column("'internet'"),
            sa.func.coalesce(sa.column("address"), sa.literal_column("''")),
            "id",
        ],
    )


def downgrade() -> None:
    op.drop_index("resources_addresses_index", table_name="resources")
