"""A tiny real project in known states: where every scenario begins.

Twenty keys, two hundred events in five days, a windowed view on tiles, a view of events and a view that reads the first.
It is prepared once in a few states (published in part, whole, with work pending, with orphans, with its online
rows lost, not created at all); a scenario gets a copy of one of them. The stores are real: SQLite or PostgreSQL, LMDB or
Redis, Parquet. Files lie in memory where there is /dev/shm, since a killed process needs no disk to be survived.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from fstore import failpoints
from fstore.backends import Backends, create_backends, open_backends
from fstore.engines.duckdb import DuckDBEngine
from fstore.interval import Interval
from fstore.plan.steps import EVENT_TIMESTAMP, Plan, Step
from fstore.registry.backups import back_up
from fstore.registry.database import Database
from fstore.registry.records import DataFile, Head
from fstore.registry.tables import unreachable_generations
from fstore.runtime.due import intervals_within
from fstore.runtime.plan_cache import load_plan
from fstore.runtime.preparation import compile_with_types, prepare_steps, read_schemas, sources_of
from fstore.runtime.runner import run_step
from fstore.settings import Settings, load_settings
from fstore.stores.encoding import RowCodec
from fstore.stores.online import OnlineView, ViewRows
from tests.chaos.databases import Databases, Stores

MODULE = '''
from fstore import Entity, FeatureView, ParquetSource, agg, check, feature

user = Entity("user", join_keys={"user_id": "string"})
events = ParquetSource("events", path="data/events/", event_time="bought_at")


class Totals(FeatureView):
    """What a user spent; some of it is out of range and set aside."""

    entity, source, schedule, start, end = user, events, "@daily", "2026-01-01", "2026-01-06"
    count = agg.count().over("1d", "3d")
    total = agg.sum("amount").over("3d")
    checks = [check.not_null("count_3d"), check.in_range("total_3d", 0, 4000, severity="quarantine")]


class Purchases(FeatureView):
    """Every purchase, doubled."""

    entity, schedule, start, end = user, "@daily", "2026-01-01", "2026-01-06"
    inputs = {"e": events.window("1d")}
    sql = "SELECT user_id, bought_at AS event_timestamp, 2 * amount AS doubled FROM e"
    doubled = feature("int64")
    checks = [check.in_range("doubled", 0, 8000, severity="quarantine")]


class Ranks(FeatureView):
    """What another view says of a user."""

    entity, schedule, start, end = user, "@daily", "2026-01-01", "2026-01-06"
    inputs = {"t": Totals}
    sql = "SELECT user_id, t.total_3d / 10 AS score, t.count_1d > 1 AS busy FROM t"
    score = feature("float64")
    busy = feature("bool")
'''
VIEWS = ("totals", "purchases", "ranks")
"""In the order in which they depend on each other."""

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 5
KEYS = [f"k{number:02d}" for number in range(20)]
BACKUP = "registry.backup"
"""Where a backup of the registry is, in a state that has one."""

GONE = "k07"
"""A key with events on the third day only: variant B of the source no longer has it."""

WILD = "k19"
"""A key whose events break a check that quarantines."""

T = TypeVar("T")
Files = Mapping[int, Sequence[DataFile]]
"""The files of attempts."""

Content = dict[str, dict[str, str]]
"""Per view and interval (by its end), a hash of the rows: values, not bytes."""

Online = dict[str, ViewRows]
"""Per view, the stored row of every key, and the floor."""


class Stop(BaseException):
    """Ends work as a kill would: nobody handles it."""


def stop(_: str) -> None:
    raise Stop


class World:
    """One project at one place, and copies of it in known states. Not for two scenarios at once."""

    def __init__(self, place: Path, stores: Stores = Stores(), number: int = 0) -> None:  # noqa: B008 (a value)
        self.place, self.root, self.stores = place, place / "world", stores
        self._databases = Databases(stores, number)
        self.settings: Settings
        self.plan: Plan
        self.steps: dict[str, Step] = {}
        self.expected: dict[str, Content] = {}
        """The content of an undisturbed run, by variant of the source."""
        self.store_ids: dict[str, str] = {}
        self._tables: dict[tuple[str, int, int], pa.Table] = {}
        self._made: dict[object, Any] = {}
        self.engine: DuckDBEngine | None = None

    # -- states -------------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make every state that scenarios begin in."""
        self.root.mkdir(parents=True)
        (self.root / "feature_defs").mkdir()
        (self.root / "pyproject.toml").write_text('[tool.fstore]\nproject = "chaos"\n', encoding="utf-8")
        (self.root / "feature_defs" / "shop.py").write_text(MODULE, encoding="utf-8")
        self.write_source("A")
        self._databases.begin()
        urls = self._databases.urls()
        self.settings = load_settings(self.root, environ={}, memory_limit="256MB", threads="1", **urls)
        self._keep("void")
        with self.undisturbed(create=True) as backends:
            project = load_plan(self.settings).project
            sources = sources_of(project, VIEWS)
            schemas = read_schemas(backends.engine, sources).schemas
            self.plan = compile_with_types(backends.engine, project, schemas, views=set(VIEWS))
            self.steps = {step.view: step for step in prepare_steps(backends, project, VIEWS)}
        self._keep("empty")
        self._make("part", "empty", [(view, 0, 3) for view in VIEWS])
        self._make("full", "part", [(view, 3, 5) for view in VIEWS], variant="A")
        self._make("no-totals", "part", [("purchases", 3, 5)])
        self._make("no-purchases", "part", [("totals", 3, 5), ("ranks", 3, 5)])
        self._make("no-ranks", "part", [("totals", 3, 5), ("purchases", 3, 5)])
        self._make("pending", "part", [(view, 3, 5) for view in VIEWS], stopped_at="publish.committed")
        self._make("orphans", "part", [("totals", 3, 5)], stopped_at="tiles.written")
        self._make("orphans", "orphans", [(view, 3, 5) for view in VIEWS])
        self._make("orphans", "orphans", [("totals", 3, 5), ("purchases", 3, 5)], stopped_at="compute.recorded")
        self._make("orphans", "orphans", [("purchases", 1, 2)], stopped_at="validate.set_aside")
        self._make("superseded", "full", [(view, 2, 5) for view in VIEWS])
        self._forget_generation("superseded")
        self._back_up("restorable", "part", VIEWS)
        self._back_up("restorable-one", "no-ranks", ("ranks",))
        self.restore("full")
        self._databases.lose_online(self.settings, self.store_ids["online"])
        self._keep("lost")
        self.restore("full")
        self.write_source("B")
        with self.undisturbed() as backends:
            for view in VIEWS:
                self.run(backends, view, 2, 5, "variant")
            self.expected["B"] = self.content(backends)

    def copied(self, place: Path, number: int) -> World:
        """Return a world of its own at another place, with the same states."""
        copy = World(place, self.stores, number)
        shutil.copytree(self.place, place, dirs_exist_ok=True)
        copy._databases = self._databases.numbered(number)
        urls = copy._databases.urls()
        copy.settings = load_settings(copy.root, environ={}, memory_limit="256MB", threads="1", **urls)
        copy.plan, copy.steps, copy.expected, copy.store_ids = self.plan, self.steps, self.expected, self.store_ids
        return copy

    def restore(self, state: str) -> None:
        """Make this place be in a state again."""
        shutil.rmtree(self.root)
        shutil.copytree(self.place / state, self.root)
        self._databases.restore(state)

    def _keep(self, state: str) -> None:
        shutil.rmtree(self.place / state, ignore_errors=True)
        shutil.copytree(self.root, self.place / state)
        self._databases.keep(state)

    def _make(
        self, state: str, before: str, runs: list[tuple[str, int, int]], *,
        stopped_at: str | None = None, variant: str | None = None,
    ) -> None:  # fmt: skip
        self.restore(before)
        for view, first, last in runs:
            with self.undisturbed() as backends:
                if stopped_at:
                    failpoints.arm(stopped_at, stop)
                try:
                    self.run(backends, view, first, last, f"{state}-{view}")
                except Stop:
                    pass
                finally:
                    failpoints.disarm()
        if variant:
            with self.undisturbed() as backends:
                self.expected[variant] = self.content(backends)
        self._keep(state)

    def _back_up(self, state: str, before: str, views: tuple[str, ...]) -> None:
        """Keep a state in which more is published, of some views, than a backup of the registry knows."""
        self.restore(before)
        with contextlib.closing(Database(self.settings.registry_url, "chaos")) as database:
            back_up(database, self.root / BACKUP)
        with self.undisturbed() as backends:
            for view in views:
                self.run(backends, view, 3, 5, f"{state}-{view}")
        self._keep(state)

    def _forget_generation(self, state: str) -> None:
        """Let a state have rows online of a generation that nobody can reach since long ago."""
        self.restore(state)
        with self.undisturbed() as backends:
            old = msgspec.structs.replace(self.target("totals"), generation=7)
            keys = self.encoded_keys("totals")
            backends.online.write_rows(old, keys, self.codec("totals").tombstones(len(keys), 1))
        with contextlib.closing(Database(self.settings.registry_url, "chaos")) as database, database.writing() as connection:
            row = {"project": "chaos", "view": "totals", "generation": 7, "sequence": 1, "since": FIRST}
            connection.execute(sa.insert(unreachable_generations).values(row))
        self._keep(state)

    @contextmanager
    def undisturbed(self, *, create: bool = False) -> Iterator[Backends]:
        """Open the real parts and close them afterwards."""
        backends = create_backends(self.settings) if create else open_backends(self.settings)
        try:
            yield backends
            if create:
                self.store_ids = {kind: backends.registry.store_id(kind) or "" for kind in ("offline", "online")}
        finally:
            backends.close()

    @contextmanager
    def opened(self) -> Iterator[Backends]:
        """Open the real parts, with an engine that this process keeps: all it holds is a DuckDB without data."""
        if self.engine is None:
            self.engine = DuckDBEngine(memory_limit="256MB", threads=1, spill_dir=str(self.place / "spill"), root=self.root)
        backends = open_backends(self.settings)
        backends.__dict__["engine"] = self.engine
        try:
            yield backends
        finally:
            del backends.__dict__["engine"]
            backends.close()

    def clear(self) -> None:
        """Delete everything."""
        if self.engine is not None:
            self.engine.close()
        shutil.rmtree(self.place, ignore_errors=True)
        self._databases.clear()

    # -- what is done in it -------------------------------------------------------------------------------------------

    def intervals(self, view: str, first: int, last: int) -> list[Interval]:
        """Return the daily intervals of a view from day ``first`` to before day ``last``, counted from 0."""
        return intervals_within(self.steps[view], FIRST + timedelta(days=first), FIRST + timedelta(days=last))

    def run(self, backends: Backends, view: str, first: int, last: int, run_id: str) -> None:
        """Run a view's step over some days."""
        run_step(backends, self.steps[view], self.intervals(view, first, last), run_id)

    def write_source(self, variant: str) -> None:
        """Write the events, a file per day; only the third day differs between variants."""
        directory = self.root / "data" / "events"
        directory.mkdir(parents=True, exist_ok=True)
        for day in range(DAYS):
            path = directory / f"day-{day}.parquet"
            if day != 2 and path.exists():
                continue
            temporary = path.with_name(f".{path.name}")
            pq.write_table(_events(day, variant), temporary)
            temporary.replace(path)

    # -- what is there ------------------------------------------------------------------------------------------------

    def content(self, backends: Backends, views: tuple[str, ...] = VIEWS) -> Content:
        """Return what readers see offline: found through the ledger, read without the engine."""
        return {view: self._view_content(backends, view, backends.registry.ledger.heads(view)) for view in views}

    def _view_content(self, backends: Backends, view: str, heads: list[Head]) -> dict[str, str]:
        files = backends.registry.ledger.files([head.attempt for head in heads])

        def make() -> dict[str, str]:
            rows = self.published_rows(backends, view, heads, files)
            return {
                f"{interval.end:%m-%d}": _hashed(self.rows_of(view, rows, interval))
                for head in heads
                for interval in intervals_within(self.steps[view], head.start, head.end)
            }

        return self.once(backends, ("content", view), heads, files, make)

    def once(
        self, backends: Backends, what: tuple[str, ...], heads: Sequence[Head], files: Files, make: Callable[[], T]
    ) -> T:
        """Make something of what heads hold, once as long as that and its files are the same."""
        held = tuple(
            (h.start, h.end, h.sequence, *(_state_of(backends, f.path) for f in files.get(h.attempt, ()))) for h in heads
        )
        if (key := (what, held)) not in self._made:
            if len(self._made) > 500:
                self._made.clear()
            self._made[key] = make()
        found: T = self._made[key]
        return found

    def published_rows(self, backends: Backends, view: str, heads: list[Head], files: Files | None = None) -> pa.Table:
        """Return the rows that heads hold, with a column that says which sequence each is of."""
        step = self.steps[view]
        files = backends.registry.ledger.files([head.attempt for head in heads]) if files is None else files
        parts = [self._schema(step).empty_table()]
        for head in heads:
            for file in files.get(head.attempt, ()):
                if file.start < head.end and head.start < file.end:
                    table = self._table(backends, file.path)
                    kept = _within(table, Interval(head.start, head.end), snapshot=step.kind == "snapshot")
                    sequence = pa.repeat(pa.scalar(head.sequence, pa.int64()), kept.num_rows)
                    parts.append(kept.select(self._schema(step).names[:-1]).append_column("sequence", sequence))
        return pa.concat_tables([part.cast(self._schema(step)) for part in parts])

    def _table(self, backends: Backends, path: str) -> pa.Table:
        """Read a file, once as long as it is the same: that is, has its size and was not written again."""
        key = _state_of(backends, path)
        if key not in self._tables:
            if len(self._tables) > 500:
                self._tables.clear()
            self._tables[key] = backends.offline.read(path)
        return self._tables[key]

    def rows_of(self, view: str, rows: pa.Table, interval: Interval) -> pa.Table:
        """Return the rows of one interval."""
        return _within(rows, interval, snapshot=self.steps[view].kind == "snapshot")

    def online(self, backends: Backends) -> Online:
        """Return every stored row and the floors."""
        return {view: backends.online.read_view(self.target(view), self.encoded_keys(view)) for view in VIEWS}

    def target(self, view: str) -> OnlineView:
        """Return the name that a view has in the online store."""
        return OnlineView(project="chaos", view=view, generation=1)

    def codec(self, view: str) -> RowCodec:
        """Return what packs rows of a view."""
        step = self.steps[view]
        kept = [column for column in step.columns() if column.name != EVENT_TIMESTAMP and column not in step.keys]
        return RowCodec(keys=step.keys, features=kept)

    def encoded_keys(self, view: str) -> list[bytes]:
        """Return all keys as the online store has them, in the order of ``KEYS``."""
        return self.codec(view).encode_keys(pa.table({"user_id": KEYS}))

    def _schema(self, step: Step) -> pa.Schema:
        from fstore.arrow import arrow_schema

        fields = [pa.field(field.name, field.type) for field in arrow_schema(step.columns())]
        return pa.schema([*fields, pa.field("sequence", pa.int64())])


def _state_of(backends: Backends, path: str) -> tuple[str, int, int]:
    """Return what is another whenever a file of the offline store is written again."""
    found = Path(backends.offline.full_path(path)).stat()
    return path, found.st_mtime_ns, found.st_size


def shared_place() -> Path:
    """Return a new directory for worlds: in memory where there is some."""
    memory = Path("/dev/shm")
    parent = str(memory) if memory.is_dir() and os.access(memory, os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix="fstore-chaos-", dir=parent))


def _events(day: int, variant: str) -> pa.Table:
    rows: list[Mapping[str, object]] = []
    for number, key in enumerate(KEYS):
        if key == GONE and (day != 2 or variant == "B"):
            continue
        for event in range(2):
            amount = 5000 if key == WILD and day == 1 else 10 * number + day + event
            amount += 7 if variant == "B" and key == "k03" and day == 2 else 0
            instant = FIRST + timedelta(days=day, hours=2 + 8 * event, minutes=number)
            rows.append({"user_id": key, "bought_at": instant, "amount": amount})
    schema = pa.schema({"user_id": pa.string(), "bought_at": pa.timestamp("us", tz="UTC"), "amount": pa.int64()})
    return pa.Table.from_pylist(rows, schema=schema)


def _within(rows: pa.Table, interval: Interval, *, snapshot: bool) -> pa.Table:
    import pyarrow.compute as pc

    times = rows[EVENT_TIMESTAMP]
    start, end = (pa.scalar(instant, times.type) for instant in (interval.start, interval.end))
    if snapshot:
        return rows.filter(pc.and_(pc.greater(times, start), pc.less_equal(times, end)))
    return rows.filter(pc.and_(pc.greater_equal(times, start), pc.less(times, end)))


def _hashed(rows: pa.Table) -> str:
    kept = rows.drop_columns(["sequence"])
    lines = sorted(repr(tuple(row.values())) for row in kept.to_pylist())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] + f"/{len(lines)}"
