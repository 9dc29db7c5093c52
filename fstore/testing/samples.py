"""Small data for every source of a project: sampled from what the source has, or made up from the schema that it declares.

Takes a source and a stretch of time and gives a table of its rows, always the same one. Made-up keys are drawn from a few
values per column name, so that sources meet when they are joined; times lie on both sides of every edge of the stretch.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa

from fstore.arrow import arrow_type
from fstore.definitions.source import PhysicalSource
from fstore.engines.engine import DimensionRelation, Engine, EventRelation, Query
from fstore.errors import FStoreError
from fstore.interval import Interval
from fstore.types import DataType, parse_type

SAMPLED_ROWS = 400
DIMENSION_ROWS = 5_000
_MADE_UP_ROWS = 160
_KEYS = 4
_NULLS = 0.1


class NoSample(FStoreError):
    """A source that neither has data nor declares what it would look like."""

    code = "test_sample"


def sample_rows(engine: Engine, source: PhysicalSource, keys: Mapping[str, str], around: Interval) -> pa.Table:
    """Return rows of a source, with the columns that it shows: of events those within ``around``, and not many.

    ``keys`` are the join keys of the project with their types. Raises NoSample.
    """
    if source.schema is not None:
        return _made_up(source, keys, around)
    try:
        return _sampled(engine, source, around)
    except FStoreError as error:
        raise NoSample(
            f"source {source.name!r} cannot be sampled, and declares no schema to make rows from: {error}"
        ) from error


def _sampled(engine: Engine, source: PhysicalSource, around: Interval) -> pa.Table:
    if source.event_time is not None:
        relation: EventRelation | DimensionRelation = EventRelation(source=source, start=around.start, end=around.end)
        limit = SAMPLED_ROWS
    else:
        relation, limit = DimensionRelation(source=source, end=around.end), DIMENSION_ROWS
    sql = f"SELECT * FROM r ORDER BY md5(CAST(r AS VARCHAR)) LIMIT {limit}"  # the same rows every time
    with engine.read(Query(sql=sql, relations={"r": relation})) as reader:
        return reader.read_all()


def _made_up(source: PhysicalSource, keys: Mapping[str, str], around: Interval) -> pa.Table:
    dice = random.Random(source.name)  # noqa: S311  (the same rows every time; nothing here is a secret)
    schema = {source.renamed.get(name, name): parse_type(text) for name, text in (source.schema or {}).items()}
    identity = [source.renamed.get(name, name) for name in source.key_columns]
    rows = _versions(identity, schema, dice) if source.event_time is None else [{} for _ in range(_MADE_UP_ROWS)]
    time = source.event_time or source.updated_at
    table = {
        name: pa.array(
            [
                row[name] if name in row
                else _instant(dice, around) if name == time
                else _value(dice, type_, around, key=name in keys)
                for row in rows
            ],
            arrow_type(type_),
        )
        for name, type_ in schema.items()
    }  # fmt: skip
    return pa.table(table)


def _versions(identity: Sequence[str], schema: Mapping[str, DataType], dice: random.Random) -> list[dict[str, object]]:
    """Return the keys of a dimension's rows, each twice: every combination of a few values per key column."""
    keys: list[dict[str, object]] = [{}]
    for name in identity:
        keys = [{**key, name: _key(schema[name], number)} for key in keys for number in range(_KEYS)]
    dice.shuffle(keys)
    return [*keys[:50], *keys[:50]]


def _key(type_: DataType, number: int) -> object:
    if type_.is_integer:
        return number
    return {"bool": bool(number % 2), "date": date(2020, 1, 1) + timedelta(days=number)}.get(type_.name, f"key {number}")


def _instant(dice: random.Random, around: Interval) -> datetime:
    """Return an instant, often a whole day, hour or minute, where windows and intervals begin and end."""
    seconds = int((around.end - around.start).total_seconds())
    instant = around.start + timedelta(seconds=dice.randrange(max(seconds, 1)))
    rounded = {0: {"hour": 0, "minute": 0, "second": 0}, 1: {"minute": 0, "second": 0}, 2: {"second": 0}}
    return instant.replace(microsecond=0, **rounded.get(dice.randrange(4), {}))  # type: ignore[arg-type]


def _value(dice: random.Random, type_: DataType, around: Interval, *, key: bool) -> object:
    if key:
        return _key(type_, dice.randrange(_KEYS))
    if dice.random() < _NULLS:
        return None
    match type_.name:
        case "bool":
            return dice.random() < 0.5
        case "float32" | "float64":
            return dice.choice([0.0, -1.5, dice.uniform(-1000, 1000)])
        case "decimal":
            return Decimal(dice.randrange(10 ** min(type_.precision, 6))).scaleb(-type_.scale)
        case "date":
            return around.start.date() - timedelta(days=dice.randrange(10_000))
        case "timestamp":
            return datetime.fromtimestamp(dice.randrange(int(around.end.timestamp())), tz=UTC)
        case "binary":
            return dice.randbytes(3)
        case "vector" | "list":
            item = type_.item or parse_type("float64")
            return [_value(dice, item, around, key=True) for _ in range(type_.size or dice.randrange(4))]
        case "map":
            item = type_.item or parse_type("float64")
            return [(f"key {number}", _value(dice, item, around, key=True)) for number in range(dice.randrange(4))]
        case _ if type_.is_integer:
            return dice.randrange(100)
        case _:
            return f"{dice.choice('abc')}"
