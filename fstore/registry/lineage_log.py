"""The lineage log: OpenLineage events as recorded, and the derivations that hold now.

Events are recorded once each, by run, type and job, however often they arrive. Derivations come from completed runs: the
newest statement about an output data set replaces the one before, and equal statements share their rows. It sends nothing
anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from fstore.registry.database import Database, repeated
from fstore.registry.openlineage import Derived, parse_event
from fstore.registry.records import Dataset, Edge, LineageEvent
from fstore.registry.tables import lineage_edges, lineage_events, lineage_outputs


class LineageLog:
    """The lineage log of one project. Safe to share between threads and over a fork."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @repeated
    def record(self, event_json: str) -> bool:
        """Record an OpenLineage run event; return whether it was new. Raises RegistryError if it is none."""
        with self._database.writing() as connection:
            return self.record_within(connection, [event_json]) == 1

    def record_within(self, connection: Connection, events: Sequence[str]) -> int:
        """Record events in a transaction of the caller; return how many were new."""
        return sum(self._record(connection, text) for text in events)

    def events(self, *, run_id: str | None = None, job_name: str | None = None, limit: int = 100) -> list[LineageEvent]:
        """Return recorded events, newest first."""
        c = lineage_events.c
        query = sa.select(lineage_events).where(c.project == self._database.project)
        query = query if run_id is None else query.where(c.run_id == run_id)
        query = query if job_name is None else query.where(c.job_name == job_name)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(c.event_time.desc(), c.id.desc()).limit(limit)).all()
        return [
            LineageEvent(
                event_time=row.event_time,
                event_type=row.event_type,
                run_id=row.run_id,
                job_namespace=row.job_namespace,
                job_name=row.job_name,
                parent_run_id=row.parent_run_id,
                payload=row.payload,
            )
            for row in rows
        ]

    def datasets(self, name: str | None = None) -> list[Dataset]:
        """Return the data sets with known derivations, as output or input; only those of a name if given."""
        e = _current(self._database).subquery().c
        with self._database.reading() as connection:
            pairs = sa.union(
                sa.select(e.output_namespace, e.output_name), sa.select(e.input_namespace, e.input_name)
            ).subquery()
            query = sa.select(pairs.c.output_namespace, pairs.c.output_name)
            query = query if name is None else query.where(pairs.c.output_name == name)
            return sorted(Dataset(*row) for row in connection.execute(query))

    def upstream(self, dataset: Dataset, column: str | None = None) -> list[Edge]:
        """Return everything that a data set (or one column of it) is derived from, nearest first. Cycles are safe."""
        return self._walk(dataset, column, backwards=True)

    def downstream(self, dataset: Dataset, column: str | None = None) -> list[Edge]:
        """Return everything that is derived from a data set (or from one column of it), nearest first."""
        return self._walk(dataset, column, backwards=False)

    def _walk(self, dataset: Dataset, column: str | None, *, backwards: bool) -> list[Edge]:
        """Follow edges from one end: one recursive query whose UNION drops what was seen, then depths by breadth."""
        near, far = ("output", "input") if backwards else ("input", "output")
        of_columns = lineage_edges.c.output_column != ""
        chosen = of_columns if column is not None else ~of_columns
        edges = _current(self._database).where(chosen).cte("edges")
        first = sa.and_(
            edges.c[f"{near}_namespace"] == dataset.namespace,
            edges.c[f"{near}_name"] == dataset.name,
            *([] if column is None else [edges.c[f"{near}_column"] == column]),
        )
        walk = sa.select(edges).where(first).cte("walk", recursive=True)
        onward = sa.and_(
            edges.c[f"{near}_namespace"] == walk.c[f"{far}_namespace"],
            edges.c[f"{near}_name"] == walk.c[f"{far}_name"],
            *([] if column is None else [edges.c[f"{near}_column"] == walk.c[f"{far}_column"]]),
        )
        walk = walk.union(sa.select(edges).join(walk, onward))
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(walk)).all()
        return _by_depth(rows, (dataset, column or ""), near, far, of_columns=column is not None)

    def _record(self, connection: Connection, text: str) -> bool:
        event, parent_job, derived = parse_event(text)
        new = self._insert_new(
            connection,
            lineage_events,
            {
                "event_time": event.event_time, "event_type": event.event_type, "run_id": event.run_id,
                "job_namespace": event.job_namespace, "job_name": event.job_name, "parent_run_id": event.parent_run_id,
                "parent_job_name": parent_job, "payload": text, "recorded_at": self._database.now(connection),
            },
        )  # fmt: skip
        if new:
            for found in derived:
                self._derive(connection, event, found)
        return new

    def _derive(self, connection: Connection, event: LineageEvent, found: Derived) -> None:
        """Make what a job says of an output current, unless a newer run of the job has said so itself.

        Other jobs' words stay: the Airflow task that runs a step reports the same output, without its columns.
        """
        row = {"namespace": found.output.namespace, "name": found.output.name, "revision": found.revision,
               "job_namespace": event.job_namespace, "job_name": event.job_name, "event_time": event.event_time,
               "run_id": event.run_id}  # fmt: skip
        insert = self._database.insert_or(lineage_outputs).values({"project": self._database.project, **row})
        replaced = {name: insert.excluded[name] for name in ("revision", "event_time", "run_id")}
        newer = insert.excluded.event_time >= lineage_outputs.c.event_time
        key = ["project", "namespace", "name", "job_namespace", "job_name"]
        connection.execute(insert.on_conflict_do_update(index_elements=key, set_=replaced, where=newer))
        for item in found.derivations:
            self._insert_new(
                connection,
                lineage_edges,
                {
                    "output_namespace": found.output.namespace, "output_name": found.output.name,
                    "revision": found.revision, "output_column": item.output_column,
                    "input_namespace": item.input.namespace, "input_name": item.input.name,
                    "input_column": item.input_column, "transformation": item.transformation, "masking": item.masking,
                },
            )  # fmt: skip

    def _insert_new(self, connection: Connection, table: sa.Table, row: dict[str, object]) -> bool:
        """Insert a row unless its key exists; return whether it was inserted."""
        insert = self._database.insert_or(table).values({"project": self._database.project, **row})
        inserted = insert.on_conflict_do_nothing().returning(sa.literal(1))
        return connection.execute(inserted).first() is not None


def _current(database: Database) -> sa.Select[*tuple[Any, ...]]:
    """Select the edges that hold now."""
    e, o = lineage_edges.c, lineage_outputs.c
    same = sa.and_(
        o.project == e.project, o.namespace == e.output_namespace, o.name == e.output_name, o.revision == e.revision
    )
    return (
        sa.select(
            e.output_namespace, e.output_name, e.output_column, e.input_namespace, e.input_name, e.input_column,
            e.transformation, e.masking,
        )
        .distinct()
        .join_from(lineage_edges, lineage_outputs, same)
        .where(e.project == database.project)
    )  # fmt: skip


def _by_depth(
    rows: Sequence[Row[*tuple[Any, ...]]], start: tuple[Dataset, str], near: str, far: str, *, of_columns: bool
) -> list[Edge]:
    """Order edges by their distance from the start, then by name."""

    def end(row: Row[*tuple[Any, ...]], side: str) -> tuple[Dataset, str]:
        values = row._mapping
        column = values[f"{side}_column"] if of_columns else ""
        return Dataset(values[f"{side}_namespace"], values[f"{side}_name"]), column

    leaving: dict[tuple[Dataset, str], list[Row[*tuple[Any, ...]]]] = {}
    for row in rows:
        leaving.setdefault(end(row, near), []).append(row)
    depths, frontier = {start: 0}, [start]
    while frontier:
        reached = []
        for node in frontier:
            for row in leaving.get(node, ()):
                if (after := end(row, far)) not in depths:
                    depths[after] = depths[node] + 1
                    reached.append(after)
        frontier = reached
    edges = [
        Edge(
            input=end(row, "input")[0],
            input_column=row.input_column or None,
            output=end(row, "output")[0],
            output_column=row.output_column or None,
            transformation=row.transformation,
            masking=row.masking,
            depth=depths[end(row, near)] + 1,
        )
        for row in rows
    ]
    return sorted(edges, key=lambda e: (e.depth, e.output, e.output_column or "", e.input, e.input_column or ""))
