"""Where the published row of each entity row lies: by a table with an entry for every pair of snapshot and key.

A snapshot has a row for nearly every key, so nearly all pairs exist, and a table indexed by the pair finds a row without
hashing or comparing anything (direct addressing; Cormen, Leiserson, Rivest and Stein, Introduction to Algorithms, 11.1).
Where most pairs have no row, those that have one are hashed instead. Takes pieces of published rows and entity rows; reads
keys and times only. Gives addresses: the number of a piece, and that of a row in it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fstore.arrays import Mask, joined, number_array, raw_values, truth_array, valid
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
        starts = np.concatenate([[0], np.flatnonzero(times[1:] != times[:-1]) + 1])
        at = np.minimum(np.searchsorted(self.ends, times[starts]), len(self.ends) - 1)
        counts = (self.ends[at] == times[starts]) & (self.attempts[at] == attempt)
        return np.repeat(np.where(counts, at, -1).astype(np.int32), np.diff(np.append(starts, len(times))))


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """The published row of each entity row as one number, -1 where there is none: its piece, then ``bits`` for the row."""

    numbers: Numbers
    bits: int

    @property
    def found(self) -> Mask:
        """Where there is a row."""
        return self.numbers >= 0

    def by_piece(self, pieces: int) -> Iterator[tuple[Numbers, Numbers]]:
        """Yield, per piece, the entity rows that find theirs in it, ascending, and the rows found."""
        piece = (self.numbers >> self.bits).astype(np.int16 if pieces < 1 << 15 else np.int32)
        order = np.argsort(piece, kind="stable")  # by radix, where there are 16 bits
        ends = np.cumsum(np.bincount(piece + 1, minlength=pieces + 1))
        for start, end in itertools.pairwise(ends):
            places = order[start:end]
            yield places, (self.numbers[places] & ((1 << self.bits) - 1)).astype(np.intp)


class _Coded(msgspec.Struct, frozen=True, kw_only=True):
    """Keys as numbers below ``count``, -1 where they meet no other: of the rows of each piece, and of the entity rows."""

    pieces: list[Numbers]
    spine: Numbers
    count: int


def find_addresses(
    pieces: Sequence[Piece], declared: Sequence[Column], snapshots: Snapshots, keys: Sequence[pa.ChunkedArray],
    wanted: Numbers, threads: ThreadPoolExecutor,
) -> Addresses:  # fmt: skip
    """Return where the row of each entity row lies, given its ``keys`` and which snapshot is ``wanted`` (-1: none).

    ``declared`` are the view's keys, of which every snapshot has each at most once. Raises what :meth:`Piece.read` raises.
    """
    read = list(threads.map(lambda piece: _read_keys(piece, declared, snapshots), pieces))
    coded = _coded([columns[0] for _, columns in read], keys[0])
    for index in range(1, len(declared)):
        coded = _paired(coded, _coded([columns[index] for _, columns in read], keys[index]))
    snapshot = [found for found, _ in read]
    bits = max((piece.rows for piece in pieces), default=1).bit_length()
    rows = sum(piece.rows for piece in pieces)
    pair = np.where((coded.spine >= 0) & (wanted >= 0), wanted * np.int64(coded.count) + coded.spine, -1)
    pairs = len(snapshots.ends) * coded.count
    find = _by_table if pairs <= SPARSE * rows else _by_hash
    return Addresses(numbers=find(coded, snapshot, pair, pairs, bits), bits=bits)


def _by_table(coded: _Coded, snapshot: Sequence[Numbers], pair: Numbers, pairs: int, bits: int) -> Numbers:
    """Return the address of each pair, from a table with an entry for all; one more at its end is for -1."""
    table = np.full(pairs + 1, -1, dtype=np.int32 if len(snapshot) << bits < 1 << 31 else np.int64)
    for index, (of_row, code) in enumerate(zip(snapshot, coded.pieces, strict=True)):
        numbers = np.arange(index << bits, (index << bits) + len(code), dtype=table.dtype)
        at = of_row * np.int64(coded.count) + code
        if not _all_count(of_row, code):
            counts = (of_row >= 0) & (code >= 0)
            at, numbers = at[counts], numbers[counts]
        table[at] = numbers
    return cast("Numbers", table[pair])


def _by_hash(coded: _Coded, snapshot: Sequence[Numbers], pair: Numbers, _pairs: int, bits: int) -> Numbers:
    """Return the same from the hashes of the pairs that have a row."""
    held, numbers = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for index, (of_row, code) in enumerate(zip(snapshot, coded.pieces, strict=True)):
        counts = np.flatnonzero((of_row >= 0) & (code >= 0))
        held.append(of_row[counts] * np.int64(coded.count) + code[counts])
        numbers.append((index << bits) + counts)
    found = _positions(number_array(pair), number_array(np.concatenate(held)))
    return np.append(np.concatenate(numbers), -1)[found]


def _all_count(of_row: Numbers, code: Numbers) -> bool:
    return not len(code) or (int(of_row.min()) >= 0 and int(code.min()) >= 0)


# -- keys -------------------------------------------------------------------------------------------------------------


def _read_keys(piece: Piece, declared: Sequence[Column], snapshots: Snapshots) -> tuple[Numbers, list[pa.ChunkedArray]]:
    """Return which snapshot each row of a piece belongs to, and its keys as dictionaries."""
    table = piece.read([*(key.name for key in declared), EVENT_TIMESTAMP])
    times = cast("Micros", raw_values(joined(table[EVENT_TIMESTAMP].cast(TIMESTAMP).cast(pa.int64()))))
    columns = []
    for key in declared:
        column, kind = table[key.name], arrow_type(parse_type(key.type))
        if not pa.types.is_dictionary(column.type):
            column = column.cast(kind).dictionary_encode()
        columns.append(column)
    return snapshots.of_rows(piece, times), columns


def _coded(columns: Sequence[pa.ChunkedArray], spine: pa.ChunkedArray) -> _Coded:
    """Return a key of published rows, which are dictionaries, and of entity rows as numbers."""
    seen: list[pa.Array] = []  # most files have the keys of the one before
    for column in columns:
        seen += [chunk.dictionary for chunk in column.chunks if not seen or not chunk.dictionary.equals(seen[-1])]
    distinct = pc.unique(pa.chunked_array(seen, type=spine.type)).drop_null()
    known: tuple[pa.Array, Numbers] | None = None
    pieces = []
    for column in columns:
        codes = [np.zeros(0, np.int32)]
        for chunk in column.chunks:
            if known is None or not chunk.dictionary.equals(known[0]):
                known = chunk.dictionary, np.append(_positions(chunk.dictionary, distinct), np.int32(-1))
            codes.append(known[1][_filled(chunk.indices)])
        pieces.append(np.concatenate(codes))
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
