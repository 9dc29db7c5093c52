"""Answers to online reads, made for speed: values go from rows to JSON without an Arrow table in between.

In JSON, ``statuses`` and ``event_timestamps`` stand beside the values if asked for. In an Arrow stream they are further
columns, a pair for each view, and ``fstore.online`` in the metadata of its schema says which pair a feature has.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from itertools import chain
from math import isfinite
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from fstore.arrow import TIMESTAMP
from fstore.errors import NotAcceptable
from fstore.retrieval.online_response import OnlineResponse, Outputs
from fstore.retrieval.online_values import STATUSES, Status
from fstore.serving.exchange import Answer
from fstore.serving.json_values import SAFE_INTEGER, Encode, encoder, unchanged
from fstore.serving.media import ASK_FOR_ARROW, JSON_TYPE
from fstore.serving.responses import ColumnDescription, TableAnswer, arrow_answer

DETAILS_KEY = b"fstore.online"

STATUS_COLUMN, TIME_COLUMN = "fstore:status:", "fstore:time:"
"""How the further columns are called, before the number of their pair: indexes of STATUSES, and instants."""

_encode_times: Encode = encoder("timestamp")


class _Shape(NamedTuple):
    """How a JSON answer with certain columns begins, up to the number of rows, and which of them JSON has no form for.

    Floats and integers nearly always have one, which is looked at for all columns of a kind at once.
    """

    head: bytes
    floats: list[str]
    integers: list[str]
    others: list[str]
    encoders: dict[str, Encode]


class OnlineAnswer(TableAnswer, frozen=True, kw_only=True, omit_defaults=True):
    """An answer to an online read; ``statuses`` and ``event_timestamps`` by feature column, if asked for."""

    statuses: dict[str, list[Status]] | None = None
    event_timestamps: dict[str, list[str | None]] | None = None


def online_json(
    response: OnlineResponse, entity_types: Mapping[str, str], *, statuses: bool, event_timestamps: bool
) -> Answer:
    """Return a response as JSON; the types are those of the entity columns. Raises NotAcceptable."""
    shape = _shape(tuple(entity_types.items()), response.outputs)
    values = response.to_dict()
    name = ""
    try:
        for name in _without_form(shape, values):
            values[name] = shape.encoders[name](values[name])
        encoded = msgspec.json.encode(values)
    except (ValueError, OverflowError) as error:  # a time that Python has no form for
        raise NotAcceptable(f"column {name!r} has a value that JSON has no form for: {error}. {ASK_FOR_ARROW}") from None
    parts = [shape.head, str(len(response)).encode(), b',"values":', encoded]
    if statuses:
        parts += [b',"statuses":', msgspec.json.encode(response.statuses)]
    if event_timestamps:
        times = {column: _encode_times(list(given)) for column, given in response.event_timestamps.items()}
        parts += [b',"event_timestamps":', msgspec.json.encode(times)]
    parts.append(b"}")
    return Answer(body=[b"".join(parts)], content_type=JSON_TYPE, rows=len(response))


def online_arrow(response: OnlineResponse, *, details: bool) -> Answer:
    """Return a response as an Arrow stream, with statuses and times if ``details`` are asked for."""
    table = response.to_arrow()
    return arrow_answer(_with_details(table, response) if details else table)


@lru_cache(maxsize=1024)
def _shape(entity_types: tuple[tuple[str, str], ...], outputs: Outputs) -> _Shape:
    types = {**dict(entity_types), **outputs.types}
    columns = [ColumnDescription(name=name, type=kind) for name, kind in types.items()]
    encoders = {name: encoder(kind) for name, kind in types.items() if encoder(kind) is not unchanged}
    floats = [name for name in encoders if types[name] in ("float32", "float64")]
    integers = [name for name in encoders if types[name] in ("int64", "uint64")]
    others = [name for name in encoders if name not in floats and name not in integers]
    return _Shape(b'{"columns":' + msgspec.json.encode(columns) + b',"rows":', floats, integers, others, encoders)


def _without_form(shape: _Shape, values: Mapping[str, list[Any]]) -> list[str]:
    """Return the columns that have to be encoded: one of their values may be what JSON has no form for."""
    found = shape.others
    if shape.floats and not isfinite(sum(filter(None, chain.from_iterable([values[name] for name in shape.floats])))):
        found = found + shape.floats  # a sum is finite only if every term is
    if shape.integers:
        whole = list(filter(None, chain.from_iterable([values[name] for name in shape.integers])))
        if whole and (max(whole) > SAFE_INTEGER or min(whole) < -SAFE_INTEGER):
            found = found + shape.integers
    return found


def _with_details(table: pa.Table, response: OnlineResponse) -> pa.Table:
    """Append each distinct pair of statuses and times, which the features of a view share, and say whose they are."""
    statuses, times = response.statuses, response.event_timestamps
    pairs: list[tuple[list[Status], list[datetime | None]]] = []
    pair_of: dict[str, int] = {}
    for feature, given in statuses.items():
        pair = (given, times[feature])
        if pair not in pairs:
            pairs.append(pair)
        pair_of[feature] = pairs.index(pair)
    for number, (given, at) in enumerate(pairs):
        table = table.append_column(f"{STATUS_COLUMN}{number}", pa.array(map(STATUSES.index, given), pa.int8()))
        table = table.append_column(f"{TIME_COLUMN}{number}", pa.array(at, TIMESTAMP))
    metadata = {**(table.schema.metadata or {}), DETAILS_KEY: msgspec.json.encode(pair_of)}
    return table.replace_schema_metadata(metadata)
