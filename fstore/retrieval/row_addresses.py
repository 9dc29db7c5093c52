"""Where the published row of each entity row lies: by a table with an entry for every pair of snapshot and key.

A snapshot has a row for nearly every key, so nearly all pairs exist, and a table indexed by the pair finds a row without
hashing or comparing anything (direct addressing; Cormen, Leiserson, Rivest and Stein, Introduction to Algorithms, 11.1).
Where most pairs have no row, those that have one are hashed instead. Takes keys and times of published rows, piece by piece,
and entity rows. Gives addresses: the number of a row, counted from 1 over all pieces.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import cast

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fstore.arrays import joined, number_array, raw_values, truth_array, valid
from fstore.arrow import TIMESTAMP, arrow_type
from fstore.plan.steps import EVENT_TIMESTAMP
from fstore.retrieval.history import Micros
from fstore.retrieval.row_pieces import Piece
from fstore.types import Column, parse_type

Numbers = npt.NDArray[np.signedinteger]

SPARSE = 8
"""With more than so many pairs of snapshot and key per row, the pairs are hashed."""


class Snapshots(msgspec.Struct, frozen=True, kw_only=True):
    """The snapshots that are read: their ``ends``, ascending, and the ``attempts`` that answer for them."""

    ends: Micros
    attempts: npt.NDArray[np.int64]

    def of_rows(self, piece: Piece, times: Micros) -> Numbers:
        """Return which snapshot each row of a piece belongs to, -1 where it is not to be read of its file."""
        found = [np.zeros(0, dtype=np.int32)]
        first = 0
        for part in piece.parts:
            found.append(self._of_part(part.attempt, times[first : first + part.rows]))
            first += part.rows
        return np.concatenate(found)

    def _of_part(self, attempt: int, times: Micros) -> Numbers:
        """Return the same for rows that one attempt wrote: sorted by time, so that a search per change of it is enough."""
        if not len(times) or not len(self.ends):
            return np.full(len(times), -1, dtype=np.int32)
        one = times[0] == times[-1]
        starts = np.zeros(1, np.intp) if one else np.concatenate([[0], np.flatnonzero(times[1:] != times[:-1]) + 1])
        at = np.minimum(np.searchsorted(self.ends, times[starts]), len(self.ends) - 1)
        counts = (self.ends[at] == times[starts]) & (self.attempts[at] == attempt)
        return np.repeat(np.where(counts, at, -1).astype(np.int32), np.diff(np.append(starts, len(times))))


class PieceKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of a piece, numbered from ``start`` on: which ``snapshot`` each belongs to (-1: none), and its ``keys``."""

    start: int
    snapshot: Numbers
    keys: list[list[pa.DictionaryArray]]


class _Coded(msgspec.Struct, frozen=True, kw_only=True):
    """Keys as numbers below ``count``, -1 where they meet no other: of the rows of each piece, and of the entity rows."""

    pieces: list[Numbers]
    spine: Numbers
    count: int


def piece_keys(table: pa.Table, piece: Piece, start: int, declared: Sequence[Column], snapshots: Snapshots) -> PieceKeys:
    """Return the keys of a piece from a table with the declared ones and the times; its rows count from ``start`` on."""
    times = cast("Micros", raw_values(joined(table[EVENT_TIMESTAMP].cast(TIMESTAMP).cast(pa.int64()))))
    ends = list(itertools.accumulate(part.rows for part in piece.parts))
    keys = [_of_parts(table[key.name], arrow_type(parse_type(key.type)), ends) for key in declared]
    return PieceKeys(start=start, snapshot=snapshots.of_rows(piece, times), keys=keys)


def find_addresses(
    pieces: Sequence[PieceKeys], snapshots: Snapshots, keys: Sequence[pa.ChunkedArray], wanted: Numbers
) -> npt.NDArray[np.intp]:
    """Return the number of each entity row's row, 0 where there is none.

    Entity rows have ``keys``, and snapshots that are ``wanted`` (-1: none). Every snapshot has each key at most once.
    """
    coded = _coded([piece.keys[0] for piece in pieces], keys[0])
    for index in range(1, len(keys)):
        coded = _paired(coded, _coded([piece.keys[index] for piece in pieces], keys[index]))
    rows, pairs = sum(len(piece.snapshot) for piece in pieces), len(snapshots.ends) * coded.count
    pair = wanted.astype(np.int64)
    pair *= coded.count
    pair += coded.spine
    pair[(coded.spine < 0) | (wanted < 0)] = pairs
    return (_by_table if pairs <= SPARSE * rows else _by_hash)(coded, pieces, pair, pairs).astype(np.intp)


def _by_table(coded: _Coded, pieces: Sequence[PieceKeys], pair: Numbers, pairs: int) -> Numbers:
    """Return the number of each pair's row, from a table with an entry for all, and a last one for none."""
    last = max((piece.start + len(piece.snapshot) for piece in pieces), default=0)
    table = np.zeros(pairs + 1, dtype=np.int32 if last < 1 << 31 else np.int64)
    for piece, code in zip(pieces, coded.pieces, strict=True):
        numbers = np.arange(piece.start, piece.start + len(code), dtype=table.dtype)
        at = piece.snapshot * np.int64(coded.count) + code
        if not _all_count(piece.snapshot, code):
            counts = (piece.snapshot >= 0) & (code >= 0)
            at, numbers = at[counts], numbers[counts]
        table[at] = numbers
    return cast("Numbers", table.take(pair))


def _by_hash(coded: _Coded, pieces: Sequence[PieceKeys], pair: Numbers, _pairs: int) -> Numbers:
    """Return the same from the hashes of the pairs that have a row."""
    held, numbers = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for piece, code in zip(pieces, coded.pieces, strict=True):
        counts = np.flatnonzero((piece.snapshot >= 0) & (code >= 0))
        held.append(piece.snapshot[counts] * np.int64(coded.count) + code[counts])
        numbers.append(piece.start + counts)
    found = _positions(number_array(pair), number_array(np.concatenate(held)))
    return np.append(np.concatenate(numbers), 0)[found]


def _all_count(of_row: Numbers, code: Numbers) -> bool:
    return not len(code) or (int(of_row.min()) >= 0 and int(code.min()) >= 0)


# -- keys -------------------------------------------------------------------------------------------------------------


def _of_parts(column: pa.ChunkedArray, kind: pa.DataType, ends: Sequence[int]) -> list[pa.DictionaryArray]:
    """Return a key of a piece as dictionaries, one for the rows of each part; parts with equal keys have the same."""
    whole = joined(column)
    parts = [whole.slice(start, end - start) for start, end in itertools.pairwise([0, *ends]) if end > start]
    if not parts:
        return []
    same = [False, *(after.equals(before) for before, after in itertools.pairwise(parts))]
    different = [part for part, repeated in zip(parts, same, strict=True) if not repeated]
    if not pa.types.is_dictionary(whole.type):
        different = pa.chunked_array(different).cast(kind).dictionary_encode().chunks
    number = np.cumsum(np.logical_not(same)) - 1
    return [different[index] for index in number]


def _coded(columns: Sequence[Sequence[pa.DictionaryArray]], spine: pa.ChunkedArray) -> _Coded:
    """Return a key of published rows and of entity rows as numbers."""
    seen: list[pa.Array] = []  # most files have the keys of the one before
    for column in columns:
        seen += [part.dictionary for part in column if not seen or not part.dictionary.equals(seen[-1])]
    distinct = pc.unique(pa.chunked_array(seen, type=spine.type)).drop_null()
    last: pa.DictionaryArray | None = None
    positions, codes = np.zeros(0, np.int32), np.zeros(0, np.int32)
    pieces = []
    for column in columns:
        found = [np.zeros(0, np.int32)]
        for part in column:
            if last is None or not part.dictionary.equals(last.dictionary):
                positions = np.append(_positions(part.dictionary, distinct), np.int32(-1))
            if part is not last:
                last, codes = part, positions[_filled(part.indices)]
            found.append(codes)
        pieces.append(np.concatenate(found))
    return _Coded(pieces=pieces, spine=_positions(spine, distinct), count=len(distinct))


def _paired(first: _Coded, second: _Coded) -> _Coded:
    """Return pairs of keys as numbers: those of the pairs that published rows have."""

    def pair(one: Numbers, other: Numbers) -> pa.Array:
        return number_array(np.where((one >= 0) & (other >= 0), one * np.int64(second.count) + other, -1))

    pieces = [pair(one, other) for one, other in zip(first.pieces, second.pieces, strict=True)]
    distinct = pc.unique(pa.chunked_array(pieces, type=pa.int64()))
    distinct = distinct.filter(truth_array(cast("Numbers", raw_values(distinct)) >= 0))
    return _Coded(
        pieces=[_positions(found, distinct) for found in pieces],
        spine=_positions(pair(first.spine, second.spine), distinct), count=len(distinct),
    )  # fmt: skip


def _positions(values: pa.Array | pa.ChunkedArray, distinct: pa.Array) -> Numbers:
    """Return where each value is among distinct ones, -1 for nulls and others."""
    found = pc.index_in(values, value_set=distinct, skip_nulls=True)
    return _filled(joined(found) if isinstance(found, pa.ChunkedArray) else found)


def _filled(indices: pa.Array) -> Numbers:
    """Return indices with -1 for null."""
    values = cast("Numbers", raw_values(indices))
    return np.where(valid(indices), values, values.dtype.type(-1)) if indices.null_count else values
