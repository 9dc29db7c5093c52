"""A project whose views are published by hand: files written through the offline store, recorded in the real ledger."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from fstore.arrow import arrow_schema, schema_id
from fstore.backends import Backends
from fstore.definitions.references import ResolvedFeature, parse_feature
from fstore.interval import Interval, Schedule
from fstore.plan.steps import EVENT_TIMESTAMP, Feature, Plan, PlannedEntity, PlannedService, SqlStep, Step
from fstore.registry.ledger import Verdict
from fstore.stores.encoding import RowCodec
from fstore.stores.online import Floor, OnlineView
from fstore.types import Column, DataFile

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
T0 = datetime(2026, 1, 1, tzinfo=UTC)
KEYS = (Column(name="user_id", type="string"),)

Rows = Sequence[Mapping[str, object]]


def day(number: int) -> Interval:
    """The interval of a day, counted from T0."""
    return Interval(T0 + number * DAY, T0 + (number + 1) * DAY)


def features(*declared: tuple[str, str, object]) -> tuple[Feature, ...]:
    """Features from (name, type, empty value)."""
    return tuple(
        Feature(name=name, type=kind, fingerprint=f"f-{name}", empty=empty)  # type: ignore[arg-type]
        for name, kind, empty in declared
    )


def references(*texts: str) -> tuple[ResolvedFeature, ...]:
    """The features that texts mean."""
    parsed = [parse_feature(text) for text in texts]
    return tuple(item for item in parsed if item is not None)


def make_step(view: str, **changes: object) -> Step:
    """A daily snapshot view of users from T0 on, with a count (empty 0) and an amount (empty null)."""
    step = SqlStep(
        project="shop", view=view, entity="user", keys=KEYS,
        features=features(("n", "int64", 0), ("amount", "float64", None)),
        kind="snapshot", schedule=Schedule("0 0 * * *"), start=T0, end=None, lag=timedelta(), ttl=None, online=True,
        pipeline="p", inputs=(), audits=(), lineage=(), fingerprint=f"fp-{view}", module="feature_defs/p.py", line=1,
        sql="SELECT 1",
    )  # fmt: skip
    return msgspec.structs.replace(step, **changes)


class Publisher:
    """Does by hand what the runtime does: registers views, publishes rows, and brings them online."""

    def __init__(self, backends: Backends) -> None:
        self.backends = backends
        self.row_group_rows: int | None = None
        self.dictionaries = True
        self._runs = itertools.count()

    def register(self, *steps: Step, services: Sequence[PlannedService] = ()) -> None:
        entities = {step.entity: PlannedEntity(name=step.entity, keys=step.keys) for step in steps}
        self.backends.registry.register(
            Plan(project="shop", entities=tuple(entities.values()), steps=tuple(steps), services=tuple(services))
        )

    def publish(self, step: Step, rows: Mapping[Interval, Rows], blocked: Sequence[Interval] = ()) -> int | None:
        """Publish the rows of intervals; the blocked ones are written too, but do not pass. Returns the sequence."""
        ledger = self.backends.registry.ledger
        attempt = ledger.begin(step, sorted(rows), f"run-{next(self._runs)}")
        table = published_table(step, rows)
        directory = self.backends.offline.attempt_directory(step.view, attempt.generation, attempt.id)
        path = f"{directory}/part-0.parquet"
        with self.backends.offline.writing(path) as local:
            pq.write_table(table, local, row_group_size=self.row_group_rows, use_dictionary=self.dictionaries)
        span = Interval(min(rows).start, max(rows).end)
        file = DataFile(
            path=path, rows=table.num_rows, bytes=1, start=span.start, end=span.end, schema_id=schema_id(table.schema)
        )
        ledger.record_files(attempt.id, [file])
        ledger.record_verdicts(
            attempt.id, [Verdict(interval=i, passed=i not in blocked, rows=len(rows[i])) for i in sorted(rows)]
        )
        if all(interval in blocked for interval in rows):
            return None
        return ledger.publish(attempt.id).sequence

    def bring_online(self, step: Step, rows: Mapping[Interval, Rows], sequence: int, gone: Rows = ()) -> None:
        """Write rows, and tombstones for the keys gone, as of a publication, to which the view's floor rises."""
        view = OnlineView(project="shop", view=step.view, generation=self.backends.registry.view(step.view).generation)
        codec = RowCodec(step.keys, [Column(name=f.name, type=f.type or "") for f in step.features])
        table = published_table(step, rows)
        self.backends.online.write_rows(view, codec.encode_keys(table), codec.encode_rows(table, sequence))
        if gone:
            keys = pa.Table.from_pylist(list(gone), schema=arrow_schema(step.keys))
            self.backends.online.write_rows(view, codec.encode_keys(keys), codec.tombstones(len(gone), sequence))
        self.backends.online.raise_floor(view, Floor(sequence=sequence, end=max(rows).end))


def published_table(step: Step, rows: Mapping[Interval, Rows]) -> pa.Table:
    """The rows of intervals as they are published, sorted by (event_timestamp, keys)."""
    flat = [
        {EVENT_TIMESTAMP: interval.end, **row} if step.kind == "snapshot" else dict(row)
        for interval in sorted(rows)
        for row in rows[interval]
    ]
    flat.sort(key=lambda row: (row[EVENT_TIMESTAMP], *(str(row[key.name]) for key in step.keys)))
    return pa.Table.from_pylist(flat, schema=arrow_schema(step.columns()))
