"""Small inputs for the engine's tests."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fstore.engines.duckdb import DuckDBEngine
from fstore.engines.engine import Query, Relation

DAY = dt.timedelta(days=1)


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def instants(*texts: str | None, type: pa.DataType | None = None) -> pa.Array:
    values = [None if text is None else utc(text) for text in texts]
    array = pa.array(values, pa.timestamp("us", tz="UTC"))
    return array if type is None else array.cast(type)


def write_parquet(path: Path, columns: Mapping[str, object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(columns)), path)
    return path


def rows(
    engine: DuckDBEngine, sql: str, parameters: Mapping[str, dt.datetime] | None = None, **relations: Relation
) -> list[tuple[object, ...]]:
    """The rows of a query as plain tuples; instants as ISO text without the zone, which is always UTC."""
    with engine.read(Query(sql=sql, relations=relations, parameters=parameters or {})) as reader:
        table = reader.read_all()
    return [tuple(_plain(value) for value in row.values()) for row in table.to_pylist()]


def _plain(value: object) -> object:
    return value.astimezone(dt.UTC).isoformat().removesuffix("+00:00") if isinstance(value, dt.datetime) else value
