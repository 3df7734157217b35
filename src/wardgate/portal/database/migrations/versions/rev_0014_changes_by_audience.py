"""Changes are found by whom they are for and by their age: grants leave many, and those are not kept for long."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("changes_committed_at_index", table_name="changes")
    op.create_index(
        "changes_audience_committed_at_index", "changes", ["audience", "committed_at"], unique=False
    )


def downgrade() -> None:
    op.drop_index("changes_audience_committed_at_index", table_name="changes")
    op.create_index("changes_committed_at_index", "changes", ["committed_at"], unique=False)
