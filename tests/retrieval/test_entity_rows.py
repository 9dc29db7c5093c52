"""Entity rows in every form, and the exact conversion of keys and times."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fstore.errors import EntityColumnError
from fstore.retrieval.entity_rows import key_columns, read_entity_rows, request_values, time_column
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
    assert message([1.0, None], "string") == (
        "column 'k' holds double, but the join key of view 'v' is string. Convert it, for example in pandas: "
        "frame['k'].astype('Int64').astype('string')"
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


@pytest.mark.parametrize(("kind", "least"), [(np.float16, 2**11), (np.float32, 2**24), (np.float64, 2**53)])
def test_floats_that_may_be_another_ones_key_are_refused(kind: type[np.floating[Any]], least: int) -> None:
    def given(number: int) -> pa.Table:
        return pa.table({"k": pa.array(np.array([number, 3], dtype=kind))})

    assert convert(given(least - 1), "int64") == [least - 1, 3]
    assert f"{least} is beyond the whole numbers that a float holds exactly" in message(given(least + 1), "int64")


def test_a_nan_is_no_null_but_where_pandas_has_no_other() -> None:
    assert convert(pd.DataFrame({"k": [1.0, np.nan]}).pipe(read_entity_rows), "int64") == [1, None]
    assert message(pa.table({"k": [1.0, float("nan")]}), "int64") == (
        "column 'k', a join key of view 'v', holds NaN in 1 row(s), which names no entity. Give null where there is no key, "
        "and the features of that row are null"
    )


def test_a_dict_or_a_set_is_no_column() -> None:
    frame = pd.DataFrame({"k": [7, 8]})
    assert message(frame.to_dict()["k"], "int64") == (
        "column 'k' must be a list with a value per row, got a dict. In pandas: frame.to_dict(\"list\")"
    )
    assert convert(read_entity_rows(frame.to_dict("list")), "int64") == [7, 8]
    assert message({7}, "int64") == "column 'k' must be a list with a value per row, got {7}"


def test_what_no_column_can_hold_is_refused() -> None:
    for rows in (pd.DataFrame({"k": [1j]}), {"k": [pd.Timestamp(NOON), pd.NaT]}):
        with pytest.raises(EntityColumnError, match="the entity rows have a value that no column can hold: "):
            read_entity_rows(rows)
    for column in (pd.Series(["a"], name="k"), pytest.importorskip("polars").Series("k", ["a"])):
        with pytest.raises(EntityColumnError, match=r"entity rows must be a pandas or polars DataFrame, .* got Series"):
            read_entity_rows(column)


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


def test_times_without_a_zone_do_not_hide_among_others() -> None:
    naive = datetime(2026, 1, 1, 12)  # noqa: DTZ001
    zoned = NOON.astimezone(ZoneInfo("Europe/Berlin"))
    for times in ([NOON, naive], (zoned, naive, None), np.array([NOON, naive]), pd.Series([NOON, naive], dtype=object)):
        for rows in ({"at": times}, pd.DataFrame({"label": [0] * len(times), "at": pd.Series(list(times), dtype=object)})):
            with pytest.raises(EntityColumnError) as raised:
                read_entity_rows(rows)
            assert str(raised.value) == (
                "column 'at' holds times without a zone in 1 row(s), beside others that have one: give each the zone that it "
                "was recorded in"
            )
    mixed = pd.DataFrame({"at": pd.Series([NOON, pd.NaT, zoned], dtype=object)})
    assert read_entity_rows(mixed)["at"].to_pylist() == [NOON, None, NOON]


def test_times_of_any_zone_and_unit_are_instants() -> None:
    berlin = pd.DataFrame({"at": pd.to_datetime(["2026-01-01 13:00"]).tz_localize("Europe/Berlin")})
    assert time_column(read_entity_rows(berlin), "at").tolist() == [1767268800000000]
    seconds = pa.table({"at": pa.array([1767268800], pa.timestamp("s", tz="America/New_York"))})
    assert time_column(seconds, "at").tolist() == [1767268800000000]
    with pytest.raises(EntityColumnError, match=r"column 'at' holds an instant that is no instant here: .* out of bounds"):
        time_column(pa.table({"at": pa.array([10**14], pa.timestamp("s", tz="UTC"))}), "at")


def test_a_clock_that_is_turned_back_has_both_of_its_hours() -> None:
    twice = [datetime(2026, 10, 25, 2, 30, fold=fold, tzinfo=ZoneInfo("Europe/Berlin")) for fold in (0, 1)]
    for rows in ({"at": twice}, pd.DataFrame({"at": twice}), pd.DataFrame({"at": pd.Series(twice, dtype=object)})):
        earlier, later = time_column(read_entity_rows(rows), "at").tolist()
        assert (earlier, later - earlier) == (1792888200000000, 3600 * 10**6)


def test_whole_numbers_are_decimals_where_they_fit() -> None:
    price = Column(name="price", type="decimal(10,2)")
    for kind in (pa.int8(), pa.int64(), pa.uint64()):
        found = request_values(pa.table({"price": pa.array([12, None], kind)}), price, "f")
        assert (found.type, found.to_pylist()) == (pa.decimal128(10, 2), [Decimal(12), None])
    with pytest.raises(EntityColumnError, match="is int64, but declared as decimal"):
        request_values(pa.table({"price": [10**8]}), price, "f")
