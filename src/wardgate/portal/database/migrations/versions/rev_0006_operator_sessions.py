"""The operator in the browser: sessions, and the one-time links that open them."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "operator_sessions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("token_id", sa.Uuid(), nullable=True),
        sa.Column("user_agent", sa.String(length=2000), nullable=False),
        sa.Column("remote_ip", sa.String(length=45), nullable=False),
        sa.Column("remote_ip_location_region", sa.String(length=255), nullable=True),
        sa.Column("remote_ip_location_city", sa.String(length=255), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("inserted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("operator_sessions_expires_at_index", "operator_sessions", ["expires_at"])
    op.create_table(
        "operator_links",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("inserted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("operator_links_expires_at_index", "operator_links", ["expires_at"])


def downgrade() -> None:
    op.drop_table("operator_links")
    op.drop_table("operator_sessions")
