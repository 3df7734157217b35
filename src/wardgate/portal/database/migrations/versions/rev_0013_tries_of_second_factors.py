"""How often second factors were tried from anywhere: counted for all portals on the database together."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "second_factor_tries",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("actor_id", sa.Uuid(), nullable=False),
        sa.Column("tried", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("inserted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id", "actor_id"],
            ["actors.account_id", "actors.id"],
            name="second_factor_tries_actor_id_fkey",
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name="second_factor_tries_account_id_fkey", ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("account_id", "id", name="second_factor_tries_pkey"),
    )
    op.create_index(
        "second_factor_tries_account_id_actor_id_index",
        "second_factor_tries",
        ["account_id", "actor_id"],
        unique=True,
    )
    op.create_index(
        "second_factor_tries_expires_at_index", "second_factor_tries", ["expires_at"], unique=False
    )


def downgrade() -> None:
    op.drop_index("second_factor_tries_expires_at_index", table_name="second_factor_tries")
    op.drop_index("second_factor_tries_account_id_actor_id_index", table_name="second_factor_tries")
    op.drop_table("second_factor_tries")
