"""What the online store has acknowledged, as the registry knows it: the other half of a view's mark in the store.

Every application of online work gets a ticket when all its rows are acknowledged; the store then raises the view's mark to
it, and the registry settles the work. A store whose mark is below the newest settled ticket has lost something: just the
work with the tickets above. A store's life is another one after a restart, a failover and a flush, and work that one life
began is never settled in another; without that, a later ticket could hide what was lost in between.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from fstore.errors import StoreChanged
from fstore.registry.database import Database, repeated
from fstore.registry.online_tables import online_marks
from fstore.registry.outbox import work_of
from fstore.registry.records import Issued, OnlineWork
from fstore.registry.tables import outbox


class OnlineMarks:
    """The marks of one project's online views. Safe to share between threads and over a fork."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @repeated
    def issue(self, view: str, generation: int, *, life: str, above: int = 0) -> Issued:
        """Issue a ticket, higher than all before it and than ``above``; from now on only ``life`` can settle."""
        with self._database.writing() as connection:
            issued, settled = self._enter(connection, view, generation, life, above=above)
        return Issued(ticket=issued, settled=settled)

    @repeated
    def enter(self, view: str, generation: int, life: str) -> int:
        """Let only ``life`` settle from now on, and return the newest settled ticket."""
        with self._database.writing() as connection:
            return self._enter(connection, view, generation, life, above=None)[1]

    @repeated
    def settle(self, work: OnlineWork, *, ticket: int | None = None, life: str = "") -> None:
        """Record that the work is in the store under a ticket (None: it was superseded, so nothing of it had to be).

        Repeating it changes nothing. Raises StoreChanged when another life of the store was seen since the ticket's issue.
        """
        database, c, m = self._database, outbox.c, online_marks.c
        with database.writing() as connection:
            if ticket is not None:
                mine = (m.project == database.project, m.view == work.view, m.generation == work.generation)
                found = connection.execute(
                    sa.update(online_marks)
                    .where(*mine, m.life == life, m.entered < ticket)
                    .values(settled=sa.case((m.settled < ticket, ticket), else_=m.settled))
                )
                if not found.rowcount:
                    raise StoreChanged(work.view)
            connection.execute(
                sa.update(outbox)
                .where(
                    c.project == database.project, c.kind == "online", c.view == work.view,
                    c.generation == work.generation, c.sequence == work.sequence, c.done_at.is_(None),
                )
                .values(done_at=database.now(connection), ticket=ticket)
            )  # fmt: skip

    def settled(self, view: str, generation: int) -> int:
        """Return the newest settled ticket of a view (0: none)."""
        database, m = self._database, online_marks.c
        with database.reading() as connection:
            found: int | None = connection.execute(
                sa.select(m.settled).where(m.project == database.project, m.view == view, m.generation == generation)
            ).scalar()
        return found or 0

    def settled_above(self, view: str, generation: int, ticket: int) -> list[OnlineWork]:
        """Return the work that was settled with a higher ticket, ascending by sequence."""
        database, c = self._database, outbox.c
        query = sa.select(outbox).where(
            c.project == database.project, c.kind == "online", c.view == view, c.generation == generation,
            c.ticket > ticket,
        )  # fmt: skip
        with database.reading() as connection:
            rows = connection.execute(query.order_by(c.sequence)).all()
        return [work_of(row) for row in rows]

    def _enter(self, connection: Connection, view: str, generation: int, life: str, *, above: int | None) -> tuple[int, int]:
        """Write the life, and the next ticket unless ``above`` is None; return the newest ticket and the newest settled."""
        database, m = self._database, online_marks.c
        row = {"project": database.project, "view": view, "generation": generation}
        first = 0 if above is None else above + 1
        entered = sa.case((m.life == life, m.entered), else_=m.issued)
        following = m.issued if above is None else sa.case((m.issued < above, above), else_=m.issued) + 1
        insert = database.insert_or(online_marks).values(**row, life=life, entered=0, issued=first, settled=0)
        upsert = insert.on_conflict_do_update(
            index_elements=["project", "view", "generation"], set_={"life": life, "entered": entered, "issued": following}
        ).returning(m.issued, m.settled)
        issued, settled = connection.execute(upsert).one()
        return issued, settled
