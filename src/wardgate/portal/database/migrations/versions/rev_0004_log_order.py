"""Indexes in the order that logs are read in, so that a page or a slice of an export costs what it gives,
whatever the log holds.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TIMES = {"api_request_logs": "inserted_at", "session_logs": "timestamp", "flow_logs": "flow_start"}
_FORMER = ("session_logs", "flow_logs")


def upgrade() -> None:
    for table, time in _TIMES.items():
        op.create_index(f"{table}_order_index", table, ["account_id", time, "log_id"])
    for table in _FORMER:
        op.drop_index(f"{table}_account_id_{_TIMES[table]}_index", table)


def downgrade() -> None:
    for table in _FORMER:
        op.create_index(f"{table}_account_id_{_TIMES[table]}_index", table, ["account_id", _TIMES[table]])
    for table in _TIMES:
        op.drop_index(f"{table}_order_index", table)
