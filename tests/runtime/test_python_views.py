"""Python views in Arrow, pandas and Polars, whole and by key."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from fstore.backends import create_backends
from fstore.errors import ComputeError, OutputMismatch
from fstore.runtime.plan_cache import load_plan
from fstore.runtime.python_views import memory_bytes
from fstore.settings import load_settings
from tests.projects import SmallProject, utc

INSTANT = pa.timestamp("us", tz="UTC")
BIG = 2**53 + 1

HEAD = """
    from __future__ import annotations

    from typing import TYPE_CHECKING

    import pandas
    import pyarrow as pa
    import pyarrow.compute as pc

    from fstore import Entity, FeatureView, ParquetSource, feature, transform

    if TYPE_CHECKING:
        import polars as pl
        from pandas import DataFrame

    user = Entity("user", join_keys={"user_id": "int64"})
    buys = ParquetSource("buys", path="data/buys.parquet", event_time="at")
    towns = ParquetSource("towns", path="data/towns.parquet", keys=["town"], static=True)

    class OfUser(FeatureView):
        abstract = True
        entity, inputs, schedule, start = user, {"b": buys.window("all")}, "@daily", "2026-01-01"
        big, at = feature("int64"), feature("timestamp")
        share, note = feature("float64"), feature("string")
"""

VIEWS = """
    COLUMNS = ["user_id", "big", "at", "share", "note"]

    def in_arrow(b):
        assert isinstance(b, pa.Table)
        return b.select(COLUMNS)

    def in_pandas(b: DataFrame):
        assert b["big"].dtype == pandas.ArrowDtype(pa.int64()), b.dtypes
        assert b["at"].dtype == pandas.ArrowDtype(pa.timestamp("us", tz="UTC"))
        return b[COLUMNS]

    def in_polars(b: "pl.DataFrame") -> "pl.DataFrame":
        return b.select(COLUMNS)

    def mixed(b: pl.DataFrame) -> pandas.DataFrame:
        return b.to_arrow().to_pandas(types_mapper=pandas.ArrowDtype)[COLUMNS]

    class InArrow(OfUser):
        compute = transform(in_arrow)

    class InPandas(OfUser):
        compute = transform(in_pandas)

    class InPolars(OfUser):
        compute = transform(in_polars)

    class Mixed(OfUser):
        compute = transform(mixed)
"""

BY_KEY = """
    def totals(b: DataFrame, t: pa.Table) -> DataFrame:
        assert t.num_rows == 3, t
        found = b.groupby("user_id", as_index=False).agg(total=("n", "sum"), events=("n", "count"))
        return found.assign(calls=1)

    class Totals(FeatureView):
        entity, schedule, start = user, "@daily", "2026-01-01"
        inputs = {"b": buys.window("all"), "t": towns}
        compute = transform(totals, by_key=BY_KEY)
        total, events, calls = feature("int64"), feature("int64"), feature("int64")
"""

ROWS = [
    {
        "user_id": 1,
        "at": utc("2026-01-01T01:00") + timedelta(microseconds=1),
        "big": BIG,
        "share": float("nan"),
        "note": "ä",
    },
    {"user_id": 2, "at": utc("2026-01-01T02:00"), "big": None, "share": None, "note": None},
    {"user_id": 3, "at": utc("2026-01-01T03:00"), "big": -1, "share": 0.1, "note": ""},
]
TYPES = {"user_id": pa.int32(), "at": INSTANT, "big": pa.int64(), "share": pa.float64(), "note": pa.string()}


@pytest.fixture
def project(tmp_path: Path) -> Iterator[SmallProject]:
    made = SmallProject(tmp_path)
    yield made
    made.close()


def test_each_library_gets_and_gives_the_same_values(project: SmallProject) -> None:
    project.define("views", HEAD + VIEWS)
    project.write("buys", ROWS, TYPES)
    project.write("towns", [], {"town": pa.string()})
    published = {}
    for view in ("in_arrow", "in_pandas", "in_polars", "mixed"):
        project.run(view, "2026-01-01T00:00", "2026-01-02T00:00")
        published[view] = [
            {**row, "share": "nan" if row["share"] != row["share"] else row["share"]} for row in project.published(view)
        ]
    end = utc("2026-01-02T00:00")
    expected = [{**row, "share": "nan" if row["user_id"] == 1 else row["share"], "event_timestamp": end} for row in ROWS]
    for view, rows in published.items():
        assert rows == expected, view
    assert {view: dict(step.function.frames) for view, step in functions(project).items()} == {
        "in_arrow": {}, "in_pandas": {"b": "pandas"}, "in_polars": {"b": "polars"}, "mixed": {"b": "polars"},
    }  # fmt: skip


def test_text_for_a_number_is_refused(project: SmallProject) -> None:
    project.define("views", HEAD + """
    def parse(b):
        return b.select(["user_id", "big", "at", "note"]).append_column("share", pa.array(["0.5"] * b.num_rows))

    class Parsed(OfUser):
        compute = transform(parse)
    """)  # fmt: skip
    project.write("buys", ROWS, TYPES)
    project.write("towns", [], {"town": pa.string()})
    with pytest.raises(OutputMismatch) as caught:
        project.run("parsed", "2026-01-01T00:00", "2026-01-02T00:00")
    assert str(caught.value) == (
        "view 'parsed' (feature_defs/views.py:29) gave column 'share' as string, which does not fit the declared type double: "
        "text is neither parsed nor made; convert it in the function"
    )


def functions(project: SmallProject) -> dict[str, object]:
    return {step.view: step for step in load_plan(project.settings).plan.steps}


def by_key_project(root: Path, memory_limit: str, *, by_key: bool) -> SmallProject:
    made = SmallProject(root)
    made.settings = load_settings(root, environ={}, memory_limit=memory_limit, threads="2")
    made._backends = create_backends(made.settings)
    made.define("views", HEAD + BY_KEY.replace("BY_KEY", str(by_key)))
    rows = [
        {"user_id": number % 97, "at": utc("2026-01-01T00:00") + timedelta(seconds=number), "n": number % 7}
        for number in range(20_000)
    ]
    made.write("buys", rows, {"user_id": pa.int32(), "at": INSTANT, "n": pa.int64()})
    made.write("towns", [{"town": name} for name in "xyz"], {"town": pa.string()})
    return made


def test_by_key_equals_one_batch_when_memory_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = []
    for name, share in (("whole", 0.5), ("parts", 0.0001)):
        monkeypatch.setattr("fstore.runtime.python_views.SHARE_OF_MEMORY", share)
        project = by_key_project(tmp_path / name, "1GB", by_key=True)
        project.run("totals", "2026-01-01T00:00", "2026-01-02T00:00")
        published.append(project.published("totals"))
        project.close()
    assert published[0] == published[1]
    assert len(published[0]) == 97
    assert sum(int(str(row["events"])) for row in published[0]) == 20_000


def test_inputs_too_large_for_one_call_name_by_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fstore.runtime.python_views.SHARE_OF_MEMORY", 0.0001)
    project = by_key_project(tmp_path, "1GB", by_key=False)
    with pytest.raises(ComputeError) as caught:
        project.run("totals", "2026-01-01T00:00", "2026-01-02T00:00")
    project.close()
    assert str(caught.value) == (
        "the inputs of view 'totals' (feature_defs/views.py:31) take more than 100,000 bytes for [2026-01-01T00:00:00Z, "
        "2026-01-02T00:00:00Z), half of the memory limit of 1GB. If 'totals' computes each key from the rows of that key alone, "
        "write compute = transform(totals, by_key=True), which runs it on some of the keys at a time; else narrow the windows "
        "of its inputs, or raise memory_limit (FSTORE_MEMORY_LIMIT)."
    )


def test_an_annotation_that_is_no_table_is_a_problem(project: SmallProject) -> None:
    project.define("views", HEAD + "    def f(b: list[int]):\n        return b\n\n    class Wrong(OfUser):\n"
                                   "        compute = transform(f)\n")  # fmt: skip
    assert [str(problem) for problem in load_plan(project.settings).plan.problems] == [
        "feature view 'wrong' (feature_defs/views.py:25) computes with function 'f', whose parameter 'b' is annotated list[int]. "
        "Annotate it with pa.Table, pd.DataFrame or pl.DataFrame, imported in the same module (under TYPE_CHECKING will do)."
    ]


@pytest.mark.parametrize(
    ("text", "size"), [("4GB", 4 * 10**9), ("3300MB", 3300 * 10**6), ("1.5GiB", 1536 * 2**20), ("10 kB", 10_000), ("7", 7)]
)
def test_a_memory_limit_in_bytes(text: str, size: int) -> None:
    assert memory_bytes(text) == size
