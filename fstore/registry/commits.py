"""Tokens of write transactions: what tells whether a transaction took place whose COMMIT was never answered.

Every write transaction enters a token of its own first. The row is there if, and only if, the transaction was committed, and
entering the same token again waits for one that is still open on the server. So the answer is the database's own, also
after a failover. Old tokens, of which nobody can want to know any more, are deleted where the project is locked anyway.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fstore.registry.commit_tables import commits

if TYPE_CHECKING:
    from fstore.registry.database import Database

KEPT = timedelta(days=1)
"""How long a token is kept: longer than any process waits to learn what became of its transaction."""


def enter_commit(database: Database, connection: Connection, token: str) -> bool:
    """Enter a token; return False when it is there: its transaction was committed. Waits for one that is still open."""
    row = {"token": token, "project": database.project, "entered_at": datetime.now(UTC)}
    insert = database.insert_or(commits).values(row).on_conflict_do_nothing().returning(sa.literal(1))
    return connection.execute(insert).first() is not None


def forget_commits(database: Database, connection: Connection) -> None:
    """Delete the project's old tokens. The caller has locked the project, so that no two of them wait for each other."""
    c = commits.c
    old = (c.project == database.project, c.entered_at < datetime.now(UTC) - KEPT)
    connection.execute(sa.delete(commits).where(*old))
