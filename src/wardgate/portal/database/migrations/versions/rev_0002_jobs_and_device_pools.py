"""Background jobs, and the members of static device pools."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("arguments", _JSON, nullable=False),
        sa.Column("unique_key", sa.String(length=255), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("run_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("leased_by", sa.Uuid(), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.String(length=1000), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("inserted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "state IN ('available', 'executing', 'completed', 'discarded')", name="jobs_state_check"
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("jobs_finished_at_index", "jobs", ["finished_at"], unique=False)
    op.create_index("jobs_state_run_at_index", "jobs", ["state", "run_at"], unique=False)
    op.create_index(
        "jobs_unique_key_index",
        "jobs",
        ["unique_key"],
        unique=True,
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_table(
        "job_schedules",
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("enqueued_until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("kind"),
    )
    op.create_table(
        "static_device_pool_members",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("resource_id", sa.Uuid(), nullable=False),
        sa.Column("device_id", sa.Uuid(), nullable=False),
        sa.Column("inserted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id", "device_id"],
            ["devices.account_id", "devices.id"],
            name="static_device_pool_members_device_id_fkey",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["account_id", "resource_id"],
            ["resources.account_id", "resources.id"],
            name="static_device_pool_members_resource_id_fkey",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.id"],
            name="static_device_pool_members_account_id_fkey",
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("account_id", "id", name="static_device_pool_members_pkey"),
    )
    op.create_index(
        "static_device_pool_members_device_id_index",
        "static_device_pool_members",
        ["account_id", "device_id"],
        unique=False,
    )
    op.create_index(
        "static_device_pool_members_pair_index",
        "static_device_pool_members",
        ["account_id", "resource_id", "device_id"],
        unique=True,
    )


def downgrade() -> None:
    op.drop_table("static_device_pool_members")
    op.drop_table("job_schedules")
    op.drop_table("jobs")
