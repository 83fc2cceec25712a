"""alembic's entry: the connection is given by libs.chassis.database.migrate."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transaction_per_migration=False)
with context.begin_transaction():
    context.run_migrations()
