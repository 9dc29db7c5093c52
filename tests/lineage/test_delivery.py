"""Delivery of events over HTTP, against a real server on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fstore.errors import EventRefused, StoreUnavailable
from fstore.lineage.delivery import open_delivery

EVENT = json.dumps({"eventType": "START", "run": {"runId": "1"}})


class Backend(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.received = 201, []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Backend

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.path, self.headers.get("Authorization"), json.loads(body)))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def backend() -> Iterator[Backend]:
    server = Backend()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_event_arrives_as_recorded(backend: Backend) -> None:
    delivery = open_delivery({"OPENLINEAGE_URL": backend.url, "OPENLINEAGE_API_KEY": "secret"})
    assert delivery is not None
    delivery.send(EVENT)
    delivery.close()
    assert backend.received == [("/api/v1/lineage", "Bearer secret", json.loads(EVENT))]


def test_a_failing_backend_is_retried_later_and_a_refusal_is_not(backend: Backend) -> None:
    delivery = open_delivery({"OPENLINEAGE_URL": backend.url})
    assert delivery is not None
    backend.status = 503
    with pytest.raises(StoreUnavailable, match="answered 503 Service Unavailable; the event is kept"):
        delivery.send(EVENT)
    backend.status = 422
    with pytest.raises(EventRefused, match="refuses an event: it answered 422") as refusal:
        delivery.send(EVENT)
    assert not refusal.value.retryable
    backend.status = 401
    with pytest.raises(StoreUnavailable, match=r"answered 401 Unauthorized; the event is kept\. Check OPENLINEAGE_URL"):
        delivery.send(EVENT)
    delivery.close()


def test_an_unreachable_backend_is_retried_later() -> None:
    delivery = open_delivery({"OPENLINEAGE_URL": "http://127.0.0.1:9"})
    assert delivery is not None
    with pytest.raises(StoreUnavailable, match=r"at http://127.0.0.1:9 cannot be reached \(ConnectionError\)"):
        delivery.send(EVENT)
    delivery.close()


def test_nothing_is_delivered_where_no_backend_is_named() -> None:
    assert open_delivery({}) is None
    assert open_delivery({"OPENLINEAGE_URL": "http://localhost:5000", "OPENLINEAGE_DISABLED": "true"}) is None
