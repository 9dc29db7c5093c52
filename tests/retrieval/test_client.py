"""The client: what it returns, in which shape and order, and every way to ask wrongly."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fstore import Client
from fstore.errors import (
    EntityColumnError,
    FeatureNameClash,
    FloorMissing,
    IncompleteHistory,
    RetrievalError,
    SettingsError,
    UnknownFeature,
)
from fstore.plan.steps import PlannedService
from fstore.retrieval.historical import HistoricalReads
from fstore.retrieval.prepared_reads import PreparedReads, Question
from fstore.retrieval.training import MANIFEST_KEY, Manifest
from fstore.types import Column
from tests.retrieval.publishing import DAY, HOUR, T0, Publisher, day, features, make_step, references

ORDERS = make_step("orders", ttl=2 * DAY, features=features(
    ("n", "int64", 0), ("amount", "decimal(10,2)", 0.5), ("tags", "list<string>", None), ("vec", "float32[2]", None),
    ("on", "date", None), ("at", "timestamp", None), ("ok", "bool", False), ("ratio", "float32", 0.25),
    ("counts", "list<int64>", (0, 0)), ("spent", "map<string,decimal(9,2)>", None),
))  # fmt: skip
PROFILE = make_step("profile", features=features(("n", "int64", None), ("country", "string", "??")), lag=2 * HOUR)
SHOPS = make_step(
    "shops", keys=(Column(name="shop", type="int32"),), entity="shop", online=False, features=features(("size", "int16", 0))
)
SERVICES = [PlannedService(name="churn", references=references("profile:country", "orders:n"))]
FULL = {"user_id": "u1", "n": 3, "amount": 12, "tags": ["a", None], "vec": [1.0, 2.0], "on": datetime(2026, 1, 1).date(),  # noqa: DTZ001
        "at": T0, "ok": True, "ratio": 0.1, "counts": [1, 2],
        "spent": {"books": Decimal("1.50"), "toys": None}}  # fmt: skip
ROWS = {"user_id": ["u1", "u2", None, "u1"], "event_timestamp": [T0 + 2 * DAY, T0 + 2 * DAY, T0 + 2 * DAY, T0 + DAY]}


@pytest.fixture(scope="module")
def client(publisher: Publisher) -> Client:
    publisher.register(ORDERS, PROFILE, SHOPS, services=SERVICES)
    user = {"user_id": "u1", "n": 1, "country": "DE"}
    publisher.publish(ORDERS, {day(0): [{"user_id": "u1"}], day(1): [FULL]})
    sequence = publisher.publish(PROFILE, {day(0): [user], day(1): [user | {"country": "FR"}]})
    assert sequence is not None
    publisher.publish(SHOPS, {day(0): [{"shop": 7, "size": 5}]})
    publisher.bring_online(PROFILE, {day(1): [user | {"country": "FR"}]}, sequence)
    return Client(publisher.backends, clock=lambda: T0 + 2 * DAY + 2 * HOUR)


def test_rows_come_back_once_each_in_order_with_their_columns(client: Client) -> None:
    rows = pd.DataFrame(ROWS | {"label": [1, 0, 1, 0]})
    frame = client.get_historical_features(rows, ["orders:n", "profile:country"])
    assert frame.to_arrow().column_names == ["user_id", "event_timestamp", "label", "n", "country"]
    assert [tuple(row.values())[2:] for row in frame.to_arrow().to_pylist()] == [
        (1, 3, "DE"), (0, 0, "??"), (1, None, None), (0, None, None),
    ]  # fmt: skip
    assert frame.to_pandas()["label"].tolist() == [1, 0, 1, 0]
    assert frame.to_polars().columns == ["user_id", "event_timestamp", "label", "n", "country"]
    assert len(frame) == 4


def test_every_type_and_its_empty_value_come_back(client: Client) -> None:
    table = client.get_historical_features(ROWS, ["orders:*"]).to_arrow()
    values = table.drop_columns(["user_id", "event_timestamp"])
    full, empty, null, quarantined = values.to_pylist(maps_as_pydicts="strict")
    assert full == {name: value for name, value in FULL.items() if name != "user_id"} | {"ratio": pytest.approx(0.1)}
    assert {name: str(value) for name, value in empty.items()} == {
        "n": "0", "amount": "0.50", "tags": "None", "vec": "None", "on": "None", "at": "None", "ok": "False",
        "ratio": "0.25", "counts": "[0, 0]", "spent": "None",
    }  # fmt: skip
    assert set(null.values()) == set(quarantined.values()) == {None}
    assert (table.schema.field("vec").type.list_size, table.schema.field("on").type) == (2, pa.date32())
    assert table.schema.field("amount").type == pa.decimal128(10, 2)
    frame = client.get_historical_features(ROWS, ["orders:spent"]).to_pandas()
    assert frame["spent"].tolist() == [FULL["spent"], None, None, None]


def test_a_service_gives_its_features_in_its_order(client: Client) -> None:
    frame = client.get_historical_features(ROWS, service="churn")
    assert frame.to_arrow().column_names[2:] == ["country", "n"]
    assert frame.manifest.features == ("profile:country", "orders:n")


def test_full_names_resolve_a_clash(client: Client) -> None:
    with pytest.raises(FeatureNameClash) as raised:
        client.get_historical_features(ROWS, ["orders:n", "profile:n"])
    assert str(raised.value) == (
        "features 'orders:n' and 'profile:n' are both named 'n'. Pass full_names=True to name columns view__feature."
    )
    frame = client.get_historical_features(ROWS, ["orders:n", "profile:n"], full_names=True)
    assert frame.to_arrow().column_names[2:] == ["orders__n", "profile__n"]
    with pytest.raises(FeatureNameClash) as raised:
        client.get_historical_features(ROWS | {"n": [1, 2, 3, 4]}, ["orders:n"])
    assert str(raised.value) == (
        "feature 'orders:n' would be column 'n', which the entity rows have already. Pass full_names=True to name columns "
        "view__feature, or rename that column."
    )


def test_a_feature_asked_for_twice_is_one_column(client: Client) -> None:
    frame = client.get_historical_features(ROWS, ["profile:country", "profile:*"])
    assert frame.to_arrow().column_names[2:] == ["country", "n"]


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        ("order:n", "Did you mean 'orders'? If it is new, `fstore apply` records it."),
        ("orders:amuont", "view 'orders' has no feature 'amuont'; it has 'n', 'amount', 'tags', 'vec', 'on', 'at', 'ok', "
                          "'ratio', 'counts', 'spent'. Did you mean 'amount'?"),
        ("orders", "'orders' is not a feature reference; write \"view:feature\", or \"view:*\" for all features of a view"),
    ],
)  # fmt: skip
def test_unknown_features_are_refused(client: Client, reference: str, text: str) -> None:
    with pytest.raises(UnknownFeature) as raised:
        client.get_historical_features(ROWS, [reference])
    assert str(raised.value).endswith(text)
    with pytest.raises(UnknownFeature):
        client.get_online_features([reference], {"user_id": ["u1"]})


def test_an_unknown_service_is_refused(client: Client) -> None:
    with pytest.raises(UnknownFeature, match=r"Did you mean 'churn'\?"):
        client.get_historical_features(ROWS, service="chrun")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, 'say what to read: either features=["view:feature", …] or service="name"'),
        ({"features": ["orders:n"], "service": "churn"}, 'say what to read: either features=["view:feature", …] or '
                                                         'service="name"'),
        ({"features": []}, 'features is empty: name at least one "view:feature"'),
        ({"features": "orders:n"}, "features must be a list of references, not the text 'orders:n': write ['orders:n']"),
        ({"features": ["orders:n"], "missing": "ignore"}, 'missing must be "error" or "allow", got \'ignore\''),
        ({"features": ["orders:n"], "as_of": datetime(2026, 1, 1)},  # noqa: DTZ001
         "as_of must be an instant with a time zone, got datetime.datetime(2026, 1, 1, 0, 0): add tzinfo=UTC"),
    ],
)  # fmt: skip
def test_a_question_that_makes_no_sense_is_refused(client: Client, arguments: dict[str, object], text: str) -> None:
    with pytest.raises(RetrievalError) as raised:
        client.get_historical_features(ROWS, **arguments)
    assert str(raised.value) == text


def test_views_of_other_entities_join_by_their_own_keys(client: Client) -> None:
    rows = ROWS | {"shop": [7, 8, 7, None]}
    rows["event_timestamp"] = [T0 + DAY] * 4
    table = client.get_historical_features(rows, ["shops:size", "orders:n"]).to_arrow()
    assert table["size"].to_pylist() == [5, 0, 5, None]
    with pytest.raises(EntityColumnError, match="have no column 'shop', a join key of view 'shops'"):
        client.get_historical_features(ROWS, ["shops:size"])


def test_history_that_was_never_published_is_an_error_with_its_fix(client: Client) -> None:
    late = {"user_id": ["u1", "u2", None], "event_timestamp": [T0 + 3 * DAY, T0 + 5 * DAY, T0 + 9 * DAY]}
    with pytest.raises(IncompleteHistory) as raised:
        client.get_historical_features(late, ["orders:n"])
    assert str(raised.value) == (
        "view 'orders' was never published for 2026-01-03T00:00Z to 2026-01-04T00:00Z, 2026-01-05T00:00Z to "
        "2026-01-06T00:00Z, which 2 entity row(s) need. Compute it with `fstore run --select orders --start "
        '2026-01-03T00:00 --end 2026-01-06T00:00`, or read what there is with missing="allow".'
    )
    frame = client.get_historical_features(late, ["orders:n"], missing="allow")
    assert frame.to_arrow()["n"].to_pylist() == [3, None, None]
    (report,) = frame.manifest.views
    assert (report.value_rows, report.expired_rows, report.null_key_rows, report.fallback_rows) == (1, 1, 1, 2)


def test_no_rows_and_no_publications_give_an_empty_frame_and_nulls(client: Client, publisher: Publisher) -> None:
    none = pa.table({"user_id": pa.array([], pa.string()), "event_timestamp": pa.array([], pa.timestamp("us", "UTC"))})
    assert client.get_historical_features(none, ["orders:n"]).to_arrow().schema.names == ["user_id", "event_timestamp", "n"]
    young = make_step("young", start=T0 + 100 * DAY)
    publisher.register(ORDERS, PROFILE, SHOPS, young, services=SERVICES)
    assert client.get_historical_features(ROWS, ["young:n"]).to_arrow()["n"].to_pylist() == [None] * 4


def test_as_of_reads_the_store_as_it_was_and_a_manifest_rebuilds_its_frame(client: Client, publisher: Publisher) -> None:
    frame = client.get_historical_features(ROWS, ["profile:country"])
    before, at = frame.manifest.sequence, datetime.now(UTC)
    publisher.publish(PROFILE, {day(0): [{"user_id": "u1", "country": "XX"}]})
    now = client.get_historical_features(ROWS, ["profile:country"])
    assert now.to_arrow()["country"].to_pylist() == ["XX", "??", None, None]
    assert now.manifest.sequence == before + 1
    for moment in (before, at):
        then = client.get_historical_features(ROWS, ["profile:country"], as_of=moment)
        assert then.to_arrow()["country"].to_pylist() == ["DE", "??", None, None]
    rebuilt = client.reproduce(Manifest.from_json(frame.manifest.to_json()), pa.table(ROWS))
    assert rebuilt.to_arrow().to_pylist() == frame.to_arrow().to_pylist()
    assert (
        client.get_historical_features(ROWS, ["profile:country"], as_of=0, missing="allow").to_arrow()["country"].to_pylist()
        == [None] * 4
    )
    with pytest.raises(RetrievalError, match="the entity rows are not those of the manifest"):
        client.reproduce(frame.manifest, pa.table(ROWS).slice(1))


def test_a_parquet_file_carries_the_manifest(client: Client, tmp_path: Path) -> None:
    frame = client.get_historical_features(ROWS, ["orders:n"])
    frame.to_parquet(tmp_path / "frame.parquet")
    table = pq.read_table(tmp_path / "frame.parquet")
    assert table.to_pylist() == frame.to_arrow().to_pylist()
    assert Manifest.from_json(table.schema.metadata[MANIFEST_KEY]) == frame.manifest
    assert [file.name for file in tmp_path.iterdir()] == ["frame.parquet"]
    assert frame.manifest.definitions == {"orders": "fp-orders"}
    assert frame.manifest.rows == 4


def test_explain_says_how_the_rows_fared(client: Client) -> None:
    text = client.get_historical_features(ROWS, ["orders:n"], as_of=3).explain()
    assert text.splitlines()[1:] == [
        "  orders (snapshot, fp-orders, generation 1): rows gathered by their address for (key, end of the snapshot), ttl "
        "2d, lag 0s, written by 1 attempt",
        "    reads 1 file with 2 rows for 2 of 2 published intervals; of the features n",
        "    2 a row; 1 the empty row; 1 null, key is null",
    ]


def test_online_values_come_with_their_time_and_status(client: Client) -> None:
    response = client.get_online_features(["profile:country"], {"user_id": ["u1", "u9", None]})
    assert response.to_dict() == {"user_id": ["u1", "u9", None], "country": ["FR", "??", None]}
    assert response.event_timestamps == {"country": [T0 + 2 * DAY, T0 + 2 * DAY, None]}
    assert response.statuses == {"country": ["value", "empty", "null_key"]}
    assert response.to_pandas().shape == (3, 2)
    assert client.get_online_features(["profile:country"], [{"user_id": "u1"}]).to_dict() == {
        "user_id": ["u1"], "country": ["FR"],
    }  # fmt: skip


def test_online_before_lag_and_beyond_ttl_is_null(publisher: Publisher, client: Client) -> None:
    early = Client(publisher.backends, clock=lambda: T0 + 2 * DAY + HOUR)
    response = early.get_online_features(["profile:country"], {"user_id": ["u1"]})
    assert (response.to_dict()["country"], response.statuses["country"]) == ([None], ["absent"])


def test_online_reads_refuse_what_is_not_there(client: Client) -> None:
    with pytest.raises(RetrievalError) as raised:
        client.get_online_features(["shops:size"], {"shop": [7]})
    assert str(raised.value) == (
        "view 'shops' is not kept online (online = False in feature_defs/p.py:1); read it with get_historical_features, pass "
        'offline="allow", or leave its features out'
    )
    with pytest.raises(FloorMissing) as missing:
        client.get_online_features(["orders:n"], {"user_id": ["u1"]})
    assert str(missing.value) == (
        "the online store has nothing of view 'orders' (project 'shop', generation 1): it was never filled, it "
        "was flushed, or FSTORE_ONLINE_URL leads to another store. Publish its newest interval again: "
        "`fstore run --select orders --start 2026-01-02T00:00 --end 2026-01-03T00:00`."
    )
    with pytest.raises(RetrievalError, match=r"entities is missing: pass the join keys"):
        client.get_online_features(["orders:n"])
    with pytest.raises(EntityColumnError, match="have no column 'user_id'"):
        client.get_online_features(["profile:n"], {"user": ["u1"]})
    with pytest.raises(EntityColumnError, match="holds int64, but the join key of view 'profile' is string"):
        client.get_online_features(["profile:n"], {"user_id": [1]})


def test_a_changed_definition_reaches_prepared_reads(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fstore.retrieval.prepared_reads._PLAN_SECONDS", -1.0)
    step = make_step("changing", features=features(("n", "int64", 0)))
    publisher.register(step)
    client = Client(publisher.backends, clock=lambda: T0 + DAY)
    publisher.bring_online(step, {day(0): []}, publisher.publish(step, {day(0): []}) or 0)
    assert client.get_online_features(["changing:n"], {"user_id": ["u"]}).to_dict()["n"] == [0]
    publisher.register(make_step("changing", features=features(("n", "int64", 5)), fingerprint="other"))
    assert client.get_online_features(["changing:n"], {"user_id": ["u"]}).to_dict()["n"] == [5]


def test_lists_that_somebody_makes_up_are_not_kept_without_end(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fstore.retrieval.prepared_reads.MOST_PREPARED", 2)
    publisher.register(make_step("asked_often", features=features(("a", "int64", 1), ("b", "int64", 2))))
    backends = publisher.backends
    reads = PreparedReads(backends, HistoricalReads(backends, lambda: T0))
    for names in ("a", "b", "ab", "ba", "a"):
        question = Question([f"asked_often:{name}" for name in names], None, full_names=False, offline="error")
        assert reads.prepare(question).selection.columns == tuple(names)
        assert reads.known(question) is reads.prepare(question)
        assert len(reads) <= 2


def test_settings_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("FSTORE_ROOT", "FSTORE_PROJECT", "FSTORE_REGISTRY_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SettingsError, match="no fstore project"):
        Client.from_env()
    monkeypatch.setenv("FSTORE_PROJECT", "shop")
    monkeypatch.setenv("FSTORE_REGISTRY_URL", f"sqlite:///{tmp_path}/registry.db")
    with Client.from_env() as client:
        assert client._backends.settings.project == "shop"


def test_opening_a_client_imports_neither_airflow_nor_sqlglot_nor_pandas() -> None:
    code = (
        "import sys\nfrom fstore import Client\nfrom fstore.settings import Settings\n"
        "Client(Settings(root='/', project='shop'))\n"
        "print([name for name in ('airflow', 'sqlglot', 'pandas', 'polars', 'duckdb', 'sqlalchemy', 'openlineage') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_rows_written_before_a_feature_was_added_read_as_null_in_it(publisher: Publisher) -> None:
    before = make_step("grown", features=features(("n", "int64", 0)))
    after = make_step("grown", features=features(("x", "string", "-"), ("n", "int64", 0)), fingerprint="grown-2")
    publisher.register(before)
    old, new = {day(0): [{"user_id": "u", "n": 1}]}, {day(1): [{"user_id": "u", "n": 2, "x": "new"}]}
    publisher.bring_online(before, old, publisher.publish(before, old) or 0)
    publisher.register(after)
    client = Client(publisher.backends, clock=lambda: T0 + DAY)
    entities = {"user_id": ["u", "v"]}
    assert client.get_online_features(["grown:*"], entities).to_dict() == {**entities, "x": [None, "-"], "n": [1, 0]}
    publisher.publish(after, new)
    rows = {"user_id": ["u", "u", "v"], "event_timestamp": [T0 + DAY, T0 + 2 * DAY, T0 + 2 * DAY]}
    table = client.get_historical_features(rows, ["grown:*"]).to_arrow()
    assert (table["x"].to_pylist(), table["n"].to_pylist()) == ([None, "new", "-"], [1, 2, 0])
