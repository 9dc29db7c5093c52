"""Random histories read through the server, as JSON and as Arrow, against brute force."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from fstore.backends import create_backends
from fstore.serving.http_client import HttpClient
from tests.retrieval.conftest import settings_of
from tests.retrieval.histories import History, publish_history
from tests.retrieval.publishing import Publisher
from tests.serving.plain_json import send, table
from tests.serving.running import RunningApp, serving

SCHEMA = pa.schema([("user_id", pa.string()), ("shop", pa.int64()), ("at", pa.timestamp("us", tz="UTC"))])


@pytest.fixture(scope="module")
def histories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningApp, list[History]]]:
    """A server over six histories."""
    root: Path = tmp_path_factory.mktemp("histories")
    settings = settings_of(root, f"lmdb:{root}/online")
    with create_backends(settings) as backends:
        publisher = Publisher(backends)
        published = [publish_history(publisher, kind, seed) for kind in ("snapshot", "event") for seed in range(100, 103)]
    with serving(settings) as server:
        yield server, published


@pytest.mark.parametrize("number", range(6))
def test_frames_over_http_are_what_brute_force_gives(histories: tuple[RunningApp, list[History]], number: int) -> None:
    server, published = histories
    history = published[number]
    features = [f"{history.step.view}:n", f"{history.step.view}:label"]

    with HttpClient(server.url) as client:
        rows = pa.Table.from_pylist(history.entity_rows, schema=SCHEMA)
        frame = client.get_historical_features(rows, features, timestamp_column="at", missing="allow").to_arrow()
    assert list(zip(frame["n"].to_pylist(), frame["label"].to_pylist(), strict=True)) == history.expected

    body = {
        "features": features,
        "entity_rows": [{**row, "at": row["at"].isoformat()} for row in history.entity_rows],
        "types": {"at": "timestamp", "user_id": "string", "shop": "int64"},
        "timestamp_column": "at",
        "missing": "allow",
    }
    answer = send(f"{server.url}/v1/historical-features", body)
    assert answer.status == 200, answer.body
    values = table(answer.json)
    assert list(zip(values["n"], values["label"], strict=True)) == history.expected
