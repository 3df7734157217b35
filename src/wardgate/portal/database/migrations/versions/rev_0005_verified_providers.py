"""Identity providers: a client of the account's own for Google and Entra, whether a trial sign-in has succeeded, and
whether the claim `groups` fills groups.
"""

from contextlib import AbstractContextManager

import sqlalchemy as sa
from alembic import op
from alembic.operations import BatchOperations

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_PROVIDERS = (
    "google_auth_providers",
    "entra_auth_providers",
    "okta_auth_providers",
    "oidc_auth_providers",
)
_FLAGS = ("is_verified", "fills_groups")
_WITHOUT_CLIENT = ("google_auth_providers", "entra_auth_providers")


def upgrade() -> None:
    for table in _PROVIDERS:
        with _altered(table) as batch:
            for flag in _FLAGS:
                batch.add_column(sa.Column(flag, sa.Boolean(), nullable=False, server_default=sa.false()))
            if table in _WITHOUT_CLIENT:
                for name in ("client_id", "client_secret"):
                    batch.add_column(sa.Column(name, sa.String(length=255), nullable=True))
        with _altered(table) as batch:
            for flag in _FLAGS:
                batch.alter_column(flag, server_default=None)


def downgrade() -> None:
    for table in _PROVIDERS:
        with _altered(table) as batch:
            for name in (*_FLAGS, *(("client_id", "client_secret") if table in _WITHOUT_CLIENT else ())):
                batch.drop_column(name)


def _altered(name: str) -> AbstractContextManager[BatchOperations]:
    """Change a table in place, or make it anew where there is no other way; what it names is left unread."""
    return op.batch_alter_table(name, reflect_kwargs={"resolve_fks": False})
