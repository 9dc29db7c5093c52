"""Columns that are put together from pieces: by rows that are known or not, and in several arrays where one cannot hold all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from fstore.retrieval import gathered_columns
from fstore.retrieval.gathered_columns import gathered_column

TEXTS = ["a" * 100, "", None, "b" * 99] * 5


def rows(*numbers: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    return np.array(numbers, dtype=np.intp)


def column(values: pa.Array, encoded: bool) -> pa.ChunkedArray:
    return pa.chunked_array([values.dictionary_encode() if encoded else values])


@pytest.mark.parametrize("kind", [pa.string(), pa.binary()])
@pytest.mark.parametrize("encoded", [True, False])
def test_long_texts_are_decoded_as_many_at_a_time_as_offsets_can_count(
    kind: pa.DataType, encoded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathered_columns, "_DECODED_BYTES", 250)
    values = pa.array(TEXTS).cast(kind)
    gathered = gathered_column(kind, 20)
    assert gathered.put(column(values, encoded), 1, np.arange(20))
    found = gathered.take(np.arange(20, -1, -1))
    found.validate(full=True)
    assert found.to_pylist() == [*values.to_pylist()[::-1], None]
    assert max(len(chunk) for chunk in found.chunks) == 2
    assert all(sum(len(value or "") for value in chunk.to_pylist()) <= 250 for chunk in found.chunks)


@pytest.mark.parametrize(
    ("values", "kept"), [(["x", None, "y"] * 20, True), (["x" * 300, None, "y" * 300] * 20, False)], ids=["short", "long"]
)
def test_texts_of_unknown_rows_are_kept_where_few_bytes_are_all_of_them(values: Sequence[str | None], kept: bool) -> None:
    gathered = gathered_column(pa.string(), 60)
    assert gathered.put(column(pa.array(values), encoded=True), 1, None) == kept
    assert gathered.put(column(pa.array(values), encoded=False), 1, None) is False
    if not kept:
        assert gathered.put(column(pa.array(values), encoded=True), 1, rows(0, 1, 59))
    assert gathered.take(rows(60, 1, 2, 0)).to_pylist() == [values[59], values[0], None, None]


def test_a_dictionary_with_one_long_value_that_many_rows_have_is_not_decoded_per_row() -> None:
    long = "x" * 1_000_000
    values = pa.DictionaryArray.from_arrays(pa.array([0] * 4_000, pa.int32()), pa.array([long, *map(str, range(5_000))]))
    gathered = gathered_column(pa.string(), 4_000)
    assert gathered.put(pa.chunked_array([values]), 1, np.arange(4_000))
    assert gathered.take(rows(4_000, 0)).to_pylist() == [long, None]


@pytest.mark.parametrize("kind", [pa.string(), pa.int64(), pa.bool_(), pa.list_(pa.int32())], ids=str)
def test_rows_that_nothing_was_put_to_are_null(kind: pa.DataType) -> None:
    assert gathered_column(kind, 3).take(rows(0, 1, 3)).to_pylist() == [None, None, None]


@pytest.mark.parametrize("count", [10, 1_100_000], ids=["a page or less", "large pages"])
def test_numbers_and_nulls_of_several_pieces(count: int) -> None:
    numbers = np.arange(2 * count)
    gathered = gathered_column(pa.int32(), 2 * count)
    for start in (count, 0):  # in any order
        piece = pa.array(numbers[start : start + count], mask=numbers[start : start + count] % 7 == 3)
        assert gathered.put(pa.chunked_array([piece]), start + 1, None)
    taken = np.append(numbers[::-1] + 1, 0)
    found = gathered.take(taken)
    found.validate(full=True)
    expected = pa.array(np.append(numbers[::-1], -1), pa.int32(), mask=np.append(numbers[::-1] % 7 == 3, True))
    assert found.combine_chunks().equals(expected)


@pytest.mark.parametrize("kind", [pa.int64(), pa.bool_(), pa.date32(), pa.string(), pa.list_(pa.int64())], ids=str)
@pytest.mark.parametrize("wanted", [(7,), tuple(range(0, 100, 3))], ids=["few rows", "many rows"])
def test_wanted_rows_are_there(kind: pa.DataType, wanted: tuple[int, ...]) -> None:
    plain = [None if number % 4 == 3 else number % 2 for number in range(100)]
    values = pa.array([None if v is None else [v] for v in plain]) if pa.types.is_list(kind) else pa.array(plain, pa.int32())
    values = values.cast(kind)
    gathered = gathered_column(kind, 200)
    assert gathered.put(pa.chunked_array([values]), 101, rows(*wanted))
    found = gathered.take(rows(*(101 + row for row in wanted), 0, 5))
    found.validate(full=True)
    assert found.to_pylist() == [*(values[row].as_py() for row in wanted), None, None]
