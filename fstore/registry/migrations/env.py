"""Alembic's entry point: run the revisions on the connection that ``upgrade`` was given, in its transaction."""

from alembic import context

from fstore.registry.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=context.config.attributes["revision_table"],
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
