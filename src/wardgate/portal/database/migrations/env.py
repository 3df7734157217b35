"""Alembic's entry point: runs revisions on the connection that `upgrade` was given."""

from alembic import context

from wardgate.portal.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=False,
)
context.run_migrations()
