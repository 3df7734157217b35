"""An index of e-mail addresses over all accounts: a stranger asks in which ones an address is known."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("actors_email_index", "actors", [sa.text("lower(email)")])


def downgrade() -> None:
    op.drop_index("actors_email_index", "actors")
