"""Entity rows in every form, and the exact conversion of keys and times."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fstore.errors import EntityColumnError
from fstore.retrieval.entity_rows import key_columns, read_entity_rows, time_column
from fstore.types import Column

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def key(kind: str) -> list[Column]:
    return [Column(name="k", type=kind)]


def convert(values: object, kind: str) -> list[object]:
    table = values if isinstance(values, pa.Table) else read_entity_rows({"k": values})
    (column,) = key_columns(table, key(kind), "v")
    return column.to_pylist()


def message(values: object, kind: str) -> str:
    with pytest.raises(EntityColumnError) as raised:
        convert(values, kind)
    return str(raised.value)


def test_every_form_of_table_reads_the_same(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    columns = {"k": ["b", "a", None], "at": [NOON] * 3, "label": [1, 0, 1]}
    table = pa.table(columns)
    path = tmp_path / "rows.parquet"
    pq.write_table(table, path)
    forms = [table, path, str(path), pd.DataFrame(columns, index=[7, 8, 9]), polars.DataFrame(columns),
             [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)], columns]  # fmt: skip
    for form in forms:
        read = read_entity_rows(form)
        assert read.column_names == ["k", "at", "label"]
        assert convert(read, "string") == ["b", "a", None]
        assert time_column(read, "at").tolist() == [1767268800000000] * 3
        assert read["label"].to_pylist() == [1, 0, 1]


def test_a_list_of_dicts_may_miss_fields() -> None:
    assert read_entity_rows([{"k": 1}, {"k": 2, "x": 3}]).to_pylist() == [{"k": 1, "x": None}, {"k": 2, "x": 3}]


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (42, "entity rows must be a pandas or polars DataFrame, an Arrow table, a Parquet path or a list of dicts, got int"),
        ({"a": [1], "b": [1, 2]}, "the entity columns differ in length: {'a': 1, 'b': 2}"),
        (pa.table([[1], [2]], names=["a", "a"]), "the entity rows have column(s) 'a' more than once; rename or drop one"),
    ],
)
def test_what_is_no_table_is_refused(rows: object, text: str) -> None:
    with pytest.raises(EntityColumnError) as raised:
        read_entity_rows(rows)  # type: ignore[arg-type]
    assert str(raised.value) == text


def test_a_column_of_mixed_types_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EntityColumnError, match="the entity rows have a column of mixed types"):
        read_entity_rows([{"k": 1}, {"k": "one"}])
    with pytest.raises(EntityColumnError, match=r"entity rows cannot be read from '.*none\.parquet' as Parquet"):
        read_entity_rows(tmp_path / "none.parquet")


def test_keys_convert_when_nothing_is_lost() -> None:
    assert convert(pa.table({"k": pa.array([1, None], pa.int8())}), "int64") == [1, None]
    assert convert(pa.table({"k": pa.array([1, 255], pa.uint64())}), "uint8") == [1, 255]
    assert convert(pd.DataFrame({"k": [1.0, np.nan]}).pipe(read_entity_rows), "int32") == [1, None]
    assert convert(pa.table({"k": pa.array(["a", None]).dictionary_encode()}), "string") == ["a", None]
    assert convert(pa.table({"k": pa.array(["a"], pa.large_string())}), "string") == ["a"]
    assert convert([None, None], "string") == [None, None]
    assert convert([True, None], "bool") == [True, None]
    assert convert([date(2026, 1, 2)], "date") == [date(2026, 1, 2)]


def test_keys_that_would_lose_something_are_refused() -> None:
    assert message([1], "string") == (
        "column 'k' holds int64, but the join key of view 'v' is string. Convert it, for example in pandas: "
        "frame['k'].astype('string')"
    )
    assert message(["1"], "int64") == (
        "column 'k' holds large_string, but the join key of view 'v' is int64. Convert it, for example in pandas: "
        "frame['k'].astype('Int64')"
    )
    assert message([300], "uint8").startswith("column 'k' cannot become uint8, the join key of view 'v', without loss: ")
    assert message([-1], "uint64").startswith("column 'k' cannot become uint64, the join key of view 'v', without loss: ")
    assert message([1.5], "int64").startswith("column 'k' cannot become int64, the join key of view 'v', without loss: ")
    assert message([2.0**53], "int64") == (
        "column 'k' cannot become int64, the join key of view 'v', without loss: 9007199254740992 is beyond the whole "
        "numbers that a float holds exactly"
    )
    assert "holds timestamp[us], but" in message([datetime(2026, 1, 1)], "date")  # noqa: DTZ001
    assert "is bool" in message([1], "bool")


def test_a_nan_is_no_null_but_where_pandas_has_no_other() -> None:
    assert convert(pd.DataFrame({"k": [1.0, np.nan]}).pipe(read_entity_rows), "int64") == [1, None]
    assert message(pa.table({"k": [1.0, float("nan")]}), "int64") == (
        "column 'k', a join key of view 'v', holds NaN in 1 row(s), which names no entity. Give null where there is no key, "
        "and the features of that row are null"
    )


def test_a_missing_key_suggests_the_closest_column() -> None:
    with pytest.raises(EntityColumnError) as raised:
        key_columns(read_entity_rows({"user": ["a"], "n": [1]}), [Column(name="user_id", type="string")], "v")
    assert str(raised.value) == (
        "the entity rows have no column 'user_id', a join key of view 'v'; they have 'user', 'n'. Did you mean 'user'?"
    )


def test_times_must_be_instants() -> None:
    def refusal(values: object) -> str:
        table = values if isinstance(values, pa.Table) else read_entity_rows({"at": values})
        with pytest.raises(EntityColumnError) as raised:
            time_column(table, "at")
        return str(raised.value)

    assert refusal([datetime(2026, 1, 1)]) == (  # noqa: DTZ001
        "column 'at' holds times without a zone, so it is unknown which instants they mean. In pandas: "
        'frame["at"].dt.tz_localize("UTC"), or the zone they were recorded in'
    )
    assert refusal(["2026-01-01"]) == (
        "column 'at' must hold instants (timestamps with a time zone), got string. In pandas: "
        'pd.to_datetime(frame["at"], utc=True)'
    )
    assert refusal([NOON, None]) == "column 'at' is null in 1 row(s): each entity row needs its instant"
    fine = pa.array([1_000_000_001], pa.timestamp("ns", tz="UTC"))
    assert refusal(pa.table({"at": fine})).startswith("column 'at' is finer than microseconds")
    with pytest.raises(EntityColumnError, match="have no column 'when' with the time of each row; they have 'at'"):
        time_column(read_entity_rows({"at": [NOON]}), "when")


def test_times_of_any_zone_and_unit_are_instants() -> None:
    berlin = pd.DataFrame({"at": pd.to_datetime(["2026-01-01 13:00"]).tz_localize("Europe/Berlin")})
    assert time_column(read_entity_rows(berlin), "at").tolist() == [1767268800000000]
    seconds = pa.table({"at": pa.array([1767268800], pa.timestamp("s", tz="America/New_York"))})
    assert time_column(seconds, "at").tolist() == [1767268800000000]
