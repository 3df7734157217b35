"""Gateways that administrators drain, and pools that the API calls `device_pool`."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("devices", sa.Column("draining_since", sa.DateTime(timezone=True), nullable=True))
    op.add_column("resources", sa.Column("membership_mode", sa.String(length=16), nullable=True))


def downgrade() -> None:
    op.drop_column("resources", "membership_mode")
    op.drop_column("devices", "draining_since")
