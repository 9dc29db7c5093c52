"""A project whose rows say which attempt made them, its state as a value, and what must hold in every state.

Three views (a snapshot view, an event view, and one that reads the first) with two days published. Whoever computes a view
makes rows of his own: other keys, another owner. So it can be told of every row that is read, offline or online, which
publication it is of, and whether all of that publication is there. The stores are real: SQLite, Parquet and LMDB.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from fstore.backends import Backends, create_backends
from fstore.engines.engine import Query
from fstore.interval import Interval
from fstore.plan.steps import EVENT_TIMESTAMP, Step
from fstore.registry.records import Head
from fstore.runtime.plan_cache import load_plan
from fstore.runtime.preparation import prepare_steps
from fstore.runtime.runner import run_step
from fstore.settings import load_settings
from fstore.stores.encoding import RowCodec, row_sequence
from fstore.stores.online import OnlineView, decode_floor
from tests.chaos.replay import OWNER

MODULE = '''
import os
from datetime import timedelta

from fstore import Entity, FeatureView, ParquetSource, check, feature, transform

user = Entity("user", join_keys={"user_id": "string"})
events = ParquetSource("events", path="data/events.parquet", event_time="at")
KEYS = {0: ("k0", "k1", "k2", "k3"), 1: ("k0", "k1", "k2"), 2: ("k1", "k2", "k4")}


def keys_of(owner):
    return KEYS.get(owner, ("k1", f"k{owner}"))


def offer(e, interval):
    import pyarrow as pa

    owner = int(os.environ.get("FSTORE_CHAOS_OWNER", "0"))
    keys = keys_of(owner)
    return pa.table({"user_id": list(keys), "maker": [owner] * len(keys)})


def visit(e, interval):
    import pyarrow as pa

    owner = int(os.environ.get("FSTORE_CHAOS_OWNER", "0"))
    keys = ("k0", "k1") if interval.start.day == 1 else keys_of(owner)
    times = pa.array([interval.start + timedelta(hours=1)] * len(keys), pa.timestamp("us", tz="UTC"))
    return pa.table({"user_id": list(keys), "event_timestamp": times, "maker": [owner] * len(keys)})


def rank(p, interval):
    import pyarrow as pa

    owner = int(os.environ.get("FSTORE_CHAOS_OWNER", "0"))
    return pa.table({"user_id": p["user_id"], "maker": [owner] * p.num_rows, "base": p["maker"]})


class Prices(FeatureView):
    """What a user is offered."""

    entity, schedule, start, end = user, "@daily", "2026-01-01", "2026-01-03"
    inputs = {"e": events.window("1d")}
    maker = feature("int64")
    compute = transform(offer)
    checks = [check.in_range("maker", 0, 50)]


class Visits(FeatureView):
    """When a user came."""

    entity, schedule, start, end = user, "@daily", "2026-01-01", "2026-01-03"
    inputs = {"e": events.window("1d")}
    event_timestamp = feature("timestamp")
    maker = feature("int64")
    compute = transform(visit)


class Ranks(FeatureView):
    """Who was offered what."""

    entity, schedule, start, end = user, "@daily", "2026-01-01", "2026-01-03"
    inputs = {"p": Prices}
    maker = feature("int64")
    base = feature("int64")
    compute = transform(rank)
'''

VIEWS = ("prices", "visits", "ranks")
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = [Interval(FIRST + timedelta(days=day), FIRST + timedelta(days=day + 1)) for day in range(2)]
DAY = DAYS[-1]
"""The interval that everybody computes: the newest, and published before."""

_KEYS = {0: ("k0", "k1", "k2", "k3"), 1: ("k0", "k1", "k2"), 2: ("k1", "k2", "k4")}


def keys_of(owner: int) -> tuple[str, ...]:
    """Return the keys of the rows that somebody makes."""
    return _KEYS.get(owner, ("k1", f"k{owner}"))


EVERY_KEY = [f"k{number}" for number in range(10)]


class State(NamedTuple):
    """Registry, online store and files as values, and a digest of what they mean."""

    registry: bytes
    online: dict[bytes, bytes]
    files: dict[str, bytes]
    rows: dict[str, list[tuple[Any, ...]]]
    digest: str


_TABLES = {
    "projects": "version, sequence",
    "batches": "id, view, generation, run_id, ranges",
    "attempts": "id, view, generation, run_id, batch_id, fingerprint, state, message",
    "attempt_intervals": "attempt_id, view, start_at, end_at, outcome, rows",
    "attempt_pins": "attempt_id, view, start_at, end_at, sequence",
    "data_files": "attempt_id, position, path, rows, bytes, start_at, end_at",
    "publications": "sequence, view, generation, start_at, end_at, attempt_id, fingerprint",
    "outbox": "id, kind, view, generation, sequence, attempt_id, start_at, end_at, tries, done_at IS NULL",
    "lineage_events": "event_type, run_id, job_name",
    "online_marks": "view, entered, issued, settled",
}


class Market:
    """The project at a place, opened; its state can be taken and put back."""

    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "feature_defs").mkdir(parents=True)
        (place / "data").mkdir()
        (place / "pyproject.toml").write_text('[tool.fstore]\nproject = "market"\n', encoding="utf-8")
        (place / "feature_defs" / "market.py").write_text(MODULE, encoding="utf-8")
        schema = pa.schema({"user_id": pa.string(), "at": pa.timestamp("us", tz="UTC")})
        rows = [{"user_id": "k0", "at": day.start + timedelta(hours=1)} for day in DAYS]
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), place / "data" / "events.parquet")
        self.settings = load_settings(place, environ={}, memory_limit="256MB", threads="1", load_timeout="60")
        self.backends: Backends = create_backends(self.settings)
        self.steps: dict[str, Step] = {
            step.view: step for step in prepare_steps(self.backends, load_plan(self.settings).project, VIEWS)
        }
        for view in VIEWS:
            run_step(self.backends, self.steps[view], DAYS, f"base-{view}")
        self.base = self.take()
        self._online = self.base.online

    def close(self) -> None:
        self.backends.close()
        shutil.rmtree(self.place, ignore_errors=True)

    def work(self, view: str, run_id: str) -> Callable[[], object]:
        """Return what computes, validates and materializes the newest interval of a view."""
        return lambda: run_step(self.backends, self.steps[view], [DAY], run_id)

    # -- states -------------------------------------------------------------------------------------------------------

    @property
    def _registry(self) -> Path:
        return Path(self.settings.registry_url.removeprefix("sqlite:///"))

    @property
    def _offline(self) -> Path:
        return Path(self.settings.offline_url.removeprefix("file:"))

    def _files(self) -> dict[str, str]:
        """Return the paths of the offline store's files by their names in it."""
        root = str(self._offline)
        paths = [f"{directory}/{name}" for directory, _, names in os.walk(root) for name in names]
        return {path.removeprefix(f"{root}/"): path for path in paths}

    def take(self) -> State:
        """Return the state of now."""
        with closing(sqlite3.connect(self._registry)) as connection:
            rows = {
                table: connection.execute(f"SELECT {columns} FROM {table}").fetchall() for table, columns in _TABLES.items()
            }
        rows["lineage_events"].sort()
        online: dict[bytes, bytes] = self.backends.online._run(lambda transaction: dict(transaction.cursor()))
        files = {name: Path(path).read_bytes() for name, path in self._files().items()}
        hashed = hashlib.sha256(json.dumps(rows, sort_keys=True).encode())
        for part in (online, files):
            hashed.update(repr(sorted(part.items())).encode())
        return State(self._registry.read_bytes(), online, files, rows, hashed.hexdigest()[:20])

    def put(self, state: State) -> None:
        """Make everything be as it was in a state."""
        for suffix in ("-wal", "-shm"):
            Path(f"{self._registry}{suffix}").unlink(missing_ok=True)
        temporary = self._registry.with_suffix(".new")
        temporary.write_bytes(state.registry)
        temporary.replace(self._registry)

        def put_online(transaction: Any) -> None:
            for key in dict(transaction.cursor()).keys() - state.online.keys():
                transaction.delete(key)
            for key, value in state.online.items():
                transaction.put(key, value)

        self.backends.online._run(put_online, write=True)
        there = self._files()
        for name in there.keys() - state.files.keys():
            Path(there[name]).unlink()
        for name, content in state.files.items():
            path = self._offline / name
            if name not in there or path.read_bytes() != content:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)

    # -- what there should be -----------------------------------------------------------------------------------------

    def publications(self, state: State, view: str) -> list[Publication]:
        """Return the publications of a view, ascending by sequence."""
        found = [
            Publication(row[0], *map(_instant, row[3:5]), row[5]) for row in state.rows["publications"] if row[1] == view
        ]
        return sorted(found)

    def rows(
        self, state: State, owners: Mapping[int, int], view: str, publication: Publication
    ) -> dict[str, tuple[int, ...]]:
        """Return the rows of a publication's newest day, by key: owner, and for ranks the owner of what they were made of."""
        owner = owners.get(publication.attempt, 0)
        if view != "ranks":
            return dict.fromkeys(keys_of(owner), (owner,))
        pins = [row for row in state.rows["attempt_pins"] if row[0] == publication.attempt and _instant(row[3]) == DAY.end]
        (pinned,) = (p for p in self.publications(state, "prices") if p.sequence == pins[-1][4])
        return {key: (owner, base) for key, (base,) in self.rows(state, owners, "prices", pinned).items()}

    def stored(self, view: str) -> tuple[int, dict[str, bytes | None]]:
        """Return the floor's sequence and the stored row of every key."""
        found = self.backends.online.read_view(
            self.target(view), self.codec(view).encode_keys(pa.table({"user_id": EVERY_KEY}))
        )
        return found.floor.sequence if found.floor else 0, dict(zip(EVERY_KEY, found.rows, strict=True))

    def packed(self, view: str, instant: datetime, row: tuple[int, ...] | None, sequence: int) -> bytes:
        """Return a row (None: a tombstone) as the online store has it."""
        return _packed(self.codec(view), instant, row, sequence)

    def target(self, view: str) -> OnlineView:
        return OnlineView(project="market", view=view, generation=1)

    @cache  # noqa: B019 (a market lives as long as the process)
    def codec(self, view: str) -> RowCodec:
        step = self.steps[view]
        kept = [column for column in step.columns() if column.name != EVENT_TIMESTAMP and column not in step.keys]
        return RowCodec(keys=step.keys, features=kept)

    def read(self, view: str, heads: list[Head]) -> list[dict[str, Any]]:
        """Return published rows as readers get them."""
        relation = self.backends.published(self.steps[view], heads)
        with self.backends.engine.read(Query(sql="SELECT * FROM published", relations={"published": relation})) as reader:
            rows: list[dict[str, Any]] = reader.read_all().to_pylist()
        return rows


class Publication(NamedTuple):
    sequence: int
    start: datetime
    end: datetime
    attempt: int


def _instant(text: Any) -> datetime:
    """Return an instant as the registry's file has it."""
    if isinstance(text, int):
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=text)
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


@cache
def _packed(codec: RowCodec, instant: datetime, row: tuple[int, ...] | None, sequence: int) -> bytes:
    if row is None:
        return codec.tombstones(1, sequence)[0]
    names = [column.name for column in codec.features]
    table = pa.table({
        EVENT_TIMESTAMP: pa.array([instant], pa.timestamp("us", tz="UTC")),
        **{name: pa.array([value], pa.int64()) for name, value in zip(names, row, strict=True)},
    })  # fmt: skip
    return codec.encode_rows(table, sequence)[0]


__all__ = ["DAY", "OWNER", "VIEWS", "Market", "Publication", "State", "decode_floor", "keys_of", "row_sequence"]
