"""What the benchmarks of online reads share: a project with two snapshot views, a reader written by hand, and the clock.

The views have 10 and 50 features of 100,000 users: 6 of 10 float64, 2 int64, 1 bool, 1 string, a twentieth of each null.
Every fiftieth user that is asked for has no row. Both sides take user ids as strings and end in numpy arrays and masks of
nulls, with the empty row and ttl applied; they must agree before anything is measured. The hand-written reader knows names,
layout and prefix by heart, and is given the store's bytes as fstore packs them. Calls of both sides alternate.
"""

from __future__ import annotations

import gc
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from fstore import Client
from fstore.backends import Backends, create_backends
from fstore.interval import Interval, Schedule
from fstore.plan.steps import Feature, Plan, PlannedEntity, SqlStep
from fstore.settings import Settings
from fstore.stores.encoding import RowCodec
from fstore.stores.online import Floor, OnlineView, apply_rows
from fstore.types import Column

USERS = int(os.environ.get("FSTORE_BENCH_USERS", "100000"))
BATCHES = (1, 10, 100, 1000)
WIDTHS = (10, 50)
END = datetime(2026, 1, 2, tzinfo=UTC)
NOW = END + timedelta(hours=6)
TTL = timedelta(days=3)
SEQUENCE = 7
PROJECT = "bench"

Columns = dict[str, np.ndarray]
Reader = Callable[[list[str]], tuple[Columns, Columns]]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of single calls, ours and the other's, of one shape."""

    width: int
    batch: int
    ours: list[float]
    theirs: list[float]

    @property
    def ratio(self) -> float:
        return percentile(self.ours, 50) / percentile(self.theirs, 50)

    @property
    def tail_ratio(self) -> float:
        """p99/p50 of ours, by that of the other side."""
        own, other = (percentile(each, 99) / percentile(each, 50) for each in (self.ours, self.theirs))
        return own / other

    def __str__(self) -> str:
        ours, theirs = (
            f"{percentile(each, 50) * 1e6:,.0f}/{percentile(each, 99) * 1e6:,.0f}" for each in (self.ours, self.theirs)
        )
        return (
            f"{self.width} features, batch {self.batch}: p50/p99 {ours} us, other side {theirs} us, "
            f"ratio {self.ratio:.2f}, tail {self.tail_ratio:.2f}"
        )


def percentile(seconds: Sequence[float], percent: int) -> float:
    return float(np.percentile(seconds, percent))


def columns(width: int) -> tuple[Column, ...]:
    kinds = ["float64"] * 6 + ["int64"] * 2 + ["bool", "string"]
    return tuple(Column(name=f"f{n}", type=kinds[n % 10]) for n in range(width))


def view_name(width: int) -> str:
    return f"user_{width}"


def features(width: int) -> list[str]:
    return [f"{view_name(width)}:{column.name}" for column in columns(width)]


def codec(width: int) -> RowCodec:
    return RowCodec((Column(name="user_id", type="string"),), columns(width))


def rows(width: int) -> pa.Table:
    """The rows of a view, always the same."""
    generator = np.random.default_rng(width)
    made: dict[str, pa.Array] = {"user_id": pa.array([user(n) for n in range(USERS)])}
    for column in columns(width):
        values: object
        match column.type:
            case "float64":
                values = generator.lognormal(3, 1, USERS)
            case "int64":
                values = generator.integers(0, 1000, USERS)
            case "bool":
                values = generator.random(USERS) < 0.3
            case _:
                values = np.array([f"category-{n}" for n in range(40)], dtype=object)[generator.integers(0, 40, USERS)]
        made[column.name] = pa.array(values, mask=generator.random(USERS) < 0.05)
    made["event_timestamp"] = pa.array(np.full(USERS, END.timestamp() * 1_000_000, np.int64)).cast(pa.timestamp("us", "UTC"))
    return pa.table(made)


def user(number: int) -> str:
    return f"user-{number:08d}"


@contextmanager
def project(root: Path, online_url: str) -> Iterator[Backends]:
    """Make a project whose two views are in the online store, and nowhere else."""
    settings = Settings(
        root=str(root), project=PROJECT, registry_url=f"sqlite:///{root}/registry.db", offline_url=f"file:{root}/offline",
        online_url=online_url, spill_dir=str(root / "spill"), cache_dir=str(root / "cache"),
    )  # fmt: skip
    with create_backends(settings) as backends:
        key = (Column(name="user_id", type="string"),)
        steps = tuple(_step(width, key) for width in WIDTHS)
        backends.registry.register(
            Plan(project=PROJECT, entities=(PlannedEntity(name="user", keys=key),), steps=steps, services=())
        )
        for width in WIDTHS:
            view = OnlineView(project=PROJECT, view=view_name(width), generation=1)
            apply_rows(backends.online, view, codec(width), rows(width).to_batches(), SEQUENCE)
            backends.online.raise_floor(view, Floor(sequence=SEQUENCE, end=END))
        yield backends


def reader(backends: Backends, width: int) -> Reader:
    """Read with fstore."""
    client, wanted = Client(backends, clock=lambda: NOW), features(width)

    def read(users: list[str]) -> tuple[Columns, Columns]:
        found = client.get_online_features(wanted, {"user_id": users}).to_numpy()
        return found.values, found.nulls

    return read


def hand_written(width: int, get: Callable[[list[bytes]], list[bytes | None]]) -> Reader:
    """Read and decode by hand; ``get`` looks up encoded user ids."""
    wanted = columns(width)
    variable = [n for n, column in enumerate(wanted) if column.type == "string"]
    kinds = {"float64": "<f8", "int64": "<i8", "bool": "u1"}
    record = np.dtype(
        [("sequence", ">u8"), ("event_timestamp", ">i8"), ("schema", "<u8"), ("valid", "u1", ((width + 7) // 8,))]
        + [(column.name, kinds[column.type]) for column in wanted if column.type != "string"]
        + [("ends", "<u4", (len(variable),))]
    )
    size = record.itemsize
    absent = np.zeros(1, record)
    absent["event_timestamp"] = int(END.timestamp() * 1_000_000)
    empty = absent.tobytes()
    schema = codec(width).schema_id
    oldest = int((NOW - TTL).timestamp() * 1_000_000)

    def read(users: list[str]) -> tuple[Columns, Columns]:
        found = [empty if row is None else row for row in get([user.encode() for user in users])]
        records = np.frombuffer(b"".join([row[:size] for row in found]), record)
        if ((records["schema"] != schema) & (records["schema"] != 0)).any():
            raise SystemExit("a row of another schema")
        valid = np.unpackbits(records["valid"], axis=1, count=width, bitorder="little").view(bool)
        expired = records["event_timestamp"] < oldest
        if expired.any():
            valid[expired] = False
        values: Columns = {}
        nulls: Columns = {}
        for n, column in enumerate(wanted):
            null = nulls[column.name] = ~valid[:, n]
            if column.type == "float64":
                array = records[column.name].copy()
                array[null] = np.nan
            elif column.type == "int64":
                array = records[column.name].copy()
                array[null] = 0
            elif column.type == "bool":
                array = records[column.name] != 0
                array[null] = False
            else:
                place = variable.index(n)
                ends = records["ends"]
                starts = ends[:, place - 1].tolist() if place else [0] * len(found)
                array = np.empty(len(found), object)
                array[:] = [
                    None if gone else row[size + start : size + end].decode()
                    for row, start, end, gone in zip(found, starts, ends[:, place].tolist(), null.tolist(), strict=True)
                ]
            values[column.name] = array
        return values, nulls

    return read


def check(ours: Reader, theirs: Reader, width: int) -> None:
    """Fail unless both sides give the same."""
    for batch in (1, 1000):
        users = sample(batch, random.Random(batch))
        (values, nulls), (other_values, other_nulls) = ours(users), theirs(users)
        assert list(values) == list(other_values) == [column.name for column in columns(width)]
        for name, array in values.items():
            assert (nulls[name] == other_nulls[name]).all(), name
            there = ~nulls[name]
            assert (array[there] == other_values[name][there]).all(), name
            assert array.dtype == other_values[name].dtype, name


def sample(batch: int, generator: random.Random) -> list[str]:
    """User ids at random, every fiftieth unknown."""
    return [user(generator.randrange(USERS) + (USERS if n % 50 == 49 else 0)) for n in range(batch)]


def time_both(ours: Reader, theirs: Reader, width: int, batch: int, *, seconds: float | None = None) -> Timing:
    """Call both sides in turn on the same users, for some seconds."""
    seconds = seconds or float(os.environ.get("FSTORE_BENCH_SECONDS", "6"))
    generator = random.Random(batch)
    requests = [sample(batch, generator) for _ in range(64)]
    for users in requests[:20]:
        ours(users), theirs(users)
    own: list[float] = []
    other: list[float] = []
    gc.collect()
    until = time.perf_counter() + seconds
    number = 0
    while time.perf_counter() < until or number < 100:
        users = requests[number % len(requests)]
        pairs = ((ours, own), (theirs, other))
        for side, taken in pairs if number % 2 else reversed(pairs):
            began = time.perf_counter()
            side(users)
            taken.append(time.perf_counter() - began)
        number += 1
    return Timing(width=width, batch=batch, ours=own, theirs=other)


def _step(width: int, key: tuple[Column, ...]) -> SqlStep:
    return SqlStep(
        project=PROJECT, view=view_name(width), entity="user", keys=key,
        features=tuple(Feature(name=column.name, type=column.type, fingerprint=column.name) for column in columns(width)),
        kind="snapshot", schedule=Schedule("0 0 * * *"), start=Interval(END - timedelta(days=1), END).start, end=None,
        lag=timedelta(), ttl=TTL, online=True, pipeline="p", inputs=(), audits=(), lineage=(), fingerprint=view_name(width),
        module="feature_defs/bench.py", line=1, sql="SELECT 1",
    )  # fmt: skip
