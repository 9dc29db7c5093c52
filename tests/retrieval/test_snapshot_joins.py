"""Both ways to fetch the rows of snapshots give what brute force gives, for every type and layout; sizes choose between them."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from fstore import Client
from fstore.errors import StoreCorrupt
from fstore.registry.ledger import Ledger
from fstore.retrieval import row_addresses, row_pieces, snapshot_gather, snapshot_join
from fstore.retrieval.snapshot_join import (
    GATHER,
    GATHERED_ROWS,
    HASH_JOIN,
    SnapshotJoin,
    SnapshotSizes,
    choose_snapshot_join,
)
from fstore.types import Column
from tests.retrieval.histories import publish_history
from tests.retrieval.publishing import DAY, HOUR, T0, Publisher, day, features, make_step

UTC = ZoneInfo("UTC")

LAYOUTS = {
    "files together": (131_072, 8, 128 << 20),
    "features later": (131_072, 8, 1),
    "some features later": (100, 8, 5_000),
    "row groups apart": (1, 8, 1),
    "pairs hashed": (131_072, 0, 128 << 20),
}
"""How many rows make a piece, from how many pairs of snapshot and key per row on pairs are hashed, and how many bytes of
features of small files are read at a time."""


@pytest.mark.parametrize("seed", range(5))
def test_every_way_to_fetch_snapshots_equals_brute_force(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(publisher, "row_group_rows", 2)
    history = publish_history(publisher, "snapshot", 1_000 + seed)
    ways = [(HASH_JOIN, *LAYOUTS["files together"]), *((GATHER, *layout) for layout in LAYOUTS.values())]
    for way, *layout in ways:
        force(monkeypatch, way, *layout)
        frame = Client(publisher.backends).get_historical_features(
            list(history.entity_rows), [f"{history.step.view}:*"], timestamp_column="at", missing="allow"
        )
        found = frame.to_arrow()
        got = list(zip(found["n"].to_pylist(), found["label"].to_pylist(), strict=True))
        assert got == history.expected, (way.words, layout)
        assert way.words in frame.explain() or not history.published


TYPES: Mapping[str, list[Any]] = {
    "int8": [-128, 0, None, 127],
    "uint64": [0, 2**64 - 1, None, 2**63],
    "float32": [0.5, None, math.inf, -0.0],
    "float64": [1e300, None, math.nan, -0.0],
    "bool": [True, False, None, True],
    "string": ["", "é", None, "x" * 700],
    "binary": [b"", b"\x00\xff", None, b"y"],
    "date": [date(1969, 12, 31), None, date(9999, 1, 1), date(2026, 1, 1)],
    "timestamp": [
        datetime(1, 1, 2, tzinfo=UTC),
        None,
        datetime(2026, 1, 1, tzinfo=UTC),
        datetime(2262, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
    ],
    "decimal(38,3)": [Decimal("-1.125"), None, Decimal("12345678901234567890.125"), Decimal("0.000")],
    "float32[2]": [[1.0, 2.0], None, [0.0, -1.5], [3.0, 4.0]],
    "list<string>": [["a", None], [], None, ["b"]],
    "map<string,int64>": [[("a", 1), ("b", None)], [], None, [("c", 3)]],
}
DAYS, USERS = 5, 60


@pytest.fixture(scope="module")
def typed(publisher: Publisher) -> Mapping[tuple[str, int, int], Mapping[str, Any]]:
    """Publish a value of every type for most pairs of key and day, some days of it again; return the rows by key and day."""
    declared = features(*((f"f{number}", kind, None) for number, kind in enumerate(TYPES)))
    keys = (Column(name="user_id", type="string"), Column(name="opened", type="date"), Column(name="slot", type="int32"))
    step = make_step("typed", keys=keys, features=declared)
    publisher.register(step)
    chance = random.Random(5)
    held: dict[tuple[str, int, int], Mapping[str, Any]] = {}
    for days in (range(DAYS), (1,), (3, 4)):
        rows: dict[Any, list[Mapping[str, Any]]] = {day(number): [] for number in days}
        for number in days:
            held = {key: row for key, row in held.items() if key[2] != number}
            for user in range(USERS):
                for slot in (0, 1):
                    if chance.random() < 0.2:
                        continue
                    values = {f"f{n}": chance.choice(choices) for n, choices in enumerate(TYPES.values())}
                    row = {"user_id": f"u{user}", "opened": date(2020, 1, 1 + user % 3), "slot": slot, **values}
                    rows[day(number)].append(row)
                    held[f"u{user}", slot, number] = row
        publisher.dictionaries = days != (1,)
        publisher.publish(step, rows)
    return held


@pytest.mark.parametrize("asked", [1, 3, 900], ids=lambda asked: f"{asked} entity rows")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("way", [GATHER, HASH_JOIN], ids=["gather", "hash join"])
def test_values_of_every_type_arrive(
    publisher: Publisher, typed: Mapping[tuple[str, int, int], Mapping[str, Any]], monkeypatch: pytest.MonkeyPatch,
    way: SnapshotJoin, layout: str, asked: int,
) -> None:  # fmt: skip
    force(monkeypatch, way, *LAYOUTS[layout])
    chance = random.Random(asked)
    rows = [
        (f"u{chance.randrange(USERS + 3)}", chance.choice([0, 1, 2, None]), chance.randrange(DAYS)) for _ in range(asked)
    ]
    spine = [
        {"user_id": user, "opened": date(2020, 1, 1 + int(user[1:]) % 3), "slot": slot,
         "event_timestamp": T0 + (number + 1) * DAY + HOUR}
        for user, slot, number in rows
    ]  # fmt: skip
    frame = Client(publisher.backends).get_historical_features(spine, ["typed:*"]).to_arrow()
    frame.validate(full=True)
    nothing: Mapping[str, Any] = dict.fromkeys(f"f{n}" for n in range(len(TYPES)))
    for n, kind in enumerate(TYPES):
        expected = [
            typed.get((user, slot if slot is not None else -1, number), nothing)[f"f{n}"] for user, slot, number in rows
        ]
        assert [repr(value) for value in frame[f"f{n}"].to_pylist()] == [repr(value) for value in expected], kind


def test_features_that_older_files_do_not_have_are_null(publisher: Publisher) -> None:
    step = make_step("grown", features=features(("n", "int64", 0)))
    publisher.register(step)
    publisher.publish(step, {day(0): [{"user_id": "ann", "n": 1}]})
    more = make_step("grown", features=features(("n", "int64", 0), ("label", "string", None), ("rate", "float64", None)))
    publisher.register(more)
    publisher.publish(more, {day(1): [{"user_id": "ann", "n": 2, "label": "x", "rate": 0.5}]})
    spine = [{"user_id": "ann", "event_timestamp": T0 + number * DAY} for number in (1, 2, 1)]
    found = Client(publisher.backends).get_historical_features(spine, ["grown:*"]).to_arrow()
    assert found["n"].to_pylist() == [1, 2, 1]
    assert found["label"].to_pylist() == [None, "x", None]
    assert found["rate"].to_pylist() == [None, 0.5, None]


def test_snapshots_without_rows_are_read_with_the_others(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    force(monkeypatch, GATHER, *LAYOUTS["files together"])
    step = make_step("sparse")
    publisher.register(step)
    row = {"user_id": "ann", "n": 1, "amount": 0.5}
    for number, rows in enumerate([[], [row], [], [{**row, "n": 2}], []]):
        publisher.publish(step, {day(number): rows})
    spine = [{"user_id": "ann", "event_timestamp": T0 + (number + 1) * DAY} for number in range(5)]
    found = Client(publisher.backends).get_historical_features(spine, ["sparse:*"]).to_arrow()
    assert found["n"].to_pylist() == [0, 1, 0, 2, 0]
    nowhere = Client(publisher.backends).get_historical_features(spine[:1], ["sparse:*"]).to_arrow()
    assert nowhere["amount"].to_pylist() == [None]


def test_row_groups_whose_times_nobody_asks_for_are_not_read(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    step = make_step("grouped")
    publisher.register(step)
    monkeypatch.setattr(publisher, "row_group_rows", 10)
    monkeypatch.setattr(row_pieces, "SMALL_ROWS", 1)
    monkeypatch.setattr(row_pieces, "PIECE_ROWS", 1)
    rows = [[{"user_id": f"u{user}", "n": number, "amount": None} for user in range(10)] for number in range(6)]
    publisher.publish(step, {day(number): found for number, found in enumerate(rows)})
    read: list[int] = []
    really = row_pieces.Piece.read
    monkeypatch.setattr(row_pieces.Piece, "read", lambda piece, names: read.append(piece.rows) or really(piece, names))
    spine = [{"user_id": "u3", "event_timestamp": T0 + 3 * DAY}]
    frame = Client(publisher.backends).get_historical_features(spine, ["grouped:n"])
    assert frame.to_arrow()["n"].to_pylist() == [2]
    assert read == [10, 10]  # keys, then the feature


@pytest.mark.parametrize(
    ("spine_rows", "rows", "files", "features", "expected"),
    [
        (1, 1, 1, 10, GATHER),
        (17_000, 100_000, 2, 100, HASH_JOIN),  # wide
        (100_000, 1_000_000, 2, 10, GATHER),
        (1_000_000, 1_000_000, 365, 10, GATHER),
        (1_000, 1_000_000, 365, 10, HASH_JOIN),  # many small files
        (100_000, 1_000_000, 365, 10, HASH_JOIN),
        (1_000_000, GATHERED_ROWS, 2, 10, GATHER),
        (1_000_000, GATHERED_ROWS + 1, 2, 10, HASH_JOIN),
        (GATHERED_ROWS + 1, 1_000, 2, 10, HASH_JOIN),
    ],
)
def test_the_cheaper_way_is_chosen_by_the_sizes(
    spine_rows: int, rows: int, files: int, features: int, expected: SnapshotJoin
) -> None:
    sizes = SnapshotSizes(spine_rows=spine_rows, rows=rows, files=files, features=features)
    local = pafs.LocalFileSystem()
    assert choose_snapshot_join(sizes, local) is expected
    assert choose_snapshot_join(sizes, pafs.SubTreeFileSystem("bucket", local)) is HASH_JOIN


@pytest.mark.parametrize("dictionaries", [True, False], ids=["dictionaries", "plain"])
def test_long_texts_arrive_however_they_are_stored(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch, dictionaries: bool
) -> None:
    step = make_step(f"texts_{dictionaries}", features=features(("n", "int64", 0), ("text", "string", None)))
    publisher.register(step)
    monkeypatch.setattr(publisher, "dictionaries", dictionaries)
    texts = {(user, number): f"{user} {number} " * 400 if user % 5 else None for user in range(40) for number in range(3)}
    for number in range(3):
        publisher.publish(
            step, {day(number): [{"user_id": f"u{user}", "n": user, "text": texts[user, number]} for user in range(40)]}
        )
    asked = [(user, number) for number in range(3) for user in range(0, 40, 3) for _ in range(2)]
    spine = [{"user_id": f"u{user}", "event_timestamp": T0 + (number + 1) * DAY} for user, number in asked]
    found = Client(publisher.backends).get_historical_features(spine, [f"{step.view}:*"]).to_arrow()
    assert found["text"].to_pylist() == [texts[key] for key in asked]
    assert found["n"].to_pylist() == [user for user, _ in asked]


def test_a_file_with_other_rows_than_were_recorded_is_refused(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    step = make_step("miscounted")
    publisher.register(step)
    really = Ledger.record_files
    monkeypatch.setattr(
        Ledger, "record_files",
        lambda ledger, attempt, files: really(ledger, attempt, [msgspec.structs.replace(files[0], rows=3)]),
    )  # fmt: skip
    publisher.publish(step, {day(0): [{"user_id": "ann", "n": 1, "amount": None}]})
    spine = [{"user_id": "ann", "event_timestamp": T0 + DAY}]
    with pytest.raises(
        StoreCorrupt, match=r"part-0\.parquet' has 1 rows; 3 were recorded .*`fstore run --select VIEW --start"
    ):
        Client(publisher.backends).get_historical_features(spine, ["miscounted:n"])


READ = """
import sys
from fstore import Client
from fstore.settings import Settings
import msgspec
with Client(msgspec.json.decode(sys.argv[1], type=Settings)) as client:
    frame = client.get_historical_features(sys.argv[2], ["light:n", "light:label"]).to_arrow()
imported = sorted({"duckdb", "pandas"} & set(sys.modules))
print(frame["n"].to_pylist(), frame["label"].to_pylist(), imported)
"""


def test_a_gather_imports_neither_duckdb_nor_pandas(publisher: Publisher, tmp_path: Path) -> None:
    step = make_step("light", features=features(("n", "int64", 0), ("label", "string", None)))
    publisher.register(step)
    publisher.publish(step, {day(0): [{"user_id": "ann", "n": 3, "label": "x"}]})
    frame = Client(publisher.backends).get_historical_features(
        [{"user_id": "ann", "event_timestamp": T0 + DAY + timedelta(hours=1)}], ["light:n"]
    )
    pq.write_table(frame.to_arrow().drop_columns("n"), tmp_path / "rows.parquet")
    settings = msgspec.json.encode(publisher.backends.settings).decode()
    done = subprocess.run(
        [sys.executable, "-c", READ, settings, str(tmp_path / "rows.parquet")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[3] ['x'] []"


def force(monkeypatch: pytest.MonkeyPatch, way: SnapshotJoin, piece_rows: int, sparse: int, together: int) -> None:
    """Have snapshots fetched in one way, whatever the sizes."""
    monkeypatch.setattr(snapshot_join, "choose_snapshot_join", lambda sizes, filesystem: way)
    monkeypatch.setattr(row_pieces, "SMALL_ROWS", piece_rows)
    monkeypatch.setattr(row_pieces, "PIECE_ROWS", piece_rows)
    monkeypatch.setattr(snapshot_gather, "TOGETHER_BYTES", together)
    monkeypatch.setattr(row_addresses, "SPARSE", sparse)
