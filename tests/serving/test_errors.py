"""What the server refuses, with which status, code and words; and that its clients raise the same as one beside the stores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from fstore import Client, HttpClient
from fstore.errors import (
    FStoreError,
    IncompleteHistory,
    RequestTooLarge,
    ServerFailed,
    ServerUnavailable,
)
from scripts.servers import free_port
from tests.retrieval.publishing import DAY, T0
from tests.serving.plain_json import Reply, send
from tests.serving.project import TypedProject
from tests.serving.running import RunningApp

ARROW = "application/vnd.apache.arrow.stream"
ONLINE, HISTORICAL, BATCH = "/v1/online-features", "/v1/historical-features", "/v1/batch-features"
USERS = {"user_id": ["safe"]}
ROWS = {"user_id": ["safe"], "event_timestamp": ["2026-01-03T00:00:00Z"]}
WHOLE = ["typed:whole"]

REFUSED: list[tuple[str, object, int, str, str]] = [
    (ONLINE, b"{", 400, "request_invalid", "the body is not JSON"),
    (ONLINE, b"", 400, "request_invalid", "the body is not JSON"),
    (ONLINE, b"[" * 100_000, 400, "request_invalid", "the request is not"),
    (ONLINE, b'{"entities": {"a": ' + b"[" * 100_000, 400, "request_invalid", "nested too deep"),
    (ONLINE, b'{"features": ["\xff"]}', 400, "request_invalid", "the body is not JSON"),
    (ONLINE, [1], 400, "request_invalid", "the request is not what this route takes"),
    (ONLINE, {"features": WHOLE}, 400, "request_invalid", "missing required field `entities`"),
    (ONLINE, {"feature": WHOLE, "entities": USERS}, 400, "request_invalid", "Did you mean 'features'?"),
    (HISTORICAL, {"features": WHOLE, "entities": ROWS}, 400, "request_invalid", "has no field 'entities'"),
    (ONLINE, {"features": "typed:whole", "entities": USERS}, 400, "request_invalid", "`$.features`"),
    (ONLINE, {"features": WHOLE, "entities": {"user_id": "safe"}}, 400, "request_invalid", "`$.entities"),
    (ONLINE, {"features": WHOLE, "entities": USERS, "types": {"user": "string"}}, 400, "request_invalid",
     "there is no such column; there are 'user_id'. Did you mean 'user_id'?"),
    (ONLINE, {"features": WHOLE, "entities": USERS, "types": {"user_id": "text"}}, 400, "request_invalid", "is not a type"),
    (ONLINE, {"features": WHOLE, "entities": USERS, "types": {"user_id": "date"}}, 400, "request_invalid", "expected a date"),
    (HISTORICAL, {"features": WHOLE, "entity_rows": ROWS, "missing": "maybe"}, 400, "request_invalid", "'maybe'"),
    (HISTORICAL, {"features": WHOLE, "entity_rows": ROWS, "as_of": "yesterday"}, 400, "request_invalid", "as_of"),
    (HISTORICAL, {"features": WHOLE, "entity_rows": ROWS, "as_of": "2026-01-03T00:00:00"}, 400, "request_invalid", "no time zone"),
    (ONLINE, {"features": ["typed:whol"], "entities": USERS}, 404, "unknown_feature", "Did you mean 'whole'?"),
    (ONLINE, {"features": ["type:whole"], "entities": USERS}, 404, "unknown_feature", "Did you mean 'typed'?"),
    (ONLINE, {"service": "score", "entities": USERS}, 404, "unknown_feature", "Did you mean 'scoring'?"),
    (HISTORICAL, {"features": ["typed:whol"], "entity_rows": ROWS}, 404, "unknown_feature", "Did you mean 'whole'?"),
    (BATCH, {"service": "score", "entity_rows": USERS}, 404, "unknown_feature", "Did you mean 'scoring'?"),
    ("/v1/online-feature", {}, 404, "route_unknown", "Did you mean '/v1/online-features'?"),
    ("/v1/services", {}, 405, "route_unknown", "/v1/services does not take POST"),
    (ONLINE, {"entities": USERS}, 422, "retrieval_error", "say what to read"),
    (ONLINE, {"features": WHOLE, "entities": [{"user_id": "safe"}, {"user": "safe"}]}, 422, "entity_column_error",
     "the entity row at position 1 has no 'user_id', a join key of view 'typed', and others have"),
    (HISTORICAL, {"features": WHOLE, "entity_rows": [{"event_timestamp": "2026-01-03T00:00:00Z"}, {"user_id": "safe",
     "event_timestamp": "2026-01-03T00:00:00Z"}]}, 422, "entity_column_error", "the entity row at position 0 has no 'user_id'"),
    (BATCH, {"features": WHOLE, "entity_rows": [{"user_id": "safe"}, {}]}, 422, "entity_column_error",
     "the entity row at position 1 has no 'user_id'"),
    (ONLINE, {"features": ["on_demand:shifted"], "entities": [{"user_id": "safe", "lat": 1.5}, {"user_id": "safe"}]}, 422,
     "entity_column_error", "the entity row at position 1 has no 'lat', which on-demand feature 'shifted' needs as float64"),
    (ONLINE, {"features": WHOLE, "service": "scoring", "entities": USERS}, 422, "retrieval_error", "say what to read"),
    (ONLINE, {"features": [], "entities": USERS}, 422, "retrieval_error", "features is empty"),
    (ONLINE, {"features": ["offline:cold"], "entities": USERS}, 422, "retrieval_error", "not kept online"),
    (ONLINE, {"features": WHOLE, "entities": {"user": ["safe"]}}, 422, "entity_column_error", "Did you mean 'user'?"),
    (ONLINE, {"features": WHOLE, "entities": {"user_id": [1]}}, 422, "entity_column_error", "the join key"),
    (ONLINE, {"features": WHOLE, "entities": {"user_id": ["a", 1]}}, 422, "entity_column_error", "mixed types"),
    (ONLINE, {"features": WHOLE, "entities": {"user_id": [{"a": 1}]}}, 422, "entity_column_error", "the join key"),
    (ONLINE, {"features": WHOLE, "entities": {"user_id": [2**70]}}, 422, "entity_column_error", "no column can hold"),
    (ONLINE, {"features": WHOLE, "entities": {"user_id": ["a"], "x": []}}, 422, "entity_column_error", "differ in length"),
    (ONLINE, {"features": ["by_day:sales"], "entities": {"on": ["2026-02-30"]}}, 422, "entity_column_error", "expected a date"),
    (ONLINE, {"features": ["on_demand:shifted"], "entities": USERS}, 422, "entity_column_error", "request={\"lat\": […]}"),
    (ONLINE, {"features": WHOLE, "entities": {"user_id": ["a"], "whole": [1]}}, 422, "feature_name_clash", "full_names=True"),
    (HISTORICAL, {"features": WHOLE, "entity_rows": USERS}, 422, "entity_column_error", "'event_timestamp'"),
    (HISTORICAL, {"features": WHOLE, "entity_rows": {**USERS, "event_timestamp": ["2026-01-03T00:00:00"]}}, 422,
     "entity_column_error", "no time zone"),
    (HISTORICAL, {"features": WHOLE, "entity_rows": {**USERS, "event_timestamp": ["2026-01-03T00:00:00.0000001Z"]}}, 422,
     "entity_column_error", "finer than microseconds"),
    (HISTORICAL, {"features": ["unfilled:nothing"], "entity_rows": ROWS}, 422, "incomplete_history", "never published"),
    (ONLINE, {"features": ["unfilled:nothing"], "entities": USERS}, 503, "floor_missing", "has nothing of view 'unfilled'"),
]  # fmt: skip


@pytest.fixture(scope="module")
def remote(server: RunningApp) -> Iterator[HttpClient]:
    with HttpClient(server.url) as client:
        yield client


def is_problem(reply: Reply, status: int, code: str, words: str) -> None:
    assert reply.status == status, reply.body
    assert reply.headers["content-type"] == "application/problem+json"
    problem = reply.json
    assert (problem["code"], problem["status"], problem["type"]) == (code, status, f"urn:fstore:error:{code}")
    assert words in problem["detail"]
    assert problem["title"]
    assert (reply.headers["retry-after"] is not None) == (status in (429, 503))


@pytest.mark.parametrize(("path", "body", "status", "code", "words"), REFUSED, ids=lambda value: str(value)[:40])
def test_a_request_that_cannot_be_answered_is_told_why(
    server: RunningApp, path: str, body: object, status: int, code: str, words: str
) -> None:
    reply = send(server.url + path, body)
    is_problem(reply, status, code, words)
    if code != "route_unknown":
        assert reply.json["request_id"] == reply.headers["x-request-id"]


@pytest.mark.parametrize(
    ("headers", "status", "code", "words"),
    [
        ({"Content-Type": "text/csv"}, 415, "media_type_unsupported", "'text/csv'"),
        ({"Accept": "text/csv"}, 406, "not_acceptable", "'text/csv'"),
        ({"fstore-timeout": "soon"}, 400, "request_invalid", "fstore-timeout"),
        ({"fstore-timeout": "-1"}, 400, "request_invalid", "fstore-timeout"),
        ({"Content-Type": ARROW}, 400, "request_invalid", "no Arrow IPC stream"),
    ],
)
def test_headers_are_read_strictly(server: RunningApp, headers: dict[str, str], status: int, code: str, words: str) -> None:
    body = json.dumps({"features": WHOLE, "entities": USERS}).encode()
    is_problem(send(server.url + ONLINE, body, headers=headers), status, code, words)


def stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def test_arrow_streams_are_checked(server: RunningApp) -> None:
    table = pa.table({"user_id": ["safe", "more"]})
    headers = {"Content-Type": ARROW}
    is_problem(send(server.url + ONLINE, stream(table), headers=headers), 400, "request_invalid", "'fstore.request'")
    asked = table.replace_schema_metadata({"fstore.request": json.dumps({"featurs": WHOLE})})
    is_problem(send(server.url + ONLINE, stream(asked), headers=headers), 400, "request_invalid", "Did you mean 'features'?")
    good = stream(table.replace_schema_metadata({"fstore.request": json.dumps({"features": WHOLE})}))
    assert send(server.url + ONLINE, good, headers=headers).status == 200
    is_problem(send(server.url + ONLINE, good[:-40], headers=headers), 400, "request_invalid", "no Arrow IPC stream")
    odd = pa.table({"user_id": ["safe"], "seen": pa.array([1], pa.time64("us"))}).replace_schema_metadata(
        {"fstore.request": json.dumps({"features": WHOLE})}
    )
    assert send(server.url + ONLINE, stream(odd), headers=headers).status == 200
    both = {"Content-Type": ARROW, "Accept": "application/json"}
    is_problem(send(server.url + ONLINE, stream(odd), headers=both), 406, "not_acceptable", "'seen' is time64[us]")


def test_no_damaged_stream_ends_the_server(server: RunningApp) -> None:
    table = pa.table({"user_id": ["safe", "more"], "n": [1, None]}).replace_schema_metadata(
        {"fstore.request": json.dumps({"features": WHOLE})}
    )
    good = stream(table)
    for place in range(0, len(good), 7):
        damaged = bytearray(good)
        damaged[place] ^= 0xFF
        assert send(server.url + ONLINE, bytes(damaged), headers={"Content-Type": ARROW}).status in (200, 400, 404, 422)
    assert send(server.url + ONLINE, good, headers={"Content-Type": ARROW}).status == 200


@pytest.mark.parametrize(
    ("path", "rows", "accepted"), [(ONLINE, 1000, True), (ONLINE, 1001, False), (BATCH, 2000, True), (BATCH, 2001, False)]
)
def test_more_entities_than_allowed_are_refused(
    server: RunningApp, remote: HttpClient, path: str, rows: int, *, accepted: bool
) -> None:
    users = {"user_id": ["safe"] * rows}
    name = "entities" if path == ONLINE else "entity_rows"
    read = remote.get_online_features if path == ONLINE else remote.get_batch_features
    for body in ({name: users}, {name: [{"user_id": "safe"}] * rows}):
        reply = send(server.url + path, {"features": WHOLE, **body})
        if accepted:
            assert (reply.status, reply.json["rows"]) == (200, rows)
        else:
            is_problem(reply, 413, "request_too_large", "entity rows")
    if accepted:
        assert len(read(WHOLE, users) if path == ONLINE else read(users, WHOLE)) == rows  # type: ignore[operator]
    else:
        with pytest.raises(RequestTooLarge, match="entity rows"):
            read(WHOLE, users) if path == ONLINE else read(users, WHOLE)  # type: ignore[operator]


@pytest.mark.parametrize("size", [1_000_001, 3_000_000, 40_000_000])
def test_a_body_that_is_too_large_is_refused_before_it_is_read_into_memory(server: RunningApp, size: int) -> None:
    with HttpClient(server.url) as client, pytest.raises((RequestTooLarge, ServerUnavailable)) as raised:
        client.get_online_features(WHOLE, {"user_id": ["x" * size]})
    if size < 16_000_000:  # its sender is listened to, so that it reads the refusal
        assert isinstance(raised.value, RequestTooLarge)
        assert "more than 1,000,000 bytes" in str(raised.value)


def test_the_clients_raise_what_a_client_beside_the_stores_raises(project: TypedProject, remote: HttpClient) -> None:
    late = {"user_id": ["safe"], "event_timestamp": [T0 + 10 * DAY]}
    place = project.settings.registry_url.partition("://")[2]
    with Client(project.settings) as local:
        for read in (
            lambda client: client.get_online_features(["typed:whol"], USERS),
            lambda client: client.get_online_features(WHOLE, {"user": ["safe"]}),
            lambda client: client.get_online_features(WHOLE, {"user_id": ["a"], "whole": [1]}),
            lambda client: client.get_online_features(["unfilled:nothing"], USERS),
            lambda client: client.get_online_features(["offline:cold"], USERS),
            lambda client: client.get_online_features(WHOLE),
            lambda client: client.get_online_features(),
            lambda client: client.get_online_features("typed:whole", USERS),
            lambda client: client.get_historical_features(late, WHOLE),
            lambda client: client.get_historical_features(USERS, WHOLE),
            lambda client: client.get_historical_features(late, service="nobody"),
            lambda client: client.get_batch_features({"user": ["safe"]}, WHOLE),
        ):
            errors = []
            for client in (local, remote):
                with pytest.raises(FStoreError) as raised:
                    read(client)
                errors.append(raised.value)
            mine, its = errors
            assert type(its) is type(mine)
            assert (str(its), its.code, its.retryable) == (str(mine).replace(place, "…"), mine.code, mine.retryable)
            assert vars(its) == vars(mine)
        with pytest.raises(IncompleteHistory) as incomplete:
            remote.get_historical_features(late, WHOLE)
        assert incomplete.value.ranges == ((T0 + 9 * DAY, T0 + 10 * DAY),)


def test_a_request_keeps_its_id(server: RunningApp) -> None:
    assert send(f"{server.url}/health/live", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    made = send(f"{server.url}/health/live", headers={"x-request-id": "with space"}).headers["x-request-id"]
    assert len(made) == 16
    failed = send(server.url + ONLINE, {}, headers={"x-request-id": "abc-2"})
    assert failed.json["request_id"] == failed.headers["x-request-id"] == "abc-2"


def test_what_is_no_server_of_features_is_said_to_be_none(server: RunningApp) -> None:
    with (
        HttpClient(f"http://127.0.0.1:{free_port()}") as client,
        pytest.raises(ServerUnavailable, match="cannot be reached"),
    ):
        client.get_online_features(WHOLE, USERS)
    with HttpClient(f"{server.url}/docs") as client, pytest.raises(FStoreError) as raised:
        client.get_online_features(WHOLE, USERS)
    assert raised.value.code == "route_unknown"


def test_answers_of_something_in_between_are_no_features() -> None:
    import http.server
    import threading

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            status = int(self.path.partition("/v1")[0].strip("/"))
            self.send_response(status)
            self.send_header("content-length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *arguments: Any) -> None:
            pass

    proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    thread = threading.Thread(target=proxy.serve_forever)
    thread.start()
    try:
        for status, kind in ((200, ServerFailed), (418, ServerFailed), (502, ServerUnavailable)):
            url = f"http://127.0.0.1:{proxy.server_address[1]}/{status}"
            with HttpClient(url) as client, pytest.raises(kind, match="fstore"):
                client.get_online_features(WHOLE, USERS)
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()


@pytest.mark.parametrize("asked", [{"service": "scor"}, {"features": ["typ:whole"]}, {"features": ["on_demand:shift"]}])
def test_callers_are_not_told_where_the_registry_is(
    server: RunningApp, project: TypedProject, asked: dict[str, object]
) -> None:
    place = project.settings.registry_url.partition("://")[2]
    with Client(project.settings) as client, pytest.raises(FStoreError) as local:
        client.get_online_features(entities=USERS, **asked)  # type: ignore[arg-type]
    assert place in str(local.value)
    for path, entities in ((ONLINE, "entities"), (BATCH, "entity_rows")):
        answer = send(server.url + path, {**asked, entities: USERS})
        assert (answer.status, answer.json["code"]) == (404, local.value.code)
        assert answer.json["detail"] == str(local.value).replace(place, "…")
