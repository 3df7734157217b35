"""Second factors of people who sign in without an identity provider: authenticator apps, passkeys, recovery codes, and
the attempts that are under way.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    _create(
        "totp_authenticators",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("sealed_secret", sa.String(length=255), nullable=False),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
    )
    _create(
        "passkeys",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("credential_id", sa.String(length=1368), nullable=False),
        sa.Column("public_key", sa.String(length=1024), nullable=False),
        sa.Column("sign_count", sa.BigInteger(), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
    )
    op.create_index(
        "passkeys_account_id_credential_id_index", "passkeys", ["account_id", "credential_id"], unique=True
    )
    _create(
        "recovery_codes",
        sa.Column("hashes", _JSON, nullable=False),
        sa.Column("remaining", sa.Integer(), nullable=False),
        is_one_an_actor=True,
    )
    _create(
        "second_factor_attempts",
        sa.Column("auth_provider_id", sa.Uuid(), nullable=True),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("challenge", sa.String(length=64), nullable=False),
        sa.Column("sealed_secret", sa.String(length=255), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("is_proved", sa.Boolean(), nullable=False),
        _reference("second_factor_attempts", "auth_provider_id", "auth_providers"),
        sa.CheckConstraint(
            "purpose IN ('sign_in', 'confirm', 'enrol')", name="second_factor_attempts_purpose_check"
        ),
    )
    op.create_index(
        "second_factor_attempts_account_id_auth_provider_id_index",
        "second_factor_attempts",
        ["account_id", "auth_provider_id"],
    )
    op.create_index("second_factor_attempts_expires_at_index", "second_factor_attempts", ["expires_at"])


def downgrade() -> None:
    for table in ("second_factor_attempts", "recovery_codes", "passkeys", "totp_authenticators"):
        op.drop_table(table)


def _create(table: str, *parts: Any, is_one_an_actor: bool = False) -> None:
    """Create a table of what belongs to an actor."""
    op.create_table(
        table,
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("actor_id", sa.Uuid(), nullable=False),
        *parts,
        sa.Column("inserted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "id", name=f"{table}_pkey"),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=f"{table}_account_id_fkey", ondelete="RESTRICT"
        ),
        _reference(table, "actor_id", "actors"),
    )
    op.create_index(
        f"{table}_account_id_actor_id_index", table, ["account_id", "actor_id"], unique=is_one_an_actor
    )


def _reference(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["account_id", column],
        [f"{target}.account_id", f"{target}.id"],
        name=f"{table}_{column}_fkey",
        ondelete="RESTRICT",
    )
