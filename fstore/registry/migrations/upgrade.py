"""Bring a database to the newest revision, within the caller's transaction.

Takes an open connection; there is no ``alembic.ini``: everything Alembic needs is given here.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy.engine import Connection


def upgrade(connection: Connection, revision_table: str) -> None:
    """Apply the missing revisions; does nothing on a database that has them all."""
    command.upgrade(alembic_config(connection, revision_table), "head")


def alembic_config(connection: Connection, revision_table: str) -> Config:
    """Return Alembic's configuration for one connection."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes["revision_table"] = revision_table
    return config
