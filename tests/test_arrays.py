"""Arrow arrays as numpy arrays and back: values, nulls and bits, also of slices."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from fstore.arrays import joined, number_array, raw_values, truth_array, truths, valid

NUMBERS = [1, None, -3, 4, None, 6, 7, 8, 9, 10, None, 12, 13, 14, 15, 16, 17, None, 19]


@pytest.mark.parametrize("start", [0, 1, 7, 8, 9, 18])
@pytest.mark.parametrize("length", [0, 1, 5, 19])
def test_slices_have_their_own_values_and_nulls(start: int, length: int) -> None:
    array = pa.array(NUMBERS, pa.int32()).slice(start, length)
    expected = NUMBERS[start : start + length]
    assert valid(array).tolist() == [value is not None for value in expected]
    assert [value for value, known in zip(raw_values(array), valid(array), strict=True) if known] == [
        value for value in expected if value is not None
    ]


@pytest.mark.parametrize("start", [0, 3, 8, 17])
def test_truths_of_slices(start: int) -> None:
    values = [number is not None and number % 3 == 0 for number in NUMBERS]
    assert truths(pa.array(values).slice(start)).tolist() == values[start:]
    assert valid(pa.array([None, True, None]).slice(1)).tolist() == [True, False]
    assert truths(pa.array([], pa.bool_())).tolist() == []


def test_numbers_become_arrays_of_their_type_or_another_of_their_width() -> None:
    known = np.array([True, False, True])
    assert number_array(np.array([1, 2, 3], np.int16)[::-1]).equals(pa.array([3, 2, 1], pa.int16()))
    assert number_array(np.array([0, 2, 86_400_000_000]), known, type=pa.timestamp("us", tz="UTC")).equals(
        pa.array([0, None, 86_400_000_000], pa.timestamp("us", tz="UTC"))
    )
    assert number_array(np.array([0.5, np.nan, -0.0]), known).null_count == 1
    assert truth_array(np.array([True, True, False]), known).equals(pa.array([True, None, False]))


def test_chunks_are_joined() -> None:
    assert joined(pa.chunked_array([[1], [2, None]])).equals(pa.array([1, 2, None]))
    assert joined(pa.chunked_array([], pa.string())).equals(pa.array([], pa.string()))
