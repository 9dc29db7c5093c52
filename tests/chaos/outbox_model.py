"""The outbox and its delivery against a naive model: whatever becomes of entries, the online content ends right.

``OutboxModel`` publishes random rows of a snapshot and of an event view through the real ledger, as files, and delivers the
entries late, twice, out of order, to a killed process, or not at all to a store that loses everything. After every step each
online row must be what its sequence published; after any prefix, two rounds of maintenance must leave exactly what the log
says.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from fstore import failpoints
from fstore.arrow import arrow_schema
from fstore.backends import create_backends, open_backends
from fstore.interval import Interval
from fstore.plan.steps import EVENT_TIMESTAMP, Step
from fstore.registry.records import OnlineWork, Verdict
from fstore.runtime.compute import FileWriter
from fstore.runtime.delivery import apply_outbox, apply_work
from fstore.runtime.materialize import materialize_attempt
from fstore.runtime.plan_cache import load_plan
from fstore.runtime.preparation import prepare_steps
from fstore.runtime.repair import repair_online
from fstore.settings import Settings, load_settings
from fstore.stores.encoding import RowCodec
from fstore.stores.lmdb import LmdbStore
from fstore.stores.online import OnlineView
from fstore.stores.redis import RedisStore
from tests.chaos.options import Options
from tests.chaos.stateful import Counted, machine_at, run_part

MODULE = '''
from fstore import Entity, FeatureView, ParquetSource, agg, feature

user = Entity("user", join_keys={"user_id": "string"})
visits = ParquetSource("visits", path="data/visits.parquet", event_time="seen_at")


class Counts(FeatureView):
    """A snapshot view."""

    entity, source, schedule, start = user, visits, "@daily", "2026-01-01"
    n = agg.sum("amount").over("1d")


class Visits(FeatureView):
    """An event view."""

    entity, schedule, start = user, "@daily", "2026-01-01"
    inputs = {"v": visits.window("1d")}
    sql = "SELECT user_id, seen_at AS event_timestamp, amount FROM v"
    amount = feature("int64")
'''
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
KEYS = ("a", "b", "c", "d")
DAYS = 4
POINTS = ("online.begun", "online.written", "online.applied", "online.floor", "outbox.applied", "outbox.done",
          "registry.begun", "registry.committing", "registry.committed")  # fmt: skip

Rows = dict[str, int]
"""The value of each key that has a row."""
contents = st.dictionaries(st.integers(0, DAYS - 1), st.dictionaries(st.sampled_from(KEYS), st.integers(0, 99)), min_size=1)
points = st.sampled_from((None, None, *POINTS))


class Killed(BaseException):
    """Ends work as a kill would: nobody handles it."""


def kill(_: str) -> None:
    raise Killed


@dataclass(frozen=True, kw_only=True)
class Published:
    """Some days of a view, as they became visible under a sequence."""

    sequence: int
    first: int
    last: int
    attempt: int
    days: dict[int, Rows]


class Site:
    """A project with its two views, and copies of it. ``online`` is the URL of a Redis database, None for LMDB."""

    def __init__(self, place: Path, online: str | None = None) -> None:
        self.place, self._online = place, online
        root = place / "template"
        (root / "feature_defs").mkdir(parents=True)
        (root / "data").mkdir()
        (root / "pyproject.toml").write_text('[tool.fstore]\nproject = "visits"\n', encoding="utf-8")
        (root / "feature_defs" / "shop.py").write_text(MODULE, encoding="utf-8")
        schema = pa.schema({"user_id": pa.string(), "seen_at": pa.timestamp("us", tz="UTC"), "amount": pa.int64()})
        pq.write_table(schema.empty_table(), root / "data" / "visits.parquet")
        backends = create_backends(self.settings(root))
        names = ["counts", "visits"]
        steps = prepare_steps(backends, load_plan(self.settings(root)).project, names)
        self.steps: dict[str, Step] = {step.view: step for step in steps}
        self.store_id = backends.registry.store_id("online") or ""
        backends.close()

    def settings(self, root: Path) -> Settings:
        urls = {"online_url": self._online} if self._online else {}
        return load_settings(root, environ={}, memory_limit="256MB", threads="1", **urls)

    def copy(self) -> Path:
        """Return the root of a new copy, with an empty online store."""
        root = self.place / uuid.uuid4().hex
        shutil.copytree(self.place / "template", root)
        self.lose(root)
        return root

    def lose(self, root: Path) -> None:
        """Leave an online store that has its id and nothing else."""
        store: LmdbStore | RedisStore
        if self._online:
            import redis

            with redis.Redis.from_url(self._online) as client:
                client.flushdb()
            store = RedisStore(self._online, "visits")
        else:
            path = Path(self.settings(root).online_url.removeprefix("lmdb:"))
            shutil.rmtree(path)
            store = LmdbStore(path, "visits")
        store.create(self.store_id)
        store.close()


class OutboxModel(Counted):
    """Random steps at the two views of a site."""

    site: Site

    @initialize()
    def open_project(self) -> None:
        self.root = self.site.copy()
        self.backends = open_backends(self.site.settings(self.root))
        self.log: dict[str, list[Published]] = {view: [] for view in self.site.steps}
        self.works: list[OnlineWork] = []
        self.sequences: dict[tuple[str, str], int] = {}
        self.floors: dict[str, int] = {}

    def teardown(self) -> None:
        if hasattr(self, "backends"):
            self.converge()
            self.backends.close()
            shutil.rmtree(self.root)

    # -- publishing -----------------------------------------------------------------------------------------------------

    @rule(view=st.sampled_from(["counts", "visits"]), content=contents, online=st.booleans(), point=points)
    def publish(self, view: str, content: dict[int, Rows], online: bool, point: str | None) -> None:
        """Publish some days; only the log and the outbox have it, or it goes online at once as well, as far as that comes."""
        ledger, step = self.backends.registry.ledger, self.site.steps[view]
        intervals = {day: Interval(instant(day), instant(day + 1)) for day in sorted(content)}
        attempt = ledger.begin(step, list(intervals.values()), uuid.uuid4().hex)
        directory = self.backends.offline.attempt_directory(view, attempt.generation, attempt.id)
        self.backends.offline.prepare_directory(directory)
        writer = FileWriter(self.backends, step, directory)
        files = [file for day in intervals for file in writer.add(self.table(step, day, content[day]), intervals[day])]
        ledger.record_files(attempt.id, [*files, *writer.finish()])
        ledger.record_verdicts(
            attempt.id, [Verdict(interval=intervals[day], passed=True, rows=len(content[day])) for day in intervals]
        )
        if online:
            self.stopped_at(point, lambda: materialize_attempt(self.backends, attempt.id))
        else:
            self.stopped_at(point, lambda: ledger.publish(attempt.id))
        for entry in ledger.publications(view):
            if entry.attempt == attempt.id:
                first, last = (entry.start - FIRST).days, (entry.end - FIRST).days
                days = {day: content[day] for day in range(first, last)}
                self.log[view].append(
                    Published(sequence=entry.sequence, first=first, last=last, attempt=attempt.id, days=days)
                )
        known = {work.sequence for work in self.works}
        pending = self.backends.registry.outbox.pending(kind="online", limit=10_000)
        self.works += [entry.payload for entry in pending if entry.payload.sequence not in known]

    @staticmethod
    def table(step: Step, day: int, rows: Rows) -> pa.Table:
        """Return the rows of a day: at its end, or for an event view at an hour that the value says."""
        schema = arrow_schema(step.columns())
        (feature,) = set(schema.names) - {"user_id", EVENT_TIMESTAMP}
        times = [instant(day + 1) if step.kind == "snapshot" else at(day, value) for value in rows.values()]
        columns = {"user_id": list(rows), EVENT_TIMESTAMP: times, feature: list(rows.values())}
        return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)

    # -- delivery ---------------------------------------------------------------------------------------------------------

    def stopped_at(self, point: str | None, work: Callable[[], object]) -> None:
        """Do work, in a process that is killed where it is told."""
        if point:
            failpoints.arm(point, kill)
        try:
            work()
        except Killed:
            pass
        finally:
            failpoints.disarm()

    @precondition(lambda self: self.works)
    @rule(pick=st.integers(0, 20), times=st.integers(1, 2), point=points)
    def deliver(self, pick: int, times: int, point: str | None) -> None:
        """Apply any entry that there ever was, long done ones too: a drainer that took it and slept."""
        for _ in range(times):
            self.stopped_at(point, partial(apply_work, self.backends, self.works[pick % len(self.works)]))

    @rule(point=points)
    def drain(self, point: str | None) -> None:
        self.stopped_at(point, lambda: apply_outbox(self.backends))

    @rule(point=st.sampled_from((None, "repair.applied", "online.written", "online.applied")))
    def repair(self, point: str | None) -> None:
        self.stopped_at(point, lambda: repair_online(self.backends))

    @precondition(lambda self: self.works)
    @rule(dice=st.integers(0, 2))
    def lose_the_store(self, dice: int) -> None:
        """Entries that were applied and settled are gone, and those that are pending are not."""
        if not dice:
            self.site.lose(self.root)
            self.sequences.clear()
            self.floors.clear()

    @precondition(lambda self: self.log["counts"])
    @rule(pick=st.integers(0, 20))
    def lose_an_entry(self, pick: int) -> None:
        """Settle an entry of the snapshot view that nobody applied."""
        pending = self.backends.registry.outbox.pending(kind="online", limit=10_000)
        pending = [entry for entry in pending if entry.payload.view == "counts"]
        if pending:
            self.backends.registry.outbox.done([pending[pick % len(pending)].id])

    @rule()
    def converge(self) -> None:
        """After faults stop, two rounds of maintenance bring exactly what is published online."""
        for _ in range(2):
            assert apply_outbox(self.backends).failed == 0
            repair_online(self.backends)
        assert self.backends.registry.outbox.depth().pending == 0
        for view in self.log:
            shown, floor = self.online(view)
            assert {key: value for key, (_, value) in shown.items()} == self.expected(view)
            if view == "counts" and self.log[view]:
                newest = max(published.last for published in self.log[view])
                assert floor == self.heads(view)[newest - 1].sequence

    # -- what must hold -----------------------------------------------------------------------------------------------------

    @invariant()
    def what_is_online_was_published(self) -> None:
        if not hasattr(self, "backends"):
            return
        for view in self.log:
            shown, floor = self.online(view)
            assert floor >= self.floors.get(view, 0), "the floor went back"
            self.floors[view] = floor
            for key, (sequence, value) in shown.items():
                assert sequence >= self.sequences.get((view, key), 0), "a key's sequence went back"
                self.sequences[view, key] = sequence
                assert self.expected(view, sequence).get(key) == value, "a value that its sequence never published"

    def heads(self, view: str, upto: int | None = None) -> dict[int, Published]:
        """The head of every day."""
        found: dict[int, Published] = {}
        for published in self.log[view]:
            if upto is None or published.sequence <= upto:
                found.update(dict.fromkeys(range(published.first, published.last), published))
        return found

    def expected(self, view: str, upto: int | None = None) -> Rows:
        """What a client should see: the newest day, or every key's newest event."""
        heads = self.heads(view, upto)
        if view == "counts":
            return heads[max(heads)].days[max(heads)] if heads else {}
        shown: Rows = {}
        for day in sorted(heads):
            shown.update(heads[day].days[day])
        return shown

    def online(self, view: str) -> tuple[dict[str, tuple[int, int]], int]:
        """Return what a client sees, sequence and value by key, and the floor's sequence."""
        step = self.site.steps[view]
        kept = [column for column in step.columns() if column.name not in ("user_id", EVENT_TIMESTAMP)]
        codec = RowCodec(keys=step.keys, features=kept)
        keys = codec.encode_keys(pa.table({"user_id": list(KEYS)}))
        found = self.backends.online.read_view(OnlineView(project="visits", view=view, generation=1), keys)
        floor = found.floor.sequence if found.floor else 0
        decoded = codec.decode_rows(found.rows, floor if step.kind == "snapshot" else 0)
        there, values = decoded.column("present").to_pylist(), decoded.column(kept[0].name).to_pylist()
        shown = {
            key: (int.from_bytes(row[:8], "big"), value)
            for key, row, present, value in zip(KEYS, found.rows, there, values, strict=True)
            if present and row is not None
        }
        return shown, floor


def instant(day: int) -> datetime:
    return FIRST + timedelta(days=day)


def at(day: int, value: int) -> datetime:
    return instant(day) + timedelta(hours=value % 24)


def run(options: Options) -> tuple[int, int]:
    """Run the model as a part of the harness, on every online store asked for."""
    from scripts.servers import redis_server

    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fstore-outbox-")))
        machines = {}
        if "lmdb" in options.online or options.long:
            machines["lmdb"] = machine_at(OutboxModel, site=Site(directory / "lmdb"))
        if "redis" in options.online or options.long:
            url = stack.enter_context(redis_server()).url
            machines["redis"] = machine_at(OutboxModel, site=Site(directory / "redis", url))
        return run_part(options, "outbox-model", machines, examples=60 if options.long else 3, steps=20)
