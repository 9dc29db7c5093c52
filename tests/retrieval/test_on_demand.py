"""Features computed when they are read, and views joined under an alias, from definitions to both kinds of read."""

from __future__ import annotations

import math
import shutil
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from fstore import Client
from fstore.definitions.references import ResolvedFeature, parse_feature
from fstore.errors import EntityColumnError, FeatureNameClash, FStoreError, OutputMismatch, RetrievalError, UnknownFeature
from fstore.runtime.plan_cache import load_plan
from fstore.runtime.preparation import compile_with_types, read_schemas, sources_of
from tests.projects import SmallProject, utc

INSTANT = pa.timestamp("us", tz="UTC")

DEFINITIONS = """
    from __future__ import annotations

    from typing import TYPE_CHECKING

    import pyarrow.compute as pc

    from fstore import Entity, FeatureService, FeatureView, ParquetSource, agg, feature, on_demand

    if TYPE_CHECKING:
        import pandas as pd
        import polars as pl
        import pyarrow as pa

    user = Entity("user", join_keys={"user_id": "string"})
    places = ParquetSource("places", path="data/places.parquet", event_time="at")

    class UserHome(FeatureView):
        entity, source, schedule, start = user, places, "@daily", "2026-01-01"
        lat = agg.last("lat").over("30d")
        lon = agg.last("lon").over("30d")
        seen = agg.count().over("30d")

    DISTANCE = '''2 * 6371.0088 * asin(sqrt(
        pow(sin(radians(lat - home_lat) / 2), 2)
        + cos(radians(home_lat)) * cos(radians(lat)) * pow(sin(radians(lon - home_lon) / 2), 2)))'''
    REQUEST = {"lat": "float64", "lon": "float64"}

    distance = on_demand("distance_km", DISTANCE, request=REQUEST, home_lat=UserHome.lat, home_lon=UserHome.lon)
    ratio = on_demand("ratio", "lat / seen", request={"lat": "float64"}, seen=UserHome.seen)
    between = on_demand("between", "abs(a - b)", a=UserHome.as_("sender", user_id="from_id").lat,
                        b=UserHome.as_("receiver", user_id="to_id").lat)

    def step_east(lon: pa.Array, home_lon: pa.Array) -> pa.Array:
        return pc.subtract(lon, home_lon)

    def in_pandas(lat: "pd.Series", seen: pd.Series) -> pd.Series:
        return lat * seen

    def in_polars(lat: pl.Series, seen: pl.Series) -> pl.Series:
        return lat * seen

    def too_short(lat):
        return lat[:1]

    next_step = on_demand("next_step", "step + 1", request={"step": "int64"})
    east = on_demand("east", step_east, request={"lon": "float64"}, type="float64", home_lon=UserHome.lon)
    pandas_product = on_demand("pandas_product", in_pandas, request={"lat": "float64"}, type="float64", seen=UserHome.seen)
    polars_product = on_demand("polars_product", in_polars, request={"lat": "float64"}, type="float64", seen=UserHome.seen)
    short = on_demand("short", too_short, request={"lat": "float64"}, type="float64")

    nearby = FeatureService("nearby", features=[distance, UserHome.seen, ratio, east, pandas_product, polars_product])
    pairs = FeatureService("pairs", features=[UserHome.as_("sender", user_id="from_id"),
                                              UserHome.as_("receiver", user_id="to_id").seen, between])
"""

USERS = ["a", "b", "c", "nobody", None]
LATS = [52.5, -33.25, None, 0.1, 1.0]
LONS = [13.4, 151.0, 2.0, math.nan, 1.0]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallProject]:
    root: Path = tmp_path_factory.mktemp("on_demand")
    made = SmallProject(root / "shop")
    made.define("places", DEFINITIONS)
    rows = [
        {
            "user_id": user,
            "lat": 10.1 * number,
            "lon": -7.7 * number,
            "at": utc("2026-01-01T00:00") + timedelta(hours=number),
        }
        for number, user in enumerate("abcab")
    ]
    types = {"user_id": pa.string(), "lat": pa.float64(), "lon": pa.float64(), "at": INSTANT}
    made.write("places", rows, types)
    made.run("user_home", "2026-01-01T00:00", "2026-01-02T00:00")
    loaded = load_plan(made.settings).project
    assert [str(problem) for problem in loaded.problems] == []
    schemas = read_schemas(made.backends.engine, sources_of(loaded)).schemas
    plan = compile_with_types(made.backends.engine, loaded, schemas)
    assert [str(problem) for problem in plan.problems] == []
    made.backends.registry.register(plan)
    yield made
    made.close()


@pytest.fixture
def client(project: SmallProject) -> Client:
    return Client(project.backends, clock=lambda: datetime(2026, 1, 2, 1, tzinfo=UTC))


def entity_rows() -> pa.Table:
    now = pa.array([datetime(2026, 1, 2, 1, tzinfo=UTC)] * len(USERS), INSTANT)
    return pa.table({"user_id": USERS, "event_timestamp": now, "lat": pa.array(LATS), "lon": pa.array(LONS)})


def bits(values: list[object]) -> list[bytes | None]:
    """Values as their bits, so that NaN equals NaN and 0.0 is not -0.0."""
    return [None if value is None else struct.pack("<d", value) for value in values]


def haversine(lat: float, lon: float, home_lat: float, home_lon: float) -> float:
    first = math.sin(math.radians(lat - home_lat) / 2) ** 2
    second = math.cos(math.radians(home_lat)) * math.cos(math.radians(lat)) * math.sin(math.radians(lon - home_lon) / 2) ** 2
    return 2 * 6371.0088 * math.asin(math.sqrt(first + second))


def test_training_and_serving_give_the_same_bits(client: Client) -> None:
    frame = client.get_historical_features(entity_rows(), service="nearby").to_arrow()
    response = client.get_online_features(
        entities={"user_id": USERS}, request={"lat": LATS, "lon": LONS}, service="nearby"
    ).to_arrow()
    columns = ["distance_km", "seen_30d", "ratio", "east", "pandas_product", "polars_product"]
    assert frame.column_names == ["user_id", "event_timestamp", "lat", "lon", *columns]
    assert response.column_names == ["user_id", "lat", "lon", *columns]
    for column in columns:
        assert frame.schema.field(column).type == response.schema.field(column).type, column
        assert bits(frame[column].to_pylist()) == bits(response[column].to_pylist()), column


def test_a_service_is_compiled_once(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a first read nothing is parsed, planned or loaded: it would fail."""

    def read(lat: float) -> dict[str, list[object]]:
        request = {"lat": [lat], "lon": [13.4]}
        return client.get_online_features(entities={"user_id": ["a"]}, request=request, service="nearby").to_dict()

    assert read(52.5)["ratio"] == [26.25]

    def fail(*_: object) -> None:
        raise AssertionError("compiled again")

    monkeypatch.setattr("fstore.engines.duckdb.RowProgram", fail)
    monkeypatch.setattr("fstore.retrieval.on_demand.load_function", fail)
    assert read(50.0)["ratio"] == [25.0]
    assert read(2.0)["pandas_product"] == [4.0]
    with pytest.raises(AssertionError, match="compiled again"):
        client.get_online_features(["on_demand:ratio"], {"user_id": ["a"], "lat": [1.0]})


def test_values_nulls_nan_and_division_by_zero(client: Client) -> None:
    found = client.get_historical_features(entity_rows(), service="nearby").to_arrow().to_pydict()
    assert found["seen_30d"] == [2, 2, 1, 0, None]
    assert found["distance_km"][0] == pytest.approx(haversine(52.5, 13.4, 30.3, -23.1), rel=1e-12)
    assert found["distance_km"][1] == pytest.approx(haversine(-33.25, 151.0, 40.4, -30.8), rel=1e-12)
    assert found["distance_km"][2:] == [None, None, None]
    assert found["ratio"] == [26.25, -16.625, None, None, None]
    assert found["east"][:3] == [13.4 + 23.1, 151.0 + 30.8, 2.0 + 7.7 * 2]
    assert found["east"][3:] == [None, None]
    assert found["pandas_product"] == found["polars_product"] == [105.0, -66.5, None, 0.0, None]
    alone = client.get_online_features(["on_demand:east"], {"user_id": ["a"], "lon": [math.nan]}).to_dict()
    assert math.isnan(alone["east"][0])  # type: ignore[arg-type]


def test_request_values_of_all_parts_are_looked_at_before_the_first_batch(client: Client) -> None:
    now = [datetime(2026, 1, 2, 1, tzinfo=UTC)] * 3
    good, bad = ({"event_timestamp": now, "step": [1.0, 2.0, last]} for last in (3.0, 3.5))
    stream = client.scan_historical_features(good, ["on_demand:next_step"], part_rows=1)
    assert [batch["next_step"].to_pylist() for batch in stream.to_batches()] == [[2], [3], [4]]
    batches = client.scan_historical_features(bad, ["on_demand:next_step"], part_rows=1).to_batches()
    with pytest.raises(EntityColumnError, match="request value 'step' of on-demand feature 'next_step' is double, but"):
        next(batches)


def test_one_view_joined_twice(client: Client) -> None:
    rows = {"from_id": ["a", "b"], "to_id": ["b", "nobody"]}
    response = client.get_online_features(entities=rows, service="pairs")
    assert response.to_dict() == {
        **rows, "sender__lat_30d": [30.299999999999997, 40.4], "sender__lon_30d": [-23.1, -30.8], "sender__seen_30d": [2, 2],
        "receiver__seen_30d": [2, 0], "between": [40.4 - 30.299999999999997, None],
    }  # fmt: skip
    now = pa.array([datetime(2026, 1, 2, 1, tzinfo=UTC)] * 2, INSTANT)
    frame = client.get_historical_features(pa.table({**rows, "event_timestamp": now}), service="pairs")
    assert frame.to_arrow().drop_columns(["event_timestamp"]).to_pydict() == response.to_dict()
    assert client.reproduce(frame.manifest, pa.table({**rows, "event_timestamp": now})).to_arrow().equals(frame.to_arrow())
    assert response.statuses["between"] == ["computed", "computed"]
    assert response.statuses["receiver__seen_30d"] == ["value", "empty"]


def test_a_manifest_covers_request_values(client: Client) -> None:
    frame = client.get_historical_features(entity_rows(), ["on_demand:ratio"])
    assert list(frame.manifest.definitions) == ["user_home", "on_demand:ratio"]
    assert client.reproduce(frame.manifest, entity_rows()).to_arrow()["ratio"].equals(frame.to_arrow()["ratio"])
    changed = entity_rows().set_column(2, "lat", pa.array([1.0] * 5))
    with pytest.raises(RetrievalError, match="the entity rows are not those of the manifest"):
        client.reproduce(frame.manifest, changed)


def test_objects_of_a_definition_module_may_be_asked_for(client: Client, project: SmallProject) -> None:
    names: dict[str, object] = {}
    exec(compile((project.root / "feature_defs" / "places.py").read_text(), "places", "exec"), names)
    home, ratio = names["UserHome"], names["ratio"]
    response = client.get_online_features(
        [home.seen, home.as_("other", user_id="to_id").lat["30d"], ratio],  # type: ignore[attr-defined,list-item]
        {"user_id": ["a"], "to_id": ["b"], "lat": [3.0]},
    )
    assert response.to_dict() == {
        "user_id": ["a"], "to_id": ["b"], "lat": [3.0], "seen_30d": [2], "other__lat_30d": [40.4], "ratio": [1.5]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("features", "entities", "request_values", "error", "message"),
    [
        (["on_demand:ratio"], {"user_id": ["a"]}, None, EntityColumnError,
         "the request has no 'lat', which on-demand feature 'ratio' needs as float64; there are 'user_id'. Give it as a column "
         "of the entity rows, or online as request={\"lat\": […]}"),
        (["on_demand:ratio"], {"user_id": ["a"]}, {"lat": ["north"]}, EntityColumnError,
         "request value 'lat' of on-demand feature 'ratio' is large_string, but declared as float64. Convert it."),
        (["on_demand:ratio"], {"user_id": ["a"]}, {"lat": [1.0, 2.0]}, EntityColumnError,
         "the request has lists of 2 value(s) for 1 entities; give one per entity"),
        (["on_demand:ratio"], {"user_id": ["a"], "lat": [1.0]}, {"lat": [1.0]}, EntityColumnError,
         "the request has 'lat', and so have the entities: give a value once"),
        (["on_demand:rato"], {"user_id": ["a"]}, None, UnknownFeature,
         "Did you mean 'ratio'? If it is new, `fstore apply` records it."),
        (["on_demand:short"], {"user_id": ["a", "b"], "lat": [1.0, 2.0]}, None, OutputMismatch,
         "function 'too_short' (feature_defs/places.py) of on_demand:short returned 1 values for 2 rows; expected one per row, "
         "in order"),
        (["user_home:seen_30d@x(user_id=a)", "user_home:seen_30d@x(user_id=b)"], {"a": ["a"], "b": ["b"]}, None,
         FeatureNameClash,
         "features 'user_home:seen_30d@x(user_id=a)' and 'user_home:seen_30d@x(user_id=b)' are both named 'x__seen_30d'. Use "
         "another alias."),
        (["user_home:seen_30d@x(id=a)"], {"a": ["a"]}, None, UnknownFeature,
         "'user_home:seen_30d@x(id=a)': view 'user_home' has no join key 'id', only 'user_id'."),
    ],
)  # fmt: skip
def test_a_request_that_does_not_fit_is_refused(
    client: Client, features: list[str], entities: dict[str, list[object]], request_values: dict[str, list[object]] | None,
    error: type[FStoreError], message: str,
) -> None:  # fmt: skip
    with pytest.raises(error) as caught:
        client.get_online_features(features, entities, request=request_values)
    assert str(caught.value).endswith(message)


def test_sql_needs_no_definitions_and_python_says_that_it_does(project: SmallProject, tmp_path: Path) -> None:
    shutil.copytree(project.root / ".fstore", tmp_path / ".fstore")
    (tmp_path / "pyproject.toml").write_text('[tool.fstore]\nproject = "small"\n')
    elsewhere = SmallProject(tmp_path)
    with Client(elsewhere.settings, clock=lambda: datetime(2026, 1, 2, 1, tzinfo=UTC)) as client:
        rows = {"user_id": ["a"], "lat": [3.0], "lon": [1.0]}
        assert client.get_online_features(["on_demand:ratio"], rows).to_dict()["ratio"] == [1.5]
        with pytest.raises(RetrievalError) as caught:
            client.get_online_features(service="nearby", entities=rows)
    assert str(caught.value) == (
        "on-demand feature 'east' is computed by the Python function 'step_east' of feature_defs/places.py, which cannot be "
        f"loaded from {tmp_path}/feature_defs: function 'step_east' (feature_defs/places.py:1) cannot be run: its module is "
        "gone. Run `fstore plan` and start a new run, which will use the definition as it is now. A client that reads it needs "
        "the project's definition modules as they were applied (set FSTORE_ROOT to the project); SQL needs none."
    )


def test_references_have_a_text() -> None:
    feature = ResolvedFeature(view="v", feature="f", alias="x", join_keys={"b": "c", "a": "d"})
    assert str(feature) == "v:f@x(a=d, b=c)"
    assert parse_feature(str(feature)) == feature
    assert parse_feature("v:f") == ResolvedFeature(view="v", feature="f")
    assert [parse_feature(text) for text in ("v", "v:f:g", "v:f@", "v:f@x(a)", "v:f@x(a=)")] == [None] * 5
