"""Columns that are put together from pieces: what does not fit into one array of texts comes in several."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from fstore.retrieval import gathered_columns
from fstore.retrieval.gathered_columns import gathered_column


@pytest.mark.parametrize("kind", [pa.string(), pa.binary()])
@pytest.mark.parametrize("encoded", [True, False])
def test_long_texts_are_decoded_as_many_at_a_time_as_offsets_can_count(
    kind: pa.DataType, encoded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathered_columns, "_DECODED_BYTES", 250)
    values = pa.array(["a" * 100, "", None, "b" * 99] * 5).cast(kind)
    piece = pa.chunked_array([values.dictionary_encode() if encoded else values])
    column = gathered_column(kind, 21)
    column.put(piece, np.arange(20), np.arange(20)[::-1].copy())
    found = column.finish()
    assert found.to_pylist() == [*values.to_pylist()[::-1], None]
    assert max(len(chunk) for chunk in found.chunks) == 2
    assert all(sum(len(value or "") for value in chunk.to_pylist()) <= 250 for chunk in found.chunks)


def test_a_text_column_of_nothing_but_nulls() -> None:
    column = gathered_column(pa.string(), 3)
    assert column.finish().to_pylist() == [None, None, None]
