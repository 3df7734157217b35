"""Accounts that are deleted while something of them is left."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("accounts", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("accounts_deleted_at_index", "accounts", ["deleted_at"])


def downgrade() -> None:
    op.drop_index("accounts_deleted_at_index", "accounts")
    op.drop_column("accounts", "deleted_at")
