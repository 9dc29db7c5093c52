"""More than ten thousand entity rows over random histories, each against brute force, however they are given."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fstore import Client
from tests.oracle.cases import seeds
from tests.retrieval.histories import ROWS, SHOPS, USERS, bring_online, publish_history
from tests.retrieval.publishing import Publisher

SEEDS = seeds(13)
SCHEMA = pa.schema([("user_id", pa.string()), ("shop", pa.int64()), ("at", pa.timestamp("us", tz="Europe/Berlin"))])


def parquet(table: pa.Table, directory: Path) -> Path:
    path = directory / "entities.parquet"
    pq.write_table(table, path, row_group_size=100)
    return path


GIVEN: list[Callable[[pa.Table, Path], object]] = [
    lambda table, _: table,
    lambda table, _: table.to_pandas(types_mapper=pd.ArrowDtype),
    lambda table, _: pl.from_arrow(table),
    parquet,
    lambda table, _: table.to_pylist(),
]


def test_there_are_more_than_ten_thousand_cases() -> None:
    assert 2 * len(SEEDS) * ROWS >= 10_000


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["snapshot", "event"])
def test_every_row_is_what_brute_force_gives(publisher: Publisher, tmp_path: Path, kind: str, seed: int) -> None:
    history = publish_history(publisher, kind, seed)
    rows = GIVEN[seed % len(GIVEN)](pa.Table.from_pylist(history.entity_rows, schema=SCHEMA), tmp_path)
    frame = Client(publisher.backends).get_historical_features(
        rows, [f"{history.step.view}:n", f"{history.step.view}:label"], timestamp_column="at", missing="allow"
    )
    found = frame.to_arrow()
    assert found["user_id"].to_pylist() == [row["user_id"] for row in history.entity_rows]
    got = list(zip(found["n"].to_pylist(), found["label"].to_pylist(), strict=True))
    wrong = [
        (row, values, wanted)
        for row, values, wanted in zip(history.entity_rows, got, history.expected, strict=True)
        if values != wanted
    ]
    assert not wrong, f"{len(wrong)} of {ROWS} rows; the first: (row, found, wanted) = {wrong[0]}"


@pytest.mark.parametrize("seed", SEEDS[:6])
@pytest.mark.parametrize("kind", ["snapshot", "event"])
def test_every_key_online_is_what_brute_force_gives_now(online_publisher: Publisher, kind: str, seed: int) -> None:
    history = publish_history(online_publisher, kind, seed)
    bring_online(online_publisher, history)
    keys = [(user, shop) for user in USERS for shop in SHOPS]
    entities: dict[str, list[object]] = {"user_id": [user for user, _ in keys], "shop": [shop for _, shop in keys]}
    instants = sorted({row["at"] for row in history.entity_rows})
    newest = max((interval.end for interval, _ in history.published), default=datetime.max.replace(tzinfo=UTC))
    for now in [at for at in instants if at >= newest + history.step.lag][:40]:
        response = Client(online_publisher.backends, clock=lambda now=now: now).get_online_features(  # type: ignore[misc]
            [f"{history.step.view}:n", f"{history.step.view}:label"], entities
        )
        values = response.to_dict()
        got = dict(zip(keys, zip(values["n"], values["label"], strict=True), strict=True))
        for key in keys:
            wanted = history.truth(key, now)
            assert got[key] == (wanted["n"], wanted["label"]), (key, now)
