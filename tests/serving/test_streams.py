"""Frames as streams over HTTP: the frame that is read at once, errors before and in the middle, cuts, and callers that leave."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fstore import Client, HttpClient
from fstore.backends import create_backends
from fstore.errors import FileDamaged, IncompleteHistory, NotAcceptable, RetrievalError, ServerBusy, ServerUnavailable
from fstore.retrieval.training import explain_manifest, read_manifest
from fstore.serving.http_client import AsyncHttpClient
from fstore.serving.wire import historical_request
from fstore.settings import Settings
from tests.retrieval.publishing import DAY, T0, Publisher, day, features, make_step
from tests.serving.project import settings_of
from tests.serving.running import RunningApp, serving

FEATURES = ["orders:n", "orders:text"]
ROWS = 200_000
BIG = 200


def spine(rows: int) -> pa.Table:
    at = pa.array([(T0 + DAY * (1 + n * 3 // max(rows, 1))) for n in range(rows)], pa.timestamp("us", "UTC"))
    return pa.table({"user_id": [f"u{n % 100}" for n in range(rows)], "event_timestamp": at, "label": list(range(rows))})


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    root = tmp_path_factory.mktemp("streams")
    settings = settings_of(root, f"lmdb:{root}/online")
    with create_backends(settings) as backends:
        publisher = Publisher(backends)
        step = make_step("orders", features=features(("n", "int64", 0), ("text", "string", None)))
        publisher.register(step)
        rows = [{"user_id": f"u{n}", "n": n, "text": f"{n}" * BIG} for n in range(99)]
        publisher.publish(step, {day(n): rows for n in range(4)})
    return settings


@pytest.fixture(scope="module")
def server(settings: Settings) -> Iterator[RunningApp]:
    with serving(settings, historical_reads=1) as running:
        yield running


@pytest.fixture
def remote(server: RunningApp) -> Iterator[HttpClient]:
    with HttpClient(server.url) as client:
        yield client


@pytest.mark.parametrize("rows", [0, 1, 1000, 90_000])
def test_a_stream_is_the_frame(settings: Settings, remote: HttpClient, rows: int, tmp_path: Path) -> None:
    with Client(settings) as local:
        frame = local.get_historical_features(spine(rows), FEATURES)
    stream = remote.scan_historical_features(spine(rows), FEATURES)
    with pytest.raises(RetrievalError, match="when all of its batches were read"):
        _ = stream.manifest
    for _ in range(2):
        table = pa.Table.from_batches(stream.to_batches())
        assert table.equals(frame.to_arrow().replace_schema_metadata(None))
        assert stream.manifest.content_checksum == frame.manifest.content_checksum
        assert stream.manifest.rows == rows
    stream.to_parquet(tmp_path / "frame.parquet")
    assert pq.read_table(tmp_path / "frame.parquet").num_rows == rows
    assert read_manifest(tmp_path / "frame.parquet") == stream.manifest
    assert stream.explain() == explain_manifest(stream.manifest)


def test_event_loops_read_the_same(server: RunningApp, remote: HttpClient) -> None:
    expected = pa.Table.from_batches(remote.scan_historical_features(spine(1000), FEATURES).to_batches())

    async def read() -> pa.Table:
        async with AsyncHttpClient(server.url) as client:
            stream = client.scan_historical_features(spine(1000), FEATURES)
            found = pa.Table.from_batches([batch async for batch in stream.to_batches()])
            assert stream.manifest.rows == 1000
            return found

    assert asyncio.run(read()).equals(expected)


def test_errors_before_the_first_part_are_problems(settings: Settings, remote: HttpClient, server: RunningApp) -> None:
    late = spine(10).set_column(1, "event_timestamp", pa.array([T0 + 30 * DAY] * 10, pa.timestamp("us", "UTC")))
    with Client(settings) as local, pytest.raises(IncompleteHistory) as mine:
        next(local.scan_historical_features(late, FEATURES).to_batches())
    with pytest.raises(IncompleteHistory) as its:
        next(remote.scan_historical_features(late, FEATURES).to_batches())
    assert str(its.value) == str(mine.value)
    body = {"features": FEATURES, "entity_rows": {"user_id": ["u1"], "event_timestamp": ["2026-01-02T00:00:00Z"]}}
    answer = httpx.post(f"{server.url}/v1/scan-historical-features", json=body)
    assert (answer.status_code, answer.json()["code"]) == (406, NotAcceptable.code)


def test_an_error_in_the_middle_ends_the_stream_with_it(settings: Settings, tmp_path: Path) -> None:
    root = tmp_path
    own = settings_of(root, f"lmdb:{root}/online")
    with create_backends(own) as backends:
        publisher = Publisher(backends)
        step = make_step("orders", features=features(("n", "int64", 0), ("text", "string", None)))
        publisher.register(step)
        for n in range(4):
            publisher.publish(step, {day(n): [{"user_id": "u1", "n": n, "text": "x"}]})
    newest = max((root / "offline").rglob("*.parquet"), key=lambda file: file.stat().st_mtime_ns)
    newest.write_bytes(newest.read_bytes()[:-20])
    rows = 1_500_000  # parts have a million rows at most; only the last one needs the newest file
    at = pa.array([T0 + DAY] * (rows - 1) + [T0 + 4 * DAY], pa.timestamp("us", "UTC"))
    entities = pa.table({"user_id": pa.array(["u1"] * rows), "event_timestamp": at})
    with serving(own, max_rows=2_000_000) as running, HttpClient(running.url, timeout=120) as client:
        batches = client.scan_historical_features(entities, FEATURES).to_batches()
        assert next(batches).num_rows > 0
        with pytest.raises(FileDamaged, match=newest.name):
            list(batches)


def test_a_stream_that_is_cut_is_an_error(server: RunningApp) -> None:
    """A proxy passes on all but the end of the answer, as a connection that breaks does, with and without its last chunk."""
    sent = historical_request(
        spine(1000), FEATURES, None, timestamp_column="event_timestamp", missing="error", as_of=None, full_names=False,
        accuracy="snapshot", matures_after=None, path="/v1/scan-historical-features",
    )  # fmt: skip
    arrow = "application/vnd.apache.arrow.stream"
    whole = httpx.post(server.url + sent.path, content=sent.body, headers={"content-type": arrow, "accept": arrow}).content
    for kept in (0, 5, 1000, len(whole) // 2, len(whole) - 200):
        for size in (len(whole), kept):
            head = f"HTTP/1.1 200 OK\r\ncontent-type: {arrow}\r\ncontent-length: {size}\r\n\r\n".encode()
            with (
                _answering(head + whole[:kept]) as url,
                HttpClient(url, timeout=10) as client,
                pytest.raises(ServerUnavailable, match="in the middle of a frame"),
            ):
                list(client.scan_historical_features(spine(1000), FEATURES).to_batches())


def test_a_read_on_an_event_loop_may_be_given_up_while_it_waits() -> None:
    async def read(url: str) -> None:
        async with AsyncHttpClient(url, timeout=10) as client:
            batches = client.scan_historical_features(spine(10), FEATURES).to_batches()
            async with asyncio.timeout(0.5):
                await anext(batches)

    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/vnd.apache.arrow.stream\r\ncontent-length: 1000\r\n\r\n"
    with _answering(head, silent=1.5) as url:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            asyncio.run(read(url))
        assert time.monotonic() - began < 1.4, "it waited for what was given up"


def test_a_caller_that_leaves_frees_its_place(server: RunningApp, remote: HttpClient) -> None:
    """The server has one place for historical reads: it must be free again soon after its caller has gone, who is counted."""
    before = _counted(server, "other")
    for _ in range(3):
        batches = remote.scan_historical_features(spine(ROWS), FEATURES).to_batches()
        next(batches)
        batches.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 20
    while (found := _read(remote)) is None:
        assert time.monotonic() < deadline, "the place is still taken"
    assert found == 10
    assert "Traceback" not in server.log()
    assert _counted(server, "other") - before == 3


def _counted(server: RunningApp, status: str) -> int:
    """Return how many streams the server says to have ended with a status."""
    label = f'fstore_http_requests_total{{route="scan-historical-features",status="{status}"}} '
    return sum(
        int(line.removeprefix(label))
        for line in httpx.get(f"{server.url}/metrics").text.splitlines()
        if line.startswith(label)
    )


def _read(remote: HttpClient) -> int | None:
    """Return the rows of a frame, None when the server has no place for the read."""
    try:
        return len(remote.get_historical_features(spine(10), FEATURES))
    except ServerBusy:
        return None


class _answering:
    """A server that answers one request with given bytes, and closes after so many seconds."""

    def __init__(self, answer: bytes, silent: float = 0) -> None:
        self._answer, self._silent, self._listener = answer, silent, socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> str:
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __exit__(self, *exception: object) -> None:
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            data = b""
            while b"\r\n\r\n" not in data:
                data += connection.recv(1 << 16)
            head, _, rest = data.partition(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            while len(rest) < size:
                rest += connection.recv(1 << 16)
            connection.sendall(self._answer)
            time.sleep(self._silent)
