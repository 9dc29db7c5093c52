"""Every way to ask wrongly for historical features: each is refused with its code and a message that says how to ask rightly.

No mistake of these may come back as nulls. Where a number of rows is right, the last test says which nulls are meant.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pyarrow as pa
import pytest

from fstore import Client
from fstore.errors import FStoreError
from fstore.plan.steps import PlannedService
from fstore.retrieval.training import Manifest, TrainingFrame
from fstore.types import Column
from tests.retrieval.publishing import DAY, T0, Publisher, day, features, make_step, references

ORDERS = make_step("orders")
PROFILE = make_step("profile", features=features(("n", "int64", 0), ("country", "string", "??")))
SHOPS = make_step("shops", keys=(Column(name="shop", type="int32"),), entity="shop", features=features(("size", "int16", 0)))
GONE = make_step("gone", features=features(("x", "int64", 0)))
SERVICES = [PlannedService(name="churn", references=references("orders:n"))]

AT = T0 + DAY
ROWS = {"user_id": ["u1"], "event_timestamp": [AT]}
NAIVE = datetime(2026, 1, 1)  # noqa: DTZ001
NO_TABLE = "entity rows must be a pandas or polars DataFrame, an Arrow table, a Parquet path or a list of dicts, got "
NOT_SAID = 'say what to read: either features=["view:feature", …] or service="name"'
NEW = "If it is new, `fstore apply` records it."
NO_REFERENCE = 'is not a feature reference; write "view:feature", or "view:*" for all features of a view'
NO_DURATION = 'is not a duration; write a number and a unit of s, m, h, d, w or y, such as "7d" or "1d12h"'
NOT_IN_PANDAS = 'In pandas: pd.to_datetime(frame["event_timestamp"], utc=True)'
OF_SHOPS = "the join key of view 'shops', without loss"


@pytest.fixture(scope="module")
def shop(publisher: Publisher) -> Publisher:
    publisher.register(ORDERS, PROFILE, SHOPS, GONE, services=SERVICES)
    publisher.publish(ORDERS, {day(0): [{"user_id": "u1", "n": 1}]})
    publisher.publish(SHOPS, {day(0): [{"shop": 7, "size": 5}]})
    publisher.publish(GONE, {day(0): [{"user_id": "u1", "x": 1}]})
    publisher.backends.registry.retire("gone")
    return publisher


@pytest.fixture(scope="module")
def client(shop: Publisher) -> Client:
    return Client(shop.backends, clock=lambda: T0 + 3 * DAY)


class StreamingClient(Client):
    """A client whose historical reads are streams, consumed to their end."""

    def get_historical_features(self, *arguments: Any, **options: Any) -> Any:
        with self.scan_historical_features(*arguments, **options) as stream:
            list(stream.to_batches())


@pytest.fixture(scope="module", params=["whole", "streamed"])
def asker(request: pytest.FixtureRequest, client: Client, shop: Publisher) -> Client:
    """A client that gives whole frames, and one that streams them: both refuse alike."""
    return client if request.param == "whole" else StreamingClient(shop.backends, clock=lambda: T0 + 3 * DAY)


@pytest.fixture
def frame(client: Client) -> TrainingFrame:
    return client.get_historical_features(ROWS, ["orders:n"])


def refusal(code: str, read: Callable[[], object]) -> str:
    with pytest.raises(FStoreError) as raised:
        read()
    assert raised.value.code == code
    return str(raised.value)


def rows_with(**columns: object) -> dict[str, object]:
    return {name: values for name, values in (ROWS | columns).items() if values is not None}


# -- what is asked for ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        (["order:n"], "project 'shop' has no view 'order' in registry {registry}. Did you mean 'orders'? {new}"),
        (["Orders:n"], "project 'shop' has no view 'Orders' in registry {registry}. Did you mean 'orders'? {new}"),
        (["zebra:n"], "project 'shop' has no view 'zebra' in registry {registry}. {new}"),
        (["orders:amuont"], "view 'orders' has no feature 'amuont'; it has 'n', 'amount'. Did you mean 'amount'?"),
        (["orders:N"], "view 'orders' has no feature 'N'; it has 'n', 'amount'."),
        (["gone:x"], "view 'gone' of project 'shop' was removed from the definitions"),
        (["orders:n", "gone:*"], "view 'gone' of project 'shop' was removed from the definitions"),
        (["orders"], f"'orders' {NO_REFERENCE}"),
        (["orders:"], f"'orders:' {NO_REFERENCE}"),
        (["orders:n:m"], f"'orders:n:m' {NO_REFERENCE}"),
        ([""], f"'' {NO_REFERENCE}"),
        (["orders:n@buyer(user=u)"],
         "'orders:n@buyer(user=u)': view 'orders' has no join key 'user', only 'user_id'. Did you mean 'user_id'?"),
        (["on_demand:near"], "project 'shop' has no on-demand feature 'near' in registry {registry}. It has none: declare "
                             "one with on_demand and `fstore apply`."),
    ],
)  # fmt: skip
def test_unknown_views_and_features(asker: Client, shop: Publisher, wanted: list[str], text: str) -> None:
    said = text.replace("{registry}", shop.backends.settings.registry_url).replace("{new}", NEW)
    assert refusal("unknown_feature", lambda: asker.get_historical_features(ROWS, wanted)) == said
    assert refusal("unknown_feature", lambda: asker.get_batch_features({"user_id": ["u1"]}, wanted)) == said


def test_unknown_services(asker: Client, shop: Publisher) -> None:
    url = shop.backends.settings.registry_url
    for name, hint in (("chrun", " Did you mean 'churn'?"), ("", ""), ("orders", "")):
        said = refusal("unknown_feature", lambda name=name: asker.get_historical_features(ROWS, service=name))  # type: ignore[misc]
        assert said == f"project 'shop' has no feature service {name!r} in registry {url}.{hint} {NEW}"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, NOT_SAID),
        ({"features": ["orders:n"], "service": "churn"}, NOT_SAID),
        ({"features": []}, 'features is empty: name at least one "view:feature"'),
        ({"features": "orders:n"}, "features must be a list of references, not the text 'orders:n': write ['orders:n']"),
        ({"features": {"orders:n"}},
         "features must be a list of references, not {'orders:n'}: their order is that of the columns"),
        ({"features": [None]}, "the list of features lists None, which is neither a view nor a feature of one."),
        ({"features": [5]}, "the list of features lists int 5, which is neither a view nor a feature of one."),
        ({"service": 5}, "service must be the name of a service, got 5"),
        ({"service": ["churn"]}, "service must be the name of a service, got ['churn']"),
    ],
)  # fmt: skip
def test_lists_and_services_that_are_none(asker: Client, arguments: dict[str, object], text: str) -> None:
    assert refusal("retrieval_error", lambda: asker.get_historical_features(ROWS, **arguments)) == text  # type: ignore[arg-type]
    assert refusal("retrieval_error", lambda: asker.get_batch_features({"user_id": ["u1"]}, **arguments)) == text  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rows", "options", "text"),
    [
        (ROWS, {"features": ["orders:n", "profile:n"]},
         "features 'orders:n' and 'profile:n' are both named 'n'. Pass full_names=True to name columns view__feature."),
        (ROWS, {"features": ["orders:n@b", "profile:n@b"]},
         "features 'orders:n@b' and 'profile:n@b' are both named 'b__n'. Use another alias."),
        (rows_with(n=[1]), {"service": "churn"},
         "feature 'orders:n' would be column 'n', which the entity rows have already. Pass full_names=True to name columns "
         "view__feature, or rename that column."),
        (rows_with(orders__n=[1]), {"features": ["orders:n"], "full_names": True},
         "feature 'orders:n' would be column 'orders__n', which the entity rows have already. Pass full_names=True to name "
         "columns view__feature, or rename that column."),
    ],
)  # fmt: skip
def test_clashes_of_names(asker: Client, rows: dict[str, object], options: dict[str, object], text: str) -> None:
    assert refusal("feature_name_clash", lambda: asker.get_historical_features(rows, **options)) == text  # type: ignore[arg-type]


# -- how it is asked --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"missing": "ignore"}, 'missing must be "error" or "allow", got \'ignore\''),
        ({"accuracy": "fast"}, 'accuracy must be "snapshot" or "exact", got \'fast\''),
        ({"accuracy": None}, 'accuracy must be "snapshot" or "exact", got None'),
        ({"accuracy": "exact", "as_of": 1},
         'accuracy="exact" reads the events of sources as they are now, so it has no as_of; leave one of them out'),
        ({"accuracy": "exact"},
         "view 'orders' cannot be read with accuracy=\"exact\", which computes windows of events at each row's own instant: "
         "only views of aggregates over one source have such windows. Read it in a frame of its own with "
         'accuracy="snapshot".'),
        ({"as_of": NAIVE}, "as_of must be an instant with a time zone, got datetime.datetime(2026, 1, 1, 0, 0): add tzinfo=UTC"),
        ({"as_of": -1, "missing": "allow"}, "as_of must be a sequence of the publication log, from 0 up, or an instant with "
                                            "a time zone, got -1"),
        ({"as_of": "2026-01-01"}, "as_of must be a sequence of the publication log, from 0 up, or an instant with a time "
                                  "zone, got '2026-01-01'"),
        ({"as_of": date(2026, 1, 1)}, "as_of must be a sequence of the publication log, from 0 up, or an instant with a time "
                                      "zone, got datetime.date(2026, 1, 1)"),
        ({"as_of": True}, "as_of must be a sequence of the publication log, from 0 up, or an instant with a time zone, got "
                          "True"),
        ({"matures_after": "-1d"}, f"matures_after: '-1d' {NO_DURATION}"),
        ({"matures_after": "soon"}, f"matures_after: 'soon' {NO_DURATION}"),
        ({"matures_after": timedelta(days=-1)}, "matures_after must not be negative, got datetime.timedelta(days=-1)"),
        ({"matures_after": "1001y"}, "matures_after must not be longer than a thousand years, got '1001y'"),
        ({"matures_after": 5}, 'matures_after must be a duration, such as "30d" or a timedelta, got 5'),
    ],
)  # fmt: skip
def test_options_that_make_no_sense(asker: Client, options: dict[str, object], text: str) -> None:
    read = lambda: asker.get_historical_features(ROWS, ["orders:n"], **options)  # type: ignore[arg-type]  # noqa: E731
    assert refusal("retrieval_error", read) == text


def test_labels_that_are_not_known_yet(asker: Client) -> None:
    read = lambda: asker.get_historical_features(ROWS, ["orders:n"], matures_after="3d")  # noqa: E731
    assert refusal("immature_labels", read) == (
        "1 entity row(s) have labels that are not known yet: they mature 3d after their instant, so only those up to "
        "2026-01-01T00:00:00Z are. Leave the later ones out, or read them without matures_after and take frame.mature(…)."
    )


@pytest.mark.parametrize(
    ("rows", "options", "start", "end"),
    [
        (rows_with(event_timestamp=[T0 + 9 * DAY]), {"features": ["orders:n"]}, "2026-01-09T00:00", "2026-01-10T00:00"),
        (ROWS, {"features": ["profile:country"]}, "2026-01-01T00:00", "2026-01-02T00:00"),  # never published at all
        (
            ROWS,
            {"features": ["orders:n"], "as_of": datetime(1990, 1, 1, tzinfo=UTC)},
            "2026-01-01T00:00",
            "2026-01-02T00:00",
        ),
        (ROWS, {"features": ["orders:n"], "as_of": 0}, "2026-01-01T00:00", "2026-01-02T00:00"),
    ],
)
def test_history_that_was_never_published(
    asker: Client, rows: dict[str, object], options: dict[str, object], start: str, end: str
) -> None:
    view = str(options["features"][0]).partition(":")[0]  # type: ignore[index]
    assert refusal("incomplete_history", lambda: asker.get_historical_features(rows, **options)) == (  # type: ignore[arg-type]
        f"view {view!r} was never published for {start}Z to {end}Z, which 1 entity row(s) need. Compute it with `fstore run "
        f'--select {view} --start {start} --end {end}`, or read what there is with missing="allow".'
    )


# -- entity rows ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (None, f"{NO_TABLE}NoneType"),
        (42, f"{NO_TABLE}int"),
        (["u1", "u2"], f"{NO_TABLE}list"),
        ([], "the entity rows have no column 'event_timestamp' with the time of each row; they have none. Name another one "
             "with timestamp_column=…"),
        (rows_with(user_id=None), "the entity rows have no column 'user_id', a join key of view 'orders'; they have "
                                  "'event_timestamp'."),
        (rows_with(user_id=None, user=["u1"]), "the entity rows have no column 'user_id', a join key of view 'orders'; they "
                                               "have 'event_timestamp', 'user'. Did you mean 'user'?"),
        (rows_with(user_id=["u1", "u2"]), "the entity columns differ in length: {'user_id': 2, 'event_timestamp': 1}"),
        (rows_with(user_id="u"), "column 'user_id' must be a list with a value per row, got 'u'"),
        (rows_with(user_id=7), "column 'user_id' must be a list with a value per row, got 7"),
        (pa.table([["u1"], ["u2"], [AT]], names=["user_id", "user_id", "event_timestamp"]),
         "the entity rows have column(s) 'user_id' more than once; rename or drop one"),
        (pd.DataFrame([["u1", "u2", AT]], columns=["user_id", "user_id", "event_timestamp"]),
         "the entity rows have column(s) 'user_id' more than once; rename or drop one"),
        (rows_with(user_id=["u1", 2], event_timestamp=[AT, AT]),
         "the entity rows have a column of mixed types: Expected bytes, got a 'int' object"),
        (rows_with(user_id=["u1", float("nan")], event_timestamp=[AT, AT]),
         "the entity rows have a column of mixed types: Expected bytes, got a 'float' object"),
        (rows_with(user_id=[1 << 70]),
         "the entity rows have a value that no column can hold: Python int too large to convert to C long"),
        (rows_with(user_id=["\ud800"]),
         "the entity rows have a value that no column can hold: 'utf-8' codec can't encode character '\\ud800' in position "
         "0: surrogates not allowed"),
        (rows_with(user_id=[1]), "column 'user_id' holds int64, but the join key of view 'orders' is string. Convert it, for "
                                 "example in pandas: frame['user_id'].astype('string')"),
        (rows_with(user_id=[b"u1"]), "column 'user_id' holds binary, but the join key of view 'orders' is string. Convert "
                                     "it, for example in pandas: frame['user_id'].astype('string')"),
    ],
)  # fmt: skip
def test_entity_rows_that_are_none(asker: Client, rows: object, text: str) -> None:
    assert refusal("entity_column_error", lambda: asker.get_historical_features(rows, ["orders:n"])) == text  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (pa.array(["7"]), "column 'shop' holds large_string, but the join key of view 'shops' is int32. Convert it, for "
                          "example in pandas: frame['shop'].astype('Int32')"),
        (pa.array([True]), "column 'shop' holds bool, but the join key of view 'shops' is int32. Convert it, for example in "
                           "pandas: frame['shop'].astype('Int32')"),
        (pa.array([float("nan")]), "column 'shop', a join key of view 'shops', holds NaN in 1 row(s), which names no entity. "
                                   "Give null where there is no key, and the features of that row are null"),
        (pa.array([7.5]), f"column 'shop' cannot become int32, {OF_SHOPS}: Float value 7.500000 was truncated converting to "
                          "int32"),
        (pa.array([float("inf")]), f"column 'shop' cannot become int32, {OF_SHOPS}: inf is beyond the whole numbers that a "
                                   "float holds exactly"),
        (pa.array([1 << 40]), f"column 'shop' cannot become int32, {OF_SHOPS}: Integer value 1099511627776 not in range: "
                              "-2147483648 to 2147483647"),
    ],
)  # fmt: skip
def test_keys_that_name_no_entity(asker: Client, keys: pa.Array, text: str) -> None:
    table = pa.table({"shop": keys, "event_timestamp": [AT]})
    assert refusal("entity_column_error", lambda: asker.get_historical_features(table, ["shops:size"])) == text
    batch = table.drop_columns(["event_timestamp"])
    assert refusal("entity_column_error", lambda: asker.get_batch_features(batch, ["shops:size"])) == text


@pytest.mark.parametrize(
    ("times", "text"),
    [
        (pa.array([NAIVE]), "column 'event_timestamp' holds times without a zone, so it is unknown which instants they mean. "
                            'In pandas: frame["event_timestamp"].dt.tz_localize("UTC"), or the zone they were recorded in'),
        (pa.array([1_000_000_001], pa.timestamp("ns", "UTC")),
         "column 'event_timestamp' is finer than microseconds, which instants have here. In pandas: "
         'frame["event_timestamp"].dt.floor("us")'),
        (pa.array([None], pa.timestamp("us", "UTC")),
         "column 'event_timestamp' is null in 1 row(s): each entity row needs its instant"),
        (pa.array([None]), "column 'event_timestamp' must hold instants (timestamps with a time zone), got null. "
                           f"{NOT_IN_PANDAS}"),
        (pa.array(["2026-01-02T00:00:00Z"]), "column 'event_timestamp' must hold instants (timestamps with a time zone), got "
                                             f"string. {NOT_IN_PANDAS}"),
        (pa.array([date(2026, 1, 2)]), "column 'event_timestamp' must hold instants (timestamps with a time zone), got "
                                       f"date32[day]. {NOT_IN_PANDAS}"),
        (pa.array([1767312000]), "column 'event_timestamp' must hold instants (timestamps with a time zone), got int64. "
                                 f"{NOT_IN_PANDAS}"),
    ],
)  # fmt: skip
def test_times_that_are_no_instants(asker: Client, times: pa.Array, text: str) -> None:
    table = pa.table({"user_id": ["u1"], "event_timestamp": times})
    assert refusal("entity_column_error", lambda: asker.get_historical_features(table, ["orders:n"])) == text


def test_columns_of_time_that_are_not_there(asker: Client) -> None:
    read = lambda name: asker.get_historical_features(ROWS, ["orders:n"], timestamp_column=name)  # noqa: E731
    assert refusal("entity_column_error", lambda: read("event_time")) == (
        "the entity rows have no column 'event_time' with the time of each row; they have 'user_id', 'event_timestamp'. Did "
        "you mean 'event_timestamp'? Name another one with timestamp_column=…"
    )
    assert refusal("entity_column_error", lambda: read(None)) == "timestamp_column must be the name of a column, got None"
    assert refusal("entity_column_error", lambda: asker.get_batch_features(ROWS, ["orders:n"])) == (
        "the entity rows have a column 'event_timestamp', where the instant of the read goes: use get_historical_features for "
        "rows with times of their own, or rename it"
    )


def test_files_that_are_no_parquet(asker: Client, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("user_id,event_timestamp\nu1,2026-01-02\n")
    (tmp_path / "empty.parquet").touch()
    why = {
        "rows.csv": "Parquet magic bytes not found in footer",
        "empty.parquet": "Parquet file size is 0 bytes",
        "none.parquet": "none.parquet",
    }
    for name, reason in why.items():
        path = str(tmp_path / name)
        said = refusal("entity_column_error", lambda path=path: asker.get_historical_features(path, ["orders:n"]))  # type: ignore[misc]
        start = f"entity rows cannot be read from {path!r} as Parquet: "
        assert said.startswith(start)  # what follows is the reader's own
        assert reason in said.removeprefix(start)


# -- frames and manifests ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "text"),
    [
        (lambda frame: frame.mature("x"), f"matures_after: 'x' {NO_DURATION}"),
        (lambda frame: frame.mature(None),
         'matures_after must be a duration, such as "30d" or a timedelta, got None'),
        (lambda frame: frame.mature("1d", at=NAIVE),
         "at must be an instant with a time zone, got datetime.datetime(2026, 1, 1, 0, 0): add tzinfo=UTC"),
        (lambda frame: frame.split_by_time(), "cuts must be instants in ascending order, at least one; got none"),
        (lambda frame: frame.split_by_time(AT, AT), "cuts must be instants in ascending order, at least one; got 2026-01-02 "
                                                    "00:00:00+00:00, 2026-01-02 00:00:00+00:00"),
        (lambda frame: frame.split_by_time("2026-01-02"),
         "a cut must be an instant with a time zone, got '2026-01-02': add tzinfo=UTC"),
        (lambda frame: frame.split_by_time(AT, matures_after=-1),
         'matures_after must be a duration, such as "30d" or a timedelta, got -1'),
    ],
)  # fmt: skip
def test_cuts_of_frames(frame: TrainingFrame, ask: Callable[[TrainingFrame], object], text: str) -> None:
    assert refusal("retrieval_error", lambda: ask(frame)) == text


def test_manifests_of_something_else(client: Client, frame: TrainingFrame) -> None:
    manifest = frame.manifest
    foreign = msgspec.structs.replace(manifest, project="other")
    assert refusal("retrieval_error", lambda: Manifest.from_json("nope")) == (
        "the text is no manifest of a training frame: JSON is malformed: invalid character (byte 4)"
    )
    assert refusal("retrieval_error", lambda: Manifest.from_json("{}")) == (
        "the text is no manifest of a training frame: Object missing required field `project`"
    )
    assert refusal("retrieval_error", lambda: client.reproduce(manifest.to_json(), ROWS)) == (  # type: ignore[arg-type]
        "manifest must be a Manifest, got str: Manifest.from_json(text) reads one from JSON"
    )
    assert refusal("retrieval_error", lambda: client.reproduce(foreign, ROWS)) == (
        f"the manifest is of project 'other' in registry {manifest.registry}; this client reads project 'shop' in registry "
        f"{manifest.registry}"
    )
    for other in (rows_with(user_id=["u2"]), rows_with(event_timestamp=[AT + DAY])):
        said = refusal("retrieval_error", lambda other=other: client.reproduce(manifest, other))  # type: ignore[misc]
        assert said == "the entity rows are not those of the manifest: their keys or times differ"


def test_pins_of_something_else(client: Client, frame: TrainingFrame) -> None:
    for until in ("2027-01-01", NAIVE, date(2027, 1, 1)):
        said = refusal("retrieval_error", lambda until=until: client.pin("model", until=until))  # type: ignore[misc]
        assert said == f"until must be an instant with a time zone, got {until!r}: add tzinfo=UTC"
    json: Any = frame.manifest.to_json()
    assert refusal("retrieval_error", lambda: client.pin("model", until=AT, manifest=json)) == (
        "manifest must be a Manifest, got str: Manifest.from_json(text) reads one from JSON"
    )


# -- what is no mistake -----------------------------------------------------------------------------------------------------


def test_nulls_that_are_meant_and_what_reads_as_the_present(client: Client) -> None:
    rows = pd.DataFrame({"shop": [7.0, None, 8.0], "event_timestamp": [AT] * 3})  # pandas has whole numbers beside nulls so
    frame = client.get_historical_features(rows, ["shops:size"])
    assert frame.to_arrow()["size"].to_pylist() == [5, None, 0]
    assert frame.manifest.views[0].null_key_rows == 1
    before = client.get_historical_features(rows_with(event_timestamp=[T0 - DAY]), ["orders:n"])  # nothing was known yet
    assert (before.to_arrow()["n"].to_pylist(), before.manifest.views[0].absent_rows) == ([None], 1)
    for later in (10**9, datetime(2200, 1, 1, tzinfo=UTC)):  # moments that have not come yet are the present one
        assert client.get_historical_features(ROWS, ["orders:n"], as_of=later).to_arrow()["n"].to_pylist() == [1]


def test_a_service_survives_the_manifest(client: Client) -> None:
    frame = client.get_historical_features(ROWS, service="churn")
    manifest = Manifest.from_json(frame.manifest.to_json())
    assert manifest == frame.manifest
    assert manifest.service == "churn"
    assert client.reproduce(manifest, ROWS).to_arrow()["n"].to_pylist() == [1]
    assert client.get_historical_features(ROWS, ["orders:n"]).manifest.service is None
