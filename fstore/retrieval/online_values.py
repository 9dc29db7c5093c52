"""Judge the rows of one view: which values hold now, and what stands for those that do not.

Takes rows and floor as the store gave them and the moment of the read; gives values that are decoded when asked for. First
every row is made to stand for itself (*settled*): a missing one becomes the view's empty row as of the floor, or says that
nothing is known. A settled row holds however the floor rises, so a cache may keep it. Then lag and ttl apply.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, cast

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fstore.arrow import TIMESTAMP, arrow_type
from fstore.errors import StoreCorrupt
from fstore.interval import MICROSECOND, from_micros, to_micros
from fstore.plan.steps import EVENT_TIMESTAMP
from fstore.retrieval.features import SelectedView, empty_values
from fstore.retrieval.online_entities import Mask
from fstore.stores.encoding import RowCodec, RowDecoder
from fstore.stores.online import Floor
from fstore.stores.row_layout import HEADER_BYTES, schema_id
from fstore.stores.row_values import RowReader, RowValues
from fstore.types import Column, parse_type

Status = Literal["value", "empty", "expired", "absent", "null_key", "computed", "offline"]
STATUSES: tuple[Status, ...] = ("value", "empty", "expired", "absent", "null_key", "computed", "offline")
"""What a value stands on: a stored row; the empty row, as the key has none; nothing, as what there is is older than ttl;
nothing, as nothing is known; nothing, as the key has a null; the request, as the feature is computed on demand; a
point-in-time join of now, as the view is not kept online."""

_VALUE, _EMPTY, _EXPIRED, _ABSENT, _NULL_KEY = range(5)
_MADE = 0xFF
"""The first byte of rows made here, whose eighth byte is their status: no publication's sequence begins with it."""
_HEAD = struct.Struct(">B6xBq")
_NOW = timedelta()


class ViewValues:
    """One view's features for all entities, and where they come from; lists have an item per entity."""

    def __init__(
        self, rows: RowValues, codes: npt.NDArray[np.int8] | None, instants: list[int],
        read: Reading | None = None,
    ) -> None:  # fmt: skip
        """Keep what was judged; ``codes`` are statuses as numbers (None: all are stored rows), ``instants`` microseconds."""
        self.rows, self._codes, self._instants, self._read = rows, codes, instants, read

    def statuses(self) -> list[Status]:
        """Return a status per entity."""
        if self._codes is None:
            return ["value"] * len(self._instants)
        return [STATUSES[code] for code in self._codes.tolist()]

    def event_timestamps(self) -> list[datetime | None]:
        """Return the instant that the values describe, None where there are none."""
        if self._codes is None:
            return [from_micros(micros) for micros in self._instants]
        pairs = zip(self._codes.tolist(), self._instants, strict=True)
        return [from_micros(micros) if code <= _EMPTY else None for code, micros in pairs]

    def ages(self) -> list[timedelta]:
        """Return how long ago the values were read from the store."""
        return [_NOW] * len(self._instants) if self._read is None else list(self._read.ages)

    def cache_hits(self) -> list[bool]:
        """Return which values come from a cache."""
        return [False] * len(self._instants) if self._read is None else list(self._read.cached)


class Reading:
    """When the rows of entities were read, where that was before this read, and which came from a cache."""

    def __init__(self, ages: Sequence[timedelta], cached: Sequence[bool]) -> None:
        self.ages, self.cached = ages, cached

    def among(self, complete: Mask) -> Reading:
        """Return the same for all entities, of which those that are not complete have nothing to read."""
        ages, cached = iter(self.ages), iter(self.cached)
        return Reading(
            [next(ages) if whole else _NOW for whole in complete.tolist()],
            [next(cached) if whole else False for whole in complete.tolist()],
        )


class ViewJudge:
    """Judges the rows of one view, and reads the features wanted from them. Made once per list of features."""

    def __init__(self, view: SelectedView, schemas: Sequence[Sequence[Column]]) -> None:
        """``schemas`` are the feature columns, now and before, that rows of the view may have."""
        step = view.step
        features = [feature for feature in step.features if feature.type is not None]
        columns = [Column(name=feature.name, type=feature.type or "") for feature in features]
        self.codec = RowCodec(step.keys, columns)
        self._reader = RowReader(columns, [feature.name for feature in view.features])
        self._decoder = RowDecoder(columns, {schema_id(one): one for one in schemas})
        self._step, self._event = step, step.kind == "event"
        self._lag, self._ttl = step.lag // MICROSECOND, None if step.ttl is None else step.ttl // MICROSECOND
        self._end = None if step.end is None else to_micros(step.end)
        empty = {feature.name: value for feature, value in zip(features, _empty_row(view, columns), strict=True)}
        self._empty = self._encode_one(columns, empty)
        self._null = self._encode_one(columns, {})
        self.null_key = _HEAD.pack(_MADE, _NULL_KEY, 0) + self._null
        self._of_floor: tuple[Floor | None, bytes, bytes] = (None, b"", b"")

    def settle(self, rows: Sequence[bytes | None], floor: Floor) -> list[bytes]:
        """Return rows of which each stands for itself: missing ones, and those below the floor, are made."""
        if not rows:
            return []
        of_floor = self._of_floor
        if of_floor[0] is not floor:  # floors rise once an interval
            of_floor = self._of_floor = (floor, *self._below(floor))
        _, lowest, made = of_floor
        settled = [made if row is None else row for row in rows] if None in rows else cast("list[bytes]", rows)
        shortest = min(map(len, settled))
        if shortest < HEADER_BYTES:
            raise StoreCorrupt(f"a stored row has {shortest} bytes, fewer than its header of {HEADER_BYTES}")
        if shortest > HEADER_BYTES and min(settled)[:8] >= lowest:
            return settled
        return [made if len(row) == HEADER_BYTES or row[:8] < lowest else row for row in settled]

    def judge(self, rows: list[bytes], now: datetime, read: Reading | None = None) -> ViewValues:
        """Return the values of settled rows as of ``now``.

        Raises StoreCorrupt on a row that is cut short or has a schema that is not known.
        """
        values = self._values(rows)
        if not rows:
            return ViewValues(values, None, [], read)
        instants = values.event_timestamps()
        at = to_micros(now)
        visible = at - self._lag
        oldest = None if self._ttl is None else (at if self._end is None else min(at, self._end)) - self._ttl
        earliest, latest = (instants[0], instants[0]) if len(rows) == 1 else (min(instants), max(instants))
        timely = latest <= visible and (oldest is None or earliest >= oldest)
        first = values.header_bytes(0)
        if timely and _MADE not in first:
            return ViewValues(values, None, instants, read)
        made = np.frombuffer(first, np.uint8) == _MADE
        codes = np.where(made, np.frombuffer(values.header_bytes(7), np.int8), np.int8(_VALUE))
        if not timely:
            micros = np.array(instants, np.int64)
            codes[(codes <= _EMPTY) & (micros > visible)] = _ABSENT
            if oldest is not None:
                codes[(codes <= _EMPTY) & (micros < oldest)] = _EXPIRED
            values = self._without(values, rows, codes > _EMPTY)
        return ViewValues(values, codes, instants, read)

    def _below(self, floor: Floor) -> tuple[bytes, bytes]:
        """Return the lowest sequence that counts, and the row that stands for those that are not there."""
        if self._event:
            return b"", _HEAD.pack(_MADE, _ABSENT, 0) + self._null
        return floor.sequence.to_bytes(8, "big"), _HEAD.pack(_MADE, _EMPTY, to_micros(floor.end)) + self._empty

    def _without(self, values: RowValues, rows: list[bytes], gone: Mask) -> RowValues:
        """Return the values with nulls for rows that hold no longer, or not yet."""
        places = np.flatnonzero(gone).tolist()
        if not places:
            return values
        rows, null = list(rows), _HEAD.pack(_MADE, _ABSENT, 0) + self._null
        for place in places:
            rows[place] = null
        return self._values(rows)

    def _values(self, rows: list[bytes]) -> RowValues:
        """Return the values of rows, those of older schemas brought into the one of now first."""
        values = self._reader.read(rows)
        if values is None:
            table = self._decoder.decode_rows(rows)
            whole = self.codec.encode_rows(table, 0)
            values = self._reader.read([row[:8] + new[8:] for row, new in zip(rows, whole, strict=True)])
            assert values is not None, "they were packed just now"
        return values

    def _encode_one(self, columns: Sequence[Column], values: dict[str, pa.Array]) -> bytes:
        """Return what follows sequence and time in a row of these values, null where there is none."""
        arrays = [values.get(column.name, pa.nulls(1, arrow_type(parse_type(column.type)))) for column in columns]
        instant = pa.Array.from_buffers(TIMESTAMP, 1, [None, pa.py_buffer(bytes(8))])
        table = pa.Table.from_arrays([instant, *arrays], names=[EVENT_TIMESTAMP, *(column.name for column in columns)])
        (row,) = self.codec.encode_rows(table, 0)
        return row[16:]


def _empty_row(view: SelectedView, columns: Sequence[Column]) -> list[pa.Array]:
    """Return the values that a key without a row has, for all features of the view."""
    features = tuple(feature for feature in view.step.features if feature.type is not None)
    whole = msgspec.structs.replace(view, features=features, columns=tuple(column.name for column in columns))
    return [column.combine_chunks() for column in empty_values(whole).columns]
