"""A server's life: several workers, an end under load, stores that go away and come back, reads that take too long."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openapi_spec_validator
import pytest

from fstore import Client, HttpClient
from fstore.backends import create_backends
from fstore.errors import DeadlineExceeded, StoreUnavailable
from scripts.servers import RunningServer, free_port, redis_server
from tests.retrieval.publishing import DAY, T0, Publisher
from tests.serving.plain_json import send
from tests.serving.project import STEPS, TypedProject, fill, settings_of, typed_project
from tests.serving.running import RunningApp, environment, serving

WHOLE = ["typed:whole"]
USERS = {"user_id": ["safe", "more"]}
ASKED = {"features": WHOLE, "entities": USERS}
VALUES = [str(2**53 - 1), str(2**63 - 1)]
PATIENCE = 105.0
"""More than the 60 s after which a worker counts as dead that is killed between two looks at it, while it is asked."""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TypedProject]:
    root = tmp_path_factory.mktemp("small")
    with create_backends(settings_of(root, f"lmdb:{root}/online")) as backends:
        yield typed_project(backends)


@pytest.fixture
def redis() -> Iterator[RunningServer]:
    with redis_server() as server:
        yield server


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def is_right(answer: dict[str, object]) -> bool:
    values = answer["values"]
    assert isinstance(values, dict)
    return [str(value) for value in values["whole"]] == VALUES


def test_several_workers_share_a_port_and_count_together(small: TypedProject) -> None:
    with serving(small.settings, workers=3) as server:
        until(lambda: len(server.workers()) == 3)
        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(lambda _: send(f"{server.url}/v1/online-features", ASKED), range(60)))
        assert all(reply.status == 200 and is_right(reply.json) for reply in replies)
        assert send(f"{server.url}/v1/online-features", {"features": ["no:no"], "entities": USERS}).status == 404
        until(lambda: "fstore_workers 3" in send(f"{server.url}/metrics").body.decode())
        none_running = 'fstore_http_requests_running{route="online-features"} 0'  # a request is counted after its answer
        until(lambda: none_running in send(f"{server.url}/metrics").body.decode())
        text = send(f"{server.url}/metrics").body.decode()
        assert 'fstore_http_requests_total{route="online-features",status="200"} 60' in text
        assert 'fstore_http_requests_total{route="online-features",status="404"} 1' in text
        assert 'fstore_http_rows_total{route="online-features"} 120' in text
        assert 'fstore_http_request_seconds_bucket{route="online-features",le="+Inf"} 61' in text
        killed = server.workers()[0]
        os.kill(killed, signal.SIGKILL)
        until(lambda: killed not in server.workers() and len(server.workers()) == 3)
        assert is_right(send(f"{server.url}/v1/online-features", ASKED).json)
        until(lambda: "fstore_workers 3" in send(f"{server.url}/metrics").body.decode())
        until(lambda: 'status="200"} 61' in send(f"{server.url}/metrics").body.decode())


@pytest.mark.parametrize("workers", [1, 2])
def test_the_end_under_load_loses_no_request(small: TypedProject, workers: int) -> None:
    """Callers go on, as behind a load balancer, until readiness is down; every answer that they get is right."""
    with serving(small.settings, workers=workers, drain=1.0) as server:
        down = threading.Event()
        answered = [0] * 5

        def call(number: int) -> None:
            with httpx.Client() as http:
                while not down.is_set():
                    answer = http.post(f"{server.url}/v1/online-features", json=ASKED)
                    assert answer.status_code == 200, answer.text
                    assert is_right(answer.json())
                    answered[number] += 1

        with ThreadPoolExecutor(6) as pool:
            calls = [pool.submit(call, number) for number in range(5)]
            until(lambda: all(answered))
            server.terminate()
            until(lambda: server.get("/health/ready")[0] == 503)
            assert server.get("/health/live")[0] == 200
            assert server.get("/health/ready")[1]["checks"]["server"]["code"] == "draining"  # type: ignore[index]
            down.set()
            for call_made in calls:
                call_made.result()
        assert server.process.wait(PATIENCE) in (0, -signal.SIGTERM)


def test_what_has_begun_is_finished(small: TypedProject) -> None:
    """A request whose body is still coming when the server is told to end is answered."""
    with serving(small.settings) as server:
        body = json.dumps(ASKED).encode()
        told = threading.Event()

        def slowly() -> Iterator[bytes]:
            yield body[:10]
            server.terminate()
            until(lambda: "Shutting down" in server.log())
            told.set()
            yield body[10:]

        with httpx.Client(timeout=PATIENCE) as http:
            answer = http.post(
                f"{server.url}/v1/online-features", content=slowly(), headers={"content-type": "application/json"}
            )
        assert told.is_set()
        assert (answer.status_code, is_right(answer.json())) == (200, True)
        server.process.wait(PATIENCE)


def test_a_store_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    port = free_port()
    persistent = ("--appendonly", "yes", "--appendfsync", "always", "--dir", str(tmp_path))
    settings = settings_of(tmp_path, f"redis://127.0.0.1:{port}/0")
    with redis_server(*persistent, port=port) as redis, create_backends(settings) as backends:
        typed_project(backends)
        with serving(settings) as server, HttpClient(server.url) as client:
            url = f"{server.url}/v1/online-features"
            assert is_right(send(url, ASKED).json)
            redis.kill()
            reply = send(url, ASKED)
            assert (reply.status, reply.json["code"], reply.headers["retry-after"]) == (503, "store_unavailable", "1")
            with pytest.raises(StoreUnavailable):
                client.get_online_features(WHOLE, USERS)
            until(lambda: server.get("/health/ready")[0] == 503)
            checks = server.get("/health/ready")[1]["checks"]
            assert isinstance(checks, dict)
            assert checks["registry"] == {"ok": True}
            assert checks["online store"]["code"] == "store_unavailable"
            rows = {"user_id": ["safe"], "event_timestamp": [T0 + 2 * DAY]}
            assert client.get_historical_features(rows, WHOLE).to_arrow()["whole"].to_pylist() == [2**53 - 1]
            with redis_server(*persistent, port=port):
                until(lambda: send(url, ASKED).status == 200)
                assert is_right(send(url, ASKED).json)
                assert client.get_online_features(WHOLE, USERS).to_dict()["whole"] == [2**53 - 1, 2**63 - 1]
                until(lambda: server.get("/health/ready")[0] == 200)


def test_a_flushed_store_is_an_error_until_it_is_filled_again(tmp_path: Path, redis: RunningServer) -> None:
    import redis as driver

    settings = settings_of(tmp_path, redis.url)
    with create_backends(settings) as backends:
        project = typed_project(backends)
        with serving(settings) as server:
            url = f"{server.url}/v1/online-features"
            assert is_right(send(url, ASKED).json)
            with driver.Redis.from_url(redis.url) as connection:
                connection.flushall()
            reply = send(url, ASKED)
            assert (reply.status, reply.json["retryable"], reply.headers["retry-after"]) == (503, False, "30")
            assert reply.json["code"] in ("store_missing", "floor_missing")
            until(lambda: server.get("/health/ready")[0] == 503)
            checks = server.get("/health/ready")[1]["checks"]
            assert isinstance(checks, dict)
            assert checks["online store"]["code"] == "store_missing"
            backends.online.create(str(backends.registry.store_id("online")))
            fill(Publisher(backends))
            until(lambda: send(url, ASKED).status == 200)
            assert is_right(send(url, ASKED).json)
            assert len(STEPS) == len(project.publisher.backends.registry.views())


def test_a_store_that_does_not_answer_ends_at_the_deadline(tmp_path: Path, redis: RunningServer) -> None:
    settings = settings_of(tmp_path, redis.url)
    with create_backends(settings) as backends:
        typed_project(backends)
    with serving(settings, timeout=20) as server, HttpClient(server.url) as client:
        url = f"{server.url}/v1/online-features"
        assert is_right(send(url, ASKED).json)
        redis.freeze()
        try:
            began = time.monotonic()
            reply = send(url, ASKED, headers={"fstore-timeout": "0.5"})
            assert (reply.status, reply.json["code"]) == (504, "deadline_exceeded")
            assert reply.json["detail"] == "the answer was not ready within 0.5 s"
            assert time.monotonic() - began < 5
            with pytest.raises(DeadlineExceeded):
                client.get_online_features(WHOLE, USERS, timeout=0.5)
            assert server.get("/health/live")[0] == 200
        finally:
            redis.thaw()
        until(lambda: send(url, ASKED).status == 200)
        assert is_right(send(url, ASKED).json)


def test_only_so_many_historical_reads_run_at_once(small: TypedProject) -> None:
    rows = {"user_id": ["safe"] * 2000, "event_timestamp": ["2026-01-03T00:00:00Z"] * 2000}
    body = {"features": ["typed:*"], "entity_rows": rows}
    with serving(small.settings, historical_reads=1) as server:
        url = f"{server.url}/v1/historical-features"
        with ThreadPoolExecutor(24) as pool:
            replies = list(pool.map(lambda _: send(url, body), range(24)))
            online = send(f"{server.url}/v1/online-features", ASKED)
        assert is_right(online.json)
        assert {reply.status for reply in replies} <= {200, 429}
        for reply in replies:
            if reply.status == 429:
                assert (reply.json["code"], reply.headers["retry-after"]) == ("server_busy", "1")
        assert send(url, body).status == 200


def test_the_description_is_openapi_and_true(small: TypedProject) -> None:
    with serving(small.settings) as server:
        document = send(f"{server.url}/openapi.json").json
        openapi_spec_validator.validate(document)
        for path, methods in document["paths"].items():
            (method,) = methods
            known = send(server.url + path, {} if method == "post" else None).status
            assert str(known) in methods[method]["responses"], path
        schema = document["components"]["schemas"]["OnlineRequest"]
        assert schema["additionalProperties"] is False
        assert set(schema["properties"]) == {
            "features", "service", "full_names", "statuses", "event_timestamps", "entities", "request", "types",
        }  # fmt: skip
        assert send(f"{server.url}/docs").status == 200


def test_the_access_log_is_a_line_of_json_for_each_request(small: TypedProject) -> None:
    with serving(small.settings, access_log=True) as server:
        send(f"{server.url}/v1/online-features", ASKED, headers={"x-request-id": "the-one"})
        send(f"{server.url}/v1/online-features", {}, headers={"x-request-id": "the-other"})
        until(lambda: {"the-one", "the-other"} <= set(_logged(server)))
        logged = _logged(server)
        assert {key: logged["the-one"][key] for key in ("method", "path", "status", "rows", "client")} == {
            "method": "POST", "path": "/v1/online-features", "status": 200, "rows": 2, "client": "127.0.0.1",
        }  # fmt: skip
        assert logged["the-other"]["status"] == 400
        assert logged["the-one"]["ms"] > 0


def test_the_command_becomes_the_server(small: TypedProject) -> None:
    port = free_port()
    command = [sys.executable, "-m", "fstore.cli", "serve", "--port", str(port), "--drain", "0"]
    process = subprocess.Popen(command, env=environment(small.settings, {}), stderr=subprocess.DEVNULL)
    try:
        until(lambda: _answers(f"http://127.0.0.1:{port}/health/ready"))
        with HttpClient(f"http://127.0.0.1:{port}") as client, Client(small.settings) as local:
            assert client.get_online_features(WHOLE, USERS).to_dict() == local.get_online_features(WHOLE, USERS).to_dict()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) in (0, -signal.SIGTERM)


def test_wrong_settings_are_said_at_once(small: TypedProject) -> None:
    command = [sys.executable, "-m", "fstore.serving"]
    given = environment(small.settings, {"workers": 0})
    ended = subprocess.run(command, env=given, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ended.returncode == 1
    assert "settings_error" in ended.stderr
    assert "'serve_workers' is 0, and has to be at least 1" in ended.stderr


def _logged(server: RunningApp) -> dict[str, dict[str, Any]]:
    lines = [json.loads(line) for line in server.log().splitlines() if line.startswith("{") and line.endswith("}")]
    return {line["request_id"]: line for line in lines}


def _answers(url: str) -> bool:
    try:
        return send(url).status == 200
    except OSError:
        return False
